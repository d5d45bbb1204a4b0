//! What official clients sent, found by key and by message id: at once, after a stop, and after a kill.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::clients::{Language, Line, Report, produce};
use e2e::dev::Dev;
use serde_json::Value;
use tempfile::TempDir;

/// How long a client may take for everything it does in a test.
const LIMIT: Duration = Duration::from_secs(120);
/// Messages of each client.
const COUNT: usize = 10;

/// The clients that can give a message keys.
const LANGUAGES: [Language; 4] = [Language::Java, Language::Python, Language::Go, Language::Node];

/// The messages that a look-up finds.
fn find(dev: &Dev, wanted: [&str; 2]) -> Result<Vec<Value>> {
    let [by, value] = wanted;
    let words = ["message", "find", "--topic", "orders", by, value, "--limit", "1000", "-o", "json"];
    let found: Value = serde_json::from_str(&dev.gantry(&words)?)?;
    ensure!(found["unsearchedBytes"] == 0 && found["more"] == false, "not all was searched: {found}");
    Ok(found["messages"].as_array().context("a list of messages")?.clone())
}

/// The body at the place that a look-up told.
fn body(dev: &Dev, found: &Value) -> Result<Value> {
    let (queue, offset) = (found["queueId"].to_string(), found["queueOffset"].to_string());
    let words = ["message", "get", "--topic", "orders", "--queue", &queue, "--offset", &offset, "--body"];
    let got = dev.gantry(&[&words[..], &["-o", "json"]].concat())?;
    Ok(serde_json::from_str::<Value>(&got)?["bodyBase64"].clone())
}

/// Looks for every message that these clients sent, by key, by id and by the key that all of a client have.
fn ensure_found(dev: &Dev, sent: &[(Language, Report)]) -> Result<()> {
    for (language, report) in sent {
        let key = language.to_string();
        let all = find(dev, ["--key", &key])?;
        ensure!(all.len() == COUNT, "{} of {COUNT} messages of {language} were found", all.len());
        for (n, line) in report.lines.iter().enumerate() {
            let Line::Sent { sent: id, .. } = line else { continue };
            let by_key = find(dev, ["--key", &format!("{key}{n}")])?;
            let [only] = by_key.as_slice() else { anyhow::bail!("{key}{n} finds {by_key:?}") };
            ensure!(only["properties"]["UNIQ_KEY"] == **id, "{key}{n} is {only}, and was sent as {id}");
            ensure!(find(dev, ["--id", id])? == by_key, "{id} finds something else than {key}{n}");
            ensure!(body(dev, only)? == BODIES[n], "{key}{n} has another body");
        }
    }
    Ok(())
}

/// `m-0`, `m-1`, ... in base64.
const BODIES: [&str; COUNT] =
    ["bS0w", "bS0x", "bS0y", "bS0z", "bS00", "bS01", "bS02", "bS03", "bS04", "bS05"];

#[test]
fn what_clients_sent_with_keys_is_found_at_once_after_a_stop_and_after_a_kill() -> Result<()> {
    let data = TempDir::new()?;
    let mut dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "orders"])?;
    let send = |dev: &Dev, language: Language| -> Result<(Language, Report)> {
        let program = produce(language, &dev.endpoint(), "orders", COUNT)?;
        let report = program.with("--key", &language.to_string()).run(LIMIT)?;
        report.ensure_all_sent(COUNT)?;
        Ok((language, report))
    };
    let mut sent = Vec::new();
    for language in &LANGUAGES[..3] {
        sent.push(send(&dev, *language)?);
        ensure_found(&dev, &sent[sent.len() - 1..])?;
    }
    dev.terminate()?;
    dev.start_again()?;
    ensure_found(&dev, &sent)?;
    // What follows is in the memory of the index only.
    sent.push(send(&dev, LANGUAGES[3])?);
    dev.kill()?;
    dev.start_again()?;
    ensure_found(&dev, &sent)?;
    dev.stop()
}
