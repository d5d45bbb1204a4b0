//! What can go wrong, a small type per operation, a variant per thing that a caller could do differently.

use std::io;
use std::path::{Path, PathBuf};

use crate::{LogOffset, QueueOffset};

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
        source: io::Error,
    },
    /// A new log cannot begin there.
    #[error("a log of files of {segment_bytes} bytes cannot begin at {found}, which is no multiple of that")]
    FirstOffset {
        /// Where it was to begin.
        found: u64,
        /// Bytes of a file.
        segment_bytes: u64,
    },
    /// A CommitLog file has another size than the others.
    #[error(
        "{path} has {found} bytes where the log's files have {expected}; restore it, or make it whole with `truncate -s {expected} {path}`: what is missing then counts as damaged, and the rest is served"
    )]
    SegmentSize {
        /// Which file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The others', by the distance of their names.
        expected: u64,
    },
}

impl OpenError {
    /// For `map_err`: this file, whatever the system said.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        |source| Self::Io { path, source }
    }
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
    /// The records do not fit a file of the log together.
    #[error("the batch takes {found} bytes of the log, a file of it has room for {limit}")]
    BatchTooLarge {
        /// Bytes of all records.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The disk has no room for another segment; appends return when there is.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// A flush failed before, or the store was closed; the log takes no more.
    #[error("the log is closed: {0}")]
    Closed(String),
}

/// A flush failed, or who flushes died: nothing after the last good flush may be acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not durable: {0}")]
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

/// Why there is no stretch of the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StretchError {
    /// Retention deleted the place.
    #[error("the log starts at {min} now")]
    Deleted {
        /// First byte that is left.
        min: LogOffset,
    },
    /// The log ends before the place.
    #[error("the log ends at {end}")]
    NeverWritten {
        /// Its end.
        end: LogOffset,
    },
    /// The system refused.
    #[error("cannot read: {0}")]
    Io(String),
}

/// Why a stretch of another member's log was refused; nothing was written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CopyError {
    /// It does not lie at the log's end.
    #[error("the stretch lies at {at}, the log ends at {end}")]
    NotAtEnd {
        /// Where it lies.
        at: LogOffset,
        /// Where the log ends.
        end: LogOffset,
    },
    /// It is not what the log may have there.
    #[error("at {at} the stretch does not fit: {reason}")]
    Invalid {
        /// Where.
        at: LogOffset,
        /// What is wrong.
        reason: String,
    },
    /// The disk has no room for another segment; try again later.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// A flush failed before, or the store was closed; the log takes no more.
    #[error("the log is closed: {0}")]
    Closed(String),
}

/// Why a log was not cut back.
#[derive(Debug, thiserror::Error)]
pub enum CutBackError {
    /// The store cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// RocketMQ wrote to it since we did: nothing that is kept can be counted on.
    #[error("RocketMQ had {0} open last; open the store once before its log is cut back")]
    ByAnother(PathBuf),
    /// The log does not reach there.
    #[error("the log reaches from {min} to {end}, it cannot be cut back to {to}")]
    NotInLog {
        /// Where it was to end.
        to: LogOffset,
        /// First byte that is left.
        min: LogOffset,
        /// Its end, or later.
        end: LogOffset,
    },
    /// The place is within a record.
    #[error("the record at {record} reaches over {to}, the log cannot end there")]
    WithinRecord {
        /// Where the log was to end.
        to: LogOffset,
        /// The record that would be cut.
        record: LogOffset,
    },
}

/// Why a fetch brings nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// Too many wait for the disk, or hold what they fetched.
    #[error("too many read old records now; try again")]
    Busy,
    /// The store was closed.
    #[error("the store was closed")]
    Closed,
    /// The entries, or the first record, cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}
