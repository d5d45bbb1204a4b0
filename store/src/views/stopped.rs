//! The views of a stopped store: what is kept of them, and cutting it back.

use std::io;
use std::path::Path;

use super::deleted::Marks;
use super::keys;
use super::snapshot::{self, Loaded};
use crate::LogOffset;
use crate::disk::Disk;

/// What the views of a stopped store keep tells of the log before `to` only, durably: snapshots that tell of more go, and
/// what was deleted behind `to` is not deleted.
pub(crate) fn cut_back(disk: &dyn Disk, root: &Path, to: LogOffset) -> io::Result<()> {
    let dir = root.join("views");
    disk.create_dir(&dir)?;
    let mut marks = Marks::load(disk, &dir)?;
    let deleted_behind = marks.0.values().any(|at| *at > to);
    // A snapshot of such a time lacks the topic also where it tells only of what was before.
    snapshot::remove_beyond(disk, &dir, if deleted_behind { LogOffset(0) } else { to })?;
    // Always: a try that was killed may have changed names before.
    disk.sync_dir(&dir)?;
    if deleted_behind {
        marks.0.retain(|_, at| *at <= to);
        marks.write(disk, &dir)?;
    }
    keys::remove_beyond(disk, root, to)
}

/// What is kept of the views of a stopped store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A snapshot, complete up to here.
    Snapshot(LogOffset),
    /// There is a snapshot, but it is damaged.
    Damaged,
    Nothing,
}

impl Kept {
    pub(crate) fn of(disk: &dyn Disk, root: &Path) -> io::Result<Self> {
        let dir = root.join("views");
        Ok(match snapshot::load(disk, &dir)? {
            Loaded::Good(snapshot) => Self::Snapshot(snapshot.complete_to),
            Loaded::Stale(_) => Self::Damaged,
            Loaded::Nothing => match disk.read(&snapshot::path(&dir)) {
                Ok(_) => Self::Damaged,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Nothing,
                Err(error) => return Err(error),
            },
        })
    }
}

/// The topics that were deleted while records of theirs are in the log, and the log's end at that time.
pub(crate) struct Deleted(Marks);

impl Deleted {
    pub(crate) fn load(disk: &dyn Disk, root: &Path) -> io::Result<Self> {
        Marks::load(disk, &root.join("views")).map(Self)
    }

    /// Does this record belong to no queue any more?
    pub(crate) fn hides(&self, topic: &str, at: LogOffset) -> bool {
        self.0.hide(topic, at)
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = (&str, LogOffset)> {
        self.0.0.iter().map(|(topic, at)| (topic.as_str(), *at))
    }
}
