//! The reigns that a log went through, and where two logs part.

use store::LogOffset;

use crate::planted::{Bug, is_planted};
use crate::{Epoch, StoreId};

/// A reign: its records begin here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which reign.
    pub epoch: Epoch,
    /// The log's end when it began.
    pub at: LogOffset,
}

/// The reigns of a log, oldest first. What lies before the first was written by one broker alone: `origin`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Which store the log before the first reign comes from.
    pub origin: StoreId,
    /// Both numbers grow.
    pub starts: Vec<Start>,
}

/// How a member gets from its log to the primary's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its log ends here from now on (nothing is cut if that is its end), and goes on with the primary's bytes.
    From(LogOffset),
    /// Nothing that it has is of use: an empty log that begins here.
    Anew(LogOffset),
}

impl History {
    /// The last reign.
    #[must_use]
    pub fn last(&self) -> Epoch {
        self.starts.last().map_or(Epoch(0), |start| start.epoch)
    }

    /// Forgets reigns that began behind `end`, or at it and left no record.
    #[must_use]
    pub fn up_to(mut self, end: LogOffset) -> Self {
        self.starts.retain(|start| start.at < end);
        self
    }

    /// How a member with `theirs`, whose log lies in `from..end`, follows a primary with this history, whose log lies in
    /// `first..own_end`.
    #[must_use]
    pub fn way(&self, first: LogOffset, own_end: LogOffset, theirs: &Self, end: LogOffset) -> Way {
        let shared = self.shared(own_end, theirs, end);
        if shared < first || (shared == LogOffset(0) && first == LogOffset(0) && end > shared) {
            return Way::Anew(first);
        }
        Way::From(shared)
    }

    /// Up to where both logs are the same.
    fn shared(&self, own_end: LogOffset, theirs: &Self, end: LogOffset) -> LogOffset {
        if is_planted(Bug::NothingCut) {
            return own_end.min(end);
        }
        let pairs = self.starts.iter().zip(&theirs.starts);
        // Where the logs before the first reign come from different brokers they share nothing. An empty one fits all.
        let foreign = self.origin != theirs.origin && !is_planted(Bug::OriginIgnored);
        if foreign && end > LogOffset(0) && self.begins_behind_origin() {
            return LogOffset(0);
        }
        let same = pairs.take_while(|(own, their)| own == their).count();
        let end_of =
            |history: &Self, log_end: LogOffset| history.starts.get(same).map_or(log_end, |next| next.at);
        let their_end = if is_planted(Bug::OwnReignsOnly) { end } else { end_of(theirs, end) };
        end_of(self, own_end).min(their_end).min(own_end).min(end)
    }

    /// Is there anything before the first reign?
    fn begins_behind_origin(&self) -> bool {
        self.starts.first().is_none_or(|start| start.at > LogOffset(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(origin: u64, starts: &[(u64, u64)]) -> History {
        let starts = starts.iter().map(|&(epoch, at)| Start { epoch: Epoch(epoch), at: LogOffset(at) });
        History { origin: StoreId(origin), starts: starts.collect() }
    }

    fn way(own: &History, range: std::ops::Range<u64>, theirs: &History, end: u64) -> Way {
        own.way(LogOffset(range.start), LogOffset(range.end), theirs, LogOffset(end))
    }

    #[test]
    fn who_has_a_part_of_the_log_goes_on_at_its_end() {
        let own = history(1, &[(1, 0), (2, 500)]);
        assert_eq!(way(&own, 0..900, &history(1, &[(1, 0), (2, 500)]), 700), Way::From(LogOffset(700)));
        assert_eq!(way(&own, 0..900, &history(1, &[(1, 0)]), 300), Way::From(LogOffset(300)));
        assert_eq!(way(&own, 0..900, &history(1, &[(1, 0)]), 500), Way::From(LogOffset(500)));
    }

    #[test]
    fn what_a_fallen_primary_wrote_beyond_the_next_reign_is_cut() {
        let own = history(1, &[(1, 0), (2, 500)]);
        assert_eq!(way(&own, 0..900, &history(1, &[(1, 0)]), 650), Way::From(LogOffset(500)));
        // It fell twice: a reign that nobody else knows of.
        let own = history(1, &[(1, 0), (3, 500)]);
        assert_eq!(way(&own, 0..900, &history(1, &[(1, 0), (2, 480)]), 650), Way::From(LogOffset(480)));
    }

    #[test]
    fn an_empty_log_begins_where_the_primary_begins() {
        let own = history(1, &[(1, 0), (2, 500)]);
        assert_eq!(way(&own, 0..900, &history(9, &[]), 0), Way::From(LogOffset(0)));
        assert_eq!(way(&own, 256..900, &history(9, &[]), 0), Way::Anew(LogOffset(256)));
        assert_eq!(way(&own, 256..900, &history(1, &[(1, 0)]), 100), Way::Anew(LogOffset(256)), "too old");
    }

    #[test]
    fn a_log_of_other_origin_is_of_no_use() {
        let own = history(1, &[(1, 800)]);
        assert_eq!(way(&own, 0..900, &history(2, &[]), 850), Way::Anew(LogOffset(0)));
        assert_eq!(way(&own, 0..900, &history(1, &[]), 850), Way::From(LogOffset(800)));
    }
}
