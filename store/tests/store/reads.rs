//! Cold reads: the same as hot ones, bounded, and leaving no trace in the page cache.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use proptest::prelude::*;
use store::disk::{Disk, MemoryDisk, RealDisk};
use store::{ColdReads, Config, Entry, FetchError, Fetched, Flush, QueueId, QueueOffset, ReadError, Store};
use store::{SystemClock, Wanted};

use crate::support::{House, append, fill, message};

/// Everything is cold.
fn cold(config: Config) -> Config {
    Config { cold_reads: ColdReads { hot_bytes: 0, ..ColdReads::default() }, ..config }
}

fn cold_house() -> House {
    let house = House::new(Flush::Async);
    House { config: cold(Config { segment_bytes: 64 << 10, ..house.config.clone() }), ..house }
}

fn wanted(queue: u32, from: u64, max: usize) -> Wanted {
    let (topic, queue_id, from) = ("t".to_owned(), QueueId(queue), QueueOffset(from));
    let (wants, awaited) = (Box::new(|_: &Entry| true), Box::new(|| true));
    Wanted { topic, queue_id, from, max, wants, awaited }
}

/// Where the outcome of a fetch comes.
fn ask(store: &Store, wanted: Wanted) -> mpsc::Receiver<Result<Fetched, FetchError>> {
    let (sender, outcome) = mpsc::channel();
    store.fetch(wanted, Box::new(move |fetched| drop(sender.send(fetched))));
    outcome
}

fn fetch(store: &Store, wanted: Wanted) -> Fetched {
    ask(store, wanted).recv().unwrap().unwrap()
}

/// The offsets and bodies of a queue by one fetch after the other.
fn drain(store: &Store, queue: u32, step: usize) -> Vec<(u64, Vec<u8>)> {
    let mut at = store.queue_bounds("t", QueueId(queue)).start.0;
    let mut drained = Vec::new();
    loop {
        let Fetched { range, found } = fetch(store, wanted(queue, at, step));
        assert_eq!(range.start.0, at);
        if range.is_empty() {
            return drained;
        }
        drained.extend(found.into_iter().filter_map(|found| {
            let body = found.record.expect("all are wanted").ok()?.body.to_vec();
            Some((found.entry.queue_offset.0, body))
        }));
        at = range.end.0;
    }
}

/// Appends what `bodies` say to three queues, and compares draining with what went in.
fn cold_reads_bring_what_went_in(disk: Arc<dyn Disk>, root: &Path, bodies: &[(u32, usize)], step: usize) {
    let config = cold(Config { segment_bytes: 512 << 10, ..Config::new(root) });
    let (store, _) = Store::open_without_threads(disk, Arc::new(SystemClock), config).unwrap();
    let mut expected: BTreeMap<u32, Vec<(u64, Vec<u8>)>> = BTreeMap::new();
    for (n, (queue, size)) in bodies.iter().enumerate() {
        let body = vec![n as u8; *size];
        append(&store, &message("t", *queue, &body));
        let queue = expected.entry(*queue).or_default();
        queue.push((queue.len() as u64, body));
    }
    for (queue, expected) in expected {
        assert!(drain(&store, queue, step) == expected, "queue {queue}");
        let hot = store.entries("t", QueueId(queue), QueueOffset(0), usize::MAX).unwrap();
        let hot: Vec<_> =
            hot.iter().map(|entry| store.record_in_place(entry).unwrap().body.to_vec()).collect();
        assert!(hot.iter().eq(expected.iter().map(|(_, body)| body)), "queue {queue}, in place");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn cold_reads_are_the_same_as_hot_ones(
        bodies in prop::collection::vec((0..3_u32, prop_oneof![0..200_usize, 0..20_000_usize, 250_000..300_000_usize]), 1..60),
        step in 1..40_usize,
        cached: bool,
    ) {
        let disk = MemoryDisk::default();
        disk.set_cached(cached);
        cold_reads_bring_what_went_in(Arc::new(disk), Path::new("/data"), &bodies, step);
        let dir = tempfile::tempdir().unwrap();
        cold_reads_bring_what_went_in(Arc::new(RealDisk::default()), dir.path(), &bodies, step);
    }
}

#[test]
fn a_tailing_reader_touches_no_file() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "t", 10);
    for n in 10..50 {
        append(&store, &message("t", 0, n.to_string()));
        let calls = house.disk.calls();
        let entries = store.entries_in_memory("t", QueueId(0), QueueOffset(n), 32).unwrap().unwrap();
        assert!(entries[0].log_offset >= store.hot_from());
        assert_eq!(store.record_in_place(&entries[0]).unwrap().body, n.to_string());
        assert_eq!(fetch(&store, wanted(0, n, 32)).found.len(), 1, "whoever asks gets it at once as well");
        assert_eq!(house.disk.calls(), calls);
    }
}

#[test]
fn what_was_written_before_the_opening_is_cold() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "t", 10);
    store.close().unwrap();
    let (store, _) = house.open();
    assert_eq!(store.hot_from(), store.state().appended);
    append(&store, &message("t", 0, "new"));
    let entry = store.entries("t", QueueId(0), QueueOffset(10), 1).unwrap()[0];
    assert_eq!(entry.log_offset, store.hot_from());
}

#[test]
fn draining_reads_ahead_and_drops_behind_what_came_from_the_disk() {
    let house = cold_house();
    let (store, _) = house.open();
    for n in 0..2000_u32 {
        append(&store, &message("t", n % 4, [0; 500]));
    }
    let end = store.state().appended.0;
    let calls = house.disk.calls();
    for queue in 0..4 {
        assert_eq!(drain(&store, queue, 8).len(), 500);
    }
    let asked = house.disk.calls() - calls;
    assert!(asked < 200, "{asked} calls for 2,000 records");
    let dropped: u64 = house.disk.dropped().iter().map(|(_, range)| range.end - range.start).sum();
    assert!(dropped > end / 10 * 9, "{dropped} of {end} bytes were dropped");
    assert!(store.state().cold_read_bytes < end * 2, "little is read twice");

    house.disk.set_cached(true);
    let before = house.disk.dropped().len();
    assert_eq!(drain(&store, 0, 8).len(), 500);
    assert_eq!(house.disk.dropped().len(), before, "somebody else brought it, and may need it");
}

#[test]
fn what_is_hot_is_never_dropped() {
    let mut house = cold_house();
    house.config.cold_reads.hot_bytes = 100_000;
    let (store, _) = house.open();
    for _ in 0..600_u32 {
        append(&store, &message("t", 0, [0; 500]));
    }
    assert_eq!(drain(&store, 0, 32).len(), 600);
    let dropped = house.disk.dropped();
    assert!(!dropped.is_empty());
    let base = |path: &Path| path.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let last = dropped.iter().map(|(path, range)| base(path) + range.end).max().unwrap();
    assert!(last <= store.hot_from().0, "{last} is hot");
}

#[test]
fn a_damaged_record_costs_itself_only() {
    let house = cold_house();
    let (store, _) = house.open();
    let places = fill(&store, "t", 50);
    store.flush().unwrap();
    house.disk.edit(&house.segment(0), |bytes| bytes[places[20] as usize + 88] ^= 1);
    let Fetched { range, found } = fetch(&store, wanted(0, 0, 100));
    assert_eq!((range.end.0, found.len()), (50, 50));
    for found in found {
        match (found.entry.queue_offset.0, found.record.unwrap()) {
            (20, Err(ReadError::Damaged { at, .. })) => assert_eq!(at.0, places[20]),
            (n, record) => assert_eq!(record.unwrap().body, n.to_string()),
        }
    }
}

#[test]
fn a_place_that_cannot_be_read_costs_nothing_beside_it() {
    // Opening the file, then the read ahead: its look at the page cache, and its wait for the disk.
    for (call, read) in [(0, 0), (1, 50), (2, 50)] {
        let house = cold_house();
        let (store, _) = house.open();
        fill(&store, "t", 50);
        house.disk.fail_call(call);
        let fetched = ask(&store, wanted(0, 0, 50)).recv().unwrap();
        assert_eq!(fetched.map_or(0, |fetched| fetched.found.len()), read, "call {call}");
        assert_eq!(drain(&store, 0, 50).len(), 50);
    }
}

#[test]
fn retention_under_a_reader_is_told() {
    let mut house = cold_house();
    house.config.retention = std::time::Duration::from_secs(60);
    let (store, _) = house.open();
    for _ in 0..400_u32 {
        append(&store, &message("t", 0, [0; 500]));
    }
    let first = fetch(&store, wanted(0, 0, 10));
    let entries: Vec<_> = store.entries("t", QueueId(0), QueueOffset(10), 10).unwrap();
    store.flush().unwrap();
    house.clock.advance_ms(61_000);
    append(&store, &message("t", 0, [1; 500]));
    store.housekeep();
    let min = store.queue_bounds("t", QueueId(0)).start;
    assert!(min.0 > 20);
    assert_eq!(first.found[9].record.as_ref().unwrap().as_ref().unwrap().body, [0; 500].as_slice());
    assert!(matches!(store.record(&entries[0]), Err(ReadError::Deleted { .. })), "whatever chunk has it");
    match ask(&store, wanted(0, 10, 10)).recv().unwrap() {
        Err(FetchError::Read(ReadError::Deleted { min: told })) => assert_eq!(told, min),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fetch_goes_over_holes_and_ends_with_the_queue() {
    let house = cold_house();
    let (store, _) = house.open();
    let places = fill(&store, "t", 30);
    store.flush().unwrap();
    drop(store);
    house.disk.edit(&house.segment(0), |bytes| bytes[places[3] as usize..places[9] as usize].fill(7));
    house.disk.remove(&house.config.root.join("views/snapshot")).unwrap();
    let _ = house.disk.remove(&house.config.root.join("views/snapshot.previous"));
    let (store, recovered) = house.open();
    assert_eq!(recovered.damaged.len(), 1);
    let offsets =
        |fetched: &Fetched| fetched.found.iter().map(|found| found.entry.queue_offset.0).collect::<Vec<_>>();
    let fetched = fetch(&store, wanted(0, 1, 4));
    assert_eq!((fetched.range.end.0, offsets(&fetched)), (11, vec![1, 2, 9, 10]));
    let fetched = fetch(&store, wanted(0, 4, 100));
    assert_eq!((fetched.range.end.0, offsets(&fetched)[0]), (30, 9));
    assert!(fetch(&store, wanted(0, 30, 4)).range.is_empty());
    assert!(fetch(&store, wanted(5, 0, 4)).range.is_empty());
}

#[test]
fn entries_that_are_not_wanted_come_without_their_record() {
    let house = cold_house();
    let (store, _) = house.open();
    fill(&store, "t", 10);
    let before = house.disk.calls();
    let none = Wanted { wants: Box::new(|_: &Entry| false), ..wanted(0, 0, 10) };
    let fetched = fetch(&store, none);
    assert!(fetched.found.len() == 10 && fetched.found.iter().all(|found| found.record.is_none()));
    assert_eq!(house.disk.calls(), before);
}

/// One thread that reads and room for two fetches that wait.
fn narrow_house() -> (House, Store) {
    let house = cold_house();
    let config = Config {
        cold_reads: ColdReads { threads: 1, most_waiting: 2, ..house.config.cold_reads.clone() },
        ..house.config.clone()
    };
    let clock = Arc::new(house.clock.clone());
    let (store, _) = Store::open_on(Arc::new(house.disk.clone()), clock, config).unwrap();
    (house, store)
}

#[test]
fn readers_beyond_the_bound_are_told_so_at_once_and_appends_go_on() {
    let (house, store) = narrow_house();
    fill(&store, "t", 100);
    house.disk.hold_reads();
    let first = ask(&store, wanted(0, 0, 10));
    house.disk.wait_for_held_reads(1);
    let waiting = [ask(&store, wanted(0, 10, 10)), ask(&store, wanted(0, 20, 10))];
    for _ in 0..3 {
        let refused =
            ask(&store, wanted(0, 30, 10)).try_recv().expect("it is refused before the call returns");
        assert!(matches!(refused, Err(FetchError::Busy)));
    }
    append(&store, &message("t", 0, "while the disk stands still"));
    assert!(first.try_recv().is_err());
    house.disk.release_reads();
    for fetched in std::iter::once(first).chain(waiting) {
        assert_eq!(fetched.recv().unwrap().unwrap().found.len(), 10);
    }
    assert_eq!(fetch(&store, wanted(0, 30, 10)).found.len(), 10);
}

#[test]
fn readers_that_are_gone_are_nobodys_trouble() {
    let (house, store) = narrow_house();
    fill(&store, "t", 100);
    house.disk.hold_reads();
    let first = ask(&store, wanted(0, 0, 10));
    house.disk.wait_for_held_reads(1);
    drop(first);
    for _ in 0..10 {
        let gone = Wanted { awaited: Box::new(|| false), ..wanted(0, 10, 10) };
        store.fetch(gone, Box::new(|_| panic!("nobody waits for it")));
    }
    let waiting = ask(&store, wanted(0, 20, 10));
    house.disk.release_reads();
    assert_eq!(waiting.recv().unwrap().unwrap().found.len(), 10);
    store.close().unwrap();
}

#[test]
fn closing_tells_those_who_wait() {
    let (house, store) = narrow_house();
    fill(&store, "t", 100);
    house.disk.hold_reads();
    let first = ask(&store, wanted(0, 0, 10));
    house.disk.wait_for_held_reads(1);
    let second = ask(&store, wanted(0, 10, 10));
    let closing = {
        let store = store.clone();
        std::thread::spawn(move || store.close())
    };
    assert!(matches!(second.recv().unwrap(), Err(FetchError::Closed)));
    house.disk.release_reads();
    closing.join().unwrap().unwrap();
    assert_eq!(first.recv().unwrap().unwrap().found.len(), 10, "it was under way");
    assert!(matches!(ask(&store, wanted(0, 50, 10)).recv().unwrap(), Err(FetchError::Closed) | Ok(_)));
}

#[test]
fn what_callers_hold_of_cold_records_is_bounded() {
    let mut house = cold_house();
    house.config.cold_reads.held_bytes = 10_000;
    let (store, _) = house.open();
    for _ in 0..100_u32 {
        append(&store, &message("t", 0, [0; 500]));
    }
    let held = fetch(&store, wanted(0, 0, 30));
    assert!(matches!(ask(&store, wanted(0, 30, 1)).recv().unwrap(), Err(FetchError::Busy)));
    drop(held);
    assert_eq!(fetch(&store, wanted(0, 30, 1)).found.len(), 1);
}
