//! What an idle queue costs in memory. In a process of its own, because the kernel counts for the whole of it.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;
use std::time::Duration;

use store::{Config, LogOffset, NewRecord, Properties, QueueId, Store};

const TOPICS: u64 = 10_000;
const QUEUES: u64 = 10;
/// What `README.md` promises.
const MOST_BYTES: u64 = 512;

/// Bytes that this process has for itself: without the mapped files of the log.
fn own_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

fn open(root: &Path) -> Store {
    let config =
        Config { segment_bytes: 64 << 20, retention: Duration::from_secs(1 << 30), ..Config::new(root) };
    Store::open_without_threads(
        std::sync::Arc::new(store::disk::RealDisk::default()),
        std::sync::Arc::new(store::SystemClock),
        config,
    )
    .unwrap()
    .0
}

fn append(store: &Store, topic: u64, queue: u64) {
    let topic = format!("a-topic-with-an-ordinary-name-{topic:06}");
    let properties = Properties::default();
    let host = "127.0.0.1:8081".parse().unwrap();
    let record = NewRecord {
        topic: &topic,
        queue_id: QueueId(queue as u32),
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
}

#[test]
fn a_queue_that_is_not_in_use_costs_at_most_512_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let before = own_memory();
    let store = open(dir.path());
    for n in 0..3 {
        for at in 0..TOPICS * QUEUES {
            append(&store, at / QUEUES, at % QUEUES);
        }
        let each = own_memory().saturating_sub(before) / (TOPICS * QUEUES);
        println!("{} messages in each, in use: {each} bytes a queue", n + 1);
    }
    // Idle, and everything but how far it reaches is in files.
    (0..130).for_each(|_| store.housekeep());
    store.snapshot().unwrap();
    let idle = own_memory().saturating_sub(before) / (TOPICS * QUEUES);
    println!("idle: {idle} bytes a queue");
    store.close().unwrap();
    drop(store);

    let store = open(dir.path());
    let opened = own_memory().saturating_sub(before) / (TOPICS * QUEUES);
    println!("opened again: {opened} bytes a queue");
    assert!(idle <= MOST_BYTES && opened <= MOST_BYTES, "{idle} and {opened} bytes");
    for topic in 0..TOPICS {
        assert_eq!(
            store.queue_bounds(&format!("a-topic-with-an-ordinary-name-{topic:06}"), QueueId(9)).end.0,
            3
        );
    }
}
