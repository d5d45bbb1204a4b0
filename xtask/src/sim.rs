//! `cargo xtask sim`: broker groups in which everything goes wrong, each from one seed. By night 100,000 of them.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::run::run as call;

/// A planted bug is looked for in so many seeds, unless told otherwise.
const SEEDS_FOR_A_BUG: u64 = 1_000;

/// Which seeds.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// This seed alone, word for word
    #[arg(conflicts_with_all = ["seeds", "from", "planted"])]
    seed: Option<u64>,
    /// How many seeds [100000; of each planted bug 1000]
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Break the rules one by one, and count which are noticed
    #[arg(long)]
    planted: bool,
}

/// Runs them on all cores; an error if one of them shows that something does not hold.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    call(Command::new("cargo").current_dir(root).args(arguments(options)))
}

fn arguments(options: &Options) -> Vec<String> {
    let Options { seed, seeds, from, planted } = options;
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut all = words("run --release --locked --package=sim");
    if *planted {
        all.push("--features=planted-bugs".to_owned());
    }
    all.push("--".to_owned());
    if let Some(seed) = seed {
        all.extend(words(&format!("--seed={seed} --trace")));
        return all;
    }
    let seeds = seeds.unwrap_or(if *planted { SEEDS_FOR_A_BUG } else { 100_000 });
    all.extend(words(&format!("--seeds={seeds} --from={from}")));
    if *planted {
        all.push("--planted".to_owned());
    } else {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        all.push(format!("--threads={cores}"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_is_a_hundred_thousand_seeds() {
        let night = Options { seed: None, seeds: None, from: 0, planted: false };
        let line = arguments(&night).join(" ");
        assert!(
            line.starts_with("run --release --locked --package=sim -- --seeds=100000 --from=0 --threads=")
        );
        let one = Options { seed: Some(7), ..night };
        assert_eq!(arguments(&one)[4..].join(" "), "-- --seed=7 --trace");
    }
}
