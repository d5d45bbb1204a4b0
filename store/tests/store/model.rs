//! Random operations, crashes and reopenings included, against a model that is nothing but lists.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use store::disk::{Crash, MemoryDisk};
use store::{Config, Flush, QueueId, QueueOffset, ReadError, Store};

use crate::support::{HandClock, message, record};

const ROOT: &str = "/data";
const RETENTION: Duration = Duration::from_secs(60);
const TOPICS: [&str; 2] = ["orders", "bills"];

#[derive(Clone, Debug)]
enum Op {
    Append { topic: usize, queue: u32, count: usize, body: usize },
    Flush,
    Snapshot,
    Housekeep { rounds: usize },
    Delete { topic: usize },
    Wait { seconds: i64 },
    Reopen,
    Crash(Crash),
    LoseSnapshot,
}

fn op() -> impl Strategy<Value = Op> {
    let append = (0..TOPICS.len(), 0..2u32, 1..4usize, 0..300usize)
        .prop_map(|(topic, queue, count, body)| Op::Append { topic, queue, count, body });
    let burst = (0..TOPICS.len(), 0..2u32, 100..250usize).prop_map(|(topic, queue, count)| Op::Append {
        topic,
        queue,
        count,
        body: 3,
    });
    let crash = prop_oneof![Just(Crash::Kill), Just(Crash::LoseUnsynced), any::<u64>().prop_map(Crash::Tear)];
    prop_oneof![
        8 => append,
        3 => burst,
        3 => Just(Op::Flush),
        2 => Just(Op::Snapshot),
        2 => prop_oneof![Just(1usize), Just(70usize)].prop_map(|rounds| Op::Housekeep { rounds }),
        1 => (0..TOPICS.len()).prop_map(|topic| Op::Delete { topic }),
        2 => (1..50i64).prop_map(|seconds| Op::Wait { seconds }),
        1 => Just(Op::Reopen),
        3 => crash.prop_map(Op::Crash),
        1 => Just(Op::LoseSnapshot),
    ]
}

/// Where a message ends in the log, and its body.
type Message = (u64, Vec<u8>);

/// What must be in the store.
#[derive(Default)]
struct Model {
    /// By topic and queue: messages by queue offset.
    queues: BTreeMap<(usize, u32), BTreeMap<u64, Message>>,
    /// Next offsets.
    next: BTreeMap<(usize, u32), u64>,
    flushed: u64,
    appended: u64,
    count: u64,
}

struct Run {
    disk: MemoryDisk,
    clock: HandClock,
    config: Config,
    store: Store,
    model: Model,
}

impl Run {
    fn new(flush: Flush) -> Self {
        let disk = MemoryDisk::default();
        let clock = HandClock::new(1_000_000);
        let config = Config {
            segment_bytes: 8192,
            flush,
            retention: RETENTION,
            delete_at_hour: None,
            ..Config::new(ROOT)
        };
        let (store, _) =
            Store::open_without_threads(Arc::new(disk.clone()), Arc::new(clock.clone()), config.clone())
                .unwrap();
        Self { disk, clock, config, store, model: Model::default() }
    }

    fn open(&mut self) -> store::Recovered {
        let (disk, clock) = (Arc::new(self.disk.clone()), Arc::new(self.clock.clone()));
        let (store, recovered) = Store::open_without_threads(disk, clock, self.config.clone()).unwrap();
        self.store = store;
        recovered
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append { topic, queue, count, body } => self.append(*topic, *queue, *count, *body),
            Op::Flush => {
                self.store.flush().unwrap();
                self.flushed();
            }
            Op::Snapshot => {
                self.store.snapshot().unwrap();
                self.flushed();
            }
            Op::Housekeep { rounds } => (0..*rounds).for_each(|_| self.store.housekeep()),
            Op::Delete { topic } => {
                self.store.delete_topic(TOPICS[*topic]);
                self.model.queues.retain(|key, _| key.0 != *topic);
                self.model.next.retain(|key, _| key.0 != *topic);
            }
            Op::Wait { seconds } => self.clock.advance_ms(seconds * 1000),
            Op::Reopen => {
                self.store.close().unwrap();
                self.flushed();
                let recovered = self.open();
                assert!(recovered.clean, "it was closed properly");
                assert_eq!(
                    (recovered.replayed_records, recovered.cut_bytes),
                    (0, 0),
                    "nothing to do after a close"
                );
                assert_eq!(recovered.end.0, self.model.appended);
            }
            Op::Crash(crash) => self.crash(*crash),
            Op::LoseSnapshot => {
                self.store.close().unwrap();
                self.flushed();
                let path = Path::new(ROOT).join("views/snapshot");
                self.disk.edit(&path, |bytes| bytes[20] ^= 1);
                self.open();
            }
        }
    }

    fn append(&mut self, topic: usize, queue: u32, count: usize, body: usize) {
        let properties = store::Properties::default();
        let messages: Vec<_> = (0..count)
            .map(|_| {
                self.model.count += 1;
                let mut content = self.model.count.to_be_bytes().to_vec();
                content.resize(8 + body, b'x');
                message(TOPICS[topic], queue, content)
            })
            .collect();
        // One at a time for bursts, together otherwise: both ways into a segment.
        for batch in messages.chunks(if count > 8 { 1 } else { count }) {
            let records: Vec<_> = batch.iter().map(|message| record(message, &properties)).collect();
            let appended = self.store.append(&records).unwrap();
            let next = self.model.next.entry((topic, queue)).or_default();
            for (message, offset) in batch.iter().zip(&appended.queue_offsets) {
                assert_eq!(offset.0, *next, "queue offsets have no gaps");
                *next += 1;
                let queue = self.model.queues.entry((topic, queue)).or_default();
                queue.insert(offset.0, (appended.end.0, message.body.clone()));
            }
            self.model.appended = appended.end.0;
        }
    }

    fn flushed(&mut self) {
        self.model.flushed = self.model.appended;
    }

    fn crash(&mut self, crash: Crash) {
        self.disk = self.disk.crash(crash);
        let recovered = self.open();
        let end = recovered.end.0;
        assert!(end >= self.model.flushed, "what was flushed is there: {end} < {}", self.model.flushed);
        if matches!(crash, Crash::Kill) {
            assert_eq!(end, self.model.appended, "a killed process loses nothing");
        }
        let bounds: BTreeMap<_, _> = self
            .model
            .queues
            .keys()
            .map(|&(topic, queue)| ((topic, queue), self.store.queue_bounds(TOPICS[topic], QueueId(queue))))
            .collect();
        for (key, queue) in &mut self.model.queues {
            let present: Vec<u64> = entries(&self.store, *key).into_iter().map(|entry| entry.0).collect();
            let flushed = self.model.flushed;
            if self.config.flush == Flush::Async {
                let lost = queue.iter().find(|(_, message)| message.0 > end).map(|lost| *lost.0);
                let all_after = queue.range(lost.unwrap_or(u64::MAX)..).all(|(_, message)| message.0 > end);
                assert!(all_after, "async flush loses a suffix and nothing else");
            }
            queue.retain(|offset, message| {
                let kept = message.0 <= flushed || present.contains(offset);
                // Of a batch, the first records may be left.
                message.0 = message.0.min(end);
                kept
            });
            self.model.next.insert(*key, bounds[key].end.0);
        }
        self.model.appended = end;
        self.model.flushed = self.store.state().flushed.0;
    }

    fn check(&self) {
        let state = self.store.state();
        assert_eq!(state.appended.0, self.model.appended);
        assert!(
            state.flushed <= state.appended
                && state.confirmed <= state.appended
                && state.min <= state.flushed
        );
        let visible = if self.config.flush == Flush::Async { state.appended.0 } else { state.flushed.0 };
        for (key, queue) in &self.model.queues {
            let bounds = self.store.queue_bounds(TOPICS[key.0], QueueId(key.1));
            let expected: Vec<_> = queue
                .range(bounds.start.0..)
                .filter(|(_, message)| message.0 <= visible)
                .map(|(offset, message)| (*offset, digest(&message.1)))
                .collect();
            assert_eq!(entries(&self.store, *key), expected, "{key:?} from {bounds:?}");
            for (offset, message) in queue.range(..bounds.start.0) {
                // A batch ends behind its first record; nothing that ends a batch behind the log's start plus one.
                assert!(message.0 <= state.min.0 + self.config.segment_bytes, "{offset} went too early");
            }
            if bounds.start.0 > 0 {
                let before =
                    self.store.entries(TOPICS[key.0], QueueId(key.1), QueueOffset(bounds.start.0 - 1), 1);
                assert!(matches!(before, Err(ReadError::Deleted { min }) if min == bounds.start));
            }
        }
    }
}

/// All that a queue has: offset and body.
fn entries(store: &Store, (topic, queue): (usize, u32)) -> Vec<(u64, (u64, usize))> {
    let from = store.queue_bounds(TOPICS[topic], QueueId(queue)).start;
    let bodies = crate::support::bodies(store, TOPICS[topic], queue, from.0);
    bodies.into_iter().map(|(offset, body)| (offset, digest(&body))).collect()
}

/// A body's number and length, which say all about it.
fn digest(body: &[u8]) -> (u64, usize) {
    assert!(body[8..].iter().all(|&byte| byte == b'x'));
    (u64::from_be_bytes(*body.first_chunk().unwrap()), body.len())
}

fn run(flush: Flush, ops: &[Op]) {
    let mut run = Run::new(flush);
    for op in ops {
        run.apply(op);
        run.check();
    }
}

/// `PROPTEST_CASES` asks for more.
fn configuration() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 96 };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(configuration())]

    #[test]
    fn with_async_flush_the_store_is_its_model(ops in prop::collection::vec(op(), 1..30)) {
        run(Flush::Async, &ops);
    }

    #[test]
    fn with_sync_flush_the_store_is_its_model(ops in prop::collection::vec(op(), 1..30)) {
        run(Flush::Sync, &ops);
    }
}
