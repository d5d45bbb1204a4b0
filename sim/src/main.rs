//! `sim`: many seeds, or one of them word for word.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use sim::{Options, run};

/// Runs a broker group through everything that can go wrong, a seed at a time.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This one alone
    #[arg(long)]
    seed: Option<u64>,
    /// Print what happens (with --seed)
    #[arg(long)]
    trace: bool,
    /// Go on after a failure, and print so many
    #[arg(long, default_value_t = 1)]
    failures: u64,
    /// How many seeds at a time
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Break the rules one by one, and count which are noticed within --seeds
    #[cfg(feature = "planted-bugs")]
    #[arg(long)]
    planted: bool,
    /// Only those whose name has this in it (with --planted)
    #[cfg(feature = "planted-bugs")]
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    #[cfg(feature = "planted-bugs")]
    if arguments.planted {
        return planted(&arguments);
    }
    if let Some(seed) = arguments.seed {
        return one(seed, arguments.trace);
    }
    many(&arguments)
}

fn one(seed: u64, trace: bool) -> anyhow::Result<()> {
    let options = Options { trace, ..Options::default() };
    match run(seed, &options) {
        Ok(outcome) => {
            print!("{}", outcome.trace);
            println!(
                "seed {seed} holds: {} steps, {} acknowledged, {} reigns, whole again after {:?}",
                outcome.steps, outcome.acknowledged, outcome.reigns, outcome.healed_after
            );
            Ok(())
        }
        Err(failure) => {
            print!("{}", failure.trace);
            anyhow::bail!("{failure}")
        }
    }
}

fn many(arguments: &Arguments) -> anyhow::Result<()> {
    let began = Instant::now();
    let end = arguments.from + arguments.seeds;
    let (next, failed) = (AtomicU64::new(arguments.from), AtomicU64::new(0));
    let (steps, acknowledged, reigns) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let slowest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) < arguments.failures {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    match run(seed, &Options::default()) {
                        Ok(outcome) => {
                            steps.fetch_add(outcome.steps, Ordering::Relaxed);
                            acknowledged.fetch_add(outcome.acknowledged as u64, Ordering::Relaxed);
                            reigns.fetch_add(outcome.reigns as u64, Ordering::Relaxed);
                            slowest.fetch_max(outcome.healed_after.as_millis() as u64, Ordering::Relaxed);
                        }
                        Err(failure) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("{failure}");
                        }
                    }
                }
            });
        }
    });
    let seeds = next.load(Ordering::Relaxed).min(end) - arguments.from;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds in {seconds:.1} s ({:.0} a second): {} steps, {} acknowledged, {} reigns, whole again after {} ms at most",
        seeds as f64 / seconds,
        steps.load(Ordering::Relaxed),
        acknowledged.load(Ordering::Relaxed),
        reigns.load(Ordering::Relaxed),
        slowest.load(Ordering::Relaxed),
    );
    match failed.load(Ordering::Relaxed) {
        0 => Ok(()),
        failed => anyhow::bail!("{failed} seeds failed"),
    }
}

#[cfg(feature = "planted-bugs")]
fn planted(arguments: &Arguments) -> anyhow::Result<()> {
    use sim::DriverBug;

    let noticed = |name: String, options: &Options| {
        let seeds = arguments.from..arguments.from + arguments.seeds;
        let failure = seeds.clone().find_map(|seed| run(seed, options).err());
        match &failure {
            Some(failure) => println!("{name}: {}: {}", failure.seed, failure.what),
            None => println!("{name}: NOT NOTICED in {} seeds", arguments.seeds),
        }
        failure.is_some()
    };
    let (mut count, mut all) = (0, 0);
    let named = |bug: &dyn std::fmt::Debug| format!("{bug:?}").contains(&arguments.only);
    for bug in replication::Bug::ALL.into_iter().filter(|bug| named(bug)) {
        all += 1;
        replication::plant(Some(bug));
        count += usize::from(noticed(format!("{bug:?}"), &Options::default()));
    }
    replication::plant(None);
    for bug in DriverBug::ALL.into_iter().filter(|bug| named(bug)) {
        all += 1;
        count += usize::from(noticed(
            format!("driver: {bug:?}"),
            &Options { bug: Some(bug), ..Options::default() },
        ));
    }
    println!("{count} of {all} planted bugs are noticed");
    Ok(())
}
