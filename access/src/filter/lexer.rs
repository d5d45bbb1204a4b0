//! Text of a SQL filter → tokens, each with where it begins.

use super::Mistake;

/// A token and the byte where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) at: usize,
    pub(super) kind: Kind<'a>,
}

/// What a token is. Operators with a name that RocketMQ does not reserve (LIKE, CONTAINS, …) are words.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    And,
    Or,
    Not,
    Between,
    In,
    Is,
    True,
    False,
    Null,
    Word(&'a str),
    Text(Box<str>),
    /// At most 2^63, which only a minus makes an integer of 64 bits.
    Integer(u64),
    Float(f64),
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Plus,
    Minus,
    Star,
    Open,
    Close,
    Comma,
    /// The expression ends here.
    End,
}

const KEYWORDS: [(&str, Kind<'static>); 9] = [
    ("AND", Kind::And),
    ("OR", Kind::Or),
    ("NOT", Kind::Not),
    ("BETWEEN", Kind::Between),
    ("IN", Kind::In),
    ("IS", Kind::Is),
    ("TRUE", Kind::True),
    ("FALSE", Kind::False),
    ("NULL", Kind::Null),
];

/// The tokens of an expression, with [`Kind::End`] behind them.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Mistake> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let at = lexer.at;
        let kind = lexer.token()?;
        let is_end = kind == Kind::End;
        tokens.push(Token { at, kind });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn mistake(&self, at: usize, sentence: impl Into<String>) -> Mistake {
        Mistake::at(self.text, at, sentence)
    }

    /// Spaces and comments.
    fn skip_blanks(&mut self) -> Result<(), Mistake> {
        loop {
            let rest = self.rest();
            if rest.starts_with([' ', '\t', '\n', '\r', '\u{c}']) {
                self.at += 1;
            } else if rest.starts_with("--") {
                self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
            } else if let Some(comment) = rest.strip_prefix("/*") {
                let length = comment.find("*/").ok_or_else(|| {
                    self.mistake(self.at, "the comment that begins here has no end: close it with */")
                })?;
                self.at += length + 4;
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Kind<'a>, Mistake> {
        let start = self.at;
        let Some(first) = self.rest().chars().next() else { return Ok(Kind::End) };
        let next = self.rest().as_bytes().get(1).copied();
        let (kind, length) = match (first, next) {
            ('A'..='Z' | 'a'..='z' | '_' | '$', _) => return Ok(self.word()),
            ('0'..='9', _) | ('.', Some(b'0'..=b'9')) => return self.number(),
            ('\'', _) => return self.string(),
            ('<', Some(b'>')) | ('!', Some(b'=')) => (Kind::NotEqual, 2),
            ('<', Some(b'=')) => (Kind::LessOrEqual, 2),
            ('>', Some(b'=')) => (Kind::GreaterOrEqual, 2),
            ('=', Some(b'=')) => return Err(self.mistake(start, "there is no ==: write =")),
            ('&', _) => return Err(self.mistake(start, "there is no &: write AND")),
            ('|', _) => return Err(self.mistake(start, "there is no |: write OR")),
            ('!', _) => return Err(self.mistake(start, "there is no !: write NOT")),
            ('"', _) => return Err(self.mistake(start, "strings have single quotes: write 'text'")),
            ('=', _) => (Kind::Equal, 1),
            ('<', _) => (Kind::Less, 1),
            ('>', _) => (Kind::Greater, 1),
            ('+', _) => (Kind::Plus, 1),
            ('-', _) => (Kind::Minus, 1),
            ('*', _) => (Kind::Star, 1),
            ('(', _) => (Kind::Open, 1),
            (')', _) => (Kind::Close, 1),
            (',', _) => (Kind::Comma, 1),
            (other, _) => {
                let sentence = format!(
                    "{other:?} begins nothing that a filter knows: take it out, or write it in a string"
                );
                return Err(self.mistake(start, sentence));
            }
        };
        self.at += length;
        Ok(kind)
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.bytes().position(|byte| !belongs(byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn word(&mut self) -> Kind<'a> {
        let word = self.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.'));
        let keyword = KEYWORDS.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(word));
        keyword.map_or(Kind::Word(word), |(_, kind)| kind.clone())
    }

    /// `5`, `5L`, `5.`, `.5`, `5E10`.
    fn number(&mut self) -> Result<Kind<'a>, Mistake> {
        let start = self.at;
        let is_digit = |byte: u8| byte.is_ascii_digit();
        self.take_while(is_digit);
        let mut is_float = false;
        if self.rest().starts_with('.') {
            is_float = true;
            self.at += 1;
            self.take_while(is_digit);
        }
        let exponent = self.rest().strip_prefix(['e', 'E']);
        let digits = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
        if digits.is_some_and(|digits| digits.starts_with(|c: char| c.is_ascii_digit())) {
            is_float = true;
            self.at += 1;
            self.take_while(|byte| matches!(byte, b'+' | b'-'));
            self.take_while(is_digit);
        }
        let number = &self.text[start..self.at];
        if !is_float && self.rest().starts_with(['l', 'L']) {
            self.at += 1;
        }
        if self.rest().starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.')) {
            let sentence = "this is neither a number nor a name: names begin with a letter, _ or $";
            return Err(self.mistake(start, sentence));
        }
        if is_float {
            let float = number.parse().ok().filter(|float: &f64| float.is_finite());
            return float.map(Kind::Float).ok_or_else(|| {
                self.mistake(start, format!("the number is too large: use at most {:e}", f64::MAX))
            });
        }
        let integer = number.parse().ok().filter(|integer| *integer <= i64::MIN.unsigned_abs());
        integer.map(Kind::Integer).ok_or_else(|| {
            self.mistake(start, format!("the number is too large: use at most {}, or 1e19", i64::MAX))
        })
    }

    /// `'it''s'`
    fn string(&mut self) -> Result<Kind<'a>, Mistake> {
        let start = self.at;
        let mut text = String::new();
        self.at += 1;
        loop {
            let Some(length) = self.rest().find('\'') else {
                return Err(self.mistake(start, "the string that begins here has no end: close it with '"));
            };
            text.push_str(&self.rest()[..length]);
            self.at += length + 1;
            if !self.rest().starts_with('\'') {
                return Ok(Kind::Text(text.into()));
            }
            text.push('\'');
            self.at += 1;
        }
    }
}
