//! A store's life: opened and recovered, its threads, closed.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::LogOffset;
use crate::ahead::Ahead;
use crate::answers::{Progress, Recovered};
use crate::append::Crowd;
use crate::clock::Clock;
use crate::commit_log::CommitLog;
use crate::commit_log::codec::{Head, is_queued};
use crate::commit_log::mark::{self, Mark};
use crate::commit_log::recover::{Files, Known, Met};
use crate::config::{Config, Confirm, Flush};
use crate::disk::{Disk, Lock};
use crate::dispatch::{Dispatch, Pending};
use crate::error::{FlushFailed, OpenError};
use crate::flush::{Flusher, Told};
use crate::housekeeping::Housekeeping;
use crate::identity;
use crate::last_writer::{self, LastWriter};
use crate::milestone::Milestone;
use crate::quarantine::Quarantine;
use crate::reads::Reads;
use crate::scrub::Scrub;
use crate::views::keys::{self, Keys};
use crate::views::{Counts, RawEntry, Views};

/// Hears where the log ends now.
pub(crate) type OnAppended = Box<dyn Fn(LogOffset) + Send + Sync>;

/// What a thread does until it is stopped.
type Work = fn(&Inner);

/// What the threads share with the handles.
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: Arc<CommitLog>,
    pub(crate) views: Arc<Views>,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) ahead: Ahead,
    pub(crate) crowd: Crowd,
    pub(crate) housekeeping: Housekeeping,
    pub(crate) reads: Arc<Reads>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) scrub: Scrub,
    /// `None`: it is turned off.
    pub(crate) keys: Option<Arc<Keys>>,
    /// Hears where the log ends after each append.
    pub(crate) on_appended: OnceLock<OnAppended>,
    pub(crate) id: u64,
    /// The machine went down while the store was open, and nobody cleared it up.
    pub(crate) interrupted: AtomicBool,
}

impl Inner {
    fn run_keys(&self) {
        if let Some(keys) = &self.keys {
            keys.run(&|| self.dispatch.confirmed());
        }
    }
}

/// Goes with the last handle.
pub(crate) struct Opened {
    pub(crate) inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closed: Mutex<Option<Result<(), FlushFailed>>>,
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl Opened {
    /// Opens, recovers; no thread runs yet. Keys are indexed by this hash, which must be the one of the files.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: Config,
        progress: &Progress,
        hash: keys::Hash,
    ) -> Result<(Self, Recovered), OpenError> {
        let root = &config.root;
        disk.create_dir(root).map_err(OpenError::at(root))?;
        let lock_path = root.join("lock");
        let lock = disk
            .lock(&lock_path)
            .map_err(OpenError::at(&lock_path))?
            .ok_or_else(|| OpenError::InUse(root.clone()))?;
        let last_writer = LastWriter::look(disk.as_ref(), root).map_err(OpenError::at(root))?;
        let clean = last_writer.was_clean();
        let interrupted = identity::look_at_boot(disk.as_ref(), root, config.boot_id.as_deref(), clean)
            .map_err(OpenError::at(root))?;
        let id = identity::load_or_draw(disk.as_ref(), root).map_err(OpenError::at(root))?;
        // After another wrote here, nothing that we noted counts, and whatever is whole may have been acknowledged.
        // Until all is noted anew, `abort` stays theirs.
        let (by_another, believe) =
            if last_writer.is_other() { (true, Flush::Sync) } else { (false, config.flush) };
        if by_another {
            last_writer::forget(disk.as_ref(), root)
        } else {
            last_writer::note_open(disk.as_ref(), root)
        }
        .map_err(OpenError::at(root))?;

        let files = Files::load(Arc::clone(&disk), &config)?;
        let (views, complete, mut counts) = Views::load(Arc::clone(&disk), root, files.min()..files.end())?;
        let known = Known {
            from: complete.to,
            stored_at_ms: complete.stored_at_ms,
            now_ms: clock.now_ms(),
            believe,
            // A snapshot tells of durable records only.
            settle: config.flush == Flush::Sync || by_another || complete.replace_snapshot,
        };
        let mut replay = Replay::new(Believed::of(&config, disk.as_ref(), by_another)?, complete.to);
        let (log, walked) = files.recover(&known, progress, &mut |met, at| match met {
            Met::Record(head, bytes) => replay.show(&views, head, bytes, at),
            Met::Remains(head, bytes) if replay.is_confirmed(at, bytes) => {
                note_remains(&mut counts, &views, head, bytes, at);
            }
            Met::Remains(..) => {}
            Met::Unreadable(records) => counts.note_unreadable(records),
        })?;
        let (confirmed, pending) = replay.over(log.min(), walked.end);
        let unconfirmed = pending.len();
        pending.iter().for_each(|entry| counts.forget(&entry.queue));
        views
            .recovered(log.min()..walked.end, confirmed, counts)
            .and_then(|()| {
                if complete.replace_snapshot || by_another {
                    views.write_snapshot(confirmed, log.stored_at_ms(), log.min())?;
                }
                if by_another { last_writer::note_open(disk.as_ref(), root) } else { Ok(()) }
            })
            .map_err(OpenError::at(root))?;
        let told = match config.confirm {
            Confirm::Alone => None,
            Confirm::Told => {
                // Before something else lies there: what was noted would then be said of that.
                mark::lower_confirmed(disk.as_ref(), root, confirmed).map_err(OpenError::at(root))?;
                Some(Told::new(confirmed, Mark::confirmed(disk.as_ref(), root, config.flush)?))
            }
        };
        let quarantine = Arc::new(Quarantine::load(Arc::clone(&disk), Arc::clone(&clock), root));
        quarantine.keep_within(log.min()..walked.end);
        for &(at, bytes, flaw) in &walked.damaged {
            quarantine.report(at..at.plus(bytes), &flaw.to_string());
        }
        tracing::info!(
            path = %root.display(), clean, by_another, min = %log.min(), end = %walked.end, replayed_records = walked.records,
            unconfirmed, cut_bytes = walked.cut_bytes, damaged = walked.damaged.len(), "store opened"
        );
        let recovered = Recovered {
            end: walked.end,
            cut_bytes: walked.cut_bytes,
            replayed_records: walked.records,
            clean,
            by_another,
            interrupted,
            torn_at: walked.torn_at,
            damaged: walked.damaged.into_iter().map(|(at, bytes, _)| (at, bytes)).collect(),
        };

        let log = Arc::new(log);
        log.note_damage_in(Arc::clone(&quarantine));
        let views = Arc::new(views);
        views.repair_from(Arc::clone(&log));
        let dispatch = Arc::new(Dispatch::new(Arc::clone(&views), confirmed));
        dispatch.push(pending.into_iter());
        let flusher = Arc::new(Flusher::new(Arc::clone(&log), Arc::clone(&dispatch), config.flush, told));
        let hears = Arc::downgrade(&flusher);
        disk.flush_gate().on_failure(Box::new(move |reason| {
            if let Some(flusher) = hears.upgrade() {
                flusher.hear_of_failure(reason);
            }
        }));
        let reads = Arc::new(Reads::new(
            Arc::clone(&disk),
            Arc::clone(&log),
            Arc::clone(&views),
            walked.end,
            &config.cold_reads,
        ));
        let keys = config
            .index_keys
            .then(|| {
                let log = Arc::clone(&log);
                Keys::open(Arc::clone(&disk), &config, log, confirmed..walked.end, hash).map(Arc::new)
            })
            .transpose()
            .map_err(OpenError::at(root))?;
        let housekeeping = Housekeeping {
            config: config.clone(),
            disk: Arc::clone(&disk),
            clock: Arc::clone(&clock),
            log: Arc::clone(&log),
            views: Arc::clone(&views),
            keys: keys.clone(),
            flusher: Arc::clone(&flusher),
            reads: Arc::clone(&reads),
            quarantine: Arc::clone(&quarantine),
            state: Mutex::default(),
            bell: Condvar::new(),
            call_at: Milestone::default(),
            pace: Mutex::default(),
            keeper: Mutex::default(),
            at_work: Mutex::default(),
        };
        let ahead = Ahead::new(Arc::clone(&log), Arc::clone(&flusher), &config);
        let scrub = Scrub::new(
            Arc::clone(&disk),
            Arc::clone(&clock),
            Arc::clone(&log),
            Arc::clone(&quarantine),
            Arc::clone(&views),
            keys.clone(),
            config.scrub.clone(),
        );
        let inner = Arc::new(Inner {
            config,
            disk,
            clock,
            log,
            views,
            dispatch,
            flusher,
            ahead,
            crowd: Crowd::default(),
            housekeeping,
            reads,
            quarantine,
            scrub,
            keys,
            on_appended: OnceLock::new(),
            id,
            interrupted: AtomicBool::new(interrupted),
        });
        let opened = Opened {
            inner,
            threads: Mutex::default(),
            closed: Mutex::new(None),
            lock: Mutex::new(Some(lock)),
        };
        Ok((opened, recovered))
    }

    /// Starts the store's threads.
    pub(crate) fn start_threads(&self) -> Result<(), OpenError> {
        let mut works: Vec<(&str, Work)> = vec![
            ("store-flush", |inner| inner.flusher.run()),
            ("store-ahead", |inner| inner.ahead.run()),
            ("store-make", |inner| inner.ahead.make_segments()),
            ("store-keep", |inner| inner.housekeeping.run()),
            ("store-keys", Inner::run_keys),
        ];
        if self.inner.config.scrub.interval.is_some() {
            works.push(("store-scrub", |inner| inner.scrub.run()));
        }
        let readers = self.inner.config.cold_reads.threads.max(1);
        works.extend(std::iter::repeat_n::<(&str, Work)>(("store-read", |inner| inner.reads.run()), readers));
        self.inner.reads.start();
        for (name, work) in works {
            let inner = Arc::clone(&self.inner);
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    // A store that lost a thread must not look well: it refuses appends and says why.
                    let _alarm = Alarm { inner: &inner, name };
                    work(&inner);
                })
                .map_err(OpenError::at(&self.inner.config.root))?;
            self.threads.lock().push(thread);
        }
        Ok(())
    }

    /// See [`Store::close`](crate::Store::close).
    pub(crate) fn close(&self) -> Result<(), FlushFailed> {
        let mut closed = self.closed.lock();
        if let Some(result) = &*closed {
            return result.clone();
        }
        let inner = &self.inner;
        inner.log.close("the store was closed");
        // Whoever appends just now gets through, and is flushed below.
        inner.with_tail(|_| ());
        inner.ahead.stop();
        inner.housekeeping.stop();
        inner.reads.stop();
        inner.scrub.stop();
        if let Some(keys) = &inner.keys {
            keys.stop();
        }
        inner.flusher.stop();
        for thread in self.threads.lock().drain(..) {
            // The last handle may go in a callback of one of them. A panic was told by the alarm.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
        let result = inner.flusher.flush().map(|_| ());
        if result.is_ok() {
            self.leave_clean();
        }
        inner.flusher.end();
        *self.lock.lock() = None;
        *closed = Some(result.clone());
        result
    }

    /// What is not needed for safety, only for the next opening to be quick.
    fn leave_clean(&self) {
        let inner = &self.inner;
        inner.log.discard_prepared();
        inner.scrub.note();
        inner.flusher.note_confirmed();
        if let Err(error) = inner.views.write_out() {
            tracing::warn!(%error, "cannot write consume queue entries");
        }
        if let Some(keys) = &inner.keys {
            keys.close(inner.dispatch.confirmed());
        }
        if let Err(error) = inner.housekeeping.snapshot() {
            tracing::warn!(%error, "no snapshot of the views, the next opening takes longer");
            return;
        }
        let root = &inner.config.root;
        if let Err(error) = last_writer::note_closed(inner.disk.as_ref(), root) {
            tracing::warn!(%error, "cannot note that the store is closed, the next opening takes longer");
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store could not be closed properly");
        }
    }
}

/// What a damaged record had in its queue is not given to another one.
fn note_remains(counts: &mut Counts, views: &Views, head: &Head, bytes: &[u8], at: LogOffset) {
    let topic = head.topic(bytes);
    if is_queued(head.sys_flag) && !views.hides(topic, at) {
        counts.note_remains(topic, head.queue_id, head.queue_offset);
    }
}

/// Up to where what recovery finds was confirmed.
///
/// With [`Confirm::Told`] a record that was confirmed may count as unconfirmed again after a crash, until it is told once
/// more; one that was not never counts as confirmed. What is noted at closing is exact.
struct Believed(LogOffset);

impl Believed {
    fn of(config: &Config, disk: &dyn Disk, by_another: bool) -> Result<Self, OpenError> {
        // RocketMQ asks nobody either.
        if config.confirm == Confirm::Alone || by_another {
            return Ok(Self(LogOffset(u64::MAX)));
        }
        let noted = mark::read_confirmed(disk, &config.root).map_err(OpenError::at(&config.root))?;
        Ok(Self(noted.unwrap_or_default()))
    }
}

/// What becomes of the records that recovery finds: confirmed ones go to the views, the others wait.
struct Replay {
    believed: LogOffset,
    /// End of the last confirmed one.
    confirmed: LogOffset,
    pending: Vec<Pending>,
}

impl Replay {
    /// The views' snapshot is complete to `from`, and tells of confirmed records only.
    fn new(Believed(believed): Believed, from: LogOffset) -> Self {
        Self { believed, confirmed: from, pending: Vec::new() }
    }

    fn is_confirmed(&self, at: LogOffset, bytes: &[u8]) -> bool {
        at.plus(bytes.len() as u64) <= self.believed
    }

    fn show(&mut self, views: &Views, head: &Head, bytes: &[u8], at: LogOffset) {
        let is_confirmed = self.is_confirmed(at, bytes);
        if is_confirmed {
            self.confirmed = at.plus(bytes.len() as u64);
        }
        if !is_queued(head.sys_flag) {
            return;
        }
        let (topic, entry) =
            (head.topic(bytes), RawEntry::new(at, bytes.len() as u32, head.tags_code(bytes)));
        if is_confirmed {
            views.replay(topic, head.queue_id, head.queue_offset, entry);
        } else if !views.hides(topic, at) {
            let queue = views.queue_or_new(topic, head.queue_id);
            self.pending.push(Pending::placed(queue, head.queue_offset, entry, head.tags_code(bytes)));
        }
    }

    /// The log reaches from `min` to `end`. Up to where it is confirmed, and what waits.
    fn over(self, min: LogOffset, end: LogOffset) -> (LogOffset, Vec<Pending>) {
        let confirmed = if self.believed >= end { end } else { self.confirmed.max(min) };
        (confirmed, self.pending)
    }
}

/// Closes the log if a thread panics.
struct Alarm<'a> {
    inner: &'a Inner,
    name: &'a str,
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.inner.flusher.fail(&format!("the thread {} panicked", self.name));
        }
    }
}
