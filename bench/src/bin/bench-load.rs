//! `bench-load`: a closed loop of sends to any server, and the server's CPU time for each.

#![forbid(unsafe_code)]

use anyhow::ensure;
use bench::load::{Load, Outcome};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends messages in a closed loop and prints rate, latency and the server's CPU time for each
#[derive(Debug, Parser)]
struct Args {
    /// The server
    #[arg(long, default_value = "127.0.0.1:8081")]
    endpoint: String,
    /// Process whose CPU time is counted
    #[arg(long)]
    pid: Option<u32>,
    #[command(flatten)]
    load: Load,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let outcome = args.load.run(&args.endpoint, args.pid).await?;
    println!("{}\n{}", Outcome::HEAD, outcome.row());
    if let Some(reason) = &outcome.first_failure {
        eprintln!("first failure: {reason}");
    }
    ensure!(outcome.acknowledged > 0, "nothing was acknowledged");
    Ok(())
}
