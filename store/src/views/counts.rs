//! How far queues had counted before what tells it was lost.

use std::collections::HashMap;

use super::consume_queue::ConsumeQueue;
use super::deleted::Marks;
use super::snapshot::Snapshot;
use crate::{QueueId, QueueOffset};

/// How far queues had counted, by what is good for nothing else.
#[derive(Default)]
pub(crate) struct Counts {
    /// A snapshot.
    pub(super) stored: HashMap<(String, QueueId), u64>,
    /// Damaged records, which may lie, and how many may be damaged in all.
    pub(super) remains: HashMap<(String, QueueId), u64>,
    pub(super) lost: u64,
}

impl Counts {
    /// The queue counts on by itself: entries of it are still to come.
    pub(crate) fn forget(&mut self, queue: &ConsumeQueue) {
        for counts in [&mut self.stored, &mut self.remains] {
            if !counts.is_empty() {
                counts.remove(&(queue.topic().to_owned(), queue.id()));
            }
        }
    }

    /// A damaged record had this place in its queue, as far as can be read.
    pub(crate) fn note_remains(&mut self, topic: &str, id: QueueId, at: QueueOffset) {
        let next = self.remains.entry((topic.to_owned(), id)).or_default();
        *next = (*next).max(at.0 + 1);
        self.lost += 1;
    }

    /// So many more may be damaged.
    pub(crate) fn note_unreadable(&mut self, records: u64) {
        self.lost += records;
    }

    pub(super) fn note(&mut self, snapshot: &Snapshot, marks: &Marks) {
        snapshot.topics(|topic, queues| {
            if !marks.is_gone(topic, snapshot.complete_to) {
                self.stored.extend(queues.iter().map(|queue| ((topic.to_owned(), queue.id), queue.next)));
            }
        });
    }
}
