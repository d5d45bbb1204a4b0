//! What only the views themselves can be asked.

use std::path::Path;

use super::snapshot::Snapshot;
use super::*;
use crate::disk::{Disk, MemoryDisk};

fn views(disk: &MemoryDisk) -> Views {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Views::load(disk, Path::new("/data"), LogOffset(0)..LogOffset(u64::MAX)).unwrap().0
}

fn push(views: &Views, queue: u32, at: u64) {
    let queue = views.queue_or_new("t", QueueId(queue));
    queue.assign();
    views.push(&queue, RawEntry::new(LogOffset(at), 1, 0)).unwrap();
}

fn places(views: &Views, queue: u32) -> Vec<u64> {
    let entries = views.read("t", QueueId(queue), QueueOffset(0), usize::MAX).unwrap();
    entries.iter().map(|entry| entry.log_offset.0).collect()
}

/// Entries in memory by counting them.
fn held(views: &Views) -> u64 {
    views.all().flat_map(|(_, queues)| queues).map(|queue| queue.held()).sum()
}

#[test]
fn a_snapshot_that_names_a_queue_twice_is_damaged() {
    let disk = MemoryDisk::default();
    let views = views(&disk);
    push(&views, 0, 1);
    push(&views, 1, 2);
    let queue = |id| views.queue("t", QueueId(id)).unwrap();
    let is_good = |topics: &[(&str, &[u32])]| {
        let dir = Path::new("/data/views");
        let mut writer = snapshot::Writer::new(&disk, dir, LogOffset(9), 0).unwrap();
        for (topic, ids) in topics {
            let queues: Vec<_> = ids.iter().map(|id| queue(*id)).collect();
            writer.topic(topic, &queues).unwrap();
        }
        writer.finish().unwrap();
        Snapshot::decode(disk.read(&snapshot::path(dir)).unwrap()).is_some()
    };
    assert!(is_good(&[("t", &[0, 1]), ("u", &[0, 1])]));
    assert!(!is_good(&[("t", &[0, 0])]));
    assert!(!is_good(&[("t", &[0, 1, 0])]));
    assert!(!is_good(&[("t", &[0]), ("u", &[0]), ("t", &[1])]));
}

#[test]
fn with_too_many_entries_in_memory_the_queues_that_wait_longest_are_written_out() {
    let mut views = views(&MemoryDisk::default());
    views.most_held = 2100;
    for round in 0..40 {
        // Queue 0 is busy; each of the others has a message now and then.
        for n in 0..100 {
            push(
                &views,
                if n < 50 { 0 } else { 1 + (round * 50 + n as u32) % 500 },
                1 + u64::from(round) * 100 + n,
            );
        }
        views.write_out().unwrap();
        assert!(held(&views) <= 2100, "round {round}: {}", held(&views));
        assert_eq!(held(&views), views.held.load(Ordering::Relaxed), "round {round}");
    }
    assert!(views.queue("t", QueueId(0)).unwrap().held() >= 16, "who follows a busy queue reads no file");
    let mut all: Vec<u64> = (0..=500).flat_map(|queue| places(&views, queue)).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(1..=4000));
}

#[test]
fn what_is_counted_as_in_memory_is_what_is_there_also_for_deleted_queues_and_a_full_disk() {
    let disk = MemoryDisk::default();
    let views = views(&disk);
    (0..3000).for_each(|n| push(&views, n % 7, u64::from(n) + 1));
    let gone = views.queue_or_new("t", QueueId(3));
    disk.set_capacity(0);
    assert!(views.write_out().is_err());
    assert_eq!(views.held.load(Ordering::Relaxed), 3000);
    disk.set_capacity(u64::MAX);
    views.write_out().unwrap();
    assert!(held(&views) < 3000);
    views.advance_min(LogOffset(2500));
    assert!(views.delete("t", LogOffset(0)) && !views.delete("t", LogOffset(0)));
    assert_eq!(views.push(&gone, RawEntry::new(LogOffset(4000), 1, 0)), None);
    (0..70).for_each(|_| views.write_out().unwrap());
    assert_eq!((held(&views), gone.held(), views.held.load(Ordering::Relaxed)), (0, 0, 0));
    assert!(!views.is_busy());
}

/// How far queues had counted by a snapshot that reaches further than the log.
fn counts(queues: u32, next: u64) -> Counts {
    let stored = (0..queues).map(|id| (("t".to_owned(), QueueId(id)), next)).collect();
    Counts { stored, ..Counts::default() }
}

#[test]
fn what_was_counted_beyond_the_log_can_be_written_down() {
    let disk = MemoryDisk::default();
    let views = views(&disk);
    views.replay("t", QueueId(0), QueueOffset(0), RawEntry::new(LogOffset(10), 1, 0));
    views.recovered(LogOffset(0)..LogOffset(100), LogOffset(100), counts(1, 1000)).unwrap();
    views.write_out().unwrap();
    views.write_snapshot(LogOffset(100), 1, LogOffset(0)).unwrap();
    let again = self::views(&disk);
    push(&again, 0, 100);
    let entries = again.read("t", QueueId(0), QueueOffset(0), 10).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.queue_offset.0).collect::<Vec<_>>(), [0, 1000]);
}

#[cfg(not(miri))]
#[test]
fn queues_that_a_snapshot_says_are_longer_do_not_fill_the_memory() {
    let views = views(&MemoryDisk::default());
    for id in 0..2 {
        views.replay("t", QueueId(id), QueueOffset(0), RawEntry::new(LogOffset(10 + u64::from(id)), 1, 0));
    }
    views.recovered(LogOffset(0)..LogOffset(1000), LogOffset(1000), counts(2, 1 << 40)).unwrap();
    assert_eq!(held(&views), consume_queue::MAX_HOLES + 2);
}

#[test]
fn a_damaged_record_is_believed_to_be_the_last_of_its_queue_where_that_is_likely() {
    let views = views(&MemoryDisk::default());
    views.replay("t", QueueId(0), QueueOffset(0), RawEntry::new(LogOffset(10), 1, 0));
    views.replay("t", QueueId(1), QueueOffset(0), RawEntry::new(LogOffset(11), 1, 0));
    let mut counts = Counts::default();
    for (topic, queue, at) in [("t", 0, 2), ("t", 0, 1), ("t", 1, 9), ("t", 2, 0), ("u", 0, 0)] {
        counts.note_remains(topic, QueueId(queue), QueueOffset(at));
    }
    views.recovered(LogOffset(0)..LogOffset(100), LogOffset(100), counts).unwrap();
    let next = |topic: &str, queue| views.queue(topic, QueueId(queue)).map(|queue| queue.assign().0);
    assert_eq!(next("t", 0), Some(3));
    assert_eq!(next("t", 1), Some(1), "not so many are lost in all");
    assert_eq!(next("t", 2), Some(1), "it was the first");
    assert_eq!(next("u", 0), None, "its name may be what is damaged");
    assert_eq!(places(&views, 0), [10]);
}

#[test]
fn a_queue_offset_far_ahead_of_what_could_be_lost_begins_another_life() {
    let views = views(&MemoryDisk::default());
    let replay =
        |at, place| views.replay("t", QueueId(0), QueueOffset(at), RawEntry::new(LogOffset(place), 1, 0));
    replay(0, 10);
    replay(1000, 200_000);
    assert_eq!(held(&views), 1001, "so many may have been lost in between");
    replay(8 << 20, 200_100);
    assert_eq!(held(&views), 1);
    replay(16 << 20, 200_000 + (1 << 30));
    assert_eq!(held(&views), (8 << 20) + 1, "there was room for so many");
}

#[test]
fn a_snapshot_that_counts_on_what_comes_after_it_is_damaged() {
    let disk = MemoryDisk::default();
    let views = views(&disk);
    (1..=3).for_each(|n| push(&views, 0, 100 * n));
    views.write_snapshot(LogOffset(301), 1, LogOffset(0)).unwrap();
    let bytes = disk.read(Path::new("/data/views/snapshot")).unwrap();
    let check = |at: usize, number: &[u8], is_good: bool| {
        let mut changed = bytes.clone();
        changed[at..at + number.len()].copy_from_slice(number);
        let content = changed.len() - 4;
        let crc = crc32fast::hash(&changed[..content]);
        changed[content..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(Snapshot::decode(changed).is_some(), is_good, "{at} {number:?}");
    };
    let complete_to = 12;
    let last_entry = bytes.len() - 4 - 2 - 20;
    check(complete_to, &301_u64.to_be_bytes(), true);
    check(complete_to, &300_u64.to_be_bytes(), false);
    check(last_entry, &199_u64.to_be_bytes(), false);
}

#[test]
fn a_snapshot_of_version_1_is_read() {
    let mut bytes = b"GANTRYVS".to_vec();
    bytes.extend(1_u32.to_be_bytes());
    for number in [900_u64, 77] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend(1_u16.to_be_bytes());
    bytes.push(b't');
    bytes.extend([1_u32, 5].iter().flat_map(|number| number.to_be_bytes()));
    // min, next, first_at, last_at, blocks_start, written: one entry in a block, one in none.
    bytes.extend([0_u64, 2, 100, 200, 0, 1].iter().flat_map(|number| number.to_be_bytes()));
    bytes.extend([1_u32, 9].iter().flat_map(|number| number.to_be_bytes()));
    bytes.extend(RawEntry::new(LogOffset(200), 50, 0).as_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend(crc.to_be_bytes());

    let snapshot = Snapshot::decode(bytes.clone()).unwrap();
    assert_eq!((snapshot.complete_to, snapshot.stored_at_ms), (LogOffset(900), 77));
    snapshot.topics(|topic, queues| {
        let queue = &queues[0];
        assert_eq!((topic, queues.len(), queue.id, queue.next), ("t", 1, QueueId(5), 2));
        assert!(queue.blocks().eq([blocks::BlockId(9)]) && queue.shared.is_none());
        assert_eq!(queue.entries().recent, [RawEntry::new(LogOffset(200), 50, 0)]);
    });
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        assert!(
            Snapshot::decode(damaged).is_none() && Snapshot::decode(bytes[..at].to_vec()).is_none(),
            "{at}"
        );
    }
}
