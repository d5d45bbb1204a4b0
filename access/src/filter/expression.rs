//! A SQL filter as a tree, and as text again.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use super::like::Pattern;

/// An expression. Properties are places in [`Sql::names`](super::Sql::names).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Null,
    Bool(bool),
    Number(Number),
    Text(Box<str>),
    Property(usize),
    /// A minus before a property.
    Negative(Box<Self>),
    Not(Box<Self>),
    /// AND between two or more.
    All(Vec<Self>),
    /// OR between two or more.
    Any(Vec<Self>),
    Compare(Box<Self>, Comparison, Box<Self>),
    IsNull {
        of: Box<Self>,
        negated: bool,
    },
    Between {
        of: Box<Self>,
        low: Box<Self>,
        high: Box<Self>,
        negated: bool,
    },
    /// What a property's text is like.
    Matches {
        property: usize,
        test: Test,
        negated: bool,
    },
}

/// A number as it was written, or as a property's text is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Integer(i64),
    Float(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A test of a property's text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    In(Box<[Box<str>]>),
    Contains(Box<str>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Like(Pattern),
}

/// How strongly operators bind: the parentheses that text needs.
pub(super) mod binds {
    pub(in crate::filter) const OR: u8 = 1;
    pub(in crate::filter) const AND: u8 = 2;
    pub(in crate::filter) const NOT: u8 = 3;
    pub(in crate::filter) const COMPARISON: u8 = 4;
    pub(in crate::filter) const SIGN: u8 = 5;
    pub(in crate::filter) const ATOM: u8 = 6;
}

impl Number {
    /// A property's text as a number, such as `7`, `-0.5` or `1e3`.
    pub(super) fn read(text: &str) -> Option<Self> {
        if let Ok(integer) = text.parse() {
            return Some(Self::Integer(integer));
        }
        // Neither "inf" nor "NaN".
        if !text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'))
        {
            return None;
        }
        text.parse().ok().filter(|float: &f64| float.is_finite()).map(Self::Float)
    }

    pub(super) fn negative(self) -> Self {
        match self {
            // There is no positive twin of the least integer.
            Self::Integer(integer) => {
                integer.checked_neg().map_or(Self::Float(-(integer as f64)), Self::Integer)
            }
            Self::Float(float) => Self::Float(-float),
        }
    }

    pub(super) fn order(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(&b)),
            (a, b) => a.float().partial_cmp(&b.float()),
        }
    }

    fn float(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }
}

impl Comparison {
    pub(super) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Expression {
    /// How strongly its outermost operator binds.
    fn binds(&self) -> u8 {
        match self {
            Self::Any(_) => binds::OR,
            Self::All(_) => binds::AND,
            Self::Not(_) => binds::NOT,
            Self::Compare(..) | Self::IsNull { .. } | Self::Between { .. } | Self::Matches { .. } => {
                binds::COMPARISON
            }
            Self::Negative(_) => binds::SIGN,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Property(_) => binds::ATOM,
        }
    }

    /// Writes it, in parentheses if it binds less strongly than this.
    pub(super) fn write(&self, out: &mut fmt::Formatter<'_>, names: &[Box<str>], least: u8) -> fmt::Result {
        if self.binds() >= least {
            return self.write_bare(out, names);
        }
        out.write_char('(')?;
        self.write_bare(out, names)?;
        out.write_char(')')
    }

    fn write_bare(&self, out: &mut fmt::Formatter<'_>, names: &[Box<str>]) -> fmt::Result {
        let not = |negated: &bool| if *negated { " NOT" } else { "" };
        match self {
            Self::Null => out.write_str("NULL"),
            Self::Bool(true) => out.write_str("TRUE"),
            Self::Bool(false) => out.write_str("FALSE"),
            Self::Number(Number::Integer(integer)) => write!(out, "{integer}"),
            Self::Number(Number::Float(float)) => write!(out, "{float:?}"),
            Self::Text(text) => write_text(out, text),
            Self::Property(place) => out.write_str(&names[*place]),
            Self::Negative(of) => {
                out.write_char('-')?;
                of.write(out, names, binds::ATOM)
            }
            Self::Not(of) => {
                out.write_str("NOT ")?;
                of.write(out, names, binds::SIGN)
            }
            Self::All(parts) => write_joined(out, names, parts, " AND ", binds::AND + 1),
            Self::Any(parts) => write_joined(out, names, parts, " OR ", binds::OR + 1),
            Self::Compare(left, comparison, right) => {
                left.write(out, names, binds::SIGN)?;
                write!(out, " {} ", comparison.sign())?;
                right.write(out, names, binds::SIGN)
            }
            Self::IsNull { of, negated } => {
                of.write(out, names, binds::SIGN)?;
                write!(out, " IS{} NULL", not(negated))
            }
            Self::Between { of, low, high, negated } => {
                of.write(out, names, binds::SIGN)?;
                write!(out, "{} BETWEEN ", not(negated))?;
                low.write(out, names, binds::SIGN)?;
                out.write_str(" AND ")?;
                high.write(out, names, binds::SIGN)
            }
            Self::Matches { property, test, negated } => {
                write!(out, "{}{} ", names[*property], not(negated))?;
                test.write(out)
            }
        }
    }
}

impl Test {
    fn write(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, text) = match self {
            Self::In(texts) => {
                for (place, text) in texts.iter().enumerate() {
                    out.write_str(if place == 0 { "IN (" } else { ", " })?;
                    write_text(out, text)?;
                }
                return out.write_char(')');
            }
            Self::Contains(text) => ("CONTAINS", text),
            Self::StartsWith(text) => ("STARTSWITH", text),
            Self::EndsWith(text) => ("ENDSWITH", text),
            Self::Like(pattern) => ("LIKE", &pattern.text),
        };
        write!(out, "{name} ")?;
        write_text(out, text)?;
        match self {
            Self::Like(Pattern { escape: Some(escape), .. }) => {
                out.write_str(" ESCAPE ")?;
                write_text(out, escape.encode_utf8(&mut [0; 4]))
            }
            _ => Ok(()),
        }
    }
}

fn write_joined(
    out: &mut fmt::Formatter<'_>,
    names: &[Box<str>],
    parts: &[Expression],
    between: &str,
    least: u8,
) -> fmt::Result {
    for (place, part) in parts.iter().enumerate() {
        out.write_str(if place == 0 { "" } else { between })?;
        part.write(out, names, least)?;
    }
    Ok(())
}

fn write_text(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(out, "'{}'", text.replace('\'', "''"))
}
