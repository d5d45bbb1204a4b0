//! Tokens of a SQL filter → its tree. A function a level:
//!
//! ```text
//!   any         all (OR all)*
//!   all         negation (AND negation)*
//!   negation    NOT negation | comparison
//!   comparison  operand [= operand | IS [NOT] NULL | [NOT] BETWEEN operand AND operand | [NOT] IN ('a', 'b') | …]
//!   operand     (+ | - | NOT) operand | literal | property | ( any )
//! ```

use std::cmp::Ordering;

use super::expression::{Comparison, Expression, Number, Test};
use super::lexer::{Kind, Token, tokens};
use super::like::Pattern;
use super::{LONGEST_BYTES, Mistake, Sql};

// Words and no keywords, because properties may have these names.
const CONTAINS: &str = "CONTAINS";
const STARTS_WITH: &str = "STARTSWITH";
const ENDS_WITH: &str = "ENDSWITH";
const LIKE: &str = "LIKE";

/// Parentheses, signs and NOTs within each other.
pub(super) const DEEPEST: usize = 64;

/// The filter of type SQL that a text is.
pub(super) fn sql(text: &str) -> Result<Sql, Mistake> {
    if text.len() > LONGEST_BYTES {
        let found = text.len();
        return Err(Mistake::of(format!("the expression has {found} bytes: use at most {LONGEST_BYTES}")));
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { text, tokens, next: 0, names: Vec::new() };
    if *parser.peek() == Kind::End {
        return Err(Mistake::of("the expression is empty: write a condition, or TRUE for every message"));
    }
    let (at, condition) = (parser.at(), parser.any(0)?);
    let condition = parser.condition(at, condition)?;
    match parser.peek() {
        Kind::End => Ok(Sql::new(parser.names, condition)),
        Kind::Close => Err(parser.mistake("this ) closes nothing: take it out, or open it with (")),
        Kind::Plus | Kind::Minus | Kind::Star => {
            Err(parser.mistake("a filter does not calculate: compare properties with numbers"))
        }
        _ => Err(parser.mistake("here AND, OR or a comparison is missing")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    names: Vec<Box<str>>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &Kind<'a> {
        &self.tokens[self.next].kind
    }

    /// Where the next token begins.
    fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    /// Takes a token; the end stays.
    fn take(&mut self) -> Kind<'a> {
        let kind = self.peek().clone();
        if kind != Kind::End {
            self.next += 1;
        }
        kind
    }

    fn took(&mut self, kind: &Kind<'_>) -> bool {
        let is_it = self.peek() == kind;
        if is_it {
            self.next += 1;
        }
        is_it
    }

    fn expect(&mut self, kind: &Kind<'_>, sentence: &str) -> Result<(), Mistake> {
        if self.took(kind) { Ok(()) } else { Err(self.mistake(sentence)) }
    }

    /// About the next token.
    fn mistake(&self, sentence: impl Into<String>) -> Mistake {
        Mistake::at(self.text, self.at(), sentence)
    }

    fn any(&mut self, depth: usize) -> Result<Expression, Mistake> {
        self.joined(&Kind::Or, Expression::Any, |parser| parser.all(depth))
    }

    fn all(&mut self, depth: usize) -> Result<Expression, Mistake> {
        self.joined(&Kind::And, Expression::All, |parser| parser.negation(depth))
    }

    /// As in SQL, NOT negates the whole comparison that follows.
    fn negation(&mut self, depth: usize) -> Result<Expression, Mistake> {
        if *self.peek() != Kind::Not {
            return self.comparison(depth);
        }
        self.check_depth(depth)?;
        self.take();
        let at = self.at();
        let of = self.negation(depth + 1)?;
        Ok(Expression::Not(Box::new(self.condition(at, of)?)))
    }

    /// Conditions with a word between them; one alone may still become an operand.
    fn joined(
        &mut self,
        word: &Kind<'_>,
        join: impl Fn(Vec<Expression>) -> Expression,
        mut part: impl FnMut(&mut Self) -> Result<Expression, Mistake>,
    ) -> Result<Expression, Mistake> {
        let at = self.at();
        let first = part(self)?;
        if self.peek() != word {
            return Ok(first);
        }
        let mut parts = vec![self.condition(at, first)?];
        while self.took(word) {
            let at = self.at();
            let next = part(self)?;
            parts.push(self.condition(at, next)?);
        }
        Ok(join(parts))
    }

    fn comparison(&mut self, depth: usize) -> Result<Expression, Mistake> {
        let start = self.at();
        let left = self.operand(depth)?;
        if !self.compares() {
            return Ok(left);
        }
        let negated = self.took(&Kind::Not);
        let at = self.at();
        let comparison = match self.take() {
            Kind::Is => {
                let negated = self.took(&Kind::Not);
                self.expect(&Kind::Null, "behind IS comes NULL or NOT NULL")?;
                Expression::IsNull { of: Box::new(left), negated }
            }
            Kind::Between => self.between(start, left, negated, depth)?,
            Kind::In => self.matches(at, left, negated, |parser| parser.texts().map(Test::In))?,
            Kind::Word(word) => self.matches(at, left, negated, |parser| parser.text_test(word))?,
            sign => {
                let comparison = comparison_of(&sign).expect("nothing else compares");
                let right_at = self.at();
                let right = self.operand(depth)?;
                let check = |at, operand: &Expression, other: &Expression| match comparison {
                    Comparison::Equal | Comparison::NotEqual => self.check_equal(at, operand, other),
                    _ => self.check_ordered(at, operand),
                };
                check(start, &left, &right)?;
                check(right_at, &right, &left)?;
                Expression::Compare(Box::new(left), comparison, Box::new(right))
            }
        };
        if self.compares() {
            return Err(self.mistake("a comparison of a comparison needs parentheses: write (a = b) = c"));
        }
        Ok(comparison)
    }

    /// Whether an operator of a comparison is next.
    fn compares(&self) -> bool {
        let is_test = |kind: &Kind<'_>| match kind {
            Kind::Between | Kind::In => true,
            Kind::Word(word) => {
                [CONTAINS, STARTS_WITH, ENDS_WITH, LIKE].iter().any(|test| test.eq_ignore_ascii_case(word))
            }
            _ => false,
        };
        match self.peek() {
            Kind::Is => true,
            Kind::Not => is_test(&self.tokens[self.next + 1].kind),
            kind => is_test(kind) || comparison_of(kind).is_some(),
        }
    }

    fn between(
        &mut self,
        start: usize,
        of: Expression,
        negated: bool,
        depth: usize,
    ) -> Result<Expression, Mistake> {
        self.check_ordered(start, &of)?;
        let low_at = self.at();
        let low = self.operand(depth)?;
        self.check_ordered(low_at, &low)?;
        self.expect(&Kind::And, "behind BETWEEN come two bounds: write BETWEEN 1 AND 9")?;
        let high_at = self.at();
        let high = self.operand(depth)?;
        self.check_ordered(high_at, &high)?;
        if let (Expression::Number(low), Expression::Number(high)) = (&low, &high)
            && low.order(*high).is_some_and(Ordering::is_gt)
        {
            return Err(Mistake::at(
                self.text,
                low_at,
                "nothing is between these: write the smaller bound first",
            ));
        }
        Ok(Expression::Between { of: Box::new(of), low: Box::new(low), high: Box::new(high), negated })
    }

    fn matches(
        &mut self,
        at: usize,
        left: Expression,
        negated: bool,
        test: impl FnOnce(&mut Self) -> Result<Test, Mistake>,
    ) -> Result<Expression, Mistake> {
        let Expression::Property(property) = left else {
            let sentence = "this looks at the text of a property: write the name of one before it";
            return Err(Mistake::at(self.text, at, sentence));
        };
        Ok(Expression::Matches { property, test: test(self)?, negated })
    }

    fn texts(&mut self) -> Result<Box<[Box<str>]>, Mistake> {
        const HOW: &str = "behind IN come strings in parentheses: write IN ('a', 'b')";
        self.expect(&Kind::Open, HOW)?;
        let mut texts = vec![self.text(HOW)?];
        while self.took(&Kind::Comma) {
            texts.push(self.text(HOW)?);
        }
        self.expect(&Kind::Close, HOW)?;
        Ok(texts.into())
    }

    fn text_test(&mut self, word: &str) -> Result<Test, Mistake> {
        let at = self.at();
        let text = self.text("behind this comes a string in single quotes")?;
        let name = word.to_ascii_uppercase();
        if text.is_empty() && name != LIKE {
            return Err(Mistake::at(self.text, at, "RocketMQ finds '' nowhere: name some text"));
        }
        Ok(match name.as_str() {
            CONTAINS => Test::Contains(text),
            STARTS_WITH => Test::StartsWith(text),
            ENDS_WITH => Test::EndsWith(text),
            _ => {
                let escape = self.escape()?;
                let pattern = Pattern::parse(text, escape);
                Test::Like(pattern.map_err(|sentence| Mistake::at(self.text, at, sentence))?)
            }
        })
    }

    fn escape(&mut self) -> Result<Option<char>, Mistake> {
        let is_escape =
            |kind: &Kind<'_>| matches!(kind, Kind::Word(word) if word.eq_ignore_ascii_case("ESCAPE"));
        if !is_escape(self.peek()) {
            return Ok(None);
        }
        const HOW: &str = "behind ESCAPE comes one character in single quotes: write ESCAPE '!'";
        self.take();
        let at = self.at();
        let text = self.text(HOW)?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(escape), None) => Ok(Some(escape)),
            _ => Err(Mistake::at(self.text, at, HOW)),
        }
    }

    fn text(&mut self, how: &str) -> Result<Box<str>, Mistake> {
        if !matches!(self.peek(), Kind::Text(_)) {
            return Err(self.mistake(how));
        }
        let Kind::Text(text) = self.take() else { unreachable!("it was looked at before") };
        Ok(text)
    }

    fn check_depth(&self, depth: usize) -> Result<(), Mistake> {
        if depth > DEEPEST {
            return Err(self.mistake(format!("this is nested too deep: use at most {DEEPEST} levels")));
        }
        Ok(())
    }

    fn operand(&mut self, depth: usize) -> Result<Expression, Mistake> {
        self.check_depth(depth)?;
        let at = self.at();
        Ok(match self.take() {
            Kind::Null => Expression::Null,
            Kind::True => Expression::Bool(true),
            Kind::False => Expression::Bool(false),
            Kind::Text(text) => Expression::Text(text),
            Kind::Float(float) => Expression::Number(Number::Float(float)),
            Kind::Integer(integer) => {
                let integer = i64::try_from(integer).map_err(|_| {
                    Mistake::at(self.text, at, format!("the number is too large: use at most {}", i64::MAX))
                })?;
                Expression::Number(Number::Integer(integer))
            }
            Kind::Word(name) => Expression::Property(self.place_of(name)),
            Kind::Open => {
                let inner = self.any(depth + 1)?;
                self.expect(&Kind::Close, "here a ) is missing, or AND or OR")?;
                inner
            }
            Kind::Plus => {
                let operand_at = self.at();
                let of = self.operand(depth + 1)?;
                self.check_signed(operand_at, &of)?;
                of
            }
            Kind::Minus => self.negative(depth)?,
            Kind::Not => {
                let operand_at = self.at();
                let of = self.operand(depth + 1)?;
                Expression::Not(Box::new(self.condition(operand_at, of)?))
            }
            Kind::Star => {
                let sentence = "* is of the filter type TAG: write TRUE for every message, or filter by TAG";
                return Err(Mistake::at(self.text, at, sentence));
            }
            _ => {
                let sentence = "here a property, a number, a string or a condition is missing";
                return Err(Mistake::at(self.text, at, sentence));
            }
        })
    }

    fn negative(&mut self, depth: usize) -> Result<Expression, Mistake> {
        // The least integer has no positive twin.
        if *self.peek() == Kind::Integer(i64::MIN.unsigned_abs()) {
            self.take();
            return Ok(Expression::Number(Number::Integer(i64::MIN)));
        }
        let at = self.at();
        let of = self.operand(depth + 1)?;
        self.check_signed(at, &of)?;
        Ok(match of {
            Expression::Number(number) => Expression::Number(number.negative()),
            of => Expression::Negative(Box::new(of)),
        })
    }

    fn place_of(&mut self, name: &str) -> usize {
        self.names.iter().position(|known| **known == *name).unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        })
    }

    /// The operand as what is true, false or unknown of a message.
    fn condition(&self, at: usize, operand: Expression) -> Result<Expression, Mistake> {
        match operand {
            Expression::Number(_) | Expression::Text(_) | Expression::Negative(_) => {
                Err(Mistake::at(self.text, at, "this is no condition: compare it with a property"))
            }
            condition => Ok(condition),
        }
    }

    fn check_signed(&self, at: usize, operand: &Expression) -> Result<(), Mistake> {
        match operand {
            Expression::Number(_) | Expression::Property(_) | Expression::Negative(_) => Ok(()),
            _ => Err(Mistake::at(self.text, at, "only a number or a property has a sign: take it away")),
        }
    }

    fn check_ordered(&self, at: usize, operand: &Expression) -> Result<(), Mistake> {
        match operand {
            Expression::Number(_) | Expression::Property(_) | Expression::Negative(_) => Ok(()),
            Expression::Text(_) => Err(Mistake::at(
                self.text,
                at,
                "only numbers are smaller or larger: use =, <>, IN or LIKE for text",
            )),
            _ => Err(Mistake::at(
                self.text,
                at,
                "only numbers are smaller or larger: compare a property or a number",
            )),
        }
    }

    fn check_equal(&self, at: usize, operand: &Expression, other: &Expression) -> Result<(), Mistake> {
        let is_other_literal = matches!(other, Expression::Number(_) | Expression::Text(_));
        match operand {
            Expression::Null => {
                Err(Mistake::at(self.text, at, "nothing equals NULL: write IS NULL or IS NOT NULL"))
            }
            Expression::Bool(_) if is_other_literal => {
                Err(Mistake::at(self.text, at, "no text or number is TRUE or FALSE: compare a property"))
            }
            _ => Ok(()),
        }
    }
}

fn comparison_of(kind: &Kind<'_>) -> Option<Comparison> {
    Some(match kind {
        Kind::Equal => Comparison::Equal,
        Kind::NotEqual => Comparison::NotEqual,
        Kind::Less => Comparison::Less,
        Kind::LessOrEqual => Comparison::LessOrEqual,
        Kind::Greater => Comparison::Greater,
        Kind::GreaterOrEqual => Comparison::GreaterOrEqual,
        _ => return None,
    })
}
