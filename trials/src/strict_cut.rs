//! The power goes under a disk in memory that keeps nothing which nobody synced, neither bytes nor names: a real file system
//! is kinder, and hides what the store forgot to ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use store::disk::{Crash, MemoryDisk};
use store::{Config, Flush, QueueId, QueueOffset, Store, SystemClock};

use crate::bit_rot::append;
use crate::dice::Dice;
use crate::ledger::BodyHash;

const TOPIC: &str = "orders";
const QUEUES: u64 = 3;
const SEGMENT_BYTES: u64 = 64 << 10;
/// Messages between two cuts at most: some segments.
const MOST_MESSAGES: u64 = 600;
const MOST_BODY_BYTES: u64 = 2000;
/// Cuts of a world before the next begins anew.
const CUTS_OF_A_WORLD: u64 = 10;

/// Cuts the power so many times. An error says what was flushed and is not there.
pub fn run(cuts: u64, seed: u64) -> Result<()> {
    let mut dice = Dice::new(seed);
    let config = Config {
        segment_bytes: SEGMENT_BYTES,
        flush: Flush::Sync,
        delete_at_hour: None,
        refuse_percent: 100,
        ..Config::new("/store")
    };
    let (mut disk, mut flushed) = (MemoryDisk::default(), BTreeMap::new());
    for cut in 0..cuts {
        if cut % CUTS_OF_A_WORLD == 0 {
            (disk, flushed) = (MemoryDisk::default(), BTreeMap::new());
        }
        let open =
            || Store::open_without_threads(Arc::new(disk.clone()), Arc::new(SystemClock), config.clone());
        let (store, _) = open()?;
        let mut waiting = Vec::new();
        for number in 0..dice.below(MOST_MESSAGES) {
            let body: Vec<u8> = format!("{cut} {number} ").into_bytes();
            let len = 1 + dice.below(MOST_BODY_BYTES) as usize;
            let body: Vec<_> = body.into_iter().cycle().take(len).collect();
            let put = append(&store, TOPIC, dice.below(QUEUES) as u32, &body)?;
            waiting.push(((put.queue, put.offset), put.hash));
            if dice.once_in(20) {
                store.flush()?;
                flushed.extend(waiting.drain(..));
            }
            if dice.once_in(200) {
                store.snapshot()?;
            }
            if dice.once_in(100) {
                store.housekeep();
            }
        }
        let how = if dice.once_in(2) { Crash::LoseUnsynced } else { Crash::Tear(dice.any()) };
        disk = disk.crash(how);
        drop(store);
        let (store, _) =
            Store::open_without_threads(Arc::new(disk.clone()), Arc::new(SystemClock), config.clone())?;
        for (&(queue, offset), hash) in &flushed {
            let entries = store.entries(TOPIC, QueueId(queue), QueueOffset(offset), 1)?;
            let record = entries.first().map(|entry| store.record(entry)).transpose()?;
            let found = record.map(|record| BodyHash::of(&record.body));
            ensure!(
                found.as_ref() == Some(hash),
                "cut {cut}, {how:?}: queue {queue} offset {offset} was flushed, and {}",
                if found.is_some() { "altered" } else { "lost" }
            );
        }
        // What was not flushed and is there now was believed, and stays.
        store.flush()?;
        store.close()?;
    }
    Ok(())
}
