//! Queues: bounds, holes, time, deletion, retention, arrivals.

use std::sync::Arc;

use parking_lot_free::Shared;
use store::disk::{Crash, Disk};
use store::{
    Arrivals, Flush, Keeper, LogOffset, NewRecord, Properties, QueueId, QueueOffset, ReadError, Store,
};

use crate::support::{House, append, fill, message, numbers, record, same};

/// A list that several threads may add to.
mod parking_lot_free {
    #[derive(Default)]
    pub(super) struct Shared<T>(std::sync::Mutex<Vec<T>>);

    impl<T: Clone> Shared<T> {
        pub(super) fn add(&self, item: T) {
            self.0.lock().unwrap().push(item);
        }

        pub(super) fn all(&self) -> Vec<T> {
            self.0.lock().unwrap().clone()
        }
    }
}

#[test]
fn a_queue_that_never_had_a_message_is_empty_and_reading_behind_the_end_finds_nothing() {
    let (store, _) = House::new(Flush::Async).open();
    assert_eq!(store.queue_bounds("t", QueueId(0)), QueueOffset(0)..QueueOffset(0));
    assert_eq!(store.entries("t", QueueId(0), QueueOffset(7), 10).unwrap(), []);
    fill(&store, "t", 3);
    assert_eq!(store.entries("t", QueueId(0), QueueOffset(3), 10).unwrap(), []);
    assert_eq!(store.entries("t", QueueId(0), QueueOffset(u64::MAX), 10).unwrap(), []);
    assert_eq!(store.entries("t", QueueId(0), QueueOffset(1), 1).unwrap().len(), 1);
    assert_eq!(store.entries("t", QueueId(1), QueueOffset(0), 1).unwrap(), []);
}

#[test]
fn with_sync_flush_readers_see_a_record_only_after_its_flush() {
    let (store, _) = House::new(Flush::Sync).open();
    fill(&store, "t", 3);
    assert_eq!(store.queue_bounds("t", QueueId(0)).end, QueueOffset(0));
    assert!(store.state().confirmed < store.state().appended);
    store.flush().unwrap();
    assert_eq!(numbers(&store, "t"), same(0..3));
}

#[test]
fn prepared_and_rolled_back_records_are_in_no_queue() {
    let (store, _) = House::new(Flush::Async).open();
    let (message, properties) = (message("t", 0, "0"), Properties::default());
    for (sys_flag, queued) in [(0x4, false), (0xC, false), (0x8, true), (0x1, true)] {
        let before = store.queue_bounds("t", QueueId(0)).end.0;
        let appended = store.append(&[NewRecord { sys_flag, ..record(&message, &properties) }]).unwrap();
        let after = store.queue_bounds("t", QueueId(0)).end.0;
        assert_eq!(after - before, u64::from(queued), "system flag {sys_flag:#x}");
        assert_eq!(appended.queue_offsets, [QueueOffset(if queued { before } else { 0 })]);
    }
}

#[test]
fn store_timestamps_never_decrease() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    for (n, step) in [10, 10, 0, -50, 100].into_iter().enumerate() {
        house.clock.advance_ms(step);
        append(&store, &message("t", 0, n.to_string()));
    }
    let entries = store.entries("t", QueueId(0), QueueOffset(0), 10).unwrap();
    let times: Vec<_> =
        entries.iter().map(|entry| store.record(entry).unwrap().stored_at_ms - 1_000_000).collect();
    assert_eq!(times, [10, 20, 20, 20, 70]);
}

#[test]
fn a_deleted_topic_stays_deleted_and_a_new_one_of_its_name_starts_at_zero() {
    for flush in [Flush::Async, Flush::Sync] {
        let house = House::new(flush);
        let (store, _) = house.open();
        fill(&store, "t", 300);
        fill(&store, "other", 3);
        (0..70).for_each(|_| store.housekeep());
        store.snapshot().unwrap();
        store.delete_topic("t");
        assert_eq!(store.queue_bounds("t", QueueId(0)), QueueOffset(0)..QueueOffset(0));
        for crash in [Crash::Kill, Crash::LoseUnsynced] {
            let (store, _) = house.crash(crash).open();
            assert_eq!(numbers(&store, "t"), [], "{crash:?}");
            assert_eq!(numbers(&store, "other"), same(0..3));
        }
        fill(&store, "t", 5);
        store.flush().unwrap();
        assert_eq!(numbers(&store, "t"), same(0..5));
        for lost in [false, true] {
            let left = house.crash(Crash::LoseUnsynced);
            if lost {
                left.disk.edit("/data/views/snapshot".as_ref(), Vec::clear);
            }
            let (store, _) = left.open();
            assert_eq!(numbers(&store, "t"), same(0..5), "snapshot lost: {lost}");
        }
        store.close().unwrap();
        assert_eq!(numbers(&house.open().0, "t"), same(0..5));
    }
}

#[test]
fn old_segments_go_whole_queues_count_on_and_slices_in_use_stay_good() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let places = fill(&store, "t", 100);
    let first = store.entries("t", QueueId(0), QueueOffset(0), 1).unwrap()[0];
    let held = store.record(&first).unwrap();
    house.clock.advance_ms(72 * 3600 * 1000 + 1);
    store.housekeep();
    assert_eq!(store.state().min.0, 0, "what is not on disk yet does not go");
    store.flush().unwrap();
    store.housekeep();
    assert_eq!(store.state().min.0, places[100] / 4096 * 4096, "all but the last segment");
    let min = store.queue_bounds("t", QueueId(0)).start;
    assert!(
        places[min.0 as usize] >= store.state().min.0 && places[min.0 as usize - 1] < store.state().min.0
    );
    assert!(
        matches!(store.entries("t", QueueId(0), QueueOffset(0), 9), Err(ReadError::Deleted { min: said }) if said == min)
    );
    assert!(matches!(store.record(&first), Err(ReadError::Deleted { .. })));
    assert_eq!(held.body, "0", "a slice keeps its bytes");
    assert_eq!(numbers(&store, "t"), same(min.0..100));
    let (reopened, _) = house.crash(Crash::LoseUnsynced).open();
    assert_eq!(numbers(&reopened, "t"), same(min.0..100));
    assert_eq!(append(&store, &message("t", 0, "100")).queue_offsets, [QueueOffset(100)]);
}

#[test]
fn arrivals_are_told_in_order_after_the_views_know() {
    struct Listener {
        heard: Shared<(String, u32, u64, i64)>,
    }
    impl Arrivals for Listener {
        fn arrived(&self, topic: &str, queue_id: QueueId, next: QueueOffset, tags_code: i64) {
            self.heard.add((topic.to_owned(), queue_id.0, next.0, tags_code));
        }
    }
    let (store, _) = House::new(Flush::Sync).open();
    let listener = Arc::new(Listener { heard: Shared::default() });
    store.on_arrival(Arc::clone(&listener) as Arc<dyn Arrivals>);
    let mut properties = Properties::default();
    properties.push("TAGS", "a");
    store.append(&[NewRecord { tag: Some("a"), ..record(&message("t", 1, "x"), &properties) }]).unwrap();
    append(&store, &message("u", 0, "x"));
    append(&store, &message("t", 1, "x"));
    assert_eq!(listener.heard.all(), []);
    store.flush().unwrap();
    let expected = [("t", 1, 1, 97), ("u", 0, 1, 0), ("t", 1, 2, 0)];
    assert_eq!(
        listener.heard.all(),
        expected.map(|(topic, queue, next, tag)| (topic.to_owned(), queue, next, tag))
    );
}

#[test]
fn entries_that_rotted_on_the_disk_are_made_anew_from_the_log() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    for n in 0..900u64 {
        append(&store, &message("t", (n % 3) as u32, n.to_string()));
    }
    for n in 900..910u64 {
        append(&store, &message("quiet", 0, n.to_string()));
    }
    let all = |store: &Store| -> Vec<_> {
        let queues = [("t", 0), ("t", 1), ("t", 2), ("quiet", 0)];
        queues
            .map(|(topic, queue)| store.entries(topic, QueueId(queue), QueueOffset(0), 1000).unwrap())
            .into()
    };
    let before = all(&store);
    (0..70).for_each(|_| store.housekeep());
    store.close().unwrap();
    let blocks = house.config.root.join("views/blocks-00000");
    let bytes = house.disk.read(&blocks).unwrap().len();
    // Every fault costs a repair and nothing else: offset, size, checksum, tag hash; a lost sector; all of it.
    let faults = (0..40).map(|n| (n * 397 % bytes, 1)).chain([(512, 512), (0, bytes)]);
    for (at, len) in faults {
        let left = house.crash(Crash::Kill);
        left.disk.edit(&blocks, |bytes| {
            let end = (at + len).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte = if len == 1 { *byte ^ 0x10 } else { 0 });
        });
        let (store, recovered) = left.open();
        assert_eq!(recovered.replayed_records, 0, "the snapshot is good");
        assert_eq!(all(&store), before, "{len} bytes at {at}");
        store.close().unwrap();
        let (store, _) = left.open();
        assert_eq!(all(&store), before, "mended for good: {len} bytes at {at}");
    }
}

/// Lets everything before this place go, and remembers what it was asked.
struct Shelf {
    free_below: std::sync::atomic::AtomicU64,
    asked: Shared<LogOffset>,
}

impl Keeper for Shelf {
    fn may_go(&self, before: LogOffset) -> bool {
        self.asked.add(before);
        before.0 <= self.free_below.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn old_segments_stay_until_whoever_needs_them_lets_them_go() {
    let mut house = House::new(Flush::Async);
    house.config.await_keeper = true;
    let (store, _) = house.open();
    fill(&store, "t", 100);
    store.flush().unwrap();
    house.clock.advance_ms(72 * 3600 * 1000 + 1);
    fill(&store, "other", 1);
    store.flush().unwrap();
    store.housekeep();
    assert_eq!(store.state().min.0, 0, "nobody was there to be asked");

    let shelf = Arc::new(Shelf { free_below: 0.into(), asked: Shared::default() });
    store.ask_before_removal(Arc::clone(&shelf) as Arc<dyn Keeper>);
    store.housekeep();
    assert_eq!(store.state().min.0, 0, "not yet");
    let before = *shelf.asked.all().last().unwrap();
    assert!(before.0 > 0);
    assert_eq!(numbers(&store, "t"), same(0..100));
    shelf.free_below.store(before.0, std::sync::atomic::Ordering::Relaxed);
    store.housekeep();
    assert_eq!(store.state().min, before);
}

#[test]
fn a_full_disk_takes_old_segments_whoever_needs_them() {
    let mut house = House::new(Flush::Async);
    house.config.await_keeper = true;
    let (store, _) = house.open();
    fill(&store, "t", 100);
    store.flush().unwrap();
    house.clock.advance_ms(72 * 3600 * 1000 + 1);
    store.snapshot().unwrap();
    let space = house.disk.space(&house.config.root).unwrap();
    house.disk.set_capacity((space.total_bytes - space.free_bytes) * 100 / 92);
    store.housekeep();
    assert_eq!(store.state().min.0, 0, "it may still move");
    store.housekeep();
    assert!(store.state().min.0 > 0, "otherwise it stays full");
}
