//! What the store answers, and whom it tells.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{LogOffset, QueueId, QueueOffset};

/// What recovery found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The log's end after recovery.
    pub end: LogOffset,
    /// Bytes cut off behind the last whole record.
    pub cut_bytes: u64,
    /// Records dispatched again to the views.
    pub replayed_records: u64,
    /// The store was closed properly the last time.
    pub clean: bool,
    /// RocketMQ had it open since we did, or it was never ours: all views were built anew.
    pub by_another: bool,
    /// The machine, and not only the process, went down while the store was open, and nobody cleared it up since: see
    /// [`Store::was_interrupted`](crate::Store::was_interrupted).
    pub interrupted: bool,
    /// The first of the damaged stretches that was not known to be durable: maybe a crash tore it, and nothing from there on
    /// was acknowledged; maybe it rotted, and what follows was. A member of a group that can have the log from another does
    /// not trust its own from here on, and cuts it back to here before it copies. Found again at each opening before the log
    /// has grown.
    pub torn_at: Option<LogOffset>,
    /// Damaged stretches that were skipped: where, and how many bytes. What follows them is served.
    pub damaged: Vec<(LogOffset, u64)>,
}

/// How far opening a store is; asked from other threads while it is opened.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of log to walk; 0 while nobody knows.
    total: AtomicU64,
    done: AtomicU64,
}

impl Progress {
    /// So many bytes of log must be walked.
    pub(crate) fn begin(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// So many of them are.
    pub(crate) fn done(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// Bytes of log that are walked, and that must be.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            (_, 0) => f.write_str("its files are being looked at"),
            (done, total) => write!(f, "{} of {} MiB are walked", done >> 20, total >> 20),
        }
    }
}

/// Where a batch went. Its records lie one behind the other.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Start of the first record.
    pub start: LogOffset,
    /// End of the last record: durable when the log is flushed up to here.
    pub end: LogOffset,
    /// One per record, in order; 0 for prepared and rollback records, which are in no queue.
    pub queue_offsets: Vec<QueueOffset>,
    /// The store's clock, Unix milliseconds.
    pub stored_at_ms: i64,
}

/// A consume queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place in the queue.
    pub queue_offset: QueueOffset,
    /// Place of the record in the log.
    pub log_offset: LogOffset,
    /// Bytes of the record.
    pub size: u32,
    /// Java's hash of the tag, 0 without one.
    pub tags_code: i64,
}

/// Hears of confirmed records, in the order of the log, from the thread that confirmed them: be quick, never block,
/// append nothing. Reading is fine.
pub trait Arrivals: Send + Sync {
    /// The queue now ends at `next` (exclusive).
    fn arrived(&self, topic: &str, queue_id: QueueId, next: QueueOffset, tags_code: i64);
}

/// What is known to be damaged in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damaged {
    /// Places that are listed: [`Store::damaged`](crate::Store::damaged) has them.
    pub places: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Places that were ever listed, those that are gone included.
    pub found: u64,
    /// Reports of places for which the list had no room, since the scrub's last pass began.
    pub beyond: u64,
}

/// How the scrub stands, which reads the log through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// When its last pass began, Unix milliseconds; 0: none did yet.
    pub started_ms: i64,
    /// So far it has come.
    pub at: LogOffset,
    /// Where the pass ends. It is over if it has come so far.
    pub end: LogOffset,
    /// When the last pass that is over ended, Unix milliseconds; 0: none did yet.
    pub ended_ms: i64,
    /// Bytes that it has read since the opening.
    pub read_bytes: u64,
}

/// What a person wants to know.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// First byte that is left.
    pub min: LogOffset,
    /// End of what is written.
    pub appended: LogOffset,
    /// End of what is on disk.
    pub flushed: LogOffset,
    /// End of what readers see.
    pub confirmed: LogOffset,
    /// How often the log was flushed since it was opened.
    pub flushes: u64,
    /// Why appends are refused, if they are.
    pub refusing: Option<String>,
    /// Bytes read from files for cold reads since the opening, those read ahead included.
    pub cold_read_bytes: u64,
    /// What is known to be damaged.
    pub damaged: Damaged,
    /// How the scrub stands.
    pub scrubbed: Scrubbed,
    /// Size of the volume.
    pub disk_total_bytes: u64,
    /// Free for us.
    pub disk_free_bytes: u64,
}

/// Is asked before old segments go: something in them may be needed longer than they are kept.
pub trait Keeper: Send + Sync {
    /// Everything before `before` is to go. False: not yet; it will be asked again, a second or a few later. It is asked
    /// from the housekeeping thread, which must not wait for it.
    fn may_go(&self, before: LogOffset) -> bool;
}
