//! A stopped store is looked at: what is damaged is told exactly, and nothing is written.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use store::disk::RealDisk;
use store::offline::{Damage, Error, Look, Met, Odd, ViewsKept, What};
use store::{Config, LogOffset, OpenError, QueueId, QueueOffset, Store, SystemClock};

use super::support::{config, fill};

/// A store with these many messages in queue 0 of topic `a`, closed; where each starts, and the end.
pub(crate) fn stopped(root: &Path, messages: u64) -> Vec<u64> {
    let store = open(&config(root));
    let places = fill(&store, "a", messages);
    store.close().unwrap();
    places
}

pub(crate) fn open(config: &Config) -> Store {
    Store::open_without_threads(Arc::new(RealDisk::default()), Arc::new(SystemClock), config.clone())
        .unwrap()
        .0
}

fn verify(root: &Path) -> store::offline::Verified {
    Look::open(root).unwrap().verify(&mut |_| {}).unwrap()
}

/// Changes a byte of the log.
pub(crate) fn flip(root: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(segment(root, at)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at % 4096).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], at % 4096).unwrap();
}

fn segment(root: &Path, at: u64) -> PathBuf {
    root.join(format!("commitlog/{:020}", at / 4096 * 4096))
}

/// Every file and directory: content, length, time of the last change.
fn tree(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        found.insert(dir.clone(), (Vec::new(), fs::metadata(&dir).unwrap().modified().unwrap()));
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            match path.is_dir() {
                true => dirs.push(path),
                false => drop(found.insert(path.clone(), (fs::read(&path).unwrap(), changed))),
            }
        }
    }
    found
}

fn make_read_only(root: &Path) {
    for path in tree(root).into_keys().rev() {
        let mode = if path.is_dir() { 0o555 } else { 0o444 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn make_writable(root: &Path) {
    for path in tree(root).into_keys() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_good_store_is_good_to_the_last_record_and_entry() {
    let dir = tempfile::tempdir().unwrap();
    let places = stopped(dir.path(), 1000);
    let verified = verify(dir.path());
    assert!(verified.is_good(), "{verified:?}");
    assert_eq!((verified.records, verified.end), (1000, LogOffset(places[1000])));
    assert_eq!((verified.views.good_entries, verified.views.queues), (1000, 1));
    assert_eq!((verified.views.complete_to, verified.torn), (verified.end, None));
}

#[test]
fn a_store_that_was_killed_is_good_and_its_views_are_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&config(dir.path()));
    fill(&store, "a", 100);
    store.snapshot().unwrap();
    let places = fill(&store, "a", 100);
    // The process dies: neither flushed nor closed.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let verified = verify(copy.path());
    assert!(verified.is_good(), "{verified:?}");
    assert_eq!((verified.records, verified.views.good_entries), (200, 100));
    assert_eq!(verified.views.complete_to, LogOffset(places[0]));
    let look = Look::open(copy.path()).unwrap();
    assert!(!look.listing().unwrap().clean);
    let (queues, end) = look.queues(&mut |_| {}).unwrap();
    assert_eq!((queues[0].min, queues[0].next, end), (QueueOffset(0), QueueOffset(200), verified.end));
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn damage_is_told_by_its_place_and_costs_its_record_only() {
    let dir = tempfile::tempdir().unwrap();
    let places = stopped(dir.path(), 100);
    // A body in the middle, a size at a segment's start, a magic number.
    let first_of_second = places.iter().position(|place| *place >= 4096).unwrap();
    let hit = [10, first_of_second, 60];
    flip(dir.path(), places[10] + 88);
    flip(dir.path(), places[first_of_second] + 1);
    flip(dir.path(), places[60] + 5);
    let verified = verify(dir.path());
    let reasons = [
        "the checksum of its bytes does not match",
        "the size field says 2097266",
        "the magic number is 0xda8320a7",
    ];
    let expected: Vec<_> = hit
        .iter()
        .zip(reasons)
        .map(|(&n, reason)| Damage {
            from: LogOffset(places[n]),
            to: LogOffset(places[n + 1]),
            what: What::Damaged(reason.to_owned()),
        })
        .collect();
    assert_eq!(verified.damaged, expected);
    assert_eq!((verified.records, verified.damaged_places), (97, 3));
    assert_eq!((verified.views.good_entries, verified.views.damaged_entries), (97, 3));
    assert_eq!(verified.views.wrong, []);
    assert!(!verified.is_good());
}

#[test]
fn what_a_crash_tore_is_no_damage_but_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&config(dir.path()));
    let places = fill(&store, "a", 10);
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    // Half of the last record never reached the disk.
    let file = fs::File::options().write(true).open(segment(copy.path(), 0)).unwrap();
    file.write_all_at(&[0; 40], places[10] - 40).unwrap();
    let verified = verify(copy.path());
    let torn = verified.torn.clone().unwrap();
    // The last byte that is left is the high one of the properties' length: zero like what follows.
    assert_eq!((torn.from, torn.to.0), (LogOffset(places[9]), places[10] - 41));
    assert!(matches!(torn.what, What::Torn(_)), "{torn:?}");
    assert!(verified.is_good());
    assert_eq!((verified.records, verified.end), (9, LogOffset(places[9])));
}

#[test]
fn a_missing_file_is_told_and_what_follows_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let places = stopped(dir.path(), 200);
    fs::remove_file(segment(dir.path(), 4096)).unwrap();
    let verified = verify(dir.path());
    let missing = Damage { from: LogOffset(4096), to: LogOffset(8192), what: What::Missing };
    assert_eq!(verified.damaged, [missing]);
    let lost = places[..200].iter().filter(|place| (4096..8192).contains(*place)).count() as u64;
    assert_eq!((verified.records, verified.views.damaged_entries), (200 - lost, lost));
    let listing = Look::open(dir.path()).unwrap().listing().unwrap();
    assert_eq!(listing.segments[0].odd, Some(Odd::GapBehind(4096)));
    assert!(listing.obstacle().unwrap().contains("restore the file"), "{listing:?}");
}

#[test]
fn a_file_cut_short_costs_what_was_in_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let places = stopped(dir.path(), 200);
    let cut_at = places[20] + 50;
    fs::File::options().write(true).open(segment(dir.path(), 0)).unwrap().set_len(cut_at).unwrap();
    let verified = verify(dir.path());
    let found: Vec<_> = verified.damaged.iter().map(|damage| (damage.from.0, damage.to.0)).collect();
    assert_eq!(found, [(places[20], cut_at), (cut_at, 4096)], "{verified:?}");
    assert!(verified.views.wrong.is_empty(), "{:?}", verified.views);
}

#[test]
fn views_that_a_rebuild_would_not_give_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&config(dir.path()));
    let places = fill(&store, "a", 500);
    store.housekeep();
    store.close().unwrap();
    let blocks = dir.path().join("views/blocks-00000");
    let mut content = fs::read(&blocks).unwrap();
    content[7 * 20 + 7] ^= 1;
    fs::write(&blocks, content).unwrap();
    let verified = verify(dir.path());
    assert_eq!((verified.records, verified.damaged_places), (500, 0));
    assert_eq!((verified.views.good_entries, verified.views.wrong_entries), (499, 1));
    let wrong = &verified.views.wrong[0];
    assert_eq!((wrong.topic.as_str(), wrong.queue_offset), ("a", QueueOffset(7)));
    let reason = format!("the record at log offset {} has no entry, or a damaged one", places[7]);
    assert_eq!(wrong.reason, reason);
    assert!(!verified.is_good());
}

#[test]
fn views_without_the_end_of_a_queue_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&config(dir.path()));
    fill(&store, "a", 20);
    store.snapshot().unwrap();
    let few = fs::read(dir.path().join("views/snapshot")).unwrap();
    fill(&store, "a", 5);
    store.close().unwrap();
    // An older snapshot that claims to be as far as the newer one.
    let newer = fs::read(dir.path().join("views/snapshot")).unwrap();
    let mut forged = few[..few.len() - 4].to_vec();
    forged[12..20].copy_from_slice(&newer[12..20]);
    let crc = crc32fast::hash(&forged);
    forged.extend_from_slice(&crc.to_be_bytes());
    fs::write(dir.path().join("views/snapshot"), forged).unwrap();
    let verified = verify(dir.path());
    assert_eq!((verified.views.good_entries, verified.views.wrong_entries), (20, 5));
    assert!(verified.views.wrong[0].reason.contains("has no entry"), "{:?}", verified.views.wrong[0]);
}

#[test]
fn records_come_in_order_from_any_range() {
    let dir = tempfile::tempdir().unwrap();
    let places = stopped(dir.path(), 200);
    flip(dir.path(), places[50] + 88);
    let look = Look::open(dir.path()).unwrap();
    let met = |from: usize, to: usize| {
        let mut met = Vec::new();
        let range = LogOffset(places[from])..LogOffset(places[to]);
        look.records(range, &mut |what, _| {
            met.push(match what {
                Met::Record(record) => record.log_offset.0,
                Met::Damage(damage) => damage.from.0,
            });
            ControlFlow::Continue(())
        })
        .unwrap();
        met
    };
    assert_eq!(met(0, 200), places[..200]);
    assert_eq!(met(45, 130), places[45..130]);
    assert_eq!(met(51, 52), places[51..52]);
}

#[test]
fn a_message_is_found_by_its_queue_whether_the_views_know_it_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let places = stopped(dir.path(), 300);
    for _ in 0..2 {
        let look = Look::open(dir.path()).unwrap();
        let message = |offset| look.message("a", QueueId(0), QueueOffset(offset), &mut |_| {}).unwrap();
        assert_eq!(message(250).unwrap().log_offset.0, places[250]);
        assert_eq!(message(300).map(|record| record.log_offset), None);
        assert!(look.message("b", QueueId(0), QueueOffset(0), &mut |_| {}).unwrap().is_none());
        drop(look);
        fs::remove_dir_all(dir.path().join("views")).unwrap_or_default();
    }
}

#[test]
fn a_log_alone_is_enough_whatever_its_segment_size() {
    let dir = tempfile::tempdir().unwrap();
    let large = Config { segment_bytes: 16384, ..config(dir.path()) };
    let store = open(&large);
    let places = fill(&store, "a", 300);
    store.close().unwrap();
    let alone = tempfile::tempdir().unwrap();
    copy_dir(&dir.path().join("commitlog"), &alone.path().join("commitlog"));
    let look = Look::open(alone.path()).unwrap();
    assert_eq!(look.listing().unwrap().views, ViewsKept::Nothing);
    let verified = look.verify(&mut |_| {}).unwrap();
    assert!(verified.is_good());
    assert_eq!((verified.records, verified.end, verified.views.queues), (300, LogOffset(places[300]), 0));
    assert_eq!(look.queues(&mut |_| {}).unwrap().0[0].next, QueueOffset(300));
}

#[test]
fn looking_changes_nothing_and_needs_no_permission_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let places = stopped(dir.path(), 300);
    flip(dir.path(), places[100] + 20);
    for without_lock in [false, true] {
        if without_lock {
            fs::remove_file(dir.path().join("lock")).unwrap();
        }
        make_read_only(dir.path());
        let before = tree(dir.path());
        {
            let look = Look::open(dir.path()).unwrap();
            look.listing().unwrap();
            look.queues(&mut |_| {}).unwrap();
            assert_eq!(look.verify(&mut |_| {}).unwrap().damaged_places, 1);
            look.record(LogOffset(places[3])).unwrap();
            look.message("a", QueueId(0), QueueOffset(5), &mut |_| {}).unwrap().unwrap();
        }
        assert_eq!(tree(dir.path()), before);
        make_writable(dir.path());
    }
}

#[test]
fn a_store_that_is_open_is_not_looked_at_unless_asked() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&config(dir.path()));
    fill(&store, "a", 10);
    assert!(matches!(Look::open(dir.path()), Err(Error::InUse(_))));
    assert!(Look::open_even_in_use(dir.path()).unwrap().in_use());
    store.close().unwrap();

    let look = Look::open(dir.path()).unwrap();
    let _another = Look::open(dir.path()).unwrap();
    assert!(!look.in_use());
    assert!(matches!(Store::open(config(dir.path())), Err(OpenError::InUse(_))));
}

#[test]
fn a_directory_without_a_log_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Look::open(dir.path()), Err(Error::NoStore(_))));
}
