//! A few faults of every run: the long forms are `cargo xtask chaos`.

use anyhow::Result;
use e2e::chaos::{self, Options, Reach, Stop};
use e2e::cluster::in_namespace;

/// Some minutes.
const FAULTS: usize = 6;
const SEED: u64 = 7;

#[test]
fn faults_lose_nothing_alter_nothing_and_keep_the_order() -> Result<()> {
    let folder = std::env::var_os("CLUSTER_DIR").map(Into::into);
    // Other tests use the cluster at the same time, so no node and no daemon is touched.
    let reach = if folder.is_some() { Reach::Processes } else { Reach::Api };
    let evidence = std::env::temp_dir().join(format!("gantry-chaos-{}", std::process::id()));
    in_namespace("chaos", |space| {
        let options = Options {
            faults: FAULTS,
            seed: SEED,
            only: None,
            lasting: None,
            rate: 80,
            reach,
            folder,
            evidence,
        };
        let outcome = chaos::run(space, &options, &Stop::default())?;
        println!("{}", outcome.report("cargo test -p e2e --features cluster --test cluster chaos", "now"));
        outcome.judge()?;
        std::fs::remove_dir_all(&options.evidence)?;
        Ok(())
    })
}
