//! Segment files that are open for cold reads: few, and none that retention removed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::commit_log::{CommitLog, Place};
use crate::disk::{Disk, File};

const MOST_OPEN: usize = 16;

pub(super) struct Files {
    disk: Arc<dyn Disk>,
    /// By base; the last used one at the back.
    open: Mutex<VecDeque<(u64, Arc<dyn File>)>>,
}

impl Files {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: Mutex::default() }
    }

    /// A file that is open already.
    pub(super) fn opened(&self, base: u64) -> Option<Arc<dyn File>> {
        let mut open = self.open.lock();
        let index = open.iter().rposition(|(other, _)| *other == base)?;
        let found = open.remove(index).expect("it was found there");
        let file = Arc::clone(&found.1);
        open.push_back(found);
        Some(file)
    }

    /// The file, opened if need be.
    pub(super) fn open(&self, log: &CommitLog, place: &Place) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.opened(place.base) {
            return Ok(file);
        }
        let file = self.disk.open_to_read(&place.path)?;
        let mut open = self.open.lock();
        // An open file keeps its room on the disk: what is removed meanwhile is not kept. Looked at under the lock, so that
        // whoever forgets what was removed comes before or after.
        if place.base >= log.min().0 {
            open.push_back((place.base, Arc::clone(&file)));
        }
        while open.len() > MOST_OPEN {
            open.pop_front();
        }
        Ok(file)
    }

    pub(super) fn forget_before(&self, min: u64) {
        self.open.lock().retain(|(base, _)| *base >= min);
    }
}
