//! The damaged places and the scrub's progress as they are kept.
//!
//! ```text
//!   root/damaged:
//!     "GANTRYDP"
//!     scrub: started ms i64, at u64, end u64, ended ms i64
//!     found u64, beyond u64, count u32
//!     per place, in the log's order: start u64, bytes u64, found at ms i64, reason u16+n
//!     CRC-32 of all before u32                          (see frame.rs)
//! ```
//!
//! Numbers are big-endian. The file is below 256 KiB: places and their reasons have bounds.

use super::places::{DamagedPlace, Places};
use crate::LogOffset;
use crate::frame::Magic;
use crate::scrub::Pass;

pub(super) const MAGIC: &Magic = b"GANTRYDP";

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    pub(super) places: Places,
    pub(super) pass: Pass,
}

impl Notes {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { places: Places { listed, found, beyond }, pass } = self;
        let Pass { started_ms, at, end, ended_ms } = pass;
        let mut out = Vec::new();
        out.extend_from_slice(&started_ms.to_be_bytes());
        out.extend_from_slice(&at.0.to_be_bytes());
        out.extend_from_slice(&end.0.to_be_bytes());
        out.extend_from_slice(&ended_ms.to_be_bytes());
        out.extend_from_slice(&found.to_be_bytes());
        out.extend_from_slice(&beyond.to_be_bytes());
        out.extend_from_slice(&(listed.len() as u32).to_be_bytes());
        for DamagedPlace { start, bytes, reason, found_at_ms } in listed {
            out.extend_from_slice(&start.0.to_be_bytes());
            out.extend_from_slice(&bytes.to_be_bytes());
            out.extend_from_slice(&found_at_ms.to_be_bytes());
            out.extend_from_slice(&(reason.len() as u16).to_be_bytes());
            out.extend_from_slice(reason.as_bytes());
        }
        out
    }

    /// `None`: it does not fit together, or its places are not in order.
    pub(super) fn decode(mut rest: &[u8]) -> Option<Self> {
        let pass = Pass {
            started_ms: take(&mut rest)?.cast_signed(),
            at: LogOffset(take(&mut rest)?),
            end: LogOffset(take(&mut rest)?),
            ended_ms: take(&mut rest)?.cast_signed(),
        };
        let (found, beyond) = (take(&mut rest)?, take(&mut rest)?);
        let (count, mut rest) = rest.split_first_chunk::<4>()?;
        let (mut listed, mut free_from) = (Vec::new(), Some(0));
        for _ in 0..u32::from_be_bytes(*count) {
            let (start, bytes) = (LogOffset(take(&mut rest)?), take(&mut rest)?);
            if bytes == 0 || start.0 < free_from? {
                return None;
            }
            let end = start.0.checked_add(bytes)?;
            // Places that touch are one.
            free_from = end.checked_add(1);
            let found_at_ms = take(&mut rest)?.cast_signed();
            let (len, tail) = rest.split_first_chunk::<2>()?;
            let (reason, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            rest = tail;
            let reason = String::from_utf8(reason.to_vec()).ok()?;
            listed.push(DamagedPlace { start, bytes, reason, found_at_ms });
        }
        rest.is_empty().then_some(Self { places: Places { listed, found, beyond }, pass })
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
    fn places_that_are_no_list_are_not_believed_whatever_the_checksum() {
        let place = |start, bytes| DamagedPlace {
            start: LogOffset(start),
            bytes,
            reason: String::new(),
            found_at_ms: 0,
        };
        let check = |listed: &[(u64, u64)], good| {
            let listed = listed.iter().map(|&(start, bytes)| place(start, bytes)).collect();
            let notes = Notes { places: Places { listed, ..Places::default() }, pass: Pass::default() };
            assert_eq!(Notes::decode(&notes.encode()).is_some(), good, "{notes:?}");
        };
        check(&[(0, 10), (11, 5)], true);
        check(&[(5, u64::MAX - 5)], true);
        check(&[(5, u64::MAX - 4)], false);
        check(&[(5, u64::MAX - 5), (6, 1)], false);
        check(&[(0, 0)], false);
        check(&[(0, 10), (10, 5)], false);
        check(&[(20, 10), (0, 5)], false);
    }

    #[test]
    fn notes_come_back_as_they_were_and_what_is_cut_off_is_missed() {
        let mut places = Places { beyond: 7, ..Places::default() };
        places.add(10..20, "the checksum of its bytes does not match", 1);
        places.add(30..40, "", -1);
        let pass = Pass { started_ms: 5, at: LogOffset(u64::MAX), end: LogOffset(9), ended_ms: i64::MIN };
        for notes in [Notes::default(), Notes { places, pass }] {
            let content = notes.encode();
            assert_eq!(Notes::decode(&content).as_ref(), Some(&notes));
            for at in 0..content.len() {
                assert_eq!(Notes::decode(&content[..at]), None, "length {at}");
            }
            assert_eq!(Notes::decode(&[content, vec![0]].concat()), None);
        }
    }
}
