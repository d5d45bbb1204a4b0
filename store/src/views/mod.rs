//! What is derived from the log and can be rebuilt from it: the consume queues of all topics.
//!
//! ```text
//!   push (from dispatch) ─► consume_queue: the end of each queue in memory ─ housekeeping ─► blocks: shared files
//!                                                     └──────────── every so often ────────► snapshot: who has what
//! ```
//!
//! A snapshot says up to which log offset it is complete; opening loads it and replays the log from there.
//!
//! What a queue costs: nothing before its first message; some 340 bytes of memory and 60 of the snapshot once it is idle,
//! however many messages it has; and while it is in use its newest entries, of 20 bytes each, at most four hundred. All
//! queues together hold about two million entries, or four each, before those that wait longest are written out early.

pub(crate) mod blocks;
mod check;
pub(crate) mod consume_queue;
mod counts;
mod deleted;
mod entries;
pub(crate) mod entry;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod housekeeping;
mod in_use;
pub(crate) mod keys;
mod repair;
mod snapshot;
mod stopped;
mod topics;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use blocks::Blocks;
pub(crate) use check::Checking;
pub(crate) use consume_queue::{ConsumeQueue, Run};
use consume_queue::{MAX_HOLES, Trouble};
pub(crate) use counts::Counts;
use deleted::KeptMarks;
use entries::{Freed, News};
pub(crate) use entry::RawEntry;
use in_use::{InUse, Queues};
use snapshot::{Loaded, Snapshot};
pub(crate) use stopped::{Deleted, Kept, cut_back};
use topics::Topics;

use crate::answers::Entry;
use crate::commit_log::CommitLog;
use crate::disk::{Disk, Reach};
use crate::error::{OpenError, ReadError};
use crate::planted::{Bug, is_planted};
use crate::{LogOffset, QueueId, QueueOffset};

/// One look repairs so many damaged stretches.
const MOST_REPAIRS: usize = 64;

fn unreadable(damaged: &Range<u64>) -> ReadError {
    ReadError::Io(format!("the entries from {} to {} are damaged on the disk", damaged.start, damaged.end))
}

/// All queues.
pub(crate) struct Views {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    topics: Topics,
    blocks: Blocks,
    /// What damaged entries are made anew from; set once the log is open.
    log: OnceLock<Arc<CommitLog>>,
    in_use: Mutex<InUse>,
    /// The round of housekeeping.
    round: AtomicU32,
    /// Entries in memory, of all queues, and how many are too many.
    held: AtomicU64,
    most_held: u64,
    deleted: KeptMarks,
    /// Bytes of the last snapshot, and up to where it is complete.
    last_snapshot: Mutex<(u64, LogOffset)>,
    /// Locked while a snapshot is written.
    writing_snapshot: Mutex<()>,
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
        let deleted = KeptMarks::load(disk.as_ref(), &dir).map_err(failed())?;
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
                deleted.look(|marks| counts.note(&snapshot, marks));
            }
            Loaded::Stale(snapshot) => deleted.look(|marks| counts.note(&snapshot, marks)),
            Loaded::Nothing => replace_snapshot = false,
        }
        let (own, shared) = good.as_ref().map(Snapshot::blocks).unwrap_or_default();
        let blocks = Blocks::open(Arc::clone(&disk), &dir, own, shared);
        let complete = Complete {
            to: good.as_ref().map_or(log.start, |snapshot| snapshot.complete_to),
            stored_at_ms: good.as_ref().map_or(0, |snapshot| snapshot.stored_at_ms),
            replace_snapshot,
        };
        let views = Self {
            disk,
            dir,
            topics: Topics::default(),
            blocks,
            log: OnceLock::new(),
            in_use: Mutex::default(),
            round: AtomicU32::new(0),
            held: AtomicU64::new(0),
            most_held: housekeeping::MOST_HELD,
            deleted,
            last_snapshot: Mutex::new((0, complete.to)),
            writing_snapshot: Mutex::default(),
        };
        if let Some(snapshot) = good {
            views.restore(&snapshot);
            // Before the replay: between the snapshot and the log's start is nothing that could fill a gap.
            views.advance_min(log.start);
        }
        Ok((views, complete, counts))
    }

    fn restore(&self, snapshot: &Snapshot) {
        let mut held = 0;
        let mut in_use = self.in_use.lock();
        snapshot.topics(|topic, queues| {
            // A snapshot may have been taken while the topic was being deleted; if it was made again since, all its
            // records lie behind.
            if self.deleted.look(|marks| marks.is_gone(topic, snapshot.complete_to)) {
                self.blocks.release(queues.iter().flat_map(snapshot::StoredQueue::blocks));
                queues
                    .iter()
                    .filter_map(|queue| queue.shared)
                    .for_each(|shared| self.blocks.release_stretch(shared));
                return;
            }
            let restored = self.topics.restore(topic, queues.iter().map(|queue| (queue.id, queue.entries())));
            for queue in restored.into_iter().filter(|queue| queue.held() > 0) {
                held += queue.held();
                in_use.add(queue, 0);
            }
        });
        self.held.fetch_add(held, Ordering::Relaxed);
    }

    /// Shows the views a record that recovery found.
    pub(crate) fn replay(&self, topic: &str, id: QueueId, at: QueueOffset, entry: RawEntry) {
        if self.deleted.look(|marks| marks.hide(topic, entry.log_offset())) {
            return;
        }
        let queue = self.queue_or_new(topic, id);
        let (added, news, freed) = queue.replay(at, entry);
        self.held.fetch_add(added, Ordering::Relaxed);
        self.free(freed);
        self.tell(&queue, news);
    }

    /// The replay is over; the log reaches so far, and all that was replayed is confirmed.
    pub(crate) fn recovered(
        &self,
        log: Range<LogOffset>,
        confirmed: LogOffset,
        counts: Counts,
    ) -> io::Result<()> {
        // Behind the last record that was replayed, and before the next one.
        let lost_at = LogOffset(confirmed.0.saturating_sub(1));
        let mut most_holes = MAX_HOLES;
        let mut count_on = |queue: &Arc<ConsumeQueue>, next| {
            let (added, news) = queue.count_on(next, lost_at, most_holes);
            most_holes -= added;
            self.held.fetch_add(added, Ordering::Relaxed);
            self.tell(queue, news);
        };
        for ((topic, id), next) in counts.stored {
            count_on(&self.queue_or_new(&topic, id), next);
        }
        for ((topic, id), next) in counts.remains {
            // Of a topic that nothing else knows the name may be what rotted.
            let queue = self.topics.is_known(&topic).then(|| self.queue_or_new(&topic, id));
            if let Some(queue) = queue.filter(|queue| queue.may_have_counted_to(next, counts.lost)) {
                count_on(&queue, next);
            }
        }
        self.advance_min(log.start);
        // A power cut may have taken the end of the log at which a topic was deleted; new records go there now.
        if self.deleted.look(|marks| marks.0.values().any(|at| *at > log.end)) {
            self.deleted.change(|marks| marks.values_mut().for_each(|at| *at = (*at).min(log.end)));
        }
        self.deleted.store(self.disk.as_ref(), &self.dir)
    }

    /// A queue that had a message.
    pub(crate) fn queue(&self, topic: &str, id: QueueId) -> Option<Arc<ConsumeQueue>> {
        self.topics.queue(topic, id)
    }

    /// A queue, made if it is new.
    pub(crate) fn queue_or_new(&self, topic: &str, id: QueueId) -> Arc<ConsumeQueue> {
        self.topics.queue_or_new(topic, id)
    }

    /// At most `max` entries of a queue.
    pub(crate) fn read(
        &self,
        topic: &str,
        id: QueueId,
        from: QueueOffset,
        max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let run = self.run(topic, id, from, max, Reach::Disk)?;
        Ok(run.expect("the disk is the furthest that entries lie").entries)
    }

    /// At most `max` entries of a queue. `None`: the first of them lies further away.
    pub(crate) fn run(
        &self,
        topic: &str,
        id: QueueId,
        from: QueueOffset,
        max: usize,
        reach: Reach,
    ) -> Result<Option<Run>, ReadError> {
        let Some(queue) = self.queue(topic, id) else {
            return Ok(Some(Run { entries: Vec::new(), next: from }));
        };
        match queue.read(from, max, &self.blocks, reach) {
            // Making them anew takes the disk.
            Err(Trouble::Damaged(_)) if matches!(reach, Reach::Memory | Reach::PageCache) => Ok(None),
            outcome => self.repaired(&queue, outcome, || queue.read(from, max, &self.blocks, reach)),
        }
    }

    /// The log is open: from now on damaged entries can be made anew from it.
    pub(crate) fn repair_from(&self, log: Arc<CommitLog>) {
        assert!(self.log.set(log).is_ok(), "views have one log");
    }

    /// The outcome; if it is damage, that of another try after each repair.
    fn repaired<T>(
        &self,
        queue: &ConsumeQueue,
        mut outcome: Result<T, Trouble>,
        again: impl Fn() -> Result<T, Trouble>,
    ) -> Result<T, ReadError> {
        for _ in 0..MOST_REPAIRS {
            match outcome {
                Ok(found) => return Ok(found),
                Err(Trouble::Read(error)) => return Err(error),
                Err(Trouble::Damaged(range)) => {
                    let Some(log) = self.log.get() else {
                        return Err(unreadable(&range));
                    };
                    repair::repair(queue, range, log, &self.deleted, &self.blocks)?;
                    outcome = again();
                }
            }
        }
        match outcome {
            Ok(found) => Ok(found),
            Err(Trouble::Read(error)) => Err(error),
            Err(Trouble::Damaged(range)) => Err(unreadable(&range)),
        }
    }

    /// Adds the next entry of a queue; returns the queue's new end. `None`: its topic was deleted.
    pub(crate) fn push(&self, queue: &Arc<ConsumeQueue>, entry: RawEntry) -> Option<QueueOffset> {
        // Before it can be written out and counted down.
        self.held.fetch_add(1, Ordering::Relaxed);
        let Some((next, news)) = queue.push(entry, self.round.load(Ordering::Relaxed)) else {
            self.held.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        self.tell(queue, news);
        Some(next)
    }

    /// Adds an entry that says its queue offset: entries that are missing before it are lost, and if it does not go on
    /// from the queue at all, the queue starts anew with it. Returns the queue's new end. `None`: its topic was deleted.
    pub(crate) fn place(
        &self,
        queue: &Arc<ConsumeQueue>,
        at: QueueOffset,
        entry: RawEntry,
    ) -> Option<QueueOffset> {
        let round = self.round.load(Ordering::Relaxed);
        let count = |added| {
            self.held.fetch_add(added, Ordering::Relaxed);
        };
        let (next, news, freed) = queue.place(at, entry, round, count)?;
        self.free(freed);
        self.tell(queue, news);
        Some(next)
    }

    fn tell(&self, queue: &Arc<ConsumeQueue>, News { in_use, full }: News) {
        if in_use || full {
            let mut list = self.in_use.lock();
            if in_use {
                list.add(Arc::clone(queue), self.round.load(Ordering::Relaxed));
            }
            if full {
                list.add_full(Arc::clone(queue));
            }
        }
    }

    fn free(&self, Freed { blocks, shared, held }: Freed) {
        if !blocks.is_empty() {
            self.blocks.release(blocks);
        }
        if let Some(shared) = shared {
            self.blocks.release_stretch(shared);
        }
        self.held.fetch_sub(held, Ordering::Relaxed);
    }

    /// Forgets the queues of a topic: records of it before `end` belong to no queue. Only for the holder of the log's lock,
    /// who knows that it ends there; follow with [`Views::store_deleted`] if it returns that there may be any.
    pub(crate) fn delete(&self, topic: &str, end: LogOffset) -> bool {
        let queues = self.topics.remove(topic);
        // Of one that was deleted before there may be records since that were in no queue.
        if queues.is_empty() && !self.deleted.look(|marks| marks.0.get(topic).is_some_and(|at| *at < end)) {
            return false;
        }
        queues.iter().for_each(|queue| self.free(queue.delete()));
        // Before the log grows: whoever copies it learns of the deletion before he copies what lies behind.
        self.deleted.change(|marks| {
            marks.insert(topic.to_owned(), end);
        });
        true
    }

    /// What topics were deleted is durable when it returns `Ok`.
    pub(crate) fn store_deleted(&self) -> io::Result<()> {
        self.deleted.store(self.disk.as_ref(), &self.dir)
    }

    /// Grows with every change of what [`Views::deleted`] says.
    pub(crate) fn deletions(&self) -> u64 {
        self.deleted.changes()
    }

    /// The topics that were deleted while records of theirs are in the log, and its end at that time.
    pub(crate) fn deleted(&self) -> Vec<(String, LogOffset)> {
        self.deleted.look(|marks| marks.0.iter().map(|(topic, at)| (topic.clone(), *at)).collect())
    }

    /// The log now starts here: entries of what is before are gone. Only for housekeeping and recovery. False: some queue
    /// could not find out where it starts, and does not know yet.
    pub(crate) fn advance_min(&self, min: LogOffset) -> bool {
        let mut all_know = true;
        for queue in self.all().flat_map(|(_, queues)| queues) {
            let outcome = queue.advance_min(min, &self.blocks);
            match self.repaired(&queue, outcome, || queue.advance_min(min, &self.blocks)) {
                Ok(freed) => self.free(freed),
                Err(error) => {
                    tracing::warn!(topic = queue.topic(), queue_id = %queue.id(), %error, "cannot find where a queue starts now");
                    all_know = false;
                }
            }
        }
        all_know
    }

    /// Every topic and its queues, which are sorted by id.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Arc<str>, Queues)> {
        self.topics.portions().flatten()
    }

    /// Does this record belong to a deleted life of its topic?
    pub(crate) fn hides(&self, topic: &str, at: LogOffset) -> bool {
        self.deleted.look(|marks| marks.hide(topic, at))
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
        let _one_at_a_time = self.writing_snapshot.lock();
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
        let needed = |at: &LogOffset| *at >= to || *at > log_min;
        if self.deleted.look(|marks| !marks.0.values().all(needed)) {
            self.deleted.change(|marks| marks.retain(|_, at| needed(at)));
        }
        self.deleted.store(self.disk.as_ref(), &self.dir)
    }

    fn try_write_snapshot(&self, to: LogOffset, stored_at_ms: i64) -> io::Result<u64> {
        let mut writer = snapshot::Writer::new(self.disk.as_ref(), &self.dir, to, stored_at_ms)?;
        for (name, queues) in self.all() {
            writer.topic(&name, &queues)?;
        }
        // The blocks first: the snapshot counts on them.
        if !is_planted(Bug::SkipBlockSync) {
            self.blocks.sync()?;
        }
        self.disk.sync_dir(&self.dir)?;
        writer.finish()
    }
}

#[cfg(test)]
mod tests;
