//! Where entries lie that are no longer in memory: blocks of 4 KiB in files that all queues share.
//!
//! ```text
//!   views/blocks-00000 (64 MiB):  │ block 0 │ block 1 │ block 2 │ …      204 entries to a block, 16 bytes free
//! ```
//!
//! A block is one queue's. Only what idle queues have beyond their last full block is put together, a stretch for each
//! queue, so that a million queues of a few messages take megabytes and not gigabytes. A shared block is filled from its
//! start, and free when no stretch of it is in use.
//!
//! Which block is whose, and how much of it counts, only the snapshot says. So a block that nobody needs any more may be
//! used again only after a snapshot without it is durable; and a block that is partly filled may be filled further in
//! place, because what a snapshot counts of it is never written again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::entry::{ENTRY_BYTES, Sealed};
use crate::disk::{Disk, File, Reach};
use crate::reads::read_and_drop;

/// Entries that fit a block.
pub(crate) const BLOCK_ENTRIES: u64 = 204;
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// Blocks of a file.
const FILE_BLOCKS: u32 = 16_384;
/// Neighbouring blocks are written with one call, up to this many bytes.
const WRITE_BYTES: usize = 1 << 20;
/// So much is written between two syncs: it is kept until it is durable.
const UNSYNCED_BYTES: usize = 4 << 20;

/// A block, numbered through all files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockId(pub(crate) u32);

impl BlockId {
    /// No block has a higher number.
    pub(crate) const LAST: u32 = u32::MAX - 1;

    fn file(self) -> usize {
        (self.0 / FILE_BLOCKS) as usize
    }

    fn at(self) -> u64 {
        u64::from(self.0 % FILE_BLOCKS) * BLOCK_BYTES
    }
}

/// A queue's part of a block that it shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stretch {
    pub(crate) block: BlockId,
    pub(crate) index: u8,
    pub(crate) count: u8,
}

impl Stretch {
    /// Index behind the last entry.
    pub(crate) fn end(self) -> u64 {
        u64::from(self.index) + u64::from(self.count)
    }
}

/// Entries to write to a block, from its `index`-th place on.
pub(crate) struct BlockWrite {
    pub(crate) block: BlockId,
    pub(crate) index: u64,
    pub(crate) entries: Vec<Sealed>,
}

pub(crate) struct Blocks {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// By number. A snapshot may name any block: only files that are used are opened.
    files: RwLock<BTreeMap<usize, Arc<dyn File>>>,
    room: Mutex<Room>,
    unsynced: Mutex<Unsynced>,
}

#[derive(Default)]
struct Room {
    /// Numbers of blocks in no queue and in no snapshot, in stretches: a far block costs no room for all before it. The
    /// lowest last, so that it is used first.
    free: Vec<Range<u32>>,
    /// In no queue, but maybe in the snapshot.
    released: Vec<BlockId>,
    /// How many stretches of each shared block are in use.
    shared: HashMap<BlockId, u32>,
    /// The shared block that is being filled, and up to which index.
    filling: Option<(BlockId, u64)>,
    /// No block from here on was ever used.
    end: u32,
}

/// What was written since the last sync.
#[derive(Default)]
struct Unsynced {
    runs: Vec<Run>,
    bytes: usize,
    /// A sync of it failed. The kernel may take its pages for clean now, so it is written again before the next one.
    failed: bool,
}

/// Neighbouring bytes of a file.
struct Run {
    file: usize,
    at: u64,
    bytes: Vec<u8>,
}

impl Room {
    fn take(&mut self) -> BlockId {
        let Some(lowest) = self.free.last_mut() else {
            self.end = self.end.checked_add(1).expect("queues have fewer than 4 billion blocks");
            return BlockId(self.end - 1);
        };
        let block = BlockId(lowest.start);
        lowest.start += 1;
        if lowest.start == lowest.end {
            self.free.pop();
        }
        block
    }

    /// Nobody knows these any more.
    fn free(&mut self, blocks: Vec<BlockId>) {
        self.free.extend(blocks.into_iter().map(|block| block.0..block.0 + 1));
        self.free.sort_unstable_by_key(|stretch| std::cmp::Reverse(stretch.start));
        self.free.dedup_by(|lower, higher| {
            let together = lower.end == higher.start;
            if together {
                higher.start = lower.start;
            }
            together
        });
    }

    /// The shared block is filled, or one of its stretches is not in use any more.
    fn release_if_unused(&mut self, block: BlockId) {
        if self.shared.get(&block) == Some(&0) && self.filling.is_none_or(|(filling, _)| filling != block) {
            self.shared.remove(&block);
            self.released.push(block);
        }
    }
}

impl Blocks {
    /// `own` and `shared` are the snapshot's, each block once; all other blocks are free.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, mut own: Vec<BlockId>, shared: &[Stretch]) -> Self {
        let mut room = Room::default();
        for stretch in shared {
            *room.shared.entry(stretch.block).or_default() += 1;
        }
        own.extend(room.shared.keys());
        own.sort_unstable();
        for block in own {
            room.free.push(room.end..block.0);
            room.end = block.0 + 1;
        }
        room.free.retain(|stretch| !stretch.is_empty());
        room.free.reverse();
        Self {
            disk,
            dir: dir.to_path_buf(),
            files: RwLock::default(),
            room: Mutex::new(room),
            unsynced: Mutex::default(),
        }
    }

    /// Takes a free block, low ones first.
    pub(crate) fn allocate(&self) -> BlockId {
        self.room.lock().take()
    }

    /// Takes room for `count` entries in a shared block.
    pub(crate) fn share(&self, count: u8) -> Stretch {
        let mut room = self.room.lock();
        let filling = room.filling.filter(|(_, end)| end + u64::from(count) <= BLOCK_ENTRIES);
        let (block, index) = filling.unwrap_or_else(|| {
            let filled = room.filling.take();
            filled.into_iter().for_each(|(block, _)| room.release_if_unused(block));
            (room.take(), 0)
        });
        room.filling = Some((block, index + u64::from(count)));
        *room.shared.entry(block).or_default() += 1;
        Stretch { block, index: index as u8, count }
    }

    /// These are in no queue any more.
    pub(crate) fn release(&self, blocks: impl IntoIterator<Item = BlockId>) {
        self.room.lock().released.extend(blocks);
    }

    /// This is no queue's any more.
    pub(crate) fn release_stretch(&self, stretch: Stretch) {
        let mut room = self.room.lock();
        *room.shared.get_mut(&stretch.block).expect("a stretch in use is counted") -= 1;
        room.release_if_unused(stretch.block);
    }

    /// What was released until now; give it back by [`Blocks::reuse`] once a snapshot made after this is durable, or by
    /// [`Blocks::release`] if it failed.
    pub(crate) fn take_released(&self) -> Vec<BlockId> {
        std::mem::take(&mut self.room.lock().released)
    }

    /// No snapshot knows these.
    pub(crate) fn reuse(&self, blocks: Vec<BlockId>) {
        self.room.lock().free(blocks);
    }

    /// Writes, neighbours together. Not durable before [`Blocks::sync`].
    pub(crate) fn write(&self, mut writes: Vec<BlockWrite>) -> io::Result<()> {
        writes.sort_by_key(|write| (write.block, write.index));
        let mut unsynced = self.unsynced.lock();
        let mut run: Option<Run> = None;
        for BlockWrite { block, index, entries } in writes {
            let (file, at) = (block.file(), block.at() + index * ENTRY_BYTES as u64);
            let follows = |run: &mut Run| (run.file, run.at + run.bytes.len() as u64) == (file, at);
            if let Some(full) = run.take_if(|run| !follows(run) || run.bytes.len() >= WRITE_BYTES) {
                self.write_run(full, &mut unsynced)?;
            }
            let run = run.get_or_insert_with(|| Run { file, at, bytes: Vec::new() });
            run.bytes.extend_from_slice(entries.as_flattened());
            if index + entries.len() as u64 == BLOCK_ENTRIES {
                let padding = (BLOCK_BYTES - BLOCK_ENTRIES * ENTRY_BYTES as u64) as usize;
                run.bytes.resize(run.bytes.len() + padding, 0);
            }
        }
        run.map_or(Ok(()), |run| self.write_run(run, &mut unsynced))
    }

    fn write_run(&self, run: Run, unsynced: &mut Unsynced) -> io::Result<()> {
        if unsynced.bytes >= UNSYNCED_BYTES {
            self.make_durable(unsynced)?;
        }
        self.file(run.file)?.write_at(run.at, &run.bytes)?;
        unsynced.bytes += run.bytes.len();
        unsynced.runs.push(run);
        Ok(())
    }

    /// Reads `count` entries of a block from its `index`-th place on. False: they lie further away.
    pub(crate) fn read(
        &self,
        block: BlockId,
        index: u64,
        count: u64,
        into: &mut Vec<Sealed>,
        reach: Reach,
    ) -> io::Result<bool> {
        let mut bytes = [0; BLOCK_BYTES as usize];
        let bytes = &mut bytes[..count as usize * ENTRY_BYTES];
        let at = block.at() + index * ENTRY_BYTES as u64;
        let read = match reach {
            Reach::Memory => false,
            Reach::PageCache => match self.files.read().get(&block.file()) {
                Some(file) => file.read_cached_at(at, bytes)? == bytes.len(),
                None => false,
            },
            Reach::Disk => self.read_from_disk(block, at, bytes)?,
            Reach::DiskOnce => {
                // All of its page, which can be dropped then; the last block of a file may have no more than its entries.
                let mut page = [0; BLOCK_BYTES as usize];
                match read_and_drop(&*self.file(block.file())?, block.at(), &mut page) {
                    Ok(()) => {
                        let start = index as usize * ENTRY_BYTES;
                        bytes.copy_from_slice(&page[start..start + bytes.len()]);
                        true
                    }
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        self.read_from_disk(block, at, bytes)?
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if read {
            into.extend_from_slice(bytes.as_chunks::<ENTRY_BYTES>().0);
        }
        Ok(read)
    }

    fn read_from_disk(&self, block: BlockId, at: u64, bytes: &mut [u8]) -> io::Result<bool> {
        match self.file(block.file())?.read_at(at, bytes) {
            // The file lost its end. Zeros are damaged entries, and those are made anew.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => bytes.fill(0),
            read => read?,
        }
        Ok(true)
    }

    /// Makes durable what was written.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.make_durable(&mut self.unsynced.lock())
    }

    fn make_durable(&self, unsynced: &mut Unsynced) -> io::Result<()> {
        if unsynced.failed {
            for run in &unsynced.runs {
                self.file(run.file)?.write_at(run.at, &run.bytes)?;
            }
        }
        let files: BTreeSet<_> = unsynced.runs.iter().map(|run| run.file).collect();
        unsynced.failed = true;
        for file in files {
            self.file(file)?.sync()?;
        }
        *unsynced = Unsynced::default();
        Ok(())
    }

    fn file(&self, index: usize) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.files.read().get(&index) {
            return Ok(Arc::clone(file));
        }
        let path = self.dir.join(format!("blocks-{index:05}"));
        let file = self.disk.open(&path)?;
        Ok(Arc::clone(self.files.write().entry(index).or_insert(file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn a_far_block_costs_no_room_for_those_before_it() {
        let disk = MemoryDisk::default();
        let own = vec![BlockId(3), BlockId(BlockId::LAST)];
        let blocks = Blocks::open(Arc::new(disk.clone()), Path::new("/views"), own, &[]);
        assert_eq!(blocks.room.lock().free, [4..BlockId::LAST, 0..3]);
        assert_eq!([(); 5].map(|()| blocks.allocate().0), [0, 1, 2, 4, 5]);
        blocks.reuse(vec![BlockId(4), BlockId(1), BlockId(0), BlockId(5)]);
        assert_eq!(blocks.room.lock().free, [4..BlockId::LAST, 0..2]);
        let mut entries = Vec::new();
        assert!(blocks.read(BlockId(BlockId::LAST), 0, 1, &mut entries, Reach::Disk).unwrap());
        assert_eq!(entries, [[0; ENTRY_BYTES]], "a file without it: damaged, and made anew");
        assert_eq!(disk.paths(), [Path::new("/views/blocks-262143")]);
    }
}
