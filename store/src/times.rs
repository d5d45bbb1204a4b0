//! Queues by time: the offset that belongs to a moment.
//!
//! Store times never decrease along the log, so it is a search by halves. Most of it reads no record: the first record of
//! each segment says between which segments the moment lies, and entries outside are told apart by their place alone.
//! Inside, the start of a record is read and nothing of its body, and no checksum is computed. So that a damaged start
//! cannot lead astray, the two records at the answer are verified: whatever lied about its time is one of them. It is left
//! out then, and the search begins anew.

use std::ops::Range;

use crate::answers::Entry;
use crate::commit_log::CommitLog;
use crate::commit_log::codec::{STAMP_BYTES, Stamp};
use crate::error::ReadError;
use crate::{LogOffset, QueueId, QueueOffset, Store};

/// So many damaged records next to an answer are looked behind.
const MOST_LIARS: usize = 16;
/// Entries that are read at a time while their records say nothing.
const PORTION: usize = 64;

impl Store {
    /// The first offset whose record was stored at `at_ms` or later; the end of the queue if none was. (RocketMQ's
    /// boundary `LOWER`.) Records that are damaged count for nothing. It may wait for the disk.
    pub fn offset_at_time(
        &self,
        topic: &str,
        queue_id: QueueId,
        at_ms: i64,
    ) -> Result<QueueOffset, ReadError> {
        Ok(self.edge(topic, queue_id, at_ms)?.at)
    }

    /// The last offset whose record was stored at `at_ms` or earlier; `None` if none that is left was. (RocketMQ's boundary
    /// `UPPER`.) It may wait for the disk.
    pub fn last_offset_at_time(
        &self,
        topic: &str,
        queue_id: QueueId,
        at_ms: i64,
    ) -> Result<Option<QueueOffset>, ReadError> {
        let Some(later_ms) = at_ms.checked_add(1) else {
            return Ok(self.queue_bounds(topic, queue_id).end.0.checked_sub(1).map(QueueOffset));
        };
        Ok(self.edge(topic, queue_id, later_ms)?.before.map(|entry| entry.queue_offset))
    }

    fn edge(&self, topic: &str, queue_id: QueueId, at_ms: i64) -> Result<Edge, ReadError> {
        let inner = self.inner();
        let mut look = Look {
            store: self,
            topic,
            queue_id,
            at_ms,
            bracket: inner.log.bracket(at_ms),
            liars: Vec::new(),
        };
        loop {
            let edge = look.search()?;
            let liar = [edge.before, edge.behind].into_iter().flatten().find(|entry| look.lies(entry));
            match liar {
                Some(liar) if look.liars.len() < MOST_LIARS => look.liars.push(liar.queue_offset),
                _ => return Ok(edge),
            }
        }
    }
}

/// Where earlier records end and later ones begin.
struct Edge {
    at: QueueOffset,
    /// The last that is known to be earlier.
    before: Option<Entry>,
    /// The first that is known not to be.
    behind: Option<Entry>,
}

struct Look<'a> {
    store: &'a Store,
    topic: &'a str,
    queue_id: QueueId,
    at_ms: i64,
    /// Before it all is earlier, from its end on nothing is.
    bracket: Range<LogOffset>,
    liars: Vec<QueueOffset>,
}

impl Look<'_> {
    fn search(&self) -> Result<Edge, ReadError> {
        let Range { start, end } = self.store.queue_bounds(self.topic, self.queue_id);
        let mut edge = Edge { at: start, before: None, behind: None };
        let mut high = end;
        while edge.at < high {
            let middle = QueueOffset(edge.at.0 + (high.0 - edge.at.0) / 2);
            match self.first_known(middle..high)? {
                Some((entry, true)) => {
                    edge.at = entry.queue_offset.plus(1);
                    edge.before = Some(entry);
                }
                Some((entry, false)) => {
                    high = middle;
                    edge.behind = Some(entry);
                }
                None => high = middle,
            }
        }
        // Damaged records and holes between the two were stored at no time.
        edge.at = edge.behind.map_or(end, |entry| entry.queue_offset);
        Ok(edge)
    }

    /// The first entry of these offsets whose time is known, and whether that is earlier.
    fn first_known(&self, offsets: Range<QueueOffset>) -> Result<Option<(Entry, bool)>, ReadError> {
        let mut from = offsets.start;
        let mut portion = 1;
        while from < offsets.end {
            let entries = match self.store.entries(self.topic, self.queue_id, from, portion) {
                // Retention was at work since the bounds were read.
                Err(ReadError::Deleted { min }) if min > from => {
                    from = min;
                    continue;
                }
                found => found?,
            };
            let Some(last) = entries.last().copied() else { return Ok(None) };
            for entry in entries.into_iter().take_while(|entry| entry.queue_offset < offsets.end) {
                if let Some(earlier) = self.is_earlier(&entry) {
                    return Ok(Some((entry, earlier)));
                }
            }
            from = last.queue_offset.plus(1);
            portion = PORTION;
        }
        Ok(None)
    }

    fn is_earlier(&self, entry: &Entry) -> Option<bool> {
        if self.liars.contains(&entry.queue_offset) {
            return None;
        }
        if entry.log_offset < self.bracket.start {
            return Some(true);
        }
        if entry.log_offset >= self.bracket.end {
            return Some(false);
        }
        let len = u64::from(entry.size).min(STAMP_BYTES as u64);
        let start = self.store.inner().log.slice(entry.log_offset, len).ok()?;
        let stamp = Stamp::read(&start)?;
        let own = (stamp.place, stamp.queue_offset) == (entry.log_offset, entry.queue_offset);
        own.then_some(stamp.stored_at_ms < self.at_ms)
    }

    /// Was its time believed although the record is damaged?
    fn lies(&self, entry: &Entry) -> bool {
        matches!(self.store.record(entry), Err(ReadError::Damaged { .. }))
    }
}

impl CommitLog {
    /// Records before the start of what it returns were stored before `at_ms`, records from its end on were not.
    fn bracket(&self, at_ms: i64) -> Range<LogOffset> {
        let segments = self.segments();
        let mut bracket = LogOffset(0)..LogOffset(u64::MAX);
        let (mut low, mut high) = (0, segments.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let known = (middle..high).find_map(|index| {
                let stored_at_ms = segments[index].first_stored_at_ms()?;
                Some((index, stored_at_ms))
            });
            match known {
                Some((index, stored_at_ms)) if stored_at_ms < at_ms => {
                    bracket.start = LogOffset(segments[index].base());
                    low = index + 1;
                }
                Some((index, _)) => {
                    bracket.end = LogOffset(segments[index].base());
                    high = middle;
                }
                None => high = middle,
            }
        }
        bracket
    }
}
