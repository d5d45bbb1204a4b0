//! `LIKE`: `%` stands for any text, `_` for one character.
//!
//! The pieces between two `%` are looked for one after the other, each as early as possible. A piece is found in one pass
//! over the text however it is made (shift-and: a bit for each prefix of the piece that ends here), so that no pattern
//! makes a broker slow.

use std::collections::BTreeMap;

/// Characters between two `%`: the bits of [`Piece`].
pub(super) const LONGEST_PIECE: usize = 128;

/// A pattern, ready to be compared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern {
    /// As it was written.
    pub(super) text: Box<str>,
    pub(super) escape: Option<char>,
    /// What lies between the `%`; the first is where the text begins, the last where it ends.
    pieces: Vec<Piece>,
}

/// Characters in a row.
#[derive(Clone, Debug, PartialEq)]
struct Piece {
    /// `None`: any.
    chars: Vec<Option<char>>,
    /// The places where any character may be, a bit for each.
    any: u128,
    /// The places of each character beside those, sorted.
    places: Vec<(char, u128)>,
}

impl Pattern {
    /// The error is what to change.
    pub(super) fn parse(text: Box<str>, escape: Option<char>) -> Result<Self, String> {
        let mut pieces = vec![Vec::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece: &mut Vec<_> = pieces.last_mut().expect("there is always one");
            if Some(c) == escape {
                match chars.next() {
                    Some(literal) if matches!(literal, '%' | '_') || Some(literal) == escape => {
                        piece.push(Some(literal));
                    }
                    _ => return Err(format!("behind the escape character {c:?} comes %, _ or itself")),
                }
            } else if c == '%' {
                pieces.push(Vec::new());
            } else {
                piece.push(Some(c).filter(|c| *c != '_'));
            }
        }
        if pieces.iter().any(|piece| piece.len() > LONGEST_PIECE) {
            let sentence = "characters between two %: shorten it, or use = or CONTAINS";
            return Err(format!("a pattern has at most {LONGEST_PIECE} {sentence}"));
        }
        Ok(Self { text, escape, pieces: pieces.into_iter().map(Piece::of).collect() })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let (first, rest) = self.pieces.split_first().expect("there is always one");
        let Some(length) = first.begins(text) else { return false };
        let mut text = &text[length..];
        let Some((last, middle)) = rest.split_last() else { return text.is_empty() };
        for piece in middle {
            let Some(end) = piece.find(text) else { return false };
            text = &text[end..];
        }
        last.ends(text)
    }
}

impl Piece {
    fn of(chars: Vec<Option<char>>) -> Self {
        let (mut any, mut places) = (0, BTreeMap::new());
        for (place, wanted) in chars.iter().enumerate() {
            *wanted.map_or(&mut any, |wanted| places.entry(wanted).or_default()) |= 1 << place;
        }
        Self { any, places: places.into_iter().collect(), chars }
    }

    /// The bytes of the text that it takes, if the text begins with it.
    fn begins(&self, text: &str) -> Option<usize> {
        let mut chars = text.chars();
        for wanted in &self.chars {
            let found = chars.next()?;
            if wanted.is_some_and(|wanted| wanted != found) {
                return None;
            }
        }
        Some(text.len() - chars.as_str().len())
    }

    fn ends(&self, text: &str) -> bool {
        let mut chars = text.chars().rev();
        self.chars
            .iter()
            .rev()
            .all(|wanted| chars.next().is_some_and(|found| wanted.is_none_or(|wanted| wanted == found)))
    }

    /// Where it ends, where it lies first.
    fn find(&self, text: &str) -> Option<usize> {
        let Some(last) = self.chars.len().checked_sub(1) else { return Some(0) };
        let mut prefixes = 0_u128;
        for (at, found) in text.char_indices() {
            prefixes = (prefixes << 1 | 1) & self.takes(found);
            if prefixes >> last & 1 == 1 {
                return Some(at + found.len_utf8());
            }
        }
        None
    }

    /// A bit for each place that this character may have.
    fn takes(&self, found: char) -> u128 {
        let known = self.places.binary_search_by_key(&found, |(c, _)| *c);
        self.any | known.map_or(0, |place| self.places[place].1)
    }
}
