//! Bytes that were durable and are not what they were: listed once, by whoever meets them, and everything else is served.

use std::collections::BTreeSet;
use std::sync::Arc;

use store::disk::Crash;
use store::{Damaged, DamagedPlace, Flush, QueueId, QueueOffset, Store};

use crate::support::{House, append, fill, message, same};

const HOUR_MS: i64 = 3600 * 1000;
const COUNT: u64 = 200;

/// A closed store with [`COUNT`] messages in several segments, and where each starts.
fn full_house() -> (House, Vec<u64>) {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let places = fill(&store, "t", COUNT);
    store.close().unwrap();
    (house, places)
}

/// Flips a bit of the record that starts at `place`.
fn rot(house: &House, place: u64, byte: u64) {
    let at = place + byte;
    house.disk.edit(&house.segment(at / 4096 * 4096), |bytes| bytes[(at % 4096) as usize] ^= 4);
}

/// A pass of the scrub; returns how many steps it took.
fn scrub(store: &Store) -> u64 {
    let mut steps = 0;
    while store.scrub() {
        steps += 1;
    }
    let state = store.state().scrubbed;
    assert!(state.at >= state.end, "it came to its end: {state:?}");
    steps
}

/// What is listed: start and bytes.
fn listed(store: &Store) -> Vec<(u64, u64)> {
    let places = store.damaged(usize::MAX);
    let listed: Vec<_> = places.iter().map(|place| (place.start.0, place.bytes)).collect();
    let Damaged { places, bytes, .. } = store.state().damaged;
    assert_eq!((places, bytes), (listed.len() as u64, listed.iter().map(|place| place.1).sum()));
    listed
}

/// The numbers of the records that are served.
fn served(store: &Store) -> BTreeSet<u64> {
    let from = store.queue_bounds("t", QueueId(0)).start;
    let entries = store.entries("t", QueueId(0), from, usize::MAX).unwrap();
    let bodies = entries.iter().filter_map(|entry| store.record(entry).ok()).map(|record| record.body);
    bodies.map(|body| std::str::from_utf8(&body).unwrap().parse().unwrap()).collect()
}

fn all_but(damaged: &[u64]) -> BTreeSet<u64> {
    (0..COUNT).filter(|n| !damaged.contains(n)).collect()
}

/// Some records, three of them neighbours, and the last one.
const ROTTEN: [u64; 6] = [0, 30, 100, 101, 102, COUNT - 1];

fn rotten_house() -> (House, Vec<(u64, u64)>) {
    let (house, places) = full_house();
    // Anywhere in the record: in what says where it ends, where it lies, in the body, in the checksum.
    ROTTEN.iter().zip([20, 2, 5, 30, 90, 60]).for_each(|(&n, byte)| rot(&house, places[n as usize], byte));
    let from_to = |first: usize, end: usize| (places[first], places[end] - places[first]);
    let last = COUNT as usize - 1;
    (house, vec![from_to(0, 1), from_to(30, 31), from_to(100, 103), from_to(last, last + 1)])
}

#[test]
fn the_scrub_finds_what_nobody_reads_and_everything_else_is_served() {
    let (house, expected) = rotten_house();
    let (store, recovered) = house.open();
    assert_eq!((recovered.damaged.len(), listed(&store)), (0, vec![]), "nobody has looked");
    assert!(scrub(&store) > 3, "there are several segments");
    assert_eq!(listed(&store), expected);
    let state = store.state();
    assert_eq!((state.damaged.found, state.damaged.beyond), (4, 0));
    assert!(state.scrubbed.read_bytes >= state.flushed.0 - state.min.0, "all was read");
    assert_eq!(served(&store), all_but(&ROTTEN));
    assert_eq!(append(&store, &message("t", 0, "x")).queue_offsets, [QueueOffset(COUNT)], "and it goes on");
}

#[test]
fn whoever_meets_damage_lists_it_and_it_is_listed_once() {
    let (house, expected) = rotten_house();
    let readers = || {
        let (store, _) = house.crash(Crash::Kill).open();
        assert_eq!(served(&store), all_but(&ROTTEN));
        store
    };
    let in_place = || {
        let (store, _) = house.crash(Crash::Kill).open();
        let entries = store.entries("t", QueueId(0), QueueOffset(0), usize::MAX).unwrap();
        assert_eq!(
            entries.iter().filter(|entry| store.record_in_place(entry).is_err()).count(),
            ROTTEN.len()
        );
        store
    };
    let recovery = || {
        let left = house.crash(Crash::Kill);
        store::disk::Disk::remove(&left.disk, "/data/views/snapshot".as_ref()).unwrap();
        let (store, recovered) = left.open();
        assert_eq!(recovered.damaged.len(), ROTTEN.len() - 2, "neighbours are one place");
        store
    };
    for store in [readers(), in_place(), recovery()] {
        assert_eq!(listed(&store), expected);
        let first = store.damaged(usize::MAX);
        // And once more by everybody.
        served(&store);
        scrub(&store);
        house.clock.advance_ms(25 * HOUR_MS);
        scrub(&store);
        assert_eq!(store.damaged(usize::MAX), first);
        assert_eq!(store.state().damaged.found, 4);
    }
}

#[test]
fn the_offset_of_a_last_record_that_rotted_behind_the_snapshot_is_not_given_again() {
    for byte in [2, 5, 10, 30, 58, 90] {
        let (house, places) = full_house();
        rot(&house, places[COUNT as usize - 1], byte);
        // As a crash would have found it.
        store::disk::Disk::remove(&house.disk, "/data/views/snapshot".as_ref()).unwrap();
        let (store, recovered) = house.open();
        assert_eq!(recovered.damaged.len(), 1);
        assert_eq!(served(&store), all_but(&[COUNT - 1]));
        assert_eq!(append(&store, &message("t", 0, "1000")).queue_offsets, [QueueOffset(COUNT)], "{byte}");
        assert!(served(&store).contains(&1000));
    }
}

#[test]
fn what_readers_met_outlives_a_crash_behind_a_round_of_housekeeping() {
    let (house, expected) = rotten_house();
    let (store, _) = house.open();
    served(&store);
    assert_eq!(listed(&house.crash(Crash::LoseUnsynced).open().0), [], "a reader waits for no disk");
    store.housekeep();
    assert_eq!(listed(&house.crash(Crash::LoseUnsynced).open().0), expected);
}

#[test]
fn a_damaged_place_says_what_was_wrong_and_when_it_was_found() {
    let (house, places) = full_house();
    rot(&house, places[7], 40);
    let (store, _) = house.open();
    house.clock.advance_ms(5);
    scrub(&store);
    let [place]: [DamagedPlace; 1] = store.damaged(usize::MAX).try_into().unwrap();
    assert_eq!((place.start.0, place.found_at_ms), (places[7], store::Clock::now_ms(&house.clock)));
    assert!(place.reason.contains("checksum"), "{}", place.reason);
    assert_eq!(store.damaged(0), []);
}

#[test]
fn the_list_is_kept_over_restarts_and_one_that_is_damaged_begins_anew() {
    let (house, expected) = rotten_house();
    let (store, _) = house.open();
    scrub(&store);
    let (places, state) = (store.damaged(usize::MAX), store.state());
    // A crash just after a round of housekeeping, and a proper closing.
    store.housekeep();
    let crashed = house.crash(Crash::LoseUnsynced);
    store.close().unwrap();
    for left in [crashed, house.crash(Crash::Kill)] {
        left.clock.advance_ms(1);
        let (store, _) = left.open();
        assert_eq!(store.damaged(usize::MAX), places);
        assert_eq!(store.state().damaged, state.damaged);
        assert!(!store.scrub(), "a pass is done");
        assert_eq!(store.state().scrubbed.ended_ms, state.scrubbed.ended_ms);
    }
    for harm in [|bytes: &mut Vec<u8>| bytes[60] ^= 1, |bytes: &mut Vec<u8>| bytes.truncate(20), Vec::clear] {
        let left = house.crash(Crash::Kill);
        left.disk.edit("/data/damaged".as_ref(), harm);
        let (store, _) = left.open();
        assert_eq!(listed(&store), []);
        scrub(&store);
        assert_eq!(listed(&store), expected);
    }
}

#[test]
fn a_place_goes_from_the_list_with_its_segment() {
    let (house, places) = full_house();
    rot(&house, places[1], 50);
    rot(&house, places[COUNT as usize - 2], 50);
    let (store, _) = house.open();
    scrub(&store);
    assert_eq!(listed(&store).len(), 2);
    house.clock.advance_ms(73 * HOUR_MS);
    append(&store, &message("t", 0, COUNT.to_string()));
    store.flush().unwrap();
    store.housekeep();
    assert!(store.state().min.0 > places[1], "old segments are gone");
    assert_eq!(listed(&store), [(places[COUNT as usize - 2], places[1] - places[0] + 2)]);
    assert_eq!(store.state().damaged.found, 2);
    let (store, _) = house.crash(Crash::LoseUnsynced).open();
    assert_eq!(listed(&store).len(), 1);
}

#[test]
fn what_somebody_restored_is_listed_no_more_after_the_next_pass() {
    let (house, places) = full_house();
    rot(&house, places[7], 40);
    rot(&house, places[8], 40);
    rot(&house, places[20], 40);
    let (store, _) = house.open();
    scrub(&store);
    store.close().unwrap();
    rot(&house, places[7], 40);
    rot(&house, places[20], 40);
    let (store, _) = house.open();
    assert_eq!(listed(&store).len(), 2);
    assert!(!store.scrub(), "the next pass is not due");
    house.clock.advance_ms(24 * HOUR_MS);
    scrub(&store);
    assert_eq!(listed(&store), [(places[8], places[9] - places[8])]);
    assert_eq!(served(&store), all_but(&[8]));
}

#[test]
fn a_pass_goes_on_after_a_restart_where_it_was() {
    let (house, places) = full_house();
    rot(&house, places[3], 40);
    let (store, _) = house.open();
    let steps = scrub(&house.crash(Crash::Kill).open().0);
    // Segments are smaller than what is read at once.
    let half = steps / 2;
    (0..half).for_each(|_| assert!(store.scrub()));
    let before = store.state().scrubbed;
    assert!(before.at.0 > 0 && before.at < before.end, "{before:?}");
    store.close().unwrap();
    house.clock.advance_ms(HOUR_MS);
    // Behind the pass: the next one finds it.
    rot(&house, places[5], 40);
    rot(&house, places[COUNT as usize - 5], 40);
    let (store, _) = house.open();
    let after = store.state().scrubbed;
    assert_eq!((after.at, after.end, after.started_ms), (before.at, before.end, before.started_ms));
    assert_eq!(scrub(&store), steps - half);
    let found: Vec<_> = listed(&store).into_iter().map(|place| place.0).collect();
    assert_eq!(found, [places[3], places[COUNT as usize - 5]]);
    // A day after the beginning, not after the end.
    house.clock.advance_ms(23 * HOUR_MS);
    scrub(&store);
    assert_eq!(listed(&store).len(), 3);
}

#[test]
fn a_pass_comes_once_an_interval_and_reads_what_is_durable_only() {
    let mut house = House::new(Flush::Async);
    house.config.scrub.interval = Some(std::time::Duration::from_secs(3600));
    let (store, _) = house.open();
    assert!(!store.scrub(), "there is nothing yet");
    fill(&store, "t", 100);
    house.clock.advance_ms(HOUR_MS - 1);
    assert!(!store.scrub(), "it is not time");
    house.clock.advance_ms(1);
    assert!(!store.scrub(), "nothing is durable");
    store.flush().unwrap();
    fill(&store, "t", 100);
    house.clock.advance_ms(HOUR_MS);
    scrub(&store);
    let state = store.state();
    assert_eq!(state.scrubbed.end, state.flushed);
    assert!(state.flushed < state.appended);
    assert_eq!(state.damaged, Damaged::default());
    house.config.scrub.interval = None;
    store.close().unwrap();
    house.clock.advance_ms(1000 * HOUR_MS);
    let (store, _) = house.open();
    assert!(!store.scrub(), "it is off");
}

#[test]
fn segments_that_retention_removes_meanwhile_are_no_damage() {
    let (house, places) = full_house();
    rot(&house, places[1], 50);
    let (store, _) = house.open();
    assert!(store.scrub());
    assert_eq!(listed(&store).len(), 1);
    house.clock.advance_ms(73 * HOUR_MS);
    append(&store, &message("t", 0, COUNT.to_string()));
    store.flush().unwrap();
    store.housekeep();
    let min = store.state().min;
    assert!(min > store.state().scrubbed.at, "they went before they were read");
    scrub(&store);
    assert_eq!(listed(&store), []);
    assert!(store.state().scrubbed.end > min, "the rest was read");
}

#[test]
fn pages_that_the_disk_does_not_give_are_damage_and_their_neighbours_are_not() {
    let mut house = House::new(Flush::Async);
    house.config.segment_bytes = 64 << 10;
    let (store, _) = house.open();
    let places = fill(&store, "t", 400);
    store.close().unwrap();
    let bad = 2 * 4096..3 * 4096;
    house.disk.make_unreadable(&house.segment(0), bad.start..bad.start + 512);
    let (store, _) = house.open();
    scrub(&store);
    let first = places.iter().rfind(|place| **place <= bad.start).unwrap();
    let next = places.iter().find(|place| **place >= bad.end).unwrap();
    assert_eq!(listed(&store), [(*first, next - first)]);
    assert!(store.damaged(1)[0].reason.contains("does not give"), "{:?}", store.damaged(1));
    // A read that fails for once is none.
    let (house, _) = full_house();
    let (store, _) = house.open();
    // Opened, looked for in memory, read.
    house.disk.fail_call(2);
    scrub(&store);
    assert_eq!(house.disk.failed().unwrap().call, "read_at");
    assert_eq!(listed(&store), []);
}

#[test]
fn the_scrub_leaves_the_page_cache_as_it_was() {
    let (house, _) = full_house();
    let (store, _) = house.open();
    scrub(&store);
    let end = store.state().flushed.0;
    let mut dropped: Vec<_> = house.disk.dropped();
    dropped.retain(|(path, _)| path.starts_with("/data/commitlog"));
    for base in (0..end).step_by(4096).filter(|base| base + 4096 <= end) {
        assert!(dropped.contains(&(house.segment(base), 0..4096)), "{base}");
    }
    let before = house.disk.dropped().len();
    house.disk.set_cached(true);
    house.clock.advance_ms(24 * HOUR_MS);
    scrub(&store);
    assert_eq!(house.disk.dropped().len(), before, "what is in memory stays there");
}

#[test]
fn entries_of_queues_that_rot_are_made_anew_by_the_scrub_before_anybody_reads_them() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "t", 1000);
    store.close().unwrap();
    let blocks = std::path::Path::new("/data/views/blocks-00000");
    let content = || store::disk::Disk::read(&house.disk, blocks).unwrap();
    let good = content();
    assert!(good.len() > 3 * 4096, "there are full blocks");
    // In three blocks of the queue, and all of a fourth.
    house.disk.edit(blocks, |bytes| {
        [7, 5000, 9000].iter().for_each(|&at| bytes[at] ^= 4);
        bytes[3 * 4096..].fill(0);
    });
    let (store, _) = house.open();
    scrub(&store);
    // The rest of a block is nobody's.
    let entries =
        |bytes: &[u8]| bytes.chunks(4096).map(|block| block[..204 * 20].to_vec()).collect::<Vec<_>>();
    assert_eq!(entries(&content()[..4 * 4096]), entries(&good[..4 * 4096]));
    assert!(listed(&store).is_empty(), "the log is as it was");
    let dropped = house.disk.dropped();
    assert!(dropped.contains(&(blocks.to_owned(), 0..4096)), "and it leaves the page cache as it was");
}

#[test]
fn after_a_failed_flush_nothing_is_read_through_any_more() {
    let (house, places) = full_house();
    rot(&house, places[3], 40);
    let (store, _) = house.open();
    append(&store, &message("t", 0, "x"));
    house.disk.fail_flush(0);
    store.flush().unwrap_err();
    assert!(!store.scrub());
    assert_eq!((listed(&store), store.state().scrubbed.read_bytes), (vec![], 0));
}

#[test]
fn closing_does_not_wait_for_a_pass_and_keeps_what_it_found() {
    let (mut house, places) = full_house();
    rot(&house, places[3], 40);
    // Between two windows it would rest for an hour.
    house.config.scrub.bytes_per_second = 1;
    // Opening reads the files of the key index.
    house.config.index_keys = false;
    house.disk.hold_reads();
    let (disk, clock) = (Arc::new(house.disk.clone()), Arc::new(house.clock.clone()));
    let (store, _) = Store::open_on(disk, clock, house.config.clone()).unwrap();
    house.disk.wait_for_held_reads(1);
    house.disk.release_reads();
    store.close().unwrap();
    let (store, _) = house.open();
    let state = store.state().scrubbed;
    assert!(state.at < state.end, "the pass was not over: {state:?}");
    scrub(&store);
    assert_eq!(listed(&store), [(places[3], places[4] - places[3])]);
}

#[test]
fn after_another_wrote_to_the_log_the_list_begins_anew() {
    let (house, places) = full_house();
    rot(&house, places[3], 40);
    let (store, _) = house.open();
    scrub(&store);
    store.close().unwrap();
    // Java was here, and somebody restored the record.
    rot(&house, places[3], 40);
    store::disk::Disk::write(&house.disk, "/data/abort".as_ref(), b"4711").unwrap();
    let (store, recovered) = house.open();
    assert!(recovered.by_another);
    assert_eq!((listed(&store), store.state().damaged.found), (vec![], 0));
    assert_eq!(crate::support::numbers(&store, "t"), same(0..COUNT));
}
