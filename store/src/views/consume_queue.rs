//! The places of a queue's messages in the log, by queue offset.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::ReadError;
use crate::store::Entry;
use crate::{LogOffset, QueueId, QueueOffset};

/// RocketMQ's 20 bytes: log offset 8, size 4, tag hash 8, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawEntry([u8; 20]);

impl RawEntry {
    /// Stands where a message of the queue was lost to damage.
    pub(crate) const HOLE: Self = Self([0; 20]);

    pub(crate) fn new(log_offset: LogOffset, size: u32, tags_code: i64) -> Self {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&log_offset.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&size.to_be_bytes());
        bytes[12..].copy_from_slice(&tags_code.to_be_bytes());
        Self(bytes)
    }

    pub(crate) fn log_offset(&self) -> LogOffset {
        LogOffset(u64::from_be_bytes(*self.0.first_chunk().expect("20 bytes hold 8")))
    }

    pub(crate) fn is_hole(&self) -> bool {
        *self == Self::HOLE
    }

    pub(crate) fn entry(&self, queue_offset: QueueOffset) -> Entry {
        let size = u32::from_be_bytes([self.0[8], self.0[9], self.0[10], self.0[11]]);
        let tags_code = i64::from_be_bytes(*self.0.last_chunk().expect("20 bytes hold 8"));
        Entry { queue_offset, log_offset: self.log_offset(), size, tags_code }
    }
}

/// A queue of a topic.
pub(crate) struct ConsumeQueue {
    topic: Arc<str>,
    id: QueueId,
    /// The next offset to give out. Written by the holder of the log's lock only; `next` follows on dispatch.
    assigned: AtomicU64,
    deleted: AtomicBool,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    min: u64,
    recent: VecDeque<RawEntry>,
}

impl ConsumeQueue {
    pub(crate) fn new(topic: Arc<str>, id: QueueId) -> Self {
        Self {
            topic,
            id,
            assigned: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
            entries: Mutex::default(),
        }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn id(&self) -> QueueId {
        self.id
    }

    /// Gives out the next offset. Only for the holder of the log's lock.
    pub(crate) fn assign(&self) -> QueueOffset {
        QueueOffset(self.assigned.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Adds the next entry; returns the queue's new end.
    pub(crate) fn push(&self, entry: RawEntry) -> QueueOffset {
        let mut entries = self.entries.lock();
        entries.recent.push_back(entry);
        QueueOffset(entries.min + entries.recent.len() as u64)
    }

    /// Adds an entry that recovery found. Knows it already, if it does.
    pub(crate) fn replay(&self, at: QueueOffset, entry: RawEntry) {
        let mut entries = self.entries.lock();
        if entries.recent.is_empty() {
            entries.min = at.0;
        }
        let next = entries.min + entries.recent.len() as u64;
        if at.0 < next {
            return;
        }
        for _ in next..at.0 {
            entries.recent.push_back(RawEntry::HOLE);
        }
        entries.recent.push_back(entry);
        self.assigned.store(at.0 + 1, Ordering::Relaxed);
    }

    pub(crate) fn bounds(&self) -> Range<QueueOffset> {
        let entries = self.entries.lock();
        QueueOffset(entries.min)..QueueOffset(entries.min + entries.recent.len() as u64)
    }

    pub(crate) fn read(&self, from: QueueOffset, max: usize) -> Result<Vec<Entry>, ReadError> {
        let entries = self.entries.lock();
        let Some(skip) = from.0.checked_sub(entries.min) else {
            return Err(ReadError::Deleted { min: QueueOffset(entries.min) });
        };
        let found = entries
            .recent
            .iter()
            .enumerate()
            .skip(skip as usize)
            .filter(|(_, entry)| !entry.is_hole())
            .take(max);
        Ok(found.map(|(index, entry)| entry.entry(QueueOffset(entries.min + index as u64))).collect())
    }

    pub(crate) fn advance_min(&self, log_min: LogOffset) {
        let mut entries = self.entries.lock();
        while entries.recent.front().is_some_and(|first| first.log_offset() < log_min) {
            entries.recent.pop_front();
            entries.min += 1;
        }
    }
}
