//! Which call of a disk in memory fails, and how.

use std::io;
use std::path::{Path, PathBuf};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An input/output error, and nothing was done.
    Refuse,
    /// An input/output error, and half of it was done: half of the bytes are there, every other sector is durable, a name
    /// is changed.
    Half,
    /// No space left, and nothing was done.
    Full,
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Refuse | Self::Half => io::Error::other("the disk was told to fail"),
            Self::Full => io::Error::new(io::ErrorKind::StorageFull, "no space left on device"),
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The method of [`Disk`](crate::disk::Disk), [`Map`](crate::disk::Map) or [`File`](crate::disk::File).
    pub call: &'static str,
    /// On what.
    pub path: PathBuf,
}

/// Counts the calls that can fail, and says which does.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) calls: u64,
    pub(super) failed: Option<Failed>,
    call: Option<(u64, Fault)>,
    flush: Option<(u64, Fault)>,
}

impl Plan {
    pub(super) fn fail_call(&mut self, n: u64, fault: Fault) {
        self.call = Some((n, fault));
    }

    pub(super) fn fail_flush(&mut self, n: u64) {
        self.flush = Some((n, Fault::Refuse));
    }

    pub(super) fn call(&mut self, call: &'static str, path: &Path) -> Option<Fault> {
        self.calls += 1;
        let fault = count_down(&mut self.call);
        self.note(fault, call, path)
    }

    /// The same for a flush of a map.
    pub(super) fn flush(&mut self, path: &Path) -> Option<Fault> {
        let fault = count_down(&mut self.flush);
        self.call("flush", path).or_else(|| self.note(fault, "flush", path))
    }

    fn note(&mut self, fault: Option<Fault>, call: &'static str, path: &Path) -> Option<Fault> {
        if fault.is_some() {
            self.failed = Some(Failed { call, path: path.to_owned() });
        }
        fault
    }
}

fn count_down(left: &mut Option<(u64, Fault)>) -> Option<Fault> {
    let (n, fault) = left.as_mut()?;
    if *n > 0 {
        *n -= 1;
        return None;
    }
    let fault = *fault;
    *left = None;
    Some(fault)
}
