//! Any text, any condition and any message, compared with a naive reading of the rules.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::parse::sql;

/// A condition as a test makes it; writes itself with all parentheses.
#[derive(Clone, Debug)]
enum Model {
    Known(Option<bool>),
    Alone(String),
    Not(Box<Model>),
    And(Box<Model>, Box<Model>),
    Or(Box<Model>, Box<Model>),
    Number(String, &'static str, i32),
    Between(String, i32, i32, bool),
    Text(String, &'static str, String),
    In(String, Vec<String>, bool),
    Truth(String, bool),
    IsNull(String, bool),
    IsUnknown(Box<Model>),
    Search(String, &'static str, String, bool),
}

type Message = BTreeMap<String, String>;

impl Model {
    fn text(&self) -> String {
        let quoted = |text: &String| format!("'{}'", text.replace('\'', "''"));
        let not = |negated: &bool| if *negated { "not " } else { "" };
        match self {
            Self::Known(known) => known.map_or("null".to_owned(), |known| known.to_string()),
            Self::Alone(name) => name.clone(),
            Self::Not(of) => format!("NOT({})", of.text()),
            Self::And(a, b) => format!("({})AND({})", a.text(), b.text()),
            Self::Or(a, b) => format!("({}) or /* x */ ({})", a.text(), b.text()),
            Self::Number(name, sign, number) => format!("{name}{sign}{number}"),
            Self::Between(name, low, high, negated) => {
                format!("{name} {}between {low} and {high}", not(negated))
            }
            Self::Text(name, sign, text) => format!("{name}{sign}{}", quoted(text)),
            Self::In(name, texts, negated) => {
                let texts: Vec<_> = texts.iter().map(quoted).collect();
                format!("{name} {}In({})", not(negated), texts.join(","))
            }
            Self::Truth(name, truth) => format!("{truth} = {name}"),
            Self::IsNull(name, negated) => format!("{name} is {}null", not(negated)),
            Self::IsUnknown(of) => format!("({}) IS NULL -- x\n", of.text()),
            Self::Search(name, how, text, negated) => {
                format!("{name} {}{how} {}", not(negated), quoted(text))
            }
        }
    }

    fn holds(&self, message: &Message) -> Option<bool> {
        let number = |name: &String| message.get(name)?.parse::<f64>().ok().filter(|n| n.is_finite());
        match self {
            Self::Known(known) => *known,
            Self::Alone(name) => message.get(name).map(|text| text.to_lowercase() == "true"),
            Self::Not(of) => of.holds(message).map(|known| !known),
            Self::And(a, b) => match (a.holds(message), b.holds(message)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(a, b) => match (a.holds(message), b.holds(message)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Number(name, sign, right) => {
                let (left, right) = (number(name)?, f64::from(*right));
                Some(match *sign {
                    "=" => left == right,
                    "<>" | "!=" => left != right,
                    "<" => left < right,
                    "<=" => left <= right,
                    ">" => left > right,
                    _ => left >= right,
                })
            }
            Self::Between(name, low, high, negated) => {
                number(name).map(|n| (f64::from(*low) <= n && n <= f64::from(*high)) != *negated)
            }
            Self::Text(name, sign, text) => Some((message.get(name)? == text) == (*sign == "=")),
            Self::In(name, texts, negated) => Some(texts.contains(message.get(name)?) != *negated),
            Self::Truth(name, truth) => Some((message.get(name)?.to_lowercase() == "true") == *truth),
            Self::IsNull(name, negated) => Some(message.contains_key(name) == *negated),
            Self::IsUnknown(of) => Some(of.holds(message).is_none()),
            Self::Search(name, how, text, negated) => {
                let Some(found) = message.get(name) else { return Some(false) };
                let holds = match how.to_uppercase().as_str() {
                    "CONTAINS" => found.contains(text),
                    "STARTSWITH" => found.starts_with(text),
                    "ENDSWITH" => found.ends_with(text),
                    _ => like(&text.chars().collect::<Vec<_>>(), &found.chars().collect::<Vec<_>>()),
                };
                Some(holds != *negated)
            }
        }
    }
}

/// LIKE by trying everything.
fn like(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skipped| like(rest, &text[skipped..])),
        Some((wanted, rest)) => {
            text.first().is_some_and(|found| *wanted == '_' || wanted == found) && like(rest, &text[1..])
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "B", "TAGS", "$c.d", "like"]).prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ab'%_é]{1,4}", Just("true".to_owned()), "-?[0-3](\\.5|e1)?"]
}

fn model() -> impl Strategy<Value = Model> {
    let signs = || prop::sample::select(vec!["=", "<>", "!=", "<", "<=", ">", ">="]);
    let searches = || prop::sample::select(vec!["CONTAINS", "StartsWith", "ENDSWITH", "like"]);
    let leaf = prop_oneof![
        any::<Option<bool>>().prop_map(Model::Known),
        name().prop_map(Model::Alone),
        (name(), signs(), -3..4).prop_map(|(name, sign, number)| Model::Number(name, sign, number)),
        (name(), -3..1, 0..4, any::<bool>())
            .prop_map(|(n, low, high, not)| Model::Between(n, low, high, not)),
        (name(), prop::sample::select(vec!["=", "<>"]), text())
            .prop_map(|(n, sign, t)| Model::Text(n, sign, t)),
        (name(), prop::collection::vec(text(), 1..4), any::<bool>())
            .prop_map(|(n, t, not)| Model::In(n, t, not)),
        (name(), any::<bool>()).prop_map(|(name, truth)| Model::Truth(name, truth)),
        (name(), any::<bool>()).prop_map(|(name, not)| Model::IsNull(name, not)),
        (name(), searches(), text(), any::<bool>())
            .prop_map(|(n, how, t, not)| Model::Search(n, how, t, not)),
    ];
    leaf.prop_recursive(5, 40, 2, |inner| {
        let inner = || inner.clone().prop_map(Box::new);
        prop_oneof![
            inner().prop_map(Model::Not),
            inner().prop_map(Model::IsUnknown),
            (inner(), inner()).prop_map(|(a, b)| Model::And(a, b)),
            (inner(), inner()).prop_map(|(a, b)| Model::Or(a, b)),
        ]
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop::collection::btree_map(name(), text(), 0..6)
}

/// Pieces of expressions in any order: many of them nearly right.
fn soup() -> impl Strategy<Value = String> {
    let pieces = "a|b.c|'x'|''|'|5|-|1.5e3|9e999|(|)|,|=|<>|!=|<|>=|AND|or|NOT|is|NULL|BETWEEN|IN|LIKE|escape|TRUE|--|/*|*/|\n|é|%";
    let pieces: Vec<_> = pieces.split('|').collect();
    prop::collection::vec(prop::sample::select(pieces), 0..40).prop_map(|pieces| pieces.join(" "))
}

fn holds(expression: &str, message: &Message) -> Option<bool> {
    sql(expression).unwrap().holds(message.iter().map(|(name, value)| (&**name, &**value)))
}

/// Whatever is understood prints as what is understood the same.
fn read_print_read(text: &str) {
    let Ok(first) = sql(text) else { return };
    let printed = first.text.strip_prefix("SQL ").unwrap();
    if printed.len() <= super::LONGEST_BYTES {
        let second =
            sql(printed).unwrap_or_else(|mistake| panic!("{text} is printed as {printed}: {mistake}"));
        assert_eq!(first, second, "{text} is printed as {printed}");
    }
    first.holds([("a", "x"), ("b.c", "5")].into_iter());
}

proptest! {
    #[test]
    fn conditions_mean_what_the_rules_say(model in model(), message in message()) {
        prop_assert_eq!(holds(&model.text(), &message), model.holds(&message), "{}", model.text());
    }

    #[test]
    fn what_is_printed_reads_as_the_same(model in model()) {
        read_print_read(&model.text());
    }

    #[test]
    fn any_text_is_a_filter_or_a_mistake(text in any::<String>()) {
        read_print_read(&text);
    }

    #[test]
    fn pieces_in_any_order_are_a_filter_or_a_mistake(text in soup()) {
        read_print_read(&text);
    }

    #[test]
    fn depth_has_a_bound_and_no_depth_is_too_much_for_the_stack(open in "(\\(|NOT |- |\\+ |NOT\\(){0,400}") {
        let _ = sql(&open);
        let closed = format!("{open}a{}", ")".repeat(open.matches('(').count()));
        read_print_read(&closed);
        let levels = open.matches(['(', '+', '-', 'N']).count();
        prop_assert!(levels <= super::parse::DEEPEST || sql(&closed).is_err());
    }
}
