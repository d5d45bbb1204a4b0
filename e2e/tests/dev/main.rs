//! `gantry dev` as an application's developer meets it: with the official clients, and through sudden deaths.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, consume, produce};
use e2e::dev::Dev;
use e2e::killing::kill_under_load;
use e2e::wire::{self, Wire};
use proto::v2::Code;
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
            matches!(line, e2e::clients::Line::Received { attempt: 2, .. }),
            "the second delivery is attempt 2: {line:?}"
        );
    }
    dev.stop()
}

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
fn a_topic_that_is_missing_and_a_body_that_is_too_large_are_refused_by_name() -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "small"])?;
    wire::block_on(async {
        let mut wire = Wire::new(&dev.endpoint(), "rude")?;
        let missing = wire.send("nowhere", "1", b"x".to_vec()).await;
        wire::ensure_refused(&missing, Code::TopicNotFound)?;
        let huge = wire.send("small", "2", vec![b'x'; (4 << 20) + 1]).await;
        wire::ensure_refused(&huge, Code::MessageBodyTooLarge)?;
        let largest = wire.send("small", "3", vec![b'x'; 4 << 20]).await;
        ensure!(largest.is_ok(), "4 MiB is allowed: {largest:?}");
        Ok(())
    })?;
    dev.stop()
}

#[test]
fn nothing_acknowledged_is_lost_or_altered_when_the_broker_is_killed_under_load() -> Result<()> {
    let outcome = kill_under_load(10)?;
    ensure!(outcome.live.is_clean(), "the consumer that ran all the time: {}", outcome.live);
    ensure!(outcome.audit.is_clean(), "the auditor: {}", outcome.audit);
    Ok(())
}
