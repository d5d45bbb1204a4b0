//! Rules of the store broken on purpose, one after the other: the trial that was made for each must turn red.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use store::Bug;

use crate::dice::Dice;
use crate::process::{Finished, Process};

/// How long a trial may take.
const LIMIT: Duration = Duration::from_secs(600);
/// A trial is repeated with other seeds, since threads and the kernel decide too.
const SEEDS: u64 = 3;

/// The trial that must notice, and how it is called.
fn trial_for(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::AcknowledgeBeforeFlush => &["power-cut", "--flush", "sync", "--times", "100"],
        // ext4 makes a name durable with what is flushed in its file.
        Bug::SkipDirectorySync => &["strict-cut", "--times", "100"],
        Bug::ViewsAheadOfLog | Bug::SkipBlockSync => &["power-cut", "--times", "200"],
        Bug::KeepBehindTear => &["power-cut", "--flush", "async", "--times", "200"],
        Bug::TrustSizeBeforeCrc | Bug::ReadUnchecked | Bug::EndAtFirstBadRecord => {
            &["bit-rot", "--times", "300"]
        }
        Bug::SparseSegments => &["full-disk", "--times", "10"],
        Bug::RetryFailedFlush | Bug::GoOnAfterFailedFlush => &["failing-disk", "--times", "20"],
    }
}

/// Plants each bug; an error names those that nobody noticed.
pub fn run(program: &Path, seed: u64) -> Result<()> {
    ensure!(
        cfg!(feature = "planted-bugs"),
        "this build has no bugs to plant: build it with the feature trials/planted-bugs, as `cargo xtask trial planted` does"
    );
    let mut dice = Dice::new(seed);
    let mut unnoticed = Vec::new();
    for bug in Bug::ALL {
        match notice(program, bug, &mut dice)? {
            Some(sentence) => println!("  {bug:?}: {sentence}"),
            None => unnoticed.push(bug),
        }
    }
    if !unnoticed.is_empty() {
        bail!("nobody noticed {unnoticed:?}");
    }
    Ok(())
}

/// What the trial says of the bug, if it notices.
fn notice(program: &Path, bug: Bug, dice: &mut Dice) -> Result<Option<String>> {
    for _ in 0..SEEDS {
        // The evidence of what was planted is nobody's.
        let scratch = tempfile::tempdir()?;
        let mut command = Command::new(program);
        command.args(trial_for(bug)).args(["--seed", &(dice.any() >> 1).to_string()]);
        command.env("GANTRY_PLANTED_BUG", format!("{bug:?}")).env("TMPDIR", scratch.path());
        let Finished { command, status, out: _, err } = Process::start(&mut command)?.finish(LIMIT)?;
        if status.success() {
            continue;
        }
        // What a trial has to say is its last word, over one line or more.
        let Some(at) = err.iter().rposition(|line| line.starts_with("trials: ")) else {
            bail!("{command}: {status}\n{}", err.join("\n"));
        };
        let said = err[at..].join(" ");
        // A machine too busy to mount a file in time has noticed nothing.
        if !said.contains("did not end within") {
            return Ok(Some(said.chars().skip("trials: ".len()).take(240).collect()));
        }
    }
    Ok(None)
}
