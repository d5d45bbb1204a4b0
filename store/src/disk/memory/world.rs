//! What a disk in memory holds: names and contents, as they are and as they would survive.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::fault::{Fault, Plan};

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
    pub(super) plan: Plan,
    /// Reads of files find everything in memory.
    pub(super) cached: bool,
    pub(super) dropped: Vec<(PathBuf, Range<u64>)>,
    /// Bytes of files that reads do not give.
    pub(super) unreadable: Vec<(PathBuf, Range<u64>)>,
}

/// What becomes of a name.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) path: PathBuf,
    pub(super) from: Option<PathBuf>,
    /// `None`: removed.
    pub(super) node: Option<Node>,
}

#[derive(Clone, Default)]
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

    /// Makes durable what is dirty in this range of bytes. What an earlier failure dropped stays dropped.
    pub(super) fn flush(&mut self, range: Range<usize>, fault: Option<Fault>) -> io::Result<()> {
        let sectors = range.start / SECTOR..range.end.div_ceil(SECTOR);
        let dirty: Vec<_> = self.dirty.extract_if(sectors, |_| true).collect();
        let step = match fault {
            None => 1,
            Some(Fault::Half) => 2,
            Some(fault @ (Fault::Refuse | Fault::Full)) => return Err(fault.error()),
        };
        for sector in dirty.into_iter().step_by(step) {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.now.len());
            if self.durable.len() < range.end {
                self.durable.resize(range.end, 0);
            }
            self.durable[range.clone()].copy_from_slice(&self.now[range]);
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }
}

impl Content {
    /// The durable bytes, and by the dice, some of the dirty ones.
    pub(super) fn after_power_cut(&self, dice: &mut Option<Dice>) -> Node {
        let mut left = self.durable.clone();
        if let Some(dice) = dice {
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
    /// The same, in files of its own, with nothing locked and nothing planned.
    pub(super) fn fork(&self) -> Self {
        let mut copies: HashMap<*const Mutex<Content>, Node> = HashMap::new();
        let mut copy = |node: &Node| {
            let copied = copies.entry(Arc::as_ptr(node));
            Arc::clone(copied.or_insert_with(|| Arc::new(Mutex::new(node.lock().clone()))))
        };
        let mut names = |names: &Names| -> Names {
            names.iter().map(|(path, node)| (path.clone(), copy(node))).collect()
        };
        let (now, durable_names) = (names(&self.names), names(&self.durable_names));
        let changes = self
            .changes
            .iter()
            .cloned()
            .map(|change| Change { node: change.node.as_ref().map(&mut copy), ..change });
        Self {
            names: now,
            durable_names,
            changes: changes.collect(),
            capacity: self.capacity,
            cached: self.cached,
            ..Self::default()
        }
    }

    pub(super) fn node(&self, path: &Path) -> io::Result<Node> {
        self.names.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    /// Does the disk give these bytes of a file?
    pub(super) fn gives(&self, path: &Path, range: &Range<u64>) -> bool {
        !self
            .unreadable
            .iter()
            .any(|(bad, bytes)| bad == path && bytes.start < range.end && range.start < bytes.end)
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
