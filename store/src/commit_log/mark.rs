//! A note of how far the log was flushed, so that recovery can tell rot from a torn tail.
//!
//! ```text
//!   root/flushed:  log offset u64, CRC-32 of it u32, big-endian
//! ```
//!
//! It is written after the flush that it tells of, and not flushed itself: what a crash leaves is true, if maybe old.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::LogOffset;
use crate::config::Flush;
use crate::disk::{Disk, File};
use crate::error::OpenError;

/// With sync flush there is a flush for every few messages, and valid records behind a bad one are kept anyway; the mark
/// need not follow each.
const SYNC_STEP: u64 = 256 << 10;

pub(super) struct FlushedMark {
    file: Arc<dyn File>,
    noted: AtomicU64,
    /// There was a mark when the log was opened.
    known: bool,
    step: u64,
}

impl FlushedMark {
    pub(super) fn open(disk: &dyn Disk, root: &Path, flush: Flush) -> Result<Self, OpenError> {
        let path = root.join("flushed");
        let failed = || OpenError::at(&path);
        let content = match disk.read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed()(error)),
        };
        let file = disk.open(&path).map_err(failed())?;
        let step = if flush == Flush::Sync { SYNC_STEP } else { 1 };
        let noted = decode(&content);
        Ok(Self { file, noted: AtomicU64::new(noted.unwrap_or(0)), known: noted.is_some(), step })
    }

    /// All before was flushed once.
    pub(super) fn flushed(&self) -> LogOffset {
        LogOffset(self.noted.load(Ordering::Relaxed))
    }

    /// Was there a mark when the log was opened? If not, it was never written to by us, or much is lost.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// The log was opened, and is flushed up to here. From now on there is a mark.
    pub(super) fn start_at(&self, flushed: LogOffset) {
        if !self.known {
            self.write(flushed);
        }
    }

    /// The log is flushed up to here.
    pub(super) fn note(&self, flushed: LogOffset) {
        if flushed.0 < self.noted.load(Ordering::Relaxed) + self.step {
            return;
        }
        self.write(flushed);
    }

    fn write(&self, flushed: LogOffset) {
        self.noted.store(flushed.0, Ordering::Relaxed);
        if let Err(error) = self.file.write_at(0, &encode(flushed)) {
            tracing::debug!(%error, "cannot note how far the log is flushed");
        }
    }
}

/// What the mark of a stopped store says; `None` without one.
pub(crate) fn read(disk: &dyn Disk, root: &Path) -> io::Result<Option<LogOffset>> {
    match disk.read(&root.join("flushed")) {
        Ok(content) => Ok(decode(&content).map(LogOffset)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn encode(flushed: LogOffset) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&flushed.0.to_be_bytes());
    let crc = crc32fast::hash(&bytes[..8]);
    bytes[8..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<u64> {
    let (offset, crc) = bytes.split_first_chunk::<8>()?;
    let same = *crc == crc32fast::hash(offset).to_be_bytes();
    same.then_some(u64::from_be_bytes(*offset))
}
