//! What opening makes of a log that a crash or a bad disk left.

use store::disk::{Crash, Disk, MemoryDisk};
use store::{Flush, OpenError, QueueId, QueueOffset, ReadError, Store};

use crate::support::{House, append, fill, message, numbers, same};

#[test]
fn a_torn_tail_is_cut_at_the_last_whole_record_wherever_it_is_torn() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let places = fill(&store, "t", 6);
    let (last, end) = (places[5], places[6]);
    for torn_at in last..end {
        let left = house.crash(Crash::Kill);
        left.disk.edit(&left.segment(0), |bytes| bytes[torn_at as usize..].fill(0));
        let (store, recovered) = left.open();
        assert_eq!(recovered.end.0, last, "torn at {torn_at}");
        assert!(recovered.cut_bytes <= torn_at - last, "torn at {torn_at}, cut {}", recovered.cut_bytes);
        assert_eq!(numbers(&store, "t"), same(0..5));
        // The same place and offset are used again, and the next opening finds nothing of the old record.
        let again = append(&store, &message("t", 0, "5"));
        assert_eq!((again.start.0, again.queue_offsets[0]), (last, QueueOffset(5)));
        let (store, recovered) = left.crash(Crash::Kill).open();
        assert_eq!((recovered.end, recovered.cut_bytes), (again.end, 0));
        assert_eq!(numbers(&store, "t"), same(0..6));
    }
}

#[test]
fn what_was_cut_is_never_taken_for_records_later() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let places = fill(&store, "t", 6);
    let left = house.crash(Crash::Kill);
    left.disk.edit(&left.segment(0), |bytes| bytes[places[3] as usize + 20] ^= 1);
    let (store, recovered) = left.open();
    assert_eq!((recovered.end.0, recovered.cut_bytes), (places[3], places[6] - places[3]));
    assert_eq!(numbers(&store, "t"), same(0..3));
    // A record of the same length lands where the damaged one was; behind it lay whole ones.
    append(&store, &message("t", 0, "3"));
    let (store, _) = left.crash(Crash::Kill).open();
    assert_eq!(numbers(&store, "t"), same(0..4));
}

#[test]
fn a_flipped_bit_in_durable_records_costs_that_record_only() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let places = fill(&store, "t", 60);
    store.close().unwrap();
    let size = places[1] - places[0];
    for (n, &place) in places[..60].iter().enumerate() {
        let left = house.crash(Crash::Kill);
        let (base, at) = (place / 4096 * 4096, place % 4096 + (n as u64 * 13) % size);
        left.disk.edit(&left.segment(base), |bytes| bytes[at as usize] ^= 1 << (n % 8));
        // Rebuilt from the log's start, as if the views were lost.
        left.disk.remove(&left.config.root.join("views/snapshot")).unwrap();
        let (store, recovered) = left.open();
        assert_eq!(recovered.damaged.len(), 1, "record {n}");
        assert_eq!(recovered.damaged[0].0.0, place);
        assert_eq!(recovered.end.0, places[60], "nothing behind it is cut");
        assert_eq!(recovered.cut_bytes, 0);
        let expected = same((0..60).filter(|&m| m != n as u64));
        // A queue that starts with the damaged record starts behind it.
        assert_eq!(numbers(&store, "t"), expected, "record {n}");
        // Also of the very last one it can be read that it was.
        let next = append(&store, &message("t", 0, "60"));
        assert_eq!(next.queue_offsets, [QueueOffset(60)]);
    }
}

#[test]
fn a_flipped_bit_behind_a_good_snapshot_is_seen_by_whoever_reads_it() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let places = fill(&store, "t", 3);
    store.close().unwrap();
    for at in places[1]..places[2] {
        let left = house.crash(Crash::Kill);
        left.disk.edit(&left.segment(0), |bytes| bytes[at as usize] ^= 0x80);
        let (store, recovered) = left.open();
        assert_eq!(recovered.replayed_records, 0);
        let entries = store.entries("t", QueueId(0), QueueOffset(0), 10).unwrap();
        let read: Vec<_> =
            entries.iter().map(|entry| store.record(entry).map(|record| record.body)).collect();
        assert_eq!((&read[0].as_ref().unwrap()[..], &read[2].as_ref().unwrap()[..]), (&b"0"[..], &b"2"[..]));
        assert!(matches!(&read[1], Err(ReadError::Damaged { at, .. }) if at.0 == places[1]), "byte {at}");
        assert_eq!(append(&store, &message("t", 0, "3")).queue_offsets, [QueueOffset(3)]);
    }
}

#[test]
fn a_damaged_blank_or_a_damaged_segment_start_does_not_hide_the_next_segment() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let places = fill(&store, "t", 60);
    store.close().unwrap();
    let next = places.iter().position(|&place| place >= 4096).unwrap();
    assert_eq!(places[next], 4096);
    let blank = places[next - 1] + (places[11] - places[10]);
    for at in [blank, blank + 4] {
        let left = house.crash(Crash::Kill);
        left.disk.edit(&left.segment(0), |bytes| bytes[at as usize] ^= 0x40);
        left.disk.remove(&left.config.root.join("views/snapshot")).unwrap();
        let (store, recovered) = left.open();
        assert_eq!(recovered.damaged.len(), 1);
        assert_eq!(numbers(&store, "t"), same(0..60));
    }
}

#[test]
fn without_a_good_snapshot_the_views_are_rebuilt_the_same() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "a", 500);
    fill(&store, "b", 30);
    (0..70).for_each(|_| store.housekeep());
    fill(&store, "c", 10);
    store.close().unwrap();
    let expected = |store: &store::Store| ["a", "b", "c"].map(|topic| numbers(store, topic));
    let (store, recovered) = house.crash(Crash::Kill).open();
    assert_eq!(recovered.replayed_records, 0);
    let before = expected(&store);
    assert_eq!(before[0], same(0..500));

    type Harm = fn(&MemoryDisk);
    let harms: [(&str, Harm); 4] = [
        ("missing", |disk| disk.remove("/data/views/snapshot".as_ref()).unwrap()),
        ("cut short", |disk| {
            disk.edit("/data/views/snapshot".as_ref(), |bytes| bytes.truncate(bytes.len() / 2))
        }),
        ("empty", |disk| disk.edit("/data/views/snapshot".as_ref(), Vec::clear)),
        ("changed", |disk| disk.edit("/data/views/snapshot".as_ref(), |bytes| bytes[40] ^= 1)),
    ];
    for (name, harm) in harms {
        let left = house.crash(Crash::Kill);
        harm(&left.disk);
        let (store, recovered) = left.open();
        assert_eq!(recovered.replayed_records, 540, "{name}");
        assert_eq!(expected(&store), before, "{name}");
        store.close().unwrap();
        assert_eq!(expected(&left.open().0), before, "{name}, once more");
    }
}

#[test]
fn a_queue_counts_on_when_its_messages_and_the_snapshot_are_gone() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "t", 10);
    store.snapshot().unwrap();
    fill(&store, "other", 100);
    house.clock.advance_ms(73 * 3600 * 1000);
    fill(&store, "other", 1);
    store.flush().unwrap();
    store.housekeep();
    assert_eq!(store.queue_bounds("t", QueueId(0)), QueueOffset(10)..QueueOffset(10));
    store.close().unwrap();
    house.disk.edit("/data/views/snapshot".as_ref(), |bytes| bytes[9] ^= 1);
    let (store, _) = house.open();
    assert_eq!(store.queue_bounds("t", QueueId(0)), QueueOffset(10)..QueueOffset(10));
    assert_eq!(append(&store, &message("t", 0, "10")).queue_offsets, [QueueOffset(10)]);
}

#[test]
fn a_crash_at_any_call_while_opening_loses_nothing() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let places = fill(&store, "t", 80);
    store.flush().unwrap();
    house.disk.edit(&house.segment(places[79] / 4096 * 4096), |bytes| bytes[places[79] as usize % 4096] ^= 1);
    for call in 0.. {
        let left = house.crash(Crash::Kill);
        left.disk.fail_call(call);
        let failed = left.try_open().is_err();
        let again = left.crash(Crash::Tear(call + 1));
        let (store, _) = again.open();
        let found = numbers(&store, "t");
        assert_eq!(found[..79], same(0..79), "call {call}");
        if !failed {
            assert!(call > 10, "opening takes more calls than {call}");
            return;
        }
    }
}

#[test]
fn a_log_keeps_its_segment_size_and_gaps_and_short_files_are_refused_with_what_to_do() {
    let mut house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "t", 100);
    store.close().unwrap();
    let left = house.crash(Crash::Kill);
    left.disk.remove(&left.segment(4096)).unwrap();
    let error = left.try_open().map(|_| ()).unwrap_err();
    assert!(matches!(&error, OpenError::Io { path, .. } if *path == left.segment(4096)), "{error}");
    assert!(error.to_string().contains("restore the missing file"), "{error}");

    // A log keeps the size that it began with, whatever the configuration says now.
    house.config.segment_bytes = 8192;
    let (store, _) = house.open();
    assert_eq!(numbers(&store, "t"), same(0..100));
    let end = store.state().appended.0;
    fill(&store, "t", 50);
    store.close().unwrap();
    assert!(house.disk.paths().contains(&house.segment(end.next_multiple_of(4096))));

    house.disk.edit(&house.segment(4096), |bytes| bytes.truncate(1000));
    let error = house.try_open().map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::SegmentSize { found: 1000, expected: 4096, .. }), "{error}");
    let mended = "truncate -s 4096 /data/commitlog/00000000000000004096";
    assert!(error.to_string().contains(mended), "{error}");
    house.disk.edit(&house.segment(4096), |bytes| bytes.resize(4096, 0));
    let (store, _) = house.open();
    let entries = store.entries("t", QueueId(0), QueueOffset(0), 150).unwrap();
    let readable = entries.iter().filter(|entry| store.record(entry).is_ok()).count();
    assert!((100..150).contains(&readable), "what is missing is damaged, the rest is served: {readable}");
}

#[test]
fn an_empty_last_file_is_removed_as_java_does() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "t", 3);
    store.close().unwrap();
    house.disk.write(&house.segment(4096), b"").unwrap();
    let (store, _) = house.open();
    assert_eq!(numbers(&store, "t"), same(0..3));
    assert!(!house.disk.paths().contains(&house.segment(4096)));
}

#[test]
fn a_long_recovery_says_how_far_it_is() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "t", 3000);
    let end = store.state().appended.0;
    let left = house.crash(Crash::Kill);
    let progress = store::Progress::default();
    assert_eq!(progress.to_string(), "its files are being looked at");
    let (disk, clock) = (std::sync::Arc::new(left.disk), std::sync::Arc::new(left.clock));
    let (store, _) = Store::open_telling(disk, clock, left.config, &progress).unwrap();
    let (done, total) = progress.bytes();
    assert_eq!(total, end, "all of the log is walked, there being no snapshot");
    assert!(total / 2 < done && done <= total, "{done} of {total}");
    assert_eq!(numbers(&store, "t").len(), 3000);
}

#[test]
fn opening_waits_for_the_disk_only_where_somebody_counts_on_what_is_durable() {
    for (flush, waits) in [(Flush::Async, false), (Flush::Sync, true)] {
        let house = House::new(flush);
        let (store, _) = house.open();
        let places = fill(&store, "t", 60);
        let left = house.crash(Crash::Kill);
        left.disk.fail_flush(0);
        assert_eq!(left.try_open().is_err(), waits, "{flush:?}");

        let left = house.crash(Crash::Kill);
        let (store, recovered) = left.open();
        assert_eq!((recovered.end.0, recovered.cut_bytes), (places[60], 0));
        let state = store.state();
        assert_eq!(state.flushed == state.appended, waits, "{flush:?}");
        // All that was found is confirmed, and flushed like what comes after.
        assert_eq!(numbers(&store, "t"), same(0..60));
        store.flush().unwrap();
        let (store, _) = left.crash(Crash::LoseUnsynced).open();
        assert_eq!(numbers(&store, "t"), same(0..60));
    }
}

#[test]
fn what_a_failed_flush_left_for_clean_is_written_again_after_the_next_opening() {
    for flush in [Flush::Async, Flush::Sync] {
        let house = House::new(flush);
        let (store, _) = house.open();
        fill(&store, "t", 60);
        house.disk.fail_flush(0);
        store.flush().unwrap_err();
        let left = house.crash(Crash::Kill);
        let (store, _) = left.open();
        store.flush().unwrap();
        let (store, _) = left.crash(Crash::LoseUnsynced).open();
        assert_eq!(numbers(&store, "t"), same(0..60), "{flush:?}");
    }
}
