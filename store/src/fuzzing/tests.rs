//! Every target on seeded mutations of valid encodings, and on what once broke it.

use super::mutate::Dice;
use super::*;

/// Bytes that each target is given in all, and inputs at least.
#[cfg(not(miri))]
const SHARE: (usize, usize) = (300_000, 300);
#[cfg(miri)]
const SHARE: (usize, usize) = (100, 2);

/// Says which input it was, if it fails.
struct Told<'a> {
    target: &'a str,
    seed: u64,
    input: &'a [u8],
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.input.iter().take(4096).map(|byte| format!("{byte:02x}")).collect();
            eprintln!("target {}, seed {}, {} bytes: {hex}", self.target, self.seed, self.input.len());
        }
    }
}

fn replay(name: &str) {
    let target = Target::named(name).unwrap();
    let seeds = target.seeds();
    for (seed, input) in (0..).zip(&seeds) {
        let _told = Told { target: name, seed, input };
        target.run(input);
    }
    let (mut left, least) = SHARE;
    for seed in 0_u64.. {
        let input = Dice::new(seed).mutation(&seeds);
        left = left.saturating_sub(input.len());
        if left == 0 && seed >= least as u64 {
            break;
        }
        let _told = Told { target: name, seed, input: &input };
        target.run(&input);
    }
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*

        #[test]
        fn every_target_is_replayed() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($target)),*]);
        }
    };
}

/// Whatever lies in a file, its decoder says no or something that fits together: a test a target.
mod no_bytes_break {
    use super::*;

    replays! { record walk mark entry snapshot deleted keys schedule rocketmq store }
}

#[cfg(not(miri))]
#[test]
fn what_once_broke_a_target_does_not_any_more() {
    let found = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found");
    for target in &TARGETS {
        let Ok(files) = std::fs::read_dir(found.join(target.name)) else { continue };
        for file in files {
            let input = std::fs::read(file.unwrap().path()).unwrap();
            let _told = Told { target: target.name, seed: 0, input: &input };
            target.run(&input);
        }
    }
}

#[test]
fn the_same_seed_damages_in_the_same_way_and_others_in_others() {
    let seeds = TARGETS[0].seeds();
    let mutations: Vec<_> = (0..50).map(|seed| Dice::new(seed).mutation(&seeds)).collect();
    for target in &TARGETS {
        assert_eq!(target.seeds(), target.seeds(), "{}", target.name);
    }
    assert!((0..50).map(|seed| Dice::new(seed).mutation(&seeds)).eq(mutations.iter().cloned()));
    let differ = mutations.iter().collect::<std::collections::HashSet<_>>().len();
    assert!(differ > 45, "{differ}");
}
