//! Where the checkout is and which files belong to the project.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::output;

/// The root of the checkout: cargo says where this package lies when it runs us.
pub(crate) fn root() -> Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let root = Path::new(&here).parent().context("xtask/ lies in the checkout")?.to_path_buf();
    ensure!(root.join("Cargo.lock").is_file(), "{} is not the root of the project", root.display());
    Ok(root)
}

/// All files that belong to the project, relative to its root and sorted: what git tracks or would track.
pub(crate) fn all(root: &Path) -> Result<Vec<PathBuf>> {
    let listed = output(Command::new("git").current_dir(root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]))?;
    let mut files: Vec<PathBuf> = listed
        .split('\0')
        .filter(|f| !f.is_empty())
        .map(PathBuf::from)
        .filter(|f| root.join(f).is_file())
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Where things that outlive a checkout are kept.
pub(crate) fn cache() -> Result<PathBuf> {
    Ok(base("XDG_CACHE_HOME", ".cache")?.join("gantry"))
}

/// `$VARIABLE`, or `~/DEFAULT` when it is not set.
pub(crate) fn base(variable: &str, default: &str) -> Result<PathBuf> {
    if let Some(set) = std::env::var_os(variable).filter(|v| !v.is_empty()) {
        return Ok(PathBuf::from(set));
    }
    Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(default))
}
