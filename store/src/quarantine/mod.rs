//! What is known to be damaged in the log: a list for people, kept over restarts.
//!
//! Whoever meets damage below the log's durable end reports it: recovery's walk, readers, repair of entries, look-ups by
//! key, and the scrub, which reads what nobody else does. Nobody decides by the list: a record is judged by its bytes,
//! each time. So the list may be lost, or late by a moment, and no reader is wrong by that; the scrub finds it all again.
//!
//! A place goes from the list with its segment, and when the scrub finds its bytes whole: somebody restored them.

mod file;
mod places;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::LogOffset;
use crate::answers::Damaged;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::frame;
use crate::scrub::Pass;
use file::{MAGIC, Notes};
pub use places::DamagedPlace;
use places::Listed;

/// The list in use, and its file.
pub(crate) struct Quarantine {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    path: PathBuf,
    kept: Mutex<Kept>,
    /// The change that the file has; locked while it is written.
    stored: Mutex<u64>,
}

struct Kept {
    notes: Notes,
    /// Changes so far.
    changes: u64,
}

impl Quarantine {
    /// A list that cannot be read is begun anew.
    pub(crate) fn load(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, root: &Path) -> Self {
        let path = path(root);
        let lost = |error: &dyn std::fmt::Display| {
            tracing::error!(
                path = %path.display(), %error,
                "the list of damaged places is lost, it begins anew: the scrub finds them again"
            );
            Notes::default()
        };
        let notes = match frame::read(&*disk, &path, MAGIC, Notes::decode) {
            Ok(frame::Kept::Good(notes)) => notes,
            Ok(frame::Kept::Nothing) => Notes::default(),
            Ok(frame::Kept::Damaged) => lost(&"it is damaged"),
            Err(error) => lost(&error),
        };
        let kept = Mutex::new(Kept { notes, changes: 0 });
        Self { disk, clock, path, kept, stored: Mutex::new(0) }
    }

    /// No valid record lies in this stretch, which was durable. Waits for no disk.
    pub(crate) fn report(&self, range: Range<LogOffset>, reason: &str) {
        let (start, end) = (range.start.0, range.end.0);
        assert!(start < end, "a damaged place has bytes");
        let now_ms = self.clock.now_ms();
        let listed = self.change(|notes| {
            let listed = notes.places.add(start..end, reason, now_ms);
            (listed != Listed::Known, listed)
        });
        match listed {
            Listed::New | Listed::Grown => tracing::error!(
                log_offset = start,
                bytes = end - start,
                reason,
                "damaged bytes in the log, what follows them is served"
            ),
            Listed::Known | Listed::Beyond => {}
        }
    }

    /// Valid records lie in this stretch, end to end.
    pub(crate) fn found_whole(&self, range: Range<LogOffset>) {
        let mended = self.change(|notes| {
            let mended = notes.places.remove(range.start.0..range.end.0);
            (mended, mended)
        });
        if mended {
            tracing::info!(
                log_offset = range.start.0,
                bytes = range.end.0 - range.start.0,
                "bytes of the log that were damaged are whole again"
            );
        }
    }

    /// The log reaches so far: what is listed outside of it is gone.
    pub(crate) fn keep_within(&self, log: Range<LogOffset>) {
        self.change(|notes| {
            let before = notes.places.remove(0..log.start.0);
            let behind = notes.places.remove(log.end.0..u64::MAX);
            (before || behind, ())
        });
    }

    /// The scrub's progress.
    pub(crate) fn pass(&self) -> Pass {
        self.kept.lock().notes.pass.clone()
    }

    /// The scrub is so far.
    pub(crate) fn note_pass(&self, pass: &Pass) {
        self.change(|notes| {
            let is_new = notes.pass != *pass;
            // What found no room before may be found again now.
            if notes.pass.started_ms != pass.started_ms {
                notes.places.beyond = 0;
            }
            notes.pass.clone_from(pass);
            (is_new, ())
        });
    }

    /// In numbers.
    pub(crate) fn counts(&self) -> Damaged {
        let kept = self.kept.lock();
        let places = &kept.notes.places;
        Damaged {
            places: places.listed.len() as u64,
            bytes: places.bytes(),
            found: places.found,
            beyond: places.beyond,
        }
    }

    /// The first places, in the log's order.
    pub(crate) fn first(&self, max: usize) -> Vec<DamagedPlace> {
        self.kept.lock().notes.places.listed.iter().take(max).cloned().collect()
    }

    /// `change` says whether it changed anything, and what to answer.
    fn change<T>(&self, change: impl FnOnce(&mut Notes) -> (bool, T)) -> T {
        let mut kept = self.kept.lock();
        let (changed, answer) = change(&mut kept.notes);
        kept.changes += u64::from(changed);
        answer
    }

    /// All changes made before are durable when it returns, or a warning says why not: then the next call tries again.
    pub(crate) fn store(&self) {
        let mut stored = self.stored.lock();
        let (content, change) = {
            let kept = self.kept.lock();
            if kept.changes == *stored {
                return;
            }
            (kept.notes.encode(), kept.changes)
        };
        match frame::write(&*self.disk, &self.path, MAGIC, &content) {
            Ok(()) => *stored = change,
            Err(error) => {
                tracing::warn!(%error, "cannot write the list of damaged places, it stays in memory")
            }
        }
    }
}

/// Tries bytes as a list's file: what is believed is written the same.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn try_bytes(bytes: &[u8]) {
    if let Some(notes) = frame::unseal(MAGIC, bytes).and_then(Notes::decode) {
        assert_eq!(frame::seal(MAGIC, &notes.encode()), bytes);
        let _ = notes.places.bytes();
    }
}

/// An empty list's file.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn empty() -> Vec<u8> {
    frame::seal(MAGIC, &Notes::default().encode())
}

/// Where the list is kept.
pub(crate) fn path(root: &Path) -> PathBuf {
    root.join("damaged")
}
