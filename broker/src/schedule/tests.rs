//! The worker against a model that is a list: random steps, crashes, retention and failing disks included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicI64;

use access::TopicName;
use proptest::prelude::*;
use store::disk::{Crash, MemoryDisk};
use store::{Config, NewRecord, Properties, QueueId};

use super::*;
use crate::meta::Meta;
use crate::topics::TopicConfig;

const RETENTION_MS: i64 = 60_000;
const QUEUES: u32 = 2;

#[derive(Clone)]
struct HandClock(Arc<AtomicI64>);

impl Clock for HandClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a test knows of a message: it is number so much.
#[derive(Clone, Debug)]
struct Sent {
    handle: RecallHandle,
    recalled: bool,
}

struct Broker {
    disk: MemoryDisk,
    clock: HandClock,
    topics: Arc<Registry>,
    store: Store,
    timers: Arc<Timers>,
    worker: Worker,
    counts: Delayed,
    sent: Vec<Sent>,
    max_log_bytes: Option<u64>,
}

fn registry(folder: &Path) -> Arc<Registry> {
    let topics = Registry::open(Arc::new(Meta::open(folder, Arc::default()).unwrap()), 17).unwrap();
    for name in ["orders", "bills"] {
        topics.upsert_topic(TopicConfig::new(TopicName::parse(name).unwrap(), QUEUES), false).unwrap();
    }
    Arc::new(topics)
}

fn open(
    disk: &MemoryDisk,
    clock: &HandClock,
    topics: &Arc<Registry>,
    counts: &Delayed,
    max_log_bytes: Option<u64>,
) -> (Store, Arc<Timers>, Worker) {
    let config = Config {
        segment_bytes: 16 << 10,
        retention: Duration::from_millis(RETENTION_MS.cast_unsigned()),
        delete_at_hour: None,
        await_keeper: true,
        max_log_bytes,
        index_keys: false,
        ..Config::new("/data")
    };
    let (disk, clock): (Arc<dyn Disk>, Arc<dyn Clock>) = (Arc::new(disk.clone()), Arc::new(clock.clone()));
    let (store, recovered) =
        Store::open_without_threads(Arc::clone(&disk), Arc::clone(&clock), config).unwrap();
    let log = Arc::new(Log::new(
        store.clone(),
        crate::log::Acknowledge::Appended,
        "127.0.0.1:8081".parse().unwrap(),
    ));
    let limits = Limits { table_entries: 16, merge_entries: 9 };
    let (topics, counts) = (Arc::clone(topics), counts.clone());
    let needs = Needs { log, topics, disk, counts, clock, limits, foreseen: None };
    let Opened { timers, mut worker } = Opened::open(needs, Path::new("/data"), &recovered).unwrap();
    assert!(worker.recover());
    (store, timers, worker)
}

impl Broker {
    fn new(folder: &Path) -> Self {
        Self::bounded(folder, None)
    }

    /// One whose log is to be of so many bytes.
    fn bounded(folder: &Path, max_log_bytes: Option<u64>) -> Self {
        let (disk, clock) = (MemoryDisk::default(), HandClock(Arc::new(AtomicI64::new(1_000_000))));
        let (topics, counts) = (registry(folder), Delayed::default());
        let (store, timers, worker) = open(&disk, &clock, &topics, &counts, max_log_bytes);
        Self { disk, clock, topics, store, timers, worker, counts, sent: Vec::new(), max_log_bytes }
    }

    fn reopen(&mut self) {
        (self.store, self.timers, self.worker) =
            open(&self.disk, &self.clock, &self.topics, &self.counts, self.max_log_bytes);
    }

    fn now(&self) -> i64 {
        self.clock.now_ms()
    }

    fn send(&mut self, topic: &str, delay_ms: i64) {
        let number = self.sent.len();
        let due_ms = self.now() + delay_ms;
        let mut properties = Properties::default();
        properties.push("UNIQ_KEY", &number.to_string());
        properties.push("TAGS", "tag");
        properties.push("TIMER_DELIVER_MS", &due_ms.to_string());
        make_wait(&mut properties, topic, QueueId(number as u32 % QUEUES), due_ms);
        let host = "10.0.0.1:1".parse().unwrap();
        let appended = self.store.append(&[NewRecord {
            topic: TOPIC,
            queue_id: QUEUE,
            body: &[b'x'; 300],
            properties: properties.as_bytes(),
            tag: Some("tag"),
            flag: 0,
            sys_flag: 0,
            born_at_ms: 7,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_offset: LogOffset(0),
        }]);
        let id = appended.unwrap().end;
        let handle = RecallHandle {
            due_ms,
            id: id.0,
            topic: topic.to_owned(),
            broker: "b".to_owned(),
            message_id: number.to_string(),
        };
        self.sent.push(Sent { handle, recalled: false });
    }

    fn recall(&mut self, number: usize) -> Result<(), NotRecalled> {
        let (answer, mut answered) = oneshot::channel();
        let handle = self.sent[number].handle.clone();
        self.timers.signal.lock().recalls.push_back(Recall { handle, answer });
        let outcome = loop {
            self.step();
            match answered.try_recv() {
                Ok(outcome) => break outcome,
                // As much is in memory as may be.
                Err(_) => drop(self.timers.write_some(&self.store)),
            }
        };
        self.sent[number].recalled |= outcome.is_ok();
        outcome
    }

    fn step(&mut self) {
        let now_ms = self.now();
        self.worker.step(now_ms);
        if self.timers.schedule.is_damaged() {
            assert!(self.worker.begin_anew());
        }
    }

    /// The numbers of the messages of a topic, with the times at which they were delivered.
    fn delivered(&self, topic: &str) -> Vec<(usize, i64)> {
        let mut found = Vec::new();
        for queue in 0..QUEUES {
            let bounds = self.store.queue_bounds(topic, QueueId(queue));
            for entry in self.store.entries(topic, QueueId(queue), bounds.start, usize::MAX).unwrap() {
                let record = self.store.record(&entry).unwrap();
                let property = |wanted: &str| {
                    record.properties().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
                };
                let number: usize = property("UNIQ_KEY").unwrap().parse().unwrap();
                let sent = &self.sent[number].handle;
                assert_eq!(property("TIMER_DELIVER_MS").unwrap(), sent.due_ms.to_string());
                assert_eq!((property("REAL_TOPIC"), property("TIMER_OUT_MS")), (None, None));
                assert_eq!(sent.topic, topic);
                assert_eq!((record.born_at_ms, record.body.len(), queue), (7, 300, number as u32 % QUEUES));
                assert_eq!(record.prepared_offset.0, sent.id);
                found.push((number, record.stored_at_ms));
            }
        }
        found
    }

    /// The ids of messages in the queue of those that wait, from the first that is left, and what was recalled.
    fn survivors(&self) -> BTreeSet<u64> {
        let mut ids = BTreeSet::new();
        self.store.walk(LogOffset(0)..self.store.confirmed(), &mut |passed| {
            ids.insert(passed.log_offset.0 + u64::from(passed.size));
            true
        });
        ids
    }

    fn check(&self, seen: &mut BTreeMap<usize, i64>) {
        let mut again: BTreeMap<usize, u32> = BTreeMap::new();
        for topic in ["orders", "bills"] {
            for (number, at) in self.delivered(topic) {
                assert!(at >= self.sent[number].handle.due_ms, "{number} is early");
                assert!(!self.sent[number].recalled, "{number} was recalled");
                *again.entry(number).or_default() += 1;
                seen.insert(number, at);
            }
        }
        assert!(again.values().all(|times| *times == 1), "twice: {again:?}");
    }
}

#[test]
fn a_message_is_delivered_at_its_time_as_it_was_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::new(folder.path());
    broker.send("orders", 5000);
    broker.send("orders", 1000);
    broker.step();
    assert_eq!(broker.timers.waiting("orders"), 2);
    for (wait_ms, expected) in [(999, vec![]), (1, vec![1]), (3999, vec![1]), (1, vec![0, 1])] {
        broker.clock.0.fetch_add(wait_ms, Ordering::Relaxed);
        broker.step();
        let mut delivered: Vec<_> = broker.delivered("orders").iter().map(|(number, _)| *number).collect();
        delivered.sort_unstable();
        assert_eq!(delivered, expected);
        assert_eq!(broker.timers.waiting("orders"), 2 - delivered.len() as u64);
    }
}

#[test]
fn who_recalls_in_time_hears_so_each_time_and_who_comes_late_that_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::new(folder.path());
    for _ in 0..3 {
        broker.send("orders", 10_000);
    }
    broker.recall(0).unwrap();
    broker.recall(0).unwrap();
    assert_eq!(broker.timers.waiting("orders"), 2);
    let mut other = broker.sent[1].clone();
    other.handle.message_id = "somebody else's".to_owned();
    broker.sent.push(other);
    assert!(matches!(broker.recall(3), Err(NotRecalled::Unknown)), "a handle must be of its message");
    broker.sent.pop();
    broker.worker.leave();
    broker.store.close().unwrap();
    broker.reopen();
    broker.recall(0).unwrap();
    // In hand already.
    broker.clock.0.fetch_add(9_900, Ordering::Relaxed);
    broker.step();
    broker.recall(1).unwrap();
    broker.clock.0.fetch_add(100, Ordering::Relaxed);
    broker.step();
    assert_eq!(broker.delivered("orders").iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
    assert!(matches!(broker.recall(2), Err(NotRecalled::Unknown)));
    assert_eq!(broker.timers.waiting("orders"), 0);
}

#[test]
fn what_waits_longer_than_messages_are_kept_moves_and_can_still_be_recalled() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::new(folder.path());
    for number in 0..200 {
        broker.send("orders", 10 * RETENTION_MS + number);
    }
    for _ in 0..6 {
        broker.clock.0.fetch_add(RETENTION_MS + 1, Ordering::Relaxed);
        // So that what was written has a younger file behind it.
        for _ in 0..60 {
            broker.send("bills", 1);
        }
        for _ in 0..6 {
            broker.store.flush().unwrap();
            broker.store.housekeep();
            broker.step();
            broker.timers.write_some(&broker.store);
        }
    }
    let first = broker.sent[199].handle.id;
    assert!(broker.store.state().min.0 > first, "{} {first}", broker.store.state().min);
    assert_eq!(broker.timers.waiting("orders"), 200);
    broker.recall(7).unwrap();
    broker.disk = broker.disk.crash(Crash::Kill);
    broker.reopen();
    broker.clock.0.fetch_add(10 * RETENTION_MS, Ordering::Relaxed);
    broker.step();
    assert_eq!(broker.delivered("orders").len(), 199);
    assert_eq!((broker.timers.waiting("orders"), broker.counts.lost.get()), (0, 0));
}

#[test]
fn what_waits_is_not_moved_for_ever_where_it_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::bounded(folder.path(), Some(48 << 10));
    for number in 0..400 {
        broker.send("orders", RETENTION_MS / 2 + number);
    }
    let sent = broker.store.state().appended.0;
    for _ in 0..200 {
        broker.store.flush().unwrap();
        broker.store.housekeep();
        broker.step();
        broker.timers.write_some(&broker.store);
    }
    let moved = broker.store.state().appended.0 - sent;
    assert!(moved > 0 && moved <= 2 * sent, "of {sent} bytes, {moved} were written again");
    broker.clock.0.fetch_add(RETENTION_MS, Ordering::Relaxed);
    broker.step();
    while broker.timers.waiting("orders") > 0 {
        broker.step();
    }
    assert_eq!((broker.delivered("orders").len(), broker.counts.lost.get()), (400, 0));
}

#[test]
fn a_full_disk_delays_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::new(folder.path());
    broker.store.housekeep();
    broker.send("orders", 10);
    while broker.store.append(&[]).is_ok() && broker.sent.len() < 20 {
        broker.send("orders", 10);
    }
    broker.disk.set_capacity(0);
    broker.store.housekeep();
    broker.clock.0.fetch_add(10, Ordering::Relaxed);
    broker.step();
    assert_eq!(broker.delivered("orders").len(), 0);
    broker.disk.set_capacity(u64::MAX);
    broker.store.housekeep();
    broker.clock.0.fetch_add(2000, Ordering::Relaxed);
    broker.step();
    assert_eq!(broker.delivered("orders").len(), 20);
}

#[derive(Clone, Debug)]
enum Op {
    Send { count: usize, delay_ms: i64 },
    Recall { which: usize },
    Wait { ms: i64 },
    Step,
    Write,
    Flush,
    Housekeep,
    Leave,
    Crash(Crash),
    Rot { file: usize, at: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let crash = prop_oneof![Just(Crash::Kill), Just(Crash::LoseUnsynced), any::<u64>().prop_map(Crash::Tear)];
    let delay = prop_oneof![0..2000i64, 0..3 * RETENTION_MS];
    prop_oneof![
        6 => (1..20usize, delay).prop_map(|(count, delay_ms)| Op::Send { count, delay_ms }),
        2 => any::<usize>().prop_map(|which| Op::Recall { which }),
        3 => prop_oneof![0..1500i64, Just(RETENTION_MS / 2)].prop_map(|ms| Op::Wait { ms }),
        6 => Just(Op::Step),
        4 => Just(Op::Write),
        2 => Just(Op::Flush),
        3 => Just(Op::Housekeep),
        1 => Just(Op::Leave),
        2 => crash.prop_map(Op::Crash),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(file, at)| Op::Rot { file, at }),
    ]
}

fn run(ops: &[Op]) {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::new(folder.path());
    let mut seen = BTreeMap::new();
    for op in ops {
        match *op {
            Op::Send { count, delay_ms } => {
                for n in 0..count {
                    broker.send(if n % 3 == 0 { "bills" } else { "orders" }, delay_ms + n as i64 % 7);
                }
            }
            Op::Recall { which } if !broker.sent.is_empty() => {
                let which = which % broker.sent.len();
                let before = broker.sent[which].recalled;
                let outcome = broker.recall(which);
                let was_due = broker.sent[which].handle.due_ms <= broker.now() + worker::AHEAD_MS;
                let is_known = outcome.is_ok() || matches!(outcome, Err(NotRecalled::Unread(_)));
                assert!(is_known || was_due || !before, "{which} was recalled before: {outcome:?}");
            }
            Op::Recall { .. } => {}
            Op::Wait { ms } => drop(broker.clock.0.fetch_add(ms, Ordering::Relaxed)),
            Op::Step => broker.step(),
            Op::Write => drop(broker.timers.write_some(&broker.store)),
            Op::Flush => broker.store.flush().unwrap(),
            Op::Housekeep => broker.store.housekeep(),
            Op::Leave => {
                broker.worker.leave();
                broker.store.close().unwrap();
                broker.reopen();
            }
            Op::Crash(crash) => {
                let flushed = broker.store.state().flushed;
                broker.disk = broker.disk.crash(crash);
                broker.reopen();
                // A power cut takes what was not flushed: then it never was.
                let found = broker.survivors();
                let (min, sent) = (broker.store.state().min, &mut broker.sent);
                let mut gone = 0;
                for (number, sent) in sent.iter_mut().enumerate() {
                    let is_gone = sent.handle.id > min.0 && !found.contains(&sent.handle.id);
                    assert!(!is_gone || sent.handle.id > flushed.0, "{number} is lost");
                    gone += usize::from(is_gone);
                }
                sent.truncate(sent.len() - gone);
                seen.clear();
                let recalled = recalled(&broker.store);
                for sent in broker.sent.iter_mut() {
                    sent.recalled &= recalled.contains(&sent.handle.id) || sent.handle.id <= min.0;
                }
            }
            Op::Rot { file, at } => {
                let of_schedule = |path: &std::path::PathBuf| path.starts_with("/data/views/schedule");
                let paths: Vec<_> = broker.disk.paths().into_iter().filter(of_schedule).collect();
                if let Some(path) = paths.get(file % paths.len().max(1)) {
                    broker.disk.edit(path, |bytes| {
                        if let Some(at) = at.checked_rem(bytes.len()) {
                            bytes[at] ^= 0x40;
                        }
                    });
                }
            }
        }
        broker.check(&mut seen);
    }
    // In the end everything is delivered.
    broker.clock.0.fetch_add(4 * RETENTION_MS, Ordering::Relaxed);
    for _ in 0..20 {
        broker.clock.0.fetch_add(2000, Ordering::Relaxed);
        broker.step();
        broker.timers.write_some(&broker.store);
    }
    broker.check(&mut seen);
    let min = broker.store.state().min;
    for (number, sent) in broker.sent.iter().enumerate() {
        let removed = sent.handle.id <= min.0;
        assert!(
            sent.recalled || removed || seen.contains_key(&number),
            "{number} is lost: {:?}, the log begins at {min}",
            sent.handle
        );
    }
    assert_eq!(broker.timers.all_waiting(), []);
    assert_eq!(broker.counts.lost.get(), 0);
}

/// The ids of those that the log says were recalled.
fn recalled(store: &Store) -> BTreeSet<u64> {
    let mut ids = BTreeSet::new();
    store.walk(LogOffset(0)..store.confirmed(), &mut |passed| {
        if let Some(record::Said::Recalled { id, .. }) = record::said_by(passed) {
            ids.insert(id.0);
        }
        true
    });
    ids
}

fn configuration() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 64 };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(configuration())]

    #[test]
    fn nothing_is_lost_early_or_delivered_twice_whatever_happens(ops in prop::collection::vec(op(), 1..60)) {
        run(&ops);
    }
}

#[test]
fn what_followed_the_log_of_a_replica_delivers_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::new(folder.path());
    let disk: Arc<dyn Disk> = Arc::new(broker.disk.clone());
    let limits = Limits { table_entries: 16, merge_entries: 9 };
    let root = Path::new("/replica");
    let mut known = super::open(&broker.store, disk, root, &Recovered::default(), limits).unwrap();
    assert!(known.follow(), "nothing yet");
    for number in 0..100 {
        broker.send("orders", 5_000 + number);
    }
    assert!(known.follow());
    assert_eq!(known.timers().waiting("orders"), 100);
    broker.recall(99).unwrap();
    broker.clock.0.fetch_add(5_009, Ordering::Relaxed);
    broker.step();
    assert!(known.follow());
    assert_eq!(known.timers().waiting("orders"), 89, "ten are delivered, one is recalled");
    broker.send("orders", 5_000);

    // It is the primary now.
    let disk: Arc<dyn Disk> = Arc::new(broker.disk.clone());
    let host = "127.0.0.1:8081".parse().unwrap();
    let log = Arc::new(Log::new(broker.store.clone(), crate::log::Acknowledge::Appended, host));
    let needs = Needs {
        log,
        topics: Arc::clone(&broker.topics),
        disk,
        counts: Delayed::default(),
        clock: Arc::new(broker.clock.clone()),
        limits,
        foreseen: Some(Foreseen(known)),
    };
    let Opened { timers, worker } = Opened::open(needs, root, &Recovered::default()).unwrap();
    (broker.timers, broker.worker) = (timers, worker);
    assert!(broker.worker.recover());
    assert_eq!(broker.timers.waiting("orders"), 90);
    broker.clock.0.fetch_add(10_000, Ordering::Relaxed);
    while broker.timers.waiting("orders") > 0 {
        broker.step();
    }
    let mut numbers: Vec<_> = broker.delivered("orders").iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..99).chain([100]).collect::<Vec<_>>());
}

#[test]
fn what_a_replica_knows_does_not_grow_with_what_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::new(folder.path());
    let replica = MemoryDisk::default();
    let limits = Limits { table_entries: 16, merge_entries: 9 };
    let disk: Arc<dyn Disk> = Arc::new(replica.clone());
    let mut known =
        super::open(&broker.store, disk, Path::new("/replica"), &Recovered::default(), limits).unwrap();
    let mut most = 0;
    for round in 0..100 {
        for number in 0..20 {
            broker.send("orders", 1_000 + number);
        }
        broker.recall(20 * round).unwrap();
        foresight::look(&mut known, &broker.store, broker.now()).unwrap();
        broker.clock.0.fetch_add(1_100, Ordering::Relaxed);
        broker.step();
        let _work = broker.timers.write_some(&broker.store);
        foresight::look(&mut known, &broker.store, broker.now()).unwrap();
        most = most.max(replica.paths().len());
    }
    assert_eq!(known.timers().all_waiting(), []);
    // Twenty that wait, and the runs of like size that are not merged yet.
    assert!(most < 12, "{most} files");
    let left = known.timers().schedule.pass_cancelled(i64::MAX, usize::MAX).unwrap();
    assert!(left < 40, "{left} are known that are over");
}
