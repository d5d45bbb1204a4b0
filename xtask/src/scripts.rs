//! Every shell script of the project passes shellcheck.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs shellcheck over all scripts at once; its findings go to our output.
pub(crate) fn check(root: &Path, files: &[PathBuf]) -> Result<()> {
    let scripts: Vec<&PathBuf> = files.iter().filter(|f| is_script(root, f)).collect();
    let status = Command::new("shellcheck")
        .current_dir(root)
        .args(["--external-sources", "--source-path=SCRIPTDIR"])
        .args(&scripts)
        .status()
        .context("shellcheck is missing (apt-get install shellcheck)")?;
    if !status.success() {
        bail!("shellcheck is not content with the scripts");
    }
    eprintln!("    {} scripts pass shellcheck", scripts.len());
    Ok(())
}

fn is_script(root: &Path, file: &Path) -> bool {
    let extension = file.extension().and_then(|e| e.to_str());
    match extension {
        Some("sh") => true,
        Some(_) => false,
        None => std::fs::read(root.join(file)).is_ok_and(|bytes| {
            let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
            first.starts_with(b"#!") && first.ends_with(b"sh")
        }),
    }
}
