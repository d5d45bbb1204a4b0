//! The one way in: open, append, wait until durable, read by queue, close.

use std::ops::Range;
use std::sync::Arc;

use crate::answers::{Appended, Arrivals, Entry, Progress, Recovered, State};
use crate::clock::{Clock, SystemClock};
use crate::commit_log::NotThere;
use crate::commit_log::codec::Head;
use crate::config::Config;
use crate::disk::{Disk, RealDisk};
use crate::error::{AppendError, FlushFailed, OpenError, ReadError};
use crate::flush::Then;
use crate::opened::{Inner, Opened};
use crate::{LogOffset, NewRecord, QueueId, QueueOffset, Record};

/// One CommitLog and its views. Cheap to clone; the last clone closes it as [`Store::close`] does.
#[derive(Clone)]
pub struct Store {
    opened: Arc<Opened>,
}

impl Store {
    /// Opens or creates the store and recovers it.
    pub fn open(config: Config) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(Arc::new(RealDisk), Arc::new(SystemClock), config)
    }

    /// Opens the store on this disk, by this clock.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_telling(disk, clock, config, &Progress::default())
    }

    /// Like [`Store::open_on`], and `progress` says meanwhile how far it is: a log without its views is walked from its
    /// start.
    pub fn open_telling(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: Config,
        progress: &Progress,
    ) -> Result<(Self, Recovered), OpenError> {
        let (opened, recovered) = Opened::open(disk, clock, config, progress)?;
        let store = Self { opened: Arc::new(opened) };
        store.opened.start_threads()?;
        Ok((store, recovered))
    }

    /// Opens the store, but leaves flushing and housekeeping to the caller: [`Store::flush`], [`Store::housekeep`],
    /// [`Store::snapshot`]. So a test decides when each happens.
    pub fn open_without_threads(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<(Self, Recovered), OpenError> {
        let (opened, recovered) = Opened::open(disk, clock, config, &Progress::default())?;
        Ok((Self { opened: Arc::new(opened) }, recovered))
    }

    /// Flushes what is appended now and confirms it, without waiting for the flushing thread.
    pub fn flush(&self) -> Result<(), FlushFailed> {
        self.inner().flusher.flush().map(|_| ())
    }

    /// Does a round of housekeeping now: old segments go, entries are written to blocks, a snapshot if it is due.
    pub fn housekeep(&self) {
        self.inner().housekeeping.round();
    }

    /// Writes a snapshot of the views now. Opening will replay the log from here.
    pub fn snapshot(&self) -> Result<(), FlushFailed> {
        self.inner().housekeeping.snapshot().map_err(|error| FlushFailed(error.to_string()))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.opened.inner
    }

    /// Sets who hears of arrivals; once, before the first append.
    pub fn on_arrival(&self, listener: Arc<dyn Arrivals>) {
        self.inner().dispatch.listen(listener);
    }

    /// Appends the records one behind the other in one segment; all or nothing.
    pub fn append(&self, records: &[NewRecord<'_>]) -> Result<Appended, AppendError> {
        self.inner().append(records)
    }

    /// Calls `then` once the log is confirmed up to `end`: at once with async flush, else from
    /// the flushing thread. `then` must be quick.
    pub fn on_confirmed(&self, end: LogOffset, then: Box<dyn FnOnce(Result<(), FlushFailed>) + Send>) {
        let then: Then = then;
        self.inner().flusher.on_confirmed(end, then);
    }

    /// The confirmed offsets of a queue: first to next. Empty for a queue that never had a message.
    #[must_use]
    pub fn queue_bounds(&self, topic: &str, queue_id: QueueId) -> Range<QueueOffset> {
        let queue = self.inner().views.queue(topic, queue_id);
        queue.map_or(QueueOffset(0)..QueueOffset(0), |queue| queue.bounds())
    }

    /// At most `max` confirmed entries from `from` on. Entries of damaged records are left out, so the queue offsets
    /// may have gaps.
    pub fn entries(
        &self,
        topic: &str,
        queue_id: QueueId,
        from: QueueOffset,
        max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.inner().views.read(topic, queue_id, from, max)
    }

    /// The record of an entry, as slices of the mapping. If retention deleted it meanwhile, the error says the next
    /// offset; [`Store::entries`] knows the first one left.
    pub fn record(&self, entry: &Entry) -> Result<Record, ReadError> {
        let damaged = |reason: String| ReadError::Damaged { at: entry.log_offset, reason };
        let bytes =
            self.inner().log.slice(entry.log_offset, u64::from(entry.size)).map_err(
                |missing| match missing {
                    NotThere::Deleted => ReadError::Deleted { min: entry.queue_offset.plus(1) },
                    NotThere::NeverWritten => damaged("the log ends before it".to_owned()),
                },
            )?;
        let head = Head::parse(&bytes).map_err(|flaw| damaged(flaw.to_string()))?;
        if entry.log_offset < self.inner().written_before {
            // It came from the disk, and may have changed there.
            head.verify(&bytes, entry.log_offset).map_err(|flaw| damaged(flaw.to_string()))?;
        }
        if (head.place, head.queue_offset) != (entry.log_offset, entry.queue_offset) {
            return Err(damaged(format!(
                "it says queue offset {} and log offset {}, the queue has it as {}",
                head.queue_offset, head.place, entry.queue_offset
            )));
        }
        Ok(head.into_record(&bytes))
    }

    /// Forgets the queues of a topic, for good: a topic of the same name starts anew. Its records stay in the log until
    /// retention.
    pub fn delete_topic(&self, topic: &str) {
        let inner = self.inner();
        let deleted_at = inner.with_tail(|tail| inner.views.delete(topic).then(|| tail.end()));
        // None of its records is in the log.
        let Some(deleted_at) = deleted_at else { return };
        // The disk does not hold up those who append. A crash in between brings the topic back, as if not deleted yet.
        if let Err(error) = inner.views.mark_deleted(topic, deleted_at) {
            tracing::error!(topic, %error, "cannot remember that a topic was deleted, a crash may bring it back");
        }
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        let inner = self.inner();
        let space = inner.disk.space(&inner.config.root).unwrap_or_default();
        State {
            min: inner.log.min(),
            appended: inner.log.appended(),
            flushed: inner.log.flushed(),
            confirmed: inner.dispatch.confirmed(),
            flushes: inner.flusher.flushes(),
            refusing: inner.log.closed().map(str::to_owned).or_else(|| inner.log.out_of_room()),
            disk_total_bytes: space.total_bytes,
            disk_free_bytes: space.free_bytes,
        }
    }

    /// Flushes, writes the checkpoint, stops the store's threads. Later appends are refused.
    pub fn close(&self) -> Result<(), FlushFailed> {
        self.opened.close()
    }
}
