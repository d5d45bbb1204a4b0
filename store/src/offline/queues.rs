//! The queues of a stopped store: from the views as they are kept, and from the log behind them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::walk::{Told, walk};
use super::{Error, Look, Progress};
use crate::commit_log::codec::is_queued;
use crate::views::Deleted;
use crate::{LogOffset, QueueId, QueueOffset, Record};

/// A queue and its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The topic.
    pub topic: String,
    /// The queue of the topic.
    pub id: QueueId,
    /// First message that is left.
    pub min: QueueOffset,
    /// Behind the last message.
    pub next: QueueOffset,
}

impl Look {
    /// All queues, by topic and id, and where the log ends. Takes a walk over what the views do not know yet.
    pub fn queues(&self, progress: &mut dyn FnMut(Progress)) -> Result<(Vec<Queue>, LogOffset), Error> {
        let (views, complete) = self.views()?;
        let deleted = self.deleted()?;
        let mut topics: BTreeMap<Arc<str>, BTreeMap<QueueId, (u64, u64)>> = BTreeMap::new();
        for (topic, queues) in views.all() {
            let bounds = queues.iter().map(|queue| (queue.id(), queue.bounds()));
            let bounds = bounds.map(|(id, bounds)| (id, (bounds.start.0, bounds.end.0))).collect();
            topics.insert(topic, bounds);
        }
        let total_bytes = self.segments.end().0.saturating_sub(complete.0);
        let end = walk(&self.segments, complete, self.durable, &mut |told| {
            let Told::Batch(batch) = told else { return ControlFlow::Continue(()) };
            for item in &batch.items {
                let record = batch.record(item);
                let topic = item.head.topic(record);
                if !is_queued(item.head.sys_flag) || deleted.hides(topic, item.head.place) {
                    continue;
                }
                let offset = item.head.queue_offset.0;
                let queues = match topics.get_mut(topic) {
                    Some(queues) => queues,
                    None => topics.entry(topic.into()).or_default(),
                };
                let (min, next) = queues.entry(item.head.queue_id).or_insert((offset, offset));
                // A queue whose messages were all removed starts where it goes on.
                *min = if *min == *next { offset } else { (*min).min(offset) };
                *next = (*next).max(offset + 1);
            }
            progress(Progress { done_bytes: batch.end().0 - complete.0, total_bytes });
            ControlFlow::Continue(())
        })?;
        let flat = topics.into_iter().flat_map(|(topic, queues)| {
            queues.into_iter().map(move |(id, (min, next))| Queue {
                topic: topic.to_string(),
                id,
                min: QueueOffset(min),
                next: QueueOffset(next),
            })
        });
        Ok((flat.collect(), end))
    }

    /// The message at this place of a queue; `None` if it is not there.
    pub fn message(
        &self,
        topic: &str,
        id: QueueId,
        offset: QueueOffset,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<Record>, Error> {
        let (views, complete) = self.views()?;
        // An error means that retention removed it; what is left is not asked for.
        let known = views.read(topic, id, offset, 1).unwrap_or_default();
        if let Some(entry) = known.first().filter(|entry| entry.queue_offset == offset) {
            return self.record(entry.log_offset).map(Some);
        }
        let deleted = self.deleted()?;
        let total_bytes = self.segments.end().0.saturating_sub(complete.0);
        let mut found = None;
        walk(&self.segments, complete, self.durable, &mut |told| {
            let Told::Batch(batch) = told else { return ControlFlow::Continue(()) };
            progress(Progress { done_bytes: batch.end().0 - complete.0, total_bytes });
            let wanted = batch.items.iter().find(|item| {
                let head = &item.head;
                (head.queue_id, head.queue_offset) == (id, offset)
                    && is_queued(head.sys_flag)
                    && head.topic(batch.record(item)) == topic
                    && !deleted.hides(topic, head.place)
            });
            let Some(item) = wanted else { return ControlFlow::Continue(()) };
            found = Some(item.head.place);
            ControlFlow::Break(())
        })?;
        found.map(|at| self.record(at)).transpose()
    }

    /// Where the log ends, by a walk from where the views are complete or over the last file: what opening would find.
    pub fn end(&self) -> Result<LogOffset, Error> {
        let (_, complete) = self.views()?;
        let last_used = (0..self.segments.files.len()).rev().find(|&index| self.stored_at(index).is_some());
        let last = last_used.map_or(self.segments.min().0, |index| self.segments.range(index).start);
        walk(&self.segments, complete.max(LogOffset(last)), self.durable, &mut |_| ControlFlow::Continue(()))
    }

    /// When the record was stored with which this file of the log begins, Unix milliseconds; `None` without a valid one.
    #[must_use]
    pub fn stored_at(&self, index: usize) -> Option<i64> {
        let file = self.segments.files.get(index)?;
        self.record(file.base).ok().map(|record| record.stored_at_ms)
    }

    pub(super) fn deleted(&self) -> Result<Deleted, Error> {
        Deleted::load(self.disk.as_ref(), &self.root).map_err(Error::at(&self.root.join("views")))
    }
}
