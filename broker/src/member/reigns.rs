//! The reigns that this member's log went through, kept beside it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use replication::{Epoch, History, Start, StoreId};
use store::LogOffset;
use store::disk::Disk;
use store::epochs::{Epochs, Reign};

/// The reigns, and the highest epoch that was seen.
pub(super) struct Reigns {
    epochs: Epochs,
    store: u64,
}

impl Reigns {
    pub(super) fn load(disk: Arc<dyn Disk>, root: &Path, store: u64) -> io::Result<Self> {
        Ok(Self { epochs: Epochs::load(disk, root)?, store })
    }

    /// The highest epoch that was seen.
    pub(super) fn seen(&self) -> Epoch {
        Epoch(self.epochs.seen())
    }

    /// Also of reigns of which the log has nothing yet.
    pub(super) fn history(&self) -> History {
        let starts = self.epochs.list().iter();
        let starts: Vec<_> =
            starts.map(|reign| Start { epoch: Epoch(reign.epoch), at: reign.start }).collect();
        // Whoever follows adopts the primary's reigns before anything of its log: without any it wrote alone.
        let origin = StoreId(if starts.is_empty() { self.store } else { 0 });
        History { origin, starts }
    }

    /// A reign of this member begins, where its log ends. Durable when it returns.
    pub(super) fn begin(&mut self, epoch: Epoch, end: LogOffset) -> io::Result<()> {
        self.epochs.cut(end)?;
        self.epochs.begin(epoch.0, end)
    }

    /// What the primary of this reign says is the log's history from now on. Durable when it returns.
    pub(super) fn adopt(&mut self, epoch: Epoch, history: &History) -> io::Result<()> {
        if !self.epochs.see(epoch.0)? {
            return Err(io::Error::other("a later reign was seen meanwhile"));
        }
        let starts = history.starts.iter();
        self.epochs.replace(starts.map(|start| Reign { epoch: start.epoch.0, start: start.at }).collect())
    }
}
