//! A replica keeps what the primary keeps.

use std::sync::atomic::{AtomicU64, Ordering};

use store::{Keeper, LogOffset};

/// Lets the log's old files go once they are gone from the primary's: only that one knows what still waits in them.
#[derive(Debug, Default)]
pub(super) struct LikePrimary {
    /// Where the primary's log begins.
    min: AtomicU64,
}

impl LikePrimary {
    pub(super) fn heard(&self, min: LogOffset) {
        self.min.fetch_max(min.0, Ordering::Relaxed);
    }
}

impl Keeper for LikePrimary {
    fn may_go(&self, before: LogOffset) -> bool {
        before.0 <= self.min.load(Ordering::Relaxed)
    }
}
