//! Beginning anew.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Removes everything from a member's directory, so that another member is there afterwards: with a store of another id, which
/// is in no in-sync set. First its identity goes: after a crash in between nobody takes what is left for the whole.
pub(super) fn wipe(root: &Path) -> io::Result<()> {
    match fs::remove_file(root.join("identity")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => File::open(root)?.sync_all()?,
    }
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        // It is the file system's.
        if entry.file_name() == "lost+found" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?
        } else {
            fs::remove_file(entry.path())?
        }
    }
    File::open(root)?.sync_all()
}
