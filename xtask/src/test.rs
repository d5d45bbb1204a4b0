//! `cargo xtask test`: everything, from the quickest to the slowest, and nothing twice or left out in silence.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;

use crate::image::target_folder;
use crate::run::{run as call, step};
use crate::tools::Tools;
use crate::{charts, check, e2e, guard, image, room, trial};

/// What to leave out, and what to use.
#[derive(Args)]
pub(crate) struct Options {
    /// Only what needs no cluster and no root: check, tests of the crates
    #[arg(long)]
    no_cluster: bool,
    #[command(flatten)]
    e2e: e2e::Options,
}

/// An hour is what it takes on a new machine, where all is built. Whoever runs it elsewhere ends it after one and a half.
pub(crate) const LIMIT: Duration = Duration::from_secs(80 * 60);

/// Runs it all. The cluster's own programs and the clients are built beside the rest: on a new machine they take longest.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    room::make(root)?;
    if options.no_cluster {
        check::run(root)?;
        crates(root)?;
        step("interleavings", || interleavings(root))?;
        return step("stores between Java and here", || e2e::java(root));
    }
    thread::scope(|scope| {
        let cluster = scope.spawn(|| Tools::get(root));
        let clients = scope.spawn(|| e2e::clients(root));
        check::run(root)?;
        crates(root)?;
        step("interleavings", || interleavings(root))?;
        step("trials", || trial::all(root))?;
        step("stores between Java and here", || e2e::java(root))?;
        let images = step("images", || image::build(root))?;
        step("what the hot calls cost", || guard::run(root, false))?;
        let tools = step("programs of the local cluster", || joined(cluster.join()))?;
        step("charts", || charts::golden(root, false))?;
        let clients = step("official clients", || joined(clients.join()))?;
        e2e::run(root, &options.e2e, &images, &tools, &clients)
    })
}

/// Unit, property, golden and process tests of every crate but the one that needs a cluster.
fn crates(root: &Path) -> Result<()> {
    step("tests of the crates", || {
        call(Command::new("cargo").current_dir(root).args(["test", "--workspace", "--locked", "--quiet"]))
    })
}

/// What threads agree on without a lock, under loom: its types need a build of their own.
pub(crate) fn interleavings(root: &Path) -> Result<()> {
    call(
        Command::new("cargo")
            .current_dir(root)
            .args(["test", "--package=store", "--lib", "--locked", "--quiet", "--release", "in_any_order"])
            .env("RUSTFLAGS", "--cfg loom")
            .env("CARGO_TARGET_DIR", target_folder(root)?.join("loom")),
    )
}

fn joined<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.map_err(|_| anyhow!("a step panicked")).and_then(|r| r)
}
