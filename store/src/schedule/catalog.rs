//! Which runs count, and up to where the log is in them.
//!
//! ```text
//!   views/schedule/catalog:
//!     "GANTRYSC"
//!     complete to u64, next number u64, runs u32
//!     per run: number u64, entries u64, of these done u64
//!     the caller's note u32+n
//!     CRC-32 of all before u32                          (see frame.rs)
//! ```
//!
//! Numbers are big-endian.

use crate::frame::Magic;

pub(super) const MAGIC: &Magic = b"GANTRYSC";

/// A run as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) number: u64,
    pub(super) entries: u64,
    /// So many of its first are done.
    pub(super) done: u64,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Catalog {
    /// Whatever the log says before is in the runs.
    pub(super) complete_to: u64,
    /// No run has this number or a higher one.
    pub(super) next_number: u64,
    pub(super) runs: Vec<Listed>,
    pub(super) note: Vec<u8>,
}

impl Catalog {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.complete_to.to_be_bytes());
        out.extend_from_slice(&self.next_number.to_be_bytes());
        out.extend_from_slice(&(self.runs.len() as u32).to_be_bytes());
        for Listed { number, entries, done } in &self.runs {
            [number, entries, done].iter().for_each(|field| out.extend_from_slice(&field.to_be_bytes()));
        }
        out.extend_from_slice(&(self.note.len() as u32).to_be_bytes());
        out.extend_from_slice(&self.note);
        out
    }

    /// `None`: it does not fit together.
    pub(super) fn decode(mut rest: &[u8]) -> Option<Self> {
        let mut catalog =
            Self { complete_to: take(&mut rest)?, next_number: take(&mut rest)?, ..Self::default() };
        let (count, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        for _ in 0..u32::from_be_bytes(*count) {
            let listed =
                Listed { number: take(&mut rest)?, entries: take(&mut rest)?, done: take(&mut rest)? };
            if listed.done > listed.entries || listed.number >= catalog.next_number {
                return None;
            }
            catalog.runs.push(listed);
        }
        let (len, note) = rest.split_first_chunk::<4>()?;
        catalog.note = note.to_vec();
        (u32::from_be_bytes(*len) as usize == note.len()).then_some(catalog)
    }
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let (number, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_comes_back_as_it_was_and_what_is_cut_off_is_missed() {
        let full = Catalog {
            complete_to: u64::MAX,
            next_number: 8,
            runs: vec![
                Listed { number: 7, entries: 9, done: 9 },
                Listed { number: 0, entries: u64::MAX, done: 0 },
            ],
            note: b"note".to_vec(),
        };
        for catalog in [Catalog::default(), full] {
            let content = catalog.encode();
            assert_eq!(Catalog::decode(&content).as_ref(), Some(&catalog));
            for at in 0..content.len() {
                assert_eq!(Catalog::decode(&content[..at]), None, "length {at}");
            }
            assert_eq!(Catalog::decode(&[content, vec![0]].concat()), None);
        }
    }
}
