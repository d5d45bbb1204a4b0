//! A hostile disk in memory, for tests: it tears, loses what was not synced, fills up, and fails on call.
//!
//! Everything is decided by the caller or by a seed, so that a run can be repeated.

mod world;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::{Disk, File, Listed, Lock, Map, Space};
use world::{Change, Content, Dice, Names, Node, SECTOR, World, count_down};

/// How everything ends.
#[derive(Clone, Copy, Debug)]
pub enum Crash {
    /// The process is killed: what it wrote stays.
    Kill,
    /// The power goes, and nothing that was not synced had reached the disk.
    LoseUnsynced,
    /// The power goes, and any sector that was not synced may or may not have reached the disk; of the names that were
    /// not synced, the older ones did. This seed decides.
    Tear(u64),
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct MemoryDisk {
    world: Arc<Mutex<World>>,
    gate: Arc<Gate>,
}

/// Where reads of files pass, and can be held.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    bell: Condvar,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    waiting: usize,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock();
        state.waiting += 1;
        self.bell.notify_all();
        self.bell.wait_while(&mut state, |state| state.closed);
        state.waiting -= 1;
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl MemoryDisk {
    /// An empty disk of this size.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let world = World { capacity, ..World::default() };
        Self { world: Arc::new(Mutex::new(world)), gate: Arc::default() }
    }

    /// Grows or shrinks the disk.
    pub fn set_capacity(&self, bytes: u64) {
        self.world.lock().capacity = bytes;
    }

    /// Its size.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.world.lock().capacity
    }

    /// Calls so far that could have failed.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.world.lock().calls
    }

    /// The `n`-th call from now fails, once; 0 is the next.
    pub fn fail_call(&self, n: u64) {
        self.world.lock().fail_call = Some(n);
    }

    /// The `n`-th flush of a map from now fails, once, and as kernels do, what was dirty counts as clean after it.
    pub fn fail_flush(&self, n: u64) {
        self.world.lock().fail_flush = Some(n);
    }

    /// From now on reads of files find everything cached, or nothing, as at first.
    pub fn set_cached(&self, cached: bool) {
        self.world.lock().cached = cached;
    }

    /// Reads of files that must wait for the disk wait from now on, until [`MemoryDisk::release_reads`].
    pub fn hold_reads(&self) {
        self.gate.state.lock().closed = true;
    }

    /// Waits until so many reads of files are held.
    pub fn wait_for_held_reads(&self, count: usize) {
        self.gate.bell.wait_while(&mut self.gate.state.lock(), |state| state.waiting < count);
    }

    /// Lets reads of files go on.
    pub fn release_reads(&self) {
        self.gate.state.lock().closed = false;
        self.gate.bell.notify_all();
    }

    /// Ranges of files that were dropped from the cache, in their order: path and range.
    #[must_use]
    pub fn dropped(&self) -> Vec<(PathBuf, Range<u64>)> {
        self.world.lock().dropped.clone()
    }

    /// What is left after a crash: another disk. Handles of this one go on, to no effect on the other.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> Self {
        let world = self.world.lock();
        let mut dice = Dice(match crash {
            Crash::Tear(seed) => seed | 1,
            Crash::Kill | Crash::LoseUnsynced => 1,
        });
        let survives = match crash {
            Crash::Kill => world.changes.len(),
            Crash::LoseUnsynced => 0,
            Crash::Tear(_) => dice.below(world.changes.len() + 1),
        };
        let mut names = world.durable_names.clone();
        world.changes[..survives].iter().for_each(|change| change.apply(&mut names));
        let names: Names =
            names.into_iter().map(|(path, node)| (path, node.lock().after(crash, &mut dice))).collect();
        let world =
            World { durable_names: names.clone(), names, capacity: world.capacity, ..World::default() };
        Self { world: Arc::new(Mutex::new(world)), gate: Arc::default() }
    }

    /// Changes a file's bytes behind everybody's back.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let node = self.world.lock().node(path).expect("there is a file to edit");
        let mut content = node.lock();
        edit(&mut content.now);
        content.sync();
    }

    /// All files, by path.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.world.lock().names.keys().cloned().collect()
    }

    fn call(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        world.calls += 1;
        count_down(&mut world.fail_call)
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.call()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.call()?;
        let world = self.world.lock();
        let inside = world.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(inside
            .map(|(path, node)| Listed {
                name: path.file_name().expect("a file has a name").to_string_lossy().into_owned(),
                bytes: node.lock().now.len() as u64,
            })
            .collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call()?;
        let node = self.world.lock().node(path)?;
        let content = node.lock();
        Ok(content.now.clone())
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let failed = self.call();
        let mut world = self.world.lock();
        world.take(content.len() as u64)?;
        let node = world.node_or_new(path);
        drop(world);
        let mut file = node.lock();
        file.now = content.to_vec();
        if failed.is_err() {
            // Half of it, and none of that durable.
            file.now.truncate(content.len() / 2);
            let half = file.now.len();
            file.touched(0..half);
            return failed;
        }
        file.sync();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        let mut world = self.world.lock();
        let node = world.node(from)?;
        world.change(Change { path: to.to_owned(), from: Some(from.to_owned()), node: Some(node) });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        let mut world = self.world.lock();
        world.node(path)?;
        world.change(Change { path: path.to_owned(), from: None, node: None });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call()?;
        let mut world = self.world.lock();
        // A journal commits in order: what is older than the last change here goes with it.
        let last = world.changes.iter().rposition(|change| change.path.parent() == Some(dir));
        let durable: Vec<_> = world.changes.drain(..last.map_or(0, |last| last + 1)).collect();
        durable.iter().for_each(|change| change.apply(&mut world.durable_names));
        Ok(())
    }

    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.call()?;
        let mut world = self.world.lock();
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.take(bytes)?;
        let zeros = vec![0; bytes as usize];
        let node =
            Arc::new(Mutex::new(Content { durable: zeros.clone(), now: zeros, dirty: BTreeSet::new() }));
        world.change(Change { path: path.to_owned(), from: None, node: Some(node) });
        Ok(())
    }

    fn map(&self, path: &Path, bytes: u64, published: u64) -> io::Result<Arc<dyn Map>> {
        self.call()?;
        let node = self.world.lock().node(path)?;
        let found = node.lock().now.len() as u64;
        if found != bytes || published > bytes {
            return Err(io::Error::other(format!("the file has {found} bytes, not {bytes}")));
        }
        Ok(Arc::new(MemoryMap { disk: self.clone(), node, bytes, published: AtomicU64::new(published) }))
    }

    fn data_end(&self, path: &Path) -> io::Result<u64> {
        self.call()?;
        let node = self.world.lock().node(path)?;
        let content = node.lock();
        Ok(content.now.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.call()?;
        let node = self.world.lock().node_or_new(path);
        Ok(Arc::new(MemoryFile { disk: self.clone(), node, path: path.to_owned(), to_read: false }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.call()?;
        let node = self.world.lock().node(path)?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), node, path: path.to_owned(), to_read: true }))
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        self.call()?;
        let world = self.world.lock();
        Ok(Space { total_bytes: world.capacity, free_bytes: world.capacity.saturating_sub(world.used()) })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.call()?;
        if !self.world.lock().locked.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemoryLock { disk: self.clone(), path: path.to_owned() })))
    }
}

struct MemoryLock {
    disk: MemoryDisk,
    path: PathBuf,
}

impl Lock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.disk.world.lock().locked.remove(&self.path);
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    node: Node,
    path: PathBuf,
    to_read: bool,
}

impl File for MemoryFile {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.disk.gate.pass();
        self.disk.call()?;
        let content = self.node.lock();
        let range = at as usize..at as usize + into.len();
        let found = content.now.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(found);
        Ok(())
    }

    fn read_cached_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.call()?;
        if !self.disk.world.lock().cached {
            return Ok(0);
        }
        let content = self.node.lock();
        let found = content.now.get(at as usize..).unwrap_or_default();
        let len = found.len().min(into.len());
        into[..len].copy_from_slice(&found[..len]);
        Ok(len)
    }

    fn drop_cached(&self, range: Range<u64>) {
        self.disk.world.lock().dropped.push((self.path.clone(), range));
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.to_read {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.disk.call()?;
        let range = at as usize..at as usize + bytes.len();
        let growth = range.end.saturating_sub(self.node.lock().now.len());
        self.disk.world.lock().take(growth as u64)?;
        let mut content = self.node.lock();
        if content.now.len() < range.end {
            content.now.resize(range.end, 0);
        }
        content.now[range.clone()].copy_from_slice(bytes);
        content.touched(range);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call()?;
        self.node.lock().sync();
        Ok(())
    }
}

struct MemoryMap {
    disk: MemoryDisk,
    node: Node,
    bytes: u64,
    published: AtomicU64,
}

impl Map for MemoryMap {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    fn fill(&self, range: Range<u64>, write: &mut dyn FnMut(&mut [u8])) {
        assert!(
            self.published() <= range.start && range.start <= range.end && range.end <= self.bytes,
            "only what readers cannot see may be written"
        );
        let range = range.start as usize..range.end as usize;
        let mut content = self.node.lock();
        write(&mut content.now[range.clone()]);
        content.touched(range);
    }

    fn publish(&self, end: u64) {
        assert!(self.published() <= end && end <= self.bytes, "the published end never goes back");
        self.published.store(end, Ordering::Release);
    }

    fn slice(&self, range: Range<u64>) -> Option<Bytes> {
        if range.start > range.end || range.end > self.published() {
            return None;
        }
        Some(Bytes::copy_from_slice(&self.node.lock().now[range.start as usize..range.end as usize]))
    }

    fn flush(&self, range: Range<u64>) -> io::Result<()> {
        let failed = self.disk.call().and_then(|()| count_down(&mut self.disk.world.lock().fail_flush));
        let mut content = self.node.lock();
        let first = range.start as usize / SECTOR;
        let end = (range.end as usize).div_ceil(SECTOR).max(first);
        let flushed: Vec<_> = content.dirty.range(first..end).copied().collect();
        for sector in &flushed {
            content.dirty.remove(sector);
        }
        // What this or an earlier failure dropped stays dropped.
        failed?;
        for sector in flushed {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(content.now.len());
            let Content { now, durable, .. } = &mut *content;
            durable[range.clone()].copy_from_slice(&now[range]);
        }
        Ok(())
    }

    fn populate(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    fn seal(&self) {}
}
