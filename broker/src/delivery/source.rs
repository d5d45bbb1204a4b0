//! The queues of a topic in the store, as [`Consumption::pop`](super::consumption::Consumption::pop) looks at them.
//!
//! A look takes what is in memory: entries and records near the end of the log, in place, and what was fetched for this
//! poll before. It is made while the group's state is locked, so it waits for nothing: where the disk must be asked, the
//! look says what for, and ends. The poll fetches that without the lock, and looks again.

use std::ops::Range;

use access::TopicName;
use access::filter::Filter;
use store::{Entry, FetchError, Fetched, Found, QueueId, QueueOffset, ReadError, Record, Store};

use super::pop::{Look, Seen, Source};
use crate::log::Log;
use crate::topics::stable_hash;

/// The property that delivery reads, by RocketMQ's name.
pub(super) const SHARDING_KEY: &str = "__SHARDINGKEY";

/// At least so many entries are fetched at a time: what follows is wanted next.
const FETCH_AT_LEAST: usize = 32;
/// With so many bytes on the shelf a poll looks what it can do with them before it fetches more.
const ENOUGH_BYTES: usize = 4 << 20;

/// What a look needs of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) queue: u32,
    from: u64,
    max: usize,
}

impl Need {
    /// Asks the disk for it.
    pub(super) async fn fetch(
        self,
        log: &Log,
        topic: &TopicName,
        filter: &Filter,
    ) -> Result<Fetched, FetchError> {
        let filter = filter.clone();
        let wants = move |entry: &Entry| filter.may_take(entry.tags_code);
        log.fetch(topic, self.queue, self.from, self.max.max(FETCH_AT_LEAST), wants).await
    }
}

/// What was fetched for one poll since its last look.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    fetched: Vec<(u32, Fetched)>,
    bytes: usize,
    failed: Vec<u32>,
}

impl Shelf {
    /// The next look needs other things.
    pub(super) fn clear(&mut self) {
        self.fetched.clear();
        self.bytes = 0;
    }

    pub(super) fn put(&mut self, need: Need, fetched: Fetched) {
        let records = fetched.found.iter().filter_map(|found| found.record.as_ref()?.as_ref().ok());
        self.bytes += records.map(|record| record.body.len() + record.properties.len()).sum::<usize>();
        self.fetched.push((need.queue, fetched));
    }

    /// The disk refuses; this poll does not ask it for the queue again.
    pub(super) fn fail(&mut self, need: Need) {
        self.failed.push(need.queue);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fetched.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= ENOUGH_BYTES
    }

    /// What is known of the queue from `from` on, and up to where.
    fn find(&self, queue: u32, from: u64) -> Option<(u64, &[Found])> {
        let has =
            |(id, fetched): &&(u32, Fetched)| *id == queue && fetched.range.contains(&QueueOffset(from));
        let (_, fetched) = self.fetched.iter().find(has)?;
        let passed = fetched.found.partition_point(|found| found.entry.queue_offset.0 < from);
        Some((fetched.range.end.0, &fetched.found[passed..]))
    }
}

/// A look at the store for one poll.
pub(super) struct Queues<'a> {
    store: &'a Store,
    topic: &'a str,
    filter: &'a Filter,
    ordered: bool,
    shelf: &'a Shelf,
    /// What the looks so far need of the disk, the first first.
    needs: Vec<Need>,
}

/// An entry, and its record if the look had to read it or it was fetched.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) record: Option<Result<Record, ReadError>>,
}

impl Item {
    /// The record. What was not fetched is hot.
    pub(super) fn read(self, store: &Store) -> Result<Record, ReadError> {
        self.record.unwrap_or_else(|| store.record_in_place(&self.entry))
    }
}

impl Source for Queues<'_> {
    type Item = Item;

    fn bounds(&mut self, queue: u32) -> Range<u64> {
        let Range { start, end } = self.store.queue_bounds(self.topic, QueueId(queue));
        start.0..end.0
    }

    fn look(&mut self, queue: u32, from: u64, max: usize) -> Look<Item> {
        let mut at = from;
        while let Some((end, found)) = self.shelf.find(queue, at) {
            if !found.is_empty() {
                let found = found.iter().take(max);
                return Look::Seen(found.map(|found| self.see(found.entry, found.record.clone())).collect());
            }
            // Only damaged ones up to there.
            at = end;
        }
        let entries = match self.store.entries_in_memory(self.topic, QueueId(queue), QueueOffset(at), max) {
            Ok(Some(entries)) => entries,
            Ok(None) => return self.away(queue, at, max),
            // Retention was at work since the bounds were read.
            Err(ReadError::Deleted { min }) => return Look::Gone { start: min.0 },
            Err(error @ (ReadError::Damaged { .. } | ReadError::Io(_))) => {
                tracing::error!(topic = self.topic, queue_id = queue, %error, "cannot read a queue");
                return Look::Failed;
            }
        };
        // Later entries are of later records: if the first is hot, all are.
        if entries.first().is_some_and(|first| first.log_offset < self.store.hot_from()) {
            return self.away(queue, at, max);
        }
        Look::Seen(entries.into_iter().map(|entry| self.see(entry, None)).collect())
    }
}

impl<'a> Queues<'a> {
    pub(super) fn new(
        store: &'a Store,
        topic: &'a str,
        filter: &'a Filter,
        ordered: bool,
        shelf: &'a Shelf,
    ) -> Self {
        Self { store, topic, filter, ordered, shelf, needs: Vec::new() }
    }

    /// What the looks so far need of the disk, the first first.
    pub(super) fn into_needs(self) -> Vec<Need> {
        self.needs
    }

    fn away(&mut self, queue: u32, from: u64, max: usize) -> Look<Item> {
        if self.shelf.failed.contains(&queue) {
            return Look::Failed;
        }
        if !self.needs.iter().any(|need| (need.queue, need.from) == (queue, from)) {
            self.needs.push(Need { queue, from, max });
        }
        Look::Away
    }

    /// By the hash of the tag first; a hot record is read only if that is not enough, and its body not even then.
    fn see(&self, entry: Entry, mut record: Option<Result<Record, ReadError>>) -> Seen<Item> {
        let mut takes = self.filter.may_take(entry.tags_code);
        let mut lane = 0;
        if takes && (self.ordered || !self.filter.is_all()) {
            // A record that cannot be read is taken, so that whoever reads it next reports it.
            if let Ok(record) = record.get_or_insert_with(|| self.store.record_in_place(&entry)) {
                takes = self.filter.takes(record.properties());
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
