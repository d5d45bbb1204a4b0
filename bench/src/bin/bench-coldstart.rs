//! `bench-coldstart`: from exec to the first acknowledged send on an empty store.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bench::figures::{Sorted, ms};
use bench::process::{self, Process};
use bench::wire;
use clap::Parser;

/// The loop below asks again this often.
const ASK_EVERY: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(60);

/// Measures the time from exec of `gantry dev` to the first acknowledged send, its topic's creation included
#[derive(Debug, Parser)]
struct Args {
    /// The gantry program
    #[arg(long)]
    gantry: PathBuf,
    /// Rounds, each on a new empty directory
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Port of gantry dev
    #[arg(long, default_value_t = 28081)]
    port: u16,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut lengths = Vec::new();
    for round in 1..=args.rounds {
        let data = tempfile::tempdir()?;
        let started = Instant::now();
        let mut child = Process::spawn(&mut process::dev_command(&args.gantry, data.path(), args.port))?;
        first_acknowledged(args.port, started).await?;
        let length = started.elapsed();
        println!("round {round:>3}: {} ms", ms(length));
        lengths.push(length);
        child.kill()?;
    }
    let sorted = Sorted::new(lengths);
    println!(
        "exec to first acknowledged send: median {} ms, worst {} ms",
        ms(sorted.at(0.5)),
        ms(sorted.max())
    );
    Ok(())
}

/// Tries every step again until it works: the ports open one after the other.
async fn first_acknowledged(port: u16, started: Instant) -> anyhow::Result<()> {
    let admin = process::admin_of(port);
    while wire::create_topic(&admin, "coldstart", 1).await.is_err() {
        ensure!(started.elapsed() < LIMIT, "no topic after {LIMIT:?}");
        tokio::time::sleep(ASK_EVERY).await;
    }
    let mut stub = wire::connect(&format!("127.0.0.1:{port}"), 0).await?;
    let message = || wire::message("coldstart", "01".repeat(17), 0, "first".into());
    while wire::send(&mut stub, message()).await.is_err() {
        ensure!(started.elapsed() < LIMIT, "no send after {LIMIT:?}");
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(())
}
