//! The directory of `gantry dev`: one process at a time, kept or removed at the end.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const LOCK: &str = "dev.lock";

/// A directory that no other `gantry dev` uses meanwhile.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    temporary: bool,
    // The system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl DataDir {
    /// This directory; it is made if it is missing, and stays.
    pub(super) fn kept(path: &Path) -> Result<Self, Failure> {
        Self::take(path.to_path_buf(), false)
    }

    /// A new one, removed at the end.
    pub(super) fn temporary() -> Result<Self, Failure> {
        let name = format!("gantry-dev-{}-{:08x}", std::process::id(), crate::client::random() as u32);
        Self::take(std::env::temp_dir().join(name), true)
    }

    fn take(path: PathBuf, temporary: bool) -> Result<Self, Failure> {
        let shown = path.display();
        let unusable = |error: std::io::Error| {
            let why = crate::control::root_cause(&error);
            Failure::failed(format!("cannot write to the data directory {shown}: {why}"))
                .next("--data DIR names another; --ephemeral uses a temporary one")
        };
        std::fs::create_dir_all(&path).map_err(unusable)?;
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _nobody = lock.read_to_string(&mut holder);
                return Err(Failure::failed(format!("{shown} is in use by process {}", holder.trim()))
                    .next("stop that gantry dev, or name another directory with --data"));
            }
        }
        // Who holds it, for the message above.
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(unusable)?;
        writeln!(lock, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { path, temporary, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cannot_have_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::kept(dir.path()).unwrap();
        let failure = DataDir::kept(dir.path()).unwrap_err().to_string();
        assert!(failure.contains(&format!("in use by process {}", std::process::id())), "{failure}");
        drop(first);
        DataDir::kept(dir.path()).unwrap();
    }

    #[test]
    fn a_temporary_directory_goes_with_its_process() {
        let data = DataDir::temporary().unwrap();
        let path = data.path().to_path_buf();
        assert!(path.is_dir());
        drop(data);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_that_is_no_directory_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let failure = DataDir::kept(file.path()).unwrap_err().to_string();
        assert!(
            failure.contains("cannot write to the data directory") && failure.contains("--data"),
            "{failure}"
        );
    }
}
