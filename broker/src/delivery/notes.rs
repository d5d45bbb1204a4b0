//! What changed since progress was last written to `meta.redb`, noted at once: a process that is killed forgets none of it.
//!
//! ```text
//!   config/delivery.notes   two halves of the same size, written in turn:   note, note, …
//!   note                    check 4 │ sequence 8 │ length of key 2 │ length of value 2 │ key │ value     big-endian
//! ```
//!
//! A note is a row as [`kept`](super::kept) writes it, or a group and a topic that are forgotten. It lies in the page cache before
//! the client hears, and is never flushed: a power cut takes what was not in `meta.redb`, as it would without notes.
//!
//! Notes are for a broker that has little to do. Of a queue with much in flight, and when a half is full, nothing is noted until
//! `meta.redb` is written, twice a second: what a note costs has a bound that does not grow with the pace. `meta.redb` says which
//! notes it covers, by their sequence. A half is written over only when it covers all of it.
//!
//! In a broker group the members have each other, and `meta.redb` is the only one that they agree on: there are no notes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::kept::{self, Row};
use crate::meta::{Definition, Error, Meta, Transaction};

const COVERED: Definition = Definition::new("delivery_notes");
const COVERED_KEY: &str = "covered";
const FILE: &str = "delivery.notes";

const HALF_BYTES: usize = 1 << 20;
/// Of each half kept for what is forgotten, which may not go unnoted: its name may be used again.
const FOR_FORGOTTEN: usize = 64 << 10;
/// A larger row is not noted.
const LARGEST_VALUE: usize = 4 << 10;
const CHECK_BYTES: usize = 4;
const HEAD_BYTES: usize = CHECK_BYTES + 8 + 2 + 2;

/// See the [module](self).
pub(crate) struct Notes(Option<Open>);

struct Open {
    writer: Mutex<Writer>,
    /// Whether rows are noted now; looked at before one is made.
    has_room: AtomicBool,
}

struct Writer {
    file: File,
    half: u8,
    /// Where the next note goes in the half.
    at: usize,
    next: u64,
    /// `meta.redb` covers all of the other half.
    may_turn: bool,
    buffer: Vec<u8>,
    failed_before: bool,
}

/// As it was read.
#[derive(Debug, PartialEq, Eq)]
struct Note<'a> {
    sequence: u64,
    key: &'a str,
    /// Empty: the key is the beginning of keys that are forgotten.
    value: &'a [u8],
}

impl Notes {
    /// Puts what was noted last into `meta.redb`, and notes from now on. Blocks on the disk.
    pub(crate) fn open(folder: &Path, meta: &Meta) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let noted = match fs::read(&path) {
            Ok(noted) => noted,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "notes of what consumers did last cannot be read: some of it is delivered again");
                Vec::new()
            }
        };
        let covered = covered(meta)?;
        let notes = read(&noted);
        let next = notes.last().map_or(0, |last| last.sequence.saturating_add(1)).max(covered);
        let lacking: Vec<_> = notes.iter().filter(|note| note.sequence >= covered).collect();
        if !lacking.is_empty() {
            meta.write(|transaction| {
                for Note { key, value, .. } in &lacking {
                    match value.is_empty() {
                        true => kept::remove_beginning(transaction, key)?,
                        false => kept::write_one(transaction, key, value)?,
                    }
                }
                cover(transaction, next)
            })?;
            tracing::info!(
                notes = lacking.len(),
                "the process before was killed: what consumers did last is known"
            );
        }
        let options = || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            file.set_len(2 * HALF_BYTES as u64)?;
            Ok(file)
        };
        let file = options().inspect_err(|error: &io::Error| {
            tracing::warn!(path = %path.display(), %error, "what consumers do is not noted at once: some is delivered again after a kill");
        });
        Ok(Self(file.ok().map(|file| {
            let buffer = Vec::new();
            let writer = Writer { file, half: 0, at: 0, next, may_turn: true, buffer, failed_before: false };
            Open { writer: Mutex::new(writer), has_room: AtomicBool::new(true) }
        })))
    }

    /// No notes, and none that anybody could find later.
    pub(crate) fn none(folder: &Path) -> io::Result<Self> {
        match fs::remove_file(folder.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Self(None)),
        }
    }

    /// Whether a row would be noted now.
    pub(super) fn has_room(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.has_room.load(Ordering::Relaxed))
    }

    /// Notes a row. Under the lock of what it tells of, so that notes have the order of the changes.
    pub(super) fn add(&self, row: &Row) {
        let Some(open) = &self.0 else { return };
        if row.value.len() <= LARGEST_VALUE {
            open.note(&row.key, &row.value, HALF_BYTES - FOR_FORGOTTEN);
        }
    }

    /// Notes that all rows of a group and a topic are gone.
    pub(super) fn forget(&self, group: &str, topic: &str) {
        if let Some(open) = &self.0 {
            open.note(&format!("{group}/{topic}/"), &[], HALF_BYTES);
        }
    }

    /// What was noted so far is covered by what is about to be written: the sequence that follows. From now on notes go to the
    /// other half, if nothing there is needed any more.
    pub(super) fn turn(&self) -> Option<u64> {
        let open = self.0.as_ref()?;
        let mut writer = open.writer.lock();
        if writer.may_turn {
            writer.may_turn = false;
            writer.half = 1 - writer.half;
            writer.at = 0;
            open.has_room.store(true, Ordering::Relaxed);
        }
        Some(writer.next)
    }

    /// What the last turn covers is written.
    pub(super) fn covered(&self) {
        if let Some(open) = &self.0 {
            open.writer.lock().may_turn = true;
        }
    }
}

impl Open {
    fn note(&self, key: &str, value: &[u8], end: usize) {
        let mut writer = self.writer.lock();
        if let Err(error) = writer.note(key, value, end) {
            self.has_room.store(false, Ordering::Relaxed);
            if let Some(error) = error
                && !writer.failed_before
            {
                writer.failed_before = true;
                tracing::warn!(%error, "what consumers do cannot be noted at once: some is delivered again after a kill");
            }
        }
    }
}

impl Writer {
    /// `Err(None)`: there is no room before `end`.
    fn note(&mut self, key: &str, value: &[u8], end: usize) -> Result<(), Option<io::Error>> {
        let bytes = HEAD_BYTES + key.len() + value.len();
        let lengths = (u16::try_from(key.len()), u16::try_from(value.len()));
        let ((Ok(key_length), Ok(value_length)), true) = (lengths, self.at + bytes <= end) else {
            return Err(None);
        };
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; CHECK_BYTES]);
        self.buffer.extend_from_slice(&self.next.to_be_bytes());
        self.buffer.extend_from_slice(&key_length.to_be_bytes());
        self.buffer.extend_from_slice(&value_length.to_be_bytes());
        self.buffer.extend_from_slice(key.as_bytes());
        self.buffer.extend_from_slice(value);
        let check = crc32fast::hash(&self.buffer[CHECK_BYTES..]);
        self.buffer[..CHECK_BYTES].copy_from_slice(&check.to_be_bytes());
        let at = usize::from(self.half) * HALF_BYTES + self.at;
        self.file.write_all_at(&self.buffer, at as u64).map_err(Some)?;
        self.at += bytes;
        self.next += 1;
        Ok(())
    }
}

/// Says up to which sequence `meta.redb` has what was noted, within a transaction of the caller.
pub(super) fn cover(transaction: &Transaction, next: u64) -> Result<(), redb::Error> {
    transaction.open_table(COVERED)?.insert(COVERED_KEY, &next.to_be_bytes())
}

fn covered(meta: &Meta) -> Result<u64, Error> {
    let rows = meta.read_all(COVERED, |key, value| {
        let number = value.try_into().map(u64::from_be_bytes);
        number.map_err(|_| Error::Damaged(format!("the sequence of notes {key}")))
    })?;
    Ok(rows.into_iter().max().unwrap_or(0))
}

/// All notes, in order. What follows one that is none, or one that is older, is of a turn before.
fn read(bytes: &[u8]) -> Vec<Note<'_>> {
    let mut notes = Vec::new();
    for mut rest in bytes.chunks(HALF_BYTES) {
        let mut last = None;
        while let Some((note, behind)) = Note::read(rest).filter(|(note, _)| Some(note.sequence) > last) {
            last = Some(note.sequence);
            notes.push(note);
            rest = behind;
        }
    }
    notes.sort_by_key(|note| note.sequence);
    notes
}

impl<'a> Note<'a> {
    /// The first note of these bytes, and what is behind it.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (check, checked) = bytes.split_first_chunk()?;
        let (sequence, rest) = checked.split_first_chunk()?;
        let (key_length, rest) = rest.split_first_chunk()?;
        let (value_length, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(u16::from_be_bytes(*key_length).into())?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*value_length).into())?;
        let bytes = checked.len() - rest.len();
        if crc32fast::hash(&checked[..bytes]) != u32::from_be_bytes(*check) {
            return None;
        }
        let key = std::str::from_utf8(key).ok().filter(|key| !key.is_empty())?;
        Some((Self { sequence: u64::from_be_bytes(*sequence), key, value }, rest))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// The queue is in the key, what is known of it in the value.
    fn row(key: &str, value: &str) -> Row {
        Row { key: key.to_owned(), value: value.as_bytes().to_vec() }
    }

    struct Folder {
        folder: tempfile::TempDir,
        meta: Meta,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let meta = Meta::open(folder.path(), Arc::default()).unwrap();
            Self { folder, meta }
        }

        fn notes(&self) -> Notes {
            Notes::open(self.folder.path(), &self.meta).unwrap()
        }

        /// What `meta.redb` says, as `key=value`.
        fn rows(&self) -> Vec<String> {
            let text = |key: &str, value: &[u8]| Ok(format!("{key}={}", String::from_utf8_lossy(value)));
            self.meta.read_all(Definition::new("delivery"), text).unwrap()
        }

        fn write(&self, notes: &Notes, rows: &[Row]) {
            let covered = notes.turn().unwrap();
            let written = self.meta.write(|transaction| {
                kept::write(transaction, rows)?;
                cover(transaction, covered)
            });
            written.unwrap();
            notes.covered();
        }
    }

    #[test]
    fn what_was_noted_is_known_after_a_kill_and_the_last_note_counts() {
        let folder = Folder::new();
        let notes = folder.notes();
        notes.add(&row("g/t/0", "a"));
        notes.add(&row("g/t/1", "b"));
        notes.add(&row("g/t/0", "c"));
        drop(notes);
        folder.notes();
        assert_eq!(folder.rows(), ["g/t/0=c", "g/t/1=b"]);
    }

    #[test]
    fn what_is_written_is_not_undone_by_older_notes() {
        let folder = Folder::new();
        let notes = folder.notes();
        notes.add(&row("g/t/0", "a"));
        folder.write(&notes, &[row("g/t/0", "b")]);
        drop(notes);
        let notes = folder.notes();
        assert_eq!(folder.rows(), ["g/t/0=b"]);
        // Of the same size, so that the old note lies behind the new one.
        notes.add(&row("g/t/1", "c"));
        notes.add(&row("g/t/1", "d"));
        folder.write(&notes, &[row("g/t/1", "e")]);
        notes.add(&row("g/t/2", "f"));
        drop(notes);
        folder.notes();
        assert_eq!(folder.rows(), ["g/t/0=b", "g/t/1=e", "g/t/2=f"]);
    }

    #[test]
    fn notes_that_a_write_did_not_cover_outlive_the_next_turns() {
        let folder = Folder::new();
        let notes = folder.notes();
        notes.add(&row("g/t/0", "a"));
        // Two writes that failed.
        notes.turn();
        notes.add(&row("g/t/1", "b"));
        notes.turn();
        notes.add(&row("g/t/2", "c"));
        drop(notes);
        folder.notes();
        assert_eq!(folder.rows(), ["g/t/0=a", "g/t/1=b", "g/t/2=c"]);
    }

    #[test]
    fn what_is_forgotten_comes_back_only_when_it_is_made_anew() {
        let folder = Folder::new();
        let notes = folder.notes();
        folder.write(&notes, &[row("g/old/0", "a"), row("g/older/0", "a")]);
        notes.add(&row("g/t/0", "b"));
        notes.add(&row("g/t/1", "b"));
        notes.forget("g", "t");
        notes.forget("g", "old");
        notes.add(&row("g/t/1", "c"));
        drop(notes);
        folder.notes();
        assert_eq!(folder.rows(), ["g/older/0=a", "g/t/1=c"]);
    }

    #[test]
    fn a_half_that_is_full_takes_no_rows_until_it_is_covered() {
        let folder = Folder::new();
        let notes = folder.notes();
        let value = "v".repeat(LARGEST_VALUE);
        notes.add(&row("g/t/large", &(value.clone() + "v")));
        let mut added = 0;
        while notes.has_room() {
            notes.add(&row(&format!("g/t/{added}"), &value));
            added += 1;
        }
        assert!(added > 200, "{added}");
        notes.forget("g", "gone");
        notes.turn();
        assert!(notes.has_room());
        notes.add(&row("g/t/x", "a"));
        drop(notes);
        folder.notes();
        assert_eq!(folder.rows().len(), added, "all but the one without room, and one in the other half");
    }

    #[test]
    fn a_member_of_a_group_leaves_no_notes_behind() {
        let folder = Folder::new();
        folder.notes().add(&row("g/t/0", "a"));
        let none = Notes::none(folder.folder.path()).unwrap();
        none.add(&row("g/t/0", "b"));
        assert!(!none.has_room() && none.turn().is_none());
        Notes::none(folder.folder.path()).unwrap();
        folder.notes();
        assert!(folder.rows().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_notes_or_none(bytes: Vec<u8>, at in 0_usize..100, put: u8) {
            prop_assert!(read(&bytes).is_empty(), "no such luck");
            let folder = Folder::new();
            let notes = folder.notes();
            for n in 0..3 {
                notes.add(&row(&format!("g/t/{n}"), "abc"));
            }
            let mut bytes = fs::read(folder.folder.path().join(FILE)).unwrap();
            let before: Vec<u64> = read(&bytes).iter().map(|note| note.sequence).collect();
            prop_assert_eq!(&before, &[0, 1, 2]);
            bytes[at] = put;
            let after: Vec<u64> = read(&bytes).iter().map(|note| note.sequence).collect();
            prop_assert!(before.starts_with(&after));
        }
    }
}
