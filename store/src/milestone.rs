//! A place of the log that somebody wants to hear of, once, when the log's end gets there.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::LogOffset;

/// A place of the log; at first none. Whoever appends looks at it each time, and that is all it costs.
pub(crate) struct Milestone(AtomicU64);

impl Default for Milestone {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Milestone {
    /// Wants to hear when the log ends at `at` or later.
    pub(crate) fn set(&self, at: u64) {
        self.0.store(at, Ordering::Relaxed);
    }

    /// The log ends at `end` now: is it there? True once.
    pub(crate) fn is_reached(&self, end: LogOffset) -> bool {
        let reached = end.0 >= self.0.load(Ordering::Relaxed);
        if reached {
            self.set(u64::MAX);
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_milestone_is_reached_once_each_time_it_is_set() {
        let milestone = Milestone::default();
        assert!(!milestone.is_reached(LogOffset(1 << 60)));
        for at in [10, 20] {
            milestone.set(at);
            let reached: Vec<_> = (at - 1..at + 2).map(|end| milestone.is_reached(LogOffset(end))).collect();
            assert_eq!(reached, [false, true, false]);
        }
    }
}
