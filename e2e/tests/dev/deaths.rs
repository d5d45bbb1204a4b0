//! The server stopped, and the server killed.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, consume, produce};
use e2e::dev::Dev;
use e2e::killing::kill_under_load;
use tempfile::TempDir;

/// How long a client may take for everything it does in a test.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn messages_and_progress_are_there_after_a_restart() -> Result<()> {
    let data = TempDir::new()?;
    let mut dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "kept"])?;
    let endpoint = dev.endpoint();
    produce(Language::Go, &endpoint, "kept", 40)?.run(LIMIT)?.ensure_all_sent(40)?;
    let half = consume(Language::Go, Consumer::Simple, &endpoint, "kept", "slow")?.count(40).run(LIMIT)?;
    half.ensure_each_once("m-", 40)?;
    produce(Language::Go, &endpoint, "kept", 40)?.prefix("late-").run(LIMIT)?.ensure_all_sent(40)?;
    dev.terminate()?;
    dev.start_again()?;
    let rest = consume(Language::Go, Consumer::Simple, &endpoint, "kept", "slow")?.idle(3).run(LIMIT)?;
    rest.ensure_each_once("late-", 40)?;
    let all = consume(Language::Go, Consumer::Simple, &endpoint, "kept", "fresh")?.idle(3).run(LIMIT)?;
    ensure!(all.received().len() == 80, "a fresh group gets all 80 messages, not {}", all.received().len());
    dev.stop()
}

#[test]
fn nothing_acknowledged_is_lost_or_altered_when_the_broker_is_killed_under_load() -> Result<()> {
    let outcome = kill_under_load(10)?;
    ensure!(outcome.live.is_clean(), "the consumer that ran all the time: {}", outcome.live);
    ensure!(outcome.audit.is_clean(), "the auditor: {}", outcome.audit);
    Ok(())
}
