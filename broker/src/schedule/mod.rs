//! Messages that wait for their time: who they are, when they go, and back out of it by recall.
//!
//! ```text
//!   send ─► log: rmq_sys_wheel_timer ─► worker follows its queue ─► store::schedule
//!                                         │ due: reads the record, appends it to its own topic and queue
//!                                         └ recalled: says so in the log, then in the schedule
//! ```
//!
//! One thread, the worker, follows, delivers and recalls, so that none of it happens at once with another. A second one
//! writes what the schedule has in memory, and merges.
//!
//! # Promises
//!
//! - **Nothing is lost, nothing comes twice.** Everything is in the log: that a message waits, that it was moved, recalled,
//!   delivered (`record`). The schedule notes up to where it knows the log; opening tells it the rest.
//! - **Never early.** And late by what an append takes: records are read shortly before they are due.
//! - **Retention takes nothing that waits.** Before old files of the log go, what waits in them is appended anew.
//!
//! What is not promised: an order among messages of the same time whose producers did not wait for each other.

mod foresight;
mod known;
mod record;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use access::{RecallHandle, vital};
use parking_lot::{Condvar, Mutex};
use store::disk::Disk;
pub(crate) use store::schedule::Limits;
use store::schedule::{Noted, Schedule, Work};
use store::{Clock, LogOffset, Recovered, Store};
use tokio::sync::oneshot;

pub(crate) use foresight::{Foreseen, Foresight};
use known::Known;
pub(crate) use record::{QUEUE, TOPIC, make_wait};
use worker::Worker;

use crate::log::Log;
use crate::metrics::Delayed;
use crate::topics::Registry;

/// Recalls that may wait for the worker; more are refused at once.
const MOST_RECALLS: usize = 10_000;
/// Before the disk is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What came of a recall.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotRecalled {
    /// There is none that waits: it was delivered, or there never was one.
    #[error("no message waits under this handle: it was delivered, or never sent")]
    Unknown,
    /// Others come first.
    #[error("too many messages are being recalled: try again later")]
    TooMany,
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] crate::log::Error),
    /// The disk refuses.
    #[error("the schedule cannot be read: {0}")]
    Unread(String),
    /// The broker stops.
    #[error("this broker is stopping: ask again when it is back")]
    Stopping,
}

/// Somebody who waits to hear of a recall.
struct Recall {
    handle: RecallHandle,
    answer: oneshot::Sender<Result<(), NotRecalled>>,
}

/// What is needed to deliver what is due.
pub(crate) struct Needs {
    pub(crate) log: Arc<Log>,
    pub(crate) topics: Arc<Registry>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) counts: Delayed,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    /// The schedule as it followed the log of the replica that this was.
    pub(crate) foreseen: Option<Foreseen>,
}

/// The messages that wait, for everybody else.
pub(crate) struct Timers {
    schedule: Schedule,
    /// How many wait, by topic.
    waiting: Mutex<HashMap<String, u64>>,
    /// There is something new to look at.
    rung: AtomicBool,
    signal: Mutex<Signal>,
    bell: Condvar,
    /// The writer has something to do.
    writer_called: Mutex<bool>,
    writer_bell: Condvar,
    /// What waits before this place of the log must move, or has.
    wanted_below: AtomicU64,
    moved_below: AtomicU64,
}

#[derive(Default)]
struct Signal {
    recalls: VecDeque<Recall>,
    stop: bool,
}

/// Opened, and not yet at work.
pub(crate) struct Opened {
    pub(crate) timers: Arc<Timers>,
    worker: Worker,
}

impl Opened {
    /// Opens the schedule of this log. Reads a few small files.
    pub(crate) fn open(mut needs: Needs, root: &Path, recovered: &Recovered) -> std::io::Result<Self> {
        let store = needs.log.store();
        let known = match needs.foreseen.take() {
            Some(Foreseen(known)) => known,
            None => open(store, Arc::clone(&needs.disk), root, recovered, needs.limits)?,
        };
        let timers = Arc::clone(known.timers());
        store.ask_before_removal(Arc::clone(&timers) as Arc<dyn store::Keeper>);
        let worker = Worker::new(needs, known);
        Ok(Self { timers, worker })
    }

    /// Begins to work, until the stop.
    pub(crate) fn start(self, tasks: &vital::Tasks) {
        let Self { timers, worker } = self;
        let store = worker.store().clone();
        let writing = Arc::clone(&timers);
        let write = move || writing.write(&store);
        let works: [(&str, Thread); 2] = [
            ("the delivery of delayed messages", Box::new(move || worker.run())),
            ("the writer of the schedule", Box::new(write)),
        ];
        for (name, work) in works {
            let (stops, stop) = (StopsWithTask(Arc::clone(&timers)), tasks.stop_token());
            tasks.spawn(name, async move {
                let mut working = tokio::task::spawn_blocking(work);
                tokio::select! {
                    outcome = &mut working => return outcome,
                    () = stop.cancelled() => drop(stops),
                }
                working.await
            });
        }
    }
}

/// The schedule of a log, as it was noted last.
fn open(
    store: &Store,
    disk: Arc<dyn Disk>,
    root: &Path,
    recovered: &Recovered,
    limits: Limits,
) -> std::io::Result<Known> {
    let state = store.state();
    let (schedule, noted) = Schedule::open(disk, root, state.min..state.appended, limits)?;
    // Another broker delivers, too, and does not say which.
    let noted = match noted {
        Some(_) if recovered.by_another => {
            schedule.clear()?;
            None
        }
        noted => noted,
    };
    let timers = Timers {
        schedule,
        waiting: Mutex::default(),
        rung: AtomicBool::new(false),
        signal: Mutex::default(),
        bell: Condvar::new(),
        writer_called: Mutex::default(),
        writer_bell: Condvar::new(),
        wanted_below: AtomicU64::new(0),
        moved_below: AtomicU64::new(0),
    };
    Ok(Known::new(store.clone(), Arc::new(timers), noted, done_by_java(root)))
}

/// What a thread does.
type Thread = Box<dyn FnOnce() + Send>;

/// A thread cannot be dropped as a task can: it is asked to end.
struct StopsWithTask(Arc<Timers>);

impl Drop for StopsWithTask {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Up to when a RocketMQ broker that used this directory delivered; it says so in its file `timercheck`.
fn done_by_java(root: &Path) -> i64 {
    let bytes = std::fs::read(root.join("config/timercheck")).unwrap_or_default();
    bytes.first_chunk().map_or(0, |ms| i64::from_be_bytes(*ms))
}

impl Timers {
    /// How many messages of the topic wait.
    pub(crate) fn waiting(&self, topic: &str) -> u64 {
        self.waiting.lock().get(topic).copied().unwrap_or(0)
    }

    /// How many messages wait, by topic.
    pub(crate) fn all_waiting(&self) -> Vec<(String, u64)> {
        self.waiting.lock().iter().map(|(topic, count)| (topic.clone(), *count)).collect()
    }

    /// Takes a message back. When this returns Ok it will not be delivered.
    pub(crate) async fn recall(&self, handle: RecallHandle) -> Result<(), NotRecalled> {
        let (answer, answered) = oneshot::channel();
        {
            let mut signal = self.signal.lock();
            if signal.stop {
                return Err(NotRecalled::Stopping);
            }
            if signal.recalls.len() >= MOST_RECALLS {
                return Err(NotRecalled::TooMany);
            }
            signal.recalls.push_back(Recall { handle, answer });
        }
        self.ring();
        answered.await.unwrap_or(Err(NotRecalled::Stopping))
    }

    /// There is something new: cheap, and may be called for every message.
    pub(crate) fn ring(&self) {
        if !self.rung.load(Ordering::Relaxed) && !self.rung.swap(true, Ordering::AcqRel) {
            let _signal = self.signal.lock();
            self.bell.notify_one();
        }
    }

    fn stop(&self) {
        self.signal.lock().stop = true;
        self.bell.notify_one();
        self.call_writer();
    }

    /// It was stopped, and another thread goes on.
    fn go_on(&self) {
        self.signal.lock().stop = false;
    }

    fn is_stopping(&self) -> bool {
        self.signal.lock().stop
    }

    /// Waits until then, or until there is something new.
    fn wait(&self, until: Instant) {
        let mut signal = self.signal.lock();
        while !self.rung.load(Ordering::Acquire) && !signal.stop {
            if self.bell.wait_until(&mut signal, until).timed_out() {
                break;
            }
        }
    }

    /// Waits until then, whatever is new.
    fn rest(&self, until: Instant) {
        let mut signal = self.signal.lock();
        while !signal.stop && !self.bell.wait_until(&mut signal, until).timed_out() {}
    }

    fn call_writer(&self) {
        *self.writer_called.lock() = true;
        self.writer_bell.notify_one();
    }

    /// Was the writer called? It is not any more.
    fn writer_is_called(&self) -> bool {
        std::mem::take(&mut *self.writer_called.lock())
    }

    /// The writer's thread.
    fn write(&self, store: &Store) {
        while !self.is_stopping() {
            let began = Instant::now();
            let pause = match self.write_some(store) {
                // As long as it took: no more than half of a processor, and of the disk.
                Work::Done => Some(began.elapsed()),
                Work::Nothing => None,
                Work::Stuck => Some(RETRY),
            };
            self.ring();
            let mut called = self.writer_called.lock();
            match pause {
                Some(pause) => drop(self.writer_bell.wait_for(&mut called, pause)),
                None => self.writer_bell.wait_while(&mut called, |called| !*called),
            }
            *called = false;
        }
    }

    fn write_some(&self, store: &Store) -> Work {
        self.schedule.work(&|| store.flush().map_err(std::io::Error::other))
    }

    fn count(&self, topic: &str, change: i64) {
        let mut waiting = self.waiting.lock();
        let count = match waiting.get_mut(topic) {
            Some(count) => count,
            None => waiting.entry(topic.to_owned()).or_default(),
        };
        *count = count.saturating_add_signed(change);
        if *count == 0 {
            waiting.remove(topic);
        }
    }
}

impl store::Keeper for Timers {
    fn may_go(&self, before: LogOffset) -> bool {
        if self.moved_below.load(Ordering::Acquire) >= before.0 {
            return true;
        }
        self.wanted_below.fetch_max(before.0, Ordering::AcqRel);
        self.ring();
        false
    }
}

/// What the worker notes with the schedule.
#[derive(serde::Serialize, serde::Deserialize, Default)]
struct Note {
    /// The next record in the queue of waiting messages.
    next: u64,
    /// How many wait, by topic.
    waiting: HashMap<String, u64>,
}

impl Note {
    fn of(noted: &Noted) -> Option<Self> {
        serde_json::from_slice(&noted.note).ok()
    }
}
