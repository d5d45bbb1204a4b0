//! A run: entries in order, in a file that is written once.
//!
//! ```text
//!   views/schedule/run-<number>       numbers big-endian
//!
//!   block      16 KiB each        584 entries of 28 bytes, by due time and id; zeros;
//!                                 number of the block 4, entries in it 4, CRC-32 4 of all before
//!   fences     16 × blocks        due time and id of each block's first
//!   footer     magic              8   "GANTRYSR"
//!              version            4   1
//!              entries            8
//!              least place        8   no record of an entry lies before it in the log
//!              blocks             4
//!              CRC-32             4   of fences and footer before
//! ```
//!
//! In memory a run is its fences, an open file and the block that is read from next: some 30 bytes for a thousand entries.
//! Nothing that was read is believed before its checksum is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::{ENTRY_BYTES, Entry, Key};
use crate::disk::{Disk, File};

const MAGIC: &[u8; 8] = b"GANTRYSR";
const VERSION: u32 = 1;
const BLOCK_BYTES: usize = 16 << 10;
const TRAILER_BYTES: usize = 12;
pub(super) const BLOCK_ENTRIES: u64 = ((BLOCK_BYTES - TRAILER_BYTES) / ENTRY_BYTES) as u64;
const FENCE_BYTES: usize = 16;
const FOOTER_BYTES: usize = 8 + 4 + 8 + 8 + 4 + 4;
/// So much is written with one call.
const WRITE_BYTES: usize = 16 * BLOCK_BYTES;
const PREFIX: &str = "run-";

/// A run that is open for reading.
pub(super) struct Run {
    pub(super) path: PathBuf,
    pub(super) number: u64,
    pub(super) entries: u64,
    /// No record of an entry lies before it in the log.
    pub(super) least_at: u64,
    /// The first of each block.
    fences: Vec<Key>,
    file: Arc<dyn File>,
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:010}"))
}

/// The number of a file that is named like a run.
pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged: {what}"))
}

impl Run {
    /// Opens a run of so many bytes; reads its footer and its fences.
    pub(super) fn open(disk: &dyn Disk, dir: &Path, number: u64, bytes: u64) -> io::Result<Self> {
        let path = path(dir, number);
        let file = disk.open_to_read(&path)?;
        let footer_at = bytes.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| damaged("it is too short"))?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_at(footer_at, &mut footer)?;
        let blocks = field(&footer[FOOTER_BYTES - 8..FOOTER_BYTES - 4]);
        let fences_at = blocks * BLOCK_BYTES as u64;
        let fences_len = blocks * FENCE_BYTES as u64;
        if fences_at + fences_len != footer_at {
            return Err(damaged("its length is not what its footer says"));
        }
        let mut tail = vec![0; fences_len as usize];
        file.read_at(fences_at, &mut tail)?;
        tail.extend_from_slice(&footer);
        let (content, crc) = tail.split_last_chunk::<4>().expect("a footer has more");
        if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
            return Err(damaged("its footer's checksum does not match"));
        }
        let (fences, footer) = content.split_at(fences_len as usize);
        let entries = field(&footer[12..20]);
        if &footer[..8] != MAGIC
            || field(&footer[8..12]) != u64::from(VERSION)
            || entries.div_ceil(BLOCK_ENTRIES) != blocks
        {
            return Err(damaged("its footer is none of this version"));
        }
        let fence = |fence: &[u8; FENCE_BYTES]| (field(&fence[..8]).cast_signed(), field(&fence[8..]));
        let fences = fences.as_chunks::<FENCE_BYTES>().0.iter().map(fence).collect();
        Ok(Self { path, number, entries, least_at: field(&footer[20..28]), fences, file })
    }

    /// The entries of a block.
    pub(super) fn block(&self, number: u64) -> io::Result<Vec<Entry>> {
        let mut bytes = vec![0; BLOCK_BYTES];
        self.file.read_at(number * BLOCK_BYTES as u64, &mut bytes)?;
        decode_block(&bytes, number)
            .filter(|entries| {
                entries.len() as u64 == BLOCK_ENTRIES.min(self.entries - number * BLOCK_ENTRIES)
            })
            .ok_or_else(|| damaged(&format!("the checksum of block {number} does not match")))
    }

    /// How many entries lie before this key, and the block in which the next one would be.
    pub(super) fn position(&self, key: Key) -> io::Result<(u64, Vec<Entry>)> {
        let block = self.fences.partition_point(|fence| *fence < key).saturating_sub(1) as u64;
        if self.entries == 0 {
            return Ok((0, Vec::new()));
        }
        let entries = self.block(block)?;
        let before = entries.partition_point(|entry| entry.key < key);
        Ok((block * BLOCK_ENTRIES + before as u64, entries))
    }
}

fn field(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn decode_block(bytes: &[u8], number: u64) -> Option<Vec<Entry>> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (entries, trailer) = content.split_last_chunk::<8>()?;
    let (said, count) = trailer.split_at(4);
    let count = field(count);
    if field(said) != number || count == 0 || count > BLOCK_ENTRIES {
        return None;
    }
    Some(entries.as_chunks::<ENTRY_BYTES>().0[..count as usize].iter().map(Entry::from_bytes).collect())
}

/// Writes a run: entries in order, then [`Writer::finish`].
pub(super) struct Writer {
    path: PathBuf,
    number: u64,
    file: Arc<dyn File>,
    entries: u64,
    least_at: u64,
    fences: Vec<Key>,
    block: Vec<Entry>,
    out: Vec<u8>,
    written: u64,
}

impl Writer {
    /// Begins the run of this number. Nobody knows of it before a catalog names it, so it has its name from the start.
    pub(super) fn new(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<Self> {
        let path = path(dir, number);
        match disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(&path)?;
        Ok(Self {
            path,
            number,
            file,
            entries: 0,
            least_at: u64::MAX,
            fences: Vec::new(),
            block: Vec::with_capacity(BLOCK_ENTRIES as usize),
            out: Vec::new(),
            written: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.entries += 1;
        if entry.scheduled().is_some() {
            self.least_at = self.least_at.min(entry.at);
        }
        self.block.push(entry);
        if self.block.len() as u64 == BLOCK_ENTRIES {
            self.end_block();
            if self.out.len() >= WRITE_BYTES {
                self.write_out()?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self) {
        let start = self.out.len();
        self.block.iter().for_each(|entry| self.out.extend_from_slice(&entry.to_bytes()));
        self.out.resize(start + BLOCK_BYTES - TRAILER_BYTES, 0);
        self.out.extend_from_slice(&(self.fences.len() as u32).to_be_bytes());
        self.out.extend_from_slice(&(self.block.len() as u32).to_be_bytes());
        let crc = crc32fast::hash(&self.out[start..]);
        self.out.extend_from_slice(&crc.to_be_bytes());
        self.fences.push(self.block[0].key);
        self.block.clear();
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.out)?;
        self.written += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// The run. Durable when it returns.
    pub(super) fn finish(mut self, disk: &dyn Disk, dir: &Path) -> io::Result<Run> {
        if !self.block.is_empty() {
            self.end_block();
        }
        let mut tail = Vec::with_capacity(self.fences.len() * FENCE_BYTES + FOOTER_BYTES);
        for (due_ms, id) in &self.fences {
            tail.extend_from_slice(&due_ms.to_be_bytes());
            tail.extend_from_slice(&id.to_be_bytes());
        }
        tail.extend_from_slice(MAGIC);
        tail.extend_from_slice(&VERSION.to_be_bytes());
        tail.extend_from_slice(&self.entries.to_be_bytes());
        tail.extend_from_slice(&self.least_at.to_be_bytes());
        tail.extend_from_slice(&(self.fences.len() as u32).to_be_bytes());
        let crc = crc32fast::hash(&tail);
        tail.extend_from_slice(&crc.to_be_bytes());
        self.out.extend_from_slice(&tail);
        self.write_out()?;
        self.file.sync()?;
        disk.sync_dir(dir)?;
        let Self { path, number, file, entries, least_at, fences, .. } = self;
        Ok(Run { path, number, entries, least_at, fences, file })
    }
}

/// Makes the numbers and checksums of a file right, so that what they cover is looked at.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn mend(bytes: &mut [u8]) {
    use crate::fuzzing::mend_end;

    let Some(content) = bytes.len().checked_sub(FOOTER_BYTES) else { return };
    let blocks = content / (BLOCK_BYTES + FENCE_BYTES);
    for (number, block) in bytes.chunks_exact_mut(BLOCK_BYTES).take(blocks).enumerate() {
        let said = BLOCK_BYTES - TRAILER_BYTES;
        block[said..said + 4].copy_from_slice(&(number as u32).to_be_bytes());
        mend_end(block);
    }
    let footer = &mut bytes[content..];
    footer[..8].copy_from_slice(MAGIC);
    footer[8..12].copy_from_slice(&VERSION.to_be_bytes());
    footer[FOOTER_BYTES - 8..FOOTER_BYTES - 4].copy_from_slice(&(blocks as u32).to_be_bytes());
    mend_end(&mut bytes[blocks * BLOCK_BYTES..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogOffset;
    use crate::disk::MemoryDisk;
    use crate::schedule::Scheduled;

    fn entry(n: u64) -> Entry {
        let due_ms = (n / 3).cast_signed();
        Entry::of(Scheduled { due_ms, id: LogOffset(n), at: LogOffset(n + 5), size: 1, kind: 1 })
    }

    #[test]
    fn a_run_comes_back_from_its_file_and_damage_is_seen() {
        let (disk, dir) = (MemoryDisk::default(), Path::new("/d"));
        for count in [0, 1, BLOCK_ENTRIES, 2 * BLOCK_ENTRIES + 7] {
            let mut writer = Writer::new(&disk, dir, 9).unwrap();
            (0..count).for_each(|n| writer.push(entry(n)).unwrap());
            writer.finish(&disk, dir).unwrap();
            let bytes = disk.read(&path(dir, 9)).unwrap();
            let open = || Run::open(&disk, dir, 9, bytes.len() as u64);
            let read = |run: &Run| {
                let blocks = (0..count.div_ceil(BLOCK_ENTRIES)).map(|block| run.block(block));
                Ok::<Vec<Entry>, io::Error>(blocks.collect::<io::Result<Vec<_>>>()?.concat())
            };
            let run = open().unwrap();
            assert_eq!(read(&run).unwrap(), (0..count).map(entry).collect::<Vec<_>>());
            assert_eq!(run.least_at, if count == 0 { u64::MAX } else { 5 });
            for at in (0..bytes.len()).step_by(211).chain(bytes.len().saturating_sub(40)..bytes.len()) {
                disk.edit(&path(dir, 9), |bytes| bytes[at] ^= 0x10);
                assert!(open().and_then(|run| read(&run)).is_err(), "byte {at}");
                disk.edit(&path(dir, 9), |bytes| bytes[at] ^= 0x10);
            }
        }
    }

    #[test]
    fn a_key_is_found_where_it_is_or_would_be() {
        let (disk, dir) = (MemoryDisk::default(), Path::new("/d"));
        let mut writer = Writer::new(&disk, dir, 1).unwrap();
        let count = 3 * BLOCK_ENTRIES;
        (0..count).for_each(|n| writer.push(entry(2 * n)).unwrap());
        let run = writer.finish(&disk, dir).unwrap();
        for n in (0..count).step_by(97).chain([BLOCK_ENTRIES - 1, BLOCK_ENTRIES, BLOCK_ENTRIES + 1]) {
            assert_eq!(run.position(entry(2 * n).key).unwrap().0, n);
            assert_eq!(run.position(entry(2 * n + 1).key).unwrap().0, n + 1, "behind {n}");
        }
        assert_eq!(run.position((-1, 0)).unwrap().0, 0);
        assert_eq!(run.position((i64::MAX, 0)).unwrap().0, count);
    }
}
