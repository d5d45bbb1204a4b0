//! What a queue keeps of its entries, in memory and in blocks. The picture is in [`consume_queue`](super::consume_queue).

use std::collections::VecDeque;
use std::ops::Range;

use super::blocks::{BLOCK_ENTRIES, BlockId, Stretch};
use super::entry::RawEntry;
use crate::LogOffset;

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
    /// Where the last entries before `written` lie, from the end of the last own block on. All own blocks are full then.
    pub(super) shared: Option<Stretch>,
    /// All before are in blocks.
    pub(super) written: u64,
    pub(super) recent_start: u64,
    pub(super) recent: VecDeque<RawEntry>,
    /// The round of housekeeping before the last push.
    pub(super) pushed_in: u32,
    /// Housekeeping will look at it once it is idle.
    pub(super) listed: bool,
    /// Housekeeping was told that a block is full.
    pub(super) told_full: bool,
    pub(super) deleted: bool,
}

/// What housekeeping must hear of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// It is in use, and was not.
    pub(super) in_use: bool,
    /// It has a full block to write.
    pub(super) full: bool,
}

/// What a queue does not need any more.
#[derive(Debug, Default)]
pub(super) struct Freed {
    pub(super) blocks: Vec<BlockId>,
    pub(super) shared: Option<Stretch>,
    /// So many entries are no longer in memory.
    pub(super) held: u64,
}

impl Entries {
    pub(super) fn next(&self) -> u64 {
        self.recent_start + self.recent.len() as u64
    }

    pub(super) fn push(&mut self, entry: RawEntry) {
        if self.min == self.next() {
            self.first_at = entry.log_offset().0;
        }
        self.last_at = entry.log_offset().0;
        self.recent.push_back(entry);
    }

    /// After pushes: what housekeeping has not heard yet.
    pub(super) fn news(&mut self) -> News {
        let in_use = !std::mem::replace(&mut self.listed, true);
        let full = !self.told_full && self.full_end() > self.written;
        self.told_full |= full;
        News { in_use, full }
    }

    /// The end of the last full block.
    pub(super) fn full_end(&self) -> u64 {
        let next = self.next();
        next - (next - self.blocks_start) % BLOCK_ENTRIES
    }

    /// The end of the own blocks, were they full.
    pub(super) fn own_end(&self) -> u64 {
        self.blocks_start + self.blocks.len() as u64 * BLOCK_ENTRIES
    }

    /// Empty, and to go on at `next`.
    pub(super) fn restart(&mut self, next: u64) -> Freed {
        let freed = Freed {
            blocks: std::mem::take(&mut self.blocks),
            shared: self.shared,
            held: self.recent.len() as u64,
        };
        let (pushed_in, listed, told_full, deleted) =
            (self.pushed_in, self.listed, self.told_full, self.deleted);
        *self = Self {
            min: next,
            blocks_start: next,
            written: next,
            recent_start: next,
            pushed_in,
            listed,
            told_full,
            deleted,
            ..Self::default()
        };
        freed
    }

    /// Moves `min`.
    pub(super) fn set_min(&mut self, min: u64, first_at: LogOffset) -> Freed {
        if min >= self.next() {
            return self.restart(self.next());
        }
        self.min = min;
        self.first_at = first_at.0;
        let held = self.forget_before(min);
        if self.written <= min {
            self.written = min;
            self.blocks_start = min;
            return Freed { blocks: std::mem::take(&mut self.blocks), shared: self.shared.take(), held };
        }
        let gone = (min - self.blocks_start) / BLOCK_ENTRIES;
        self.blocks_start += gone * BLOCK_ENTRIES;
        Freed { blocks: self.blocks.drain(..gone as usize).collect(), shared: None, held }
    }

    /// Takes entries before `to` out of memory. Returns how many.
    pub(super) fn forget_before(&mut self, to: u64) -> u64 {
        let count = to.saturating_sub(self.recent_start);
        self.recent.drain(..count as usize);
        self.recent_start += count;
        let (len, capacity) = (self.recent.len(), self.recent.capacity());
        if len == 0 || (capacity > 4 * len && capacity > 16) {
            self.recent.shrink_to(len);
        }
        count
    }

    /// The blocks that hold `range`, which lies below `written`: block, first index, count.
    pub(super) fn located(&self, range: Range<u64>) -> Vec<(BlockId, u64, u64)> {
        let mut parts = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let place = at - self.blocks_start;
            let part = match self.blocks.get((place / BLOCK_ENTRIES) as usize) {
                Some(block) => {
                    let index = place % BLOCK_ENTRIES;
                    (*block, index, (BLOCK_ENTRIES - index).min(range.end - at))
                }
                None => {
                    let stretch = self.shared.expect("what is in no own block is in a shared one");
                    let index = u64::from(stretch.index) + at - self.own_end();
                    (stretch.block, index, range.end - at)
                }
            };
            parts.push(part);
            at += part.2;
        }
        parts
    }
}
