//! RocketMQ's key index (`IndexFile`): chains of entries by hash, in files named by a time.
//!
//! ```text
//!   at                    width
//!   0                     40      begin and end store time i64, begin and end log offset i64, used slots i32, count i32
//!   40                    4 × S   slots: the number of the newest entry of its chain
//!   40 + 4 S              20 × N  entries from number 1 on: hash i32, log offset i64, seconds since begin i32, previous i32
//! ```
//!
//! A message is under `topic#key` for its unique key and each of its keys, and under `topic#T#tags` (since 5.4; older ones
//! do not ask for that). Files are sparse: only what is used takes room.

use std::fs;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{ExportError, property, sync_dir};
use crate::commit_log::codec::{Head, tags_code};

const HEADER_BYTES: u64 = 40;
const SLOT_BYTES: u64 = 4;
const ENTRY_BYTES: u64 = 20;
/// A page of slots is written if any of them is used.
const SLOTS_OF_A_PAGE: usize = 1024;
/// The end of the year 9999.
const LAST_MS: i64 = 253_402_300_799_999;
const TRANSACTION_BITS: i32 = 0b11 << 2;

/// Writes all files of the index, one after the other.
pub(super) struct IndexWriter {
    dir: PathBuf,
    slot_count: u32,
    entry_count: u32,
    /// As a number: its name. Names only grow.
    last_name: u64,
    /// Store time of the last entry of the file before.
    last_ms: i64,
    open: Option<OpenFile>,
    keys: u64,
}

struct OpenFile {
    path: PathBuf,
    entries: BufWriter<fs::File>,
    slots: Vec<u32>,
    begin_ms: i64,
    end_ms: i64,
    begin_at: u64,
    end_at: u64,
    used_slots: u32,
    /// The number that the next entry gets.
    next: u32,
}

impl IndexWriter {
    pub(super) fn new(dir: &Path, slot_count: u32, entry_count: u32) -> Self {
        Self {
            dir: dir.to_path_buf(),
            slot_count,
            entry_count,
            last_name: 0,
            last_ms: 0,
            open: None,
            keys: 0,
        }
    }

    /// The next record of the log.
    pub(super) fn put(&mut self, head: &Head, record: &[u8]) -> Result<(), ExportError> {
        if head.sys_flag & TRANSACTION_BITS == TRANSACTION_BITS {
            // Rolled back.
            return Ok(());
        }
        let topic = head.topic(record);
        let unique = property(head, record, "UNIQ_KEY");
        let keys =
            property(head, record, "KEYS").unwrap_or_default().split(' ').filter(|key| !key.is_empty());
        for key in unique.into_iter().chain(keys) {
            self.put_key(&format!("{topic}#{key}"), head)?;
        }
        match property(head, record, "TAGS") {
            Some(tags) => self.put_key(&format!("{topic}#T#{tags}"), head),
            None => Ok(()),
        }
    }

    fn put_key(&mut self, key: &str, head: &Head) -> Result<(), ExportError> {
        if self.open.as_ref().is_some_and(|file| file.next >= self.entry_count) {
            self.close()?;
        }
        let file = match &mut self.open {
            Some(file) => file,
            None => {
                let begin_ms = self.last_ms;
                let name = name(head.stored_at_ms).max(self.last_name + 1);
                self.last_name = name;
                let file = OpenFile::make(&self.dir, name, self.slot_count, self.entry_count, begin_ms)?;
                self.open.insert(file)
            }
        };
        file.put(java_hash(key), head)?;
        self.keys += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), ExportError> {
        if let Some(file) = self.open.take() {
            self.last_ms = file.end_ms;
            let path = file.path.clone();
            file.finish().map_err(ExportError::at(&path))?;
        }
        Ok(())
    }

    /// Returns how many keys there are.
    pub(super) fn finish(mut self) -> Result<u64, ExportError> {
        fs::create_dir_all(&self.dir).map_err(ExportError::at(&self.dir))?;
        self.close()?;
        sync_dir(&self.dir)?;
        Ok(self.keys)
    }
}

impl OpenFile {
    fn make(dir: &Path, name: u64, slots: u32, entries: u32, begin_ms: i64) -> Result<Self, ExportError> {
        fs::create_dir_all(dir).map_err(ExportError::at(dir))?;
        let path = dir.join(format!("{name:017}"));
        let slots_end = HEADER_BYTES + SLOT_BYTES * u64::from(slots);
        let made = fs::File::create_new(&path).and_then(|mut file| {
            file.set_len(slots_end + ENTRY_BYTES * u64::from(entries))?;
            // Entry 0 is never used.
            file.seek(SeekFrom::Start(slots_end + ENTRY_BYTES))?;
            Ok(file)
        });
        let entries = BufWriter::with_capacity(1 << 20, made.map_err(ExportError::at(&path))?);
        let slots = vec![0; slots as usize];
        Ok(Self { path, entries, slots, begin_ms, end_ms: 0, begin_at: 0, end_at: 0, used_slots: 0, next: 1 })
    }

    fn put(&mut self, hash: u32, head: &Head) -> Result<(), ExportError> {
        let (at, stored_at_ms) = (head.place.0, head.stored_at_ms);
        let slot = hash as usize % self.slots.len();
        let previous = self.slots[slot];
        let entry = entry(hash, self.begin_ms, head, previous);
        self.entries.write_all(&entry).map_err(ExportError::at(&self.path))?;
        self.slots[slot] = self.next;
        if self.next == 1 {
            (self.begin_at, self.begin_ms) = (at, stored_at_ms);
        }
        self.used_slots += u32::from(previous == 0);
        self.next += 1;
        (self.end_at, self.end_ms) = (at, stored_at_ms);
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.entries.flush()?;
        let file = self.entries.get_ref();
        for (index, page) in self.slots.chunks(SLOTS_OF_A_PAGE).enumerate() {
            if page.iter().any(|slot| *slot != 0) {
                let bytes: Vec<u8> = page.iter().flat_map(|slot| slot.to_be_bytes()).collect();
                file.write_all_at(&bytes, HEADER_BYTES + SLOT_BYTES * (index * SLOTS_OF_A_PAGE) as u64)?;
            }
        }
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        for number in [self.begin_ms as u64, self.end_ms as u64, self.begin_at, self.end_at] {
            header.extend_from_slice(&number.to_be_bytes());
        }
        header.extend_from_slice(&self.used_slots.to_be_bytes());
        header.extend_from_slice(&self.next.to_be_bytes());
        file.write_all_at(&header, 0)?;
        file.sync_all()
    }
}

/// An entry of a file that begins at this store time.
pub(super) fn entry(hash: u32, begin_ms: i64, head: &Head, previous: u32) -> [u8; ENTRY_BYTES as usize] {
    // The first entry of a file is measured from the end of the file before, as Java does it.
    let seconds = match begin_ms {
        ..=0 => 0,
        begin_ms => (head.stored_at_ms.saturating_sub(begin_ms) / 1000).clamp(0, i64::from(i32::MAX)),
    };
    let mut entry = [0; ENTRY_BYTES as usize];
    entry[..4].copy_from_slice(&hash.to_be_bytes());
    entry[4..12].copy_from_slice(&head.place.0.to_be_bytes());
    entry[12..16].copy_from_slice(&(seconds as i32).to_be_bytes());
    entry[16..].copy_from_slice(&previous.to_be_bytes());
    entry
}

/// RocketMQ's hash of an index key: Java's, without its sign.
pub(super) fn java_hash(key: &str) -> u32 {
    // The hash of a tag is the same function.
    (tags_code(Some(key)) as i32).checked_abs().unwrap_or(0) as u32
}

/// `yyyyMMddHHmmssSSS` of a time in UTC, as a number. A time that no such name can say becomes the nearest.
pub(super) fn name(at_ms: i64) -> u64 {
    let at_ms = at_ms.clamp(0, LAST_MS) as u64;
    let (days, of_day) = (at_ms / 86_400_000, at_ms % 86_400_000);
    // Civil date from days since 1970, in years that begin in March (Howard Hinnant's algorithm).
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    let date = (year * 100 + month) * 100 + day;
    (((date * 100 + hour) * 100 + minute) * 100 + second) * 1000 + of_day % 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_time() {
        assert_eq!(name(0), 19_700_101_000_000_000);
        assert_eq!(name(1_795_628_530_007), 20_261_125_174_210_007);
        assert_eq!(name(951_782_399_999), 20_000_228_235_959_999);
        assert_eq!(name(951_782_400_000), 20_000_229_000_000_000);
        assert_eq!(name(-5), 19_700_101_000_000_000);
        assert_eq!(name(i64::MAX), 99_991_231_235_959_999);
    }

    #[test]
    fn hashes_are_javas_without_their_sign() {
        // "polygenelubricants".hashCode() is Java's smallest int, which has no positive.
        assert_eq!(java_hash("polygenelubricants"), 0);
        assert_eq!(java_hash("orders#k1"), 390_723_708);
    }
}
