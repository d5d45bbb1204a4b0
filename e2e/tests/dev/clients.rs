//! The official clients, each with all of its consumers.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, Line, Program, consume, produce};
use e2e::dev::Dev;
use tempfile::TempDir;

/// How long a client may take for everything it does in a test.
const LIMIT: Duration = Duration::from_secs(120);

/// Messages of an exchange.
const COUNT: usize = 100;

/// Sends some messages with a client and receives them with one of its consumers, every one exactly once.
fn exchange(language: Language, consumer: Consumer) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "orders"])?;
    let endpoint = dev.endpoint();
    produce(language, &endpoint, "orders", COUNT)?.prefix("order-").run(LIMIT)?.ensure_all_sent(COUNT)?;
    let received = consume(language, consumer, &endpoint, "orders", "g")?.count(COUNT).run(LIMIT)?;
    received.ensure_each_once("order-", COUNT)?;
    dev.stop()
}

pub(crate) fn simple(language: Language) -> Result<()> {
    exchange(language, Consumer::Simple)
}

pub(crate) fn push(language: Language) -> Result<()> {
    exchange(language, Consumer::Push)
}

/// With TLS a client sends and receives what one without it does, on the same port.
pub(crate) fn tls(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "secret"])?;
    let endpoint = dev.endpoint();
    produce(language, &endpoint, "secret", 10)?.prefix("x").with_tls().run(LIMIT)?.ensure_all_sent(10)?;
    let consumer = |group: &str| -> Result<Program> {
        Ok(consume(language, Consumer::Simple, &endpoint, "secret", group)?.count(10))
    };
    consumer("secret")?.with_tls().run(LIMIT)?.ensure_each_once("x", 10)?;
    consumer("open")?.run(LIMIT)?.ensure_each_once("x", 10)?;
    dev.stop()
}

/// A tag chooses what a consumer gets.
pub(crate) fn tags(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "mixed"])?;
    let endpoint = dev.endpoint();
    for tag in ["eu", "us"] {
        let sent = produce(language, &endpoint, "mixed", 20)?.prefix(tag).with("--tag", tag).run(LIMIT)?;
        sent.ensure_all_sent(20)?;
    }
    let received =
        consume(language, Consumer::Simple, &endpoint, "mixed", "europe")?.with("--tag", "eu").idle(3);
    received.run(LIMIT)?.ensure_each_once("eu", 20)?;
    dev.stop()
}

/// A condition in SQL chooses what a consumer gets.
pub(crate) fn sql(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "priced"])?;
    let endpoint = dev.endpoint();
    let sent = produce(language, &endpoint, "priced", 20)?.prefix("x").with("--tag", "cheap").run(LIMIT)?;
    sent.ensure_all_sent(20)?;
    let condition = "TAGS = 'cheap' AND index BETWEEN 0 AND 6.5 -- the first ones";
    let consumers = match language {
        Language::Java => &[Consumer::Simple, Consumer::Push][..],
        _ => &[Consumer::Simple],
    };
    for consumer in consumers {
        let group = format!("sql-{consumer:?}");
        let program = consume(language, *consumer, &endpoint, "priced", &group)?;
        program.with("--sql", condition).idle(3).run(LIMIT)?.ensure_each_once("x", 7)?;
    }
    dev.stop()
}

#[test]
fn what_is_not_acknowledged_comes_again_with_a_higher_attempt() -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "again"])?;
    let endpoint = dev.endpoint();
    produce(Language::Python, &endpoint, "again", 3)?.run(LIMIT)?.ensure_all_sent(3)?;
    let consumer = || consume(Language::Python, Consumer::Simple, &endpoint, "again", "forgetful");
    let first = consumer()?.with("--invisible", "10").without_ack().count(3).run(LIMIT)?;
    first.ensure_each_once("m-", 3)?;
    let second = consumer()?.count(3).idle(30).run(LIMIT)?;
    ensure!(second.received().len() == 3, "only {:?} came again", second.received());
    for line in &second.lines {
        ensure!(
            matches!(line, Line::Received { attempt: 2, .. }),
            "the second delivery is attempt 2: {line:?}"
        );
    }
    dev.stop()
}
