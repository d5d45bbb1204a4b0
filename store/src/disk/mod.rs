//! What the store asks of a disk: few things, and each with its promise about a crash.
//!
//! Two disks keep the contract and pass the same suite (`tests/store/disk.rs`): [`RealDisk`]
//! (mapped files, the only `unsafe` of the project) and [`MemoryDisk`] (tears, loses, fills up, fails on call).
//!
//! ```text
//!   a mapped file:   0 ........ published ............ len
//!                    │  readers' │ the writer's alone  │      slices below `published` only,
//!                    │  slices   │ (fill, then publish)│      fills above it only: never both on one byte
//! ```

mod flush_gate;
mod frontier;
mod mapped;
mod memory;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use flush_gate::{FlushGate, Listener};
pub use mapped::RealDisk;
pub use memory::{Crash, Failed, Fault, MemoryDisk};

/// A file that was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name in the directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// Room of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes in use by anybody and bytes that we may still use; what is kept for root counts as neither, as `df` does.
    pub total_bytes: u64,
    /// What we may still use.
    pub free_bytes: u64,
}

impl Space {
    /// How full the volume is, in percent, rounded up as `df` does; an unknown one is empty.
    #[must_use]
    pub fn used_percent(&self) -> u8 {
        let used = self.total_bytes.saturating_sub(self.free_bytes);
        let percent = (u128::from(used) * 100).div_ceil(u128::from(self.total_bytes.max(1)));
        u8::try_from(percent).unwrap_or(100)
    }
}

/// Keeps a lock file locked; dropping it unlocks.
pub trait Lock: Send + Sync {}

/// A place for files.
///
/// A name (created, renamed, removed) survives a crash once [`Disk::sync_dir`] of its directory returned; before
/// that either state may be found. Content survives as each operation says.
///
/// Whatever makes something durable ([`Disk::write`], [`Disk::sync_dir`], [`Disk::allocate`], [`Map::flush`],
/// [`File::sync`]) passes the [`FlushGate`].
pub trait Disk: Send + Sync + 'static {
    /// For what others make durable on this device.
    fn flush_gate(&self) -> &Arc<FlushGate>;

    /// Makes the directory and its parents, if they are missing.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The files of a directory, by name. Directories in it are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>>;

    /// The whole content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Makes or replaces the file. When it returns the *content* is durable. A crash before that leaves any
    /// content: to replace a file that matters, write a new one and rename it.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// Renames within the volume, over an existing file if there is one.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name; the bytes stay as long as a map or a slice of it lives.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in this directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a file of `bytes` zeros with all its room reserved, durably: later writes to it cannot run out of
    /// space. Leaves no file behind when it fails.
    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()>;

    /// Maps a file of exactly `bytes`. What lies below `published` may be read from the start.
    ///
    /// A file with holes, as RocketMQ leaves its segments, has all its room reserved before it is mapped for writing
    /// (`published` below `bytes`). A sealed map keeps no descriptor open.
    ///
    /// At most one map of a file may be filled at a time, and nobody may hold slices of an older map of it that reach
    /// above `published`: the store maps a segment anew after recovery has dropped its own map.
    fn map(&self, path: &Path, bytes: u64, published: u64) -> io::Result<Arc<dyn Map>>;

    /// Nothing that is not zero lies in the file at or above this. An upper bound, cheap to get.
    fn data_end(&self, path: &Path) -> io::Result<u64>;

    /// Opens or creates a file for positioned reads and writes.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file that is there, for reading only: writing to it is an error. While it is open its bytes stay, whatever
    /// becomes of its name. It shows what a map of the file has published.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Room of the volume that holds `dir`.
    fn space(&self, dir: &Path) -> io::Result<Space>;

    /// Locks a file against other processes and other opens; `None` if someone has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
}

/// A file of fixed length in memory: one writer behind the published end, any number of readers before it.
pub trait Map: Send + Sync + 'static {
    /// Bytes of the file.
    fn bytes(&self) -> u64;

    /// Readers may look below this.
    fn published(&self) -> u64;

    /// Lets `write` fill a range that lies at or above [`Map::published`]. One caller at a time.
    ///
    /// # Panics
    /// If the range is not wholly above the published end and within the file, or two fill at once.
    fn fill(&self, range: Range<u64>, write: &mut dyn FnMut(&mut [u8]));

    /// Lets readers look below `end`, which never goes back. Not durable by that.
    ///
    /// # Panics
    /// If `end` goes back or beyond the file, or somebody is filling.
    fn publish(&self, end: u64);

    /// Bytes below the published end, without a copy where the disk can; they keep the file's bytes alive.
    /// `None` if the range reaches above it.
    fn slice(&self, range: Range<u64>) -> Option<Bytes>;

    /// Returns when all that was filled in this range before the call is durable, and the file's allocation with it. Writes
    /// no more than the pages of the range: what is touched ahead of the end stays as it is. After an error nobody can
    /// know what is durable.
    fn flush(&self, range: Range<u64>) -> io::Result<()>;

    /// Makes sure that the next flush of this published range carries it to the disk, even if one that failed, of an older
    /// map of this file, left it taken for clean.
    fn write_again(&self, range: Range<u64>) -> io::Result<()>;

    /// A hint: this range will be filled soon, so make its pages ready. A writer that reaches the range meanwhile waits for
    /// it. An error means that the range is not ready.
    fn populate(&self, range: Range<u64>) -> io::Result<()>;

    /// A hint: keeps the file's pages in memory until [`Map::seal`]. An error says that this process may not.
    fn lock(&self) -> io::Result<()>;

    /// No fill, no writing again and no flush comes any more: page tables may be given back. Slices stay good.
    fn seal(&self);
}

/// A file for positioned reads and writes; it grows as it is written.
pub trait File: Send + Sync + 'static {
    /// Reads exactly this range; an error if the file ends before.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()>;

    /// Reads from the start of this range what can be had without waiting for the disk; returns how many bytes. None, where
    /// the system cannot tell.
    fn read_cached_at(&self, _at: u64, _into: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    /// A hint: nobody will want these bytes again soon, so they need not stay in memory.
    fn drop_cached(&self, _range: Range<u64>) {}

    /// Writes all of `bytes`. Not durable by that; after a crash any mix of old and new sectors may be found.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was written before the call is durable.
    fn sync(&self) -> io::Result<()>;
}

/// How far a read may go for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To what the store has in memory: no call of the system.
    Memory,
    /// To what the system has in memory: no wait for the disk.
    PageCache,
    /// To the disk.
    Disk,
    /// To the disk, for bytes that nobody wants soon: what the system has in memory stays as it is.
    DiskOnce,
}

/// Does this error say that room is missing, so that trying again later is right?
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Replaces a small file so that a crash leaves the old or the new one, whole.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let temp = path.with_extension("temp");
    disk.write(&temp, content)?;
    disk.rename(&temp, path)?;
    disk.sync_dir(path.parent().expect("a file of the store lies in a directory"))
}
