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
pub(crate) mod consume_queue;
mod deleted;
pub(crate) mod entry;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod in_use;
pub(crate) mod keys;
mod repair;
mod snapshot;
mod topics;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use blocks::Blocks;
pub(crate) use consume_queue::{ConsumeQueue, Run};
use consume_queue::{Due, Freed, MAX_HOLES, News, Trouble, Wish};
use deleted::{KeptMarks, Marks};
pub(crate) use entry::RawEntry;
use in_use::{InUse, Queues};
use snapshot::{Loaded, Snapshot};
use topics::Topics;

use crate::answers::Entry;
use crate::commit_log::CommitLog;
use crate::disk::{Disk, Reach};
use crate::error::{OpenError, ReadError};
use crate::planted::{Bug, is_planted};
use crate::{LogOffset, QueueId, QueueOffset};

/// With more entries in memory than this, queues are written out before they are idle: about 50 MB.
const MOST_HELD: u64 = 2 << 20;
/// The same for each queue, where there are more queues: what goes with one write of a queue is worth the write.
const MOST_HELD_EACH: u64 = 4;
/// While too much is in memory, a queue that was not pushed to for so many rounds keeps nothing there.
const PRESSED_IDLE_ROUNDS: u32 = 5;
/// Blocks that are written together.
const PORTION: usize = 4096;
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
            most_held: MOST_HELD,
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

    /// The replay is over; the log reaches from `min` to `end`.
    pub(crate) fn recovered(&self, min: LogOffset, end: LogOffset, counts: Counts) -> io::Result<()> {
        // Behind the last record that was found, and before the next one.
        let lost_at = LogOffset(end.0.saturating_sub(1));
        let mut most_holes = MAX_HOLES;
        for ((topic, id), next) in counts.0 {
            let queue = self.queue_or_new(&topic, id);
            let (added, news) = queue.count_on(next, lost_at, most_holes);
            most_holes -= added;
            self.held.fetch_add(added, Ordering::Relaxed);
            self.tell(&queue, news);
        }
        self.advance_min(min);
        // A power cut may have taken the end of the log at which a topic was deleted; new records go there now.
        if self.deleted.look(|marks| marks.0.values().any(|at| *at > end)) {
            self.deleted.change(|marks| marks.values_mut().for_each(|at| *at = (*at).min(end)));
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
            Err(Trouble::Damaged(_)) if reach != Reach::Disk => Ok(None),
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

    /// Is there anything that [`Views::write_out`] may have to write?
    pub(crate) fn is_busy(&self) -> bool {
        !self.in_use.lock().is_empty()
    }

    /// A round: writes full blocks, and all of queues that fell idle. Only for housekeeping. If the disk fails, the
    /// entries stay in memory until the next round.
    pub(crate) fn write_out(&self) -> io::Result<()> {
        // If that failed when a topic was deleted.
        self.deleted.store(self.disk.as_ref(), &self.dir)?;
        let round = self.round.fetch_add(1, Ordering::Relaxed) + 1;
        let (full, maybe_idle) = self.in_use.lock().begin(round);
        let full_written = self.write_full(full);
        let idle_written = self.write_in_use(maybe_idle, |queue| is_idle(queue, round));
        full_written.and(idle_written)?;
        self.relieve(round)
    }

    /// Takes entries out of memory until there are not too many, those of the queues first that wait longest.
    fn relieve(&self, round: u32) -> io::Result<()> {
        let most = self.most_held.max(self.topics.count() * MOST_HELD_EACH);
        if self.held.load(Ordering::Relaxed) <= most {
            return Ok(());
        }
        let relieved = || self.held.load(Ordering::Relaxed) <= most / 4 * 3;
        while !relieved() {
            let late = self.in_use.lock().take_late(PORTION);
            if late.is_empty() {
                break;
            }
            self.write_in_use(late, |queue| is_idle(queue, round))?;
        }
        for slot in 0..=in_use::IDLE_ROUNDS as usize {
            if relieved() {
                break;
            }
            let queues = self.in_use.lock().take(slot);
            self.write_in_use(queues, |queue| {
                let pushed_in = queue.pushed_in();
                match round > pushed_in + PRESSED_IDLE_ROUNDS {
                    // It was pushed to since it was put there: others first.
                    _ if in_use::slot_of(pushed_in, round) > slot => None,
                    true => Some(Wish::IDLE),
                    false => Some(Wish::PRESSED),
                }
            })?;
        }
        Ok(())
    }

    fn write_full(&self, queues: Queues) -> io::Result<()> {
        let (queues, result) = self.write_queues(queues, |_| Some(Wish::FULL));
        if result.is_err() {
            let mut in_use = self.in_use.lock();
            queues.into_iter().filter(|queue| queue.still_full()).for_each(|queue| in_use.add_full(queue));
        }
        result
    }

    /// For queues that were taken from the wheel: puts those back that are still in use.
    fn write_in_use(&self, queues: Queues, wish: impl Fn(&ConsumeQueue) -> Option<Wish>) -> io::Result<()> {
        let (queues, result) = self.write_queues(queues, wish);
        let mut in_use = self.in_use.lock();
        for queue in queues {
            if let Some(pushed_in) = queue.looked_at() {
                in_use.add(queue, pushed_in);
            }
        }
        result
    }

    /// Does to each queue what is wished until the disk fails. Gives all back.
    fn write_queues(
        &self,
        mut queues: Queues,
        wish: impl Fn(&ConsumeQueue) -> Option<Wish>,
    ) -> (Queues, io::Result<()>) {
        let mut done = Vec::with_capacity(queues.len());
        let mut result = Ok(());
        // In portions, so that not every entry is in memory twice.
        while result.is_ok() && !queues.is_empty() {
            let (mut writes, mut writing) = (Vec::new(), Vec::new());
            while writes.len() < PORTION
                && let Some(queue) = queues.pop()
            {
                let due = |wish| {
                    let outcome = queue.due(wish, &self.blocks);
                    self.repaired(&queue, outcome, || queue.due(wish, &self.blocks)).map_err(io::Error::other)
                };
                match wish(&queue).map(due) {
                    None => done.push(queue),
                    Some(Ok(Due::Nothing(freed))) => {
                        self.free(freed);
                        done.push(queue);
                    }
                    Some(Ok(Due::Write(mut unwritten))) => {
                        writes.append(&mut unwritten.writes);
                        writing.push((queue, unwritten));
                    }
                    Some(Err(error)) => {
                        result = Err(error);
                        done.push(queue);
                        break;
                    }
                }
            }
            let written = self.blocks.write(writes);
            for (queue, unwritten) in writing {
                self.free(queue.settle(unwritten, written.is_ok()));
                done.push(queue);
            }
            result = result.and(written);
        }
        done.append(&mut queues);
        (done, result)
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

/// What the views of a stopped store keep tells of the log before `to` only, durably: snapshots that tell of more go, and
/// what was deleted behind `to` is not deleted.
pub(crate) fn cut_back(disk: &dyn Disk, root: &Path, to: LogOffset) -> io::Result<()> {
    let dir = root.join("views");
    disk.create_dir(&dir)?;
    let mut marks = Marks::load(disk, &dir)?;
    let deleted_behind = marks.0.values().any(|at| *at > to);
    // A snapshot of such a time lacks the topic also where it tells only of what was before.
    snapshot::remove_beyond(disk, &dir, if deleted_behind { LogOffset(0) } else { to })?;
    // Always: a try that was killed may have changed names before.
    disk.sync_dir(&dir)?;
    if deleted_behind {
        marks.0.retain(|_, at| *at <= to);
        marks.write(disk, &dir)?;
    }
    keys::remove_beyond(disk, root, to)
}

/// What is wished of a queue whose turn has come.
fn is_idle(queue: &ConsumeQueue, round: u32) -> Option<Wish> {
    (round > queue.pushed_in() + in_use::IDLE_ROUNDS).then_some(Wish::IDLE)
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
    /// The queue counts on by itself: entries of it are still to come.
    pub(crate) fn forget(&mut self, queue: &ConsumeQueue) {
        if !self.0.is_empty() {
            self.0.remove(&(queue.topic().to_owned(), queue.id()));
        }
    }

    fn note(&mut self, snapshot: &Snapshot, marks: &Marks) {
        snapshot.topics(|topic, queues| {
            if !marks.is_gone(topic, snapshot.complete_to) {
                self.0.extend(queues.iter().map(|queue| ((topic.to_owned(), queue.id), queue.next)));
            }
        });
    }
}

#[cfg(test)]
mod tests;
