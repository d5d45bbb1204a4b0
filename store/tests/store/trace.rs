//! A long life of a store, the same each time, and one that tells what it promised meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use store::disk::{Crash, Disk as _, MemoryDisk};
use store::{
    AppendError, Clock as _, Config, Flush, FlushFailed, OpenError, Properties, QueueId, QueueOffset,
    ReadError, Scrub, Store,
};

use crate::expected::{
    self, Demand, Expected, Found, Key, QUEUES, RETENTION, Sent, TOPICS, bounds, digest, try_found,
};
use crate::support::{Dice, HandClock, message, record};

const ROOT: &str = "/data";

/// Something that happens to a store.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A batch; its records go to the topic's queues in turn.
    Batch {
        topic: usize,
        count: usize,
        body: usize,
    },
    /// Many records of one queue, one by one.
    Burst {
        topic: usize,
        queue: u32,
        count: usize,
    },
    Flush,
    Snapshot,
    Housekeep {
        rounds: usize,
    },
    Delete {
        topic: usize,
    },
    /// Reads the log through, if that is due.
    Scrub,
    Wait {
        seconds: u64,
    },
    /// Reads a queue from somewhere on, and looks for a time.
    Read {
        topic: usize,
        queue: u32,
    },
}

/// The operations of this seed.
pub(crate) fn operations(seed: u64, count: usize) -> Vec<Op> {
    let mut dice = Dice(seed | 1);
    (0..count)
        .map(|_| {
            let (topic, queue) = (dice.below(TOPICS.len()), dice.below(QUEUES as usize) as u32);
            match dice.below(1000) {
                0..500 => Op::Batch { topic, count: 1 + dice.below(4), body: dice.below(120) },
                500..510 => Op::Burst { topic, queue, count: 210 },
                510..675 => Op::Flush,
                675..700 => Op::Snapshot,
                700..778 => Op::Housekeep { rounds: 1 },
                // Enough for queues to fall idle.
                778..780 => Op::Housekeep { rounds: 62 },
                780..800 => Op::Delete { topic },
                800..875 => Op::Wait { seconds: 1 + dice.below(15) as u64 },
                990.. => Op::Scrub,
                _ => Op::Read { topic, queue },
            }
        })
        .collect()
}

/// Answers of the store: number of the batch, and what it heard.
type Answers = Arc<Mutex<Vec<(usize, Result<(), FlushFailed>)>>>;

/// A store, and what it owes.
pub(crate) struct Life {
    pub(crate) disk: MemoryDisk,
    pub(crate) clock: HandClock,
    config: Config,
    store: Option<Store>,
    expected: Expected,
    heard: Answers,
    /// Where each batch ends, and whether it was answered.
    asked: Vec<(u64, bool)>,
    /// How far the log was flushed when a flush of it failed.
    failed_at: Option<u64>,
    messages: u64,
}

/// A closed store.
#[derive(Clone)]
pub(crate) struct Saved {
    disk: MemoryDisk,
    now_ms: i64,
    flush: Flush,
    expected: Expected,
    messages: u64,
}

impl Saved {
    /// An empty disk.
    pub(crate) fn new(flush: Flush) -> Self {
        let expected = Expected::default();
        Self { disk: MemoryDisk::default(), now_ms: 1_000_000, flush, expected, messages: 0 }
    }

    /// A life that goes on from here, on a copy of the disk. It is not open yet.
    pub(crate) fn resume(&self) -> Life {
        let config = Config {
            segment_bytes: 4096,
            flush: self.flush,
            retention: RETENTION,
            delete_at_hour: None,
            scrub: Scrub { interval: Some(Duration::from_secs(20)), ..Scrub::default() },
            ..Config::new(ROOT)
        };
        Life {
            disk: self.disk.crash(Crash::Kill),
            clock: HandClock::new(self.now_ms),
            config,
            store: None,
            expected: self.expected.clone(),
            heard: Answers::default(),
            asked: Vec::new(),
            failed_at: None,
            messages: self.messages,
        }
    }
}

impl Life {
    /// The store is closed and well: the place to go on from.
    pub(crate) fn save(mut self) -> Saved {
        let flush = self.config.flush;
        self.open().unwrap();
        let store = self.store.take().expect("it was just opened");
        let found = self.expected.check(&store, self.demand(u64::MAX, true));
        self.expected.keep_found(&store, &found);
        store.close().unwrap();
        Saved {
            disk: self.disk.crash(Crash::Kill),
            now_ms: self.clock.now_ms(),
            flush,
            expected: self.expected,
            messages: self.messages,
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    fn open_on(&self, disk: &MemoryDisk) -> Result<Store, OpenError> {
        let (disk, clock) = (Arc::new(disk.clone()), Arc::new(self.clock.clone()));
        Store::open_without_threads(disk, clock, self.config.clone()).map(|(store, _)| store)
    }

    pub(crate) fn open(&mut self) -> Result<(), OpenError> {
        self.disk = self.disk.for_a_new_process();
        self.store = Some(self.open_on(&self.disk)?);
        Ok(())
    }

    /// Did the planned fault strike whatever makes something durable, while the store was open?
    fn log_failed(&self) -> bool {
        self.disk.flush_gate().failure().is_some()
    }

    fn demand(&self, end: u64, only_a_suffix_is_lost: bool) -> Demand {
        Demand { end, only_a_suffix_is_lost, now_ms: self.clock.now_ms() }
    }

    /// Does it, and checks what the store says to it.
    pub(crate) fn apply(&mut self, op: &Op) {
        let had_failed = self.disk.failed().is_some();
        match *op {
            Op::Batch { topic, count, body } => self.append(topic, &|n| n as u32 % QUEUES, count, body),
            Op::Burst { topic, queue, count } => {
                (0..count).for_each(|_| self.append(topic, &|_| queue, 1, 3));
            }
            Op::Flush => self.must_be_well(self.store().flush().is_ok()),
            Op::Snapshot => {
                let done = self.store().snapshot().is_ok();
                assert!(done || self.disk.failed().is_some(), "nothing keeps it from a snapshot");
                assert!(!(done && self.log_failed()), "a snapshot counts on a log that is flushed");
            }
            Op::Housekeep { rounds } => {
                (0..rounds).for_each(|_| self.store().housekeep());
                let refusing = self.store().state().refusing;
                // A fault just now may keep it from room for once.
                let may_refuse = self.log_failed() || !had_failed && self.disk.failed().is_some();
                assert!(refusing.is_none() || may_refuse, "{refusing:?}");
            }
            Op::Delete { topic } => {
                self.store().delete_topic(TOPICS[topic]);
                self.expected.queues.retain(|key, _| key.0 != topic);
                if self.log_failed() || !had_failed && self.disk.failed().is_some() {
                    self.expected.unsure.push(topic);
                }
            }
            Op::Scrub => while self.store().scrub() {},
            Op::Wait { seconds } => self.clock.advance_ms(seconds as i64 * 1000),
            Op::Read { topic, queue } => self.read(topic, queue, had_failed),
        }
        self.hear();
    }

    /// Appends a batch, and again if the one fault that there is kept the log from growing.
    fn append(&mut self, topic: usize, queue: &dyn Fn(usize) -> u32, count: usize, len: usize) {
        let properties = Properties::default();
        let messages: Vec<_> = (0..count)
            .map(|n| {
                self.messages += 1;
                message(TOPICS[topic], queue(n), expected::body((self.messages, 8 + len)))
            })
            .collect();
        let records: Vec<_> = messages.iter().map(|message| record(message, &properties)).collect();
        let mut result = self.store().append(&records);
        if let Err(AppendError::DiskFull(why)) = &result {
            assert!(self.disk.failed().is_some(), "the disk is not full: {why}");
            self.store().housekeep();
            result = self.store().append(&records);
        }
        let appended = match result {
            Ok(appended) => appended,
            Err(error) => {
                assert!(self.log_failed(), "only a failed flush closes the log: {error}");
                assert!(matches!(&error, AppendError::Closed(why) if why.contains("failed")), "{error}");
                return;
            }
        };
        assert!(!self.log_failed(), "nothing is appended to a log that failed");
        let bytes = (appended.end.0 - appended.start.0) / count as u64;
        for (n, (message, offset)) in messages.into_iter().zip(&appended.queue_offsets).enumerate() {
            let sent = self.expected.queues.entry((topic, message.queue)).or_default();
            assert!(
                sent.last_key_value().is_none_or(|(last, _)| last + 1 == offset.0),
                "queue offsets have no gaps"
            );
            let sent_now = Sent {
                start: appended.start.0 + n as u64 * bytes,
                batch_end: appended.end.0,
                stored_at_ms: appended.stored_at_ms,
                body: digest(&message.body),
            };
            sent.insert(offset.0, sent_now);
        }
        let (number, heard) = (self.asked.len(), Arc::clone(&self.heard));
        self.asked.push((appended.end.0, false));
        let then = move |result| heard.lock().unwrap().push((number, result));
        self.store().on_confirmed(appended.end, Box::new(then));
    }

    fn read(&self, topic: usize, queue: u32, had_failed: bool) {
        let bounds = bounds(self.store(), (topic, queue));
        let from = QueueOffset(bounds.start.0 + (bounds.end.0 - bounds.start.0) / 3);
        let at_ms = self.clock.now_ms() - 20_000;
        let read = try_found(self.store(), (topic, queue), from).and_then(|found| {
            let first = self.store().offset_at_time(TOPICS[topic], QueueId(queue), at_ms)?;
            Ok((found, first))
        });
        let (found, first) = match read {
            Ok(read) => read,
            Err(error) => {
                let just_now = !had_failed && self.disk.failed().is_some();
                assert!(just_now && matches!(error, ReadError::Io(_)), "{error}");
                return;
            }
        };
        let Some(sent) = self.expected.queues.get(&(topic, queue)) else {
            return assert!(found.is_empty());
        };
        let visible = sent.range(from.0..bounds.end.0);
        assert!(visible.map(|(offset, message)| (offset, &message.body)).eq(&found), "what was sent is read");
        let young =
            sent.range(bounds.start.0..bounds.end.0).find(|(_, message)| message.stored_at_ms >= at_ms);
        assert_eq!(first.0, young.map_or(bounds.end.0, |young| *young.0), "the first at or after a time");
    }

    /// What a flush said must fit what happened to the disk.
    fn must_be_well(&self, well: bool) {
        assert_eq!(well, !self.log_failed(), "the log fails with a flush, and with nothing else");
    }

    /// Takes the answers that came.
    fn hear(&mut self) {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap());
        if heard.is_empty() && !self.log_failed() {
            return;
        }
        let state = self.store().state();
        assert!(state.min <= state.flushed && state.flushed <= state.appended, "{state:?}");
        assert!(state.min <= state.confirmed && state.confirmed <= state.appended, "{state:?}");
        if self.log_failed() {
            let at = *self.failed_at.get_or_insert(state.flushed.0);
            assert_eq!(state.flushed.0, at, "nothing is durable any more");
            let refusing = state.refusing.expect("a log that failed takes nothing");
            let reasons = ["the disk was told to fail", "the store was closed"];
            assert!(reasons.iter().any(|reason| refusing.contains(reason)), "{refusing}");
        }
        for (number, result) in heard {
            let (end, answered) = &mut self.asked[number];
            assert!(!std::mem::replace(answered, true), "everybody is answered once");
            match (&result, self.config.flush) {
                (Ok(()), Flush::Sync) => assert!(*end <= state.flushed.0, "confirmed and not flushed"),
                (Ok(()), Flush::Async) => {}
                (Err(error), _) => assert!(self.failed_at.is_some(), "{error}"),
            }
        }
    }

    /// Compares the open store with what it must have.
    pub(crate) fn check(&self) {
        assert_eq!(self.store().damaged(1), [], "a disk that fails does not rot");
        self.expected.check(self.store(), self.demand(self.store().state().confirmed.0, true));
    }

    /// Closes the store, and sees that everybody was answered.
    pub(crate) fn close(&mut self) {
        let failed_before = self.log_failed();
        let closed = self.store().close();
        // What is written once all is durable may fail as well.
        assert!(if closed.is_ok() { !failed_before } else { self.log_failed() }, "{closed:?}");
        self.hear();
        assert!(self.asked.iter().all(|asked| asked.1), "everybody is answered");
        let (appended, flushed) = (self.store().state().appended, self.store().state().flushed);
        assert!(closed.is_err() || flushed == appended, "a store that closed well is durable");
    }

    /// Housekeeping makes up for a deletion that could not be written down, while the disk makes anything durable.
    pub(crate) fn settle(&mut self) {
        if self.log_failed() {
            return;
        }
        if !std::mem::take(&mut self.expected.unsure).is_empty() {
            self.store().housekeep();
            self.crash(Crash::LoseUnsynced);
        }
    }

    /// Looks at what this crash would leave just now. The store goes on as if nothing had been.
    pub(crate) fn crash(&self, crash: Crash) {
        let state = self.store.as_ref().map(|store| store.state());
        // Before it was opened: all that there is had been flushed.
        let (appended, flushed) =
            state.map_or((u64::MAX, u64::MAX), |state| (state.appended.0, state.flushed.0));
        let end = if matches!(crash, Crash::Kill) { appended } else { flushed };
        let only_a_suffix_is_lost = self.config.flush == Flush::Async;
        let left = self.disk.crash(crash);
        let store = self.open_on(&left).unwrap_or_else(|error| panic!("after {crash:?}: {error}"));
        let found = self.expected.check(&store, self.demand(end, only_a_suffix_is_lost));
        // What it has now, it says to be durable.
        let (expected, end) = self.go_on(&store, &found);
        let lost = self.open_on(&left.crash(Crash::LoseUnsynced)).unwrap();
        expected.check(&lost, self.demand(end, only_a_suffix_is_lost));
    }

    /// Appends one more to each queue after a crash, and flushes.
    fn go_on(&self, store: &Store, found: &BTreeMap<Key, Found>) -> (Expected, u64) {
        let mut expected = self.expected.clone();
        expected.keep_found(store, found);
        for key in [(0, 0), (1, 1)] {
            let message = message(TOPICS[key.0], key.1, u64::MAX.to_be_bytes());
            let next = bounds(store, key).end;
            let appended = store.append(&[record(&message, &Properties::default())]).unwrap();
            assert_eq!(appended.queue_offsets, [next]);
            let sent = Sent {
                start: appended.start.0,
                batch_end: appended.end.0,
                stored_at_ms: appended.stored_at_ms,
                body: digest(&message.body),
            };
            expected.queues.entry(key).or_default().insert(next.0, sent);
        }
        store.flush().unwrap();
        let end = store.state().flushed.0;
        (expected, end)
    }
}
