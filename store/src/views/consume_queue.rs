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
//! keeps no entry in memory.
//!
//! Two threads matter: the one that confirms pushes, and the housekeeping one moves entries to blocks and `min` forward.
//! Anybody reads and deletes.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::blocks::{BLOCK_ENTRIES, BlockId, BlockWrite, Blocks};
use super::entry::RawEntry;
use crate::answers::Entry;
use crate::error::ReadError;
use crate::{LogOffset, QueueId, QueueOffset};

/// So many entries that are written already stay in memory while a queue is in use.
const KEEP_RECENT: u64 = BLOCK_ENTRIES;
/// After so many rounds of housekeeping without a push a queue is idle.
const IDLE_ROUNDS: u8 = 60;
/// A queue does not lose more messages than this to one damaged stretch; a longer jump is another queue's life.
const MAX_HOLES: u64 = 1 << 24;

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

/// What a queue keeps. All numbers are queue offsets.
#[derive(Default)]
pub(super) struct Entries {
    /// First that is left.
    pub(super) min: u64,
    /// Place in the log of the first that is left; may be too low.
    pub(super) first_at: u64,
    /// Place in the log of the last; may be too high.
    pub(super) last_at: u64,
    /// First of the first block.
    pub(super) blocks_start: u64,
    pub(super) blocks: Vec<BlockId>,
    /// All before are in blocks.
    pub(super) written: u64,
    pub(super) recent_start: u64,
    pub(super) recent: VecDeque<RawEntry>,
    /// Rounds of housekeeping since the last push.
    pub(super) idle_rounds: u8,
    /// Housekeeping knows that there may be something to write.
    pub(super) listed: bool,
    pub(super) deleted: bool,
}

/// What is to be written of a queue.
pub(super) struct Unwritten {
    pub(super) writes: Vec<BlockWrite>,
    new_blocks: Vec<BlockId>,
    written: u64,
    idle: bool,
}

/// What housekeeping finds when it looks at a queue.
pub(super) enum Due {
    /// Nothing to write and nothing in memory: need not be looked at until the next push.
    Clean,
    /// Nothing to write yet.
    Later,
    Write(Unwritten),
}

impl Entries {
    pub(super) fn next(&self) -> u64 {
        self.recent_start + self.recent.len() as u64
    }

    fn push(&mut self, entry: RawEntry) {
        if self.min == self.next() {
            self.first_at = entry.log_offset().0;
        }
        self.last_at = entry.log_offset().0;
        self.recent.push_back(entry);
    }

    /// Empty, and to go on at `next`. Gives back the blocks.
    fn restart(&mut self, next: u64) -> Vec<BlockId> {
        let blocks = std::mem::take(&mut self.blocks);
        let (listed, deleted) = (self.listed, self.deleted);
        *self = Self {
            min: next,
            blocks_start: next,
            written: next,
            recent_start: next,
            listed,
            deleted,
            ..Self::default()
        };
        blocks
    }

    /// Moves `min`. Gives back the blocks that are not needed any more.
    fn set_min(&mut self, min: u64, first_at: LogOffset) -> Vec<BlockId> {
        if min >= self.next() {
            return self.restart(self.next());
        }
        self.min = min;
        self.first_at = first_at.0;
        if self.recent_start < min {
            self.recent.drain(..(min - self.recent_start) as usize);
            self.recent_start = min;
        }
        if self.written <= min {
            self.written = min;
            self.blocks_start = min;
            return std::mem::take(&mut self.blocks);
        }
        let gone = (min - self.blocks_start) / BLOCK_ENTRIES;
        self.blocks_start += gone * BLOCK_ENTRIES;
        self.blocks.drain(..gone as usize).collect()
    }

    /// The blocks that hold `range`, which lies below `written`: block, first index, count.
    fn located(&self, range: Range<u64>) -> Vec<(BlockId, u64, u64)> {
        let mut parts = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let place = at - self.blocks_start;
            let index = place % BLOCK_ENTRIES;
            let count = (BLOCK_ENTRIES - index).min(range.end - at);
            parts.push((self.blocks[(place / BLOCK_ENTRIES) as usize], index, count));
            at += count;
        }
        parts
    }
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

    /// Its topic was deleted. Gives back its blocks.
    pub(super) fn delete(&self) -> Vec<BlockId> {
        self.deleted.store(true, Ordering::Release);
        let mut entries = self.entries.lock();
        entries.deleted = true;
        let next = entries.next();
        entries.restart(next)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Adds the next entry. Returns the queue's new end, and whether housekeeping must hear of it.
    pub(super) fn push(&self, entry: RawEntry) -> (QueueOffset, bool) {
        let mut entries = self.entries.lock();
        entries.push(entry);
        entries.idle_rounds = 0;
        let tell = !std::mem::replace(&mut entries.listed, true);
        (QueueOffset(entries.next()), tell)
    }

    /// Adds an entry that recovery found, unless it is known. Returns whether housekeeping must hear of it, and blocks
    /// that are not needed any more.
    pub(super) fn replay(&self, at: QueueOffset, entry: RawEntry) -> (bool, Vec<BlockId>) {
        let mut entries = self.entries.lock();
        let next = entries.next();
        let known = entries.min < next && entry.log_offset().0 <= entries.last_at;
        if known {
            return (false, Vec::new());
        }
        let mut released = Vec::new();
        if next != at.0 && (entries.min == next || at.0 < next || at.0 - next > MAX_HOLES) {
            // Older messages are gone from the log, or this is another life of the topic, made after a deletion whose
            // mark was lost.
            if entries.min < next {
                tracing::error!(topic = &*self.topic, queue_id = %self.id, %at, next, "queue offsets jump, the queue starts anew here");
            }
            released = entries.restart(at.0);
        }
        for _ in entries.next()..at.0 {
            entries.push(RawEntry::hole(entry.log_offset()));
        }
        entries.push(entry);
        self.assigned.store(entries.next(), Ordering::Relaxed);
        (!std::mem::replace(&mut entries.listed, true), released)
    }

    /// It is known to have counted up to `next` before: never give an offset out twice. `end` is the log's.
    pub(super) fn count_on(&self, next: u64, end: LogOffset) {
        let mut entries = self.entries.lock();
        if entries.min == entries.next() && entries.next() < next {
            entries.restart(next);
        } else {
            for _ in entries.next()..next.min(entries.next() + MAX_HOLES) {
                entries.push(RawEntry::hole(end));
            }
        }
        self.assigned.store(entries.next(), Ordering::Relaxed);
    }

    pub(crate) fn bounds(&self) -> Range<QueueOffset> {
        let entries = self.entries.lock();
        QueueOffset(entries.min)..QueueOffset(entries.next())
    }

    /// At most `max` entries from `from` on; holes are left out.
    pub(crate) fn read(
        &self,
        from: QueueOffset,
        max: usize,
        blocks: &Blocks,
    ) -> Result<Vec<Entry>, ReadError> {
        let mut at = from.0;
        let mut found = Vec::new();
        // A stretch of holes must not look like the queue's end.
        while found.len() < max {
            let raw = self.read_raw(at, max - found.len(), blocks)?;
            if raw.is_empty() {
                break;
            }
            let numbered = raw.iter().zip(at..).filter(|(entry, _)| !entry.is_hole());
            found.extend(numbered.map(|(entry, offset)| entry.entry(QueueOffset(offset))));
            at += raw.len() as u64;
        }
        Ok(found)
    }

    fn read_raw(&self, from: u64, max: usize, blocks: &Blocks) -> Result<Vec<RawEntry>, ReadError> {
        let deleted = |entries: &Entries| ReadError::Deleted { min: QueueOffset(entries.min) };
        let (parts, mut found) = {
            let entries = self.entries.lock();
            if from < entries.min {
                return Err(deleted(&entries));
            }
            let end = entries.next().min(from.saturating_add(max as u64));
            if from >= end {
                return Ok(Vec::new());
            }
            if from >= entries.recent_start {
                let range = (from - entries.recent_start) as usize..(end - entries.recent_start) as usize;
                return Ok(entries.recent.range(range).copied().collect());
            }
            // What follows in memory comes with the next call.
            let end = end.min(entries.recent_start);
            (entries.located(from..end), Vec::with_capacity((end - from) as usize))
        };
        // Without the lock: a slow disk must not hold up those who append.
        for (block, index, count) in parts {
            blocks.read(block, index, count, &mut found).map_err(|error| ReadError::Io(error.to_string()))?;
        }
        // Only what is below `min` and what is deleted gives its blocks to other queues.
        let entries = self.entries.lock();
        if from < entries.min { Err(deleted(&entries)) } else { Ok(found) }
    }

    /// The log now starts here. Only for housekeeping. Gives back the blocks that are not needed any more.
    pub(super) fn advance_min(&self, log_min: LogOffset, blocks: &Blocks) -> Result<Vec<BlockId>, ReadError> {
        let (mut low, mut high) = {
            let mut entries = self.entries.lock();
            if entries.min == entries.next() || entries.first_at >= log_min.0 {
                return Ok(Vec::new());
            }
            if entries.last_at < log_min.0 {
                let next = entries.next();
                return Ok(entries.restart(next));
            }
            (entries.min, entries.next())
        };
        // Whatever is pushed meanwhile lies behind `high`, and is left.
        let mut first_at = LogOffset(u64::MAX);
        while low < high {
            let middle = low + (high - low) / 2;
            let raw = self.read_raw(middle, 1, blocks)?;
            let Some(entry) = raw.first() else { return Ok(Vec::new()) };
            if entry.log_offset() < log_min {
                low = middle + 1;
            } else {
                first_at = entry.log_offset();
                high = middle;
            }
        }
        let mut entries = self.entries.lock();
        // Deleted meanwhile, or all looked at is gone but more was pushed: it may be too low, never too high.
        if entries.min > low {
            return Ok(Vec::new());
        }
        Ok(entries.set_min(low, if first_at.0 == u64::MAX { log_min } else { first_at }))
    }

    /// What is to be written now, in blocks taken for it. Only for housekeeping, once a round.
    pub(super) fn due(&self, blocks: &Blocks) -> Due {
        let mut entries = self.entries.lock();
        if entries.deleted {
            return Due::Clean;
        }
        entries.idle_rounds = entries.idle_rounds.saturating_add(1);
        let idle = entries.idle_rounds > IDLE_ROUNDS;
        let next = entries.next();
        let end = if idle { next } else { next - (next - entries.blocks_start) % BLOCK_ENTRIES };
        if end <= entries.written {
            if idle {
                let next = entries.next();
                entries.recent = VecDeque::new();
                entries.recent_start = next;
                entries.listed = false;
                return Due::Clean;
            }
            return Due::Later;
        }
        let needed = (end - entries.blocks_start).div_ceil(BLOCK_ENTRIES) as usize;
        let new_blocks = blocks.allocate(needed - entries.blocks.len());
        let mut writes = Vec::new();
        let mut at = entries.written;
        while at < end {
            let place = at - entries.blocks_start;
            let (number, index) = ((place / BLOCK_ENTRIES) as usize, place % BLOCK_ENTRIES);
            let count = (BLOCK_ENTRIES - index).min(end - at);
            let block = entries
                .blocks
                .get(number)
                .copied()
                .unwrap_or_else(|| new_blocks[number - entries.blocks.len()]);
            let from = (at - entries.recent_start) as usize;
            let part = entries.recent.range(from..from + count as usize).copied().collect();
            writes.push(BlockWrite { block, index, entries: part });
            at += count;
        }
        Due::Write(Unwritten { writes, new_blocks, written: end, idle })
    }

    /// What [`ConsumeQueue::due`] gave is written, or could not be. Gives back blocks that are not needed.
    pub(super) fn settle(&self, unwritten: Unwritten, written: bool) -> Vec<BlockId> {
        let Unwritten { writes: _, new_blocks, written: end, idle } = unwritten;
        let mut entries = self.entries.lock();
        if entries.deleted || !written {
            return new_blocks;
        }
        entries.blocks.extend(new_blocks);
        entries.written = end;
        let keep = if idle && entries.next() == end { 0 } else { KEEP_RECENT };
        let drop_to = end.saturating_sub(keep).max(entries.recent_start);
        let dropped = (drop_to - entries.recent_start) as usize;
        entries.recent.drain(..dropped);
        entries.recent_start = drop_to;
        if entries.recent.capacity() > 4 * entries.recent.len().max(BLOCK_ENTRIES as usize)
            || entries.recent.is_empty()
        {
            entries.recent.shrink_to_fit();
        }
        Vec::new()
    }
}
