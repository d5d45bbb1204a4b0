//! The same scenarios with each of the official clients, as far as the client can.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, Line, consume, produce};
use e2e::dev::Dev;
use tempfile::TempDir;

/// How long a client may take for everything it does in a test.
const LIMIT: Duration = Duration::from_secs(120);

/// A message group stays in order while messages of it fail at first, and a failed one holds up its own group only.
pub(crate) fn order(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "steps", "--type", "fifo", "--queues", "1"])?;
    dev.gantry(&["group", "update", "walkers", "--ordered", "true", "--backoff", "1s"])?;
    let endpoint = dev.endpoint();
    for group in ["a", "b"] {
        let prefix = format!("{group}-");
        let sent = produce(language, &endpoint, "steps", 5)?.prefix(&prefix).with("--message-group", group);
        sent.run(LIMIT)?.ensure_all_sent(5)?;
    }
    let received = match language {
        // Its crate has no push consumer; what is not acknowledged comes again when its invisible duration is over.
        Language::Rust => consume(language, Consumer::Simple, &endpoint, "steps", "walkers")?.count(10),
        _ => consume(language, Consumer::Push, &endpoint, "steps", "walkers")?.with("--fail", "1").idle(20),
    };
    let received = received.run(LIMIT)?;
    for group in ["a-", "b-"] {
        let mut done: Vec<&str> = Vec::new();
        for line in &received.lines {
            let Line::Received { body, .. } = line else { continue };
            if body.starts_with(group) && done.last() != Some(&body.as_str()) {
                done.push(body);
            }
        }
        let expected: Vec<String> = (0..5).map(|n| format!("{group}{n}")).collect();
        ensure!(done == expected, "{language} saw {done:?}");
    }
    dev.stop()
}

/// What a consumer fails comes again after the group's back-off, and when its attempts are over it is a dead letter.
pub(crate) fn dead_letters(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "orders", "--queues", "1"])?;
    dev.gantry(&["group", "update", "picky", "--max-attempts", "3", "--backoff", "1s"])?;
    let endpoint = dev.endpoint();
    produce(language, &endpoint, "orders", 2)?.prefix("bad-").run(LIMIT)?.ensure_all_sent(2)?;
    let failing = consume(language, Consumer::Push, &endpoint, "orders", "picky")?.without_ack().idle(10);
    let mut attempts: Vec<(String, i32)> = Vec::new();
    for line in failing.run(LIMIT)?.lines {
        if let Line::Received { body, attempt, .. } = line {
            attempts.push((body, attempt));
        }
    }
    attempts.sort();
    let expected = ["bad-0", "bad-1"].map(|body| [1, 2, 3].map(|attempt| (body.to_owned(), attempt)));
    ensure!(attempts == expected.concat(), "{language} saw {attempts:?}");
    let dead =
        consume(language, Consumer::Simple, &endpoint, "%DLQ%picky", "undertaker")?.count(2).run(LIMIT)?;
    dead.ensure_each_once("bad-", 2)?;
    dev.stop()
}

/// What is more urgent comes first, whenever it was sent.
pub(crate) fn priority(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "alarms", "--type", "priority", "--queues", "4"])?;
    let endpoint = dev.endpoint();
    // Node takes a message of priority 0 for one without.
    for (prefix, priority) in [("low-", "1"), ("high-", "3"), ("middle-", "2")] {
        let sent = produce(language, &endpoint, "alarms", 3)?.prefix(prefix).with("--priority", priority);
        sent.run(LIMIT)?.ensure_all_sent(3)?;
    }
    let received = consume(language, Consumer::Simple, &endpoint, "alarms", "guards")?.count(9).run(LIMIT)?;
    let bodies = received.lines.iter().filter_map(|line| match line {
        Line::Received { body, .. } => Some(body.trim_end_matches(char::is_numeric)),
        _ => None,
    });
    let bodies: Vec<&str> = bodies.collect();
    let expected = [["high-"; 3], ["middle-"; 3], ["low-"; 3]].concat();
    ensure!(bodies == expected, "{language} saw {bodies:?}");
    dev.stop()
}

/// A running consumer gets again what its group is told to consume again.
pub(crate) fn reset(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "orders"])?;
    let endpoint = dev.endpoint();
    produce(language, &endpoint, "orders", 10)?.prefix("order-").run(LIMIT)?.ensure_all_sent(10)?;
    let consumer = match language {
        Language::Rust => Consumer::Simple,
        _ => Consumer::Push,
    };
    let running = consume(language, consumer, &endpoint, "orders", "billing")?.idle(8).start()?;
    running.until_lines(10, LIMIT)?;
    dev.gantry(&["group", "reset", "billing", "--topic", "orders", "--to", "earliest"])?;
    let received = running.finish(LIMIT)?;
    let twice = received.received().values().all(|times| *times == 2);
    ensure!(twice && received.received().len() == 10, "{language} saw {:?}", received.received());
    dev.stop()
}

/// The server goes away in the middle and comes again: every message arrives, the client needs no help.
pub(crate) fn restart(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let mut dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "orders"])?;
    let endpoint = dev.endpoint();
    produce(language, &endpoint, "orders", 20)?.prefix("before-").run(LIMIT)?.ensure_all_sent(20)?;
    let running =
        consume(language, Consumer::Simple, &endpoint, "orders", "g")?.count(40).idle(120).start()?;
    running.until_lines(1, LIMIT)?;
    dev.terminate()?;
    dev.start_again()?;
    produce(language, &endpoint, "orders", 20)?.prefix("after-").run(LIMIT)?.ensure_all_sent(20)?;
    // gRPC in Java tries to connect again less and less often.
    let received = running.finish(LIMIT * 2)?;
    ensure!(received.received().len() == 40, "{language} saw {} messages", received.received().len());
    dev.stop()
}
