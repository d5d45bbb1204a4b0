//! A run: entries of a stretch of the log, sorted, in a file that is written once.
//!
//! ```text
//!   views/keys/<start>-<end>      log offsets of 20 digits; numbers big-endian
//!
//!   block      16 KiB each        818 entries of 20 bytes, by hash and log offset; zeros;
//!                                 number of the block 4, entries in it 4, CRC-32 4 of all before
//!   fences     8 × blocks         the first hash of each block
//!   footer     magic              8   "GANTRYKI"
//!              version            4   1
//!              level              4   0: written from memory; n+1: merged from runs of level n
//!              start, end         16  it has every key of every record that lies between, or they are deleted
//!              first_s, last_s    8   store times of its entries, Unix seconds
//!              entries            8
//!              blocks             4
//!              CRC-32             4   of fences and footer before
//! ```
//!
//! In memory a run is its fences and an open file: about ten bytes for a thousand entries. A look-up reads one block, or
//! more where a key has more entries than that. Nothing that was read is believed before its checksum is.

use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::{ENTRY_BYTES, KeyEntry};
use crate::disk::{Disk, File};
use crate::reads::read_and_drop;

const MAGIC: &[u8; 8] = b"GANTRYKI";
const VERSION: u32 = 1;
pub(super) const BLOCK_BYTES: usize = 16 << 10;
const TRAILER_BYTES: usize = 12;
pub(super) const BLOCK_ENTRIES: usize = (BLOCK_BYTES - TRAILER_BYTES) / ENTRY_BYTES;
const FENCE_BYTES: usize = 8;
const FOOTER_BYTES: usize = 8 + 4 + 4 + 16 + 8 + 8 + 4 + 4;
/// So much is written with one call.
const WRITE_BYTES: usize = 16 * BLOCK_BYTES;

/// What a run says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) level: u32,
    /// Log offsets.
    pub(super) range: Range<u64>,
    pub(super) seconds: RangeInclusive<u32>,
    pub(super) entries: u64,
}

/// A run that is open for reading.
pub(super) struct Run {
    pub(super) path: PathBuf,
    pub(super) footer: Footer,
    fences: Vec<u64>,
    file: Arc<dyn File>,
}

/// The name of a run.
pub(super) fn path(dir: &Path, range: &Range<u64>) -> PathBuf {
    dir.join(format!("{:020}-{:020}", range.start, range.end))
}

/// The log offsets that a name says, if it is a run's.
pub(super) fn range_of(name: &str) -> Option<Range<u64>> {
    let (start, end) = name.split_once('-')?;
    let number = |digits: &str| {
        (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| digits.parse().ok())?
    };
    let range = number(start)?..number(end)?;
    (range.start < range.end).then_some(range)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged: {what}"))
}

impl Run {
    /// Opens a run of so many bytes; reads its footer and its fences.
    pub(super) fn open(disk: &dyn Disk, path: &Path, range: &Range<u64>, bytes: u64) -> io::Result<Self> {
        let file = disk.open(path)?;
        let footer_at = bytes.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| damaged("it is too short"))?;
        let mut tail = [0; FOOTER_BYTES];
        file.read_at(footer_at, &mut tail)?;
        let blocks = Footer::blocks(&tail);
        let fences_at = u64::from(blocks) * BLOCK_BYTES as u64;
        let fences_len = blocks as usize * FENCE_BYTES;
        if fences_at + fences_len as u64 != footer_at {
            return Err(damaged("its length is not what its footer says"));
        }
        let mut head = vec![0; fences_len];
        file.read_at(fences_at, &mut head)?;
        let fences =
            head.as_chunks::<FENCE_BYTES>().0.iter().map(|fence| u64::from_be_bytes(*fence)).collect();
        head.extend_from_slice(&tail);
        let footer = Footer::decode(&head).ok_or_else(|| damaged("its footer's checksum does not match"))?;
        if footer.range != *range {
            return Err(damaged("it is not the one that its name says"));
        }
        Ok(Self { path: path.to_owned(), footer, fences, file })
    }

    pub(super) fn blocks(&self) -> usize {
        self.fences.len()
    }

    /// Bytes of its file.
    pub(super) fn bytes(&self) -> u64 {
        (self.blocks() * (BLOCK_BYTES + FENCE_BYTES) + FOOTER_BYTES) as u64
    }

    /// The entries of a block.
    pub(super) fn block(&self, number: usize) -> io::Result<Vec<KeyEntry>> {
        let mut bytes = vec![0; BLOCK_BYTES];
        self.file.read_at((number * BLOCK_BYTES) as u64, &mut bytes)?;
        block_of(&bytes, number)
    }

    /// Is this block whole? Leaves the page cache as it was.
    pub(super) fn check(&self, number: usize) -> io::Result<()> {
        let mut bytes = vec![0; BLOCK_BYTES];
        read_and_drop(&*self.file, (number * BLOCK_BYTES) as u64, &mut bytes)?;
        block_of(&bytes, number).map(|_| ())
    }

    /// The last block that may have entries of this hash.
    pub(super) fn last_block(&self, hash: u64) -> Option<usize> {
        self.fences.partition_point(|first| *first <= hash).checked_sub(1)
    }

    /// May the block before this one have entries of this hash too?
    pub(super) fn goes_on_before(&self, block: usize, hash: u64) -> bool {
        block > 0 && self.fences[block] == hash
    }
}

fn block_of(bytes: &[u8], number: usize) -> io::Result<Vec<KeyEntry>> {
    decode_block(bytes, number)
        .ok_or_else(|| damaged(&format!("the checksum of block {number} does not match")))
}

fn decode_block(bytes: &[u8], number: usize) -> Option<Vec<KeyEntry>> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (entries, trailer) = content.split_last_chunk::<8>()?;
    let (said, count) = trailer.split_at(4);
    let field = |bytes: &[u8]| bytes.first_chunk().map_or(0, |field| u32::from_be_bytes(*field)) as usize;
    let count = field(count);
    if field(said) != number || count == 0 || count > BLOCK_ENTRIES {
        return None;
    }
    Some(entries.as_chunks::<ENTRY_BYTES>().0[..count].iter().map(KeyEntry::from_bytes).collect())
}

impl Footer {
    /// What the last bytes of a file say, unchecked.
    fn blocks(tail: &[u8; FOOTER_BYTES]) -> u32 {
        tail[FOOTER_BYTES - 8..].first_chunk().map_or(0, |blocks| u32::from_be_bytes(*blocks))
    }

    fn encode(&self, fences: &[u64]) -> Vec<u8> {
        let mut out = Vec::with_capacity(fences.len() * FENCE_BYTES + FOOTER_BYTES);
        fences.iter().for_each(|fence| out.extend_from_slice(&fence.to_be_bytes()));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.level.to_be_bytes());
        out.extend_from_slice(&self.range.start.to_be_bytes());
        out.extend_from_slice(&self.range.end.to_be_bytes());
        out.extend_from_slice(&self.seconds.start().to_be_bytes());
        out.extend_from_slice(&self.seconds.end().to_be_bytes());
        out.extend_from_slice(&self.entries.to_be_bytes());
        out.extend_from_slice(&(fences.len() as u32).to_be_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    /// `bytes` are the fences and the footer.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
            return None;
        }
        let mut rest = &content[content.len().checked_sub(FOOTER_BYTES - 4)?..];
        let mut take = |len: usize| {
            let (field, tail) = rest.split_at(len);
            rest = tail;
            field
        };
        if take(8) != MAGIC || take(4) != VERSION.to_be_bytes() {
            return None;
        }
        let mut number = |len: usize| take(len).iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let level = number(4) as u32;
        let range = number(8)..number(8);
        let seconds = number(4) as u32..=number(4) as u32;
        Some(Self { level, range, seconds, entries: number(8) })
    }
}

/// Writes a run: entries in order, then [`Writer::finish`].
pub(super) struct Writer {
    temp: PathBuf,
    file: Arc<dyn File>,
    footer: Footer,
    fences: Vec<u64>,
    block: Vec<KeyEntry>,
    out: Vec<u8>,
    written: u64,
}

impl Writer {
    /// Begins a run in a temporary file of this name.
    pub(super) fn new(disk: &dyn Disk, temp: PathBuf, level: u32, range: Range<u64>) -> io::Result<Self> {
        // What a crash left there.
        match disk.remove(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(&temp)?;
        // The wrong way round, until there is an entry: no time is in it.
        #[expect(clippy::reversed_empty_ranges, reason = "a range without times is what is meant")]
        let footer = Footer { level, range, seconds: u32::MAX..=0, entries: 0 };
        Ok(Self {
            temp,
            file,
            footer,
            fences: Vec::new(),
            block: Vec::with_capacity(BLOCK_ENTRIES),
            out: Vec::new(),
            written: 0,
        })
    }

    pub(super) fn push(&mut self, entry: KeyEntry) -> io::Result<()> {
        let seconds = &self.footer.seconds;
        self.footer.seconds = entry.stored_s.min(*seconds.start())..=entry.stored_s.max(*seconds.end());
        self.footer.entries += 1;
        self.block.push(entry);
        if self.block.len() == BLOCK_ENTRIES {
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
        self.fences.push(self.block[0].hash);
        self.block.clear();
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.out)?;
        self.written += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// Gives the run its name. Durable when it returns.
    pub(super) fn finish(mut self, disk: &dyn Disk, dir: &Path) -> io::Result<Run> {
        if !self.block.is_empty() {
            self.end_block();
        }
        let tail = self.footer.encode(&self.fences);
        self.out.extend_from_slice(&tail);
        self.write_out()?;
        self.file.sync()?;
        let path = path(dir, &self.footer.range);
        disk.rename(&self.temp, &path)?;
        disk.sync_dir(dir)?;
        Ok(Run { path, footer: self.footer, fences: self.fences, file: self.file })
    }
}

/// Makes the numbers and checksums of a file right, so that what they cover is looked at; and its range, this one.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn mend(bytes: &mut [u8], range: &Range<u64>) {
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
    footer[16..24].copy_from_slice(&range.start.to_be_bytes());
    footer[24..32].copy_from_slice(&range.end.to_be_bytes());
    footer[FOOTER_BYTES - 8..FOOTER_BYTES - 4].copy_from_slice(&(blocks as u32).to_be_bytes());
    mend_end(&mut bytes[blocks * BLOCK_BYTES..]);
}
