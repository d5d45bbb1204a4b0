//! All queues in one file, so that opening a store reads the end of the log and not all of it.
//!
//! ```text
//!   field             width   big-endian
//!   magic             8       "GANTRYVS"
//!   version           4       3
//!   complete to       8       log offset; every entry of a record before it is in here, and none behind it. Durable.
//!   stored at         8       store time of the last record before it
//!   per topic:        2+n     name
//!     queues          4
//!     per queue:      4       queue id
//!                     8 × 6   min, next, first_at, last_at, blocks_start, written (see consume_queue/)
//!                     4+4n    blocks
//!                     1       entries in a shared block, the last before `written`; 0: none
//!       if not 0:     4+1     that block, and the index in it
//!                     20 × (next − written)  entries that are in no block
//!   end               2       65535: no topic has a name of this length
//!   CRC-32            4       of all before
//! ```
//!
//! Version 1 had the count of topics before them instead of the end, and knew no shared blocks. Entries in the blocks of
//! versions 1 and 2 have no checksum: such a snapshot says only how far queues had counted.
//!
//! Everything in it can be rebuilt from the log, but for one thing: how far a queue has counted whose messages are all
//! deleted. So the snapshot before the last one is kept, and asked for that if the last one is damaged.
//!
//! It is written and read a topic at a time: with a million queues it has a hundred megabytes.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks::{BLOCK_ENTRIES, BlockId, Stretch};
use super::consume_queue::ConsumeQueue;
use super::entries::Entries;
use super::entry::{ENTRY_BYTES, RawEntry};
use crate::commit_log::codec::LAST_QUEUE_OFFSET;
use crate::disk::{Disk, File};
use crate::{LogOffset, QueueId};

const MAGIC: &[u8; 8] = b"GANTRYVS";
const VERSION: u32 = 3;
/// Entries in blocks had no checksum.
const WITHOUT_SEALS: u32 = 2;
const WITHOUT_SHARED_BLOCKS: u32 = 1;
const END: u16 = u16::MAX;
/// So much is written with one call.
const WRITE_BYTES: usize = 1 << 20;

/// Writes a snapshot to a file of its own, which [`Writer::finish`] puts in place.
pub(super) struct Writer<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    file: Arc<dyn File>,
    /// What is not in the file yet, and the bytes that are.
    out: Vec<u8>,
    at: u64,
    crc: crc32fast::Hasher,
    complete_to: LogOffset,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        disk: &'a dyn Disk,
        dir: &'a Path,
        complete_to: LogOffset,
        stored_at_ms: i64,
    ) -> io::Result<Self> {
        match disk.remove(&temp_path(dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(&temp_path(dir))?;
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, VERSION);
        put_u64(&mut out, complete_to.0);
        put_u64(&mut out, stored_at_ms as u64);
        Ok(Self { disk, dir, file, out, at: 0, crc: crc32fast::Hasher::new(), complete_to })
    }

    pub(super) fn topic(&mut self, name: &str, queues: &[Arc<ConsumeQueue>]) -> io::Result<()> {
        self.out.extend_from_slice(&(name.len() as u16).to_be_bytes());
        self.out.extend_from_slice(name.as_bytes());
        put_u32(&mut self.out, queues.len() as u32);
        for queue in queues {
            put_u32(&mut self.out, queue.id().0);
            encode(&mut self.out, &queue.entries.lock(), self.complete_to);
        }
        if self.out.len() < WRITE_BYTES { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> io::Result<()> {
        self.crc.update(&self.out);
        self.file.write_at(self.at, &self.out)?;
        self.at += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// Puts the snapshot in place of the last one, which becomes the previous one. Durable when it returns; its size.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.out.extend_from_slice(&END.to_be_bytes());
        self.write()?;
        let crc = self.crc.clone().finalize();
        put_u32(&mut self.out, crc);
        self.write()?;
        self.file.sync()?;
        match self.disk.rename(&path(self.dir), &previous_path(self.dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.disk.rename(&temp_path(self.dir), &path(self.dir))?;
        self.disk.sync_dir(self.dir)?;
        Ok(self.at)
    }
}

fn encode(out: &mut Vec<u8>, entries: &Entries, complete_to: LogOffset) {
    let before = entries.recent.partition_point(|entry| entry.log_offset() < complete_to);
    let next = entries.recent_start + before as u64;
    assert!(entries.written <= next, "only entries of confirmed records are in blocks");
    let last_at = match before.checked_sub(1) {
        Some(last) => entries.recent[last].log_offset().0,
        // It is in a block. The last record starts before the end in any case.
        None => entries.last_at.min(complete_to.0.saturating_sub(1)),
    };
    let numbers =
        [entries.min.min(next), next, entries.first_at, last_at, entries.blocks_start, entries.written];
    numbers.into_iter().for_each(|number| put_u64(out, number));
    put_u32(out, entries.blocks.len() as u32);
    entries.blocks.iter().for_each(|block| put_u32(out, block.0));
    match entries.shared {
        None => out.push(0),
        Some(Stretch { block, index, count }) => {
            out.push(count);
            put_u32(out, block.0);
            out.push(index);
        }
    }
    let unwritten = (entries.written - entries.recent_start) as usize..before;
    entries.recent.range(unwritten).for_each(|entry| out.extend_from_slice(entry.as_bytes()));
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// A snapshot that was read and is whole.
pub(super) struct Snapshot {
    pub(super) complete_to: LogOffset,
    pub(super) stored_at_ms: i64,
    version: u32,
    bytes: Vec<u8>,
    /// Blocks that are one queue's, and stretches of others.
    own: Vec<BlockId>,
    shared: Vec<Stretch>,
}

impl Snapshot {
    /// Reads a snapshot's bytes. `None`: not one, or a damaged one.
    pub(super) fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let mut from = Decoder(content);
        let (magic, version) = (from.array()?, from.u32()?);
        if magic != *MAGIC
            || !matches!(version, WITHOUT_SHARED_BLOCKS | WITHOUT_SEALS | VERSION)
            || crc32fast::hash(content) != u32::from_be_bytes(*crc)
        {
            return None;
        }
        let complete_to = LogOffset(from.u64()?);
        let stored_at_ms = from.u64()? as i64;
        let topics = content.len() - from.0.len()..content.len();
        bytes.truncate(topics.end);
        bytes.drain(..topics.start);
        let mut snapshot =
            Self { complete_to, stored_at_ms, version, bytes, own: Vec::new(), shared: Vec::new() };
        let (mut own, mut shared) = (Vec::new(), Vec::new());
        if !snapshot.names_each_queue_once()? {
            return None;
        }
        snapshot.walk(&mut |_, queues| {
            for queue in queues {
                own.extend(queue.blocks());
                shared.extend(queue.shared);
            }
        })?;
        own.sort_unstable();
        shared.sort_unstable();
        let are_blocks = own
            .iter()
            .chain(shared.iter().map(|stretch| &stretch.block))
            .all(|block| block.0 <= BlockId::LAST);
        let apart = own.windows(2).all(|two| two[0] < two[1])
            && shared
                .windows(2)
                .all(|two| two[0].block < two[1].block || two[0].end() <= u64::from(two[1].index))
            && shared.iter().all(|stretch| own.binary_search(&stretch.block).is_err());
        (snapshot.own, snapshot.shared) = (own, shared);
        (are_blocks && apart).then_some(snapshot)
    }

    fn names_each_queue_once(&self) -> Option<bool> {
        let (mut names, mut ids) = (HashSet::new(), Vec::new());
        let mut once = true;
        self.walk(&mut |name, queues| {
            once &= names.insert(name);
            ids.clear();
            ids.extend(queues.iter().map(|queue| queue.id));
            ids.sort_unstable();
            once &= ids.is_sorted_by(|one, next| one < next);
        })?;
        Some(once)
    }

    /// Every block that it names: those that are one queue's, and the stretches of others.
    pub(super) fn blocks(&self) -> (Vec<BlockId>, &[Stretch]) {
        (self.own.clone(), &self.shared)
    }

    /// Shows each topic and its queues.
    pub(super) fn topics<'a>(&'a self, mut show: impl FnMut(&'a str, &[StoredQueue<'a>])) {
        self.walk(&mut show).expect("a snapshot was walked once when it was read");
    }

    fn walk<'a>(&'a self, show: &mut dyn FnMut(&'a str, &[StoredQueue<'a>])) -> Option<()> {
        let mut from = Decoder(&self.bytes);
        let mut left = if self.version == WITHOUT_SHARED_BLOCKS { Some(from.u32()?) } else { None };
        let mut queues = Vec::new();
        loop {
            match &mut left {
                Some(0) => break,
                Some(left) => *left -= 1,
                None => {}
            }
            let len = from.u16()?;
            if left.is_none() && len == END {
                break;
            }
            let name = std::str::from_utf8(from.bytes(usize::from(len))?).ok()?;
            queues.clear();
            for _ in 0..from.u32()? {
                queues.push(from.queue(self.version, self.complete_to)?);
            }
            show(name, &queues);
        }
        from.0.is_empty().then_some(())
    }
}

/// A queue as it lies in a snapshot; its numbers fit each other, and its places the snapshot's.
pub(super) struct StoredQueue<'a> {
    pub(super) id: QueueId,
    pub(super) next: u64,
    min: u64,
    first_at: u64,
    last_at: u64,
    blocks_start: u64,
    written: u64,
    blocks: &'a [[u8; 4]],
    pub(super) shared: Option<Stretch>,
    recent: &'a [[u8; ENTRY_BYTES]],
}

impl StoredQueue<'_> {
    /// The blocks that are its own.
    pub(super) fn blocks(&self) -> impl Iterator<Item = BlockId> {
        self.blocks.iter().map(|id| BlockId(u32::from_be_bytes(*id)))
    }

    pub(super) fn entries(&self) -> Entries {
        Entries {
            min: self.min,
            first_at: self.first_at,
            last_at: self.last_at,
            blocks_start: self.blocks_start,
            blocks: self.blocks().collect(),
            shared: self.shared,
            written: self.written,
            recent_start: self.written,
            recent: self.recent.iter().map(RawEntry::from_bytes).collect(),
            listed: !self.recent.is_empty(),
            ..Entries::default()
        }
    }

    fn fits(&self, complete_to: LogOffset) -> Option<bool> {
        let in_order = self.blocks_start <= self.written
            && self.min <= self.next
            && self.next <= LAST_QUEUE_OFFSET
            && (self.blocks_start <= self.min || self.min == self.next);
        let own_end =
            self.blocks_start.checked_add((self.blocks.len() as u64).checked_mul(BLOCK_ENTRIES)?)?;
        let covered = match self.shared {
            None => self.written <= own_end,
            Some(stretch) => {
                stretch.end() <= BLOCK_ENTRIES
                    && own_end.checked_add(u64::from(stretch.count)) == Some(self.written)
            }
        };
        let mut places = self.recent.iter().map(|entry| RawEntry::from_bytes(entry).log_offset());
        let places_in_order =
            places.clone().is_sorted() && places.next_back().is_none_or(|last| last < complete_to);
        Some(in_order && covered && places_in_order)
    }
}

struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.first_chunk().copied()
    }

    /// `count` things of `N` bytes.
    fn chunks<const N: usize>(&mut self, count: u64) -> Option<&'a [[u8; N]]> {
        let len = usize::try_from(count).ok()?.checked_mul(N)?;
        Some(self.bytes(len)?.as_chunks().0)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn queue(&mut self, version: u32, complete_to: LogOffset) -> Option<StoredQueue<'a>> {
        let id = QueueId(self.u32()?);
        let (min, next) = (self.u64()?, self.u64()?);
        let (first_at, last_at) = (self.u64()?, self.u64()?);
        let (blocks_start, written) = (self.u64()?, self.u64()?);
        let count = u64::from(self.u32()?);
        let blocks = self.chunks(count)?;
        let shared = match version {
            WITHOUT_SHARED_BLOCKS => None,
            _ => match self.u8()? {
                0 => None,
                count => Some(Stretch { block: BlockId(self.u32()?), index: self.u8()?, count }),
            },
        };
        let recent = self.chunks(next.checked_sub(written)?)?;
        let queue =
            StoredQueue { id, next, min, first_at, last_at, blocks_start, written, blocks, shared, recent };
        queue.fits(complete_to)?.then_some(queue)
    }
}

fn temp_path(dir: &Path) -> PathBuf {
    dir.join("snapshot.temp")
}

/// The newest snapshot.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("snapshot")
}

/// The one before.
fn previous_path(dir: &Path) -> PathBuf {
    dir.join("snapshot.previous")
}

/// Removes the snapshots that tell of anything behind `to`; not durable by that. The one before the last, if it is left alone, is good
/// to go on from: entries of it whose blocks were used again are known by their checksums, and made anew from the log.
pub(super) fn remove_beyond(disk: &dyn Disk, dir: &Path, to: LogOffset) -> io::Result<()> {
    for path in [previous_path(dir), path(dir)] {
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if Snapshot::decode(bytes).is_some_and(|snapshot| snapshot.complete_to > to) {
            disk.remove(&path)?;
        }
    }
    Ok(())
}

/// What can be had at opening.
pub(super) enum Loaded {
    /// Good to go on from.
    Good(Snapshot),
    /// Only for how far queues had counted.
    Stale(Snapshot),
    Nothing,
}

pub(super) fn load(disk: &dyn Disk, dir: &Path) -> io::Result<Loaded> {
    let read = |path: PathBuf| match disk.read(&path) {
        Ok(bytes) => {
            let snapshot = Snapshot::decode(bytes);
            if snapshot.is_none() {
                tracing::error!(path = %path.display(), "the snapshot of the views is damaged, they are rebuilt from the log");
            }
            Ok((true, snapshot))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((false, None)),
        Err(error) => Err(error),
    };
    let (exists, last) = read(path(dir))?;
    match last {
        Some(last) if last.version == VERSION => return Ok(Loaded::Good(last)),
        Some(last) => return Ok(Loaded::Stale(last)),
        None => {}
    }
    Ok(match read(previous_path(dir))?.1 {
        // A crash between the two renames: nothing that it names was used again.
        Some(previous) if !exists && previous.version == VERSION => Loaded::Good(previous),
        Some(previous) => Loaded::Stale(previous),
        None => Loaded::Nothing,
    })
}
