//! Records to append, and what is read back, in a form that compares.

use std::net::SocketAddr;

use store::{Config, LogOffset, NewRecord, Properties, QueueId, QueueOffset, Store};

/// What a test says about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) queue: u32,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn message(topic: &str, queue: u32, body: impl AsRef<[u8]>) -> Message {
    Message { topic: topic.to_owned(), queue, body: body.as_ref().to_vec() }
}

fn host() -> SocketAddr {
    "10.0.0.1:8081".parse().unwrap()
}

/// The record of a message; its properties are `properties`.
pub(crate) fn record<'a>(message: &'a Message, properties: &'a Properties) -> NewRecord<'a> {
    NewRecord {
        topic: &message.topic,
        queue_id: QueueId(message.queue),
        body: &message.body,
        properties: properties.as_bytes(),
        tag: None,
        flag: 0,
        sys_flag: 0,
        born_at_ms: 1,
        born_host: host(),
        store_host: host(),
        reconsume_times: 0,
        prepared_offset: LogOffset(0),
    }
}

pub(crate) fn append(store: &Store, message: &Message) -> store::Appended {
    store.append(&[record(message, &Properties::default())]).unwrap()
}

/// The bodies of a queue from `from` on, with their offsets.
pub(crate) fn bodies(store: &Store, topic: &str, queue: u32, from: u64) -> Vec<(u64, Vec<u8>)> {
    let entries = store.entries(topic, QueueId(queue), QueueOffset(from), usize::MAX).unwrap();
    entries.iter().map(|entry| (entry.queue_offset.0, store.record(entry).unwrap().body.to_vec())).collect()
}

/// A small configuration in this directory.
pub(crate) fn config(root: &std::path::Path) -> Config {
    Config { segment_bytes: 4096, ..Config::new(root) }
}

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub(crate) struct HandClock(std::sync::Arc<std::sync::atomic::AtomicI64>);

impl HandClock {
    pub(crate) fn new(now_ms: i64) -> Self {
        Self(std::sync::Arc::new(now_ms.into()))
    }

    pub(crate) fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms, std::sync::atomic::Ordering::Relaxed);
    }
}

impl store::Clock for HandClock {
    fn now_ms(&self) -> i64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A store in memory, whose flushing and housekeeping the test does.
pub(crate) struct House {
    pub(crate) disk: store::disk::MemoryDisk,
    pub(crate) clock: HandClock,
    pub(crate) config: Config,
}

impl House {
    pub(crate) fn new(flush: store::Flush) -> Self {
        let config = Config { segment_bytes: 4096, flush, delete_at_hour: None, ..Config::new("/data") };
        Self { disk: store::disk::MemoryDisk::default(), clock: HandClock::new(1_000_000), config }
    }

    pub(crate) fn try_open(&self) -> Result<(Store, store::Recovered), store::OpenError> {
        let (disk, clock) = (self.disk.clone(), self.clock.clone());
        Store::open_without_threads(
            std::sync::Arc::new(disk),
            std::sync::Arc::new(clock),
            self.config.clone(),
        )
    }

    pub(crate) fn open(&self) -> (Store, store::Recovered) {
        self.try_open().unwrap()
    }

    /// Cuts the closed store back.
    pub(crate) fn cut_back(&self, to: LogOffset) -> Result<(), store::CutBackError> {
        store::cut_back(std::sync::Arc::new(self.disk.clone()), &self.config, to)
    }

    /// What is left of it after a crash.
    pub(crate) fn crash(&self, crash: store::disk::Crash) -> Self {
        Self { disk: self.disk.crash(crash), clock: self.clock.clone(), config: self.config.clone() }
    }

    /// The segment file that starts at `base`.
    pub(crate) fn segment(&self, base: u64) -> std::path::PathBuf {
        self.config.root.join(format!("commitlog/{base:020}"))
    }
}

/// Appends `count` messages with bodies `0`, `1`, ...; returns where each starts, and the end.
pub(crate) fn fill(store: &Store, topic: &str, count: u64) -> Vec<u64> {
    let mut places: Vec<_> =
        (0..count).map(|n| append(store, &message(topic, 0, n.to_string())).start.0).collect();
    places.push(store.state().appended.0);
    places
}

/// The bodies of queue 0 as numbers, by offset.
pub(crate) fn numbers(store: &Store, topic: &str) -> Vec<(u64, u64)> {
    let from = store.queue_bounds(topic, QueueId(0)).start.0;
    let number = |body: Vec<u8>| String::from_utf8(body).unwrap().parse().unwrap();
    bodies(store, topic, 0, from).into_iter().map(|(offset, body)| (offset, number(body))).collect()
}

/// Offsets and numbers that are the same, as [`fill`] makes them.
pub(crate) fn same(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    numbers.into_iter().map(|n| (n, n)).collect()
}

/// A small generator of numbers (xorshift): the same seed, the same numbers. The seed is not 0.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as usize % bound
    }
}
