//! Housekeeping: writes entries behind the back of whoever appends, and takes out of memory what need not be there.

use std::io;
use std::sync::atomic::Ordering;

use super::Views;
use super::blocks::{BLOCK_ENTRIES, BlockId, BlockWrite, Blocks, Stretch};
use super::consume_queue::{ConsumeQueue, Trouble};
use super::entries::Freed;
use super::entry::RawEntry;
use super::in_use::{self, Queues};
use crate::disk::Reach;

/// With more entries in memory than this, queues are written out before they are idle: about 50 MB.
pub(super) const MOST_HELD: u64 = 2 << 20;
/// The same for each queue, where there are more queues: what goes with one write of a queue is worth the write.
const MOST_HELD_EACH: u64 = 4;
/// While too much is in memory, a queue that was not pushed to for so many rounds keeps nothing there.
const PRESSED_IDLE_ROUNDS: u32 = 5;
/// Blocks that are written together.
const PORTION: usize = 4096;
/// So many entries that are written already stay in memory while a queue is in use.
const KEEP_RECENT: u64 = BLOCK_ENTRIES;
/// The same while too much is in memory.
const KEEP_PRESSED: u64 = 16;
/// What an idle queue has beyond its last full block shares a block with others up to so many entries.
const MOST_SHARED: u64 = BLOCK_ENTRIES / 4;

/// What housekeeping wants of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Write all, or full blocks only.
    all: bool,
    /// Of what is written, keep so many entries in memory.
    keep: u64,
}

impl Wish {
    /// For a queue with a full block.
    pub(super) const FULL: Self = Self { all: false, keep: KEEP_RECENT };
    /// For an idle queue.
    pub(super) const IDLE: Self = Self { all: true, keep: 0 };
    /// For a queue in use while too much is in memory.
    pub(super) const PRESSED: Self = Self { all: true, keep: KEEP_PRESSED };
}

/// What is to be written of a queue.
pub(super) struct Unwritten {
    pub(super) writes: Vec<BlockWrite>,
    new_blocks: Vec<BlockId>,
    shared: Option<Stretch>,
    written: u64,
    wish: Wish,
}

/// What housekeeping finds when it looks at a queue.
pub(super) enum Due {
    Nothing(Freed),
    Write(Unwritten),
}

impl ConsumeQueue {
    /// Entries in memory.
    pub(super) fn held(&self) -> u64 {
        self.entries.lock().recent.len() as u64
    }

    /// The round of housekeeping before the last push.
    pub(super) fn pushed_in(&self) -> u32 {
        self.entries.lock().pushed_in
    }

    /// What is to be written now, in blocks taken for it. Only for housekeeping.
    pub(super) fn due(&self, wish: Wish, blocks: &Blocks) -> Result<Due, Trouble> {
        let mut fetched = None;
        loop {
            let before =
                fetched.as_ref().map(|(stretch, entries): &(_, Vec<_>)| (*stretch, entries.as_slice()));
            match self.try_due(wish, before, blocks) {
                Ok(due) => return Ok(due),
                Err(stretch) => {
                    let mut sealed = Vec::with_capacity(usize::from(stretch.count));
                    let (index, count) = (stretch.index.into(), stretch.count.into());
                    blocks.read(stretch.block, index, count, &mut sealed, Reach::Disk)?;
                    // Only this thread moves a stretch, so these are the last before `written`.
                    let first = self.entries.lock().written - u64::from(stretch.count);
                    fetched = Some((stretch, self.unseal(first, &sealed)?));
                }
            }
        }
    }

    /// `Err`: the entries of this stretch are needed, to be written together with what follows.
    fn try_due(
        &self,
        wish: Wish,
        fetched: Option<(Stretch, &[RawEntry])>,
        blocks: &Blocks,
    ) -> Result<Due, Stretch> {
        let mut entries = self.entries.lock();
        entries.told_full = false;
        if entries.deleted {
            return Ok(Due::Nothing(Freed::default()));
        }
        if wish.all && wish.keep > 0 && entries.recent.len() as u64 <= wish.keep {
            return Ok(Due::Nothing(Freed::default()));
        }
        let end = if wish.all { entries.next() } else { entries.full_end() };
        if end <= entries.written {
            let held = entries.forget_before(end.saturating_sub(wish.keep));
            entries.listed &= !(wish.all && entries.recent.is_empty());
            return Ok(Due::Nothing(Freed { held, ..Freed::default() }));
        }
        let before: &[RawEntry] = match (entries.shared, fetched) {
            (None, _) => &[],
            (Some(shared), Some((stretch, before))) if shared == stretch => before,
            (Some(shared), _) => return Err(shared),
        };
        let mut unwritten =
            Unwritten { writes: Vec::new(), new_blocks: Vec::new(), shared: None, written: end, wish };
        let seal = self.seal();
        let mut at = entries.written - before.len() as u64;
        while at < end {
            let place = at - entries.blocks_start;
            let (number, index) = ((place / BLOCK_ENTRIES) as usize, place % BLOCK_ENTRIES);
            let count = (BLOCK_ENTRIES - index).min(end - at);
            let (block, index) = match entries.blocks.get(number) {
                Some(block) => (*block, index),
                None if count <= MOST_SHARED => {
                    let stretch = blocks.share(count as u8);
                    unwritten.shared = Some(stretch);
                    (stretch.block, u64::from(stretch.index))
                }
                None => {
                    let block = blocks.allocate();
                    unwritten.new_blocks.push(block);
                    (block, 0)
                }
            };
            let part = (at..at + count)
                .map(|offset| match offset.checked_sub(entries.written) {
                    Some(_) => entries.recent[(offset - entries.recent_start) as usize],
                    None => before[before.len() - (entries.written - offset) as usize],
                })
                .zip(at..)
                .map(|(entry, at)| entry.seal(&seal, at))
                .collect();
            unwritten.writes.push(BlockWrite { block, index, entries: part });
            at += count;
        }
        Ok(Due::Write(unwritten))
    }

    /// What [`ConsumeQueue::due`] gave is written, or could not be.
    pub(super) fn settle(&self, unwritten: Unwritten, written: bool) -> Freed {
        let Unwritten { writes: _, new_blocks, shared, written: end, wish } = unwritten;
        let mut entries = self.entries.lock();
        if entries.deleted || !written {
            return Freed { blocks: new_blocks, shared, held: 0 };
        }
        entries.blocks.extend(new_blocks);
        let shared = std::mem::replace(&mut entries.shared, shared);
        entries.written = end;
        let keep = if entries.next() == end { wish.keep } else { wish.keep.max(KEEP_PRESSED) };
        let held = entries.forget_before(end.saturating_sub(keep));
        entries.listed &= !(wish.all && entries.recent.is_empty());
        Freed { blocks: Vec::new(), shared, held }
    }

    /// The round of its last push, if housekeeping must look again then; `None`: at the next push.
    pub(super) fn looked_at(&self) -> Option<u32> {
        let entries = self.entries.lock();
        (entries.listed && !entries.deleted).then_some(entries.pushed_in)
    }

    /// The full block could not be written. Returns whether it is to be tried again.
    pub(super) fn still_full(&self) -> bool {
        let mut entries = self.entries.lock();
        !entries.deleted && !std::mem::replace(&mut entries.told_full, true)
    }
}

impl Views {
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
}

/// What is wished of a queue whose turn has come.
fn is_idle(queue: &ConsumeQueue, round: u32) -> Option<Wish> {
    (round > queue.pushed_in() + in_use::IDLE_ROUNDS).then_some(Wish::IDLE)
}
