//! The one way in: open, append, wait until durable, read by queue, close.

use std::ops::Range;
use std::sync::Arc;

use crate::answers::{Appended, Arrivals, Entry, Keeper, Progress, Recovered, State};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::disk::{Disk, FlushGate, Reach, RealDisk};
use crate::error::{AppendError, FetchError, FlushFailed, OpenError, ReadError};
use crate::flush::Then;
use crate::opened::{Inner, Opened};
use crate::quarantine::DamagedPlace;
use crate::reads::{Fetched, Wanted};
use crate::record::Passed;
use crate::views::keys;
use crate::{LogOffset, NewRecord, QueueId, QueueOffset, Record};

/// One CommitLog and its views. Cheap to clone; the last clone closes it as [`Store::close`] does.
#[derive(Clone)]
pub struct Store {
    opened: Arc<Opened>,
}

impl Store {
    /// Opens or creates the store and recovers it.
    pub fn open(config: Config) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(Arc::new(RealDisk::default()), Arc::new(SystemClock), config)
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
        let (opened, recovered) = Opened::open(disk, clock, config, progress, keys::hash)?;
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
        Self::open_by_hash(disk, clock, config, keys::hash)
    }

    /// Like [`Store::open_without_threads`]; keys are indexed by this hash, which must be the one of the files.
    pub(crate) fn open_by_hash(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: Config,
        hash: keys::Hash,
    ) -> Result<(Self, Recovered), OpenError> {
        let (opened, recovered) = Opened::open(disk, clock, config, &Progress::default(), hash)?;
        Ok((Self { opened: Arc::new(opened) }, recovered))
    }

    /// What makes other files on the store's device durable passes here as well: a flush that fails there may lose what was
    /// written to the log, and closes it.
    #[must_use]
    pub fn flush_gate(&self) -> Arc<FlushGate> {
        Arc::clone(self.inner().disk.flush_gate())
    }

    /// Flushes what is appended now and confirms it, without waiting for the flushing thread.
    pub fn flush(&self) -> Result<(), FlushFailed> {
        self.inner().flusher.flush().map(|_| ())
    }

    /// Does a round of housekeeping now: old segments go, entries are written to blocks, a snapshot if it is due, and what
    /// the key index has to do.
    pub fn housekeep(&self) {
        let inner = self.inner();
        inner.housekeeping.round();
        if let Some(keys) = &inner.keys {
            keys.work_through(inner.dispatch.confirmed());
        }
    }

    /// Lets the scrub read on, a megabyte or a long record, if a pass is due; true if there is more to read now. The store's
    /// own thread does so at the configured rate.
    pub fn scrub(&self) -> bool {
        self.inner().scrub.read_some()
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

    /// The same, if they are in memory; `None` if a file has them.
    pub fn entries_in_memory(
        &self,
        topic: &str,
        queue_id: QueueId,
        from: QueueOffset,
        max: usize,
    ) -> Result<Option<Vec<Entry>>, ReadError> {
        let run = self.inner().views.run(topic, queue_id, from, max, Reach::Memory)?;
        Ok(run.map(|run| run.entries))
    }

    /// The record of an entry: slices of the mapping, or bytes read from the disk; waits for that. If retention deleted it
    /// meanwhile, the error says the next offset; [`Store::entries`] knows the first one left.
    pub fn record(&self, entry: &Entry) -> Result<Record, ReadError> {
        let record = self.inner().reads.record(entry, Reach::Disk)?;
        Ok(record.expect("the disk is the furthest that records lie"))
    }

    /// Records from here on are *hot*: written since the opening, near the log's end, and so in memory.
    #[must_use]
    pub fn hot_from(&self) -> LogOffset {
        self.inner().reads.hot_from()
    }

    /// The record of an entry as slices of the mapping, which they keep alive: no copy, no call of the system. For hot
    /// ones; others come like this too, but the caller may wait for the disk as if it had stopped.
    pub fn record_in_place(&self, entry: &Entry) -> Result<Record, ReadError> {
        self.inner().reads.in_place(entry)
    }

    /// Calls `then` with entries of a queue and their records: at once if all is in the system's memory, else from a
    /// thread that waits for the disk. `then` must be quick. What is far behind the log's end is read like this: whoever
    /// must not wait looks at what is in memory first.
    pub fn fetch(&self, wanted: Wanted, then: Box<dyn FnOnce(Result<Fetched, FetchError>) + Send>) {
        self.inner().reads.fetch(wanted, then);
    }

    /// Forgets the queues of a topic, for good: a topic of the same name starts anew. Its records stay in the log until
    /// retention.
    pub fn delete_topic(&self, topic: &str) {
        let inner = self.inner();
        let deleted_at = inner.with_tail(|tail| inner.views.delete(topic).then(|| tail.end()));
        // None of its records is in the log.
        let Some(deleted_at) = deleted_at else { return };
        // The disk does not hold up those who append. A crash in between brings the topic back, as if not deleted yet.
        if let Err(error) = inner.views.mark_deleted(&[(topic, deleted_at)]) {
            tracing::error!(topic, %error, "cannot remember that a topic was deleted, a crash may bring it back");
        }
    }

    /// The record at this place, of this size, wherever it lies; waits for the disk.
    pub fn record_at(&self, at: LogOffset, size: u32) -> Result<Record, ReadError> {
        self.inner().reads.record_at(at, size)
    }

    /// Shows each valid record that starts in this range, in the log's order, while `visit` wants more. Only below
    /// [`Store::confirmed`]. It may wait for the disk.
    pub fn walk(&self, range: Range<LogOffset>, visit: &mut dyn FnMut(&Passed<'_>) -> bool) {
        let inner = self.inner();
        let range = range.start.max(inner.log.min())..range.end;
        inner.log.walk(range, &mut |head, bytes, at| {
            visit(&Passed {
                log_offset: at,
                size: bytes.len() as u32,
                topic: head.topic(bytes),
                queue_id: head.queue_id,
                queue_offset: head.queue_offset,
                sys_flag: head.sys_flag,
                prepared_offset: head.prepared_offset,
                properties: &bytes[head.properties.clone()],
            })
        });
    }

    /// End of what readers see. What is before never changes.
    #[must_use]
    pub fn confirmed(&self) -> LogOffset {
        self.inner().dispatch.confirmed()
    }

    /// From now on this one is asked before old segments go; once. See [`Config::await_keeper`].
    pub fn ask_before_removal(&self, keeper: Arc<dyn Keeper>) {
        self.inner().housekeeping.ask(keeper);
    }

    /// The same for several topics, with one write of the disk for all.
    pub fn delete_topics<'a>(&self, topics: impl IntoIterator<Item = &'a str>) {
        let inner = self.inner();
        let deleted: Vec<_> = topics
            .into_iter()
            .filter_map(|topic| {
                inner.with_tail(|tail| inner.views.delete(topic).then(|| (topic, tail.end())))
            })
            .collect();
        if deleted.is_empty() {
            return;
        }
        if let Err(error) = inner.views.mark_deleted(&deleted) {
            tracing::error!(%error, "cannot remember that topics were deleted, a crash may bring them back");
        }
    }

    /// The topics that ever had a message and whose names begin so, in no order.
    #[must_use]
    pub fn topics_beginning_with(&self, prefix: &str) -> Vec<Arc<str>> {
        let all = self.inner().views.all().map(|(topic, _)| topic);
        all.filter(|topic| topic.starts_with(prefix)).collect()
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
            cold_read_bytes: inner.reads.read_bytes(),
            damaged: inner.quarantine.counts(),
            scrubbed: inner.scrub.state(),
            disk_total_bytes: space.total_bytes,
            disk_free_bytes: space.free_bytes,
        }
    }

    /// The first places of the log that are known to be damaged, in its order; at most `max`.
    #[must_use]
    pub fn damaged(&self, max: usize) -> Vec<DamagedPlace> {
        self.inner().quarantine.first(max)
    }

    /// Flushes, writes the checkpoint, stops the store's threads. Later appends are refused.
    pub fn close(&self) -> Result<(), FlushFailed> {
        self.opened.close()
    }
}
