use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use insta::assert_snapshot;
use store::disk::RealDisk;
use store::offline::Look;
use store::{Clock, Config, LogOffset, NewRecord, Properties, QueueId, Store};

use super::inspect::{Overview, Queue, Queues, Segments};
use super::verify::Report;
use crate::message::Message;
use crate::output::{Format, Paint, View, render};

/// 2026-11-25T17:42:10.007Z, always.
struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> i64 {
        1_795_628_530_007
    }
}

/// A closed store of 60 messages in two topics; where each starts.
pub(super) fn sample(dir: &Path) -> Vec<u64> {
    let config = Config { segment_bytes: 4096, ..Config::new(dir) };
    let (store, _) =
        Store::open_without_threads(Arc::new(RealDisk::default()), Arc::new(Noon), config).unwrap();
    let places = (0..60).map(|n| append(&store, n)).collect();
    store.close().unwrap();
    places
}

fn append(store: &Store, n: u32) -> u64 {
    let mut properties = Properties::default();
    properties.push("TAGS", "eu");
    properties.push("KEYS", &format!("k{n}"));
    let body = if n == 7 { vec![0, 159, 146, 150] } else { format!("order {n}").into_bytes() };
    let record = NewRecord {
        topic: if n.is_multiple_of(3) { "payments" } else { "orders" },
        queue_id: QueueId(n % 2),
        body: &body,
        properties: properties.as_bytes(),
        tag: Some("eu"),
        flag: 3,
        sys_flag: 0,
        born_at_ms: 1_795_628_529_000,
        born_host: "10.1.2.3:4567".parse().unwrap(),
        store_host: "[2001:db8::1]:10911".parse().unwrap(),
        reconsume_times: 1,
        prepared_offset: LogOffset(0),
    };
    store.append(&[record]).unwrap().start.0
}

pub(super) fn flip(dir: &Path, at: u64) {
    let path = dir.join(format!("commitlog/{:020}", at / 4096 * 4096));
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at % 4096).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], at % 4096).unwrap();
}

fn shown(view: &impl View, dir: &Path) -> String {
    render(view, Format::Table, Paint(false)).unwrap().replace(&dir.display().to_string(), "DIR")
}

fn verified(dir: &Path) -> Report {
    let look = Look::open(dir).unwrap();
    let problem = look.listing().unwrap().obstacle();
    Report::of(look.verify(&mut |_| {}).unwrap(), problem)
}

#[test]
fn a_store_fits_on_a_few_lines() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let look = Look::open(dir.path()).unwrap();
    assert_snapshot!(shown(&Overview::of(&look).unwrap(), dir.path()));
    assert_snapshot!(shown(&Segments::of(&look).unwrap(), dir.path()));
}

#[test]
fn what_is_odd_about_a_store_is_told_on_sight() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    fs::remove_file(dir.path().join("commitlog/00000000000000004096")).unwrap();
    fs::write(dir.path().join("commitlog/notes.txt"), "").unwrap();
    fs::write(dir.path().join("abort"), "1").unwrap();
    fs::write(dir.path().join("views/snapshot"), "").unwrap();
    fs::write(dir.path().join("checkpoint"), 1_795_628_530_007_i64.to_be_bytes().repeat(3)).unwrap();
    fs::create_dir_all(dir.path().join("config")).unwrap();
    fs::write(dir.path().join("config/topics.json"), "{}").unwrap();
    let look = Look::open(dir.path()).unwrap();
    assert_snapshot!(shown(&Overview::of(&look).unwrap(), dir.path()));
    assert_snapshot!(shown(&Segments::of(&look).unwrap(), dir.path()));
}

#[test]
fn queues_and_messages_are_shown_with_all_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let places = sample(dir.path());
    let look = Look::open(dir.path()).unwrap();
    let queues = look.queues(&mut |_| {}).unwrap().0.into_iter().map(|queue| Queue {
        topic: queue.topic,
        queue_id: queue.id.0,
        min: queue.min.0,
        next: queue.next.0,
    });
    assert_snapshot!(shown(&Queues { queues: queues.collect() }, dir.path()));
    let message = |n: usize| Message::of(&look.record(LogOffset(places[n])).unwrap());
    assert_snapshot!(shown(&message(5), dir.path()));
    assert_snapshot!(render(&message(7), Format::Json, Paint(false)).unwrap());
}

#[test]
fn a_good_store_is_told_good() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let report = verified(dir.path());
    assert!(report.good);
    assert_snapshot!(shown(&report, dir.path()));
}

#[test]
fn damage_is_listed_by_place() {
    let dir = tempfile::tempdir().unwrap();
    let places = sample(dir.path());
    flip(dir.path(), places[5] + 110);
    flip(dir.path(), places[6] + 5);
    let last = places.iter().rposition(|place| *place < 4096).unwrap();
    flip(dir.path(), places[last] + 70);
    fs::remove_file(dir.path().join("commitlog/00000000000000004096")).unwrap();
    let report = verified(dir.path());
    assert!(!report.good);
    assert_snapshot!(shown(&report, dir.path()));
    assert_snapshot!(render(&report, Format::Json, Paint(false)).unwrap());
}

#[test]
fn a_message_comes_back_from_its_json() {
    let dir = tempfile::tempdir().unwrap();
    let places = sample(dir.path());
    let look = Look::open(dir.path()).unwrap();
    for place in places {
        let message = Message::of(&look.record(LogOffset(place)).unwrap());
        let line = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::from_str::<Message>(&line).unwrap(), message);
    }
}
