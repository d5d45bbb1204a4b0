//! The schedule of a replica: it knows what waits as the log comes, and delivers nothing. A new primary takes it as it is,
//! and need not read what waits from the log first.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use store::schedule::Work;
use store::{Clock, Store};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::known::Known;
use super::{Limits, RETRY, Timers};
use crate::local::Local;

/// Looks into the log so often: a new primary reads what came since.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A schedule that follows the log of a replica.
pub(crate) struct Foresight {
    timers: Arc<Timers>,
    following: JoinHandle<Known>,
}

/// A schedule that followed it.
pub(crate) struct Foreseen(pub(super) Known);

impl Foresight {
    /// Opens it and begins. Reads a few small files.
    pub(crate) fn start(local: &Local, root: &Path, tasks: &TaskTracker) -> io::Result<Self> {
        let Local { disk, clock, store, recovered, .. } = local;
        let known = super::open(store, Arc::clone(disk), root, recovered, Limits::default())?;
        let (timers, store, clock) = (Arc::clone(known.timers()), store.clone(), Arc::clone(clock));
        Ok(Self { timers, following: tasks.spawn_blocking(move || follow(known, &store, &*clock)) })
    }

    /// Ends it, and returns what it knows; `None`: it died.
    pub(crate) async fn end(mut self) -> Option<Foreseen> {
        self.timers.stop();
        match (&mut self.following).await {
            Ok(known) => {
                self.timers.go_on();
                Some(Foreseen(known))
            }
            Err(error) => {
                tracing::error!(%error, "following the schedule of delayed messages died");
                None
            }
        }
    }
}

impl Drop for Foresight {
    fn drop(&mut self) {
        // What has ended may be at work elsewhere.
        if !self.following.is_finished() {
            self.timers.stop();
        }
    }
}

impl Foreseen {
    /// Writes what it knows for the next opening. Blocks.
    pub(crate) fn leave(self) {
        self.0.leave();
    }
}

fn follow(mut known: Known, store: &Store, clock: &dyn Clock) -> Known {
    let timers = Arc::clone(known.timers());
    while let Some(next) = look(&mut known, store, clock.now_ms()) {
        timers.rest(Instant::now() + next);
        if timers.is_stopping() {
            break;
        }
    }
    known
}

/// Learns what the log says, lets go what is over, and writes. When to look again; `None`: stopped.
pub(super) fn look(known: &mut Known, store: &Store, now_ms: i64) -> Option<Duration> {
    if !known.follow() {
        return None;
    }
    known.pass_over(now_ms);
    if known.wants_note() {
        known.note();
    }
    let timers = known.timers();
    while timers.schedule.wants_note() || timers.writer_is_called() {
        match timers.write_some(store) {
            Work::Done => {}
            Work::Nothing => break,
            Work::Stuck => return Some(RETRY),
        }
    }
    Some(LOOK_EVERY)
}
