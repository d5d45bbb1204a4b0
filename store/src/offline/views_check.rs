//! The views against the log: for each record in the log's order, is its entry the next of its queue?
//!
//! So the views are compared with what a rebuild would give, without building it: memory is a few entries a queue.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::verify::{MAX_LISTED, ViewsVerdict, WrongEntry};
use super::walk::Item;
use crate::answers::Entry;
use crate::commit_log::codec::is_queued;
use crate::views::{ConsumeQueue, Deleted, Views};
use crate::{LogOffset, QueueId, QueueOffset};

/// Entries read ahead, of all queues together.
const READ_AHEAD: usize = 1 << 20;
/// Entries read ahead of a queue, at most.
const READ_AHEAD_OF_ONE: usize = 204;

/// Compares while the log is walked.
pub(super) struct ViewsCheck {
    views: Views,
    /// Records from here on are not in the views yet.
    complete: LogOffset,
    deleted: Deleted,
    /// The queues of a topic, sorted by id.
    topics: HashMap<Arc<str>, Vec<Cursor>, RandomState>,
    read_ahead: usize,
    /// Stretches of the log without a valid record, in order.
    damaged: Vec<Range<u64>>,
    verdict: ViewsVerdict,
}

/// How far the entries of a queue are compared.
struct Cursor {
    queue: Arc<ConsumeQueue>,
    ahead: VecDeque<Entry>,
    next: QueueOffset,
}

impl ViewsCheck {
    pub(super) fn new(views: Views, complete: LogOffset, deleted: Deleted) -> Self {
        let mut verdict = ViewsVerdict { complete_to: complete, ..ViewsVerdict::default() };
        let mut topics: HashMap<_, _, RandomState> = HashMap::default();
        for (topic, queues) in views.all() {
            verdict.queues += queues.len() as u64;
            let cursor = |queue: Arc<ConsumeQueue>| Cursor {
                next: queue.bounds().start,
                queue,
                ahead: VecDeque::new(),
            };
            topics.insert(topic, queues.into_iter().map(cursor).collect());
        }
        let read_ahead = (READ_AHEAD / (verdict.queues as usize).max(1)).clamp(1, READ_AHEAD_OF_ONE);
        Self { views, complete, deleted, topics, read_ahead, damaged: Vec::new(), verdict }
    }

    /// This stretch of the log has no valid record.
    pub(super) fn damaged(&mut self, range: Range<u64>) {
        self.damaged.push(range);
    }

    /// The next valid record of the log.
    pub(super) fn record(&mut self, item: &Item, bytes: &[u8]) {
        let head = &item.head;
        if head.place >= self.complete || !is_queued(head.sys_flag) {
            return;
        }
        let topic = head.topic(bytes);
        if self.deleted.hides(topic, head.place) {
            return;
        }
        let expected = Entry {
            queue_offset: head.queue_offset,
            log_offset: head.place,
            size: item.size as u32,
            tags_code: item.tags_code,
        };
        let cursor = self.topics.get_mut(topic).and_then(|queues| {
            let index = queues.binary_search_by_key(&head.queue_id, |cursor| cursor.queue.id()).ok()?;
            Some(&mut queues[index])
        });
        let Some(cursor) = cursor else {
            let reason = format!(
                "the record at log offset {} is in the log, the queue is not in the views",
                head.place
            );
            return note(&mut self.verdict, topic, head.queue_id, head.queue_offset, reason);
        };
        loop {
            cursor.fill(&self.views, self.read_ahead);
            match cursor.ahead.front() {
                Some(entry) if entry.queue_offset < expected.queue_offset => {
                    let entry = *entry;
                    cursor.ahead.pop_front();
                    judge_lone(&mut self.verdict, &self.damaged, topic, head.queue_id, entry);
                }
                Some(entry) if *entry == expected => {
                    cursor.ahead.pop_front();
                    self.verdict.good_entries += 1;
                    return;
                }
                Some(entry) if entry.queue_offset == expected.queue_offset => {
                    let reason = format!(
                        "the entry says log offset {}, size {}, tag hash {}; the log has {}, {}, {}",
                        entry.log_offset,
                        entry.size,
                        entry.tags_code,
                        expected.log_offset,
                        expected.size,
                        expected.tags_code
                    );
                    cursor.ahead.pop_front();
                    return note(&mut self.verdict, topic, head.queue_id, head.queue_offset, reason);
                }
                Some(_) | None => {
                    let reason =
                        format!("the record at log offset {} has no entry, or a damaged one", head.place);
                    return note(&mut self.verdict, topic, head.queue_id, head.queue_offset, reason);
                }
            }
        }
    }

    /// The log is at its end: what entries are left have no record.
    pub(super) fn finish(mut self) -> ViewsVerdict {
        let mut topics: Vec<_> = self.topics.into_iter().collect();
        topics.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (topic, queues) in topics {
            for mut cursor in queues {
                let id = cursor.queue.id();
                loop {
                    cursor.fill(&self.views, READ_AHEAD_OF_ONE);
                    let Some(entry) = cursor.ahead.pop_front() else { break };
                    judge_lone(&mut self.verdict, &self.damaged, &topic, id, entry);
                }
            }
        }
        self.verdict
    }
}

impl Cursor {
    /// Reads on if nothing is left. An entry that cannot be read is passed over: its record is then found without one.
    fn fill(&mut self, views: &Views, count: usize) {
        let end = self.queue.bounds().end;
        while self.ahead.is_empty() && self.next < end {
            let read = |count| views.read(self.queue.topic(), self.queue.id(), self.next, count);
            match read(count).or_else(|_| read(1)) {
                Ok(entries) => {
                    self.next = entries.last().map_or(end, |last| last.queue_offset.plus(1));
                    self.ahead.extend(entries);
                }
                Err(_) => self.next = self.next.plus(1),
            }
        }
    }
}

/// An entry without a valid record: its record is damaged, or it is wrong.
fn judge_lone(verdict: &mut ViewsVerdict, damaged: &[Range<u64>], topic: &str, id: QueueId, entry: Entry) {
    let at = entry.log_offset.0;
    let index = damaged.partition_point(|range| range.end <= at);
    if damaged.get(index).is_some_and(|range| range.contains(&at)) {
        verdict.damaged_entries += 1;
    } else {
        let reason = format!("the entry says log offset {at}, where the log has no such record");
        note(verdict, topic, id, entry.queue_offset, reason);
    }
}

fn note(
    verdict: &mut ViewsVerdict,
    topic: &str,
    queue_id: QueueId,
    queue_offset: QueueOffset,
    reason: String,
) {
    verdict.wrong_entries += 1;
    if verdict.wrong.len() < MAX_LISTED {
        verdict.wrong.push(WrongEntry { topic: topic.to_owned(), queue_id, queue_offset, reason });
    }
}
