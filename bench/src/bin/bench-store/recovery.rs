//! Opening a log whose process was killed, from the page cache.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use store::{Config, Store};

use crate::java::Java;
use crate::scribe::{BODY_BYTES, Scribe};

/// Says that the store is filled and may be killed.
const FILLED: &str = "filled";

pub(crate) fn measure(dir: &Path, gib: u64, java: Option<&Java>) -> anyhow::Result<()> {
    let java_took = match java {
        None => None,
        Some(java) => {
            let store = dir.join("java");
            java.append_and_be_killed(&store, gib << 20, BODY_BYTES)?;
            let took = java.open(&store)?;
            std::fs::remove_dir_all(&store)?;
            println!("Java's store opens {gib} GiB after kill -9 in {took:?}");
            Some(took)
        }
    };
    let store = dir.join("store");
    let us = std::env::current_exe()?;
    let mut filling = Command::new(&us)
        .arg("fill")
        .args([&store, Path::new(&gib.to_string())])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    BufReader::new(filling.stdout.take().context("the output of the filler")?).read_line(&mut said)?;
    filling.kill()?;
    filling.wait()?;
    anyhow::ensure!(said.trim() == FILLED, "the filler said {said:?}");
    let output = Command::new(&us).arg("open").arg(&store).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout)?;
    let (nanos, replayed) = said.trim().split_once(' ').context("time and records")?;
    let took = Duration::from_nanos(nanos.parse()?);
    println!("ours opens {gib} GiB after kill -9 in {took:?}, {replayed} records walked");
    if let Some(java_took) = java_took {
        println!("  {:.1} × faster than Java's", java_took.as_secs_f64() / took.as_secs_f64());
    }
    Ok(())
}

pub(crate) fn fill(dir: &Path, gib: u64) -> anyhow::Result<()> {
    let (store, _) = Store::open(Config::new(dir))?;
    let scribe = Scribe::new();
    for number in 0..gib << 20 {
        store.append(&[scribe.record(number)])?;
    }
    println!("{FILLED}");
    std::io::stdout().flush()?;
    // Until it is killed, or whoever should do that is gone.
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

pub(crate) fn open(dir: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    let (_store, recovered) = Store::open(Config::new(dir))?;
    println!("{} {}", started.elapsed().as_nanos(), recovered.replayed_records);
    std::io::stdout().flush()?;
    // Closing would take its own time; nobody needs it.
    std::process::exit(0);
}
