//! Who wrote to a directory last, told by its `abort` file.
//!
//! RocketMQ makes `abort` when it opens a store, with its process id, and removes it when it closes. Where it finds one, it
//! walks the log and builds its consume queues anew. Ours stays, and says by whom and how:
//!
//! ```text
//!   "gantry open, process 7"   a gantry has the store open, or crashed
//!   "gantry closed"            a gantry closed it: nothing is to be recovered
//!   anything else, or none     RocketMQ was here, and crashed, or closed it
//! ```
//!
//! So RocketMQ, opening a log that grew without it, always walks it; and we learn that it wrote, or cut, behind our back:
//! what was noted of the log before is then worth nothing.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{self, Disk};
use crate::quarantine;

const OPEN: &str = "gantry open";
const CLOSED: &str = "gantry closed";

/// Who wrote last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastWriter {
    /// The directory holds no log.
    Nobody,
    /// A gantry, which closed the store properly, or did not.
    Us { clean: bool },
    /// RocketMQ, likewise.
    Other { clean: bool },
}

impl LastWriter {
    /// Looks, without a change.
    pub(crate) fn look(disk: &dyn Disk, root: &Path) -> io::Result<Self> {
        let content = match disk.read(&path(root)) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let has_log = match disk.list(&root.join("commitlog")) {
            Ok(files) => !files.is_empty(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        Ok(Self::told(content.as_deref(), has_log))
    }

    fn told(abort: Option<&[u8]>, has_log: bool) -> Self {
        match abort {
            Some(content) if content.starts_with(CLOSED.as_bytes()) => Self::Us { clean: true },
            Some(content) if content.starts_with(OPEN.as_bytes()) => Self::Us { clean: false },
            _ if !has_log => Self::Nobody,
            Some(_) => Self::Other { clean: false },
            None => Self::Other { clean: true },
        }
    }

    /// The store was closed properly, or never opened.
    pub(crate) fn was_clean(self) -> bool {
        match self {
            Self::Nobody => true,
            Self::Us { clean } | Self::Other { clean } => clean,
        }
    }

    pub(crate) fn is_other(self) -> bool {
        matches!(self, Self::Other { .. })
    }
}

/// From now on the directory is open by us. Durable when it returns.
pub(crate) fn note_open(disk: &dyn Disk, root: &Path) -> io::Result<()> {
    let told = padded(&format!("{OPEN}, process {}", std::process::id()));
    match disk::replace(disk, &path(root), &told) {
        // A store on a full disk can be opened and read.
        Err(error) if disk::is_full(&error) => match LastWriter::look(disk, root)? {
            // It says so already, if for another process.
            LastWriter::Us { clean: false } => Ok(()),
            // In place, since there is no room for another file. Torn, it says at worst that another was here.
            LastWriter::Us { clean: true } => {
                let file = disk.open(&path(root))?;
                file.write_at(0, &told).and_then(|()| file.sync())
            }
            LastWriter::Nobody | LastWriter::Other { .. } => Err(error),
        },
        noted => noted,
    }
}

/// We closed it, and everything is on the disk. Durable when it returns.
pub(crate) fn note_closed(disk: &dyn Disk, root: &Path) -> io::Result<()> {
    disk::replace(disk, &path(root), &padded(CLOSED))
}

/// Removes what we knew of the log before another wrote to it. What topics were deleted stays known.
pub(crate) fn forget(disk: &dyn Disk, root: &Path) -> io::Result<()> {
    let remove = |path: &Path| match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    // In any order: after a crash `abort` still says that another was here, and the rest goes too.
    for dir in [root.join("views"), root.join("views/keys")] {
        let files = match disk.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            files => files?,
        };
        let mut stale = files.iter().filter(|file| file.name != "deleted").peekable();
        if stale.peek().is_some() {
            stale.try_for_each(|file| remove(&dir.join(&file.name)))?;
            disk.sync_dir(&dir)?;
        }
    }
    remove(&root.join("flushed"))?;
    remove(&quarantine::path(root))?;
    disk.sync_dir(root)
}

/// As long as any other: writing one over the other takes no room.
fn padded(text: &str) -> Vec<u8> {
    format!("{text:<40}").into_bytes()
}

fn path(root: &Path) -> PathBuf {
    root.join("abort")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abort_tells_who_was_here_and_how_they_left() {
        let check = |abort: Option<&str>, has_log, expected| {
            assert_eq!(LastWriter::told(abort.map(str::as_bytes), has_log), expected, "{abort:?}");
        };
        check(None, false, LastWriter::Nobody);
        check(None, true, LastWriter::Other { clean: true });
        check(Some("4711"), true, LastWriter::Other { clean: false });
        check(Some(""), true, LastWriter::Other { clean: false });
        check(Some("4711"), false, LastWriter::Nobody);
        check(Some("gantry open, process 7"), true, LastWriter::Us { clean: false });
        check(Some("gantry closed"), true, LastWriter::Us { clean: true });
    }
}
