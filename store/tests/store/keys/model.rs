//! Random operations, crashes and damage included, against a list of messages.

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::prelude::*;
use store::disk::Crash;
use store::{By, Flush, QueueId, QueueOffset, Store};

use super::{EVER, append, bodies, files};
use crate::support::House;

const TOPICS: [&str; 2] = ["orders", "bills"];
const KEYS: [&str; 4] = ["a", "b", "鍵", "zz"];

#[derive(Clone, Debug)]
enum Op {
    Append {
        topic: usize,
        keys: Vec<usize>,
        count: usize,
    },
    Flush,
    Work,
    Wait {
        seconds: i64,
    },
    Delete {
        topic: usize,
    },
    Reopen,
    Crash(Crash),
    /// Flips a bit of a file of the index; the store is open, or reopened after.
    Damage {
        file: prop::sample::Index,
        at: prop::sample::Index,
        reopen: bool,
    },
    /// A file of the index, or all, are removed while the store is closed.
    Lose {
        file: Option<prop::sample::Index>,
    },
    /// The index is off for a while: it is not there when these are appended.
    Without {
        count: usize,
    },
    Find {
        from: i64,
        len: i64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let append =
        (0..TOPICS.len(), prop::collection::vec(0..KEYS.len(), 0..4), prop_oneof![1..5usize, 20..60usize])
            .prop_map(|(topic, keys, count)| Op::Append { topic, keys, count });
    let crash = prop_oneof![Just(Crash::Kill), Just(Crash::LoseUnsynced), any::<u64>().prop_map(Crash::Tear)];
    prop_oneof![
        8 => append,
        3 => Just(Op::Flush),
        4 => Just(Op::Work),
        2 => (1..40i64).prop_map(|seconds| Op::Wait { seconds }),
        1 => (0..TOPICS.len()).prop_map(|topic| Op::Delete { topic }),
        2 => Just(Op::Reopen),
        3 => crash.prop_map(Op::Crash),
        3 => (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(file, at, reopen)| Op::Damage { file, at, reopen }),
        1 => prop::option::of(any::<prop::sample::Index>()).prop_map(|file| Op::Lose { file }),
        1 => (1..30usize).prop_map(|count| Op::Without { count }),
        3 => (-5..120i64, 0..60i64).prop_map(|(from, len)| Op::Find { from, len }),
    ]
}

/// What is known of a message.
#[derive(Clone, Debug)]
struct Sent {
    id: String,
    keys: Vec<usize>,
    queue_offset: u64,
    start: u64,
    end: u64,
    stored_at_ms: i64,
}

struct Run {
    house: House,
    store: Store,
    /// Of each topic, in the order of the log.
    sent: BTreeMap<usize, Vec<Sent>>,
    count: u64,
    /// A file of the index may be damaged.
    damaged: bool,
}

impl Run {
    fn new(flush: Flush) -> Self {
        let mut house = super::house(flush, 6);
        house.config.retention = std::time::Duration::from_secs(60);
        let (store, _) = house.open();
        Self { house, store, sent: BTreeMap::new(), count: 0, damaged: false }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append { topic, keys, count } => self.append(*topic, keys, *count),
            Op::Flush => self.store.flush().unwrap(),
            Op::Work => self.store.housekeep(),
            Op::Wait { seconds } => self.house.clock.advance_ms(seconds * 1000),
            Op::Delete { topic } => {
                self.store.delete_topic(TOPICS[*topic]);
                self.sent.remove(topic);
            }
            Op::Reopen => {
                self.store.close().unwrap();
                let before = files(&self.house);
                self.store = self.house.open().0;
                let kept: Vec<_> = before.into_iter().filter(|file| !self.is_deleted(file)).collect();
                assert!(
                    kept.iter().all(|file| files(&self.house).contains(file)) || self.damaged,
                    "{kept:?} are good"
                );
                self.damaged = false;
            }
            Op::Crash(crash) => self.crash(*crash),
            Op::Damage { file, at, reopen } => {
                self.damaged = true;
                let damage = |house: &House| {
                    let files = files(house);
                    if !files.is_empty() {
                        let flip = |bytes: &mut Vec<u8>| {
                            if !bytes.is_empty() {
                                let at = at.index(bytes.len());
                                bytes[at] ^= 0x10;
                            }
                        };
                        house.disk.edit(&files[file.index(files.len())], flip);
                    }
                };
                if *reopen { self.reopen(damage) } else { damage(&self.house) }
            }
            Op::Lose { file } => self.reopen(|house| {
                let files = files(house);
                for (n, path) in files.iter().enumerate() {
                    if file.is_none_or(|file| file.index(files.len()) == n) {
                        store::disk::Disk::remove(&house.disk, path).unwrap();
                    }
                }
            }),
            Op::Without { count } => {
                self.house.config.index_keys = false;
                self.reopen(|_| ());
                self.append(0, &[1], *count);
                self.house.config.index_keys = true;
                self.reopen(|_| ());
            }
            Op::Find { from, len } => {
                let from = 1_000_000 + from * 1000 + 300;
                self.check(from..from + len * 1000);
            }
        }
    }

    /// Does this file of the index speak only of what retention removed?
    fn is_deleted(&self, file: &std::path::Path) -> bool {
        let name = file.file_name().unwrap().to_str().unwrap();
        name[21..].parse::<u64>().unwrap() <= self.store.state().min.0
    }

    fn append(&mut self, topic: usize, keys: &[usize], count: usize) {
        for _ in 0..count {
            self.count += 1;
            let id = format!("id-{}", self.count);
            let words: Vec<_> = keys.iter().map(|key| KEYS[*key]).collect();
            let appended = append(&self.store, TOPICS[topic], &id, &words.join(" "));
            self.sent.entry(topic).or_default().push(Sent {
                id,
                keys: keys.to_vec(),
                queue_offset: appended.queue_offsets[0].0,
                start: appended.start.0,
                end: appended.end.0,
                stored_at_ms: appended.stored_at_ms,
            });
        }
    }

    fn reopen(&mut self, meanwhile: impl FnOnce(&House)) {
        self.store.close().unwrap();
        meanwhile(&self.house);
        self.store = self.house.open().0;
    }

    fn crash(&mut self, crash: Crash) {
        self.house = self.house.crash(crash);
        let (store, recovered) = self.house.open();
        self.store = store;
        for (topic, sent) in &mut self.sent {
            let bounds = self.store.queue_bounds(TOPICS[*topic], QueueId(0));
            let entries = self.store.entries(TOPICS[*topic], QueueId(0), bounds.start, usize::MAX).unwrap();
            let present: Vec<_> =
                entries.iter().map(|entry| (entry.queue_offset, entry.log_offset.0)).collect();
            sent.retain(|sent| {
                sent.end <= recovered.end.0
                    && (sent.start < self.store.state().min.0
                        || present.contains(&(QueueOffset(sent.queue_offset), sent.start)))
            });
        }
    }

    fn check(&self, stored_ms: Range<i64>) {
        let state = self.store.state();
        for (topic, name) in TOPICS.iter().enumerate() {
            let sent = self.sent.get(&topic).map(Vec::as_slice).unwrap_or_default();
            let expected = |wanted: &dyn Fn(&Sent) -> bool| -> Vec<String> {
                let there = sent.iter().rev().filter(|sent| {
                    (state.min.0..state.confirmed.0).contains(&sent.start)
                        && sent.end <= state.confirmed.0
                        && stored_ms.contains(&sent.stored_at_ms)
                });
                there.filter(|sent| wanted(sent)).map(|sent| sent.id.clone()).collect()
            };
            for (key, word) in KEYS.iter().enumerate() {
                let found = self.store.find(name, By::Key(word), stored_ms.clone(), usize::MAX).unwrap();
                assert_eq!(bodies(&found), expected(&|sent| sent.keys.contains(&key)), "{name} {word}");
                assert_eq!((found.more, found.unsearched_bytes), (false, 0));
            }
            // An old one, a new one, and one that never was.
            for n in [self.count / 3, self.count, self.count + 1] {
                let id = format!("id-{n}");
                let found = self.store.find(name, By::Id(&id), stored_ms.clone(), 5).unwrap();
                assert_eq!(bodies(&found), expected(&|sent| sent.id == id), "{name} {id}");
            }
        }
    }
}

fn run(flush: Flush, ops: &[Op]) {
    let mut run = Run::new(flush);
    for (n, op) in ops.iter().enumerate() {
        run.apply(op);
        // Looking makes the index catch up: not always, so that other things happen to one that is behind.
        if n % 3 == 2 {
            run.check(EVER);
        }
    }
    run.check(EVER);
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
    fn with_async_flush_what_is_found_is_what_a_list_has(ops in prop::collection::vec(op(), 1..40)) {
        run(Flush::Async, &ops);
    }

    #[test]
    fn with_sync_flush_what_is_found_is_what_a_list_has(ops in prop::collection::vec(op(), 1..40)) {
        run(Flush::Sync, &ops);
    }
}
