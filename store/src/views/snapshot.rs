//! All queues in one file, so that opening a store reads the end of the log and not all of it.
//!
//! ```text
//!   field             width   big-endian
//!   magic             8       "GANTRYVS"
//!   version           4       1
//!   complete to       8       log offset; every entry of a record before it is in here, and none behind it. Durable.
//!   stored at         8       store time of the last record before it
//!   topics            4
//!   per topic:        2+n     name
//!     queues          4
//!     per queue:      4       queue id
//!                     8 × 6   min, next, first_at, last_at, blocks_start, written (see consume_queue.rs)
//!                     4+4n    blocks
//!                     20 × (next − written)  entries that are in no block
//!   CRC-32            4       of all before
//! ```
//!
//! Everything in it can be rebuilt from the log, but for one thing: how far a queue has counted whose messages are all
//! deleted. So the snapshot before the last one is kept, and asked for that if the last one is damaged.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks::{BLOCK_ENTRIES, BlockId};
use super::consume_queue::{ConsumeQueue, Entries};
use super::entry::{ENTRY_BYTES, RawEntry};
use crate::disk::Disk;
use crate::{LogOffset, QueueId};

const MAGIC: &[u8; 8] = b"GANTRYVS";
const VERSION: u32 = 1;

/// A snapshot that was read.
pub(super) struct Snapshot {
    pub(super) complete_to: LogOffset,
    pub(super) stored_at_ms: i64,
    pub(super) topics: HashMap<String, Vec<(QueueId, Entries)>>,
}

impl Snapshot {
    /// Every block that it names.
    pub(super) fn blocks(&self) -> Vec<BlockId> {
        self.topics.values().flatten().flat_map(|(_, entries)| entries.blocks.iter().copied()).collect()
    }
}

/// Writes a snapshot's bytes.
pub(super) struct Encoder {
    out: Vec<u8>,
    complete_to: LogOffset,
}

impl Encoder {
    pub(super) fn new(complete_to: LogOffset, stored_at_ms: i64, topics: usize) -> Self {
        let mut encoder = Self { out: Vec::new(), complete_to };
        encoder.out.extend_from_slice(MAGIC);
        encoder.u32(VERSION);
        encoder.u64(complete_to.0);
        encoder.u64(stored_at_ms as u64);
        encoder.u32(topics as u32);
        encoder
    }

    pub(super) fn topic(&mut self, name: &str, queues: &[Arc<ConsumeQueue>]) {
        self.out.extend_from_slice(&(name.len() as u16).to_be_bytes());
        self.out.extend_from_slice(name.as_bytes());
        self.u32(queues.len() as u32);
        for queue in queues {
            self.u32(queue.id().0);
            self.entries(&queue.entries.lock());
        }
    }

    fn entries(&mut self, entries: &Entries) {
        let before = entries.recent.partition_point(|entry| entry.log_offset() < self.complete_to);
        let next = entries.recent_start + before as u64;
        assert!(entries.written <= next, "only entries of confirmed records are in blocks");
        let last_at = match before.checked_sub(1) {
            Some(last) => entries.recent[last].log_offset().0,
            // It is in a block. The last record starts before the end in any case.
            None => entries.last_at.min(self.complete_to.0.saturating_sub(1)),
        };
        for number in
            [entries.min.min(next), next, entries.first_at, last_at, entries.blocks_start, entries.written]
        {
            self.u64(number);
        }
        self.u32(entries.blocks.len() as u32);
        for block in &entries.blocks {
            self.u32(block.0);
        }
        let unwritten = (entries.written - entries.recent_start) as usize..before;
        for entry in entries.recent.range(unwritten) {
            self.out.extend_from_slice(entry.as_bytes());
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let crc = crc32fast::hash(&self.out);
        self.u32(crc);
        self.out
    }

    fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Reads a snapshot's bytes. `None`: not one, or a damaged one.
pub(super) fn decode(bytes: &[u8]) -> Option<Snapshot> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    let mut from = Decoder(content);
    if from.array()? != *MAGIC
        || from.u32()? != VERSION
        || crc32fast::hash(content) != u32::from_be_bytes(*crc)
    {
        return None;
    }
    let complete_to = LogOffset(from.u64()?);
    let stored_at_ms = from.u64()? as i64;
    let count = from.u32()?;
    let mut topics = HashMap::new();
    for _ in 0..count {
        let name = String::from_utf8(from.topic_name()?.to_vec()).ok()?;
        let queues = (0..from.u32()?).map(|_| from.queue()).collect::<Option<Vec<_>>>()?;
        topics.insert(name, queues);
    }
    let snapshot = Snapshot { complete_to, stored_at_ms, topics };
    let mut blocks = snapshot.blocks();
    let named = blocks.len();
    blocks.sort_unstable();
    blocks.dedup();
    (from.0.is_empty() && blocks.len() == named).then_some(snapshot)
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

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn topic_name(&mut self) -> Option<&'a [u8]> {
        let len = u16::from_be_bytes(self.array()?);
        self.bytes(usize::from(len))
    }

    fn queue(&mut self) -> Option<(QueueId, Entries)> {
        let id = QueueId(self.u32()?);
        let (min, next) = (self.u64()?, self.u64()?);
        let (first_at, last_at) = (self.u64()?, self.u64()?);
        let (blocks_start, written) = (self.u64()?, self.u64()?);
        let block_count = self.u32()? as usize;
        let blocks = self.bytes(block_count.checked_mul(4)?)?;
        let blocks: Vec<_> =
            blocks.as_chunks::<4>().0.iter().map(|id| BlockId(u32::from_be_bytes(*id))).collect();
        let recent =
            self.bytes(usize::try_from(next.checked_sub(written)?).ok()?.checked_mul(ENTRY_BYTES)?)?;
        let recent = recent.as_chunks::<ENTRY_BYTES>().0.iter().map(RawEntry::from_bytes).collect();
        let in_order = blocks_start <= written && min <= next && (blocks_start <= min || min == next);
        let covered = written.checked_sub(blocks_start)?.div_ceil(BLOCK_ENTRIES) <= block_count as u64;
        let entries = Entries {
            min,
            first_at,
            last_at,
            blocks_start,
            blocks,
            written,
            recent_start: written,
            recent,
            ..Entries::default()
        };
        (in_order && covered).then_some((id, entries))
    }
}

/// The newest snapshot.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("snapshot")
}

/// The one before.
fn previous_path(dir: &Path) -> PathBuf {
    dir.join("snapshot.previous")
}

/// Puts a new snapshot in place of the last one, which becomes the previous one. Durable when it returns.
pub(super) fn store(disk: &dyn Disk, dir: &Path, content: &[u8]) -> io::Result<()> {
    let temp = dir.join("snapshot.temp");
    disk.write(&temp, content)?;
    match disk.rename(&path(dir), &previous_path(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    disk.rename(&temp, &path(dir))?;
    disk.sync_dir(dir)
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
            let snapshot = decode(&bytes);
            if snapshot.is_none() {
                tracing::error!(path = %path.display(), "the snapshot of the views is damaged, they are rebuilt from the log");
            }
            Ok((true, snapshot))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((false, None)),
        Err(error) => Err(error),
    };
    let (exists, last) = read(path(dir))?;
    if let Some(last) = last {
        return Ok(Loaded::Good(last));
    }
    Ok(match read(previous_path(dir))?.1 {
        // A crash between the two renames: nothing that it names was used again.
        Some(previous) if !exists => Loaded::Good(previous),
        Some(previous) => Loaded::Stale(previous),
        None => Loaded::Nothing,
    })
}
