//! Thousands of groups in which everything goes wrong; the seeds are spread over tests so that all cores work.

use replication::{Bug, plant};
use sim::{DriverBug, Options, run};

/// Seeds of each of the tests below.
const SEEDS: u64 = 400;
/// A planted bug is looked for in so many.
const SEEDS_FOR_A_BUG: u64 = 1_000;

/// These take a coincidence that hardly ever comes about: seed 3788 of one version had one of them. `replication` has a test
/// of its own for each.
const TOO_RARE: [Bug; 2] = [Bug::DoubtLostAtConfirmed, Bug::HeardForEver];

fn holds(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(failure) = run(seed, &Options::default()) {
            panic!("{failure}");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_the_group_heals() {
    holds(0..SEEDS);
}

#[test]
fn nothing_acknowledged_is_lost_and_the_group_heals_2() {
    holds(SEEDS..2 * SEEDS);
}

#[test]
fn nothing_acknowledged_is_lost_and_the_group_heals_3() {
    holds(2 * SEEDS..3 * SEEDS);
}

#[test]
fn nothing_acknowledged_is_lost_and_the_group_heals_4() {
    holds(3 * SEEDS..4 * SEEDS);
}

#[test]
fn the_same_seed_is_the_same_word_for_word() {
    let options = Options { trace: true, ..Options::default() };
    for seed in 0..20 {
        let trace = || run(seed, &options).map_or_else(|failure| failure.trace, |outcome| outcome.trace);
        let first = trace();
        assert!(first.lines().count() > 100, "seed {seed} hardly lives");
        assert!(first == trace(), "seed {seed} went another way the second time");
    }
}

/// Which of these are not noticed.
fn unnoticed<B: Copy + std::fmt::Debug>(bugs: &[B], options: impl Fn(B) -> Options) -> Vec<String> {
    let noticed = |bug: &B| (0..SEEDS_FOR_A_BUG).any(|seed| run(seed, &options(*bug)).is_err());
    bugs.iter().filter(|bug| !noticed(bug)).map(|bug| format!("{bug:?}")).collect()
}

fn rules_are_noticed(bugs: &[Bug]) {
    let bugs: Vec<_> = bugs.iter().copied().filter(|bug| !TOO_RARE.contains(bug)).collect();
    let unnoticed = unnoticed(&bugs, |bug| {
        plant(Some(bug));
        Options::default()
    });
    plant(None);
    assert!(unnoticed.is_empty(), "broken on purpose, and nobody noticed: {unnoticed:?}");
}

#[test]
fn a_broken_rule_is_noticed() {
    rules_are_noticed(&Bug::ALL[..Bug::ALL.len() / 2]);
}

#[test]
fn a_broken_rule_is_noticed_2() {
    rules_are_noticed(&Bug::ALL[Bug::ALL.len() / 2..]);
}

#[test]
fn a_driver_that_neglects_a_duty_is_noticed() {
    let unnoticed = unnoticed(&DriverBug::ALL, |bug| Options { bug: Some(bug), ..Options::default() });
    assert!(unnoticed.is_empty(), "neglected on purpose, and nobody noticed: {unnoticed:?}");
}
