//! The file system of the machine, for reading only: whatever would write is refused here, so no tool can.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FlockOperation;

use crate::disk::{Disk, File, FlushGate, Listed, Lock, Map, RealDisk, Space};

/// Reads as [`RealDisk`] does, writes nothing and makes no file. [`Disk::create_dir`] is content with what is there;
/// [`Disk::lock`] keeps writers out, other readers not, and locks nothing where there is no lock file.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadOnlyDisk(RealDisk);

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "this directory is only looked at"))
}

impl Disk for ReadOnlyDisk {
    fn flush_gate(&self) -> &Arc<FlushGate> {
        self.0.flush_gate()
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.0.list(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.read(path)
    }

    fn write(&self, _path: &Path, _content: &[u8]) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        refused()
    }

    fn allocate(&self, _path: &Path, _bytes: u64) -> io::Result<()> {
        refused()
    }

    fn map(&self, _path: &Path, _bytes: u64, _published: u64) -> io::Result<Arc<dyn Map>> {
        refused()
    }

    fn data_end(&self, path: &Path) -> io::Result<u64> {
        self.0.data_end(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(ReadOnlyFile(fs::File::open(path)?)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.0.open_to_read(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.0.space(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Box::new(SharedLock(None))));
            }
            Err(error) => return Err(error),
        };
        // Both kinds, as RealDisk takes both: the second is the one that Java takes.
        for taken in [
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared),
            rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockShared),
        ] {
            match taken {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::ACCESS) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(Box::new(SharedLock(Some(file)))))
    }
}

struct SharedLock(#[expect(dead_code, reason = "held for its lock, which goes with it")] Option<fs::File>);

impl Lock for SharedLock {}

struct ReadOnlyFile(fs::File);

impl File for ReadOnlyFile {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, at)
    }

    fn write_at(&self, _at: u64, _bytes: &[u8]) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }
}
