//! `cargo xtask fuzz`: libFuzzer on every decoder of stored bytes; what they are is in `store/src/fuzzing`.
//!
//! It is built as `cargo fuzz` does it, but with the toolchain of the project: coverage needs no nightly compiler, and
//! without `unsafe` there is little that a sanitizer would see.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::run::{output, run as call, step};

/// What `cargo fuzz` passes for coverage.
const COVERAGE: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
    "-Clink-dead-code",
    "--cfg=fuzzing",
];
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// An input that takes so much memory, or so long, is a find.
const MOST_MEMORY: &str = "-rss_limit_mb=1024";
const MOST_SECONDS: &str = "-timeout=20";

/// What to fuzz, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only this one
    target: Option<String>,
}

/// Builds, and runs each target from the corpus that the last run left in `target/fuzz/corpus`. An input that breaks
/// something is an error, and is kept.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let program = step("build", || build(root))?;
    let names = output(&mut Command::new(&program))?;
    let mut names: Vec<&str> = names.lines().collect();
    if let Some(only) = &options.target {
        ensure!(names.contains(&only.as_str()), "{only} is none of {}", names.join(", "));
        names = vec![only];
    }
    for name in names {
        step(name, || fuzz(root, &program, name, options.seconds))?;
    }
    Ok(())
}

fn build(root: &Path) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    let target_dir = root.join("target/fuzz/build");
    command.current_dir(root.join("store/fuzz"));
    command.args(["build", "--release", "--locked", "--quiet", "--target", TRIPLE, "--target-dir"]);
    // With a target named, flags are not for build scripts.
    call(command.arg(&target_dir).env("RUSTFLAGS", COVERAGE.join(" ")))?;
    Ok(target_dir.join(TRIPLE).join("release/store-fuzz"))
}

fn fuzz(root: &Path, program: &Path, name: &str, seconds: u32) -> Result<()> {
    let corpus = root.join("target/fuzz/corpus").join(name);
    let crashes = root.join("target/fuzz/crashes").join(name);
    for dir in [&corpus, &crashes] {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let mut command = Command::new(program);
    command.env("GANTRY_FUZZ_TARGET", name).env("GANTRY_FUZZ_SEEDS", &corpus);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", crashes.display()));
    command.args([MOST_MEMORY, MOST_SECONDS, "-max_len=65536", "-verbosity=1"]).arg(&corpus);
    call(&mut command).with_context(|| {
        format!(
            "what breaks {name} is in {}: mend it, and keep the input in store/fuzz/found/{name}, which \
             `cargo test -p store` replays",
            crashes.display()
        )
    })
}
