//! Full disks and failed flushes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use store::disk::{Crash, Disk as _};
use store::{AppendError, Flush, LogOffset, Properties};

use crate::support::{House, append, fill, message, numbers, record, same};

/// Calls a store's disk makes for a small trace; the flushes among them fail one after the other.
#[test]
fn after_a_failed_flush_nothing_more_is_confirmed_whichever_it_is() {
    for failing in 0..12 {
        let house = House::new(Flush::Sync);
        let (store, _) = house.open();
        house.disk.fail_flush(failing);
        let confirmed = Arc::new(AtomicU64::new(0));
        let failed = Arc::new(AtomicU64::new(0));
        let mut accepted = 0;
        for n in 0..10u64 {
            match store.append(&[record(&message("t", 0, n.to_string()), &Properties::default())]) {
                Ok(appended) => {
                    accepted += 1;
                    let (confirmed, failed) = (Arc::clone(&confirmed), Arc::clone(&failed));
                    store.on_confirmed(
                        appended.end,
                        Box::new(move |result| {
                            let counter = if result.is_ok() { &confirmed } else { &failed };
                            counter.fetch_add(1, Ordering::Relaxed);
                        }),
                    );
                }
                Err(error) => assert!(matches!(error, AppendError::Closed(_)), "{error}"),
            }
            let _ = store.flush();
        }
        let confirmed = confirmed.load(Ordering::Relaxed);
        assert_eq!(confirmed + failed.load(Ordering::Relaxed), accepted, "everybody is answered, once");
        if failing < 10 {
            assert_eq!((confirmed, accepted), (failing, failing + 1));
            let refusing = store.state().refusing.unwrap();
            assert!(refusing.contains("the disk was told to fail"), "{refusing}");
            assert_eq!(numbers(&store, "t"), same(0..confirmed), "readers see what was confirmed");
            assert!(store.close().is_err());
            assert!(store.flush().is_err(), "nobody flushes again and believes it");
        } else {
            assert_eq!(confirmed, 10);
        }
        let (store, _) = house.crash(Crash::LoseUnsynced).open();
        assert_eq!(numbers(&store, "t")[..confirmed as usize], same(0..confirmed), "flush {failing} failed");
    }
}

#[test]
fn a_full_disk_refuses_appends_and_takes_them_again_when_there_is_room() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    house.disk.set_capacity(4096 * 3 + 1000);
    let mut stored = 0u64;
    let refused = loop {
        match store.append(&[record(&message("t", 0, stored.to_string()), &Properties::default())]) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the disk never fills");
    };
    assert!(matches!(&refused, AppendError::DiskFull(why) if why.contains("no space left")), "{refused}");
    assert!(store.state().refusing.unwrap().contains("no space left"));
    assert_eq!(numbers(&store, "t"), same(0..stored), "reading goes on");
    let end = store.state().appended;
    assert!(matches!(
        store.append(&[record(&message("t", 0, "x"), &Properties::default())]),
        Err(AppendError::DiskFull(_))
    ));
    assert_eq!(store.state().appended, end, "a refused append leaves nothing");

    house.disk.set_capacity(1 << 20);
    store.housekeep();
    assert_eq!(store.state().refusing, None);
    append(&store, &message("t", 0, stored.to_string()));
    assert_eq!(numbers(&store, "t"), same(0..=stored));
    store.close().unwrap();
    let (store, recovered) = house.open();
    assert_eq!(recovered.cut_bytes, 0);
    assert_eq!(numbers(&store, "t"), same(0..=stored));
}

#[test]
fn a_batch_is_appended_whole_or_not_at_all() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "t", 3);
    let properties = Properties::default();
    let messages: Vec<_> = (0..5).map(|n| message("b", n % 2, vec![0; 700])).collect();
    let records: Vec<_> = messages.iter().map(|message| record(message, &properties)).collect();
    let appended = store.append(&records).unwrap();
    assert_eq!(appended.start, LogOffset(4096), "all of a batch lies in one segment");
    assert_eq!(appended.queue_offsets.iter().map(|offset| offset.0).collect::<Vec<_>>(), [0, 0, 1, 1, 2]);
    let too_much: Vec<_> = records.iter().cycle().take(7).cloned().collect();
    let end = store.state().appended;
    assert!(matches!(store.append(&too_much), Err(AppendError::BatchTooLarge { limit: 4088, .. })));
    let mut one_bad = records.clone();
    one_bad[4].properties = &[b'x'; 40_000];
    assert!(store.append(&one_bad).is_err());
    assert_eq!(store.state().appended, end);
    assert_eq!(store.append(&records[..1]).unwrap().queue_offsets[0].0, 3, "no offset was used up");
}

#[test]
fn a_store_that_was_killed_on_a_full_disk_opens_there_and_goes_on_once_there_is_room() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "t", 20);
    let used = house.disk.capacity() - store.state().disk_free_bytes;
    let house = house.crash(Crash::Kill);
    house.disk.set_capacity(used);
    let (store, recovered) = house.open();
    assert_eq!((numbers(&store, "t"), recovered.clean), (same(0..20), false));
    house.disk.set_capacity(1 << 20);
    fill(&store, "u", 20);
    store.close().unwrap();
    assert!(house.open().1.clean);
}

#[test]
fn a_store_that_was_closed_opens_on_a_disk_that_somebody_filled_and_a_crash_is_told_later() {
    let house = House::new(Flush::Sync);
    let (store, _) = house.open();
    fill(&store, "t", 20);
    store.close().unwrap();
    drop(store);
    let used = house.disk.capacity() - house.disk.space(&house.config.root).unwrap().free_bytes;
    house.disk.set_capacity(used);
    let (store, recovered) = house.open();
    assert!(recovered.clean);
    assert_eq!(numbers(&store, "t"), same(0..20));
    let (store, recovered) = house.crash(Crash::LoseUnsynced).open();
    assert!(!recovered.clean, "it was opened, and that is durable");
    assert_eq!(numbers(&store, "t"), same(0..20));
}

#[test]
fn a_nearly_full_disk_refuses_before_it_is_full_and_takes_appends_again_once_there_is_room() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    fill(&store, "t", 100);
    let used = house.disk.capacity() - store.state().disk_free_bytes;
    house.disk.set_capacity(used * 100 / 95);
    store.housekeep();
    let refused = store.append(&[record(&message("t", 0, "x"), &Properties::default())]).unwrap_err();
    assert!(matches!(&refused, AppendError::DiskFull(why) if why.contains("% full")), "{refused}");
    assert!(store.state().refusing.unwrap().contains("make room"));
    assert_eq!(numbers(&store, "t"), same(0..100), "reading goes on");

    house.disk.set_capacity(used * 2);
    store.housekeep();
    append(&store, &message("t", 0, "100"));
    assert_eq!(numbers(&store, "t"), same(0..101));
    assert_eq!(store.state().refusing, None);
}

#[test]
fn young_messages_make_room_only_where_that_is_wanted() {
    for (early, max, kept) in [(None, None, true), (Some(60), None, false), (None, Some(4096 * 3), false)] {
        let mut house = House::new(Flush::Async);
        house.config.delete_early_percent = early;
        house.config.max_log_bytes = max;
        let (store, _) = house.open();
        fill(&store, "t", 200);
        store.flush().unwrap();
        let used = house.disk.capacity() - store.state().disk_free_bytes;
        house.disk.set_capacity(used * 100 / 80);
        store.housekeep();
        let bounds = store.queue_bounds("t", store::QueueId(0));
        assert_eq!(bounds.start.0 == 0, kept, "{early:?} {max:?}: {bounds:?}");
        assert_eq!(numbers(&store, "t"), same(bounds.start.0..200), "what is left is whole");
    }
}
