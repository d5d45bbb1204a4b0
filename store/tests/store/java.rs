//! Stores written by RocketMQ's own classes (`tests/fixtures/java`), read and gone on with.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use store::{Config, LogOffset, QueueId, QueueOffset, Recovered, Store};

use crate::support;

const STORES: [&str; 3] = ["records", "checked", "broker"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java").join(name)
}

/// A copy that a test may open, since opening writes.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_files(&fixture(name), dir.path());
    dir
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_files(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Without threads: none of a fixture may fall to retention while it is read.
fn open(root: &Path) -> (Store, Recovered) {
    let (disk, clock) = (store::disk::RealDisk::default(), store::SystemClock);
    Store::open_without_threads(std::sync::Arc::new(disk), std::sync::Arc::new(clock), Config::new(root))
        .unwrap()
}

/// What the Java store said of a kind.
fn lines(name: &str, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(fixture(&format!("{name}.jsonl"))).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_kind: Vec<_> = lines.into_iter().filter(|line| line["kind"] == kind).collect();
    assert!(!of_kind.is_empty(), "{name} says nothing of {kind}");
    of_kind
}

fn number(line: &Value, field: &str) -> u64 {
    line[field].as_u64().unwrap()
}

fn queue(line: &Value) -> (&str, QueueId) {
    (line["topic"].as_str().unwrap(), QueueId(number(line, "queue") as u32))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A record of ours in the words of the Java program.
fn told(record: &store::Record) -> Value {
    let properties: serde_json::Map<String, Value> =
        record.properties().map(|(name, value)| (name.to_owned(), value.into())).collect();
    serde_json::json!({
        "kind": "message",
        "topic": std::str::from_utf8(&record.topic).unwrap(),
        "queue": record.queue_id.0,
        "offset": record.queue_offset.0,
        "logOffset": record.log_offset.0,
        "version": if record.topic.len() > 127 { 2 } else { 1 },
        "body": hex(&record.body),
        "flag": record.flag,
        "sysFlag": record.sys_flag,
        "bornAt": record.born_at_ms,
        "bornHost": address(record.born_host),
        "storedAt": record.stored_at_ms,
        "storeHost": address(record.store_host),
        "reconsumeTimes": record.reconsume_times,
        "preparedOffset": record.prepared_offset.0,
        "properties": properties,
    })
}

/// Java writes IPv6 addresses without `::`.
fn address(host: std::net::SocketAddr) -> String {
    match host {
        std::net::SocketAddr::V4(host) => host.to_string(),
        std::net::SocketAddr::V6(host) => {
            let groups = host.ip().segments().map(|group| format!("{group:x}"));
            format!("[{}]:{}", groups.join(":"), host.port())
        }
    }
}

/// Everything that Java read in the store is read here, the same, at the same place, and nothing more.
fn check_all(store: &Store, name: &str) {
    let mut messages = lines(name, "message");
    for line in lines(name, "queue") {
        let (topic, id) = queue(&line);
        let bounds = store.queue_bounds(topic, id);
        assert_eq!(bounds, QueueOffset(number(&line, "min"))..QueueOffset(number(&line, "max")), "{line}");
        for entry in store.entries(topic, id, bounds.start, usize::MAX).unwrap() {
            let record = store.record(&entry).unwrap();
            assert_eq!(told(&record), messages.remove(0), "{name}");
        }
    }
    assert_eq!(messages, Vec::<Value>::new());
}

#[test]
fn every_field_of_every_record_of_java_is_read() {
    for name in STORES {
        let dir = copy(name);
        let (store, recovered) = open(dir.path());
        let log = &lines(name, "log")[0];
        assert_eq!(store.state().min, LogOffset(number(log, "min")), "{name}");
        assert_eq!(recovered.end, LogOffset(number(log, "max")), "{name}");
        assert_eq!((recovered.cut_bytes, recovered.damaged.len()), (0, 0), "{name}");
        assert_eq!((recovered.by_another, recovered.clean), (true, name != "broker"), "{name}");
        check_all(&store, name);
    }
}

#[test]
fn the_log_of_java_goes_on_with_records_of_ours() {
    for name in STORES {
        let dir = copy(name);
        let (store, _) = open(dir.path());
        let before = store.queue_bounds("orders", QueueId(0));
        let message = support::message("orders", 0, "of ours");
        for n in 0..50 {
            assert_eq!(support::append(&store, &message).queue_offsets, [QueueOffset(before.end.0 + n)]);
        }
        store.close().unwrap();
        let (store, recovered) = open(dir.path());
        assert_eq!((recovered.by_another, recovered.replayed_records), (false, 0), "{name}");
        assert_eq!(store.queue_bounds("orders", QueueId(0)), before.start..QueueOffset(before.end.0 + 50));
        assert_eq!(support::bodies(&store, "orders", 0, before.end.0)[49].1, b"of ours");
    }
}

/// Damage in the middle costs one record, whether Java flushed or not: nobody can tell what it had acknowledged.
#[test]
fn a_bad_record_of_java_costs_itself_only() {
    for name in STORES {
        let dir = copy(name);
        let bad = &lines(name, "message")[3];
        let at = number(bad, "logOffset");
        let segments = fs::read_dir(dir.path().join("commitlog")).unwrap();
        let bases =
            segments.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<u64>().unwrap());
        let base = bases.filter(|base| *base <= at).max().unwrap();
        let path = dir.path().join(format!("commitlog/{base:020}"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[(at - base) as usize + 90] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (store, recovered) = open(dir.path());
        assert_eq!(recovered.end, LogOffset(number(&lines(name, "log")[0], "max")), "{name}");
        assert_eq!(recovered.damaged.len(), 1, "{name}");
        assert_eq!(recovered.damaged[0].0, LogOffset(at), "{name}");
        // Also after we crashed before anything else was noted.
        std::mem::forget(store);
        let again = tempfile::tempdir().unwrap();
        copy_files(dir.path(), again.path());
        let (_store, recovered) = open(again.path());
        assert_eq!(recovered.end, LogOffset(number(&lines(name, "log")[0], "max")), "{name}");
    }
}

/// Java opened the log, cut what it did not like, and went on: what we noted before counts no more.
#[test]
fn what_java_cut_and_wrote_behind_our_back_is_read_as_it_is_now() {
    let dir = copy("records");
    let (store, _) = open(dir.path());
    for n in 0..30 {
        support::append(&store, &support::message("orders", 0, format!("gone {n}")));
    }
    store.close().unwrap();
    drop(store);
    // As Java leaves it: the log as it was before, and neither our marker nor its own.
    fs::remove_dir_all(dir.path().join("commitlog")).unwrap();
    copy_files(&fixture("records/commitlog"), &dir.path().join("commitlog"));
    fs::remove_file(dir.path().join("abort")).unwrap();
    let (store, recovered) = open(dir.path());
    assert!(recovered.by_another);
    assert_eq!((recovered.cut_bytes, recovered.damaged.len()), (0, 0));
    check_all(&store, "records");
}

#[test]
fn a_store_time_that_rotted_where_no_checksum_covers_it_does_not_become_that_of_later_records() {
    let dir = copy("records");
    let path = dir.path().join("commitlog/00000000000000000000");
    let mut log = fs::read(&path).unwrap();
    let born_host_v6 = log[39] & 1 << 4 != 0;
    let stored_at = if born_host_v6 { 68 } else { 56 };
    // Some 60,000 years more.
    log[stored_at + 1] ^= 0x07;
    fs::write(&path, log).unwrap();

    let append = |store: &Store| support::append(store, &support::message("t", 0, "new"));
    let is_now = |ms: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(u128::try_from(ms).unwrap() <= now.as_millis(), "{ms}");
    };
    let (store, recovered) = open(dir.path());
    assert!(recovered.damaged.is_empty(), "nothing shows that it rotted");
    is_now(append(&store).stored_at_ms);

    let mut house = support::House::new(store::Flush::Async);
    house.config.segment_bytes = fs::metadata(&path).unwrap().len();
    let (copy, _) = house.open();
    let stretch = store.stretch(LogOffset(0), 1).unwrap();
    copy.append_stretch(LogOffset(0), &stretch.bytes, stretch.damaged).unwrap();
    is_now(append(&copy).stored_at_ms);
}
