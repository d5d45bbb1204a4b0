//! What a disk in memory holds: names and contents, as they are and as they would survive.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Crash;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;

pub(super) type Names = BTreeMap<PathBuf, Node>;
pub(super) type Node = Arc<Mutex<Content>>;

#[derive(Default)]
pub(super) struct World {
    pub(super) names: Names,
    pub(super) durable_names: Names,
    /// In the order done, not yet durable.
    pub(super) changes: Vec<Change>,
    pub(super) capacity: u64,
    pub(super) locked: BTreeSet<PathBuf>,
    pub(super) calls: u64,
    pub(super) fail_call: Option<u64>,
    pub(super) fail_flush: Option<u64>,
    /// Reads of files find everything in memory.
    pub(super) cached: bool,
    pub(super) dropped: Vec<(PathBuf, Range<u64>)>,
}

/// What becomes of a name.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) path: PathBuf,
    pub(super) from: Option<PathBuf>,
    /// `None`: removed.
    pub(super) node: Option<Node>,
}

#[derive(Default)]
pub(super) struct Content {
    pub(super) now: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) dirty: BTreeSet<usize>,
}

impl Content {
    pub(super) fn touched(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.dirty.extend(range.start / SECTOR..=(range.end - 1) / SECTOR);
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.now);
        self.dirty.clear();
    }
}

pub(super) fn count_down(left: &mut Option<u64>) -> io::Result<()> {
    match left {
        Some(0) => {
            *left = None;
            Err(io::Error::other("the disk was told to fail"))
        }
        Some(n) => {
            *n -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

impl Content {
    pub(super) fn after(&self, crash: Crash, dice: &mut Dice) -> Node {
        let mut left = match crash {
            Crash::Kill => self.now.clone(),
            Crash::LoseUnsynced | Crash::Tear(_) => self.durable.clone(),
        };
        if let Crash::Tear(_) = crash {
            for &sector in self.dirty.iter().filter(|_| dice.below(2) == 1) {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.now.len());
                if left.len() < range.end {
                    left.resize(range.end, 0);
                }
                left[range.clone()].copy_from_slice(&self.now[range]);
            }
        }
        Arc::new(Mutex::new(Content { durable: left.clone(), now: left, dirty: BTreeSet::new() }))
    }
}

impl Change {
    pub(super) fn apply(&self, names: &mut Names) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        match &self.node {
            Some(node) => names.insert(self.path.clone(), Arc::clone(node)),
            None => names.remove(&self.path),
        };
    }
}

impl World {
    pub(super) fn node(&self, path: &Path) -> io::Result<Node> {
        self.names.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|node| node.lock().now.len() as u64).sum()
    }

    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        if self.used().saturating_add(bytes) > self.capacity {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
        }
        Ok(())
    }

    /// The file, made if it is missing.
    pub(super) fn node_or_new(&mut self, path: &Path) -> Node {
        if let Some(node) = self.names.get(path) {
            return Arc::clone(node);
        }
        let node = Node::default();
        self.change(Change { path: path.to_owned(), from: None, node: Some(Arc::clone(&node)) });
        node
    }
}

/// A small generator of numbers (xorshift).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as usize % bound
    }
}
