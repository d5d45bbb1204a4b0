//! A disk that begins to fail under a real broker: it stops to acknowledge, says why, is not ready, and after a new start on
//! what the disk really holds nothing that was acknowledged is lost.
//!
//! ```text
//!   senders ─► broker, sync flush ─► ext4 ─► our block device: one flush fails, once, or every write from now on
//!                  │                              │ then the power goes: what no good flush followed may be gone
//!                  └─► not ready, and no word      └─► image ─► a new device, a new broker: all is read
//! ```
//!
//! A flush that fails once and works when it is tried again is the trap: what it was for is gone all the same. And what others
//! had written is gone with it: the log's flush, the next moment, finds nothing to do and succeeds.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::device::{Device, Loss, Moment};
use crate::dice::Dice;
use crate::load::{Book, QUEUES, TOPIC};
use crate::room::{FileSystem, Room, Volume};
use crate::wire::{Refusal, Wire};

const VOLUME_BYTES: u64 = 64 << 20;
const SENDERS: u64 = 4;
const MOST_BODY_BYTES: u64 = 8 << 10;
/// Small segments, so that some of the flushes are for new ones.
const SETTINGS: &str = "flush: Sync\nsegmentSize: 1Mi\nconfig: {persistIntervalMs: 60000}\n";
/// ext4 also flushes by itself, five seconds after a change. When that flush fails no program is told, so none can know
/// what the device dropped: here it does not come.
const OWN_COMMITS_ONLY: &str = ",commit=600";
/// Sends that are tried once the log is closed.
const ATTEMPTS: u64 = 10;
/// How long the broker may take until it has met the fault and says so.
const NOTICED: Duration = Duration::from_secs(30);
/// How long reading it all may take.
const AUDIT: Duration = Duration::from_secs(60);

/// What was tried.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Disks that failed.
    pub failures: u64,
    /// Messages that were acknowledged before, and read afterwards.
    pub acknowledged: usize,
}

/// Lets so many disks fail. An error says what was not as promised.
pub fn run(program: &Path, times: u64, seed: u64) -> Result<Outcome> {
    let room = Room::new(1 << 30)?;
    let mut dice = Dice::new(seed);
    let mut outcome = Outcome::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for number in 0..times {
        let dir = room.dir(&format!("disk-{number}"))?;
        let fault = Fault::of(&mut dice);
        let failed = fail(program, &dir, &runtime, fault, dice.fork());
        outcome.acknowledged += failed.with_context(|| format!("disk {number}, {fault:?}"))?;
        outcome.failures += 1;
    }
    Ok(outcome)
}

/// How a disk begins to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The n-th flush from now fails; later ones work.
    Flush(u64),
    /// Every write from now on.
    Writes,
}

impl Fault {
    fn of(dice: &mut Dice) -> Self {
        if dice.once_in(3) { Self::Writes } else { Self::Flush(dice.below(20)) }
    }
}

/// One disk, from a new one to what is left of it. The number of messages that were acknowledged.
fn fail(program: &Path, dir: &Path, runtime: &Runtime, fault: Fault, mut dice: Dice) -> Result<usize> {
    let image = dir.join("image");
    FileSystem::Ext4.make(&image, VOLUME_BYTES)?;
    let device = Device::serve(std::fs::read(&image)?, &new_dir(dir, "first")?)?;
    let volume = Volume::mount_with(device.file(), dir.join("first-volume"), OWN_COMMITS_ONLY)?;
    let mut broker = Broker::start(program, &volume.dir().join("data"), dir, SETTINGS)?;
    let book = Book::default();
    let mut wire = runtime.block_on(async { broker.wire("prober") })?;
    runtime.block_on(broker.make_topic(TOPIC, QUEUES))?;

    let mut senders = JoinSet::new();
    for number in 0..SENDERS {
        let wire = runtime.block_on(async { broker.wire(&format!("sender-{number}")) })?;
        senders.spawn_on(send_until_refused(wire, book.clone(), dice.fork()), runtime.handle());
    }
    std::thread::sleep(dice.shorter_than(Duration::from_millis(500)));
    match fault {
        Fault::Flush(n) => device.fail_flush(n),
        Fault::Writes => device.fail_writes(true),
    }
    broker.until("it says that the log is closed", NOTICED, |readiness| {
        !readiness.ready && readiness.why.contains("failed")
    })?;
    ensure!(device.failures() > 0, "the log is closed, and the disk has not failed");
    runtime.block_on(async { while senders.join_next().await.is_some() {} });
    let acknowledged = book.lock().acknowledged_count();
    runtime.block_on(async {
        for _ in 0..ATTEMPTS {
            let sent = book.send(&mut wire, &mut dice, MOST_BODY_BYTES).await;
            ensure!(sent.is_err(), "a message was acknowledged after the disk had failed");
        }
        let state = broker.state().await?;
        ensure!(!state.accepts_writes && !state.reason.is_empty(), "it tells of no failure: {state:?}");
        Ok(())
    })?;
    broker.ensure_running()?;

    let cut = device.cut(Moment::Now, Loss::Unflushed, dice.fork(), Box::new(|| 0)).recv();
    let cut = cut.map_err(|_| anyhow!("the device is gone"))?;
    broker.kill()?;
    drop(volume);
    drop(device);
    let device = Device::serve(cut.image, &new_dir(dir, "second")?)?;
    let volume = Volume::mount(device.file(), dir.join("second-volume"))?;
    let mut broker = Broker::start(program, &volume.dir().join("data"), dir, SETTINGS)?;
    let mut wire = runtime.block_on(async { broker.wire("auditor") })?;
    runtime.block_on(book.audit(&mut wire, "audit", AUDIT)).with_context(|| broker.tail())?;
    broker.stop()?;
    Ok(acknowledged)
}

async fn send_until_refused(mut wire: Wire, book: Book, mut dice: Dice) {
    // The disk of a busy machine may be slow; it does not refuse.
    while let Ok(()) | Err(Refusal::Silence(_)) = book.send(&mut wire, &mut dice, MOST_BODY_BYTES).await {}
}

fn new_dir(dir: &Path, name: &str) -> Result<std::path::PathBuf> {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
