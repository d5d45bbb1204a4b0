//! The command line: one command a trial, and the few that trials start themselves.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use store::Flush;

use crate::driver::{self, Plan};
use crate::ledger::{self, Ledger, Pen};
use crate::{bit_rot, failing_disk, full_disk, planted, power_cut, room, strict_cut};

/// Names the broker's program.
const BROKER: &str = "GANTRY_TRIAL_BROKER";

#[derive(Parser)]
#[command(name = "trials", about = "Breaks what the store stands on, and looks what is left")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The power goes while a store is written to: 50 times, nightly 1,000
    PowerCut {
        #[command(flatten)]
        options: Options,
        /// Only with this flush
        #[arg(long, value_enum)]
        flush: Option<FlushArgument>,
    },
    /// The power goes under a disk in memory that keeps nothing which nobody synced: 100 times, nightly 5,000
    StrictCut(Options),
    /// A bit, a sector or the end of one file of a store is damaged: 300 times, nightly 5,000
    BitRot(Options),
    /// A volume fills up and has room again, under a broker: 5 times, nightly 200
    FullDisk(Options),
    /// A volume begins to fail under a broker: 4 times, nightly 100
    FailingDisk(Options),
    /// Every planted bug, and the trial that must notice it
    Planted {
        /// Of the seeds of the trials
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// The ledger's own process, and its judge
    Ledger {
        #[command(subcommand)]
        action: LedgerAction,
    },
    /// Writes to a store until it is killed
    #[command(hide = true)]
    Drive {
        root: PathBuf,
        ledger: PathBuf,
        #[arg(long)]
        sync: bool,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        life: u64,
    },
}

/// When a store acknowledges.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FlushArgument {
    Sync,
    Async,
}

/// How much, and which.
#[derive(Args, Clone, Copy)]
struct Options {
    /// Repeats what this number decides; printed first, random if not given
    #[arg(long)]
    seed: Option<u64>,
    /// The long run
    #[arg(long)]
    nightly: bool,
    /// So many cuts, cycles or faults instead
    #[arg(long, value_name = "N")]
    times: Option<u64>,
}

#[derive(Subcommand)]
enum LedgerAction {
    /// Appends what clients write to SOCKET to FILE
    Record { file: PathBuf, socket: PathBuf },
    /// Says what FILE amounts to: lost, altered, phantom, duplicated, out of order
    Check { file: PathBuf },
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    // What recovery says goes to standard error, where only RUST_LOG asks for it.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match act(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trials: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> Result<()> {
    match command {
        Command::PowerCut { options, flush } => trial("power-cut", options, (50, 1000), |times, seed| {
            let program = std::env::current_exe()?;
            let modes = match flush {
                Some(FlushArgument::Sync) => vec![(Flush::Sync, times)],
                Some(FlushArgument::Async) => vec![(Flush::Async, times)],
                None => vec![(Flush::Sync, times - times / 2), (Flush::Async, times / 2)],
            };
            for (flush, times) in modes {
                let outcome = power_cut::run(&program, flush, times, seed)?;
                println!("{flush:?}: {outcome:?}");
            }
            Ok(())
        }),
        Command::BitRot(options) => trial("bit-rot", options, (300, 5000), |times, seed| {
            print!("{}", bit_rot::run(times, seed)?);
            Ok(())
        }),
        Command::StrictCut(options) => trial("strict-cut", options, (100, 5000), strict_cut::run),
        Command::FullDisk(options) => trial("full-disk", options, (5, 200), |times, seed| {
            println!("{:?}", full_disk::run(&room::program(BROKER)?, times, seed)?);
            Ok(())
        }),
        Command::FailingDisk(options) => trial("failing-disk", options, (4, 100), |times, seed| {
            println!("{:?}", failing_disk::run(&room::program(BROKER)?, times, seed)?);
            Ok(())
        }),
        Command::Planted { seed } => planted::run(&std::env::current_exe()?, seed),
        Command::Ledger { action: LedgerAction::Record { file, socket } } => {
            room::die_with_parent()?;
            ledger::record(&file, &socket, || println!("recording"))
        }
        Command::Ledger { action: LedgerAction::Check { file } } => {
            let verdict = Ledger::read(&file)?.verdict();
            println!("{verdict}");
            ensure!(verdict.is_clean(), "{} is not clean", file.display());
            Ok(())
        }
        Command::Drive { root, ledger, sync, seed, life } => {
            room::die_with_parent()?;
            let flush = if sync { Flush::Sync } else { Flush::Async };
            let plan = Plan { root, flush, seed, life };
            driver::drive(&plan, &Pen::new(&ledger)?, || println!("open"))
        }
    }
}

/// Prints the seed and how to repeat it, then runs a trial of so many times, the first number in the test and the second
/// nightly.
fn trial(
    name: &str,
    options: Options,
    (quick, nightly): (u64, u64),
    run: impl FnOnce(u64, u64) -> Result<()>,
) -> Result<()> {
    room::enter()?;
    let seed = match options.seed {
        Some(seed) => seed,
        None => {
            SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_micros()
                as u64
        }
    };
    let times = options.times.unwrap_or(if options.nightly { nightly } else { quick });
    println!("seed {seed}; again: cargo xtask trial {name} --times {times} --seed {seed}");
    let start = Instant::now();
    run(times, seed)?;
    println!("{name}: {times} times in {:.1} s, all as promised", start.elapsed().as_secs_f64());
    Ok(())
}
