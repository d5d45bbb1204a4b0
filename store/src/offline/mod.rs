//! Looking at a stopped store, without a broker and without writing a byte.
//!
//! [`Look`] opens any directory with a `commitlog` in it: ours, RocketMQ's own, damaged ones, and such as may not be
//! written to. It takes no write access and makes no file; the lock that it holds meanwhile keeps brokers out, and other
//! lookers not. What it calls damaged is what recovery calls damaged.
//!
//! ```text
//!   listing    what lies there                        segments, marks, the views' snapshot, RocketMQ's own files
//!   queues     the queues and their bounds            from the views, and the log behind them
//!   verify     every record, every entry of the views walk: one reads, many check
//!   records    every valid record, in the log's order walk
//!   record     one of them
//!   export_rocketmq   a new directory for Apache RocketMQ  walk, and a copy of the log
//! ```

mod disk;
mod listing;
mod queues;
pub(crate) mod rocketmq;
mod segments;
mod trouble;
mod verify;
mod views_check;
mod walk;

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::commit_log::codec::{Announced, Head, announced_by};
use crate::commit_log::mark;
use crate::disk::{Disk, Lock};
use crate::views::{Kept, Views};
use crate::{LogOffset, Record};

pub use listing::{Checkpoint, Listing, RocketFiles, ViewsKept};
pub use queues::Queue;
pub use rocketmq::{ExportError, RocketExport, Sizes};
pub use segments::{Odd, SegmentFile};
pub use verify::{Verified, ViewsVerdict, WrongEntry};
pub use walk::{Damage, What};

/// Why a directory cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A broker has it.
    #[error("the store in {0} is in use by a broker; stop it first")]
    InUse(PathBuf),
    /// There is no log.
    #[error("{0} is no store: it has no directory commitlog")]
    NoStore(PathBuf),
    /// The system refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The record asked for is not there.
    #[error("no record at log offset {at}: {reason}")]
    NoRecord {
        /// Where.
        at: LogOffset,
        /// What is there.
        reason: String,
    },
}

impl Error {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        |source| Self::Io { path, source }
    }
}

/// How far a long look is, in bytes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Looked at.
    pub done_bytes: u64,
    /// In all.
    pub total_bytes: u64,
}

/// What [`Look::records`] meets.
#[derive(Debug)]
pub enum Met {
    /// A valid record.
    Record(Record),
    /// A stretch without.
    Damage(Damage),
}

/// A stopped store that is looked at. While it lives no broker can open the store.
pub struct Look {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    segments: segments::Segments,
    lock: Option<Box<dyn Lock>>,
    /// All before this was flushed once, as far as is known.
    durable: LogOffset,
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Look {
    /// Looks at this directory; refused while a broker has it.
    pub fn open(root: &Path) -> Result<Self, Error> {
        Self::open_on(Arc::new(disk::ReadOnlyDisk::default()), root)
    }

    /// Looks at it even while a broker has it ([`Look::in_use`] tells): what is seen may change under the eyes.
    pub fn open_even_in_use(root: &Path) -> Result<Self, Error> {
        Self::start(Arc::new(disk::ReadOnlyDisk::default()), root)
    }

    /// Looks at a directory of another disk. Nothing is written there, but its lock file may be made.
    pub fn open_on(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, Error> {
        let look = Self::start(disk, root)?;
        if look.in_use() { Err(Error::InUse(root.to_path_buf())) } else { Ok(look) }
    }

    fn start(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, Error> {
        let segments = segments::Segments::list(Arc::clone(&disk), root)?;
        let lock_path = root.join("lock");
        let lock = disk.lock(&lock_path).map_err(Error::at(&lock_path))?;
        let mark = mark::read(disk.as_ref(), root).map_err(Error::at(&root.join("flushed")))?;
        let complete = match Kept::of(disk.as_ref(), root).map_err(Error::at(&root.join("views")))? {
            Kept::Snapshot(complete_to) => complete_to,
            Kept::Damaged | Kept::Nothing => LogOffset(0),
        };
        let end = segments.end();
        // What the views know was durable before they did. A snapshot that lies behind the log is another log's.
        let complete = if complete <= end { complete } else { LogOffset(0) };
        let durable = mark.unwrap_or_default().max(complete).min(end);
        Ok(Self { disk, root: root.to_path_buf(), segments, lock, durable })
    }

    /// A broker has it open.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.lock.is_none()
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// First byte of the log that is there.
    #[must_use]
    pub fn min(&self) -> LogOffset {
        self.segments.min()
    }

    /// The record that starts at this place of the log.
    pub fn record(&self, at: LogOffset) -> Result<Record, Error> {
        let missing = |reason: String| Error::NoRecord { at, reason };
        let index = self.segments.index_at(at.0).filter(|index| self.segments.range(*index).contains(&at.0));
        let index = index.ok_or_else(|| missing("the log has no such place".to_owned()))?;
        let mut reader = self.segments.open(index)?;
        let room = (reader.range.end - at.0) as usize;
        let mut head = [0; 8];
        let head = &mut head[..room.min(8)];
        reader.read(at.0, head);
        let announced = head.first_chunk().map_or(Announced::Nothing, |head| announced_by(head, room));
        let size = match announced {
            Announced::Record(size) => size,
            Announced::Blank => return Err(missing("the rest of the segment is blank".to_owned())),
            Announced::Nothing => return Err(missing("there are zeros".to_owned())),
            Announced::Bad(flaw) => return Err(missing(flaw.to_string())),
        };
        let mut bytes = vec![0; size];
        reader.read(at.0, &mut bytes);
        let bytes = Bytes::from(bytes);
        let head = Head::parse(&bytes).and_then(|head| head.verify(&bytes, at).map(|()| head));
        head.map(|head| head.into_record(&bytes)).map_err(|flaw| missing(flaw.to_string()))
    }

    /// Every valid record that starts in this range of the log, and every damage on the way, in order. Records of deleted
    /// topics are left out. Returns the log's end, or where `visit` broke off.
    pub fn records(
        &self,
        range: Range<LogOffset>,
        visit: &mut dyn FnMut(Met, Progress) -> ControlFlow<()>,
    ) -> Result<LogOffset, Error> {
        // A record starts at each segment's start, but who knows what lies at the range's.
        let from = self
            .segments
            .index_at(range.start.0)
            .map_or(range.start.0, |index| self.segments.range(index).start);
        let total_bytes = self.segments.end().min(range.end).0.saturating_sub(from);
        let deleted = self.deleted()?;
        walk::walk(&self.segments, LogOffset(from), self.durable, &mut |told| match told {
            walk::Told::Damage(damage) => {
                let progress = Progress { done_bytes: damage.to.0.saturating_sub(from), total_bytes };
                if damage.to <= range.start {
                    return ControlFlow::Continue(());
                }
                if damage.from >= range.end {
                    return ControlFlow::Break(());
                }
                visit(Met::Damage(damage), progress)
            }
            walk::Told::Batch(batch) => {
                let bytes = Bytes::from(std::mem::take(&mut batch.bytes));
                for item in batch.items.drain(..) {
                    let at = LogOffset(batch.base + item.start as u64);
                    if at < range.start {
                        continue;
                    }
                    if at >= range.end {
                        return ControlFlow::Break(());
                    }
                    if deleted.hides(item.head.topic(&bytes[item.start..item.start + item.size]), at) {
                        continue;
                    }
                    let record = item.head.into_record(&bytes.slice(item.start..item.start + item.size));
                    let progress = Progress { done_bytes: at.0 + item.size as u64 - from, total_bytes };
                    visit(Met::Record(record), progress)?;
                }
                ControlFlow::Continue(())
            }
        })
    }

    /// The views as their snapshot has them, and up to where that is complete.
    fn views(&self) -> Result<(Views, LogOffset), Error> {
        let bounds = self.segments.min()..self.segments.end();
        let (views, complete, _) = Views::load(Arc::clone(&self.disk), &self.root, bounds)
            .map_err(|error| Error::at(&self.root.join("views"))(io::Error::other(error)))?;
        Ok((views, complete.to))
    }
}
