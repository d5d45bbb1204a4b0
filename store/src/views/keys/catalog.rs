//! Which stretch of the log is indexed where. Only computes.
//!
//! ```text
//!   log:     min                                                      confirmed
//!             │ run │ run │  gap  │ run │ waiting │ live              │ to be read
//!                           rebuilt         │         └ unsorted, grows with the log
//!                                           └ sorted, in memory until it is written as a run
//! ```
//!
//! Parts do not overlap. What no part and not the live stretch covers is a gap: its entries were lost, or never made, and
//! the log is read again there.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use super::entry::KeyEntry;
use super::run::Run;

/// Entries of a stretch of the log, in order.
pub(super) struct Waiting {
    pub(super) range: Range<u64>,
    pub(super) entries: Vec<KeyEntry>,
}

/// A stretch of the log that is indexed.
#[derive(Clone)]
pub(super) enum Part {
    Waiting(Arc<Waiting>),
    Run(Arc<Run>),
}

impl Part {
    pub(super) fn range(&self) -> &Range<u64> {
        match self {
            Self::Waiting(waiting) => &waiting.range,
            Self::Run(run) => &run.footer.range,
        }
    }
}

/// All that is indexed.
pub(super) struct Catalog {
    /// In the order of the log.
    parts: Vec<Part>,
    /// The stretch that grows.
    pub(super) live: Waiting,
}

impl Catalog {
    /// `runs` as they were found, all before `end`, where what is not indexed yet begins. Returns also those that are not needed: a merge
    /// made them into a larger one.
    pub(super) fn new(mut runs: Vec<Run>, end: u64) -> (Self, Vec<Run>) {
        runs.sort_by_key(|run| (run.footer.range.start, u64::MAX - run.footer.range.end));
        let mut parts: Vec<Part> = Vec::new();
        let mut needless = Vec::new();
        for run in runs {
            if parts.last().is_some_and(|last| run.footer.range.start < last.range().end) {
                needless.push(run);
            } else {
                parts.push(Part::Run(Arc::new(run)));
            }
        }
        (Self { parts, live: Waiting { range: end..end, entries: Vec::new() } }, needless)
    }

    /// The parts, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().rev()
    }

    /// Adds a part where a gap is.
    pub(super) fn insert(&mut self, part: Part) {
        let at = self.parts.partition_point(|other| other.range().start < part.range().start);
        let range = part.range();
        assert!(
            at.checked_sub(1).is_none_or(|before| self.parts[before].range().end <= range.start)
                && self.parts.get(at).is_none_or(|after| range.end <= after.range().start)
                && range.end <= self.live.range.start,
            "parts of the key index do not overlap"
        );
        self.parts.insert(at, part);
    }

    /// The live stretch becomes a part, and a new one begins behind it. Nothing, if it has not grown.
    pub(super) fn seal(&mut self) {
        let end = self.live.range.end;
        if self.live.range.start == end {
            return;
        }
        let mut sealed = std::mem::replace(&mut self.live, Waiting { range: end..end, entries: Vec::new() });
        sealed.sort();
        self.insert(Part::Waiting(Arc::new(sealed)));
    }

    /// The oldest part that waits to be written, and how many wait.
    pub(super) fn waiting(&self) -> (Option<Arc<Waiting>>, usize) {
        let mut waiting = self.parts.iter().filter_map(|part| match part {
            Part::Waiting(waiting) => Some(waiting),
            Part::Run(_) => None,
        });
        let first = waiting.next().map(Arc::clone);
        let count = usize::from(first.is_some()) + waiting.count();
        (first, count)
    }

    /// Puts a run, or nothing, in the place of all parts within this range.
    pub(super) fn replace(&mut self, range: &Range<u64>, run: Option<Arc<Run>>) {
        self.parts.retain(|part| part.range().end <= range.start || range.end <= part.range().start);
        if let Some(run) = run {
            self.insert(Part::Run(run));
        }
    }

    /// The first run that begins here or behind.
    pub(super) fn first_run_from(&self, at: u64) -> Option<Arc<Run>> {
        let mut parts = self.parts.iter().filter(|part| at <= part.range().start);
        parts.find_map(|part| match part {
            Part::Waiting(_) => None,
            Part::Run(run) => Some(Arc::clone(run)),
        })
    }

    /// Is this run still a part?
    pub(super) fn has(&self, run: &Arc<Run>) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Run(other) if Arc::ptr_eq(run, other)))
    }

    /// Takes out the parts that lie before `min`.
    pub(super) fn forget_before(&mut self, min: u64) -> Vec<Part> {
        let gone = self.parts.partition_point(|part| part.range().end <= min);
        self.parts.drain(..gone).collect()
    }

    /// What is not indexed between `min` and the live stretch, oldest first.
    pub(super) fn gaps(&self, min: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = min;
        let live = &self.live.range;
        for range in self.parts.iter().map(Part::range).chain([live]) {
            if at < range.start {
                gaps.push(at..range.start);
            }
            at = at.max(range.end);
        }
        gaps
    }

    /// The oldest `count` runs of one level that lie end to end, if there are so many below the highest level.
    pub(super) fn mergeable(&self, count: usize, highest: u32) -> Option<Vec<Arc<Run>>> {
        let mut row: Vec<Arc<Run>> = Vec::new();
        for part in &self.parts {
            let Part::Run(run) = part else {
                row.clear();
                continue;
            };
            let goes_on = row.last().is_some_and(|last| {
                last.footer.range.end == run.footer.range.start && last.footer.level == run.footer.level
            });
            if !goes_on {
                row.clear();
            }
            if run.footer.level < highest {
                row.push(Arc::clone(run));
            }
            if row.len() == count {
                return Some(row);
            }
        }
        None
    }
}

impl Waiting {
    /// Puts the entries in order; a key that a record has twice counts once.
    pub(super) fn sort(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup();
    }

    /// The entries of this hash and of these times in a sorted stretch, newest first.
    pub(super) fn matches(&self, hash: u64, seconds: &RangeInclusive<u32>) -> impl Iterator<Item = u64> {
        matches(&self.entries, hash, seconds)
    }

    /// The same of a stretch in the order of the log.
    pub(super) fn matches_unsorted(&self, hash: u64, seconds: &RangeInclusive<u32>) -> Vec<u64> {
        let found =
            self.entries.iter().rev().filter(|entry| entry.hash == hash && seconds.contains(&entry.stored_s));
        let mut places: Vec<_> = found.map(|entry| entry.at).collect();
        places.dedup();
        places
    }
}

/// Places of the entries of this hash and these times among sorted ones, newest first.
pub(super) fn matches(
    sorted: &[KeyEntry],
    hash: u64,
    seconds: &RangeInclusive<u32>,
) -> impl Iterator<Item = u64> {
    let start = sorted.partition_point(|entry| entry.hash < hash);
    let end = sorted.partition_point(|entry| entry.hash <= hash);
    sorted[start..end].iter().rev().filter(|entry| seconds.contains(&entry.stored_s)).map(|entry| entry.at)
}
