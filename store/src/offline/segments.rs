//! The segment files as they lie: any size, with gaps, cut short; nothing is refused, all is told.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use crate::LogOffset;
use crate::commit_log::reader::Reader;
use crate::commit_log::segment;
use crate::disk::Disk;

/// A segment file and what is odd about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Log offset of its first byte, which is its name.
    pub base: LogOffset,
    /// Bytes of the file.
    pub bytes: u64,
    /// What does not fit the others.
    pub odd: Option<Odd>,
}

/// Why a segment file does not fit the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// It reaches into the next one. What is in both is read from the next.
    Overlaps,
    /// Between its end and the next one so many bytes are missing.
    GapBehind(u64),
    /// It is the last and has another size than those before it.
    OtherSize,
    /// It is the last and empty: Java leaves such a file when it dies between creating and sizing it.
    Empty,
}

impl SegmentFile {
    /// Log offset behind its last byte.
    #[must_use]
    pub fn end(&self) -> LogOffset {
        self.base.plus(self.bytes)
    }
}

/// Notes what does not fit. `files` are sorted by base.
pub(super) fn judge(files: &[(u64, u64)]) -> Vec<SegmentFile> {
    let odd = |index: usize, base: u64, bytes: u64| match files.get(index + 1) {
        Some(&(next, _)) if base + bytes > next => Some(Odd::Overlaps),
        Some(&(next, _)) if base + bytes < next => Some(Odd::GapBehind(next - base - bytes)),
        Some(_) => None,
        None if bytes == 0 => Some(Odd::Empty),
        None => files.first().filter(|first| first.1 != bytes).map(|_| Odd::OtherSize),
    };
    let judged = files.iter().enumerate();
    judged
        .map(|(index, &(base, bytes))| SegmentFile {
            base: LogOffset(base),
            bytes,
            odd: odd(index, base, bytes),
        })
        .collect()
}

/// The segment files, to be read.
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    pub(super) files: Vec<SegmentFile>,
    /// Files in the directory that are no segments.
    pub(super) others: Vec<String>,
}

impl Segments {
    pub(super) fn list(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, Error> {
        let dir = root.join("commitlog");
        let listed = match disk.list(&dir) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoStore(root.to_path_buf()));
            }
            Err(error) => return Err(Error::at(&dir)(error)),
        };
        let (mut files, mut others) = (Vec::new(), Vec::new());
        for file in listed {
            match segment::base_of(&file.name) {
                Some(base) => files.push((base, file.bytes)),
                None => others.push(file.name),
            }
        }
        files.sort_unstable();
        let files = judge(&files);
        Ok(Self { disk, dir, files, others })
    }

    /// First byte that is there; 0 if none is.
    pub(super) fn min(&self) -> LogOffset {
        self.files.first().map_or(LogOffset(0), |file| file.base)
    }

    /// Behind the last byte that is there.
    pub(super) fn end(&self) -> LogOffset {
        self.files.last().map_or(LogOffset(0), SegmentFile::end)
    }

    /// The file's name, for people and for copies.
    pub(super) fn path(&self, index: usize) -> PathBuf {
        segment::path(&self.dir, self.files[index].base.0)
    }

    /// The log offsets that are read from this file.
    pub(super) fn range(&self, index: usize) -> Range<u64> {
        let file = &self.files[index];
        let next = self.files.get(index + 1).map_or(u64::MAX, |next| next.base.0);
        file.base.0..file.end().0.min(next)
    }

    /// The file that holds this place, or the first one behind it.
    pub(super) fn index_at(&self, at: u64) -> Option<usize> {
        (0..self.files.len()).find(|&index| at < self.range(index).end)
    }

    pub(super) fn open(&self, index: usize) -> Result<Reader, Error> {
        let path = self.path(index);
        let file = self.disk.open(&path).map_err(Error::at(&path))?;
        Ok(Reader::new(file, self.range(index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_and_where() {
        let check = |files: &[(u64, u64)], expected: &[Option<Odd>]| {
            let found: Vec<_> = judge(files).into_iter().map(|file| file.odd).collect();
            assert_eq!(found, expected, "{files:?}");
        };
        check(&[], &[]);
        check(&[(40, 10), (50, 10)], &[None, None]);
        check(&[(0, 10), (30, 10)], &[Some(Odd::GapBehind(20)), None]);
        check(&[(0, 10), (10, 4), (20, 10)], &[None, Some(Odd::GapBehind(6)), None]);
        check(&[(0, 12), (10, 12)], &[Some(Odd::Overlaps), None]);
        check(&[(0, 10), (10, 4)], &[None, Some(Odd::OtherSize)]);
        check(&[(0, 10), (10, 0)], &[None, Some(Odd::Empty)]);
    }
}
