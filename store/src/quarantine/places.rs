//! The damaged places of a log: a list with a bound, in order, each place once. Only computes.

use std::ops::Range;

use crate::LogOffset;

/// So many places are listed; more are only counted.
pub(super) const MOST_PLACES: usize = 1024;
/// Longer reasons are cut.
const MOST_REASON_BYTES: usize = 200;

/// A stretch of the log where no valid record lies. What follows it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedPlace {
    /// Its first byte.
    pub start: LogOffset,
    /// How long it is.
    pub bytes: u64,
    /// What was wrong with it when it was found, for people.
    pub reason: String,
    /// When it was found, Unix milliseconds.
    pub found_at_ms: i64,
}

impl DamagedPlace {
    fn end(&self) -> u64 {
        self.start.0 + self.bytes
    }
}

/// What became of a place that was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// It is listed now.
    New,
    /// It touches places that were listed; they are one now, which is larger.
    Grown,
    /// It was listed already.
    Known,
    /// The list is full.
    Beyond,
}

/// The places that are listed, in the order of the log; none touches another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) listed: Vec<DamagedPlace>,
    /// Places that were ever listed.
    pub(super) found: u64,
    /// Reports that found the list full.
    pub(super) beyond: u64,
}

impl Places {
    pub(super) fn add(&mut self, range: Range<u64>, reason: &str, now_ms: i64) -> Listed {
        let first = self.listed.partition_point(|place| place.end() < range.start);
        let touching = self.listed[first..].iter().take_while(|place| place.start.0 <= range.end).count();
        let mut place = DamagedPlace {
            start: LogOffset(range.start),
            bytes: range.end - range.start,
            reason: cut(reason).to_owned(),
            found_at_ms: now_ms,
        };
        let known = &self.listed[first..first + touching];
        if let [only] = known
            && only.start.0 <= range.start
            && range.end <= only.end()
        {
            return Listed::Known;
        }
        let (Some(oldest), Some(last)) = (known.iter().min_by_key(|place| place.found_at_ms), known.last())
        else {
            if self.listed.len() >= MOST_PLACES {
                self.beyond += 1;
                return Listed::Beyond;
            }
            self.found += 1;
            self.listed.insert(first, place);
            return Listed::New;
        };
        place.reason.clone_from(&oldest.reason);
        place.found_at_ms = oldest.found_at_ms;
        place.start = place.start.min(known[0].start);
        place.bytes = range.end.max(last.end()) - place.start.0;
        self.listed.splice(first..first + touching, [place]);
        Listed::Grown
    }

    /// These bytes are no damaged place, or are gone. Says whether any of them were listed.
    pub(super) fn remove(&mut self, range: Range<u64>) -> bool {
        let first = self.listed.partition_point(|place| place.end() <= range.start);
        let hit = self.listed[first..].iter().take_while(|place| place.start.0 < range.end).count();
        let left: Vec<_> = self.listed[first..first + hit]
            .iter()
            .flat_map(|place| {
                [place.start.0..range.start.min(place.end()), range.end.max(place.start.0)..place.end()]
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .map(|part| DamagedPlace {
                        start: LogOffset(part.start),
                        bytes: part.end - part.start,
                        ..place.clone()
                    })
            })
            .collect();
        self.listed.splice(first..first + hit, left);
        hit > 0
    }

    /// Bytes of all places that are listed.
    pub(super) fn bytes(&self) -> u64 {
        self.listed.iter().map(|place| place.bytes).sum()
    }
}

fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(MOST_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(places: &Places) -> Vec<Range<u64>> {
        places.listed.iter().map(|place| place.start.0..place.end()).collect()
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "one place is a list too")]
    fn a_place_is_listed_once_and_places_that_touch_are_one() {
        let check = |known: &[Range<u64>], add: Range<u64>, listed, expected: &[Range<u64>]| {
            let mut places = Places::default();
            for (n, range) in known.iter().enumerate() {
                assert_eq!(places.add(range.clone(), "first", n as i64), Listed::New);
            }
            assert_eq!(places.add(add.clone(), "later", 9), listed, "{known:?} and {add:?}");
            assert_eq!(ranges(&places), expected, "{known:?} and {add:?}");
            assert_eq!(places.found, known.len() as u64 + u64::from(listed == Listed::New));
            assert_eq!(places.bytes(), expected.iter().map(|range| range.end - range.start).sum::<u64>());
            let as_it_was = |place: &&DamagedPlace| place.reason == "first" && place.found_at_ms < 9;
            let new = usize::from(listed == Listed::New);
            assert_eq!(places.listed.iter().filter(as_it_was).count(), expected.len() - new);
        };
        check(&[], 10..20, Listed::New, &[10..20]);
        check(&[10..20], 10..20, Listed::Known, &[10..20]);
        check(&[10..20], 12..15, Listed::Known, &[10..20]);
        check(&[10..20], 20..30, Listed::Grown, &[10..30]);
        check(&[10..20], 5..10, Listed::Grown, &[5..20]);
        check(&[10..20], 0..100, Listed::Grown, &[0..100]);
        check(&[10..20], 21..30, Listed::New, &[10..20, 21..30]);
        check(&[10..20], 0..9, Listed::New, &[0..9, 10..20]);
        check(&[10..20, 30..40], 20..30, Listed::Grown, &[10..40]);
        check(&[10..20, 30..40], 15..35, Listed::Grown, &[10..40]);
        check(&[30..40, 10..20, 50..60], 25..45, Listed::Grown, &[10..20, 25..45, 50..60]);
        check(&[30..40, 10..20, 50..60], 22..28, Listed::New, &[10..20, 22..28, 30..40, 50..60]);
    }

    #[test]
    fn what_is_whole_again_or_gone_is_listed_no_more() {
        let check = |remove: Range<u64>, expected: &[Range<u64>]| {
            let mut places = Places::default();
            for range in [10..20, 30..40, 50..60] {
                places.add(range, "", 0);
            }
            assert_eq!(
                places.remove(remove.clone()),
                ranges(&places) != [10..20, 30..40, 50..60],
                "{remove:?}"
            );
            assert_eq!(ranges(&places), expected, "{remove:?}");
            assert_eq!(places.found, 3, "what was found was found");
        };
        check(0..10, &[10..20, 30..40, 50..60]);
        check(20..30, &[10..20, 30..40, 50..60]);
        check(0..20, &[30..40, 50..60]);
        check(0..15, &[15..20, 30..40, 50..60]);
        check(33..36, &[10..20, 30..33, 36..40, 50..60]);
        check(15..55, &[10..15, 55..60]);
        check(55..u64::MAX, &[10..20, 30..40, 50..55]);
        check(0..u64::MAX, &[]);
    }

    #[test]
    fn the_list_has_a_bound_and_counts_what_is_beyond_it() {
        let mut places = Places::default();
        let at = |n: u64| n * 10..n * 10 + 1;
        (0..MOST_PLACES as u64).for_each(|n| assert_eq!(places.add(at(n), "", 0), Listed::New));
        assert_eq!(places.add(at(5000), "", 0), Listed::Beyond);
        assert_eq!(places.add(at(5), "", 0), Listed::Known);
        assert_eq!(places.add(0..10, "", 0), Listed::Grown, "what touches takes no more room");
        assert_eq!(
            (places.listed.len(), places.beyond, places.found),
            (MOST_PLACES - 1, 1, MOST_PLACES as u64)
        );
        assert_eq!(places.add(at(5000), &"ü".repeat(500), 0), Listed::New);
        assert_eq!(places.listed.last().unwrap().reason, "ü".repeat(100), "reasons have a bound too");
    }
}
