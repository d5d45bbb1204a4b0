//! `cargo xtask miri`: the tests of the store's codecs, interpreted by Miri, which sees what a processor forgives.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{output, run as call};

/// Miri comes with nightly compilers only, and not with each of them.
const TOOLCHAIN: &str = "nightly-2026-05-20";
/// Modules whose tests need no file system of the machine.
const TESTS: [&str; 8] = [
    "commit_log::codec",
    "commit_log::walk",
    "fuzzing",
    "last_writer",
    "views::blocks",
    "views::deleted",
    "views::entry",
    "views::keys::entry",
];
/// What takes minutes: properties, megabytes, and targets with files of many kilobytes or a whole store.
const SLOW: [&str; 6] = [
    "every_record_comes_back_as_it_went",
    "no_bytes_make_the_decoder_panic",
    "what_does_not_fit_the_format",
    "no_bytes_break::keys",
    "no_bytes_break::store",
    "the_same_seed_damages",
];

/// Runs them. Installs the toolchain if it is not there.
pub(crate) fn run(root: &Path) -> Result<()> {
    let install = ["toolchain", "install", TOOLCHAIN, "--profile=minimal", "--component=miri,rust-src"];
    output(Command::new("rustup").args(install).arg("--no-self-update"))
        .context("Miri needs a nightly toolchain, and rustup cannot have it")?;
    let mut command = Command::new("rustup");
    command.current_dir(root).args(["run", TOOLCHAIN, "cargo", "miri", "test", "--package=store", "--lib"]);
    command.args(["--locked", "--target-dir"]).arg(root.join("target/miri")).arg("--").args(TESTS);
    command.args(SLOW.map(|test| format!("--skip={test}")));
    call(&mut command)
}
