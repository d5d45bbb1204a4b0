//! Synchronous appends: many waiting, and one at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bench::figures::Sorted;
use store::{Config, Flush, FlushFailed, Store};

use crate::scribe::{BODY_BYTES, Scribe};

/// How many wait at a time.
const WAITING: u64 = 256;

pub(crate) fn measure(dir: &Path, waiting: u64, alone: u64) -> anyhow::Result<()> {
    let (store, _) = Store::open(Config { flush: Flush::Sync, ..Config::new(dir.join("store")) })?;
    let scribe = Scribe::new();
    let (confirmed, confirmations) = mpsc::sync_channel::<Result<(), FlushFailed>>(2 * WAITING as usize);
    let submit = |number| -> anyhow::Result<()> {
        let end = store.append(&[scribe.record(number)])?.end;
        let confirmed = confirmed.clone();
        // Nobody listens any more once the figure is taken.
        store.on_confirmed(end, Box::new(move |result| confirmed.send(result).unwrap_or_default()));
        Ok(())
    };

    let flushes = store.state().flushes;
    let started = Instant::now();
    for number in 0..waiting {
        submit(number)?;
        if number >= WAITING {
            confirmations.recv()??;
        }
    }
    for _ in 0..waiting.min(WAITING) {
        confirmations.recv()??;
    }
    let took = started.elapsed();
    let flushes = store.state().flushes - flushes;
    println!(
        "{WAITING} waiting: {:.0} messages a second, {:.1} a flush",
        waiting as f64 / took.as_secs_f64(),
        waiting as f64 / flushes as f64
    );

    let raw = Raw::new(&dir.join("raw"), alone)?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for number in 0..alone {
        let before = Instant::now();
        submit(number)?;
        confirmations.recv()??;
        ours.push(before.elapsed());
        bare.push(raw.write(number)?);
    }
    let (ours, bare) = (Sorted::new(ours), Sorted::new(bare));
    for share in [0.5, 0.99] {
        let ratio = ours.at(share).as_secs_f64() / bare.at(share).as_secs_f64();
        println!(
            "one at a time, p{:.0}: {:?}, a bare write and fdatasync {:?}: {ratio:.2} ×",
            share * 100.0,
            ours.at(share),
            bare.at(share)
        );
    }
    store.close()?;
    Ok(())
}

/// A file whose blocks are there and written, as the log's are.
struct Raw(File);

impl Raw {
    fn new(path: &Path, count: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        for number in 0..count {
            file.write_all_at(&[0; BODY_BYTES], number * BODY_BYTES as u64)?;
        }
        file.sync_all()?;
        Ok(Self(file))
    }

    fn write(&self, number: u64) -> io::Result<Duration> {
        let before = Instant::now();
        self.0.write_all_at(&[b'x'; BODY_BYTES], number * BODY_BYTES as u64)?;
        self.0.sync_data()?;
        Ok(before.elapsed())
    }
}
