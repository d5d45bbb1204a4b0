//! What those who append feel while somebody drains an old backlog from the disk.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bench::figures::Sorted;
use store::{Config, Fetched, QueueId, QueueOffset, Store, Wanted};

use crate::scribe::{BODY_BYTES, QUEUES, Scribe, TOPIC};

/// Quiet rounds and rounds beside a reader take turns.
const ROUND: Duration = Duration::from_secs(5);

pub(crate) fn measure(dir: &Path, gib: u64, rate: u32, rounds: u32) -> anyhow::Result<()> {
    let config = Config::new(dir.join("store"));
    let scribe = Scribe::new();
    let (store, _) = Store::open(config.clone())?;
    for number in 0..gib << 20 {
        store.append(&[scribe.record(number)])?;
    }
    store.close()?;
    drop(store);
    // What is not in memory must come from the disk.
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache, as root")?;
    let (store, _) = Store::open(config)?;

    let mut at = [QueueOffset(0); QUEUES as usize];
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    let mut read_bytes = 0;
    for _ in 0..rounds {
        quiet.extend(append_for(&store, &scribe, rate)?);
        let stop = AtomicBool::new(false);
        let (appended, read) = thread::scope(|scope| {
            let reader = scope.spawn(|| drain(&store, &mut at, &stop));
            let appended = append_for(&store, &scribe, rate);
            stop.store(true, Ordering::Relaxed);
            (appended, reader.join().expect("the reader does not panic"))
        });
        beside.extend(appended?);
        read_bytes += read?;
    }
    let mib_a_second = read_bytes as f64 / (1 << 20) as f64 / (ROUND * rounds).as_secs_f64();
    println!(
        "{rate} appends a second, then beside a reader of {gib} GiB that reads {mib_a_second:.0} MiB a second:"
    );
    let (quiet, beside) = (Sorted::new(quiet), Sorted::new(beside));
    for share in [0.5, 0.99, 0.999] {
        let ratio = beside.at(share).as_secs_f64() / quiet.at(share).as_secs_f64();
        println!("  p{}: {:?}, then {:?}: {ratio:.2} ×", share * 100.0, quiet.at(share), beside.at(share));
    }
    println!("  longest: {:?}, then {:?}", quiet.max(), beside.max());
    Ok(())
}

/// Appends at this rate for a round; how long each took from when it was due.
fn append_for(store: &Store, scribe: &Scribe, rate: u32) -> anyhow::Result<Vec<Duration>> {
    let started = Instant::now();
    let interval = Duration::from_secs(1) / rate;
    let mut took = Vec::new();
    for number in 0u32.. {
        let due = started + interval * number;
        if due >= started + ROUND {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let before = Instant::now();
        store.append(&[scribe.record(number.into())])?;
        took.push(before.elapsed());
    }
    Ok(took)
}

/// Reads the queues in turn, from where it was, as fast as it can. Returns how many bytes of bodies.
fn drain(store: &Store, at: &mut [QueueOffset], stop: &AtomicBool) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for queue in (0..at.len()).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (fetched, result) = mpsc::sync_channel(1);
        let wanted = Wanted {
            topic: TOPIC.to_owned(),
            queue_id: QueueId(queue as u32),
            from: at[queue],
            max: 1024,
            wants: Box::new(|_| true),
            awaited: Box::new(|| true),
        };
        store.fetch(wanted, Box::new(move |result| fetched.send(result).unwrap_or_default()));
        let Fetched { range, found } = result.recv()??;
        at[queue] = range.end;
        for record in found.into_iter().filter_map(|found| found.record) {
            bytes += record?.body.len() as u64;
        }
        anyhow::ensure!(
            !range.is_empty(),
            "the backlog is drained: take more GiB, or fewer rounds; {BODY_BYTES} bytes a body"
        );
    }
    Ok(bytes)
}
