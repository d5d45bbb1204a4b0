//! The one way in: open, append, wait until durable, read by queue, close.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::answers::{Appended, Arrivals, Entry, Keeper, Progress, Recovered, State};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::disk::{Disk, FlushGate, Reach, RealDisk};
use crate::error::{AppendError, CopyError, FetchError, FlushFailed, OpenError, ReadError, StretchError};
use crate::flush::Then;
use crate::identity;
use crate::opened::{Inner, Opened};
use crate::quarantine::DamagedPlace;
use crate::reads::{Fetched, Stretch, Wanted};
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

    /// Calls `then` once the log is confirmed up to `end`: at once with async flush, else from the flushing thread, or from
    /// whoever calls [`Store::confirm_to`]. `then` must be quick.
    pub fn on_confirmed(&self, end: LogOffset, then: Box<dyn FnOnce(Result<(), FlushFailed>) + Send>) {
        let then: Then = then;
        self.inner().flusher.on_confirmed(end, then);
    }

    /// Calls `then` once the log here holds everything before `end` by its [`Flush`]: appended, or on the disk. With
    /// [`Confirm::Told`](crate::Confirm) that is this member's part, and all of it is not yet confirmed by that. `then` must
    /// be quick.
    pub fn on_durable(&self, end: LogOffset, then: Box<dyn FnOnce(Result<(), FlushFailed>) + Send>) {
        self.inner().flusher.on_durable(end, then);
    }

    /// Up to where the log here holds everything, by its [`Flush`].
    #[must_use]
    pub fn durable(&self) -> LogOffset {
        self.inner().flusher.durable()
    }

    /// All who must have it have the log up to `to`, except maybe this store: with [`Confirm::Told`](crate::Confirm) it is
    /// confirmed as far as it is durable here, now or once it is. It only grows. `to` is the end of a record, or lies
    /// behind the log's end; else recovery would not find the records behind it.
    pub fn confirm_to(&self, to: LogOffset) {
        self.inner().flusher.confirm_to(to);
    }

    /// Sets who hears where the log ends after each append, from the thread that appended: be quick, and append nothing.
    ///
    /// # Panics
    /// If it was set before.
    pub fn on_appended(&self, listener: Box<dyn Fn(LogOffset) + Send + Sync>) {
        assert!(self.inner().on_appended.set(listener).is_ok(), "the log's end has one listener, set once");
    }

    /// The log from `at` on, where a record or a segment starts, for [`Store::append_stretch`] of another member: whole
    /// records of one segment, at most `max` bytes unless the first alone is longer. Where there is no valid record, the
    /// damaged bytes up to the next one, or the first `max` of them. At the log's end it is empty.
    ///
    /// It is not bounded by what is confirmed. Hot bytes come in place; others are read from the file, past the mapping, and
    /// the caller waits for the disk: use a thread that may.
    pub fn stretch(&self, at: LogOffset, max: usize) -> Result<Stretch, StretchError> {
        self.inner().reads.stretch(at, max)
    }

    /// Appends what [`Store::stretch`] of another member gave for `at`, which must be this log's end: the same bytes at the
    /// same place, with the same queue offsets and store times. All or nothing: everything is checked before anything is
    /// written, whatever the bytes are. Returns the log's new end, which is the stretch's `next`. An append that follows goes
    /// on behind them.
    pub fn append_stretch(&self, at: LogOffset, bytes: &[u8], damaged: bool) -> Result<LogOffset, CopyError> {
        self.inner().append_stretch(at, bytes, damaged)
    }

    /// Which store this is: drawn at random when it was made. A volume that was lost and replaced has another.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner().id
    }

    /// Was the machine, and not only the process, restarted while the store was open, at some time before which nobody called
    /// [`Store::trust_end`]? Then the log may end before what it had acknowledged with [`Flush::Async`](crate::Flush). If
    /// that cannot be known, it is true.
    #[must_use]
    pub fn was_interrupted(&self) -> bool {
        self.inner().interrupted.load(Ordering::Relaxed)
    }

    /// Whatever this log should hold it holds again, as others know: [`Store::was_interrupted`] is over. Durable when it
    /// returns.
    pub fn trust_end(&self) -> io::Result<()> {
        let inner = self.inner();
        identity::clear_up(&*inner.disk, &inner.config.root)?;
        inner.interrupted.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of a file of the log. Members of a group have the same.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.inner().log.segment_bytes()
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
    /// retention. Returns the log's end at that time; `None`: none of its records is in the log.
    pub fn delete_topic(&self, topic: &str) -> Option<LogOffset> {
        self.delete_topics([topic]).pop().map(|(_, deleted_at)| deleted_at)
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

    /// From now on this one, and no other, is asked before old segments go. See [`Config::await_keeper`].
    pub fn ask_before_removal(&self, keeper: Arc<dyn Keeper>) {
        self.inner().housekeeping.ask(keeper);
    }

    /// The same for several topics, with one write of the disk for all: those of which records are in the log, and its end
    /// when each was deleted. A member that copies the log does the same once its own ends exactly there: what lies before
    /// belongs to no queue then, confirmed or not.
    pub fn delete_topics<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, LogOffset)> {
        let inner = self.inner();
        let deleted: Vec<_> = topics
            .into_iter()
            .filter_map(|topic| {
                inner.with_tail(|tail| {
                    let end = tail.end();
                    inner.views.delete(topic, end).then_some((topic, end))
                })
            })
            .collect();
        // The disk does not hold up those who append. A crash in between brings the topics back, as if not deleted yet.
        if !deleted.is_empty()
            && let Err(error) = inner.views.store_deleted()
        {
            tracing::error!(%error, "cannot remember that topics were deleted, a crash may bring them back");
        }
        deleted
    }

    /// The topics that were deleted while records of theirs are in the log, and its end at that time; of a name that was
    /// deleted several times, the last. Whoever sees the log end behind a deletion finds that here: so who hands the log on
    /// can end a stretch there, and tell of the deletion before what lies behind.
    #[must_use]
    pub fn deleted_topics(&self) -> Vec<(String, LogOffset)> {
        self.inner().views.deleted()
    }

    /// Grows with every change of what [`Store::deleted_topics`] says, so that who keeps that need not ask for all of it
    /// again. Whoever sees the log end behind a deletion sees it grown.
    #[must_use]
    pub fn deletions(&self) -> u64 {
        self.inner().views.deletions()
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
