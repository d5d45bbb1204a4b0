//! libFuzzer on the decoders of stored bytes: see `store/src/fuzzing`. `cargo xtask fuzz` builds and runs it.
//!
//! ```text
//!   GANTRY_FUZZ_TARGET   the target; without it their names are printed
//!   GANTRY_FUZZ_SEEDS    a directory that valid encodings are written to before anything else
//! ```
#![no_main]

use std::env::var_os;
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use store::fuzzing::{TARGETS, Target};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn start() -> &'static Target {
    let Some(name) = var_os("GANTRY_FUZZ_TARGET") else {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        std::process::exit(0);
    };
    let target = name.to_str().and_then(Target::named).expect("a target has this name");
    if let Some(dir) = var_os("GANTRY_FUZZ_SEEDS").map(PathBuf::from) {
        for (number, seed) in target.seeds().iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{number}")), seed).expect("seeds can be written");
        }
    }
    target
}

fuzz_target!(
    init: { TARGET.get_or_init(start); },
    |bytes: &[u8]| TARGET.get().expect("it is set before").run(bytes)
);
