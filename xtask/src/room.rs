//! Room on the disk before a long run. Cargo never deletes what it built for earlier checkouts, and brokers take no messages on
//! a disk that is nearly full.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::image::target_folder;

/// What a run builds and writes on a new machine, with some to spare.
const NEEDED_BYTES: u64 = 30 << 30;
/// Below the 90 % at which brokers refuse by default.
const MOST_USED_PERCENT: u64 = 75;

/// Removes what cargo can build again, the least useful first, until there is room.
pub(crate) fn make(root: &Path) -> Result<()> {
    let target = target_folder(root)?;
    fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    for folder in from_the_least_useful(&target)? {
        if !is_tight(space(&target)?) {
            break;
        }
        eprintln!("    the disk is nearly full: removing {}", folder.display());
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

fn is_tight((used, free): (u64, u64)) -> bool {
    free < NEEDED_BYTES
        || used.saturating_mul(100) > used.saturating_add(free).saturating_mul(MOST_USED_PERCENT)
}

/// Bytes used, and bytes free for anybody.
fn space(folder: &Path) -> Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    Ok((stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

/// Each profile's incremental state, then all else.
fn from_the_least_useful(target: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(target)?.collect::<Result<Vec<_>, _>>()?;
    let mut folders: Vec<_> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let states = folders.iter().map(|profile| profile.join("incremental")).filter(|path| path.is_dir());
    Ok(states.chain(folders.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_tight_by_its_share_and_by_what_a_run_needs() {
        let gib = 1 << 30;
        assert!(!is_tight((12 * gib, 80 * gib)));
        assert!(is_tight((5 * gib, 29 * gib)), "too little for a run");
        assert!(is_tight((200 * gib, 50 * gib)), "80 %, and the run takes more");
    }

    #[test]
    fn incremental_state_goes_before_what_was_built() {
        let target = tempfile::tempdir().unwrap();
        for folder in ["release/deps", "debug/incremental"] {
            fs::create_dir_all(target.path().join(folder)).unwrap();
        }
        let expected = ["debug/incremental", "debug", "release"].map(|folder| target.path().join(folder));
        assert_eq!(from_the_least_useful(target.path()).unwrap(), expected);
    }
}
