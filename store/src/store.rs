//! The one way in: open, append, wait until durable, read by queue, close.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::{LogOffset, NewRecord, QueueId, QueueOffset, Record};

/// When an append counts as confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// When it is in the page cache.
    #[default]
    Async,
    /// When it is on the disk (group commit).
    Sync,
}

/// Every knob of a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store's directory (RocketMQ's `storePathRootDir`).
    pub root: PathBuf,
    /// Bytes of a CommitLog file; RocketMQ's default is 1 GiB.
    pub segment_bytes: u64,
    /// When an append is confirmed.
    pub flush: Flush,
    /// Records older than this may be deleted, a whole segment at a time.
    pub retention: Duration,
    /// Hour of the day, UTC, at which old segments go; `None`: as soon as they are old.
    pub delete_at_hour: Option<u8>,
    /// Above this share of the disk, old segments go whatever the hour; percent.
    pub disk_percent: u8,
    /// Largest body in bytes.
    pub max_body_bytes: usize,
}

impl Config {
    /// Defaults, in this directory.
    #[must_use]
    pub fn new(root: impl AsRef<Path>) -> Self {
        Self {
            root: root.as_ref().to_path_buf(),
            segment_bytes: 1 << 30,
            flush: Flush::Async,
            retention: Duration::from_secs(72 * 3600),
            delete_at_hour: Some(4),
            disk_percent: 75,
            max_body_bytes: 4 << 20,
        }
    }
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the store in {0} is in use by another process; stop it, or choose another directory")]
    InUse(PathBuf),
    /// The directory or a file of it cannot be used.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A CommitLog file has another size than the configured one.
    #[error("{path} has {found} bytes where the configuration says {expected}; set the segment size to that of the existing files")]
    SegmentSize {
        /// Which file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The configured one.
        expected: u64,
    },
}

/// Why an append was refused; nothing was written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The body is over the limit.
    #[error("the body has {found} bytes, the limit is {limit}")]
    BodyTooLarge {
        /// Bytes of the body.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Topic or properties do not fit the record format.
    #[error("the {what} takes {found} bytes, the record format allows {limit}")]
    FieldTooLarge {
        /// Which field.
        what: &'static str,
        /// Bytes.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk has no room for another segment; appends return when there is.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// A flush failed before; the log is closed for good.
    #[error("the log is closed: {0}")]
    Closed(String),
}

/// A flush failed: nothing after the last good one may be acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
#[error("flush failed: {0}")]
pub struct FlushFailed(pub String);

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The place was deleted by retention; the queue now starts here.
    #[error("offset was deleted; the queue starts at {min}")]
    Deleted {
        /// First offset that is left.
        min: QueueOffset,
    },
    /// The bytes are not a valid record.
    #[error("the record at log offset {at} is damaged: {reason}")]
    Damaged {
        /// Where.
        at: LogOffset,
        /// What is wrong.
        reason: String,
    },
    /// The system refused.
    #[error("cannot read: {0}")]
    Io(String),
}

/// What recovery found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The log's end after recovery.
    pub end: LogOffset,
    /// Bytes cut off behind the last whole record.
    pub cut_bytes: u64,
    /// Records dispatched again to the views.
    pub replayed_records: u64,
}

/// Where a batch went. Its records lie one behind the other.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Start of the first record.
    pub start: LogOffset,
    /// End of the last record: durable when the log is flushed up to here.
    pub end: LogOffset,
    /// One per record, in order.
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

/// Hears of confirmed records, in the order of the log, from the thread that confirmed them: be quick, never block.
pub trait Arrivals: Send + Sync {
    /// The queue now ends at `next` (exclusive).
    fn arrived(&self, topic: &str, queue_id: QueueId, next: QueueOffset, tags_code: i64);
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
    /// Why appends are refused, if they are.
    pub refusing: Option<String>,
    /// Size of the volume.
    pub disk_total_bytes: u64,
    /// Free for us.
    pub disk_free_bytes: u64,
}

/// One CommitLog and its views. Cheap to clone; the last clone closes it as [`Store::close`] does.
#[derive(Clone)]
pub struct Store {
    inner: Arc<()>,
}

impl Store {
    /// Opens or creates the store and recovers it.
    pub fn open(config: Config) -> Result<(Self, Recovered), OpenError> {
        let _ = config;
        todo!()
    }

    /// Sets who hears of arrivals; once, before the first append.
    pub fn on_arrival(&self, listener: Arc<dyn Arrivals>) {
        let _ = (listener, &self.inner);
        todo!()
    }

    /// Appends the records one behind the other in one segment; all or nothing.
    pub fn append(&self, records: &[NewRecord<'_>]) -> Result<Appended, AppendError> {
        let _ = records;
        todo!()
    }

    /// Calls `then` once the log is confirmed up to `end`: at once with async flush, else from
    /// the flushing thread. `then` must be quick.
    pub fn on_confirmed(&self, end: LogOffset, then: Box<dyn FnOnce(Result<(), FlushFailed>) + Send>) {
        let _ = (end, then);
        todo!()
    }

    /// The confirmed offsets of a queue: first to next. Empty for a queue that never had a message.
    #[must_use]
    pub fn queue_bounds(&self, topic: &str, queue_id: QueueId) -> Range<QueueOffset> {
        let _ = (topic, queue_id);
        todo!()
    }

    /// At most `max` confirmed entries from `from` on.
    pub fn entries(&self, topic: &str, queue_id: QueueId, from: QueueOffset, max: usize) -> Result<Vec<Entry>, ReadError> {
        let _ = (topic, queue_id, from, max);
        todo!()
    }

    /// The record of an entry, as slices of the mapping.
    pub fn record(&self, entry: &Entry) -> Result<Record, ReadError> {
        let _ = entry;
        todo!()
    }

    /// The first offset whose record was stored at `at_ms` or later; the end of the queue if none was.
    pub fn offset_at_time(&self, topic: &str, queue_id: QueueId, at_ms: i64) -> Result<QueueOffset, ReadError> {
        let _ = (topic, queue_id, at_ms);
        todo!()
    }

    /// Forgets the queues of a topic; its records stay in the log until retention.
    pub fn delete_topic(&self, topic: &str) {
        let _ = topic;
        todo!()
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        todo!()
    }

    /// Flushes, writes the checkpoint, stops the store's threads. Later appends are refused.
    pub fn close(&self) -> Result<(), FlushFailed> {
        todo!()
    }
}
