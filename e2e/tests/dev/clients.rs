//! The official clients, each with all of its consumers.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, Line, consume, produce};
use e2e::dev::Dev;
use tempfile::TempDir;

/// How long a client may take for everything it does in a test.
const LIMIT: Duration = Duration::from_secs(120);

/// Sends some messages with a client and receives them with each of its consumers, every one exactly once.
fn exchange(language: Language, consumers: &[Consumer]) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "orders"])?;
    let (count, endpoint) = (100, dev.endpoint());
    produce(language, &endpoint, "orders", count)?.prefix("order-").run(LIMIT)?.ensure_all_sent(count)?;
    for consumer in consumers {
        let group = format!("{language}-{consumer:?}");
        let received = consume(language, *consumer, &endpoint, "orders", &group)?.count(count).run(LIMIT)?;
        received.ensure_each_once("order-", count)?;
    }
    dev.stop()
}

#[test]
fn java_sends_and_receives() -> Result<()> {
    exchange(Language::Java, &[Consumer::Simple, Consumer::Push])
}

#[test]
fn python_sends_and_receives() -> Result<()> {
    exchange(Language::Python, &[Consumer::Simple, Consumer::Push])
}

#[test]
fn go_sends_and_receives() -> Result<()> {
    exchange(Language::Go, &[Consumer::Simple, Consumer::Push])
}

#[test]
fn node_sends_and_receives() -> Result<()> {
    exchange(Language::Node, &[Consumer::Simple, Consumer::Push])
}

#[test]
fn rust_sends_and_receives() -> Result<()> {
    exchange(Language::Rust, &[Consumer::Simple])
}

#[test]
fn clients_that_insist_on_tls_are_served_on_the_same_port() -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "secret"])?;
    for language in [Language::Java, Language::Go] {
        let (prefix, endpoint) = (format!("{language}-"), dev.endpoint());
        let sent = produce(language, &endpoint, "secret", 10)?.prefix(&prefix).with_tls().run(LIMIT)?;
        sent.ensure_all_sent(10)?;
        let plain = consume(Language::Python, Consumer::Simple, &endpoint, "secret", "plain")?.count(10);
        plain.run(LIMIT)?.ensure_each_once(&prefix, 10)?;
    }
    dev.stop()
}

#[test]
fn a_tag_chooses_what_a_consumer_gets() -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "mixed"])?;
    let endpoint = dev.endpoint();
    for tag in ["eu", "us"] {
        let sent =
            produce(Language::Go, &endpoint, "mixed", 20)?.prefix(tag).with("--tag", tag).run(LIMIT)?;
        sent.ensure_all_sent(20)?;
    }
    let received =
        consume(Language::Go, Consumer::Simple, &endpoint, "mixed", "europe")?.with("--tag", "eu").idle(3);
    received.run(LIMIT)?.ensure_each_once("eu", 20)?;
    dev.stop()
}

#[test]
fn a_condition_in_sql_chooses_what_a_consumer_gets() -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "priced"])?;
    let endpoint = dev.endpoint();
    let (simple, both) = (&[Consumer::Simple][..], &[Consumer::Simple, Consumer::Push][..]);
    for (language, consumers) in
        [(Language::Java, both), (Language::Python, simple), (Language::Go, simple), (Language::Node, simple)]
    {
        let (tag, prefix) = (language.to_string(), format!("{language}-"));
        let sent =
            produce(language, &endpoint, "priced", 20)?.prefix(&prefix).with("--tag", &tag).run(LIMIT)?;
        sent.ensure_all_sent(20)?;
        for consumer in consumers {
            let group = format!("sql-{language}-{consumer:?}");
            let condition = format!("TAGS = '{language}' AND index BETWEEN 0 AND 6.5 -- the cheap ones");
            let received = consume(language, *consumer, &endpoint, "priced", &group)?
                .with("--sql", &condition)
                .idle(3)
                .run(LIMIT)?;
            received.ensure_each_once(&prefix, 7)?;
        }
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
