//! `cargo xtask chaos`: breaks a broker group of three on the local cluster, again and again, and tells what that did.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Parser;
use e2e::chaos::{self, Options, Reach, Stop};
use e2e::cluster::in_namespace;

/// The long run.
const NIGHTLY: usize = 1000;

#[derive(Parser)]
#[command(
    name = "chaos",
    bin_name = "cargo xtask chaos",
    about = "Faults on a real cluster under official clients"
)]
struct Arguments {
    /// So many faults
    #[arg(long, default_value_t = 42, conflicts_with = "nightly")]
    faults: usize,
    /// 1,000 faults
    #[arg(long)]
    nightly: bool,
    /// Repeats which faults come; printed first, random if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Only faults whose description contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Faults last so long, where else the seed says how long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    lasting: Option<u64>,
    /// Messages a second that official clients send in all; ours sends 20 more
    #[arg(long, default_value_t = 80)]
    rate: usize,
    /// Write the report to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Keep ledgers and logs of the clients here, instead of in a temporary folder
    #[arg(long, value_name = "FOLDER")]
    evidence: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let Arguments { faults, nightly, seed, only, lasting, rate, report, evidence } = arguments;
    let seed = seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64 % 1_000_000
    });
    let faults = if nightly { NIGHTLY } else { faults };
    let mut command = format!("cargo xtask chaos --faults {faults} --seed {seed} --rate {rate}");
    if let Some(only) = &only {
        command += &format!(" --only {only:?}");
    }
    if let Some(seconds) = lasting {
        command += &format!(" --lasting {seconds}");
    }
    println!("{command}\n");
    let folder = std::env::var_os("CLUSTER_DIR").context("CLUSTER_DIR names no local cluster")?;
    let evidence = evidence.unwrap_or_else(|| std::env::temp_dir().join(format!("gantry-chaos-{seed}")));
    let options = Options {
        faults,
        seed,
        only,
        lasting,
        rate,
        reach: Reach::Machines,
        folder: Some(folder.into()),
        evidence,
    };
    let stop = Arc::new(Stop::default());
    hear_signals(Arc::clone(&stop))?;
    in_namespace("chaos", |space| {
        let outcome = chaos::run(space, &options, &stop)?;
        println!("\n{}", outcome.report(&command, "now"));
        if let Some(report) = &report {
            outcome.write(report, &command)?;
        }
        println!("ledgers and logs of the clients: {}", options.evidence.display());
        outcome.judge()
    })
}

/// Ctrl-C: mend what is broken, and tell what was seen so far.
fn hear_signals(stop: Arc<Stop>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut terminate = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        });
        eprintln!("chaos: stopping; mending what is broken first");
        stop.ask();
    });
    Ok(())
}
