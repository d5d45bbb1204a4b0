//! What a SQL filter says of a message: true, false or unknown.
//!
//! | operands | outcome |
//! |---|---|
//! | a property that the message has not, NULL | unknown; `IS NULL` is true; CONTAINS, STARTSWITH, ENDSWITH and LIKE are false, also with NOT |
//! | text and a number | the text as a number; unknown if it is none |
//! | text and TRUE or FALSE, a property alone | whether the text is `true`, in letters of any case |
//! | text and text | equal to the letter; `<` and the like compare numbers, unknown if one is none |
//! | a number and TRUE or FALSE | not equal |
//! | NOT, AND, OR | as SQL has it: unknown unless the known part decides |

use super::expression::{Comparison, Expression, Number, Test};

/// What an operand is worth.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Unknown,
    Bool(bool),
    Number(Number),
    Text(&'a str),
}

/// Whether the condition holds; `None`: unknown. Properties lie at their places; `None`: the message has none.
pub(super) fn holds(condition: &Expression, properties: &[Option<&str>]) -> Option<bool> {
    let holds = |condition: &Expression| holds(condition, properties);
    let value = |operand| value(operand, properties);
    let negated_if = |negated: bool, outcome: bool| outcome != negated;
    match condition {
        Expression::Bool(known) => Some(*known),
        Expression::Not(of) => holds(of).map(|known| !known),
        Expression::All(parts) => decided(parts.iter().map(holds), false),
        Expression::Any(parts) => decided(parts.iter().map(holds), true),
        Expression::Property(place) => properties[*place].map(is_true),
        Expression::Compare(left, comparison, right) => compare(value(left), *comparison, value(right)),
        Expression::IsNull { of, negated } => Some(negated_if(*negated, matches!(value(of), Value::Unknown))),
        Expression::Between { of, low, high, negated } => {
            let of = value(of);
            let bounds = [
                compare(of, Comparison::GreaterOrEqual, value(low)),
                compare(of, Comparison::LessOrEqual, value(high)),
            ];
            decided(bounds.into_iter(), false).map(|between| negated_if(*negated, between))
        }
        Expression::Matches { property, test, negated } => match (properties[*property], test) {
            (None, Test::In(_)) => None,
            (None, _) => Some(false),
            (Some(text), test) => Some(negated_if(*negated, matches(test, text))),
        },
        // The parser makes no condition of these.
        Expression::Null | Expression::Number(_) | Expression::Text(_) | Expression::Negative(_) => None,
    }
}

/// AND (`by` false) and OR (`by` true): one part may decide; if none does an unknown one leaves it open.
fn decided(parts: impl Iterator<Item = Option<bool>>, by: bool) -> Option<bool> {
    let mut outcome = Some(!by);
    for part in parts {
        match part {
            Some(known) if known == by => return Some(by),
            Some(_) => {}
            None => outcome = None,
        }
    }
    outcome
}

fn value<'a>(operand: &'a Expression, properties: &[Option<&'a str>]) -> Value<'a> {
    match operand {
        Expression::Null => Value::Unknown,
        Expression::Number(number) => Value::Number(*number),
        Expression::Text(text) => Value::Text(text),
        Expression::Property(place) => properties[*place].map_or(Value::Unknown, Value::Text),
        Expression::Negative(of) => {
            number(value(of, properties)).map_or(Value::Unknown, |number| Value::Number(number.negative()))
        }
        Expression::Bool(_)
        | Expression::Not(_)
        | Expression::All(_)
        | Expression::Any(_)
        | Expression::Compare(..)
        | Expression::IsNull { .. }
        | Expression::Between { .. }
        | Expression::Matches { .. } => holds(operand, properties).map_or(Value::Unknown, Value::Bool),
    }
}

fn number(value: Value<'_>) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number),
        Value::Text(text) => Number::read(text),
        Value::Unknown | Value::Bool(_) => None,
    }
}

fn is_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

fn compare(left: Value<'_>, comparison: Comparison, right: Value<'_>) -> Option<bool> {
    let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    let equal = |equal: bool| Some(equal == (comparison == Comparison::Equal));
    match (left, right) {
        (Value::Text(left), Value::Text(right)) if is_equality => equal(left == right),
        (Value::Bool(left), Value::Bool(right)) if is_equality => equal(left == right),
        (Value::Text(text), Value::Bool(bool)) | (Value::Bool(bool), Value::Text(text)) if is_equality => {
            equal(is_true(text) == bool)
        }
        (Value::Number(_), Value::Bool(_)) | (Value::Bool(_), Value::Number(_)) if is_equality => {
            equal(false)
        }
        (left, right) => Some(comparison.holds(number(left)?.order(number(right)?)?)),
    }
}

fn matches(test: &Test, text: &str) -> bool {
    match test {
        Test::In(texts) => texts.iter().any(|wanted| **wanted == *text),
        Test::Contains(part) => text.contains(&**part),
        Test::StartsWith(part) => text.starts_with(&**part),
        Test::EndsWith(part) => text.ends_with(&**part),
        Test::Like(pattern) => pattern.matches(text),
    }
}
