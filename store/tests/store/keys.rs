//! Messages by key and by unique id.

mod model;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use store::disk::Crash;
use store::{By, Config, FindError, Flush, Matches, NewRecord, Properties, QueueId, Store};

use crate::support::{House, message, record};

/// All times.
const EVER: std::ops::Range<i64> = i64::MIN..i64::MAX;

fn properties(id: &str, keys: &str) -> Properties {
    let mut properties = Properties::default();
    for (name, value) in [("UNIQ_KEY", id), ("KEYS", keys)] {
        if !value.is_empty() {
            properties.push(name, value);
        }
    }
    properties
}

fn append(store: &Store, topic: &str, id: &str, keys: &str) -> store::Appended {
    store.append(&[record(&message(topic, 0, id), &properties(id, keys))]).unwrap()
}

/// The bodies of what is found, which are the ids.
fn bodies(found: &Matches) -> Vec<String> {
    found.records.iter().map(|record| String::from_utf8(record.body.to_vec()).unwrap()).collect()
}

fn find(store: &Store, topic: &str, key: &str) -> Vec<String> {
    let found = store.find(topic, By::Key(key), EVER, 64).unwrap();
    assert!(found.unsearched_bytes == 0 && !found.more);
    bodies(&found)
}

/// A store whose key index keeps few entries in memory.
fn house(flush: Flush, key_buffer_entries: usize) -> House {
    let mut house = House::new(flush);
    house.config.key_buffer_entries = key_buffer_entries;
    house
}

fn files(house: &House) -> Vec<PathBuf> {
    house.disk.paths().into_iter().filter(|path| path.starts_with("/data/views/keys")).collect()
}

#[test]
fn a_file_of_the_index_that_rots_is_found_by_the_scrub_and_made_anew() {
    let house = house(Flush::Async, 1000);
    let (store, _) = house.open();
    (0..100).for_each(|n| drop(append(&store, "orders", &format!("id-{n}"), "4711")));
    store.close().unwrap();
    let [file] = &files(&house)[..] else { panic!("one file") };
    house.disk.edit(file, |bytes| bytes[1000] ^= 4);
    let (store, _) = house.open();
    while store.scrub() {}
    assert!(files(&house).is_empty(), "nobody looked for anything");
    assert_eq!(find(&store, "orders", "id-7"), ["id-7"]);
    store.close().unwrap();
    let anew = files(&house);
    assert!(!anew.is_empty());
    let (store, _) = house.open();
    house.clock.advance_ms(25 * 3600 * 1000);
    while store.scrub() {}
    assert_eq!((files(&house), find(&store, "orders", "id-7")), (anew, vec!["id-7".to_owned()]));
}

#[test]
fn a_message_is_found_by_its_id_and_by_each_of_its_keys_and_by_nothing_else() {
    let (store, _) = House::new(Flush::Async).open();
    append(&store, "orders", "id-1", "4711 berlin");
    append(&store, "orders", "id-2", "4712  berlin ");
    append(&store, "bills", "id-3", "4711");
    append(&store, "orders", "", "");
    assert_eq!(find(&store, "orders", "4711"), ["id-1"]);
    assert_eq!(find(&store, "bills", "4711"), ["id-3"]);
    assert_eq!(find(&store, "orders", "berlin"), ["id-2", "id-1"], "the newest first");
    assert_eq!(find(&store, "orders", "id-2"), ["id-2"], "as in RocketMQ, an id is a key too");
    for nothing in ["", " ", "471", "47111", "4711 berlin", "BERLIN", "id-3"] {
        assert!(find(&store, "orders", nothing).is_empty(), "{nothing:?}");
    }
    let by_id = |id| bodies(&store.find("orders", By::Id(id), EVER, 64).unwrap());
    assert_eq!(by_id("id-1"), ["id-1"]);
    assert!(by_id("berlin").is_empty(), "a key is no id");
}

#[test]
fn keys_may_be_any_text_and_as_many_as_fit() {
    let house = house(Flush::Async, 1000);
    let (store, _) = house.open();
    append(&store, "t", "a", "Größe 鍵 🔑 ключ");
    let many: Vec<_> = (0..5000).map(|n| n.to_string()).collect();
    // More keys in one message than are collected before they are written.
    let mut config = house.config.clone();
    config.segment_bytes = 1 << 20;
    let house = House { config, ..house };
    store.close().unwrap();
    let (store, _) = House { disk: store::disk::MemoryDisk::default(), ..house }.open();
    append(&store, "t", "a", "Größe 鍵 🔑 ключ");
    append(&store, "t", "b", &many.join(" "));
    append(&store, "t", "c", "x x x");
    store.flush().unwrap();
    store.housekeep();
    for key in ["Größe", "鍵", "🔑", "ключ"] {
        assert_eq!(find(&store, "t", key), ["a"], "{key}");
    }
    for key in ["0", "77", "4999"] {
        assert_eq!(find(&store, "t", key), ["b"], "{key}");
    }
    assert_eq!(find(&store, "t", "x"), ["c"], "once, though it says it thrice");
}

#[test]
fn of_thousands_with_one_key_the_newest_come_first_and_times_narrow_them() {
    let house = house(Flush::Async, 4000);
    let (store, _) = house.open();
    let mut times = Vec::new();
    for n in 0..10_000u64 {
        house.clock.advance_ms(if n % 3 == 0 { 700 } else { 0 });
        times.push(append(&store, "t", &n.to_string(), "same").stored_at_ms);
        if n % 1000 == 0 {
            store.flush().unwrap();
            store.housekeep();
        }
    }
    assert!(files(&house).len() >= 4, "most of it is in files");
    let newest = store.find("t", By::Key("same"), EVER, 64).unwrap();
    assert_eq!(bodies(&newest), (9936..10_000).rev().map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(newest.more);
    for from in [0, 1, 2999, 5000, 9990] {
        let stored_ms = times[from]..times[(from + 9).min(9_999)];
        let expected: Vec<_> =
            (0..10_000).rev().filter(|n| stored_ms.contains(&times[*n])).map(|n| n.to_string()).collect();
        let found = store.find("t", By::Key("same"), stored_ms.clone(), 64).unwrap();
        assert_eq!(bodies(&found), expected, "{stored_ms:?}");
        assert!(!found.more);
    }
    let all = store.find("t", By::Key("same"), EVER, usize::MAX).unwrap();
    assert_eq!(all.records.len(), 10_000);
}

#[test]
fn records_that_say_a_transaction_was_rolled_back_are_not_indexed() {
    let (store, _) = House::new(Flush::Async).open();
    let properties = properties("id", "k");
    for (sys_flag, indexed) in [(0x4, true), (0x8, true), (0xC, false)] {
        let body = sys_flag.to_string();
        store.append(&[NewRecord { sys_flag, ..record(&message("t", 0, &body), &properties) }]).unwrap();
        assert_eq!(find(&store, "t", "k").contains(&body), indexed, "system flag {sys_flag:#x}");
    }
}

#[test]
fn with_sync_flush_a_message_is_found_only_when_it_is_confirmed() {
    let (store, _) = House::new(Flush::Sync).open();
    append(&store, "t", "a", "k");
    assert!(find(&store, "t", "k").is_empty());
    store.flush().unwrap();
    assert_eq!(find(&store, "t", "k"), ["a"]);
}

#[test]
fn every_byte_of_the_files_counts_and_what_is_damaged_is_made_anew() {
    let house = house(Flush::Async, 20);
    let (store, _) = house.open();
    for n in 0..40 {
        append(&store, "t", &format!("id-{n}"), &format!("k{}", n % 7));
    }
    store.close().unwrap();
    let expected: Vec<Vec<String>> =
        (0..7).map(|k| (0..40).rev().filter(|n| n % 7 == k).map(|n| format!("id-{n}")).collect()).collect();
    for path in files(&house) {
        let mut len = 0;
        house.disk.edit(&path, |bytes| len = bytes.len());
        // All of the small parts, and some of the entries and the zeros behind them.
        let places = (0..40).chain((40..len - 200).step_by(997)).chain(len - 200..len);
        for place in places {
            let hurt = house.crash(Crash::Kill);
            hurt.disk.edit(&path, |bytes| bytes[place] ^= 0x04);
            let (store, _) = hurt.open();
            for (k, expected) in expected.iter().enumerate() {
                assert_eq!(&find(&store, "t", &format!("k{k}")), expected, "byte {place} of {path:?}");
            }
            store.close().unwrap();
        }
        for keep in [0, 10, 56, 57, 16 << 10, len - 1] {
            let hurt = house.crash(Crash::Kill);
            hurt.disk.edit(&path, |bytes| bytes.truncate(keep));
            let (store, _) = hurt.open();
            for (k, expected) in expected.iter().enumerate() {
                assert_eq!(&find(&store, "t", &format!("k{k}")), expected, "{keep} bytes of {path:?}");
            }
        }
    }
}

#[test]
fn a_damaged_file_is_replaced_by_a_good_one() {
    let house = house(Flush::Async, 20);
    let (store, _) = house.open();
    for n in 0..40 {
        append(&store, "t", &format!("id-{n}"), "k");
    }
    store.flush().unwrap();
    store.housekeep();
    let path = files(&house)[0].clone();
    house.disk.edit(&path, |bytes| bytes[0] ^= 1);
    assert_eq!(find(&store, "t", "k").len(), 40);
    store.housekeep();
    let before = house.disk.calls();
    assert_eq!(find(&store, "t", "k").len(), 40);
    assert!(house.disk.calls() - before < 10, "nothing is rebuilt a second time");
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap()[..20].parse::<u64>().unwrap();
    assert_eq!(named(&files(&house)[0]), named(&path), "it begins where the damaged one did");
}

#[test]
fn many_small_files_become_few_and_old_ones_go_with_the_log() {
    let house = house(Flush::Async, 4);
    let (store, _) = house.open();
    let append_some = |from: u64, count: u64| {
        for n in from..from + count {
            append(&store, "t", &format!("id-{n}"), &format!("k{n}"));
            store.flush().unwrap();
            if n % 20 == 0 {
                store.housekeep();
            }
        }
        store.housekeep();
    };
    append_some(0, 1200);
    let count = files(&house).len();
    assert!(count < 48, "{count} files for 2400 entries, 4 each at first");
    for n in [0, 1, 599, 1199] {
        assert_eq!(find(&store, "t", &format!("k{n}")), [format!("id-{n}")]);
    }
    house.clock.advance_ms(72 * 3600 * 1000 + 1);
    append_some(1200, 40);
    store.housekeep();
    assert!(store.state().min.0 > 100_000, "the old part of the log is gone");
    assert!(find(&store, "t", "k0").is_empty());
    assert_eq!(find(&store, "t", "k1239"), ["id-1239"]);
    let min = store.state().min.0;
    for path in files(&house) {
        let end: u64 = path.file_name().unwrap().to_str().unwrap()[21..].parse().unwrap();
        assert!(end > min, "{path:?} speaks of nothing that is left");
    }
}

#[test]
fn what_was_written_is_not_read_from_the_log_again_after_a_crash() {
    let house = house(Flush::Async, 20);
    let (store, _) = house.open();
    for n in 0..45 {
        append(&store, "t", &format!("id-{n}"), "k");
        store.flush().unwrap();
        store.housekeep();
    }
    for crash in [Crash::Kill, Crash::LoseUnsynced] {
        let after = house.crash(crash);
        let (store, _) = after.open();
        let first: Vec<_> = files(&house);
        assert_eq!(files(&after), first, "{crash:?}: no file is lost, and none is made by opening");
        assert_eq!(find(&store, "t", "k").len(), 45, "{crash:?}");
        store.close().unwrap();
        assert!(files(&after).starts_with(&first[..first.len()]), "the rest was added behind");
    }
}

#[test]
fn without_an_index_nothing_is_found_and_it_is_made_when_it_is_turned_on() {
    let mut house = house(Flush::Async, 20);
    house.config.index_keys = false;
    let (store, _) = house.open();
    append(&store, "t", "a", "k");
    assert!(matches!(store.find("t", By::Key("k"), EVER, 1), Err(FindError::Off)));
    store.close().unwrap();
    assert!(files(&house).is_empty());
    house.config.index_keys = true;
    let (store, _) = house.open();
    append(&store, "t", "b", "k");
    assert_eq!(find(&store, "t", "k"), ["b", "a"]);
    store.close().unwrap();
    house.config.index_keys = false;
    let (store, _) = house.open();
    append(&store, "t", "c", "k");
    store.close().unwrap();
    house.config.index_keys = true;
    assert_eq!(find(&house.open().0, "t", "k"), ["c", "b", "a"]);
}

#[test]
fn on_a_full_disk_memory_stays_bounded_and_all_is_found_when_there_is_room() {
    let house = house(Flush::Async, 10);
    let (store, _) = house.open();
    append(&store, "t", "id-0", "k");
    store.flush().unwrap();
    let used = {
        let state = store.state();
        state.disk_total_bytes - state.disk_free_bytes
    };
    // Room for some more of the log, and for no file of the index.
    let room = house.config.segment_bytes * 3;
    house.disk.set_capacity(used + room);
    let mut count = 1;
    for n in 1..100 {
        match store
            .append(&[record(&message("t", 0, format!("id-{n}")), &properties(&format!("id-{n}"), "k"))])
        {
            Ok(_) => count += 1,
            Err(error) => assert!(matches!(error, store::AppendError::DiskFull(_)), "{error}"),
        }
        store.flush().unwrap();
        store.housekeep();
    }
    assert!(files(&house).iter().all(|path| path.extension().is_none_or(|end| end != "temp")));
    house.disk.set_capacity(u64::MAX);
    store.housekeep();
    let found = store.find("t", By::Key("k"), EVER, 1000).unwrap();
    assert_eq!((found.records.len(), found.unsearched_bytes), (count, 0));
}

#[test]
fn whatever_was_confirmed_is_found_while_others_append() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        segment_bytes: 1 << 20,
        refuse_percent: 100,
        key_buffer_entries: 500,
        ..Config::new(dir.path())
    };
    let (store, _) = Store::open(config.clone()).unwrap();
    let appended = Arc::new(AtomicU64::new(0));
    let writer = std::thread::spawn({
        let (store, appended) = (store.clone(), Arc::clone(&appended));
        move || {
            for n in 0..20_000u64 {
                append(&store, "t", &format!("id-{n}"), &format!("k{}", n % 100));
                appended.store(n + 1, Ordering::Release);
            }
        }
    });
    let mut looks = 0;
    while !writer.is_finished() {
        let Some(newest) = appended.load(Ordering::Acquire).checked_sub(1) else { continue };
        looks += 1;
        for n in [newest, newest / 2] {
            let found = store.find("t", By::Id(&format!("id-{n}")), EVER, 2).unwrap();
            assert_eq!(bodies(&found), [format!("id-{n}")], "of {newest}");
        }
    }
    writer.join().unwrap();
    assert!(looks > 0);
    store.close().unwrap();
    let (store, _) = Store::open(config).unwrap();
    let found = store.find("t", By::Key("k7"), EVER, 1000).unwrap();
    assert_eq!((found.records.len(), found.unsearched_bytes), (200, 0));
}

#[test]
fn opening_does_not_wait_for_a_lost_index_which_is_made_behind_it_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { segment_bytes: 8 << 20, refuse_percent: 100, ..Config::new(dir.path()) };
    let (store, _) = Store::open(config.clone()).unwrap();
    let body = vec![b'x'; 256 << 10];
    for n in 0..400u64 {
        let properties = properties(&format!("id-{n}"), "k");
        let message = crate::support::Message { topic: "t".to_owned(), queue: 0, body: body.clone() };
        store.append(&[record(&message, &properties)]).unwrap();
    }
    store.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("views/keys")).unwrap();

    let quiet = store::Config::clone(&config);
    let (store, _) = Store::open_without_threads(
        Arc::new(store::disk::RealDisk::default()),
        Arc::new(store::SystemClock),
        quiet,
    )
    .unwrap();
    let id = |n: u64| format!("id-{n}");
    append(&store, "t", &id(400), "k");
    let found = store.find("t", By::Key("k"), EVER, 1000).unwrap();
    assert_eq!(bodies(&found), [id(400)], "what is new is found at once");
    assert!(found.unsearched_bytes > 64 << 20, "and the answer says that it is not all");
    assert_eq!(store.queue_bounds("t", QueueId(0)).end.0, 401);
    store.close().unwrap();
    drop(store);

    let (store, _) = Store::open(config).unwrap();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let found = store.find("t", By::Key("k"), EVER, 1000).unwrap();
        if found.unsearched_bytes == 0 {
            assert_eq!(found.records.len(), 401);
            return;
        }
        let ids: Vec<_> = found
            .records
            .iter()
            .map(|record| record.properties().find(|pair| pair.0 == "UNIQ_KEY").unwrap().1.to_owned())
            .collect();
        assert!(
            ids.iter().take(2).eq([id(400), id(399)].iter().take(ids.len())),
            "the newest come first: {:?}",
            &ids[..2]
        );
        assert!(std::time::Instant::now() < patience, "{} bytes are left", found.unsearched_bytes);
        std::thread::yield_now();
    }
}
