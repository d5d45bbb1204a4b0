//! The real disk. The only module of the project with `unsafe`: it makes slices of mapped files.
//!
//! What could go wrong, and who sees to it that it does not:
//! - *A byte is read while it is written.* Readers get bytes below `published` only, and the one writer fills above
//!   it only; both are checked here on every call.
//! - *The mapping goes away under a slice.* Each slice owns a count of the mapping.
//! - *The file gets shorter, and a touch is SIGBUS.* Files are allocated whole and never cut, and the lock file keeps
//!   other stores out. Whoever truncates a live store's files from outside kills it, as with any mapped database.
//! - *The disk is full, and a touch is SIGBUS.* `allocate` reserves every block first.

#![expect(
    unsafe_code,
    reason = "a mapping is raw memory; this module makes slices of it and checks who may see what"
)]

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, FlockOperation, SeekFrom};
use rustix::io::ReadWriteFlags;

use super::frontier::Frontier;
use super::{Disk, File, FlushGate, Listed, Lock, Map, Space};
use crate::planted::{Bug, is_planted};

/// Written ahead of the log's end.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

const PAGE_BYTES: u64 = 4096;

/// The file system of the machine. Clones share their [`FlushGate`].
#[derive(Clone, Debug, Default)]
pub struct RealDisk {
    gate: Arc<FlushGate>,
}

impl Disk for RealDisk {
    fn flush_gate(&self) -> &Arc<FlushGate> {
        &self.gate
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                listed.push(Listed { name, bytes: metadata.len() });
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        fs::File::open(path)?.read_to_end(&mut content)?;
        Ok(content)
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = fs::File::create(path)?;
        file.write_all(content)?;
        self.gate.pass("a flush of a small file", || file.sync_all())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = fs::File::open(dir)?;
        self.gate.pass("a flush of a directory", || dir.sync_all())
    }

    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let allocated = reserve(&file, bytes)
            .and_then(|()| self.gate.pass("a flush of a new segment", || file.sync_all()));
        if allocated.is_err() {
            // The first error is the one to tell; a file that stays is removed at the next attempt or opening.
            let _ = fs::remove_file(path);
        }
        allocated
    }

    fn map(&self, path: &Path, bytes: u64, published: u64) -> io::Result<Arc<dyn Map>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let found = file.metadata()?.len();
        if found != bytes || published > bytes {
            return Err(io::Error::other(format!("the file has {found} bytes, not {bytes}")));
        }
        let len = usize::try_from(bytes).map_err(io::Error::other)?;
        if published < bytes && file.metadata()?.blocks() * 512 < bytes {
            reserve(&file, bytes)?;
        }
        let memory = MmapOptions::new().len(len).map_raw(&file)?;
        if published < bytes {
            // A writer that comes to a page before it is ready must not wait for its neighbours to be read as well.
            memory.advise(Advice::Random)?;
        }
        Ok(Arc::new(MappedFile {
            gate: Arc::clone(&self.gate),
            memory: Arc::new(memory),
            file: Mutex::new(Some(Arc::new(file))),
            frontier: Frontier::new(published),
            published: AtomicU64::new(published),
            writing: AtomicBool::new(false),
        }))
    }

    fn data_end(&self, path: &Path) -> io::Result<u64> {
        let file = fs::File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut end = 0;
        while end < bytes {
            match rustix::fs::seek(&file, SeekFrom::Data(end)) {
                Ok(data) => end = rustix::fs::seek(&file, SeekFrom::Hole(data))?,
                Err(rustix::io::Errno::NXIO) => return Ok(end),
                // The file system cannot tell.
                Err(rustix::io::Errno::INVAL) => return Ok(bytes),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bytes)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Arc::new(PlainFile { gate: Arc::clone(&self.gate), file }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::File::open(path)?;
        // Whoever reads knows better what comes next than the kernel, which would read what is dropped again.
        if let Err(error) = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random) {
            tracing::debug!(%error, "the system takes no advice on a file");
        }
        Ok(Arc::new(PlainFile { gate: Arc::clone(&self.gate), file }))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        Ok(Space {
            total_bytes: (used + stat.f_bavail) * stat.f_frsize,
            free_bytes: stat.f_bavail * stat.f_frsize,
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // flock tells two opens of one process apart; the POSIX lock is the one that Java takes.
        for taken in [
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive),
            rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive),
        ] {
            match taken {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::ACCESS) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        file.write_all(b"lock")?;
        Ok(Some(Box::new(LockFile(file))))
    }
}

/// Reserves every block. File systems without `fallocate` get zeros written instead.
fn reserve(file: &fs::File, bytes: u64) -> io::Result<()> {
    if is_planted(Bug::SparseSegments) {
        return file.set_len(bytes);
    }
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::OPNOTSUPP) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let step = (bytes - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..step as usize], at)?;
        at += step;
    }
    Ok(())
}

struct LockFile(fs::File);

impl Drop for LockFile {
    fn drop(&mut self) {
        // A process that is being started by another thread holds a copy of the descriptor for a moment, and with it the lock.
        let _closed_anyway = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

impl Lock for LockFile {}

struct PlainFile {
    gate: Arc<FlushGate>,
    file: fs::File,
}

impl File for PlainFile {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, at)
    }

    fn read_cached_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut found = 0;
        while found < into.len() {
            let rest = &mut [io::IoSliceMut::new(&mut into[found..])];
            match rustix::io::preadv2(&self.file, rest, at + found as u64, ReadWriteFlags::NOWAIT) {
                Ok(0) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::OPNOTSUPP) => break,
                Ok(more) => found += more,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    fn drop_cached(&self, range: Range<u64>) {
        let Some(len) = NonZeroU64::new(range.end.saturating_sub(range.start)) else { return };
        if let Err(error) =
            rustix::fs::fadvise(&self.file, range.start, Some(len), rustix::fs::Advice::DontNeed)
        {
            tracing::debug!(%error, "the system takes no advice on a file");
        }
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass("a flush of a file", || self.file.sync_data())
    }
}

struct MappedFile {
    gate: Arc<FlushGate>,
    memory: Arc<MmapRaw>,
    /// For zeros ahead of the writer, and what is written again; `None` once sealed: the mapping keeps the file.
    file: Mutex<Option<Arc<fs::File>>>,
    frontier: Frontier,
    /// Readers below, the writer above. Only grows.
    published: AtomicU64,
    /// Somebody is in `fill` or `publish`.
    writing: AtomicBool,
}

impl MappedFile {
    /// Runs `work` as the only writer.
    fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Leave<'a>(&'a AtomicBool);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        assert!(!self.writing.swap(true, Ordering::Acquire), "a mapped file has one writer at a time");
        let _leave = Leave(&self.writing);
        work()
    }

    /// Takes the whole pages of this range out of the page tables, all at once. Otherwise a flush write-protects one after
    /// the other, and each time interrupts every core that runs the process.
    fn unmap_pages(&self, range: Range<u64>) {
        let start = range.start.next_multiple_of(PAGE_BYTES);
        // The end of the mapping is that of a page as well, whatever the file's length.
        let end = if range.end == self.bytes() { range.end } else { range.end / PAGE_BYTES * PAGE_BYTES };
        if start >= end {
            return;
        }
        // SAFETY: for a shared mapping of a file this drops page table entries only, and notes which pages are dirty; the
        // next touch finds the same bytes in the page cache or on disk.
        let dropped = unsafe {
            self.memory.unchecked_advise_range(
                UncheckedAdvice::DontNeed,
                start as usize,
                (end - start) as usize,
            )
        };
        if let Err(error) = dropped {
            // Locked pages stay.
            tracing::trace!(%error, "cannot drop page table entries");
        }
    }
}

impl Map for MappedFile {
    fn bytes(&self) -> u64 {
        self.memory.len() as u64
    }

    fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    fn fill(&self, range: Range<u64>, write: &mut dyn FnMut(&mut [u8])) {
        self.alone(|| {
            assert!(
                self.published() <= range.start && range.start <= range.end && range.end <= self.bytes(),
                "only what readers cannot see may be written"
            );
            self.frontier.claim(range.end);
            let len = (range.end - range.start) as usize;
            // SAFETY: the range lies within the mapping (asserted), which `memory` keeps mapped. No other reference
            // covers it: slices reach up to `published` at most (`slice` checks, and `published` moves only through
            // `alone`), other fills are kept out by `alone`, and the contract of `Disk::map` rules out a second map.
            // The bytes are initialised, being a file's.
            let bytes = unsafe {
                std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().add(range.start as usize), len)
            };
            write(bytes);
        });
    }

    fn publish(&self, end: u64) {
        self.alone(|| {
            assert!(self.published() <= end && end <= self.bytes(), "the published end never goes back");
            self.frontier.claim(end);
            self.published.store(end, Ordering::Release);
        });
    }

    fn slice(&self, range: Range<u64>) -> Option<Bytes> {
        if range.start > range.end || range.end > self.published() {
            return None;
        }
        let range = range.start as usize..range.end as usize;
        Some(Bytes::from_owner(Slice { memory: Arc::clone(&self.memory), range }))
    }

    fn flush(&self, range: Range<u64>) -> io::Result<()> {
        let end = range.end.min(self.bytes());
        if range.start >= end {
            return Ok(());
        }
        self.unmap_pages(range.start..end);
        // `msync` of a part is `fdatasync` of that part: the pages, then the allocation by way of the journal. With the
        // whole file, pages touched ahead would be written for nothing, and every append would find them write-protected.
        let (start, len) = (range.start as usize, (end - range.start) as usize);
        self.gate.pass("a flush of the log", || self.memory.flush_range(start, len))
    }

    fn write_again(&self, range: Range<u64>) -> io::Result<()> {
        let file = self.file.lock().clone().ok_or_else(|| io::Error::other("a sealed file takes no more"))?;
        let bytes = self.slice(range.clone()).expect("only what readers see is written again");
        // From a copy: the system need not lock a page that it reads from and writes to. Readers see the same bytes all
        // the while.
        let mut copy = vec![0; ZEROS.len()];
        for (part, at) in bytes.chunks(ZEROS.len()).zip((range.start..).step_by(ZEROS.len())) {
            copy[..part.len()].copy_from_slice(part);
            file.write_all_at(&copy[..part.len()], at)?;
        }
        Ok(())
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        let Some(file) = self.file.lock().clone() else { return Ok(()) };
        self.frontier.ahead(range.start..range.end.min(self.bytes()), |range| {
            // Writing zeros puts large folios into the page cache, at a third of what a fault for each page costs
            // (docs/decisions/0005-zeros-ahead-of-the-writer.md); then the page tables.
            for start in range.clone().step_by(ZEROS.len()) {
                let len = (range.end - start).min(ZEROS.len() as u64) as usize;
                file.write_all_at(&ZEROS[..len], start)?;
            }
            let len = (range.end - range.start) as usize;
            self.memory.advise_range(Advice::PopulateWrite, range.start as usize, len)
        })
    }

    fn lock(&self) -> io::Result<()> {
        self.memory.lock()
    }

    fn seal(&self) {
        *self.file.lock() = None;
        if let Err(error) = self.memory.unlock() {
            tracing::debug!(%error, "cannot unlock a sealed segment");
        }
        self.unmap_pages(0..self.bytes());
        if let Err(error) = self.memory.advise(Advice::Normal) {
            tracing::debug!(%error, "the system takes no advice on a mapping");
        }
    }
}

/// A part of a mapping that keeps it mapped.
struct Slice {
    memory: Arc<MmapRaw>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `MappedFile::slice` made the range within the mapping and below `published`, where nobody writes
        // any more; `memory` keeps it mapped for as long as `self` lives. The bytes are initialised, being a file's.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(self.range.start), self.range.len()) }
    }
}
