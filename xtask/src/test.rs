//! `cargo xtask test`: everything, from the quickest to the slowest, and nothing twice or left out in silence.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
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

/// Runs it all, and goes on where something fails, so that one run tells everything. The cluster's own programs and the clients are
/// built beside the rest: on a new machine they take longest.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    room::make(root)?;
    let mut failed = Failed::default();
    if options.no_cluster {
        failed.note(check::run(root));
        failed.note(crates(root));
        failed.note(step("interleavings", || interleavings(root)));
        failed.note(step("stores between Java and here", || e2e::java(root)));
        return failed.end();
    }
    thread::scope(|scope| {
        let cluster = scope.spawn(|| Tools::get(root));
        let clients = scope.spawn(|| e2e::clients(root));
        failed.note(check::run(root));
        failed.note(crates(root));
        failed.note(step("interleavings", || interleavings(root)));
        failed.note(step("trials", || trial::all(root)));
        failed.note(step("stores between Java and here", || e2e::java(root)));
        let images = failed.note(step("images", || image::build(root)));
        failed.note(step("what the hot calls cost", || guard::run(root, false)));
        let tools = failed.note(step("programs of the local cluster", || joined(cluster.join())));
        failed.note(step("charts", || charts::golden(root, false)));
        let clients = failed.note(step("official clients", || joined(clients.join())));
        if let (Some(images), Some(tools), Some(clients)) = (images, tools, clients) {
            failed.note(e2e::run(root, &options.e2e, &images, &tools, &clients));
        }
    });
    failed.end()
}

/// What went wrong so far.
#[derive(Default)]
struct Failed(Vec<String>);

impl Failed {
    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.0.push(format!("{e:#}"))).ok()
    }

    fn end(self) -> Result<()> {
        ensure!(self.0.is_empty(), "failed:\n  {}", self.0.join("\n  "));
        Ok(())
    }
}

/// Unit, property, golden and process tests of every crate but the one that needs a cluster.
fn crates(root: &Path) -> Result<()> {
    step("tests of the crates", || {
        call(Command::new("cargo").current_dir(root).args([
            "test",
            "--workspace",
            "--locked",
            "--quiet",
            "--no-fail-fast",
        ]))
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
