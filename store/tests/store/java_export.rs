//! Directories made for Apache RocketMQ, held against what its own store makes of the same log.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use store::LogOffset;
use store::offline::{ExportError, Look, Met, RocketExport, Sizes};

use super::offline::{copy_dir, flip, stopped};

/// Those of the Java program in `e2e/java-store`.
const SMALL: Sizes = Sizes { queue_entries: 1024, index_slots: 1024, index_entries: 4096 };

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java").join(name)
}

fn export(from: &Path, to: &Path, link: bool) -> RocketExport {
    Look::open(from).unwrap().export_rocketmq(to, SMALL, link, &mut |_| {}).unwrap()
}

/// The files below this directory, by their path from `root`.
fn files(root: &Path, dir: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root.join(dir)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{dir}/{}", entry.file_name().into_string().unwrap());
        match entry.path().is_dir() {
            true => found.extend(files(root, &name)),
            false => drop(found.insert(name, fs::read(entry.path()).unwrap())),
        }
    }
    found
}

/// Log offsets of the messages of a queue, by Java's own consume queue; from the first that is not blank.
fn queue(root: &Path, topic: &str, id: u32) -> Vec<u64> {
    let files = files(root, &format!("consumequeue/{topic}/{id}"));
    let entries = files.values().flat_map(|content| content.as_chunks::<20>().0);
    let used = entries.filter(|entry| entry[8..12] != [0; 4] && entry[8..12] != i32::MAX.to_be_bytes());
    used.map(|entry| u64::from_be_bytes(entry[..8].try_into().unwrap())).collect()
}

/// Where the valid records lie that are not there to cover something.
fn records(root: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    let look = Look::open(root).unwrap();
    look.records(LogOffset(0)..LogOffset(u64::MAX), &mut |met, _| {
        match met {
            Met::Record(record) if *record.topic != *b"%" => found.push(record.log_offset.0),
            Met::Record(_) => {}
            Met::Damage(damage) => panic!("{damage:?} is left in the export"),
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// The sums were taken of the files that RocketMQ 5.4.0 built from the logs of these fixtures (`java-store read`).
#[test]
fn consume_queues_and_index_are_byte_for_byte_what_java_makes() {
    for (name, queues, queues_sum, index_sum) in [
        ("records", 10, 0x45df_6aa0, 0xac73_8520),
        ("checked", 10, 0xfb5b_825c, 0x5276_99d1),
        ("broker", 16, 0xd55d_054d, 0xc4c7_c1d4),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("java");
        export(&fixture(name), &to, false);
        let (mut sum, made) = (crc32fast::Hasher::new(), files(&to, "consumequeue"));
        for (path, content) in &made {
            sum.update(path.as_bytes());
            sum.update(content);
        }
        assert_eq!((made.len(), sum.finalize()), (queues, queues_sum), "consume queues of {name}");
        let index: Vec<_> = files(&to, "index").into_values().collect();
        assert_eq!((index.len(), crc32fast::hash(&index[0])), (1, index_sum), "index of {name}");
    }
}

#[test]
fn the_log_is_the_same_and_the_store_is_closed_properly_for_java() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("java");
    let export = export(&fixture("checked"), &to, false);
    assert_eq!((export.end, export.covered, export.linked, export.left_out), (LogOffset(12454), 0, 0, 0));
    assert_eq!(files(&to, "commitlog"), files(&fixture("checked"), "commitlog"));
    assert!(!to.join("abort").exists());
    let checkpoint = fs::read(to.join("checkpoint")).unwrap();
    assert_eq!((checkpoint.len(), &checkpoint[..8]), (4096, &checkpoint[8..16]));
    assert_eq!(checkpoint[32..40], 12454_u64.to_be_bytes());
}

#[test]
fn queues_and_index_go_on_in_further_files() {
    let dir = tempfile::tempdir().unwrap();
    let places = stopped(&dir.path().join("ours"), 300);
    let to = dir.path().join("java");
    let sizes = Sizes { queue_entries: 64, index_slots: 7, index_entries: 50 };
    let look = Look::open(&dir.path().join("ours")).unwrap();
    let export = look.export_rocketmq(&to, sizes, false, &mut |_| {}).unwrap();
    assert_eq!(queue(&to, "a", 0), places[..300]);
    let names: Vec<_> = files(&to, "consumequeue").into_keys().collect();
    let expected: Vec<_> = (0..5).map(|n| format!("consumequeue/a/0/{:020}", n * 64 * 20)).collect();
    assert_eq!(names, expected);
    assert_eq!((export.entries, export.topics["a"]), (300, 1));
}

#[test]
fn a_damaged_stretch_is_covered_and_costs_its_record_only() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours");
    let places = stopped(&ours, 200);
    let last_of_first = places.iter().rposition(|place| *place < 4096).unwrap();
    // In the middle, the first of a segment, the last of one with its blank, two neighbours, the very first.
    let hit = [20, last_of_first + 1, last_of_first + 35, 100, 101, 0];
    assert_eq!(places[hit[2] + 1] % 4096, 0, "the last record of its segment");
    hit.iter().for_each(|n| flip(&ours, places[*n] + 60));
    let to = dir.path().join("java");
    let export = export(&ours, &to, false);
    let left: Vec<_> = (0..200).filter(|n| !hit.contains(n)).map(|n| places[n]).collect();
    assert_eq!((export.records, export.covered), (left.len() as u64, 5));
    assert_eq!(records(&to), left);
    // The place of a lost message has the next one, so Java's consumers get that twice.
    let expected: Vec<_> = (0..200).map(|n| *left.iter().find(|left| **left >= places[n]).unwrap()).collect();
    assert_eq!(queue(&to, "a", 0), expected[1..], "the first is lost, and blank");
}

#[test]
fn a_missing_file_is_made_of_nothing_that_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours");
    let places = stopped(&ours, 200);
    fs::remove_file(ours.join("commitlog/00000000000000004096")).unwrap();
    let to = dir.path().join("java");
    export(&ours, &to, true);
    let left: Vec<_> = places[..200].iter().copied().filter(|place| !(4096..8192).contains(place)).collect();
    assert_eq!(records(&to), left);
    assert_eq!(fs::read_dir(to.join("commitlog")).unwrap().count(), places[200].div_ceil(4096) as usize);
}

#[test]
fn what_a_crash_tore_does_not_come_along() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours");
    let places = stopped(&ours, 10);
    // Nothing says that it was flushed, and the last record is torn.
    fs::remove_file(ours.join("flushed")).unwrap();
    fs::remove_dir_all(ours.join("views")).unwrap();
    flip(&ours, places[9] + 60);
    let to = dir.path().join("java");
    let export = export(&ours, &to, false);
    assert_eq!((export.end.0, export.covered), (places[9], 0));
    let log = fs::read(to.join("commitlog/00000000000000000000")).unwrap();
    assert!(log[places[9] as usize..].iter().all(|byte| *byte == 0));
    assert_eq!(records(&to), places[..9]);
}

#[test]
fn only_files_that_nobody_writes_to_any_more_are_shared() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours");
    let places = stopped(&ours, 200);
    flip(&ours, places[10] + 60);
    let to = dir.path().join("java");
    let export = export(&ours, &to, true);
    let count = places[200].div_ceil(4096);
    assert_eq!(export.linked, count - 2, "all but the one with a covered stretch and the last");
    let inode =
        |root: &Path, n: u64| fs::metadata(root.join(format!("commitlog/{:020}", n * 4096))).unwrap().ino();
    let shared: Vec<_> = (0..count).filter(|n| inode(&ours, *n) == inode(&to, *n)).collect();
    assert_eq!(shared, (1..count - 1).collect::<Vec<_>>());
}

#[test]
fn a_topic_from_stored_bytes_does_not_lead_out_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours");
    let store = super::offline::open(&super::support::config(&ours));
    super::support::fill(&store, "../../escaped", 3);
    super::support::fill(&store, "good", 3);
    store.close().unwrap();
    let to = dir.path().join("java");
    let export = export(&ours, &to, false);
    assert_eq!((export.entries, export.left_out), (3, 3));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(fs::read_dir(to.join("consumequeue")).unwrap().count(), 1);
}

#[test]
fn a_log_that_java_could_not_open_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours");
    stopped(&ours, 100);
    let second = fs::File::options().write(true).open(ours.join("commitlog/00000000000000004096")).unwrap();
    second.write_all_at(b"x", 9000).unwrap();
    let to = dir.path().join("java");
    let look = Look::open(&ours).unwrap();
    let refused = look.export_rocketmq(&to, SMALL, false, &mut |_| {}).unwrap_err();
    assert!(matches!(refused, ExportError::Unfit(_)), "{refused}");
    assert!(!to.exists());
    fs::create_dir(&to).unwrap();
    let refused = Look::open(&fixture("records")).unwrap().export_rocketmq(&to, SMALL, false, &mut |_| {});
    assert!(matches!(refused, Err(ExportError::Write { .. })));
    copy_dir(&fixture("records"), &to);
}
