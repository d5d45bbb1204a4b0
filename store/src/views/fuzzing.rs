//! Tries what the views keep: entries in blocks, the snapshot, the marks of deleted topics.

use std::path::Path;
use std::sync::Arc;

use super::deleted::{self, Marks};
use super::entry::{ENTRY_BYTES, RawEntry, Seal};
use super::snapshot::Snapshot;
use super::{ConsumeQueue, Views};
use crate::disk::{Disk, MemoryDisk};
use crate::frame;
use crate::fuzzing::{Input, mend_end};
use crate::{LogOffset, QueueId, QueueOffset};

/// What a snapshot makes us write is in proportion to it: a block of a file that is far away, at most.
const DISK_BYTES: u64 = 256 << 20;
/// The log's end.
const END: LogOffset = LogOffset(1 << 40);
/// Rounds after which every queue is idle and written out.
const ROUNDS: u32 = super::in_use::IDLE_ROUNDS + 2;

pub(crate) fn entries() -> Vec<Vec<u8>> {
    let entry = RawEntry::new(LogOffset(0x0123_4567), 1234, -97);
    vec![entry.seal(&Seal::new("orders", QueueId(3)), 42).to_vec()]
}

/// An entry as it lies in a block.
pub(crate) fn entry(Input { mend: mends, bytes, .. }: Input<'_>) {
    let Some(sealed) = bytes.first_chunk::<ENTRY_BYTES>() else { return };
    let (seal, other) = (Seal::new("orders", QueueId(3)), Seal::new("orders", QueueId(4)));
    let raw = RawEntry::from_bytes(sealed);
    assert_eq!(raw.is_hole(), raw.entry(QueueOffset(0)).size == 0);
    let mut sealed = *sealed;
    if mends {
        // A tag's hash has 32 bits.
        let entry = raw.entry(QueueOffset(0));
        sealed =
            RawEntry::new(entry.log_offset, entry.size, i64::from(entry.tags_code as i32)).seal(&seal, 42);
    }
    let entry = RawEntry::unseal(&sealed, &seal, 42);
    assert!(entry.is_some() || !mends);
    if let Some(entry) = entry {
        assert_eq!(entry.seal(&seal, 42), sealed);
        assert!(
            RawEntry::unseal(&sealed, &seal, 43).is_none() && RawEntry::unseal(&sealed, &other, 42).is_none()
        );
    }
}

pub(crate) fn marks() -> Vec<Vec<u8>> {
    let marks = [("a", 5), ("béta", 1 << 40)];
    let mark = |(topic, at): (&str, u64)| Marks([(topic.to_owned(), LogOffset(at))].into());
    let file = |marks: Marks| frame::seal(deleted::MAGIC, &marks.encode());
    vec![file(Marks::default()), file(mark(marks[0])), file(mark(marks[1]))]
}

/// The marks of deleted topics.
pub(crate) fn deleted(Input { mend: mends, bytes, .. }: Input<'_>) {
    let mut bytes = bytes.to_vec();
    if mends {
        mend_end(&mut bytes);
    }
    let Some(marks) = frame::unseal(deleted::MAGIC, &bytes).and_then(Marks::decode) else { return };
    for (topic, at) in &marks.0 {
        assert!(marks.is_gone(topic, *at) && !marks.hide(topic, *at));
    }
    assert_eq!(Marks::decode(&marks.encode()), Some(marks));
}

fn dir() -> &'static Path {
    Path::new("/data/views")
}

fn load(disk: &MemoryDisk) -> (Views, LogOffset, super::Counts) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let loaded = Views::load(disk, Path::new("/data"), LogOffset(0)..END);
    let (views, complete, counts) = loaded.expect("no call fails");
    (views, complete.to, counts)
}

fn push(views: &Views, queue: &Arc<ConsumeQueue>, at: LogOffset) {
    let offset = queue.assign();
    let next = views.push(queue, RawEntry::new(at, 100, 0)).expect("its topic is not deleted");
    assert_eq!(next, offset.plus(1), "no offset is given out twice");
}

/// Snapshots of no queue, of queues in shared blocks, and of those in blocks of their own. Of one topic: the order of several
/// is another each time, and these are to be repeated.
pub(crate) fn snapshots() -> Vec<Vec<u8>> {
    let with = |count: u64, rounds: u32| {
        let disk = MemoryDisk::new(DISK_BYTES);
        let (views, ..) = load(&disk);
        for n in 0..count {
            push(&views, &views.queue_or_new("orders", QueueId(n as u32 % 3)), LogOffset(100 * n + 1));
        }
        (0..rounds).for_each(|_| views.write_out().expect("there is room"));
        views.write_snapshot(LogOffset(100 * count + 1), 77, LogOffset(0)).expect("there is room");
        disk.read(&super::snapshot::path(dir())).expect("it was just written")
    };
    if cfg!(miri) {
        // It takes minutes for more.
        return vec![with(0, 0), with(20, 0)];
    }
    vec![with(0, 0), with(20, 0), with(20, ROUNDS), with(1500, ROUNDS)]
}

/// The snapshot: decoded, and gone on from as an opened store does.
pub(crate) fn snapshot(Input { mend: mends, bytes, .. }: Input<'_>) {
    let mut bytes = bytes.to_vec();
    if mends {
        mend_end(&mut bytes);
    }
    if let Some(snapshot) = Snapshot::decode(bytes.clone()) {
        let (own, shared) = snapshot.blocks();
        assert!(4 * own.len() + 6 * shared.len() <= bytes.len());
        snapshot.topics(|_, queues| {
            for queue in queues {
                let entries = queue.entries();
                assert!(entries.next() == queue.next && ENTRY_BYTES * entries.recent.len() <= bytes.len());
            }
        });
    }
    if !cfg!(miri) {
        go_on(&bytes);
    }
}

/// From a snapshot of these bytes.
fn go_on(bytes: &[u8]) {
    let disk = MemoryDisk::new(DISK_BYTES);
    disk.write(&super::snapshot::path(dir()), bytes).expect("there is room");
    let (views, complete, counts) = load(&disk);
    views.recovered(LogOffset(0)..END, END, counts).expect("there is room");
    for queue in views.all().flat_map(|(_, queues)| queues) {
        let bounds = queue.bounds();
        assert!(bounds.start <= bounds.end);
        for from in [bounds.start, QueueOffset(bounds.end.0.saturating_sub(3))] {
            // Blocks without files: damaged, and there is no log to make them anew from.
            let _ = views.read(queue.topic(), queue.id(), from, 1000);
        }
    }
    let _ = views.advance_min(LogOffset(complete.0 / 2));
    let known = |views: &Views| -> Vec<_> { views.all().flat_map(|(_, queues)| queues).collect() };
    for (n, queue) in known(&views).iter().enumerate() {
        if queue.bounds().end.0 < crate::commit_log::codec::LAST_QUEUE_OFFSET {
            push(&views, queue, END.plus(n as u64));
        }
    }
    push(&views, &views.queue_or_new("new", QueueId(7)), END.plus(1 << 20));
    // The disk of this test may be too small for a block that is far away.
    let written = (0..ROUNDS).try_for_each(|_| views.write_out());
    let to = END.plus(2 << 20);
    if views.write_snapshot(to, 78, LogOffset(0)).is_err() || written.is_err() {
        return;
    }
    let bounds = |views: &Views| {
        let mut bounds: Vec<_> =
            known(views).iter().map(|queue| (queue.topic().to_owned(), queue.id(), queue.bounds())).collect();
        bounds.sort_unstable_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        bounds
    };
    let stored = Views::load(Arc::new(disk.clone()), Path::new("/data"), LogOffset(0)..to);
    let (again, complete, _) = stored.expect("no call fails");
    assert_eq!(complete.to, to, "what we write we read");
    assert_eq!(bounds(&again), bounds(&views));
}
