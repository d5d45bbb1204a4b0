//! Numbers that must not meet.

use std::fmt;
use std::time::Duration;

use store::LogOffset;

/// Which place of the group: the ordinal of its StatefulSet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u32);

/// Drawn at random when a store is made: whoever lost its volume is another member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u64);

/// The number of a reign; only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A place, and the store that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    /// Which place.
    pub ordinal: Ordinal,
    /// Which store.
    pub store: StoreId,
}

/// How much a member has, durable as the group's flush mode asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Has {
    /// End of its log.
    pub end: LogOffset,
    /// How much of this reign's state beyond the log (topics, groups, progress): 0 nothing, 1 all that there was when the
    /// reign began, and one more for each change since.
    pub state: u64,
}

impl Has {
    /// Of each the lesser.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self { end: self.end.min(other.end), state: self.state.min(other.state) }
    }
}

/// Time by the member's own monotonic clock, from any beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(pub Duration);

impl Now {
    /// How long ago that was.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl Epoch {
    /// The one behind it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (store {})", self.ordinal, self.store)
    }
}
