//! Asynchronous appends from one thread.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bench::process::cpu_time;
use store::{Config, Store};

use crate::java::Java;
use crate::scribe::{BODY_BYTES, Scribe};
use crate::stalls::Stalls;

pub(crate) fn measure(
    dir: &Path,
    gib: u64,
    index_keys: bool,
    pace: Option<u32>,
    java: Option<&Java>,
) -> anyhow::Result<()> {
    // As much with bare writes as with appends: the kernel's memory for it is part of the price, for both.
    let count = gib << 20;
    let raw = raw_writes(&dir.join("raw"), count)?;
    println!("bare write calls of 1 KiB: {raw:.0} a second");

    let (store, _) = Store::open(Config { index_keys, ..Config::new(dir.join("store")) })?;
    let scribe = Scribe::new();
    let mut stalls = Stalls::default();
    let cpu = cpu_time(std::process::id())?;
    let started = Instant::now();
    for number in 0..count {
        if let Some(pace) = pace {
            let due = started + Duration::from_secs_f64(number as f64 / f64::from(pace));
            let rest = due.saturating_duration_since(Instant::now());
            // Who looks at the clock all the time takes a core from those who work for it.
            if rest > Duration::from_micros(200) {
                std::thread::sleep(rest);
                stalls.slept();
            }
        }
        let before = Instant::now();
        store.append(&[scribe.record(number)])?;
        stalls.note(before.elapsed());
    }
    let took = started.elapsed();
    let cpu = cpu_time(std::process::id())? - cpu;
    let rate = count as f64 / took.as_secs_f64();
    println!(
        "appends: {rate:.0} a second, {:.2} × bare writes; CPU of all threads {:.2} µs each",
        rate / raw,
        micros(cpu) / count as f64
    );
    stalls.print();
    store.close()?;
    drop(store);
    std::fs::remove_dir_all(dir.join("store"))?;
    let raw_again = raw_writes(&dir.join("raw"), count)?;
    println!("bare write calls again: {raw_again:.0} a second, so {:.2} ×", rate / raw_again);

    if let Some(java) = java {
        let count = count.min(2 << 20);
        let took = java.append(&dir.join("java"), count, BODY_BYTES)?;
        let java_rate = count as f64 / took.as_secs_f64();
        println!("Java's store: {java_rate:.0} appends a second, so {:.2} ×", rate / java_rate);
    }
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn raw_writes(path: &Path, count: u64) -> std::io::Result<f64> {
    let mut file = std::fs::File::create(path)?;
    let block = [b'x'; BODY_BYTES];
    let started = Instant::now();
    for _ in 0..count {
        file.write_all(&block)?;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}
