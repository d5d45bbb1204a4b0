//! What running consumers answer when they are asked over their Telemetry streams.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::clients::{Client, Consumer, Language, Line, Program, consume, produce};
use e2e::dev::Dev;
use serde_json::Value;
use tempfile::TempDir;

/// How long a client may take for everything it does in a test.
const LIMIT: Duration = Duration::from_secs(120);

/// Sends a message; its id.
fn send(dev: &Dev, language: Language) -> Result<String> {
    let report = produce(language, &dev.endpoint(), "orders", 1)?.run(LIMIT)?;
    report.ensure_all_sent(1)?;
    let sent = report.lines.into_iter().find_map(|line| match line {
        Line::Sent { sent, .. } => Some(sent),
        _ => None,
    });
    sent.context("it was sent")
}

/// A consumer that has received what is there, and its id.
fn running(
    dev: &Dev,
    language: Language,
    group: &str,
    more: fn(Program) -> Program,
) -> Result<(Client, String)> {
    let consumer = match language {
        Language::Rust => Consumer::Simple,
        _ => Consumer::Push,
    };
    let program = more(consume(language, consumer, &dev.endpoint(), "orders", group)?.idle(20));
    let client = program.start()?;
    client.until_lines(1, LIMIT)?;
    let clients: Value = serde_json::from_str(&dev.gantry(&["client", "list", group, "-o", "json"])?)?;
    let [only] = clients.as_array().context("a list")?.as_slice() else {
        anyhow::bail!("{group} has one consumer: {clients}")
    };
    ensure!(only["language"] == language.to_string(), "{only} is in {language}");
    ensure!(only["connectedTo"].as_array().is_some_and(|to| to.len() == 1), "{only} is connected");
    Ok((client, only["clientId"].as_str().context("it has an id")?.to_owned()))
}

fn stack(dev: &Dev, client: &str) -> Result<String> {
    dev.gantry(&["client", "stack", "billing", client])
}

fn verify(dev: &Dev, group: &str, client: &str, id: &str) -> Result<String> {
    dev.gantry(&["client", "verify", group, client, "--topic", "orders", "--id", id])
}

/// An error that holds these words.
fn ensure_refused(answer: Result<String>, words: &str) -> Result<()> {
    let error = format!("{:#}", answer.err().context("it is refused")?);
    ensure!(error.contains(words), "{words:?} is not in: {error}");
    Ok(())
}

/// A consumer gives its stack and verifies a message as far as its client can, and goes on after it was told to connect anew.
pub(crate) fn asked(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "orders", "--queues", "1"])?;
    let id = send(&dev, language)?;
    let (consumer, client) = running(&dev, language, "billing", |program| program)?;
    let mut lines = 1;
    let stack = stack(&dev, &client)?;
    let shows = match language {
        Language::Java => "java.lang.Thread",
        Language::Go => "goroutine",
        _ => "mock stack",
    };
    ensure!(stack.contains(shows), "{shows:?} is not in {stack}");
    let verified = verify(&dev, "billing", &client, &id);
    if language == Language::Java {
        ensure!(verified?.contains("consumes message"), "its listener takes it");
        lines += 1;
        consumer.until_lines(lines, LIMIT).context("its listener was called")?;
        let (failing, picky) = running(&dev, language, "picky", Program::without_ack)?;
        ensure_refused(verify(&dev, "picky", &picky, &id), "fails message")?;
        drop(failing);
    } else {
        ensure_refused(verified, "cannot do this: it answered NOT_IMPLEMENTED")?;
    }
    let told = dev.gantry(&["client", "reconnect", "billing", &client])?;
    ensure!(told.contains(&client), "{client} was told: {told}");
    send(&dev, language)?;
    consumer.until_lines(lines + 1, LIMIT).context("it goes on")?;
    ensure!(self::stack(&dev, &client)?.contains(shows), "it can still be asked");
    drop(consumer);
    dev.stop()
}

#[test]
fn clients_that_never_answer_are_named_so() -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "orders", "--queues", "1"])?;
    let id = send(&dev, Language::Python)?;
    for (language, group) in [(Language::Python, "billing"), (Language::Rust, "mail")] {
        let (consumer, client) = running(&dev, language, group, |program| program)?;
        let silent = "did not answer within 5 s: clients in this language never do";
        ensure_refused(dev.gantry(&["client", "stack", group, &client]), silent)?;
        ensure_refused(verify(&dev, group, &client, &id), silent)?;
        dev.gantry(&["client", "reconnect", group])?;
        drop(consumer);
    }
    ensure_refused(stack(&dev, "nobody"), "no client nobody consumes for group billing")?;
    dev.stop()
}
