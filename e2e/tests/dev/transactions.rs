//! Transactions of the official clients: committed, rolled back, left to the questions of the broker.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, consume, transact};
use e2e::dev::Dev;
use tempfile::TempDir;

/// How long a client may take for everything it does in a test. The first question comes after six seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// What a client commits is seen, also when it does so only when it is asked; what it rolls back is not.
pub(crate) fn ends(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "payments", "--type", "transaction"])?;
    let endpoint = dev.endpoint();
    let program = |count| transact(language, &endpoint, "payments", count);
    program(5)?.prefix("commit-").run(LIMIT)?.ensure_all_sent(5)?;
    program(5)?.prefix("rollback-").flag("--rollback").run(LIMIT)?.ensure_all_sent(5)?;
    let orphans = program(3)?.prefix("orphan-").flag("--orphan").with("--asks", "3").run(LIMIT)?;
    orphans.ensure_all_sent(3)?;
    let mut asked = orphans.asked();
    asked.sort_unstable();
    ensure!(asked == ["orphan-0", "orphan-1", "orphan-2"], "the client was asked about {asked:?}");
    let refused =
        program(1)?.prefix("refused-").flag("--orphan").flag("--rollback").with("--asks", "1").run(LIMIT)?;
    ensure!(refused.asked() == ["refused-0"], "the client was asked about {:?}", refused.asked());

    let received = consume(language, Consumer::Simple, &endpoint, "payments", "g")?.idle(5).run(LIMIT)?;
    let bodies: Vec<&str> = received.received().keys().copied().collect();
    let expected =
        ["commit-0", "commit-1", "commit-2", "commit-3", "commit-4", "orphan-0", "orphan-1", "orphan-2"];
    ensure!(bodies == expected, "{bodies:?} came");
    ensure!(received.received().values().all(|times| *times == 1), "{:?}", received.received());
    dev.stop()
}

/// The broker is killed, the producer is gone, and another producer, in another language, says how it ends.
#[test]
fn orphans_of_a_dead_producer_are_recovered_after_a_kill() -> Result<()> {
    let data = TempDir::new()?;
    let mut dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "payments", "--type", "transaction"])?;
    let endpoint = dev.endpoint();
    let orphans =
        transact(Language::Go, &endpoint, "payments", 3)?.prefix("orphan-").flag("--orphan").run(LIMIT)?;
    orphans.ensure_all_sent(3)?;
    dev.kill()?;
    dev.start_again()?;
    let heir =
        transact(Language::Java, &endpoint, "payments", 1)?.prefix("new-").with("--asks", "3").run(LIMIT)?;
    let mut asked = heir.asked();
    asked.sort_unstable();
    ensure!(asked == ["orphan-0", "orphan-1", "orphan-2"], "the heir was asked about {asked:?}");
    let received =
        consume(Language::Java, Consumer::Push, &endpoint, "payments", "g")?.count(4).run(LIMIT)?;
    ensure!(received.received().len() == 4, "{:?} came", received.received());
    dev.stop()
}
