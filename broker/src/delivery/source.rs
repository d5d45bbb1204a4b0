//! The queues of a topic in the store, as [`Consumption::pop`](super::consumption::Consumption::pop) looks at them.

use std::ops::Range;

use store::{Entry, QueueId, QueueOffset, ReadError, Record, Store};

use super::filter::Filter;
use super::pop::{Seen, Source};
use crate::topics::stable_hash;

/// Property names of RocketMQ that delivery reads.
pub(super) const TAGS: &str = "TAGS";
pub(super) const SHARDING_KEY: &str = "__SHARDINGKEY";

/// A look at the store for one poll.
pub(super) struct Queues<'a> {
    pub(super) store: &'a Store,
    pub(super) topic: &'a str,
    pub(super) filter: &'a Filter,
    pub(super) ordered: bool,
}

/// An entry, and its record if the look had to read it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) record: Option<Record>,
}

impl Source for Queues<'_> {
    type Item = Item;

    fn bounds(&mut self, queue: u32) -> Range<u64> {
        let Range { start, end } = self.store.queue_bounds(self.topic, QueueId(queue));
        start.0..end.0
    }

    fn look(&mut self, queue: u32, from: u64, max: usize) -> Option<Vec<Seen<Item>>> {
        let entries = match self.store.entries(self.topic, QueueId(queue), QueueOffset(from), max) {
            // Retention was at work since the bounds were read.
            Err(ReadError::Deleted { min }) => self.store.entries(self.topic, QueueId(queue), min, max),
            outcome => outcome,
        };
        let entries = entries
            .inspect_err(
                |error| tracing::error!(topic = self.topic, queue_id = queue, %error, "cannot read a queue"),
            )
            .ok()?;
        Some(entries.into_iter().map(|entry| self.see(entry)).collect())
    }
}

impl Queues<'_> {
    /// By the hash of the tag first; the record is read only if that is not enough.
    fn see(&self, entry: Entry) -> Seen<Item> {
        let mut takes = self.filter.may_take(entry.tags_code);
        let mut lane = 0;
        let mut record = None;
        if takes && (self.ordered || *self.filter != Filter::All) {
            // A record that cannot be read is taken, so that whoever reads it next reports it.
            record = self.store.record(&entry).ok();
            if let Some(record) = &record {
                takes = self.filter.takes(property(record, TAGS));
                lane = property(record, SHARDING_KEY).map_or(0, |group| stable_hash(group.as_bytes()));
            }
        }
        Seen { offset: entry.queue_offset.0, takes, lane, item: Item { entry, record } }
    }
}

/// The value of a property; of duplicates the last.
pub(super) fn property<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.properties().filter(|(found, _)| *found == name).last().map(|(_, value)| value)
}
