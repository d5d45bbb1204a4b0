//! Which store this is, and whether the machine went down under it.
//!
//! ```text
//!   root/identity:  "GANTRYID", id u64, big-endian; CRC-32
//!   root/boot:      "GANTRYBT", doubted u8, the machine's boot id; CRC-32
//! ```
//!
//! The id is drawn at random when the store is made: who lost its volume has another one. One that is damaged is drawn
//! anew, for the same reason. The boot id is the kernel's, and another after each start of the machine: what was written
//! and not flushed when it was last open by us is lost then, and nobody here can say where the log ended. That stays
//! doubted until somebody who knows says otherwise.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, is_full};
use crate::frame::{self, Kept, Magic};

const ID_MAGIC: &Magic = b"GANTRYID";
const BOOT_MAGIC: &Magic = b"GANTRYBT";
/// Where the kernel says which start of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of the store in this directory; drawn if there is none. Durable when it returns, unless the disk is full: then
/// the next opening draws another, as for a new store.
pub(crate) fn load_or_draw(disk: &dyn Disk, root: &Path) -> io::Result<u64> {
    let path = root.join("identity");
    let decode = |content: &[u8]| Some(u64::from_be_bytes(content.try_into().ok()?)).filter(|id| *id != 0);
    match frame::read(disk, &path, ID_MAGIC, decode)? {
        Kept::Good(id) => return Ok(id),
        Kept::Damaged => {
            tracing::error!(path = %path.display(), "the id of the store is damaged, from now on it counts as another store");
        }
        Kept::Nothing => {}
    }
    let id = draw();
    unless_full(frame::write(disk, &path, ID_MAGIC, &id.to_be_bytes()))?;
    Ok(id)
}

/// Never 0.
fn draw() -> u64 {
    // The library's maps are keyed from the system's randomness; nothing more is needed of it here.
    let drawn = RandomState::new().build_hasher().finish();
    drawn.max(1)
}

/// What is known of the machine's starts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Boot {
    /// The machine went down while the store was open.
    doubted: bool,
    id: String,
}

impl Boot {
    fn encode(&self) -> Vec<u8> {
        [&[u8::from(self.doubted)], self.id.as_bytes()].concat()
    }

    fn decode(content: &[u8]) -> Option<Self> {
        let (doubted, id) = content.split_first()?;
        let doubted = match doubted {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self { doubted, id: String::from_utf8(id.to_vec()).ok()? })
    }
}

/// The store is being opened, which was left clean or not: was the machine, and not only the process, restarted while it
/// was open, now or earlier and nobody cleared it up? If that cannot be known, yes. Call it before the store is noted as
/// open. `boot_id`: `None` asks the kernel.
pub(crate) fn look_at_boot(
    disk: &dyn Disk,
    root: &Path,
    boot_id: Option<&str>,
    clean: bool,
) -> io::Result<bool> {
    let id = match boot_id {
        Some(id) => id.to_owned(),
        None => match disk.read(Path::new(BOOT_ID)) {
            Ok(id) => String::from_utf8_lossy(&id).trim().to_owned(),
            // Not known, and so never the same.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                String::new()
            }
            Err(error) => return Err(error),
        },
    };
    let noted = match frame::read(disk, &boot_path(root), BOOT_MAGIC, Boot::decode)? {
        Kept::Good(boot) => Some(boot),
        Kept::Damaged | Kept::Nothing => None,
    };
    let doubted = match &noted {
        Some(noted) => noted.doubted || (!clean && (noted.id != id || id.is_empty())),
        None => !clean,
    };
    let boot = Boot { doubted, id };
    if noted.as_ref() != Some(&boot) {
        unless_full(frame::write(disk, &boot_path(root), BOOT_MAGIC, &boot.encode()))?;
    }
    Ok(doubted)
}

/// Whatever the log should hold it holds again. Durable when it returns.
pub(crate) fn clear_up(disk: &dyn Disk, root: &Path) -> io::Result<()> {
    let path = boot_path(root);
    match frame::read(disk, &path, BOOT_MAGIC, Boot::decode)? {
        Kept::Good(boot) if boot.doubted => {
            frame::write(disk, &path, BOOT_MAGIC, &Boot { doubted: false, ..boot }.encode())
        }
        Kept::Good(_) | Kept::Damaged | Kept::Nothing => Ok(()),
    }
}

/// A store on a full disk can be opened and read.
fn unless_full(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if is_full(&error) => {
            tracing::warn!(%error, "cannot note which store this is, there is no room");
            Ok(())
        }
        written => written,
    }
}

fn boot_path(root: &Path) -> PathBuf {
    root.join("boot")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn an_id_stays_and_a_damaged_one_is_drawn_anew() {
        let disk = MemoryDisk::default();
        let root = Path::new("/data");
        let id = load_or_draw(&disk, root).unwrap();
        assert_eq!(load_or_draw(&disk, root).unwrap(), id);
        assert_ne!(load_or_draw(&MemoryDisk::default(), root).unwrap(), id);
        disk.edit(&root.join("identity"), |bytes| bytes[9] ^= 1);
        let other = load_or_draw(&disk, root).unwrap();
        assert_ne!(other, id);
        assert_eq!(load_or_draw(&disk, root).unwrap(), other);
    }

    #[test]
    fn a_restart_of_the_machine_under_an_open_store_is_doubted_until_it_is_cleared_up() {
        let disk = MemoryDisk::default();
        let root = Path::new("/data");
        let look = |id: Option<&str>, clean| look_at_boot(&disk, root, id, clean).unwrap();
        assert!(!look(Some("a"), true), "a new store");
        assert!(!look(Some("a"), false), "only the process died");
        assert!(!look(Some("b"), true), "it was closed before");
        assert!(look(Some("c"), false));
        assert!(look(Some("c"), false), "it is not forgotten");
        assert!(look(Some("d"), true), "nor by closing");
        clear_up(&disk, root).unwrap();
        assert!(!look(Some("d"), false));
        assert!(look(None, false), "nobody knows");
        clear_up(&disk, root).unwrap();
        assert!(!look(Some("d"), true));
        disk.edit(&root.join("boot"), |bytes| bytes[9] ^= 1);
        assert!(look(Some("d"), false));
    }
}
