//! A hostile disk in memory, for tests: it tears, loses what was not synced, fills up, and fails on call.
//!
//! Everything is decided by the caller or by a seed, so that a run can be repeated.

mod fault;
mod world;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::{Disk, File, FlushGate, Listed, Lock, Map, Space};
pub use fault::{Failed, Fault};
use world::{Change, Content, Dice, Names, Node, World};

/// How everything ends.
#[derive(Clone, Copy, Debug)]
pub enum Crash {
    /// The process is killed: what it wrote stays, and is as durable as it was.
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
    flush_gate: Arc<FlushGate>,
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
        Self { world: Arc::new(Mutex::new(world)), gate: Arc::default(), flush_gate: Arc::default() }
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
        self.world.lock().plan.calls
    }

    /// The `n`-th call from now fails, once, and half of it is done; 0 is the next.
    pub fn fail_call(&self, n: u64) {
        self.fail_call_with(n, Fault::Half);
    }

    /// The `n`-th call from now fails so, once; 0 is the next. If it makes bytes durable, then as kernels do, what was
    /// dirty counts as clean after it.
    pub fn fail_call_with(&self, n: u64, fault: Fault) {
        self.world.lock().plan.fail_call(n, fault);
    }

    /// The `n`-th flush of a map from now fails, once, and what was dirty counts as clean after it.
    pub fn fail_flush(&self, n: u64) {
        self.world.lock().plan.fail_flush(n);
    }

    /// The call that failed because it was told to, if it was reached.
    #[must_use]
    pub fn failed(&self) -> Option<Failed> {
        self.world.lock().plan.failed.clone()
    }

    /// From now on reads of files find everything cached, or nothing, as at first.
    pub fn set_cached(&self, cached: bool) {
        self.world.lock().cached = cached;
    }

    /// From now on reads of this file fail where they touch these bytes.
    pub fn make_unreadable(&self, path: &Path, bytes: Range<u64>) {
        self.world.lock().unreadable.push((path.to_owned(), bytes));
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

    /// The same disk as the next process finds it, whatever failed in this one.
    #[must_use]
    pub fn for_a_new_process(&self) -> Self {
        Self { flush_gate: Arc::default(), ..self.clone() }
    }

    /// What is left after a crash: another disk. Handles of this one go on, to no effect on the other.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> Self {
        let world = self.world.lock();
        let mut dice = match crash {
            // The system still holds what the process wrote, and what is durable of it.
            Crash::Kill => {
                return Self {
                    world: Arc::new(Mutex::new(world.fork())),
                    gate: Arc::default(),
                    flush_gate: Arc::default(),
                };
            }
            Crash::LoseUnsynced => None,
            Crash::Tear(seed) => Some(Dice(seed | 1)),
        };
        let survives = dice.as_mut().map_or(0, |dice| dice.below(world.changes.len() + 1));
        let mut names = world.durable_names.clone();
        world.changes[..survives].iter().for_each(|change| change.apply(&mut names));
        let names: Names =
            names.into_iter().map(|(path, node)| (path, node.lock().after_power_cut(&mut dice))).collect();
        let world =
            World { durable_names: names.clone(), names, capacity: world.capacity, ..World::default() };
        Self { world: Arc::new(Mutex::new(world)), gate: Arc::default(), flush_gate: Arc::default() }
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

    /// Counts a call; says how it must fail, if it must.
    fn planned(&self, call: &'static str, path: &Path) -> Option<Fault> {
        self.world.lock().plan.call(call, path)
    }

    /// Counts a call that cannot be done by halves.
    fn call(&self, call: &'static str, path: &Path) -> io::Result<()> {
        self.planned(call, path).map_or(Ok(()), |fault| Err(fault.error()))
    }

    /// Counts a change of names; by halves, it is done though the caller hears that it is not.
    fn change(
        &self,
        call: &'static str,
        path: &Path,
        change: impl FnOnce(&mut World) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.planned(call, path) {
            None => change(&mut self.world.lock()),
            Some(fault) => {
                if fault == Fault::Half {
                    // What that would have answered does not count.
                    let _ = change(&mut self.world.lock());
                }
                Err(fault.error())
            }
        }
    }
}

impl Disk for MemoryDisk {
    fn flush_gate(&self) -> &Arc<FlushGate> {
        &self.flush_gate
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.call("create_dir", dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.call("list", dir)?;
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
        self.call("read", path)?;
        let node = self.world.lock().node(path)?;
        let content = node.lock();
        Ok(content.now.clone())
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let fault = self.planned("write", path);
        let mut world = self.world.lock();
        world.take(content.len() as u64)?;
        let node = world.node_or_new(path);
        drop(world);
        let mut file = node.lock();
        let written = match fault {
            None => content.len(),
            Some(Fault::Half) => content.len() / 2,
            Some(Fault::Refuse | Fault::Full) => 0,
        };
        file.now = content[..written].to_vec();
        // None of it is durable.
        file.touched(0..written);
        self.flush_gate.pass("a flush of a small file", || match fault {
            None => {
                file.sync();
                Ok(())
            }
            Some(fault) => Err(fault.error()),
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("rename", to, |world| {
            let node = world.node(from)?;
            world.change(Change { path: to.to_owned(), from: Some(from.to_owned()), node: Some(node) });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change("remove", path, |world| {
            world.node(path)?;
            world.change(Change { path: path.to_owned(), from: None, node: None });
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.flush_gate.pass("a flush of a directory", || {
            self.change("sync_dir", dir, |world| {
                // A journal commits in order: what is older than the last change here goes with it.
                let last = world.changes.iter().rposition(|change| change.path.parent() == Some(dir));
                let durable: Vec<_> = world.changes.drain(..last.map_or(0, |last| last + 1)).collect();
                durable.iter().for_each(|change| change.apply(&mut world.durable_names));
                Ok(())
            })
        })
    }

    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.flush_gate.pass("a flush of a new segment", || self.call("allocate", path))?;
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
        self.call("map", path)?;
        let node = self.world.lock().node(path)?;
        let found = node.lock().now.len() as u64;
        if found != bytes || published > bytes {
            return Err(io::Error::other(format!("the file has {found} bytes, not {bytes}")));
        }
        let published = AtomicU64::new(published);
        Ok(Arc::new(MemoryMap { disk: self.clone(), path: path.to_owned(), node, bytes, published }))
    }

    fn data_end(&self, path: &Path) -> io::Result<u64> {
        self.call("data_end", path)?;
        let node = self.world.lock().node(path)?;
        let content = node.lock();
        // What is on the disk has blocks there, whatever was written over it since.
        let end = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
        Ok(end(&content.now).max(end(&content.durable)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.call("open", path)?;
        let node = self.world.lock().node_or_new(path);
        Ok(Arc::new(MemoryFile { disk: self.clone(), node, path: path.to_owned(), to_read: false }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.call("open_to_read", path)?;
        let node = self.world.lock().node(path)?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), node, path: path.to_owned(), to_read: true }))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.call("space", dir)?;
        let world = self.world.lock();
        Ok(Space { total_bytes: world.capacity, free_bytes: world.capacity.saturating_sub(world.used()) })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.call("lock", path)?;
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
    path: PathBuf,
    node: Node,
    to_read: bool,
}

impl File for MemoryFile {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.disk.gate.pass();
        self.disk.call("read_at", &self.path)?;
        if !self.disk.world.lock().gives(&self.path, &(at..at + into.len() as u64)) {
            return Err(io::Error::other("the sector is bad"));
        }
        let content = self.node.lock();
        let range = at as usize..at as usize + into.len();
        let found = content.now.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(found);
        Ok(())
    }

    fn read_cached_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.call("read_cached_at", &self.path)?;
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
        let fault = self.disk.planned("write_at", &self.path);
        let bytes = match fault {
            None => bytes,
            Some(Fault::Half) => &bytes[..bytes.len() / 2],
            Some(Fault::Refuse | Fault::Full) => &[],
        };
        let range = at as usize..at as usize + bytes.len();
        let growth = range.end.saturating_sub(self.node.lock().now.len());
        self.disk.world.lock().take(growth as u64)?;
        let mut content = self.node.lock();
        if content.now.len() < range.end {
            content.now.resize(range.end, 0);
        }
        content.now[range.clone()].copy_from_slice(bytes);
        content.touched(range);
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn sync(&self) -> io::Result<()> {
        let fault = self.disk.planned("sync", &self.path);
        self.disk.flush_gate.pass("a flush of a file", || self.node.lock().flush(0..usize::MAX, fault))
    }
}

struct MemoryMap {
    disk: MemoryDisk,
    path: PathBuf,
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
        let fault = self.disk.world.lock().plan.flush(&self.path);
        let range = range.start as usize..range.end as usize;
        self.disk.flush_gate.pass("a flush of the log", || self.node.lock().flush(range, fault))
    }

    fn write_again(&self, range: Range<u64>) -> io::Result<()> {
        assert!(range.end <= self.published(), "only what readers see is written again");
        self.disk.call("write_again", &self.path)?;
        self.node.lock().touched(range.start as usize..range.end as usize);
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
