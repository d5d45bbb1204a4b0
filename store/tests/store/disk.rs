//! The contract of [`store::disk::Disk`], kept by the real disk and by the one in memory.

use std::io::ErrorKind;
use std::path::Path;

use store::disk::{Crash, Disk, MemoryDisk, RealDisk};

/// Every promise that does not need a crash.
fn conformance(disk: &dyn Disk, root: &Path) {
    files_are_written_listed_renamed_and_removed(disk, &root.join("files"));
    maps_show_readers_only_what_is_published(disk, &root.join("maps"));
    files_are_read_and_written_at_places(disk, &root.join("places"));
    files_opened_to_read_show_what_maps_publish(disk, &root.join("read"));
    a_lock_is_had_once(disk, &root.join("lock"));
    let space = disk.space(root).unwrap();
    assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
}

fn files_are_written_listed_renamed_and_removed(disk: &dyn Disk, dir: &Path) {
    disk.create_dir(dir).unwrap();
    disk.create_dir(dir).unwrap();
    disk.write(&dir.join("b"), b"two").unwrap();
    disk.write(&dir.join("a"), b"three").unwrap();
    disk.write(&dir.join("a"), b"one").unwrap();
    let names =
        || disk.list(dir).unwrap().into_iter().map(|file| (file.name, file.bytes)).collect::<Vec<_>>();
    assert_eq!(names(), [("a".to_owned(), 3), ("b".to_owned(), 3)]);
    disk.rename(&dir.join("a"), &dir.join("b")).unwrap();
    assert_eq!(disk.read(&dir.join("b")).unwrap(), b"one");
    disk.remove(&dir.join("b")).unwrap();
    disk.sync_dir(dir).unwrap();
    assert_eq!(names(), []);
    for missing in [
        disk.read(&dir.join("b")).map(|_| ()),
        disk.remove(&dir.join("b")),
        disk.rename(&dir.join("b"), &dir.join("a")),
        disk.map(&dir.join("b"), 1, 0).map(|_| ()),
    ] {
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

fn maps_show_readers_only_what_is_published(disk: &dyn Disk, dir: &Path) {
    disk.create_dir(dir).unwrap();
    let path = dir.join("segment");
    disk.allocate(&path, 8192).unwrap();
    assert_eq!(disk.allocate(&path, 8192).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(disk.map(&path, 4096, 0).is_err(), "a map is of the whole file");
    let map = disk.map(&path, 8192, 0).unwrap();
    assert_eq!((map.bytes(), map.published()), (8192, 0));
    map.populate(0..4096).unwrap();
    map.fill(0..5, &mut |bytes| bytes.copy_from_slice(b"hello"));
    assert_eq!(map.slice(0..5), None, "not published yet");
    map.publish(5);
    assert_eq!(map.slice(0..5).unwrap(), "hello");
    assert_eq!(map.slice(0..6), None);
    assert_eq!(map.slice(5..5).unwrap(), "");
    map.flush(0..5).unwrap();
    let data_end = disk.data_end(&path).unwrap();
    assert!((5..=8192).contains(&data_end));
    let caught =
        |work: &mut dyn FnMut()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err();
    assert!(caught(&mut || map.fill(4..6, &mut |_| ())), "readers may look there");
    assert!(caught(&mut || map.fill(8000..8193, &mut |_| ())), "the file ends before");
    assert!(caught(&mut || map.publish(4)), "the published end never goes back");
    assert!(caught(&mut || map.publish(8193)));

    let slice = map.slice(1..4).unwrap();
    map.seal();
    map.flush(0..8192).unwrap();
    drop(map);
    disk.remove(&path).unwrap();
    assert_eq!(slice, "ell", "a slice outlives map and name");
}

fn files_are_read_and_written_at_places(disk: &dyn Disk, dir: &Path) {
    disk.create_dir(dir).unwrap();
    let file = disk.open(&dir.join("blocks")).unwrap();
    file.write_at(5, b"world").unwrap();
    file.write_at(0, b"hello").unwrap();
    file.sync().unwrap();
    let mut bytes = [0; 10];
    disk.open(&dir.join("blocks")).unwrap().read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"helloworld");
    assert!(file.read_at(1, &mut bytes).is_err(), "it ends before");
    let cached = file.read_cached_at(2, &mut bytes).unwrap();
    assert!(cached == 0 || cached == 8, "all that is there, or none");
    assert_eq!(&bytes[..cached], &b"lloworld"[..cached]);
}

fn files_opened_to_read_show_what_maps_publish(disk: &dyn Disk, dir: &Path) {
    disk.create_dir(dir).unwrap();
    let path = dir.join("segment");
    assert_eq!(disk.open_to_read(&path).map(|_| ()).unwrap_err().kind(), ErrorKind::NotFound);
    disk.allocate(&path, 8192).unwrap();
    let map = disk.map(&path, 8192, 0).unwrap();
    let file = disk.open_to_read(&path).unwrap();
    map.fill(4000..4005, &mut |bytes| bytes.copy_from_slice(b"hello"));
    map.publish(4005);
    let mut bytes = [0; 7];
    file.read_at(3999, &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0hello\0");
    file.drop_cached(0..8192);
    disk.remove(&path).unwrap();
    file.read_at(3999, &mut bytes).unwrap();
    assert_eq!(&bytes, b"\0hello\0", "it is still there, whatever was dropped");
    assert!(file.read_at(8190, &mut bytes).is_err(), "it ends before");
    assert!(file.write_at(0, b"x").is_err(), "it is for reading");
}

fn a_lock_is_had_once(disk: &dyn Disk, path: &Path) {
    let held = disk.lock(path).unwrap().unwrap();
    assert!(disk.lock(path).unwrap().is_none());
    drop(held);
    assert!(disk.lock(path).unwrap().is_some());
}

#[test]
fn the_real_disk_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    conformance(&RealDisk::default(), dir.path());
}

#[test]
fn the_disk_in_memory_keeps_the_contract() {
    conformance(&MemoryDisk::new(1 << 20), Path::new("/data"));
}

#[test]
fn the_disk_in_memory_loses_what_was_not_synced() {
    let disk = MemoryDisk::default();
    let dir = Path::new("/data");
    disk.allocate(&dir.join("segment"), 1024).unwrap();
    disk.sync_dir(dir).unwrap();
    disk.write(&dir.join("nameless"), b"durable content, no durable name").unwrap();
    let map = disk.map(&dir.join("segment"), 1024, 0).unwrap();
    map.fill(0..600, &mut |bytes| bytes.fill(1));
    map.flush(0..600).unwrap();
    map.fill(0..1024, &mut |bytes| bytes.fill(2));

    let read = |disk: &MemoryDisk| disk.read(&dir.join("segment")).unwrap();
    let killed = disk.crash(Crash::Kill);
    assert_eq!(read(&killed), [2; 1024]);
    assert_eq!(killed.paths().len(), 2);
    let lost = disk.crash(Crash::LoseUnsynced);
    assert_eq!(read(&lost), [[1; 600].as_slice(), &[0; 424]].concat());
    assert_eq!(lost.paths(), [dir.join("segment")]);
    let torn: std::collections::BTreeSet<_> =
        (0..64).map(|seed| read(&disk.crash(Crash::Tear(seed * 77)))).collect();
    assert_eq!(torn.len(), 4, "two sectors, each old or new");
}

#[test]
fn a_failed_flush_of_the_disk_in_memory_drops_what_was_dirty() {
    let disk = MemoryDisk::default();
    let path = Path::new("/data/segment");
    disk.allocate(path, 512).unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    let map = disk.map(path, 512, 0).unwrap();
    map.fill(0..512, &mut |bytes| bytes.fill(1));
    disk.fail_flush(0);
    assert!(map.flush(0..512).is_err());
    assert!(map.flush(0..512).is_err(), "after one that failed none succeeds");
    assert!(disk.sync_dir(Path::new("/data")).is_err(), "whatever it is for");
    let disk = disk.for_a_new_process();
    disk.map(path, 512, 512).unwrap().flush(0..512).unwrap();
    assert_eq!(
        disk.crash(Crash::LoseUnsynced).read(path).unwrap(),
        [0; 512],
        "flushing again only seems to work"
    );
}
