//! `cargo xtask check`: all that can be said of the text alone. It writes nothing in the checkout.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{run as call, step};
use crate::{files, r#gen, guests, scripts, tidy, walls};

/// All of it, from the quickest to the slowest, so that one call tells everything.
pub(crate) fn run(root: &Path) -> Result<()> {
    let results = [
        step("format", || call(Command::new("cargo").current_dir(root).args(["fmt", "--all", "--check"]))),
        step("tidiness, walls, licences", || text(root)),
        step("shell scripts", || scripts::check(root, &files::all(root)?)),
        step("generated files are fresh", || r#gen::check(root)),
        step("lints", || {
            let lints = [
                "clippy",
                "--workspace",
                "--all-targets",
                "--features=e2e/cluster,e2e/java",
                "--locked",
                "--quiet",
                "--",
                "--deny=warnings",
            ];
            call(Command::new("cargo").current_dir(root).args(lints))
        }),
    ];
    let failed: Vec<String> = results.into_iter().filter_map(Result::err).map(|e| format!("{e:#}")).collect();
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

fn text(root: &Path) -> Result<()> {
    let all = files::all(root)?;
    let mut found = Vec::new();
    for file in &all {
        // What is not text has no words to look at.
        if let Ok(text) = std::fs::read_to_string(root.join(file)) {
            found.extend(tidy::check(file, &text));
        }
    }
    let metadata = walls::metadata(root)?;
    found.extend(walls::check(&metadata));
    found.extend(guests::check(root, &metadata)?);
    if found.is_empty() {
        eprintln!("    {} files, {} packages", all.len(), metadata.packages.len());
        return Ok(());
    }
    for complaint in &found {
        eprintln!("    {complaint}");
    }
    bail!("{} complaints", found.len())
}
