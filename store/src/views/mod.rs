//! What is derived from the log and can be rebuilt from it: the consume queues of all topics.
//!
//! ```text
//!   push (from dispatch) ─► consume_queue: the end of each queue in memory ─ housekeeping ─► blocks: shared files
//!                                                     └──────────── every so often ────────► snapshot: who has what
//! ```
//!
//! A snapshot says up to which log offset it is complete; opening loads it and replays the log from there.

pub(crate) mod blocks;
pub(crate) mod consume_queue;
mod deleted;
pub(crate) mod entry;
mod snapshot;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};

use blocks::Blocks;
pub(crate) use consume_queue::ConsumeQueue;
use consume_queue::{Due, Entries};
use deleted::Marks;
pub(crate) use entry::RawEntry;
use snapshot::{Encoder, Loaded, Snapshot};

use crate::answers::Entry;
use crate::disk::Disk;
use crate::error::{OpenError, ReadError};
use crate::{LogOffset, QueueId, QueueOffset};

type Queues = Vec<Arc<ConsumeQueue>>;

/// All queues.
pub(crate) struct Views {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The queues of a topic are sorted by id.
    topics: RwLock<HashMap<Arc<str>, Queues, RandomState>>,
    blocks: Blocks,
    /// Queues that may have entries to write.
    listed: Mutex<Queues>,
    marks: Mutex<Marks>,
    /// Bytes of the last snapshot, and up to where it is complete.
    last_snapshot: Mutex<(u64, LogOffset)>,
}

/// From where recovery must replay the log.
pub(crate) struct Complete {
    pub(crate) to: LogOffset,
    pub(crate) stored_at_ms: i64,
    /// There was a snapshot, but not one to go on from: write a new one before the log grows, or the next opening
    /// takes the old one for good.
    pub(crate) replace_snapshot: bool,
}

impl Views {
    /// Loads the views as of their snapshot. `min` and `end` bound the log's files: a snapshot that lies behind them is
    /// another log's. Follow with [`Views::replay`] of what comes after, then [`Views::recovered`].
    pub(crate) fn load(
        disk: Arc<dyn Disk>,
        root: &Path,
        log: Range<LogOffset>,
    ) -> Result<(Self, Complete, Counts), OpenError> {
        let dir = root.join("views");
        let failed = || OpenError::at(&dir);
        disk.create_dir(&dir).map_err(failed())?;
        let marks = Marks::load(disk.as_ref(), &dir).map_err(failed())?;
        let mut counts = Counts::default();
        let mut good = None;
        let mut replace_snapshot = true;
        match snapshot::load(disk.as_ref(), &dir).map_err(failed())? {
            Loaded::Good(snapshot) if snapshot.complete_to <= log.end => {
                good = Some(snapshot);
                replace_snapshot = false;
            }
            Loaded::Good(snapshot) => {
                tracing::error!(
                    complete_to = %snapshot.complete_to, log_end = %log.end,
                    "the log ends before its views; files of it are missing"
                );
                counts.note(&snapshot, &marks);
            }
            Loaded::Stale(snapshot) => counts.note(&snapshot, &marks),
            Loaded::Nothing => replace_snapshot = false,
        }
        let blocks =
            Blocks::open(Arc::clone(&disk), &dir, good.as_ref().map(Snapshot::blocks).unwrap_or_default());
        let complete = Complete {
            to: good.as_ref().map_or(log.start, |snapshot| snapshot.complete_to),
            stored_at_ms: good.as_ref().map_or(0, |snapshot| snapshot.stored_at_ms),
            replace_snapshot,
        };
        let views = Self {
            disk,
            dir,
            topics: RwLock::default(),
            blocks,
            listed: Mutex::default(),
            marks: Mutex::new(marks),
            last_snapshot: Mutex::new((0, complete.to)),
        };
        if let Some(snapshot) = good {
            views.restore(snapshot);
            // Before the replay: between the snapshot and the log's start is nothing that could fill a gap.
            views.advance_min(log.start);
        }
        Ok((views, complete, counts))
    }

    fn restore(&self, snapshot: Snapshot) {
        let marks = self.marks.lock();
        let mut topics = self.topics.write();
        for (topic, queues) in snapshot.topics {
            // A snapshot may have been taken while the topic was being deleted; if it was made again since, all its
            // records lie behind.
            if marks.0.get(&topic).is_some_and(|deleted_at| *deleted_at >= snapshot.complete_to) {
                self.blocks.release(queues.into_iter().flat_map(|(_, entries)| entries.blocks));
                continue;
            }
            let name: Arc<str> = topic.into();
            let mut restored: Queues = queues
                .into_iter()
                .map(|(id, mut entries)| {
                    entries.listed = true;
                    Arc::new(ConsumeQueue::new(Arc::clone(&name), id, entries))
                })
                .collect();
            restored.sort_by_key(|queue| queue.id());
            self.listed.lock().extend(restored.iter().cloned());
            topics.insert(name, restored);
        }
    }

    /// Shows the views a record that recovery found.
    pub(crate) fn replay(&self, topic: &str, id: QueueId, at: QueueOffset, entry: RawEntry) {
        if self.marks.lock().hide(topic, entry.log_offset()) {
            return;
        }
        let queue = self.queue_or_new(topic, id);
        let (tell, released) = queue.replay(at, entry);
        self.blocks.release(released);
        if tell {
            self.listed.lock().push(queue);
        }
    }

    /// The replay is over; the log reaches from `min` to `end`.
    pub(crate) fn recovered(&self, min: LogOffset, end: LogOffset, counts: Counts) -> io::Result<()> {
        for ((topic, id), next) in counts.0 {
            self.queue_or_new(&topic, id).count_on(next, end);
        }
        self.advance_min(min);
        // A power cut may have taken the end of the log at which a topic was deleted; new records go there now.
        let mut marks = self.marks.lock();
        if marks.0.values().any(|at| *at > end) {
            marks.0.values_mut().for_each(|at| *at = (*at).min(end));
            marks.store(self.disk.as_ref(), &self.dir)?;
        }
        Ok(())
    }

    /// A queue that had a message.
    pub(crate) fn queue(&self, topic: &str, id: QueueId) -> Option<Arc<ConsumeQueue>> {
        let topics = self.topics.read();
        let queues = topics.get(topic)?;
        let index = queues.binary_search_by_key(&id, |queue| queue.id()).ok()?;
        Some(Arc::clone(&queues[index]))
    }

    /// A queue, made if it is new.
    pub(crate) fn queue_or_new(&self, topic: &str, id: QueueId) -> Arc<ConsumeQueue> {
        if let Some(queue) = self.queue(topic, id) {
            return queue;
        }
        let mut topics = self.topics.write();
        let name = topics.get_key_value(topic).map_or_else(|| Arc::from(topic), |(name, _)| Arc::clone(name));
        let queues = topics.entry(Arc::clone(&name)).or_default();
        match queues.binary_search_by_key(&id, |queue| queue.id()) {
            Ok(index) => Arc::clone(&queues[index]),
            Err(index) => {
                let queue = Arc::new(ConsumeQueue::new(name, id, Entries::default()));
                queues.insert(index, Arc::clone(&queue));
                queue
            }
        }
    }

    /// At most `max` entries of a queue.
    pub(crate) fn read(
        &self,
        topic: &str,
        id: QueueId,
        from: QueueOffset,
        max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.queue(topic, id).map_or(Ok(Vec::new()), |queue| queue.read(from, max, &self.blocks))
    }

    /// Adds the next entry of a queue; returns the queue's new end.
    pub(crate) fn push(&self, queue: &Arc<ConsumeQueue>, entry: RawEntry) -> QueueOffset {
        let (next, tell) = queue.push(entry);
        if tell {
            self.listed.lock().push(Arc::clone(queue));
        }
        next
    }

    /// Forgets the queues of a topic. Only for the holder of the log's lock; follow with [`Views::mark_deleted`].
    pub(crate) fn delete(&self, topic: &str) {
        let Some(queues) = self.topics.write().remove(topic) else { return };
        for queue in queues {
            self.blocks.release(queue.delete());
        }
    }

    /// Remembers that records of the topic before `end` belong to no queue. Durable when it returns `Ok`.
    pub(crate) fn mark_deleted(&self, topic: &str, end: LogOffset) -> io::Result<()> {
        let mut marks = self.marks.lock();
        marks.0.insert(topic.to_owned(), end);
        marks.store(self.disk.as_ref(), &self.dir)
    }

    /// The log now starts here: entries of what is before are gone. Only for housekeeping and recovery.
    pub(crate) fn advance_min(&self, min: LogOffset) {
        for queue in self.all().iter().flat_map(|(_, queues)| queues) {
            match queue.advance_min(min, &self.blocks) {
                Ok(released) => self.blocks.release(released),
                Err(error) => {
                    tracing::warn!(topic = queue.topic(), queue_id = %queue.id(), %error, "cannot find where a queue starts now");
                }
            }
        }
    }

    /// Every topic and its queues, which are sorted by id.
    pub(crate) fn all(&self) -> Vec<(Arc<str>, Queues)> {
        self.topics.read().iter().map(|(name, queues)| (Arc::clone(name), queues.clone())).collect()
    }

    /// Is there anything that [`Views::write_out`] may have to write?
    pub(crate) fn is_busy(&self) -> bool {
        !self.listed.lock().is_empty()
    }

    /// Writes full blocks, and all of queues that fell idle. Only for housekeeping. If the disk fails, the entries stay
    /// in memory until the next round.
    pub(crate) fn write_out(&self) -> io::Result<()> {
        let mut listed = std::mem::take(&mut *self.listed.lock());
        let mut result = Ok(());
        let mut kept = Vec::with_capacity(listed.len());
        // In portions, so that not every entry is in memory twice.
        while !listed.is_empty() && result.is_ok() {
            let mut writes = Vec::new();
            let mut writing = Vec::new();
            while writes.len() < 4096
                && let Some(queue) = listed.pop()
            {
                match queue.due(&self.blocks) {
                    Due::Clean => {}
                    Due::Later => kept.push(queue),
                    Due::Write(mut unwritten) => {
                        writes.append(&mut unwritten.writes);
                        writing.push((queue, unwritten));
                    }
                }
            }
            result = self.blocks.write(writes);
            for (queue, unwritten) in writing {
                self.blocks.release(queue.settle(unwritten, result.is_ok()));
                kept.push(queue);
            }
        }
        let mut now = self.listed.lock();
        now.append(&mut listed);
        now.append(&mut kept);
        result
    }

    /// Up to where the last snapshot is complete, and its size.
    pub(crate) fn last_snapshot(&self) -> (u64, LogOffset) {
        *self.last_snapshot.lock()
    }

    /// Writes a snapshot that is complete up to `to`, which must be confirmed and durable in the log. Only for
    /// housekeeping. `log_min` says which marks are not needed any more.
    pub(crate) fn write_snapshot(
        &self,
        to: LogOffset,
        stored_at_ms: i64,
        log_min: LogOffset,
    ) -> io::Result<()> {
        let released = self.blocks.take_released();
        let written = self.try_write_snapshot(to, stored_at_ms);
        let bytes = match written {
            Ok(bytes) => bytes,
            Err(error) => {
                self.blocks.release(released);
                return Err(error);
            }
        };
        self.blocks.reuse(released);
        *self.last_snapshot.lock() = (bytes, to);
        let mut marks = self.marks.lock();
        let before = marks.0.len();
        marks.0.retain(|_, at| *at >= to || *at > log_min);
        if marks.0.len() < before {
            marks.store(self.disk.as_ref(), &self.dir)?;
        }
        Ok(())
    }

    fn try_write_snapshot(&self, to: LogOffset, stored_at_ms: i64) -> io::Result<u64> {
        let all = self.all();
        let mut encoder = Encoder::new(to, stored_at_ms, all.len());
        for (name, queues) in &all {
            encoder.topic(name, queues);
        }
        let content = encoder.finish();
        // The blocks first: the snapshot counts on them.
        self.blocks.sync()?;
        self.disk.sync_dir(&self.dir)?;
        snapshot::store(self.disk.as_ref(), &self.dir, &content)?;
        Ok(content.len() as u64)
    }
}

/// What is kept of the views of a stopped store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A snapshot, complete up to here.
    Snapshot(LogOffset),
    /// There is a snapshot, but it is damaged.
    Damaged,
    Nothing,
}

impl Kept {
    pub(crate) fn of(disk: &dyn Disk, root: &Path) -> io::Result<Self> {
        let dir = root.join("views");
        Ok(match snapshot::load(disk, &dir)? {
            Loaded::Good(snapshot) => Self::Snapshot(snapshot.complete_to),
            Loaded::Stale(_) => Self::Damaged,
            Loaded::Nothing => match disk.read(&snapshot::path(&dir)) {
                Ok(_) => Self::Damaged,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Nothing,
                Err(error) => return Err(error),
            },
        })
    }
}

/// The topics that were deleted while records of theirs are in the log, and the log's end at that time.
pub(crate) struct Deleted(Marks);

impl Deleted {
    pub(crate) fn load(disk: &dyn Disk, root: &Path) -> io::Result<Self> {
        Marks::load(disk, &root.join("views")).map(Self)
    }

    /// Does this record belong to no queue any more?
    pub(crate) fn hides(&self, topic: &str, at: LogOffset) -> bool {
        self.0.hide(topic, at)
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = (&str, LogOffset)> {
        self.0.0.iter().map(|(topic, at)| (topic.as_str(), *at))
    }
}

/// How far queues had counted, by a snapshot that is good for nothing else.
#[derive(Default)]
pub(crate) struct Counts(HashMap<(String, QueueId), u64>);

impl Counts {
    fn note(&mut self, snapshot: &Snapshot, marks: &Marks) {
        for (topic, queues) in &snapshot.topics {
            if marks.0.get(topic).is_none_or(|deleted_at| *deleted_at < snapshot.complete_to) {
                self.0.extend(queues.iter().map(|(id, entries)| ((topic.clone(), *id), entries.next())));
            }
        }
    }
}
