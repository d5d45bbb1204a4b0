//! Kills `gantry dev` under load, 100 times unless told otherwise, and says whether a message was lost or altered.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context;

fn main() -> anyhow::Result<ExitCode> {
    let times = match std::env::args().nth(1) {
        Some(word) => {
            word.parse().with_context(|| format!("how often to kill it is a number, not {word:?}"))?
        }
        None => 100,
    };
    let outcome = e2e::killing::kill_under_load(times)?;
    println!("killed {times} times");
    println!("live:  {}", outcome.live);
    println!("audit: {}", outcome.audit);
    Ok(if outcome.live.is_clean() && outcome.audit.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
