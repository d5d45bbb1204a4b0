//! The end of the log: one writer at a time, a record encoded once, straight into the mapped file.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::codec::{self, BLANK_BYTES, Put};
use super::{CommitLog, Segment};
use crate::error::{AppendError, CopyError};
use crate::{LogOffset, QueueOffset};

/// What only the holder of the log's lock may touch.
pub(crate) struct Writer {
    segment: Arc<Segment>,
    end: u64,
}

impl Writer {
    pub(super) fn new(segment: Arc<Segment>, end: u64) -> Self {
        Self { segment, end }
    }
}

/// The log's end, held: appends happen one after the other through it.
pub(crate) struct Tail<'a> {
    log: &'a CommitLog,
    writer: MutexGuard<'a, Writer>,
}

/// There is room for bytes of another member's log, and the next segment if they end theirs.
pub(crate) struct RoomToCopy(Option<Arc<Segment>>);

impl CommitLog {
    /// Waits for the log's lock.
    pub(crate) fn tail(&self) -> Tail<'_> {
        Tail { log: self, writer: self.writer.lock() }
    }

    /// Takes the log's lock if nobody has it.
    pub(crate) fn try_tail(&self) -> Option<Tail<'_>> {
        Some(Tail { log: self, writer: self.writer.try_lock()? })
    }

    /// Store time of the last record.
    pub(crate) fn stored_at_ms(&self) -> i64 {
        self.stored_at_ms.load(Ordering::Relaxed)
    }
}

impl Tail<'_> {
    /// Where the next record goes if it fits.
    pub(crate) fn end(&self) -> LogOffset {
        LogOffset(self.writer.end)
    }

    /// Behind the last byte of the segment that is written to.
    pub(crate) fn segment_end(&self) -> u64 {
        self.writer.segment.end()
    }

    /// May another member's bytes be copied here? If they end the segment, the next one is made.
    pub(crate) fn room_to_copy(&self, rolls: bool) -> Result<RoomToCopy, CopyError> {
        let next = self.may_grow().and_then(|()| {
            let next = rolls.then(|| self.log.next_segment(self.segment_end()));
            next.transpose()
        });
        next.map(RoomToCopy).map_err(|error| match error {
            AppendError::Closed(reason) => CopyError::Closed(reason),
            other => CopyError::DiskFull(other.to_string()),
        })
    }

    /// Writes bytes of another member's log, whose last record was stored then. They fit before the segment's end. Nobody
    /// else knows of them before [`Tail::publish`].
    pub(crate) fn copy(&mut self, bytes: &[u8], RoomToCopy(next): RoomToCopy, stored_at_ms: Option<i64>) {
        if let Some(stored_at_ms) = stored_at_ms {
            self.stamp(stored_at_ms);
        }
        let segment = &self.writer.segment;
        let at = self.writer.end - segment.base();
        let to = at + bytes.len() as u64;
        segment.map().fill(at..to, &mut |out| out.copy_from_slice(bytes));
        match next {
            Some(next) => self.go_on_in(next),
            None => {
                segment.map().publish(to);
                self.writer.end += bytes.len() as u64;
            }
        }
    }

    /// Does the log take records at all?
    fn may_grow(&self) -> Result<(), AppendError> {
        if let Some(reason) = self.log.closed() {
            return Err(AppendError::Closed(reason.to_owned()));
        }
        if self.log.refuses.load(Ordering::Relaxed)
            && let Some(reason) = self.log.out_of_room()
        {
            return Err(AppendError::DiskFull(reason));
        }
        Ok(())
    }

    /// Makes sure that `bytes` fit before the segment's end; rolls to the next segment if need be.
    pub(crate) fn make_room(&mut self, bytes: u64) -> Result<LogOffset, AppendError> {
        self.may_grow()?;
        let limit = self.log.segment_bytes - BLANK_BYTES;
        if bytes > limit {
            return Err(AppendError::BatchTooLarge { found: bytes, limit });
        }
        if bytes + BLANK_BYTES > self.writer.segment.end() - self.writer.end {
            self.roll()?;
        }
        Ok(self.end())
    }

    /// The clock's time, or the last record's if the clock went back: store times never decrease along the log.
    pub(crate) fn stamp(&mut self, now_ms: i64) -> i64 {
        let stored_at_ms = self.log.stored_at_ms().max(now_ms);
        self.log.stored_at_ms.store(stored_at_ms, Ordering::Relaxed);
        stored_at_ms
    }

    /// Writes records one behind the other where [`Tail::make_room`] made room for all of them. `place` hears of each
    /// record's place and says its queue offset. Nobody else knows of them before [`Tail::publish`].
    pub(crate) fn write<R: Put>(
        &mut self,
        records: &[R],
        mut place: impl FnMut(usize, LogOffset) -> QueueOffset,
    ) -> LogOffset {
        let stored_at_ms = self.log.stored_at_ms();
        let start = self.writer.end;
        let end = start + records.iter().map(|record| record.len() as u64).sum::<u64>();
        let segment = &self.writer.segment;
        let (from, to) = (start - segment.base(), end - segment.base());
        segment.map().fill(from..to, &mut |out| {
            let mut at = 0;
            for (index, record) in records.iter().enumerate() {
                let log_offset = LogOffset(start + at as u64);
                let queue_offset = place(index, log_offset);
                let out = &mut out[at..at + record.len()];
                record.put(out);
                codec::seal(out, log_offset, queue_offset, stored_at_ms);
                at += record.len();
            }
        });
        segment.map().publish(to);
        self.writer.end = end;
        LogOffset(end)
    }

    /// The log ends where it was written to. What is to be dispatched must be queued before: a flush may confirm it at
    /// once. Returns the end.
    pub(crate) fn publish(self) -> LogOffset {
        self.log.appended.store(self.writer.end, Ordering::Release);
        self.end()
    }

    /// Goes on in the next segment. The blank is written only when the next one is there: after an error the log
    /// is as before, and a smaller record may still fit.
    fn roll(&mut self) -> Result<(), AppendError> {
        let next = self.log.next_segment(self.writer.segment.end())?;
        let segment = &self.writer.segment;
        let rest = segment.end() - self.writer.end;
        let at = self.writer.end - segment.base();
        segment.map().fill(at..at + BLANK_BYTES, &mut |out| codec::encode_blank(out, rest));
        self.go_on_in(next);
        Ok(())
    }

    /// All of the segment is written.
    fn go_on_in(&mut self, next: Arc<Segment>) {
        let segment = &self.writer.segment;
        segment.map().publish(segment.map().bytes());
        self.writer.end = next.base();
        self.log.segments.write().push_back(Arc::clone(&next));
        self.log.appended.store(next.base(), Ordering::Release);
        self.writer.segment = next;
    }
}
