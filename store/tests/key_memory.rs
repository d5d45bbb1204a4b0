//! What the key index costs in memory. In a process of its own, because the kernel counts for the whole of it.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use store::{By, Config, LogOffset, NewRecord, Properties, QueueId, Store};

const MESSAGES: u64 = 400_000;
/// What `views/keys` promises for many more.
const MOST_BYTES: u64 = 16 << 20;

/// Bytes that this process has for itself: without the mapped files of the log.
fn own_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Appends messages of three keys each; returns the most memory that was in use above what was before.
fn most_memory(index_keys: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let config =
        Config { segment_bytes: 64 << 20, refuse_percent: 100, index_keys, ..Config::new(dir.path()) };
    let disk = Arc::new(store::disk::RealDisk::default());
    let before = own_memory();
    let (store, _) = Store::open_without_threads(disk, Arc::new(store::SystemClock), config).unwrap();
    let host = "127.0.0.1:8081".parse().unwrap();
    let mut most = 0;
    for n in 0..MESSAGES {
        let mut properties = Properties::default();
        properties.push("UNIQ_KEY", &format!("01A2B3C4D5E6F7000105A1B2C3{n:08X}"));
        properties.push("KEYS", &format!("order-{n} customer-{}", n % 1000));
        let record = NewRecord {
            topic: "t",
            queue_id: QueueId(0),
            body: b"x",
            properties: properties.as_bytes(),
            tag: None,
            flag: 0,
            sys_flag: 0,
            born_at_ms: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_offset: LogOffset(0),
        };
        store.append(&[record]).unwrap();
        if n % 10_000 == 0 {
            store.flush().unwrap();
            store.housekeep();
            most = most.max(own_memory().saturating_sub(before));
        }
    }
    if index_keys {
        let found = store.find("t", By::Key("customer-7"), 0..i64::MAX, 1000).unwrap();
        assert_eq!((found.records.len(), found.unsearched_bytes), (400, 0));
    }
    most
}

#[test]
fn the_key_index_keeps_to_its_share_of_memory() {
    // First without, so that what else the store needs is there already, and is not given back in between.
    let without = most_memory(false);
    let with = most_memory(true);
    println!("{} KiB without the index, {} KiB with it", without >> 10, with >> 10);
    assert!(with.saturating_sub(without) <= MOST_BYTES);
}
