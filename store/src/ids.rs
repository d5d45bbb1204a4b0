//! Numbers that must not meet.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A byte position in the endless CommitLog (RocketMQ: "physical offset").
    LogOffset(u64)
}
number! {
    /// The index of a message in its queue.
    QueueOffset(u64)
}
number! {
    /// A queue of a topic, from 0.
    QueueId(u32)
}

impl LogOffset {
    /// The position `bytes` further on.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl QueueOffset {
    /// The position `entries` further on.
    #[must_use]
    pub fn plus(self, entries: u64) -> Self {
        Self(self.0 + entries)
    }
}
