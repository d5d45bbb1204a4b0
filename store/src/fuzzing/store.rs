//! A whole directory of any bytes: looked at, opened, used, closed and opened again.
//!
//! ```text
//!   bytes:  │ file u8, length u16 big-endian, content │ …        see NAMES
//! ```

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::{Input, mend_end};
use crate::commit_log::fuzzing as log;
use crate::disk::{Disk, MemoryDisk};
use crate::offline::Look;
use crate::{
    By, Clock, Config, CopyError, Flush, LogOffset, NewRecord, Properties, QueueId, QueueOffset, Store,
};

const SEGMENT_BYTES: u64 = 4096;
/// What a directory makes us write is in proportion to it: a block of a file that is far away, at most.
const DISK_BYTES: u64 = 256 << 20;
/// The files of a directory, by number. Segments are filled up with zeros.
const NAMES: [&str; 9] = [
    "commitlog/00000000000000000000",
    "commitlog/00000000000000004096",
    "commitlog/00000000000000008192",
    "flushed",
    "abort",
    "views/snapshot",
    "views/snapshot.previous",
    "views/deleted",
    "views/blocks-00000",
];
const SEGMENTS: usize = 3;

fn root() -> &'static Path {
    Path::new("/data")
}

fn config(flush: Flush) -> Config {
    Config { segment_bytes: SEGMENT_BYTES, flush, delete_at_hour: None, ..Config::new(root()) }
}

struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> i64 {
        1_700_000_000_002
    }
}

fn pack(disk: &MemoryDisk) -> Vec<u8> {
    let mut packed = Vec::new();
    for (number, name) in NAMES.iter().enumerate() {
        let Ok(mut content) = disk.read(&root().join(name)) else { continue };
        content.truncate(content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        let len = u16::try_from(content.len()).expect("the files of a small store are small");
        packed.push(number as u8);
        packed.extend(len.to_be_bytes());
        packed.append(&mut content);
    }
    packed
}

fn unpack(mends: bool, mut packed: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new(DISK_BYTES);
    while let Some((&[number, high, low], rest)) = packed.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (content, rest) = rest.split_at(len);
        packed = rest;
        let number = usize::from(number) % NAMES.len();
        let mut content = content.to_vec();
        if number < SEGMENTS {
            content.resize(SEGMENT_BYTES as usize, 0);
        }
        match NAMES[number] {
            _ if !mends => {}
            "flushed" if content.len() == 12 => mend_end(&mut content),
            "views/snapshot" | "views/snapshot.previous" | "views/deleted" => mend_end(&mut content),
            _ if number < SEGMENTS => log::mend(&mut content, number as u64 * SEGMENT_BYTES),
            _ => {}
        }
        disk.write(&root().join(NAMES[number]), &content).expect("there is room");
    }
    disk
}

fn new_record<'a>(topic: &'a str, queue_id: QueueId, properties: &'a Properties) -> NewRecord<'a> {
    let host = std::net::SocketAddr::from(([10, 0, 0, 1], 8081));
    NewRecord {
        topic,
        queue_id,
        body: b"a body",
        properties: properties.as_bytes(),
        tag: None,
        flag: 0,
        sys_flag: 0,
        born_at_ms: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: LogOffset(0),
    }
}

fn open(disk: &MemoryDisk, flush: Flush) -> Option<Store> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open_without_threads(disk, Arc::new(Noon), config(flush)).ok().map(|opened| opened.0)
}

/// Directories of a store that was closed, and of one that was killed.
pub(super) fn encodings() -> Vec<Vec<u8>> {
    let disk = MemoryDisk::new(DISK_BYTES);
    let store = open(&disk, Flush::Sync).expect("a new store opens");
    let mut properties = Properties::default();
    properties.push("KEYS", "k1 k2");
    let append = |topic: &str, count: u32| {
        for n in 0..count {
            store.append(&[new_record(topic, QueueId(n % 3), &properties)]).expect("there is room");
        }
        store.flush().expect("the disk flushes");
    };
    // Snapshots and marks of one topic: the order of several is another each time, and these are to be repeated.
    append("orders", 40);
    store.snapshot().expect("there is room");
    append("bills", 5);
    let killed = pack(&disk);
    store.delete_topic("bills");
    append("orders", 3);
    store.close().expect("the disk flushes");
    // As RocketMQ leaves it: a log, and nothing of ours.
    let other = MemoryDisk::new(DISK_BYTES);
    for name in &NAMES[..SEGMENTS] {
        let segment = disk.read(&root().join(name));
        segment.map_or(Ok(()), |segment| other.write(&root().join(name), &segment)).expect("there is room");
    }
    vec![killed, pack(&disk), pack(&other)]
}

pub(super) fn run(Input { mend, choice, bytes }: Input<'_>) {
    let flush = if choice & 1 == 0 { Flush::Async } else { Flush::Sync };
    let disk = unpack(mend, bytes);
    // Looking makes threads; not every time.
    if choice & 6 == 6 {
        look(&disk);
    }
    let Some(store) = open(&disk, flush) else { return };
    let acknowledged = live(&store);
    copied(&store, usize::from(choice) * 40);
    assert!(store.close().is_ok(), "the disk flushes");
    drop(store);
    let store = open(&disk, flush).expect("what we closed we open");
    for (topic, id, at) in acknowledged {
        let entries = store.entries(&topic, id, at, 1).expect("it can be read");
        let record = store.record(&entries[0]).expect("what was acknowledged is there");
        assert_eq!((record.queue_offset, &*record.body), (at, &b"a body"[..]));
    }
}

/// Another member can have the log as it is, whatever is in it, by stretches of so many bytes.
fn copied(store: &Store, max: usize) {
    let state = store.state();
    let config = Config { first_offset: Some(state.min.0), ..config(Flush::Async) };
    let config = Config { segment_bytes: store.segment_bytes(), ..config };
    let disk = Arc::new(MemoryDisk::new(DISK_BYTES));
    let Ok((copy, _)) = Store::open_without_threads(disk, Arc::new(Noon), config) else { return };
    let mut at = state.min;
    while at < state.appended {
        let stretch = store.stretch(at, max).expect("the log is there");
        assert!(at < stretch.next && !stretch.bytes.is_empty(), "a stretch goes forward");
        match copy.append_stretch(at, &stretch.bytes, stretch.damaged) {
            Ok(end) => assert_eq!(end, stretch.next),
            Err(CopyError::DiskFull(_)) => return,
            Err(error) => panic!("what a log has another can have: {error}"),
        }
        at = stretch.next;
    }
    assert_eq!(copy.state().appended, state.appended);
}

fn look(disk: &MemoryDisk) {
    let Ok(look) = Look::open_on(Arc::new(disk.clone()), root()) else { return };
    let _ = look.listing();
    let _ = look.verify(&mut |_| ());
    if let Ok((queues, end)) = look.queues(&mut |_| ()) {
        for queue in queues.iter().take(10) {
            let _ = look.message(&queue.topic, queue.id, queue.min, &mut |_| ());
        }
        assert!(look.end().is_ok());
        let _ = look.records(LogOffset(0)..end, &mut |_, _| ControlFlow::Continue(()));
    }
}

/// Reads all that there is, and appends; returns where.
fn live(store: &Store) -> Vec<(String, QueueId, QueueOffset)> {
    let queues: Vec<_> = store.inner().views.all().flat_map(|(_, queues)| queues).collect();
    let mut found: Vec<_> = queues.iter().map(|queue| (queue.topic().to_owned(), queue.id())).collect();
    for (topic, id) in &found {
        let bounds = store.queue_bounds(topic, *id);
        let entries = store.entries(topic, *id, bounds.start, 1000).unwrap_or_default();
        for entry in &entries {
            assert!(bounds.contains(&entry.queue_offset));
            let _ = store.record(entry);
        }
        for at_ms in [i64::MIN, 1_700_000_000_002, i64::MAX] {
            let _ = (store.offset_at_time(topic, *id, at_ms), store.last_offset_at_time(topic, *id, at_ms));
        }
        let _ = store.find(topic, By::Key("k1"), i64::MIN..i64::MAX, 10);
    }
    found.truncate(8);
    found.push(("new".to_owned(), QueueId(1)));
    let properties = Properties::default();
    let mut acknowledged = Vec::new();
    for (topic, id) in found {
        let next = store.queue_bounds(&topic, id).end;
        // Java takes topics that we do not.
        if store.append(&[new_record(&topic, id, &properties)]).is_ok() {
            acknowledged.push((topic, id, next));
        }
    }
    if store.flush().is_err() {
        return Vec::new();
    }
    for (topic, id, at) in &acknowledged {
        assert_eq!(store.queue_bounds(topic, *id).end, at.plus(1), "no offset is given out twice");
    }
    // What the disk refuses stays in memory.
    store.housekeep();
    let _ = store.snapshot();
    acknowledged
}
