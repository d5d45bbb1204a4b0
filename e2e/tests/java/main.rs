//! Stores that go between RocketMQ's own store, run from its jars, and `gantry dev`, in both directions.

mod export;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::dev::Dev;
use e2e::{process, settings};
use serde_json::Value;
use tempfile::TempDir;

/// The whole Java broker with its clients takes ten seconds on a quiet machine.
const LIMIT: Duration = Duration::from_secs(180);
const COUNT: usize = 40;

/// Runs the Java program, and returns its lines.
fn java(data: &Path, command: &str, options: &[&str]) -> Result<Vec<Value>> {
    let home = TempDir::new()?;
    let mut program = Command::new(settings::java_store()?);
    program.arg(command).arg(data).args(options).env("GANTRY_JAVA_HOME", home.path());
    let said = process::output(&mut program, LIMIT)?;
    said.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Its lines about messages.
fn messages(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["kind"] == "message").collect()
}

/// An error unless Java reads again every message that it read before, the same.
fn ensure_all_there(before: &[Value], now: &[Value]) -> Result<()> {
    let now = messages(now);
    let before = messages(before);
    ensure!(!before.is_empty(), "Java wrote nothing");
    let missing: Vec<_> = before.iter().filter(|message| !now.contains(message)).collect();
    ensure!(
        missing.is_empty(),
        "{} of {} are gone or differ, the first: {}",
        missing.len(),
        before.len(),
        missing[0]
    );
    Ok(())
}

/// The bodies of a topic as Java reads them, in the order of the queues; each queue must be whole.
fn bodies(lines: &[Value], topic: &str) -> Result<Vec<String>> {
    let mut bodies = Vec::new();
    for queue in lines.iter().filter(|line| line["kind"] == "queue" && line["topic"] == topic) {
        let (min, max) = (queue["min"].as_u64().context("min")?, queue["max"].as_u64().context("max")?);
        let in_queue =
            messages(lines).into_iter().filter(|m| m["topic"] == topic && m["queue"] == queue["queue"]);
        let offsets: Vec<_> = in_queue.clone().filter_map(|message| message["offset"].as_u64()).collect();
        ensure!(offsets == (min..max).collect::<Vec<_>>(), "{queue} has {offsets:?}");
        bodies.extend(in_queue.filter_map(|message| message["body"].as_str()).map(text));
    }
    Ok(bodies)
}

fn text(hex: &str) -> String {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or(b'?');
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends `prefix1`, `prefix2`, … with their own keys.
fn send(dev: &Dev, topic: &str, prefix: &str) -> Result<()> {
    let (body, count) = (format!("{prefix}{{n}}"), COUNT.to_string());
    dev.gantry(&[
        "produce", topic, "--body", &body, "--key", &body, "--tag", "ours", "--count", &count, "--quiet",
    ])?;
    Ok(())
}

/// What a group receives until nothing comes any more, as (body, attempt).
fn receive(dev: &Dev, topic: &str, group: &str) -> Result<Vec<(String, u64)>> {
    let said = dev.gantry(&["consume", topic, "--group", group, "--timeout", "3s", "-o", "json"])?;
    let printed = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
    let mut received = Vec::new();
    for message in printed {
        for message in match message? {
            Value::Array(all) => all,
            one => vec![one],
        } {
            let body = message["body"].as_str().unwrap_or_default().to_owned();
            received.push((body, message["deliveryAttempt"].as_u64().context("no attempt")?));
        }
    }
    received.sort();
    Ok(received)
}

/// `prefix1`, `prefix2`, … in the order of text.
fn sent(prefix: &str) -> Vec<String> {
    let mut sent: Vec<_> = (1..=COUNT).map(|number| format!("{prefix}{number}")).collect();
    sent.sort();
    sent
}

fn ensure_sent(lines: &[Value], topic: &str, prefix: &str) -> Result<()> {
    let mut found: Vec<_> =
        bodies(lines, topic)?.into_iter().filter(|body| body.starts_with(prefix)).collect();
    found.sort();
    ensure!(found == sent(prefix), "Java reads {found:?}");
    for key in [1, COUNT].map(|number| format!("{prefix}{number}")) {
        let lookup = lines.iter().find(|line| line["kind"] == "lookup" && line["key"] == *key);
        // Only the first of each queue are looked up.
        if let Some(lookup) = lookup {
            ensure!(lookup["found"].as_array().is_some_and(|found| found.len() == 1), "{lookup}");
        }
    }
    Ok(())
}

#[test]
fn a_java_brokers_directory_is_taken_over_goes_on_and_is_given_back() -> Result<()> {
    let data = TempDir::new()?;
    let before = java(data.path(), "write", &["broker", "--segment", "16384"])?;

    let mut dev = Dev::start(data.path())?;
    let topics = dev.gantry(&["topic", "list"])?;
    for topic in ["orders", "fifo", "delayed", "paid", "frozen"] {
        ensure!(topics.contains(topic), "no topic {topic} in {topics}");
    }
    ensure!(!topics.contains("SCHEDULE") && !topics.contains("TBW102"), "RocketMQ's own topics: {topics}");
    // The group had read all, and had given back one that is due by now, and one that is not.
    let waited = receive(&dev, "orders", "billing")?;
    ensure!(waited == [("order 5".to_owned(), 2)], "billing gets what waited, and that is {waited:?}");
    let all = receive(&dev, "orders", "newcomers")?;
    let of_java: Vec<_> = bodies(&before, "orders")?;
    ensure!(all.len() == of_java.len() && all.len() == 32, "{} of {}", all.len(), of_java.len());
    let plain = "compressible ".repeat(40);
    ensure!(
        all.iter().filter(|(body, _)| *body == plain).count() == 3,
        "LZ4, Zstandard and zlib are unpacked"
    );
    // Three of its four were popped just now, and one of those acknowledged: two stay invisible for a while.
    let picked = receive(&dev, "picked", "picking")?;
    ensure!(picked == [("pick 3".to_owned(), 1)], "picking has two in flight, and receives {picked:?}");
    let group = dev.gantry(&["group", "describe", "picking", "-o", "json"])?;
    ensure!(group.replace(' ', "").contains("\"inFlight\":2"), "picking: {group}");
    ensure!(receive(&dev, "fifo", "shipping")?.len() == 3, "shipping goes on in the middle");

    send(&dev, "orders", "closed-")?;
    dev.terminate()?;
    let closed = java(data.path(), "read", &[])?;
    ensure_all_there(&before, &closed)?;
    ensure_sent(&closed, "orders", "closed-")?;

    // Java went on with the log, and so do we, and die.
    java(data.path(), "append", &["--topic", "orders", "--count", "7"])?;
    dev.start_again()?;
    let again = receive(&dev, "orders", "latecomers")?;
    ensure!(again.len() == 32 + COUNT + 7, "{} messages after Java went on", again.len());
    ensure!(receive(&dev, "orders", "billing")?.len() == COUNT + 7, "billing goes on where it was");
    send(&dev, "orders", "killed-")?;
    dev.kill()?;
    let killed = java(data.path(), "read", &[])?;
    ensure_all_there(&closed, &killed)?;
    ensure_sent(&killed, "orders", "killed-")?;
    dev.start_again()?;
    ensure!(
        receive(&dev, "orders", "afterwards")?.len() == 32 + COUNT + 7 + COUNT,
        "nothing is lost on the way back"
    );
    dev.stop()
}

#[test]
fn every_kind_of_record_survives_the_way_there_and_back() -> Result<()> {
    for options in [&["--kill"][..], &["--crc", "--drop", "2"], &["--crc", "--kill"], &["--drop", "1"]] {
        let data = TempDir::new()?;
        let write = [&["records", "--segment", "32768", "--rounds", "20"], options].concat();
        let before = java(data.path(), "write", &write)?;
        let mut dev = Dev::start(data.path())?;
        dev.terminate()?;
        let closed = java(data.path(), "read", &[])?;
        ensure_all_there(&before, &closed).with_context(|| format!("closed, {options:?}"))?;
        dev.start_again()?;
        dev.kill()?;
        let killed = java(data.path(), "read", &[])?;
        ensure_all_there(&before, &killed).with_context(|| format!("killed, {options:?}"))?;
    }
    Ok(())
}

#[test]
fn java_reads_a_store_that_was_always_ours() -> Result<()> {
    let data = TempDir::new()?;
    let mut dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "ours", "--queues", "3"])?;
    send(&dev, "ours", "closed-")?;
    dev.terminate()?;
    ensure_sent(&java(data.path(), "read", &[])?, "ours", "closed-")?;
    dev.start_again()?;
    send(&dev, "ours", "killed-")?;
    dev.kill()?;
    let killed = java(data.path(), "read", &[])?;
    ensure_sent(&killed, "ours", "closed-")?;
    ensure_sent(&killed, "ours", "killed-")
}
