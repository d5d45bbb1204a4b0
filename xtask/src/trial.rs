//! `cargo xtask trial NAME`: builds what a trial breaks and runs it; what it does is in `trials/README.md`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::run::{run as call, step};

/// Which trial, and what it is told.
#[derive(Args)]
pub(crate) struct Options {
    /// power-cut, ...: `cargo xtask trial help` lists them; nightly: the long run of all
    name: String,
    /// What the trial takes: --seed N, --times N, --nightly, ...
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds and runs one trial, or the long run of all. The long runs are built with optimisation.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if options.name == "nightly" {
        for name in QUICK {
            let options = Options { name: name.to_owned(), arguments: vec!["--nightly".into()] };
            step(name, || run(root, &options))?;
        }
        return step(PLANTED, || run(root, &Options { name: PLANTED.to_owned(), arguments: Vec::new() }));
    }
    let release = options.arguments.iter().any(|argument| argument == "--nightly");
    let programs = build(root, release, options.name == PLANTED)?;
    let mut command = Command::new(programs.join("trials"));
    command.arg(&options.name).args(&options.arguments);
    call(command.env("GANTRY_TRIAL_BROKER", programs.join("broker")))
}

/// The quick version of every trial, one after the other. They mount file systems, so they need root.
pub(crate) fn all(root: &Path) -> Result<()> {
    let programs = build(root, false, false)?;
    for name in QUICK {
        let mut command = Command::new(programs.join("trials"));
        command.arg(name).env("GANTRY_TRIAL_BROKER", programs.join("broker"));
        call(&mut command).context("a trial failed; they need root, and --no-cluster leaves them out")?;
    }
    Ok(())
}

/// What `./test` runs a little of, and the long run all of.
const QUICK: [&str; 5] = ["bit-rot", "strict-cut", "power-cut", "full-disk", "failing-disk"];
/// Needs programs with bugs.
const PLANTED: &str = "planted";

/// Builds the trials and the broker that they try, with bugs to plant or without; the folder of the programs.
fn build(root: &Path, release: bool, bugs: bool) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["build", "--locked", "--quiet", "--package=trials", "--package=broker"]);
    if release {
        command.arg("--release");
    }
    if bugs {
        command.arg("--features=trials/planted-bugs");
    }
    call(&mut command)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(root.join(target).join(if release { "release" } else { "debug" }))
}
