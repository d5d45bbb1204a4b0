//! Tries the files of the key index, and the keys in a record's properties.

use std::path::Path;

use super::catalog::matches;
use super::entry::{KeyEntry, keys};
use super::has_key;
use super::run::{Run, Writer, mend};
use crate::disk::{Disk as _, MemoryDisk};
use crate::fuzzing::Input;

const RANGE: std::ops::Range<u64> = 100..9_000;

fn dir() -> &'static Path {
    Path::new("/views/keys")
}

fn write(disk: &MemoryDisk, entries: &[KeyEntry]) -> Run {
    let mut writer =
        Writer::new(disk, dir().join("writing.temp"), 0, RANGE).expect("there is room for a run");
    entries.iter().for_each(|entry| writer.push(*entry).expect("there is room for an entry"));
    writer.finish(disk, dir()).expect("there is room for a run")
}

pub(crate) fn runs() -> Vec<Vec<u8>> {
    let entry = |n: u64| KeyEntry { hash: (n / 3) << 50, at: 100 + n, stored_s: n as u32 };
    let run = |count: u64| {
        let disk = MemoryDisk::default();
        let run = write(&disk, &(0..count).map(entry).collect::<Vec<_>>());
        disk.read(&run.path).expect("it was just written")
    };
    vec![run(1), run(1000), b"KEYS\x01a b\x02UNIQ_KEY\x01c\x02".to_vec()]
}

pub(crate) fn run(Input { mend: mends, bytes, .. }: Input<'_>) {
    for key in keys(bytes) {
        assert!(!key.is_empty());
        if let Ok(key) = std::str::from_utf8(key) {
            assert!(has_key(bytes, key));
        }
    }
    let mut bytes = bytes.to_vec();
    if mends {
        mend(&mut bytes, &RANGE);
    }
    let disk = MemoryDisk::default();
    let path = super::run::path(dir(), &RANGE);
    disk.write(&path, &bytes).expect("there is room");
    let Ok(run) = Run::open(&disk, &path, &RANGE, bytes.len() as u64) else { return };
    assert_eq!(run.bytes(), bytes.len() as u64);
    let mut sorted = Vec::new();
    let mut whole = true;
    for number in 0..run.blocks() {
        let Ok(entries) = run.block(number) else {
            whole = false;
            continue;
        };
        assert!(!entries.is_empty(), "no block is empty");
        sorted.extend(entries);
    }
    for hash in sorted.iter().map(|entry| entry.hash).chain([0, u64::MAX]) {
        let times = &run.footer.seconds;
        let _ = matches(&sorted, hash, times).count();
        let Some(block) = run.last_block(hash) else { continue };
        assert!(block < run.blocks());
        let _ = run.goes_on_before(block, hash);
    }
    // As it was written, or not by us.
    if whole && sorted.is_sorted() && !sorted.is_empty() {
        let disk = MemoryDisk::default();
        let again = write(&disk, &sorted);
        let back: Vec<_> =
            (0..again.blocks()).flat_map(|number| again.block(number).expect("it is whole")).collect();
        assert_eq!(back, sorted);
        let opened = Run::open(&disk, &again.path, &RANGE, again.bytes()).expect("it was just written");
        assert_eq!(opened.footer, again.footer);
    }
}
