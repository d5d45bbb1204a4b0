//! Notes of how far the log was flushed, so that recovery can tell rot from a torn tail, and of how far it was confirmed,
//! where others have a say in that.
//!
//! ```text
//!   root/flushed, root/confirmed:  log offset u64, CRC-32 of it u32, big-endian
//! ```
//!
//! They are written after what they tell of, and not flushed themselves: what a crash leaves is true, if maybe old.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::LogOffset;
use crate::config::Flush;
use crate::disk::{Disk, File, replace};
use crate::error::OpenError;

/// With sync flush there is a flush for every few messages, and valid records behind a bad one are kept anyway; the mark
/// need not follow each.
const SYNC_STEP: u64 = 256 << 10;

pub(crate) struct Mark {
    file: Arc<dyn File>,
    path: PathBuf,
    noted: AtomicU64,
    /// There was a mark when the log was opened.
    known: bool,
    step: u64,
}

impl Mark {
    /// How far the log was flushed.
    pub(super) fn flushed(disk: &dyn Disk, root: &Path, flush: Flush) -> Result<Self, OpenError> {
        Self::open(disk, flushed_path(root), flush)
    }

    /// How far it was confirmed.
    pub(crate) fn confirmed(disk: &dyn Disk, root: &Path, flush: Flush) -> Result<Self, OpenError> {
        Self::open(disk, confirmed_path(root), flush)
    }

    fn open(disk: &dyn Disk, path: PathBuf, flush: Flush) -> Result<Self, OpenError> {
        let failed = || OpenError::at(&path);
        let content = match disk.read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed()(error)),
        };
        let file = disk.open(&path).map_err(failed())?;
        let step = if flush == Flush::Sync { SYNC_STEP } else { 1 };
        let noted = decode(&content);
        let known = noted.is_some();
        Ok(Self { file, path, noted: AtomicU64::new(noted.unwrap_or(0)), known, step })
    }

    /// All before was flushed, or confirmed, once.
    pub(crate) fn noted(&self) -> LogOffset {
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

    /// The log is flushed, or confirmed, up to here. One caller at a time.
    pub(crate) fn note(&self, to: LogOffset) {
        if to.0 < self.noted.load(Ordering::Relaxed).saturating_add(self.step) {
            return;
        }
        self.write(to);
    }

    /// The same, however little is new.
    pub(crate) fn note_exactly(&self, to: LogOffset) {
        if to > self.noted() {
            self.write(to);
        }
    }

    fn write(&self, to: LogOffset) {
        self.noted.store(to.0, Ordering::Relaxed);
        if let Err(error) = self.file.write_at(0, &encode(to)) {
            tracing::debug!(path = %self.path.display(), %error, "cannot note how far the log is");
        }
    }
}

/// Takes back what the marks say of the log from `to` on, while nobody has them open. Durable when it returns.
pub(crate) fn lower(disk: &dyn Disk, root: &Path, to: LogOffset) -> io::Result<()> {
    for path in [flushed_path(root), confirmed_path(root)] {
        lower_one(disk, &path, to)?;
    }
    Ok(())
}

/// The same for how far the log was confirmed.
pub(crate) fn lower_confirmed(disk: &dyn Disk, root: &Path, to: LogOffset) -> io::Result<()> {
    lower_one(disk, &confirmed_path(root), to)
}

fn lower_one(disk: &dyn Disk, path: &Path, to: LogOffset) -> io::Result<()> {
    if read_one(disk, path)?.is_some_and(|noted| noted > to) {
        replace(disk, path, &encode(to))
    } else {
        Ok(())
    }
}

fn flushed_path(root: &Path) -> PathBuf {
    root.join("flushed")
}

fn confirmed_path(root: &Path) -> PathBuf {
    root.join("confirmed")
}

/// What the mark of a stopped store says; `None` without one.
pub(crate) fn read(disk: &dyn Disk, root: &Path) -> io::Result<Option<LogOffset>> {
    read_one(disk, &flushed_path(root))
}

/// How far a stopped store's log was confirmed at least; `None` if nobody was told.
pub(crate) fn read_confirmed(disk: &dyn Disk, root: &Path) -> io::Result<Option<LogOffset>> {
    read_one(disk, &confirmed_path(root))
}

fn read_one(disk: &dyn Disk, path: &Path) -> io::Result<Option<LogOffset>> {
    match disk.read(path) {
        Ok(content) => Ok(decode(&content).map(LogOffset)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn encode(to: LogOffset) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&to.0.to_be_bytes());
    let crc = crc32fast::hash(&bytes[..8]);
    bytes[8..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<u64> {
    let (offset, crc) = bytes.split_first_chunk::<8>()?;
    let same = *crc == crc32fast::hash(offset).to_be_bytes();
    same.then_some(u64::from_be_bytes(*offset))
}
