//! What only the views themselves can be asked.

use super::*;
use crate::disk::MemoryDisk;

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
    assert!(views.delete("t") && !views.delete("t"));
    assert_eq!(views.push(&gone, RawEntry::new(LogOffset(4000), 1, 0)), None);
    (0..70).for_each(|_| views.write_out().unwrap());
    assert_eq!((held(&views), gone.held(), views.held.load(Ordering::Relaxed)), (0, 0, 0));
    assert!(!views.is_busy());
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
