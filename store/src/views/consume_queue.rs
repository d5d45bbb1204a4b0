//! The places of a queue's messages in the log, by queue offset.
//!
//! ```text
//!   min          recent_start    written          next = recent_start + recent.len()      assigned
//!    │ in blocks      │ in blocks   │ in memory only  │  given out, record not confirmed yet │
//!    │                │ and memory  │                 │
//! ```
//!
//! The end of a queue that is in use stays in memory, so that whoever follows it touches no file. Appending touches none
//! either: the store's housekeeping writes full blocks behind its back. A queue that falls idle is written wholly and
//! keeps no entry in memory. What it has beyond its last full block then lies in a block of its own, or, where that would
//! be mostly empty, in a stretch of a block that it shares with other queues:
//!
//! ```text
//!   blocks_start                                 written
//!    │ own block │ own block │ … │ shared stretch │            or      │ own block │ … │ own block, partly filled │
//! ```
//!
//! Two threads matter: the one that confirms pushes, and the housekeeping one moves entries to blocks and `min` forward.
//! Anybody reads and deletes.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::blocks::{BLOCK_ENTRIES, BlockWrite, Blocks};
use super::entries::{Entries, Freed, News};
use super::entry::{RawEntry, Seal, Sealed};
use crate::answers::Entry;
use crate::commit_log::codec::MIN_RECORD_BYTES;
use crate::disk::Reach;
use crate::error::ReadError;
use crate::{LogOffset, QueueId, QueueOffset};

/// A queue does not lose more messages than this to one damaged stretch; a longer jump is another queue's life. Nor are
/// more made up for all queues together that a snapshot knows to be longer.
pub(super) const MAX_HOLES: u64 = 1 << 24;
/// Nor does it lose more than there is room for in between. Somebody may have counted on without a message, but not by
/// more than this.
const MAX_HOLES_WITHOUT_ROOM: u64 = 1 << 16;

/// A queue of a topic.
pub(crate) struct ConsumeQueue {
    topic: Arc<str>,
    id: QueueId,
    /// The next offset to give out. Written by the holder of the log's lock only; `next` follows on dispatch.
    assigned: AtomicU64,
    /// Its topic was deleted. Written by the holder of the log's lock only.
    deleted: AtomicBool,
    pub(super) entries: Mutex<Entries>,
}

/// Entries that were read, one behind the other.
pub(crate) struct Run {
    pub(crate) entries: Vec<Entry>,
    /// Where to go on: all before was looked at.
    pub(crate) next: QueueOffset,
}

/// Why entries cannot be read.
#[derive(Debug)]
pub(super) enum Trouble {
    Read(ReadError),
    /// Those at these queue offsets are not what was written.
    Damaged(Range<u64>),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Read(ReadError::Io(error.to_string()))
    }
}

enum Raw {
    Found(Vec<RawEntry>),
    /// While they were read.
    Moved,
    FurtherAway,
}

impl ConsumeQueue {
    pub(super) fn new(topic: Arc<str>, id: QueueId, entries: Entries) -> Self {
        Self {
            topic,
            id,
            assigned: AtomicU64::new(entries.next()),
            deleted: AtomicBool::new(false),
            entries: Mutex::new(entries),
        }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn id(&self) -> QueueId {
        self.id
    }

    /// Gives out the next offset. Only for the holder of the log's lock.
    pub(crate) fn assign(&self) -> QueueOffset {
        QueueOffset(self.assigned.fetch_add(1, Ordering::Relaxed))
    }

    /// The next offset to give out is this one. Only for the holder of the log's lock, and recovery.
    pub(crate) fn go_on_at(&self, next: QueueOffset) {
        self.assigned.store(next.0, Ordering::Relaxed);
    }

    /// Its topic was deleted.
    pub(super) fn delete(&self) -> Freed {
        self.deleted.store(true, Ordering::Release);
        let mut entries = self.entries.lock();
        entries.deleted = true;
        let next = entries.next();
        entries.restart(next)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Adds the next entry, in this round of housekeeping. Returns the queue's new end; `None`: it was deleted.
    pub(super) fn push(&self, entry: RawEntry, round: u32) -> Option<(QueueOffset, News)> {
        let mut entries = self.entries.lock();
        if entries.deleted {
            return None;
        }
        entries.push(entry);
        entries.pushed_in = round;
        Some((QueueOffset(entries.next()), entries.news()))
    }

    /// Adds an entry that recovery found, unless it is known. Returns how many entries were added, holes included.
    pub(super) fn replay(&self, at: QueueOffset, entry: RawEntry) -> (u64, News, Freed) {
        let mut entries = self.entries.lock();
        let (added, freed) = self.add_at(&mut entries, at, entry);
        if added == 0 {
            return (0, News::default(), freed);
        }
        self.assigned.store(entries.next(), Ordering::Relaxed);
        (added, entries.news(), freed)
    }

    /// The same once the store is open, in this round of housekeeping; what is given out next is not changed. `count` hears
    /// how many entries were added before anybody can take them out again. Returns the queue's new end; `None`: it was
    /// deleted.
    pub(super) fn place(
        &self,
        at: QueueOffset,
        entry: RawEntry,
        round: u32,
        count: impl FnOnce(u64),
    ) -> Option<(QueueOffset, News, Freed)> {
        let mut entries = self.entries.lock();
        if entries.deleted {
            return None;
        }
        let (added, freed) = self.add_at(&mut entries, at, entry);
        count(added);
        entries.pushed_in = round;
        Some((QueueOffset(entries.next()), entries.news(), freed))
    }

    /// Returns how many entries were added, holes included.
    fn add_at(&self, entries: &mut Entries, at: QueueOffset, entry: RawEntry) -> (u64, Freed) {
        let next = entries.next();
        let known = entries.min < next && entry.log_offset().0 <= entries.last_at;
        if known {
            return (0, Freed::default());
        }
        let mut freed = Freed::default();
        // `last_at` may be too high, but never behind a record that is lost: what is known has its entry.
        let room = entry.log_offset().0.saturating_sub(entries.last_at) / MIN_RECORD_BYTES as u64;
        let most_holes = MAX_HOLES.min(room + MAX_HOLES_WITHOUT_ROOM);
        if next != at.0 && (entries.min == next || at.0 < next || at.0 - next > most_holes) {
            // Older messages are gone from the log, or this is another life of the topic, made after a deletion whose
            // mark was lost.
            if entries.min < next {
                tracing::error!(topic = &*self.topic, queue_id = %self.id, %at, next, "queue offsets jump, the queue starts anew here");
            }
            freed = entries.restart(at.0);
        }
        let first = entries.next();
        for _ in first..at.0 {
            entries.push(RawEntry::hole(entry.log_offset()));
        }
        entries.push(entry);
        (entries.next() - first, freed)
    }

    /// It is known to have counted up to `next` before: never give an offset out twice. What is missing was lost at
    /// this place of the log; at most so many holes are made. Returns how many.
    pub(super) fn count_on(&self, next: u64, lost_at: LogOffset, most_holes: u64) -> (u64, News) {
        let mut entries = self.entries.lock();
        let first = entries.next();
        if entries.min == first {
            if first < next {
                entries.restart(next);
                self.assigned.store(next, Ordering::Relaxed);
            }
            return (0, News::default());
        }
        for _ in first..next.min(first + most_holes) {
            entries.push(RawEntry::hole(lost_at));
        }
        self.assigned.store(entries.next(), Ordering::Relaxed);
        (entries.next() - first, entries.news())
    }

    /// A damaged record says so. It may lie, but not where so many may be lost in all.
    pub(super) fn may_have_counted_to(&self, next: u64, lost: u64) -> bool {
        next.saturating_sub(self.entries.lock().next()) <= lost
    }

    pub(crate) fn bounds(&self) -> Range<QueueOffset> {
        let entries = self.entries.lock();
        QueueOffset(entries.min)..QueueOffset(entries.next())
    }

    /// What lies in blocks only.
    pub(super) fn in_blocks(&self) -> Range<u64> {
        let entries = self.entries.lock();
        entries.min.max(entries.blocks_start)..entries.written.min(entries.recent_start)
    }

    /// At most `max` entries from `from` on; holes are left out. `None`: the first of them lies further away.
    pub(super) fn read(
        &self,
        from: QueueOffset,
        max: usize,
        blocks: &Blocks,
        reach: Reach,
    ) -> Result<Option<Run>, Trouble> {
        let mut run = Run { entries: Vec::new(), next: from };
        // A stretch of holes must not look like the queue's end.
        while run.entries.len() < max {
            let at = run.next.0;
            let Some(raw) = self.read_raw(at, max - run.entries.len(), blocks, reach)? else {
                return Ok((run.next > from).then_some(run));
            };
            if raw.is_empty() {
                break;
            }
            let numbered = raw.iter().zip(at..).filter(|(entry, _)| !entry.is_hole());
            run.entries.extend(numbered.map(|(entry, offset)| entry.entry(QueueOffset(offset))));
            run.next = QueueOffset(at + raw.len() as u64);
        }
        Ok(Some(run))
    }

    /// `None`: they lie further away.
    pub(super) fn read_raw(
        &self,
        from: u64,
        max: usize,
        blocks: &Blocks,
        reach: Reach,
    ) -> Result<Option<Vec<RawEntry>>, Trouble> {
        loop {
            match self.try_read_raw(from, max, blocks, reach)? {
                Raw::Found(found) => return Ok(Some(found)),
                Raw::FurtherAway => return Ok(None),
                Raw::Moved => {}
            }
        }
    }

    fn try_read_raw(&self, from: u64, max: usize, blocks: &Blocks, reach: Reach) -> Result<Raw, Trouble> {
        let deleted = |entries: &Entries| ReadError::Deleted { min: QueueOffset(entries.min) }.into();
        let (parts, mut sealed, written, reads_shared) = {
            let entries = self.entries.lock();
            if from < entries.min {
                return Err(deleted(&entries));
            }
            let end = entries.next().min(from.saturating_add(max as u64));
            if from >= end {
                return Ok(Raw::Found(Vec::new()));
            }
            if from >= entries.recent_start {
                let range = (from - entries.recent_start) as usize..(end - entries.recent_start) as usize;
                return Ok(Raw::Found(entries.recent.range(range).copied().collect()));
            }
            if reach == Reach::Memory {
                return Ok(Raw::FurtherAway);
            }
            // What follows in memory comes with the next call.
            let end = end.min(entries.recent_start);
            let sealed = Vec::with_capacity((end - from) as usize);
            (entries.located(from..end), sealed, entries.written, end > entries.own_end())
        };
        // Without the lock: a slow disk must not hold up those who append.
        for (block, index, count) in parts {
            if !blocks.read(block, index, count, &mut sealed, reach)? {
                return Ok(Raw::FurtherAway);
            }
        }
        // What is below `min` and what is deleted gives its blocks to other queues; so does a stretch that was written
        // anew elsewhere, together with more.
        let entries = self.entries.lock();
        match from < entries.min {
            true => Err(deleted(&entries)),
            false if reads_shared && entries.written != written => Ok(Raw::Moved),
            false => self.unseal(from, &sealed).map(Raw::Found),
        }
    }

    pub(super) fn seal(&self) -> Seal {
        Seal::new(&self.topic, self.id)
    }

    /// The entries from `from` on that these bytes were.
    pub(super) fn unseal(&self, from: u64, sealed: &[Sealed]) -> Result<Vec<RawEntry>, Trouble> {
        let seal = self.seal();
        let whole = |(at, sealed): (u64, &Sealed)| RawEntry::unseal(sealed, &seal, at);
        let entries: Vec<_> = (from..).zip(sealed).map(whole).collect();
        let Some(first) = entries.iter().position(Option::is_none) else {
            return Ok(entries.into_iter().flatten().collect());
        };
        let last = entries.iter().rposition(Option::is_none).unwrap_or(first);
        Err(Trouble::Damaged(from + first as u64..from + last as u64 + 1))
    }

    /// Writes these entries, from `from` on, where they lie now.
    pub(super) fn rewrite(&self, from: u64, entries: &[RawEntry], blocks: &Blocks) -> io::Result<()> {
        let seal = self.seal();
        // Held while they are written: otherwise the blocks could be another's by then.
        let kept = self.entries.lock();
        let start = from.max(kept.min).max(kept.blocks_start);
        let end = (from + entries.len() as u64).min(kept.written);
        if kept.deleted || start >= end {
            return Ok(());
        }
        let mut at = start;
        let writes = kept.located(start..end).into_iter().map(|(block, index, count)| {
            let part = (at..at + count).map(|at| entries[(at - from) as usize].seal(&seal, at)).collect();
            at += count;
            BlockWrite { block, index, entries: part }
        });
        blocks.write(writes.collect())
    }

    /// The log now starts here. Only for housekeeping.
    pub(super) fn advance_min(&self, log_min: LogOffset, blocks: &Blocks) -> Result<Freed, Trouble> {
        let (mut low, mut high) = {
            let mut entries = self.entries.lock();
            if entries.min == entries.next() || entries.first_at >= log_min.0 {
                return Ok(Freed::default());
            }
            if entries.last_at < log_min.0 {
                let next = entries.next();
                return Ok(entries.restart(next));
            }
            (entries.min, entries.next())
        };
        // Whatever is pushed meanwhile lies behind `high`, and is left.
        let mut first_at = LogOffset(u64::MAX);
        // Most often few have gone: those of one block are looked at together.
        let mut look = BLOCK_ENTRIES as usize;
        while low < high {
            let middle = if look > 1 { low } else { low + (high - low) / 2 };
            let raw = self.read_raw(middle, look, blocks, Reach::Disk)?.unwrap_or_default();
            if raw.is_empty() {
                return Ok(Freed::default());
            }
            let gone = raw.partition_point(|entry| entry.log_offset() < log_min);
            if let Some(entry) = raw.get(gone) {
                first_at = entry.log_offset();
                high = middle + gone as u64;
            }
            if gone > 0 {
                low = middle + gone as u64;
            }
            look = 1;
        }
        let mut entries = self.entries.lock();
        // Deleted meanwhile, or all looked at is gone but more was pushed: it may be too low, never too high.
        if entries.min > low {
            return Ok(Freed::default());
        }
        Ok(entries.set_min(low, if first_at.0 == u64::MAX { log_min } else { first_at }))
    }
}
