//! Walking over the log through windows: what is whole, what is damaged, and what to read next. Only computes.
//!
//! Damage is judged as by recovery: it reaches to the next valid record. Here it never crosses a segment's end, for every
//! segment starts with a record; what goes on in the next one is reported from there, and the list makes it one.

use std::ops::Range;

use crate::LogOffset;
use crate::commit_log::codec::{Announced, Flaw, announced_by, lengths_fit};
use crate::commit_log::walk::{Step, candidate, step};

/// Where a record says its own place.
const PLACE_AT: usize = 28;

/// Bytes of the log from where the walk is: eight at least, unless the limit comes before.
pub(super) struct Window<'a> {
    pub(super) bytes: &'a [u8],
    /// Where the segment ends.
    pub(super) segment_end: u64,
    /// What lies behind is not durable, or another segment.
    pub(super) limit: u64,
    /// A record may reach over the limit: there is more behind it.
    pub(super) goes_on: bool,
}

/// What a window shows, in the log's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Whole(Range<u64>),
    Damaged(Range<u64>, String),
}

/// What to read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// From where the walk is now.
    On,
    /// The same, and so many bytes at least.
    Long(u64),
    /// Nothing: what lies here is not durable as a whole.
    End,
}

/// A walk from record to record.
#[derive(Debug)]
pub(super) struct Walk {
    at: u64,
    /// Where damage began, and why: the walk looks for its end.
    bad: Option<(u64, String)>,
}

enum Place {
    Record(u64),
    Blank,
    /// So many bytes are needed to tell.
    Part(u64),
    Bad(String),
}

impl Walk {
    /// A record starts at `at`, or a segment.
    pub(super) fn new(at: u64) -> Self {
        Self { at, bad: None }
    }

    /// Where the next window begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// From here another walk can go on.
    pub(super) fn safe_at(&self) -> u64 {
        self.bad.as_ref().map_or(self.at, |bad| bad.0)
    }

    /// Looks at a window, which is not empty.
    pub(super) fn look(&mut self, window: &Window<'_>, told: &mut Vec<Told>) -> Next {
        let start = self.at;
        let end = start + window.bytes.len() as u64;
        assert!(start < end && end <= window.limit, "a window has bytes, and durable ones only");
        loop {
            let next = if self.bad.is_some() {
                self.find_end(window, start, told)
            } else {
                self.walk(window, start, told)
            };
            if let Some(next) = next {
                return next;
            }
            if self.at >= end {
                return Next::On;
            }
        }
    }

    /// Walks over valid records. `None`: the window goes on.
    fn walk(&mut self, window: &Window<'_>, start: u64, told: &mut Vec<Told>) -> Option<Next> {
        let from = self.at;
        let end = start + window.bytes.len() as u64;
        let mut next = None;
        while self.at < end && next.is_none() {
            match place(&window.bytes[(self.at - start) as usize..], self.at, window.segment_end) {
                Place::Record(size) => self.at += size,
                Place::Blank => {
                    self.at = window.segment_end;
                    next = Some(Next::On);
                }
                Place::Part(size) if self.at + size <= window.limit => {
                    next = Some(if self.at == start { Next::Long(size) } else { Next::On });
                }
                Place::Part(_) if window.goes_on => next = Some(Next::End),
                Place::Part(_) => self.bad = Some((self.at, "the log ends within it".to_owned())),
                Place::Bad(reason) => self.bad = Some((self.at, reason)),
            }
            if self.bad.is_some() {
                break;
            }
        }
        if from < self.at {
            told.push(Told::Whole(from..self.at));
        }
        if self.bad.is_some() {
            self.at += 1;
        }
        next
    }

    /// Looks for the next valid record. `None`: the window goes on.
    fn find_end(&mut self, window: &Window<'_>, start: u64, told: &mut Vec<Told>) -> Option<Next> {
        let data = &window.bytes[(self.at - start) as usize..];
        let mut from = 0;
        while let Some(found) = candidate(data, from) {
            let at = self.at + found as u64;
            match place(&data[found..], at, window.segment_end) {
                Place::Record(_) => {
                    self.end_damage(at, told);
                    return None;
                }
                Place::Part(size) if at + size <= window.limit => {
                    self.at = at;
                    return Some(if at == start { Next::Long(size) } else { Next::On });
                }
                Place::Part(_) if window.goes_on => {
                    self.end_damage(at, told);
                    return Some(Next::End);
                }
                Place::Part(_) | Place::Blank | Place::Bad(_) => from = found + 1,
            }
        }
        let end = start + window.bytes.len() as u64;
        if end == window.limit {
            self.end_damage(end, told);
        } else {
            // The first bytes of a record may be here, and the others in the next window.
            self.at = self.at.max(end.saturating_sub(7));
        }
        Some(Next::On)
    }

    fn end_damage(&mut self, at: u64, told: &mut Vec<Told>) {
        let (from, reason) = self.bad.take().expect("only the end of damage is looked for");
        told.push(Told::Damaged(from..at, reason));
        self.at = at;
    }
}

/// What lies at the start of `rest`, which may end anywhere.
fn place(rest: &[u8], at: u64, segment_end: u64) -> Place {
    let Some(head) = rest.first_chunk::<8>() else { return Place::Part(8) };
    match announced_by(head, (segment_end - at) as usize) {
        Announced::Record(size) => match rest.get(..size) {
            Some(record) => match step(record, LogOffset(at)) {
                Step::Record(_, size) => Place::Record(size as u64),
                Step::Flawed(flaw) => Place::Bad(flaw.to_string()),
                Step::Blank | Step::Nothing => unreachable!("a record is announced"),
            },
            None => {
                says_no(rest, at, size).map_or(Place::Part(size as u64), |flaw| Place::Bad(flaw.to_string()))
            }
        },
        Announced::Blank => Place::Blank,
        Announced::Nothing => Place::Bad("zeros where a record should be".to_owned()),
        Announced::Bad(flaw) => Place::Bad(flaw.to_string()),
    }
}

/// What speaks against a record of this size, by its first bytes alone: nobody reads hundreds of megabytes, or waits for
/// them, because of a flipped bit.
fn says_no(start: &[u8], at: u64, size: usize) -> Option<Flaw> {
    let says = start.get(PLACE_AT..PLACE_AT + 8).and_then(|place| place.first_chunk::<8>())?;
    let says = u64::from_be_bytes(*says);
    if says != at {
        return Some(Flaw::Place(says));
    }
    (!lengths_fit(start, size)).then_some(Flaw::Shape)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::QueueOffset;
    use crate::commit_log::codec::tests::new_record;
    use crate::commit_log::codec::{BLANK_BYTES, Plan, Put as _, encode_blank, seal};
    use crate::commit_log::walk::scan;

    const BASE: u64 = 1 << 20;

    /// Records with bodies of these lengths, and where each starts; the last is where they end.
    fn records(bodies: &[usize]) -> (Vec<u8>, Vec<u64>) {
        let (mut bytes, mut places) = (Vec::new(), vec![BASE]);
        for (n, &len) in bodies.iter().enumerate() {
            let body = vec![b'b'; len];
            let new = new_record("t", &body, b"");
            let plan = Plan::new(&new, usize::MAX).unwrap();
            let mut record = vec![0; plan.len()];
            plan.put(&mut record);
            seal(&mut record, LogOffset(*places.last().unwrap()), QueueOffset(n as u64), 1);
            bytes.extend_from_slice(&record);
            places.push(BASE + bytes.len() as u64);
        }
        (bytes, places)
    }

    /// Ends the segment with a blank.
    fn end_segment(bytes: &mut Vec<u8>, blank: u64) {
        let start = bytes.len();
        bytes.resize(start + (BLANK_BYTES + blank) as usize, 0);
        encode_blank(&mut bytes[start..], BLANK_BYTES + blank);
    }

    /// What the walk tells of a segment of which so much is durable, in windows of this size; and where it stops.
    fn walked(bytes: &[u8], durable: u64, goes_on: bool, window: u64) -> (Vec<Told>, u64) {
        let segment_end = BASE + bytes.len() as u64;
        let (mut walk, mut told, mut long) = (Walk::new(BASE), Vec::new(), 0);
        while walk.at() < durable {
            let at = walk.at();
            let len = window.max(long).min(durable - at);
            assert!(len <= window.max(4096), "a flipped bit makes nobody read much");
            let bytes = &bytes[(at - BASE) as usize..(at - BASE + len) as usize];
            match walk.look(&Window { bytes, segment_end, limit: durable, goes_on }, &mut told) {
                Next::On => long = 0,
                Next::Long(bytes) => {
                    assert!(bytes > len, "a window that was too short is followed by a longer one");
                    long = bytes;
                }
                Next::End => break,
            }
            assert!(long > 0 || walk.at() > at, "it comes on");
        }
        (told, walk.at())
    }

    /// Without the reasons, and whole stretches that follow each other as one.
    fn plain(told: Vec<Told>) -> Vec<(bool, Range<u64>)> {
        let mut plain: Vec<(bool, Range<u64>)> = Vec::new();
        for told in told {
            let (whole, range) = match told {
                Told::Whole(range) => (true, range),
                Told::Damaged(range, _) => (false, range),
            };
            match plain.last_mut() {
                Some((true, last)) if whole && last.end == range.start => last.end = range.end,
                _ => plain.push((whole, range)),
            }
        }
        plain
    }

    /// The same by looking at the whole segment at once, as recovery does.
    fn recovered(bytes: &[u8]) -> Vec<Told> {
        let end = BASE + bytes.len() as u64;
        let (mut told, mut at) = (Vec::new(), BASE);
        while at < end {
            let next = match step(&bytes[(at - BASE) as usize..], LogOffset(at)) {
                Step::Record(_, size) => Ok(at + size as u64),
                Step::Blank => Ok(end),
                Step::Nothing | Step::Flawed(_) => {
                    Err(scan(bytes, BASE, bytes.len() as u64, at + 1).unwrap_or(end))
                }
            };
            told.push(match next {
                Ok(next) => Told::Whole(at..next),
                Err(next) => Told::Damaged(at..next, String::new()),
            });
            at = next.unwrap_or_else(|next| next);
        }
        told
    }

    proptest! {
        #[test]
        fn windows_of_any_size_show_what_recovery_would_see(
            bodies in prop::collection::vec(0_usize..300, 1..20),
            blank in 0_u64..200,
            flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 0..4),
            zeros in (any::<prop::sample::Index>(), 0_usize..400),
            window in 8_u64..700,
        ) {
            let (mut bytes, _) = records(&bodies);
            end_segment(&mut bytes, blank);
            for (at, bit) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            let from = zeros.0.index(bytes.len());
            let to = (from + zeros.1).min(bytes.len());
            bytes[from..to].fill(0);
            let end = BASE + bytes.len() as u64;
            let (told, at) = walked(&bytes, end, false, window);
            prop_assert_eq!(at, end);
            prop_assert_eq!(plain(told), plain(recovered(&bytes)));
        }

        #[test]
        fn a_log_that_is_durable_up_to_any_byte_is_whole_up_to_its_last_whole_record(
            bodies in prop::collection::vec(0_usize..300, 1..10),
            durable in any::<prop::sample::Index>(),
            window in 8_u64..700,
        ) {
            let (mut bytes, places) = records(&bodies);
            let durable = BASE + durable.index(bytes.len()) as u64;
            bytes.resize(bytes.len() + 1000, 0);
            let (told, at) = walked(&bytes, durable, true, window);
            let last = *places.iter().rfind(|place| **place <= durable).unwrap();
            prop_assert_eq!(at, last);
            let expected: Vec<_> = (last > BASE).then_some((true, BASE..last)).into_iter().collect();
            prop_assert_eq!(plain(told), expected);
        }
    }

    #[test]
    fn damage_says_why_and_the_log_s_last_record_may_be_damaged_in_its_size() {
        let (bytes, places) = records(&[50, 60, 70]);
        let check = |at: u64, bit: u8, expected: Range<u64>, expected_reason: &str| {
            let mut bytes = bytes.clone();
            bytes[(at - BASE) as usize] ^= 1 << bit;
            bytes.resize(8192, 0);
            for window in [10, 100, 8192] {
                let (told, _) = walked(&bytes, places[3], false, window);
                let damaged = told.into_iter().find_map(|told| match told {
                    Told::Damaged(range, reason) => Some((range, reason)),
                    Told::Whole(_) => None,
                });
                let (range, reason) = damaged.expect("something is damaged");
                assert_eq!(range, expected, "byte {at}");
                assert!(reason.contains(expected_reason), "byte {at}: {reason}");
            }
        };
        check(places[1] + 100, 1, places[1]..places[2], "checksum");
        check(places[1] + 4, 1, places[1]..places[2], "magic");
        check(places[1] + 30, 1, places[1]..places[2], "belongs");
        check(places[1] + 1, 1, places[1]..places[2], "size");
        check(places[2] + 2, 3, places[2]..places[3], "the log ends within it");
        check(places[2] + 2, 4, places[2]..places[3], "the log ends within it");
    }
}
