//! What is due soon is read and lies in hand; what is due is appended to its own topic.

use store::schedule::Scheduled;
use store::{AppendError, NewRecord, QueueId, ReadError, Record};

use super::{AHEAD_MS, PORTION, PORTION_BYTES, Refused, Worker, again, bytes_of};
use crate::schedule::record;
use crate::topics;

/// In hand at most, together.
pub(super) const HAND_BYTES: usize = 8 << 20;

/// What is due soon.
pub(super) struct InHand {
    pub(super) scheduled: Scheduled,
    pub(super) record: Record,
}

impl Worker {
    /// Takes what is due soon in hand, and reads it.
    pub(super) fn take_in_hand(&mut self, now_ms: i64) {
        if now_ms < self.not_before_ms {
            return;
        }
        for _ in 0..16 {
            let until_ms = if self.hand_bytes >= HAND_BYTES { now_ms } else { now_ms + AHEAD_MS };
            let taken = match self.timers.schedule.take(until_ms, PORTION) {
                Ok(taken) => taken,
                Err(error) => return self.cannot(now_ms, &error, "the schedule cannot be read"),
            };
            let is_all = taken.is_empty();
            let mut taken = taken.into_iter();
            while let Some(scheduled) = taken.next() {
                match self.store().record_at(scheduled.at, scheduled.size) {
                    Ok(record) => self.hold(InHand { scheduled, record }),
                    Err(error @ ReadError::Io(_)) => {
                        self.timers.schedule.put(scheduled);
                        taken.for_each(|scheduled| self.timers.schedule.put(scheduled));
                        return self.cannot(now_ms, &error, "delayed messages cannot be read");
                    }
                    Err(error) => self.lose(scheduled, &error),
                }
            }
            if is_all || self.hand_bytes >= HAND_BYTES {
                return;
            }
        }
    }

    fn hold(&mut self, item: InHand) {
        let key = |item: &InHand| (item.scheduled.due_ms, item.scheduled.id);
        let at = self.hand.partition_point(|other| key(other) < key(&item));
        self.hand_bytes += bytes_of(&item.record);
        self.hand.insert(at, item);
    }

    pub(super) fn put_back(&mut self) {
        self.hand.drain(..).for_each(|item| self.timers.schedule.put(item.scheduled));
        self.hand_bytes = 0;
    }

    fn lose(&mut self, scheduled: Scheduled, error: &ReadError) {
        tracing::error!(
            log_offset = %scheduled.at, due_ms = scheduled.due_ms, %error,
            "a delayed message is lost: its record is gone"
        );
        self.needs.counts.lost.inc();
        self.known.changed = true;
    }

    /// Delivers what is due.
    pub(super) fn deliver(&mut self, now_ms: i64) {
        if now_ms < self.not_before_ms {
            return;
        }
        for _ in 0..64 {
            let mut bytes = 0;
            let fits = |item: &&InHand| {
                bytes += bytes_of(&item.record);
                item.scheduled.due_ms <= now_ms && bytes <= PORTION_BYTES
            };
            let count = self.hand.iter().take(PORTION).take_while(fits).count();
            let is_due = self.hand.front().is_some_and(|first| first.scheduled.due_ms <= now_ms);
            // One that is larger goes alone.
            let count = count.max(usize::from(is_due));
            if count == 0 || self.deliver_first(count, now_ms).is_err() {
                return;
            }
        }
    }

    /// Delivers the first `count` in hand.
    fn deliver_first(&mut self, count: usize, now_ms: i64) -> Result<(), Refused> {
        let items: Vec<&InHand> = self.hand.range(..count).collect();
        let properties: Vec<_> = items.iter().map(|item| record::delivered(&item.record)).collect();
        let homes: Vec<_> = items.iter().map(|item| self.home(&item.record)).collect();
        let records: Vec<_> = items
            .iter()
            .zip(&properties)
            .zip(&homes)
            .filter_map(|((item, properties), home)| {
                let (topic, queue_id) = home.as_ref()?;
                let again = again(&item.record, topic, *queue_id, properties.as_bytes());
                Some(NewRecord { prepared_offset: item.scheduled.id, ..again })
            })
            .collect();
        let outcome = if records.is_empty() { Ok(()) } else { self.store().append(&records).map(drop) };
        let delivered = records.len() as u64;
        drop(records);
        match outcome {
            Ok(()) => {
                self.needs.counts.dequeued.inc_by(delivered);
                self.refused = false;
            }
            Err(error @ (AppendError::DiskFull(_) | AppendError::Closed(_))) => {
                self.cannot(now_ms, &error, "the log refuses");
                return Err(Refused);
            }
            Err(_) if count > 1 => {
                // One of them is too large: each by itself.
                return (0..count).try_for_each(|_| self.deliver_first(1, now_ms));
            }
            Err(error) => {
                let scheduled = self.hand[0].scheduled;
                tracing::error!(log_offset = %scheduled.at, %error, "a delayed message is lost: the log does not take it");
                self.needs.counts.lost.inc();
            }
        }
        let late_ms = now_ms - self.hand[0].scheduled.due_ms;
        self.needs.counts.late(late_ms);
        for InHand { record, .. } in self.hand.drain(..count) {
            self.hand_bytes -= bytes_of(&record);
            if let Some(to) = record::destination(&record) {
                self.timers.count(to.topic, -1);
            }
        }
        self.known.changed = true;
        Ok(())
    }

    /// Where the message belongs. `None`: there is no such topic any more.
    fn home(&self, record: &Record) -> Option<(String, QueueId)> {
        let to = record::destination(record)?;
        let Some(topic) = self.needs.topics.topic(to.topic) else {
            tracing::warn!(topic = to.topic, log_offset = %record.log_offset, "a delayed message is dropped: its topic is gone");
            return None;
        };
        let topics::TopicConfig { read_queues, .. } = topic.config;
        // The topic may have fewer queues by now.
        Some((to.topic.to_owned(), QueueId(to.queue % read_queues.max(1))))
    }
}
