//! Directories that `gantry store export --format rocketmq` makes, opened by RocketMQ's own store and broker.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::dev::Dev;
use e2e::{process, settings};
use serde_json::Value;
use tempfile::TempDir;

use super::{COUNT, ensure_sent, java, messages, receive, send};

/// Sizes of consume queue and index files as the export makes them.
const DEFAULT_SIZES: &str = "--default-sizes";

fn store(words: &[&str]) -> Result<String> {
    let mut command = Command::new(settings::cli()?);
    process::output(command.arg("store").args(words), Duration::from_secs(60))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is text")
}

fn export(from: &Path, to: &Path) -> Result<String> {
    store(&["export", text(from)?, "--format", "rocketmq", "--to", text(to)?])
}

/// The used part of each file below `dir`.
fn files(dir: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            let mut content = fs::read(&path)?;
            content.truncate(content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            found.insert(path, content);
        }
    }
    Ok(found)
}

#[test]
fn java_finds_every_message_by_the_queues_and_keys_of_an_export() -> Result<()> {
    let data = TempDir::new()?;
    let mut dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "ours", "--queues", "3"])?;
    send(&dev, "ours", "exported-")?;
    ensure!(receive(&dev, "ours", "readers")?.len() == COUNT);
    send(&dev, "ours", "unread-")?;
    dev.terminate()?;

    let made = TempDir::new()?;
    let to = made.path().join("java");
    let untouched = files(data.path())?;
    export(data.path(), &to)?;
    ensure!(files(data.path())? == untouched, "an export changed its source");
    let before = files(&to.join("consumequeue"))?;
    ensure!(before.values().map(Vec::len).sum::<usize>() >= 2 * COUNT * 19, "the queues are written");
    let read = java(&to, "read", &[DEFAULT_SIZES])?;
    ensure!(messages(&read).iter().filter(|message| message["topic"] == "ours").count() == 2 * COUNT);
    ensure_sent(&read, "ours", "exported-")?;
    ensure_sent(&read, "ours", "unread-")?;
    ensure!(files(&to.join("consumequeue"))? == before, "Java leaves the queues as they are");

    // What Java builds from the log alone is what was written beside it.
    let alone = made.path().join("alone");
    for file in fs::read_dir(to.join("commitlog"))? {
        let file = file?;
        fs::create_dir_all(alone.join("commitlog"))?;
        fs::copy(file.path(), alone.join("commitlog").join(file.file_name()))?;
    }
    java(&alone, "read", &[DEFAULT_SIZES])?;
    let below = |root: &Path, files: BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<_, _> {
        let name = |path: &PathBuf| path.strip_prefix(root).map(Path::to_path_buf).unwrap_or_default();
        files.iter().map(|(path, content)| (name(path), content.clone())).collect()
    };
    let theirs = below(&alone, files(&alone.join("consumequeue"))?);
    ensure!(below(&to, before) == theirs, "the consume queues differ from Java's own");

    // A whole broker knows topic, group and offsets, and the group goes on where it was.
    let served =
        java(&to, "serve", &[DEFAULT_SIZES, "--topic", "ours", "--group", "readers", "--count", "40"])?;
    let received = served.iter().filter(|line| line["kind"] == "received");
    let bodies: Vec<_> = received.filter_map(|message| message["body"].as_str()).collect();
    ensure!(bodies.len() == COUNT && bodies.iter().all(|body| body.starts_with("unread-")), "{bodies:?}");
    Ok(())
}

#[test]
fn java_reads_all_of_a_damaged_store_but_the_damage() -> Result<()> {
    let data = TempDir::new()?;
    let before = java(data.path(), "write", &["records", "--segment", "32768", "--rounds", "20", "--crc"])?;
    let all = messages(&before);
    let hit: Vec<u64> =
        [all.len() / 3, all.len() / 2].iter().filter_map(|n| all[*n]["logOffset"].as_u64()).collect();
    for at in &hit {
        let path = data.path().join(format!("commitlog/{:020}", at / 32768 * 32768));
        fs::File::options().write(true).open(path)?.write_all_at(b"damage", at % 32768 + 70)?;
    }
    let made = TempDir::new()?;
    let to = made.path().join("java");
    // The exit code tells that something is missing.
    ensure!(export(data.path(), &to).is_err());
    let read = java(&to, "read", &[DEFAULT_SIZES, "--crc"])?;
    let now = messages(&read);
    let missing: Vec<_> = all
        .iter()
        .filter(|message| !now.contains(message))
        .filter_map(|message| message["logOffset"].as_u64())
        .collect();
    let mut hit = hit;
    hit.sort_unstable();
    let mut missing = missing;
    missing.sort_unstable();
    ensure!(missing == hit, "missing {missing:?}, damaged {hit:?}");
    ensure!(now.iter().all(|message| all.contains(message)), "nothing is made up");
    Ok(())
}

#[test]
fn messages_of_a_java_store_come_over_as_lines() -> Result<()> {
    let data = TempDir::new()?;
    let before = java(data.path(), "write", &["records", "--segment", "32768", "--rounds", "3"])?;
    let made = TempDir::new()?;
    let (lines, ours) = (made.path().join("messages.jsonl"), made.path().join("ours"));
    store(&["export", text(data.path())?, "--to", text(&lines)?])?;
    store(&["import", text(&ours)?, "--from", text(&lines)?, "--write"])?;
    ensure!(store(&["verify", text(&ours)?])?.contains("good"));
    let read = java(&ours, "read", &[])?;
    let told = |lines: &[Value]| -> Vec<(String, String, String)> {
        let field = |message: &Value, name: &str| message[name].to_string();
        let all = messages(lines);
        let mut told: Vec<_> = all
            .iter()
            .map(|message| (field(message, "topic"), field(message, "body"), field(message, "properties")))
            .collect();
        told.sort();
        told
    };
    ensure!(told(&before) == told(&read), "{} and {} messages", told(&before).len(), told(&read).len());
    Ok(())
}
