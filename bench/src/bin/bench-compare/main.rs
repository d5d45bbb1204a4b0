//! `bench-compare`: Gantry beside Apache RocketMQ's Java broker with its proxy, and a bare tonic echo as the floor, in one run.
//!
//! ```text
//! rounds, ABBA ──► server on one CPU ──► warm it ──► scenarios by `gantry bench` on the other ──► rows
//!                  (servers)                          (scenarios; noise voids a row)              │
//!                                                            RESULTS.md ◄── medians, ranges ◄─────┘ (results)
//! ```

#![forbid(unsafe_code)]

mod idle;
mod noise;
mod results;
mod scenarios;
mod servers;

use std::path::PathBuf;

use anyhow::ensure;
use bench::load::Generator;
use clap::Parser;

use results::{Results, Row};
use servers::{Launcher, Who};

/// Measures the echo, Gantry and the Java broker by the same loads, each server on one CPU and the load on another
#[derive(Debug, Clone, Parser)]
pub(crate) struct Args {
    /// The gantry program: the server, and the load generator for all
    #[arg(long)]
    gantry: PathBuf,
    /// The jars that bench/java/prepare fetched; without them nothing is compared with Java
    #[arg(long, value_name = "DIR")]
    java: Option<PathBuf>,
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
    /// Messages of the backlog
    #[arg(long, default_value_t = 100_000)]
    backlog: u64,
    /// Idle clients of Gantry; 0: none
    #[arg(long, default_value_t = 10_000)]
    idle_clients: u32,
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
    let mut servers = vec![Who::Echo, Who::Gantry];
    servers.extend(args.java.as_ref().map(|_| Who::Java));
    let mut results = Results::new(&args)?;
    for round in 1..=args.rounds {
        // There and back: what drifts with time meets each the same.
        for who in &servers {
            let visit = scenarios::visit(*who, round, &args, &launcher, &generator).await;
            match visit {
                Ok(rows) => rows.into_iter().for_each(|row| results.add(row)),
                Err(error) => results.add(Row::failed(*who, round, format!("{error:#}"))),
            }
            // After each: a run that is cut short leaves what it had.
            results.write(&args.results)?;
        }
        servers.reverse();
    }
    if args.idle_clients > 0 {
        let row = idle::measure(&args, &launcher, &generator).await;
        results.add(row.unwrap_or_else(|error| Row::failed(Who::Gantry, 0, format!("{error:#}"))));
        results.write(&args.results)?;
    }
    println!("\nwritten to {}", args.results.display());
    Ok(())
}
