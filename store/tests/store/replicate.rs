//! A log that other members of a group copy, and their copies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;
use store::disk::Crash;
use store::{
    By, Confirm, CopyError, CutBackError, Flush, LogOffset, Properties, QueueId, QueueOffset, ReadError,
    Store, Stretch, StretchError,
};

use crate::support::{Dice, House, append, bodies, fill, message, numbers, record, same};

const PREPARED: i32 = 1 << 2;

/// A member that others tell what is confirmed.
fn member(flush: Flush) -> House {
    let mut house = House::new(flush);
    house.config.confirm = Confirm::Told;
    house
}

/// Did a wait end well?
type Outcome = Arc<Mutex<Option<bool>>>;
type Then = Box<dyn FnOnce(Result<(), store::FlushFailed>) + Send>;

/// Notes how a wait ended.
fn outcome() -> (Outcome, Then) {
    let told = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&told);
    (told, Box::new(move |result| *tell.lock() = Some(result.is_ok())))
}

/// Copies what `from` has, `max` bytes at a time.
fn copy(from: &Store, to: &Store, max: usize) {
    loop {
        let at = to.state().appended;
        let Stretch { bytes, next, damaged } = from.stretch(at, max).unwrap();
        if bytes.is_empty() {
            return assert_eq!(next, at);
        }
        assert_eq!(to.append_stretch(at, &bytes, damaged).unwrap(), next);
    }
}

/// The bytes of the log's files up to its end.
fn log_bytes(house: &House, store: &Store) -> Vec<u8> {
    use store::disk::Disk as _;
    let (min, end) = (store.state().min.0, store.state().appended.0);
    let mut bytes: Vec<u8> = (min / 4096 * 4096..end)
        .step_by(4096)
        .flat_map(|base| house.disk.read(&house.segment(base)).unwrap())
        .collect();
    bytes.truncate((end - min) as usize);
    bytes
}

/// Queues, records and keys of both are the same.
fn assert_same(one: (&House, &Store), other: (&House, &Store), topics: &[&str]) {
    assert_eq!(log_bytes(one.0, one.1), log_bytes(other.0, other.1));
    for topic in topics {
        for queue in 0..3 {
            let bounds = one.1.queue_bounds(topic, QueueId(queue));
            assert_eq!(other.1.queue_bounds(topic, QueueId(queue)), bounds, "{topic} {queue}");
            let all = |store: &Store| bodies(store, topic, queue, bounds.start.0);
            assert_eq!(all(one.1), all(other.1), "{topic} {queue}");
        }
        for key in ["k0", "k1", "k2"] {
            let found = |store: &Store| -> Vec<_> {
                let found = store.find(topic, By::Key(key), i64::MIN..i64::MAX, 1000).unwrap();
                assert_eq!(found.unsearched_bytes, 0);
                found.records.iter().map(|record| record.log_offset).collect()
            };
            assert_eq!(found(one.1), found(other.1), "{topic} {key}");
        }
    }
}

#[test]
fn nothing_is_confirmed_beyond_what_was_told_and_what_is_durable() {
    for flush in [Flush::Async, Flush::Sync] {
        let house = member(flush);
        let (store, _) = house.open();
        let places = fill(&store, "t", 4);
        let end = LogOffset(places[4]);
        let (durable, then) = outcome();
        store.on_durable(end, then);
        let (confirmed, then) = outcome();
        store.on_confirmed(LogOffset(places[2]), then);
        assert_eq!(*durable.lock(), (flush == Flush::Async).then_some(true));
        assert_eq!(numbers(&store, "t"), same(0..0));

        store.confirm_to(LogOffset(places[2]));
        assert_eq!(*confirmed.lock(), (flush == Flush::Async).then_some(true));
        store.flush().unwrap();
        assert_eq!((*durable.lock(), *confirmed.lock()), (Some(true), Some(true)));
        assert_eq!((store.durable(), store.confirmed()), (end, LogOffset(places[2])));
        assert_eq!(numbers(&store, "t"), same(0..2));

        // It never goes back, and may be ahead of the log.
        store.confirm_to(LogOffset(places[1]));
        assert_eq!(store.confirmed(), LogOffset(places[2]));
        let (all, then) = outcome();
        store.on_confirmed(end, then);
        store.confirm_to(LogOffset(u64::MAX));
        assert_eq!((*all.lock(), store.confirmed()), (Some(true), end));
        append(&store, &message("t", 0, "4"));
        store.flush().unwrap();
        assert_eq!(numbers(&store, "t"), same(0..5));
    }
}

#[test]
fn what_is_not_confirmed_waits_over_restarts_and_its_offsets_are_taken() {
    for flush in [Flush::Async, Flush::Sync] {
        for crash in [None, Some(Crash::Kill), Some(Crash::LoseUnsynced)] {
            let house = member(flush);
            let (store, _) = house.open();
            let places = fill(&store, "t", 200);
            store.confirm_to(LogOffset(places[120]));
            store.flush().unwrap();
            (0..70).for_each(|_| store.housekeep());
            store.snapshot().unwrap();
            store.confirm_to(LogOffset(places[150]));
            let left = match crash {
                Some(crash) => house.crash(crash),
                None => {
                    store.close().unwrap();
                    house.crash(Crash::Kill)
                }
            };
            let (store, recovered) = left.open();
            assert_eq!(recovered.end.0, places[200]);
            let confirmed = places.iter().position(|place| *place == store.confirmed().0).unwrap();
            assert!((120..=150).contains(&confirmed), "{confirmed}");
            assert!(crash.is_some() || confirmed == 150, "closing notes it exactly");
            assert_eq!(numbers(&store, "t"), same(0..confirmed as u64));
            let next = append(&store, &message("t", 0, "200"));
            assert_eq!(next.queue_offsets, [QueueOffset(200)]);
            store.flush().unwrap();
            store.snapshot().unwrap();
            assert_eq!(numbers(&store, "t"), same(0..confirmed as u64));
            store.confirm_to(next.end);
            assert_eq!(numbers(&store, "t"), same(0..201));
            store.close().unwrap();
            let (store, recovered) = left.open();
            assert_eq!((recovered.replayed_records, numbers(&store, "t")), (0, same(0..201)));
        }
    }
}

#[test]
fn who_waits_for_others_hears_that_the_store_was_closed() {
    let house = member(Flush::Sync);
    let (store, _) = house.open();
    let end = append(&store, &message("t", 0, "0")).end;
    let (durable, then) = outcome();
    store.on_durable(end, then);
    let (confirmed, then) = outcome();
    store.on_confirmed(end, then);
    store.close().unwrap();
    assert_eq!((*durable.lock(), *confirmed.lock()), (Some(true), Some(false)));
    let (later, then) = outcome();
    store.on_confirmed(end, then);
    assert_eq!(*later.lock(), Some(false));
}

#[test]
fn segments_that_are_not_confirmed_stay() {
    let house = member(Flush::Async);
    let (store, _) = house.open();
    let places = fill(&store, "t", 200);
    let third = *places.iter().find(|place| **place >= 3 * 4096).unwrap();
    store.confirm_to(LogOffset(third));
    house.clock.advance_ms(100 * 3600 * 1000);
    fill(&store, "t", 1);
    store.flush().unwrap();
    store.housekeep();
    assert_eq!(store.state().min.0, 3 * 4096);
}

#[test]
fn members_on_the_real_disk_copy_confirm_and_cut_back_with_their_threads() {
    for flush in [Flush::Async, Flush::Sync] {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let configs = dirs.each_ref().map(|dir| store::Config {
            segment_bytes: 64 << 10,
            flush,
            confirm: Confirm::Told,
            ..store::Config::new(dir.path())
        });
        let open = |index: usize| Store::open(configs[index].clone()).unwrap();
        let ((from, _), (to, _)) = (open(0), open(1));
        fill(&from, "t", 2000);
        let shared = from.state().appended;
        copy(&from, &to, 10_000);
        let wait = |wait: &dyn Fn(Then)| {
            let (tell, told) = std::sync::mpsc::channel();
            wait(Box::new(move |result| drop(tell.send(result))));
            told.recv().unwrap().unwrap();
        };
        for store in [&from, &to] {
            wait(&|then| store.on_durable(shared, then));
            assert_eq!(numbers(store, "t"), same(0..0));
        }
        for store in [&from, &to] {
            store.confirm_to(shared);
            wait(&|then| store.on_confirmed(shared, then));
            assert_eq!(numbers(store, "t"), same(0..2000));
        }
        fill(&to, "other", 1500);
        to.close().unwrap();
        drop(to);
        store::cut_back(Arc::new(store::disk::RealDisk::default()), &configs[1], shared).unwrap();
        fill(&from, "t", 10);
        let (to, recovered) = open(1);
        assert_eq!((recovered.end, to.confirmed(), recovered.interrupted), (shared, shared, false));
        copy(&from, &to, 10_000);
        let end = from.state().appended;
        to.confirm_to(end);
        wait(&|then| to.on_confirmed(end, then));
        assert_eq!(to.queue_bounds("t", QueueId(0)).end, QueueOffset(2010));
        assert_eq!(numbers(&to, "other"), same(0..0));
        to.close().unwrap();
    }
}

#[test]
fn whoever_listens_hears_each_end_of_the_log() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let heard = Arc::new(AtomicU64::new(0));
    let hears = Arc::clone(&heard);
    store.on_appended(Box::new(move |end| hears.store(end.0, Ordering::Relaxed)));
    for _ in 0..100 {
        let end = append(&store, &message("t", 0, "a")).end;
        assert_eq!(heard.load(Ordering::Relaxed), end.0);
    }
}

#[test]
fn a_copy_has_the_same_bytes_queues_and_keys_however_it_is_cut_and_goes_on_behind() {
    for max in [0, 1, 100, 150, 1000, 4096, 100_000] {
        let primary = House::new(Flush::Async);
        let (from, _) = primary.open();
        fill(&from, "t", 100);
        append(&from, &message("t", 1, vec![b'x'; 3000]));
        fill(&from, "t", 3);
        let copied = House { clock: primary.clock.clone(), ..House::new(Flush::Sync) };
        let (to, _) = copied.open();
        copy(&from, &to, max);
        to.flush().unwrap();
        assert_same((&primary, &from), (&copied, &to), &["t"]);
        assert_eq!(to.state().damaged.found, 0);
        // Both go on the same.
        for store in [&from, &to] {
            append(store, &message("t", 0, "next"));
        }
        to.flush().unwrap();
        assert_same((&primary, &from), (&copied, &to), &["t"]);
        let end = from.state().appended;
        assert!(from.stretch(end, 10).unwrap().bytes.is_empty());
        let beyond = from.stretch(end.plus(1), 10);
        assert!(matches!(beyond, Err(StretchError::NeverWritten { end: found }) if found == end));
        let again = to.append_stretch(LogOffset(0), &from.stretch(LogOffset(0), 10).unwrap().bytes, false);
        assert!(matches!(again, Err(CopyError::NotAtEnd { at: LogOffset(0), end: found }) if found == end));
    }
}

#[test]
fn old_records_are_copied_past_the_mapping() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "t", 300);
    store.close().unwrap();
    let (from, _) = house.open();
    let copied = House::new(Flush::Async);
    let (to, _) = copied.open();
    copy(&from, &to, 700);
    assert!(from.state().cold_read_bytes > 0);
    assert_same((&house, &from), (&copied, &to), &["t"]);
}

#[test]
fn damage_is_copied_as_it_is_and_known_for_what_it_is() {
    for max in [1, 200, 100_000] {
        for (first, last) in [(20, 20), (40, 43), (30, 60), (99, 99)] {
            let house = House::new(Flush::Async);
            let (store, _) = house.open();
            let places = fill(&store, "t", 100);
            store.close().unwrap();
            for place in &places[first..=last] {
                let (base, at) = (place / 4096 * 4096, place % 4096 + 40);
                house.disk.edit(&house.segment(base), |bytes| bytes[at as usize] ^= 1);
            }
            let (from, _) = house.open();
            let (copied, third) = (House::new(Flush::Async), House::new(Flush::Async));
            let ((to, _), (behind, _)) = (copied.open(), third.open());
            copy(&from, &to, max);
            copy(&to, &behind, max);
            let expected = same((0..100).filter(|n| !(first..=last).contains(&(*n as usize))));
            for (house, store) in [(&copied, &to), (&third, &behind)] {
                assert_eq!(numbers(store, "t"), expected, "{first} {last}");
                assert_eq!(log_bytes(house, store), log_bytes(&third, &behind));
                assert!(store.state().damaged.places >= 1);
            }
            // With nothing behind it, damage that is not known to be durable is a torn tail.
            if last < 99 {
                to.close().unwrap();
                assert_eq!(numbers(&copied.open().0, "t"), expected, "{first} {last}");
            }
        }
    }
}

#[test]
fn what_is_no_stretch_is_refused_and_leaves_no_trace() {
    let primary = House::new(Flush::Async);
    let (from, _) = primary.open();
    fill(&from, "t", 60);
    let mut dice = Dice(7);
    let copied = House::new(Flush::Async);
    let (to, _) = copied.open();
    loop {
        let at = to.state().appended;
        let Stretch { bytes, next, damaged } = from.stretch(at, 500).unwrap();
        if bytes.is_empty() {
            break;
        }
        let before = log_bytes(&copied, &to);
        for _ in 0..40 {
            let mut other = bytes.to_vec();
            match dice.below(5) {
                0 => other.truncate(1 + dice.below(bytes.len() - 1)),
                1 => other.extend(std::iter::repeat_n(0, 1 + dice.below(9))),
                2 => drop(other.drain(..1 + dice.below(bytes.len() - 1))),
                3 => other.rotate_left(1 + dice.below(bytes.len() - 1)),
                _ => {
                    let at = dice.below(bytes.len());
                    other[at] ^= 1 << dice.below(8);
                }
            }
            // Cut between two records it is a stretch, and turned by all of one record of like ones it is the same.
            if bytes.starts_with(&other) {
                continue;
            }
            let refused = to.append_stretch(at, &other, false);
            assert!(matches!(refused, Err(CopyError::Invalid { .. })), "{refused:?}");
            // Of a blank alone nobody can say that it is no damage.
            if bytes.len() > 8 {
                let whole = to.append_stretch(at, &bytes, true);
                assert!(matches!(whole, Err(CopyError::Invalid { .. })), "{whole:?}");
            }
            assert_eq!((log_bytes(&copied, &to), to.state().appended), (before.clone(), at));
        }
        assert_eq!(to.append_stretch(at, &bytes, damaged).unwrap(), next);
    }
    assert_same((&primary, &from), (&copied, &to), &["t"]);
}

#[test]
fn a_copy_may_begin_where_the_log_does() {
    let primary = House::new(Flush::Async);
    let (from, _) = primary.open();
    fill(&from, "t", 100);
    primary.clock.advance_ms(73 * 3600 * 1000);
    fill(&from, "t", 100);
    from.flush().unwrap();
    from.housekeep();
    let min = from.state().min;
    assert!(min.0 > 0);
    let gone = from.stretch(LogOffset(0), 10);
    assert!(matches!(gone, Err(StretchError::Deleted { min: found }) if found == min));
    let mut copied = House::new(Flush::Async);
    copied.config.first_offset = Some(min.0 + 1);
    assert!(matches!(copied.try_open(), Err(store::OpenError::FirstOffset { .. })));
    copied.config.first_offset = Some(min.0);
    let (to, _) = copied.open();
    assert_eq!((to.state().min, to.state().appended), (min, min));
    copy(&from, &to, 1000);
    assert_same((&primary, &from), (&copied, &to), &["t"]);
    to.close().unwrap();
    let (to, _) = copied.open();
    assert_same((&primary, &from), (&copied, &to), &["t"]);
}

#[test]
fn a_topic_that_is_deleted_in_a_copy_stays_deleted_although_it_is_not_confirmed() {
    let primary = House::new(Flush::Async);
    let (from, _) = primary.open();
    fill(&from, "t", 30);
    fill(&from, "kept", 3);
    let before = from.deletions();
    let deleted = from.delete_topics(["t", "unknown"]);
    assert!(from.deletions() > before, "whoever keeps them looks again");
    let end = from.state().appended;
    assert_eq!(deleted, [("t", end)]);
    assert_eq!(from.deleted_topics(), [("t".to_owned(), end)]);
    let copied = member(Flush::Async);
    let (to, _) = copied.open();
    copy(&from, &to, 500);
    assert_eq!(to.delete_topic("t"), Some(end));
    fill(&from, "t", 2);
    copy(&from, &to, 500);
    let left = copied.crash(Crash::Kill);
    let (reopened, _) = left.open();
    for store in [&to, &reopened] {
        assert_eq!(numbers(store, "kept"), same(0..0));
        store.confirm_to(LogOffset(u64::MAX));
        assert_eq!(numbers(store, "t"), same(0..2));
        assert_eq!(numbers(store, "kept"), same(0..3));
    }
}

/// Two members with the same log up to a place, confirmed before that, and then each its own. Returns the place.
fn parted(flush: Flush) -> (House, Store, House, Store, LogOffset) {
    let (primary, mut other) = (member(flush), member(flush));
    other.clock = primary.clock.clone();
    let ((from, _), (to, _)) = (primary.open(), other.open());
    fill(&from, "t", 150);
    from.delete_topic("t");
    fill(&from, "t", 120);
    copy(&from, &to, 1000);
    for store in [&from, &to] {
        store.confirm_to(from.state().appended);
        store.flush().unwrap();
        (0..70).for_each(|_| store.housekeep());
        store.snapshot().unwrap();
    }
    fill(&from, "t", 20);
    copy(&from, &to, 1000);
    let shared = from.state().appended;
    (primary, from, other, to, shared)
}

/// Keys are in the tail too.
fn append_key(store: &Store, topic: &str, key: &str, count: usize) {
    let mut properties = Properties::default();
    properties.push("KEYS", key);
    for n in 0..count {
        store.append(&[record(&message(topic, 1, n.to_string()), &properties)]).unwrap();
    }
}

#[test]
fn a_log_that_is_cut_back_can_follow_another_as_if_it_had_always() {
    for flush in [Flush::Async, Flush::Sync] {
        for confirms in [false, true] {
            let (primary, from, other, to, shared) = parted(flush);
            append_key(&from, "t", "k1", 100);
            append_key(&from, "new", "k0", 3);
            append_key(&to, "t", "k0", 170);
            append_key(&to, "t", "k1", 5);
            append_key(&to, "other", "k2", 5);
            if confirms {
                // An unclean election: what it confirmed itself goes too.
                to.confirm_to(LogOffset(u64::MAX));
                to.flush().unwrap();
                to.snapshot().unwrap();
            }
            to.delete_topic("t");
            to.close().unwrap();
            let finish = |house: &House| {
                let (to, recovered) = house.open();
                assert_eq!((recovered.end, recovered.damaged.len()), (shared, 0));
                assert_eq!(to.confirmed().max(shared), shared);
                copy(&from, &to, 700);
                for store in [&from, &to] {
                    store.confirm_to(LogOffset(u64::MAX));
                    store.flush().unwrap();
                }
                assert_same((&primary, &from), (house, &to), &["t", "new", "other"]);
                to.close().unwrap();
                let (to, _) = house.open();
                assert_same((&primary, &from), (house, &to), &["t", "new", "other"]);
            };
            for call in 0.. {
                let left = other.crash(Crash::Kill);
                left.disk.fail_call(call);
                let outcome = left.cut_back(shared);
                for crash in [Crash::Kill, Crash::LoseUnsynced, Crash::Tear(call * 2 + 1)] {
                    let left = left.crash(crash);
                    // It opens as it is, and has at least what is shared.
                    if !matches!(crash, Crash::Kill) {
                        let looked_at = left.crash(Crash::Kill);
                        assert!(looked_at.open().1.end >= shared, "call {call}");
                    }
                    if outcome.is_err() {
                        left.cut_back(shared).unwrap();
                    }
                    let left = left.crash(Crash::LoseUnsynced);
                    finish(&left);
                }
                if outcome.is_ok() {
                    assert!(call > 10, "it takes more calls than {call}");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_log_is_cut_between_its_records_only_and_while_it_is_closed() {
    let house = member(Flush::Sync);
    let (store, _) = house.open();
    let places = fill(&store, "t", 100);
    let open = house.cut_back(LogOffset(0));
    assert!(matches!(open, Err(CutBackError::Open(store::OpenError::InUse(_)))));
    store.close().unwrap();
    let end = places[100];
    let within = house.cut_back(LogOffset(places[50] + 1));
    assert!(matches!(within, Err(CutBackError::WithinRecord { record, .. }) if record.0 == places[50]));
    for beyond in [end + 1, end + 100_000] {
        assert!(matches!(house.cut_back(LogOffset(beyond)), Err(CutBackError::NotInLog { .. })));
    }
    for count in [100, 50, places.iter().position(|place| *place == 4096).unwrap(), 0] {
        house.cut_back(LogOffset(places[count])).unwrap();
        let (store, recovered) = house.open();
        assert_eq!(recovered.end.0, places[count]);
        store.confirm_to(LogOffset(u64::MAX));
        assert_eq!(numbers(&store, "t"), same(0..count as u64));
        store.close().unwrap();
    }
}

#[test]
fn a_store_keeps_its_id_and_knows_that_the_machine_went_down() {
    let mut house = House::new(Flush::Async);
    house.config.boot_id = Some("first".to_owned());
    let (store, recovered) = house.open();
    assert!(!recovered.interrupted && !store.was_interrupted());
    append(&store, &message("t", 0, "0"));
    let id = store.id();
    let mut left = house.crash(Crash::Kill);
    let (_held_open, recovered) = left.open();
    assert!(!recovered.interrupted, "only the process died");
    left.config.boot_id = Some("second".to_owned());
    let left = left.crash(Crash::LoseUnsynced);
    let (store, recovered) = left.open();
    assert!(recovered.interrupted && store.was_interrupted());
    assert_eq!(store.id(), id);
    store.close().unwrap();
    let (store, _) = left.open();
    assert!(store.was_interrupted(), "closing does not bring anything back");
    store.trust_end().unwrap();
    assert!(!store.was_interrupted());
    assert!(!left.crash(Crash::LoseUnsynced).open().1.interrupted);
    assert_ne!(House::new(Flush::Async).open().0.id(), id);
}

#[derive(Clone, Debug)]
enum Op {
    Append { topic: usize, queue: u32, count: usize, body: usize, prepared: bool },
    Copy { max: usize, times: usize },
    Confirm,
    Flush,
    Housekeep { rounds: usize },
    Snapshot,
    Delete { topic: usize },
    Crash { replica: bool, crash: Crash },
    Close,
    Swap,
}

fn op() -> impl Strategy<Value = Op> {
    let append = (0..2usize, 0..3u32, 1..5usize, 0..400usize, prop::bool::weighted(0.1))
        .prop_map(|(topic, queue, count, body, prepared)| Op::Append { topic, queue, count, body, prepared });
    let copy = (0..3000usize, 1..6usize).prop_map(|(max, times)| Op::Copy { max, times });
    let crash = prop_oneof![Just(Crash::Kill), Just(Crash::LoseUnsynced), any::<u64>().prop_map(Crash::Tear)];
    prop_oneof![
        8 => append,
        8 => copy,
        3 => Just(Op::Confirm),
        2 => Just(Op::Flush),
        2 => prop_oneof![Just(1usize), Just(70usize)].prop_map(|rounds| Op::Housekeep { rounds }),
        2 => Just(Op::Snapshot),
        1 => (0..2usize).prop_map(|topic| Op::Delete { topic }),
        3 => (any::<bool>(), crash).prop_map(|(replica, crash)| Op::Crash { replica, crash }),
        1 => Just(Op::Close),
        1 => Just(Op::Swap),
    ]
}

const TOPICS: [&str; 2] = ["orders", "bills"];

struct Member {
    house: House,
    store: Store,
    /// Topics that were deleted at these places, which a crash took out of the log again: until it is there, what the log kept of
    /// them is gone and what followed comes back.
    half_deleted: Vec<(String, LogOffset)>,
}

impl Member {
    fn new(flush: Flush) -> Self {
        let house = member(flush);
        let (store, _) = house.open();
        Self { house, store, half_deleted: Vec::new() }
    }

    fn is_half_deleted(&self, topic: &str) -> bool {
        self.half_deleted.iter().any(|(deleted, at)| deleted == topic && self.end() < *at)
    }

    fn end(&self) -> LogOffset {
        self.store.state().appended
    }

    /// Crashes, and forgets what it cannot trust; nothing of it was confirmed.
    fn crash(&mut self, crash: Crash, confirmed: LogOffset) {
        let deleted = self.store.deleted_topics();
        self.house = self.house.crash(crash);
        let (store, recovered) = self.house.open();
        self.store = store;
        if let Some(torn_at) = recovered.torn_at {
            assert!(torn_at >= confirmed);
            self.store.close().unwrap();
            self.house.cut_back(torn_at).unwrap();
            let (store, recovered) = self.house.open();
            assert_eq!((recovered.end, recovered.torn_at), (torn_at, None));
            self.store = store;
        }
        let end = self.end();
        self.half_deleted.extend(deleted.into_iter().filter(|(_, at)| *at > end));
    }
}

/// A primary and a replica that never differs from it: the primary crashes only so that it loses nothing.
struct Pair {
    primary: Member,
    replica: Member,
    count: u64,
    /// What was confirmed to both.
    confirmed: LogOffset,
}

impl Pair {
    fn copy(&self, max: usize, times: usize) {
        let (from, to) = (&self.primary.store, &self.replica.store);
        for _ in 0..times {
            let at = self.replica.end();
            // Deletions are done where they were.
            let deleted = from.deleted_topics();
            let due = |end: LogOffset| deleted.iter().filter(move |topic| topic.1 == end);
            let to_next =
                deleted.iter().filter_map(|topic| topic.1.0.checked_sub(at.0)).filter(|len| *len > 0);
            let max = to_next.fold(max, |max, len| max.min(len as usize));
            to.delete_topics(due(at).map(|topic| topic.0.as_str()));
            let Stretch { bytes, next, damaged } = from.stretch(at, max).unwrap();
            assert!(!damaged && bytes.len() <= max.max(800));
            assert_eq!(to.append_stretch(at, &bytes, false).unwrap(), next);
            to.delete_topics(due(next).map(|topic| topic.0.as_str()));
        }
    }

    fn confirm(&mut self) {
        self.primary.store.flush().unwrap();
        self.replica.store.flush().unwrap();
        let end = self.primary.end().min(self.replica.end());
        self.confirmed = self.confirmed.max(end);
        for member in [&self.primary, &self.replica] {
            member.store.confirm_to(end);
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append { topic, queue, count, body, prepared } => {
                let messages: Vec<_> = (0..*count)
                    .map(|_| {
                        self.count += 1;
                        let mut content = self.count.to_be_bytes().to_vec();
                        content.resize(8 + body, b'x');
                        message(TOPICS[*topic], *queue, content)
                    })
                    .collect();
                let mut properties = Properties::default();
                properties.push("KEYS", ["k0", "k1", "k2"][self.count as usize % 3]);
                let sys_flag = if *prepared { PREPARED } else { 0 };
                let records: Vec<_> = messages
                    .iter()
                    .map(|message| store::NewRecord { sys_flag, ..record(message, &properties) })
                    .collect();
                self.primary.store.append(&records).unwrap();
            }
            Op::Copy { max, times } => self.copy(*max, *times),
            Op::Confirm => self.confirm(),
            Op::Flush => {
                self.primary.store.flush().unwrap();
                self.replica.store.flush().unwrap();
            }
            Op::Housekeep { rounds } => {
                for member in [&self.primary, &self.replica] {
                    (0..*rounds).for_each(|_| member.store.housekeep());
                }
            }
            Op::Snapshot => {
                self.primary.store.snapshot().unwrap();
                self.replica.store.snapshot().unwrap();
            }
            Op::Delete { topic } => {
                // A deletion is told to the replica at its place, so that place must not be passed before.
                self.copy(4096, 1000);
                for member in [&self.primary, &self.replica] {
                    member.store.delete_topic(TOPICS[*topic]);
                }
            }
            Op::Crash { replica: true, crash } => self.replica.crash(*crash, self.confirmed),
            Op::Crash { replica: false, crash } => {
                self.primary.store.flush().unwrap();
                self.primary.crash(*crash, self.confirmed);
            }
            Op::Close => {
                for member in [&mut self.primary, &mut self.replica] {
                    member.store.close().unwrap();
                    member.store = member.house.open().0;
                }
            }
            Op::Swap => {
                self.copy(4096, 1000);
                std::mem::swap(&mut self.primary, &mut self.replica);
            }
        }
    }

    fn check(&self) {
        for member in [&self.primary, &self.replica] {
            let state = member.store.state();
            assert!(state.confirmed <= self.confirmed, "{} was never confirmed", state.confirmed);
            for topic in TOPICS {
                for queue in 0..3 {
                    let from = |first| member.store.entries(topic, QueueId(queue), first, usize::MAX);
                    let (first, entries) = match from(QueueOffset(0)) {
                        Err(ReadError::Deleted { min }) if member.is_half_deleted(topic) => {
                            (min.0, from(min).unwrap())
                        }
                        entries => (0, entries.unwrap()),
                    };
                    assert!(entries.iter().all(|entry| entry.log_offset < self.confirmed));
                    let offsets: Vec<_> = entries.iter().map(|entry| entry.queue_offset.0).collect();
                    assert_eq!(offsets, (first..first + offsets.len() as u64).collect::<Vec<_>>());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_replica_is_the_primary_again_after_anything(
        ops in prop::collection::vec(op(), 1..60),
        flush in prop_oneof![Just(Flush::Async), Just(Flush::Sync)],
    ) {
        let mut pair = Pair {
            primary: Member::new(flush),
            replica: Member::new(flush),
            count: 0,
            confirmed: LogOffset(0),
        };
        for op in &ops {
            pair.apply(op);
            pair.check();
        }
        pair.copy(1000, 10_000);
        pair.confirm();
        pair.check();
        let (one, other) = (&pair.primary, &pair.replica);
        assert_same((&one.house, &one.store), (&other.house, &other.store), &TOPICS);
        for topic in TOPICS {
            for queue in 0..3 {
                let next = [one, other].map(|member| append(&member.store, &message(topic, queue, "n")));
                prop_assert_eq!(&next[0].queue_offsets, &next[1].queue_offsets);
            }
        }
    }
}
