//! Which messages a consumer wants: all, those with some tags, or those of which a SQL condition holds.
//!
//! ```text
//!   text ─► lexer ─► parse ─► expression ─► evaluate (like) ◄─ properties of a message
//!           └────── compiled: once for all who filter alike ┘
//! ```
//!
//! Any text is either a filter or a [`Mistake`] with a sentence; any filter says of any message whether it takes it, in a
//! time that its length bounds. Nothing here knows a queue or a clock, and nothing but `wire` the protocol.
//!
//! SQL is RocketMQ's (`SelectorParser.jj`) with more of SQL: LIKE, `!=`, names with dots. Where RocketMQ fails while it
//! evaluates, such as `a > 5` of an `a` that is no number, the outcome is unknown and OR may still save it. Numbers are
//! compared whatever their kind (there `a > 5` fails if `a` is 5.5), a property alone means that it is `true` (there
//! it is never so), NOT negates the whole comparison behind it (there only the operand), and a comparison of a comparison
//! is refused without parentheses.

mod compiled;
mod evaluate;
mod expression;
mod lexer;
mod like;
#[cfg(test)]
mod model_tests;
mod parse;
mod tags;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::sync::Arc;

pub use compiled::Filters;
use expression::{Expression, binds};

/// The property that holds the tag of a message.
const TAGS: &str = "TAGS";
/// The longest expression.
pub const LONGEST_BYTES: usize = 4096;

/// A condition of this length is as much effort as reading the message.
const USUAL_BYTES: usize = 128;

/// A filter that was understood. Two that say the same are equal, however they were written.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Every message.
    All,
    /// Messages with one of these tags.
    Tags(tags::Tags),
    /// Messages of which a condition holds.
    Sql(Arc<Sql>),
}

/// A SQL filter, ready to be evaluated.
#[derive(Debug, PartialEq)]
pub struct Sql {
    /// The properties that it looks at.
    names: Vec<Box<str>>,
    condition: Expression,
    /// See [`Filter::text`].
    text: Box<str>,
}

struct Printed<'a> {
    names: &'a [Box<str>],
    condition: &'a Expression,
}

/// What is wrong with an expression, and what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{sentence}", .column.map(|column| format!("column {column}: ")).unwrap_or_default())]
pub struct Mistake {
    /// In characters, from 1.
    column: Option<usize>,
    sentence: String,
}

impl Mistake {
    /// About a whole expression.
    fn of(sentence: impl Into<String>) -> Self {
        Self { column: None, sentence: sentence.into() }
    }

    /// About what begins at a byte of an expression.
    fn at(text: &str, byte: usize, sentence: impl Into<String>) -> Self {
        let column = text[..byte].chars().count() + 1;
        Self { column: Some(column), sentence: sentence.into() }
    }
}

impl Filter {
    /// Of type TAG: `*` or nothing is all; else tags with `||` between them.
    pub fn tags(expression: &str) -> Result<Self, Mistake> {
        tags::parse(expression).map_err(Mistake::of)
    }

    /// Written in one way, however it came: `*`, `a || b`, `SQL a > 5`.
    pub fn text(&self) -> &str {
        match self {
            Self::All => "*",
            Self::Tags(tags) => tags.text(),
            Self::Sql(sql) => &sql.text,
        }
    }

    /// How long it takes to say something of a message; 1 is usual, as of tags.
    pub fn effort(&self) -> usize {
        match self {
            Self::All | Self::Tags(_) => 1,
            Self::Sql(sql) => 1 + sql.text.len() / USUAL_BYTES,
        }
    }

    /// Whether messages are looked at one by one.
    pub fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether the hash of a message's tag, as it lies in the consume queue, leaves it open that it is taken.
    pub fn may_take(&self, tags_code: i64) -> bool {
        match self {
            Self::All | Self::Sql(_) => true,
            Self::Tags(tags) => tags.may_take(tags_code),
        }
    }

    /// Whether a message with these properties is taken; of duplicates the last counts.
    pub fn takes<'a>(&self, properties: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        match self {
            Self::All => true,
            Self::Tags(tags) => {
                tags.take(properties.filter(|(name, _)| *name == TAGS).last().map(|(_, tag)| tag))
            }
            Self::Sql(sql) => sql.holds(properties) == Some(true),
        }
    }
}

impl Sql {
    fn new(names: Vec<Box<str>>, condition: Expression) -> Self {
        let text = format!("SQL {}", Printed { names: &names, condition: &condition });
        Self { names, condition, text: text.into() }
    }

    /// Whether the condition holds of a message with these properties; `None`: unknown.
    fn holds<'a>(&self, properties: impl Iterator<Item = (&'a str, &'a str)>) -> Option<bool> {
        let mut found = vec![None; self.names.len()];
        for (name, value) in properties {
            if let Some(place) = self.names.iter().position(|wanted| **wanted == *name) {
                found[place] = Some(value);
            }
        }
        evaluate::holds(&self.condition, &found)
    }
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.write(f, self.names, binds::OR)
    }
}
