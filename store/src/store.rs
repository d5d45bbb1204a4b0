//! The one way in: open, append, wait until durable, read by queue, close.

use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::clock::{Clock, SystemClock};
use crate::commit_log::codec::{Head, Plan};
use crate::commit_log::recover::{Files, Known};
use crate::commit_log::{CommitLog, NotThere};
use crate::config::Config;
use crate::disk::{Disk, Lock, RealDisk};
use crate::dispatch::{Dispatch, Pending};
use crate::error::{AppendError, FlushFailed, OpenError, ReadError};
use crate::flush::{Flusher, Then};
use crate::views::{RawEntry, Views};
use crate::{LogOffset, NewRecord, QueueId, QueueOffset, Record};

/// What recovery found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The log's end after recovery.
    pub end: LogOffset,
    /// Bytes cut off behind the last whole record.
    pub cut_bytes: u64,
    /// Records dispatched again to the views.
    pub replayed_records: u64,
    /// The store was closed properly the last time.
    pub clean: bool,
    /// Damaged stretches that were skipped: where, and how many bytes. What follows them is served.
    pub damaged: Vec<(LogOffset, u64)>,
}

/// Where a batch went. Its records lie one behind the other.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Start of the first record.
    pub start: LogOffset,
    /// End of the last record: durable when the log is flushed up to here.
    pub end: LogOffset,
    /// One per record, in order; 0 for prepared and rollback records, which are in no queue.
    pub queue_offsets: Vec<QueueOffset>,
    /// The store's clock, Unix milliseconds.
    pub stored_at_ms: i64,
}

/// A consume queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place in the queue.
    pub queue_offset: QueueOffset,
    /// Place of the record in the log.
    pub log_offset: LogOffset,
    /// Bytes of the record.
    pub size: u32,
    /// Java's hash of the tag, 0 without one.
    pub tags_code: i64,
}

/// Hears of confirmed records, in the order of the log, from the thread that confirmed them: be quick, never block,
/// append nothing. Reading is fine.
pub trait Arrivals: Send + Sync {
    /// The queue now ends at `next` (exclusive).
    fn arrived(&self, topic: &str, queue_id: QueueId, next: QueueOffset, tags_code: i64);
}

/// What a person wants to know.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// First byte that is left.
    pub min: LogOffset,
    /// End of what is written.
    pub appended: LogOffset,
    /// End of what is on disk.
    pub flushed: LogOffset,
    /// End of what readers see.
    pub confirmed: LogOffset,
    /// Why appends are refused, if they are.
    pub refusing: Option<String>,
    /// Size of the volume.
    pub disk_total_bytes: u64,
    /// Free for us.
    pub disk_free_bytes: u64,
}

/// One CommitLog and its views. Cheap to clone; the last clone closes it as [`Store::close`] does.
#[derive(Clone)]
pub struct Store {
    opened: Arc<Opened>,
}

/// What the threads share with the handles.
struct Inner {
    config: Config,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    log: Arc<CommitLog>,
    views: Arc<Views>,
    dispatch: Arc<Dispatch>,
    flusher: Flusher,
}

/// Goes with the last handle.
struct Opened {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closed: Mutex<Option<Result<(), FlushFailed>>>,
    lock: Mutex<Option<Box<dyn Lock>>>,
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
        let root = &config.root;
        disk.create_dir(root).map_err(OpenError::at(root))?;
        let lock_path = root.join("lock");
        let lock = disk
            .lock(&lock_path)
            .map_err(OpenError::at(&lock_path))?
            .ok_or_else(|| OpenError::InUse(root.clone()))?;

        let files = Files::load(Arc::clone(&disk), &config)?;
        let views = Arc::new(Views::default());
        let known = Known { from: files.min(), durable: LogOffset(0), stored_at_ms: 0 };
        let (log, walked) = files.recover(&known, config.flush, &mut |head, bytes, at| {
            replay(&views, head, bytes, at);
        })?;
        let recovered = Recovered {
            end: walked.end,
            cut_bytes: walked.cut_bytes,
            replayed_records: walked.records,
            clean: false,
            damaged: walked.damaged,
        };

        let log = Arc::new(log);
        let dispatch = Arc::new(Dispatch::new(walked.end));
        let flusher = Flusher::new(Arc::clone(&log), Arc::clone(&dispatch), config.flush);
        let inner = Arc::new(Inner { config, disk, clock, log, views, dispatch, flusher });
        let flushing = std::thread::Builder::new()
            .name("store-flush".into())
            .spawn({
                let inner = Arc::clone(&inner);
                move || inner.flusher.run()
            })
            .map_err(OpenError::at(&inner.config.root))?;
        let opened = Opened {
            inner,
            threads: Mutex::new(vec![flushing]),
            closed: Mutex::new(None),
            lock: Mutex::new(Some(lock)),
        };
        Ok((Self { opened: Arc::new(opened) }, recovered))
    }

    fn inner(&self) -> &Inner {
        &self.opened.inner
    }

    /// Sets who hears of arrivals; once, before the first append.
    pub fn on_arrival(&self, listener: Arc<dyn Arrivals>) {
        self.inner().dispatch.listen(listener);
    }

    /// Appends the records one behind the other in one segment; all or nothing.
    pub fn append(&self, records: &[NewRecord<'_>]) -> Result<Appended, AppendError> {
        let inner = self.inner();
        let plans = records
            .iter()
            .map(|record| Plan::new(record, inner.config.max_body_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let bytes = plans.iter().map(|plan| plan.len as u64).sum();

        let mut tail = inner.log.tail();
        let start = tail.make_room(bytes)?;
        let stored_at_ms = tail.stamp(inner.clock.now_ms());
        let mut queue_offsets = Vec::with_capacity(plans.len());
        let mut pending = Vec::with_capacity(plans.len());
        let end = tail.write(&plans, |index, at| {
            let plan = &plans[index];
            let mut queue_offset = QueueOffset(0);
            if plan.queued {
                let (topic, id) = plan.queue();
                let queue = inner.views.queue_or_new(topic, id);
                queue_offset = queue.assign();
                pending.push(Pending {
                    record_end: at.plus(plan.len as u64),
                    queue,
                    entry: RawEntry::new(at, plan.len as u32, plan.tags_code),
                    tags_code: plan.tags_code,
                });
            }
            queue_offsets.push(queue_offset);
            queue_offset
        });
        inner.dispatch.push(pending.into_iter());
        drop(tail);
        inner.flusher.appended(end);
        Ok(Appended { start, end, queue_offsets, stored_at_ms })
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
        self.inner().views.queue(topic, queue_id).map_or(Ok(Vec::new()), |queue| queue.read(from, max))
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
        if (head.place, head.queue_offset) != (entry.log_offset, entry.queue_offset) {
            return Err(damaged(format!(
                "it says queue offset {} and log offset {}, the queue has it as {}",
                head.queue_offset, head.place, entry.queue_offset
            )));
        }
        Ok(head.into_record(&bytes))
    }

    /// The first offset whose record was stored at `at_ms` or later; the end of the queue if none was.
    pub fn offset_at_time(
        &self,
        topic: &str,
        queue_id: QueueId,
        at_ms: i64,
    ) -> Result<QueueOffset, ReadError> {
        let Range { start, end } = self.queue_bounds(topic, queue_id);
        let (mut low, mut high) = (start, end);
        while low < high {
            let middle = QueueOffset(low.0 + (high.0 - low.0) / 2);
            // The first that is left at or behind the middle: damaged records have no entry.
            let Some(entry) =
                self.entries(topic, queue_id, middle, 1)?.first().copied().filter(|e| e.queue_offset < high)
            else {
                high = middle;
                continue;
            };
            if self.record(&entry)?.stored_at_ms < at_ms {
                low = entry.queue_offset.plus(1);
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Forgets the queues of a topic; its records stay in the log until retention.
    pub fn delete_topic(&self, topic: &str) {
        let _tail = self.inner().log.tail();
        self.inner().views.delete(topic);
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

/// Shows the views a record that recovery found.
fn replay(views: &Views, head: &Head, bytes: &[u8], at: LogOffset) {
    if !crate::commit_log::codec::is_queued(head.sys_flag) {
        return;
    }
    let queue = views.queue_or_new(head.topic(bytes), head.queue_id);
    queue.replay(head.queue_offset, RawEntry::new(at, bytes.len() as u32, head.tags_code(bytes)));
}

impl Opened {
    fn close(&self) -> Result<(), FlushFailed> {
        let mut closed = self.closed.lock();
        if let Some(result) = &*closed {
            return result.clone();
        }
        let inner = &self.inner;
        inner.log.close("the store was closed");
        inner.flusher.stop();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                inner.flusher.fail("a thread of the store panicked");
            }
        }
        let result = inner.flusher.flush();
        inner.log.discard_prepared();
        *self.lock.lock() = None;
        *closed = Some(result.clone());
        result
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store could not be closed properly");
        }
    }
}
