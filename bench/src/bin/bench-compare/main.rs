//! `bench-compare`: Gantry beside Apache RocketMQ's Java broker with its proxy, a bare tonic echo as the floor, and NATS JetStream and
//! Kafka where they are comparable, in one run.
//!
//! ```text
//! rounds, ABBA ──► server on one CPU ──► warm it ──► loads by `gantry bench` on the other ──────► rows
//!                  (servers, java)                    (scenarios, loads; noise voids a row)       │
//!             └──► others, with loads of their own ────────────────────────────────────────────► │
//! once: kill -9 on a full log (recovery), idle clients (idle) ─────────────────────────────────► │
//!                                               RESULTS.md ◄── medians, ranges, goals ◄───────────┘ (results, goals)
//! ```

#![forbid(unsafe_code)]

mod flushes;
mod goals;
mod head;
mod idle;
mod java;
mod loads;
mod noise;
mod others;
mod recovery;
mod results;
mod rows;
mod scenarios;
mod servers;

use std::path::PathBuf;

use anyhow::ensure;
use bench::load::Generator;
use clap::Parser;

use results::Results;
use rows::Row;
use servers::{Flush, Launcher, Who};

/// Measures the echo, Gantry and the Java broker by the same loads, each server on one CPU and the load on another
#[derive(Debug, Clone, Parser)]
pub(crate) struct Args {
    /// The gantry program: the server, and the load generator for all
    #[arg(long)]
    gantry: PathBuf,
    /// The jars that bench/java/prepare fetched; without them nothing is compared with Java
    #[arg(long, value_name = "DIR")]
    java: Option<PathBuf>,
    /// What bench/others/prepare built; without it NATS JetStream and Kafka are not measured
    #[arg(long, value_name = "DIR")]
    others: Option<PathBuf>,
    /// Rounds; each visits every server, in turning order
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// CPU of the server
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU of the load
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Heap of the Java broker with its proxy
    #[arg(long, default_value = "2g")]
    java_heap: String,
    /// Seconds of a closed loop before a server is measured
    #[arg(long, default_value_t = 20)]
    warm_up: u64,
    /// Seconds of each scenario
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds of the open loop at 5,000 a second [default: as --seconds]
    #[arg(long)]
    open_loop_seconds: Option<u64>,
    /// Messages of the backlog
    #[arg(long, default_value_t = 100_000)]
    backlog: u64,
    /// Idle clients of Gantry; 0: none
    #[arg(long, default_value_t = 10_000)]
    idle_clients: u32,
    /// GiB of the log on which a server is started again after kill -9, once; 0: none
    #[arg(long, default_value_t = 4)]
    recovery_gib: u64,
    /// First of the ports that are used
    #[arg(long, default_value_t = 28081)]
    port: u16,
    /// Directory of the servers' data, on the disk that is measured; a new one below it is made and removed
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Where the results go
    #[arg(long, default_value = "bench/RESULTS.md")]
    results: PathBuf,
    /// Share of the CPUs that others may use meanwhile, steal included, before a row is void
    #[arg(long, default_value_t = 0.1)]
    noise: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.rounds > 0, "--rounds 0 measures nothing");
    let launcher = Launcher::new(&args);
    let generator = Generator { gantry: args.gantry.clone(), cpu: Some(args.load_cpu) };
    let mut visits = visits(&args);
    let mut results = Results::new(&args)?;
    for round in 1..=args.rounds {
        // There and back: what drifts with time meets each the same.
        for &(who, flush) in &visits {
            let rows = match who {
                Who::Echo | Who::Gantry | Who::Java => {
                    scenarios::visit(who, flush, round, &args, &launcher, &generator).await
                }
                Who::Nats | Who::Kafka => others::visit(who, round, &args, &launcher).await,
            };
            // Written after each: a run that is cut short leaves what it had.
            results.add(rows.unwrap_or_else(|error| vec![Row::failed("visit", who, round, &error)]))?;
        }
        visits.reverse();
    }
    if args.recovery_gib > 0 {
        for who in [Some(Who::Gantry), args.java.as_ref().map(|_| Who::Java)].into_iter().flatten() {
            let rows = recovery::measure(who, &args, &launcher, &generator).await;
            results.add(rows.unwrap_or_else(|error| vec![Row::failed("recovery", who, 1, &error)]))?;
        }
    }
    if args.idle_clients > 0 {
        let row = idle::measure(&args, &launcher, &generator).await;
        results.add(vec![row.unwrap_or_else(|error| Row::failed("idle", Who::Gantry, 1, &error))])?;
    }
    println!("\nwritten to {}", args.results.display());
    Ok(())
}

/// The servers of a round.
fn visits(args: &Args) -> Vec<(Who, Flush)> {
    let mut visits = vec![(Who::Echo, Flush::Async), (Who::Gantry, Flush::Async)];
    let java = args.java.is_some();
    visits.extend(java.then_some((Who::Java, Flush::Async)));
    visits.push((Who::Gantry, Flush::Sync));
    visits.extend(java.then_some((Who::Java, Flush::Sync)));
    if args.others.is_some() {
        visits.extend([(Who::Nats, Flush::Async), (Who::Kafka, Flush::Async)]);
    }
    visits
}
