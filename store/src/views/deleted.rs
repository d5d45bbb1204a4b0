//! Topics that were deleted stay deleted: their records are still in the log, and a rebuild would bring them back.
//!
//! A mark is the topic and the log's end at its deletion; records of the topic before it belong to no queue. The file is
//! rewritten whole at every deletion: marks go when retention has removed the records they hide.
//!
//! ```text
//!   "GANTRYVD", count u32, per mark: name u16+n, log offset u64; CRC-32 of all before (see frame.rs)
//! ```

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::LogOffset;
use crate::disk::Disk;
use crate::frame::{self, Kept, Magic};

pub(super) const MAGIC: &Magic = b"GANTRYVD";

/// Topic and the log's end when it was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(pub(super) HashMap<String, LogOffset>);

impl Marks {
    /// Does this record belong to a deleted life of its topic?
    pub(super) fn hide(&self, topic: &str, at: LogOffset) -> bool {
        !self.0.is_empty() && self.0.get(topic).is_some_and(|deleted_at| at < *deleted_at)
    }

    /// Was the topic deleted after everything that is in a snapshot of this reach?
    pub(super) fn is_gone(&self, topic: &str, complete_to: LogOffset) -> bool {
        self.0.get(topic).is_some_and(|deleted_at| *deleted_at >= complete_to)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = (self.0.len() as u32).to_be_bytes().to_vec();
        for (topic, at) in &self.0 {
            out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
            out.extend_from_slice(topic.as_bytes());
            out.extend_from_slice(&at.0.to_be_bytes());
        }
        out
    }

    pub(super) fn decode(content: &[u8]) -> Option<Self> {
        let (count, mut rest) = content.split_first_chunk::<4>()?;
        let mut marks = HashMap::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let (len, tail) = rest.split_first_chunk::<2>()?;
            let (topic, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            let (at, tail) = tail.split_first_chunk::<8>()?;
            marks.insert(String::from_utf8(topic.to_vec()).ok()?, LogOffset(u64::from_be_bytes(*at)));
            rest = tail;
        }
        rest.is_empty().then_some(Self(marks))
    }

    /// Durable when it returns.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        frame::write(disk, &path(dir), MAGIC, &self.encode())
    }

    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        match frame::read(disk, &path(dir), MAGIC, Self::decode)? {
            Kept::Good(marks) => Ok(marks),
            Kept::Nothing => Ok(Self::default()),
            Kept::Damaged => {
                tracing::error!(
                    "the marks of deleted topics are damaged, a rebuild of the views brings such topics back"
                );
                Ok(Self::default())
            }
        }
    }
}

/// The marks in use, and their file. Where several topics are deleted at once, the file is written once for all who wait.
pub(super) struct KeptMarks {
    /// And how often they changed.
    marks: Mutex<(Marks, u64)>,
    /// The same number, for those who only want to know whether there was a change.
    changes: AtomicU64,
    /// The change that the file has; locked while it is written.
    stored: Mutex<u64>,
}

impl KeptMarks {
    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        let marks = Mutex::new((Marks::load(disk, dir)?, 0));
        Ok(Self { marks, changes: AtomicU64::new(0), stored: Mutex::new(0) })
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Marks) -> T) -> T {
        look(&self.marks.lock().0)
    }

    /// Follow with [`KeptMarks::store`].
    pub(super) fn change(&self, change: impl FnOnce(&mut HashMap<String, LogOffset>)) {
        let mut marks = self.marks.lock();
        change(&mut marks.0.0);
        marks.1 += 1;
        self.changes.store(marks.1, Ordering::Release);
    }

    /// Grows with every change.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// All changes made before are durable when it returns.
    pub(super) fn store(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let mut stored = self.stored.lock();
        let (content, change) = {
            let marks = self.marks.lock();
            if marks.1 == *stored {
                return Ok(());
            }
            (marks.0.encode(), marks.1)
        };
        frame::write(disk, &path(dir), MAGIC, &content)?;
        *stored = change;
        Ok(())
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("deleted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_as_they_were_and_what_is_cut_off_is_missed() {
        let marks =
            Marks(HashMap::from([("a".to_owned(), LogOffset(5)), ("béta".to_owned(), LogOffset(u64::MAX))]));
        let content = marks.encode();
        assert_eq!(Marks::decode(&content), Some(marks));
        for at in 0..content.len() {
            assert_eq!(Marks::decode(&content[..at]), None, "length {at}");
        }
        assert_eq!(Marks::decode(&[content, vec![0]].concat()), None);
    }
}
