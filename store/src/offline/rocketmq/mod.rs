//! A directory that Apache RocketMQ 5 opens as it is, made from a stopped store: its log, and the views that Java keeps.
//!
//! ```text
//!   to/
//!     commitlog/…                      the log, byte for byte; damaged stretches covered   log.rs
//!     consumequeue/<topic>/<queue>/…   20 bytes a message                                  queues.rs
//!     index/<time>                     messages by key                                     index.rs
//!     checkpoint                       all is flushed
//! ```
//!
//! One walk over the log fills the views; the log is copied after it, when it is known what to cover. Java stops at the
//! first bad byte and cuts all that follows, so a damaged stretch is covered with records that nobody reads (rolled back
//! transactions). There is no `abort`: Java takes it for closed properly. Metadata (`config/`) is the caller's.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod index;
mod log;
mod queues;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::walk::{Told, What, walk};
use super::{Look, Progress};
use crate::LogOffset;
use crate::commit_log::codec::Head;
use index::IndexWriter;
use queues::QueuesWriter;

/// Sizes of the files, as the Java broker is configured; it refuses others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Entries of a consume queue's file (`mappedFileSizeConsumeQueue` / 20).
    pub queue_entries: u64,
    /// Hash slots of an index file (`maxHashSlotNum`).
    pub index_slots: u32,
    /// Entries of an index file (`maxIndexNum`); the first is never used.
    pub index_entries: u32,
}

impl Default for Sizes {
    /// RocketMQ's own defaults.
    fn default() -> Self {
        Self { queue_entries: 300_000, index_slots: 5_000_000, index_entries: 20_000_000 }
    }
}

/// What was exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RocketExport {
    /// Where the log ends.
    pub end: LogOffset,
    /// Records of the log.
    pub records: u64,
    /// Entries of consume queues.
    pub entries: u64,
    /// Keys in the index.
    pub keys: u64,
    /// Queues of each topic: the highest id and one.
    pub topics: BTreeMap<String, u32>,
    /// Stretches of the log that were damaged and are covered.
    pub covered: u64,
    /// Files of the log that are links to those of the store.
    pub linked: u64,
    /// Messages that Java cannot have in a queue: their topic is no name of a directory, or their offset goes back.
    pub left_out: u64,
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] super::Error),
    /// The target cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Java cannot have such a log.
    #[error("Apache RocketMQ cannot open such a log: {0}")]
    Unfit(String),
}

impl ExportError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        |source| Self::Write { path, source }
    }
}

/// A stretch to cover, and the store time of the record before it.
struct Cover {
    from: u64,
    to: u64,
    stored_at_ms: i64,
}

/// What is to be covered, in the log's order. Neighbours become one: each alone may be too small for a record.
#[derive(Default)]
struct Covers {
    places: u64,
    all: Vec<Cover>,
}

impl Covers {
    fn add(&mut self, from: LogOffset, to: LogOffset, stored_at_ms: i64) {
        self.places += 1;
        match self.all.last_mut() {
            Some(last) if last.to == from.0 => last.to = to.0,
            _ => self.all.push(Cover { from: from.0, to: to.0, stored_at_ms }),
        }
    }

    /// Where the log ends for Java: nothing valid lies behind a damaged end.
    fn end(&mut self, end: LogOffset) -> LogOffset {
        match self.all.pop_if(|last| last.to == end.0) {
            Some(last) => LogOffset(last.from),
            None => end,
        }
    }
}

impl Look {
    /// Makes the directory `to`, which must not be there. With `link`, files of the log that Java does not write to any
    /// more are links to those of the store: quick and without room, but one file for two stores.
    pub fn export_rocketmq(
        &self,
        to: &Path,
        sizes: Sizes,
        link: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<RocketExport, ExportError> {
        log::check(&self.segments)?;
        fs::create_dir(to).map_err(ExportError::at(to))?;
        let min = self.segments.min();
        let bytes = self.segments.end().0 - min.0;
        // Read once, copied once.
        let total_bytes = 2 * bytes;
        let deleted = self.deleted()?;
        let mut export = RocketExport::default();
        let mut queues = QueuesWriter::new(&to.join("consumequeue"), sizes.queue_entries);
        let mut index = IndexWriter::new(&to.join("index"), sizes.index_slots, sizes.index_entries);
        let mut covers = Covers::default();
        let mut stored_at_ms = 0;
        let mut failed = None;
        let end = walk(&self.segments, min, self.durable, &mut |told| {
            let mut tell = |at: LogOffset| progress(Progress { done_bytes: at.0 - min.0, total_bytes });
            match told {
                Told::Damage(damage) => {
                    tell(damage.to);
                    if !matches!(damage.what, What::Torn(_)) {
                        covers.add(damage.from, damage.to, stored_at_ms);
                    }
                }
                Told::Batch(batch) => {
                    tell(batch.end());
                    for item in &batch.items {
                        let record = batch.record(item);
                        stored_at_ms = stored_at_ms.max(item.head.stored_at_ms);
                        export.records += 1;
                        if !item.body_matches {
                            // Java would cut the log here.
                            covers.add(item.head.place, item.head.place.plus(item.size as u64), stored_at_ms);
                            continue;
                        }
                        if deleted.hides(item.head.topic(record), item.head.place) {
                            continue;
                        }
                        let put = queues.put(item, record).and_then(|()| index.put(&item.head, record));
                        if let Err(error) = put {
                            failed = Some(error);
                            return ControlFlow::Break(());
                        }
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        failed.map_or(Ok(()), Err)?;
        let end = covers.end(end);
        export.end = end;
        let written = queues.finish()?;
        (export.entries, export.topics, export.left_out) =
            (written.entries, written.topics, written.left_out);
        export.keys = index.finish()?;
        export.covered = covers.places;
        export.linked = log::copy(&self.segments, to, end, &covers.all, link, &mut |copied| {
            progress(Progress { done_bytes: bytes + copied, total_bytes });
        })?;
        write_checkpoint(&to.join("checkpoint"), stored_at_ms, end)?;
        sync_dir(to)?;
        Ok(export)
    }
}

/// RocketMQ's `checkpoint` (`StoreCheckpoint`): store times of what is flushed of log, queues and index; the offset of its
/// master, which it has none of; how far the log is confirmed.
fn write_checkpoint(path: &Path, stored_at_ms: i64, end: LogOffset) -> Result<(), ExportError> {
    let mut content = Vec::with_capacity(4096);
    for number in [stored_at_ms, stored_at_ms, stored_at_ms, 0, end.0 as i64] {
        content.extend_from_slice(&number.to_be_bytes());
    }
    content.resize(4096, 0);
    let file = fs::File::create_new(path).map_err(ExportError::at(path))?;
    io::Write::write_all(&mut &file, &content).and_then(|()| file.sync_all()).map_err(ExportError::at(path))
}

fn sync_dir(dir: &Path) -> Result<(), ExportError> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(ExportError::at(dir))
}

/// The value of a property of a record; of several the last counts.
fn property<'a>(head: &Head, record: &'a [u8], wanted: &str) -> Option<&'a str> {
    let pairs = crate::record::pairs(&record[head.properties.clone()]);
    pairs.filter(|(name, _)| *name == wanted).last().map(|(_, value)| value)
}
