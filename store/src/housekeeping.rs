//! What a store does behind everybody's back: writes entries to blocks, takes snapshots, removes what is old.
//!
//! One thread, in rounds. Nothing here is needed for correctness of what was acknowledged; it bounds memory, disk and
//! the time to open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::LogOffset;
use crate::answers::Keeper;
use crate::clock::Clock;
use crate::commit_log::CommitLog;
use crate::commit_log::retain::{Choice, refusal};
use crate::config::Config;
use crate::disk::Disk;
use crate::error::FlushFailed;
use crate::flush::Flusher;
use crate::milestone::Milestone;
use crate::planted::{Bug, is_planted};
use crate::quarantine::Quarantine;
use crate::reads::Reads;
use crate::views::Views;
use crate::views::keys::Keys;

/// Between rounds while there is something to do.
const BUSY_ROUND: Duration = Duration::from_secs(1);
/// Between rounds of an idle store: a disk that somebody else fills, or makes room on, is noticed within it.
const IDLE_ROUND: Duration = Duration::from_secs(3);
/// After so much log a snapshot is due: it bounds what opening must replay.
const SNAPSHOT_LOG_BYTES: u64 = 128 << 20;
/// After so long a snapshot is due if anything changed.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(30);

pub(crate) struct Housekeeping {
    pub(crate) config: Config,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: Arc<CommitLog>,
    pub(crate) views: Arc<Views>,
    pub(crate) keys: Option<Arc<Keys>>,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) state: Mutex<State>,
    pub(crate) bell: Condvar,
    /// So much was appended since the last round that another is due.
    pub(crate) call_at: Milestone,
    pub(crate) pace: Mutex<Pace>,
    /// Who is asked before segments go.
    pub(crate) keeper: Mutex<Option<Arc<dyn Keeper>>>,
    /// Held by whoever does any of it: the thread is not alone, callers of the store may do it too.
    pub(crate) at_work: Mutex<()>,
}

#[derive(Default)]
pub(crate) struct State {
    called: bool,
    stop: bool,
}

/// When snapshots were taken and what they cost.
pub(crate) struct Pace {
    snapshot_at: Instant,
    snapshot_took: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { snapshot_at: Instant::now(), snapshot_took: Duration::ZERO }
    }
}

impl Housekeeping {
    /// The log now ends at `end`.
    pub(crate) fn appended(&self, end: LogOffset) {
        if self.call_at.is_reached(end) {
            self.state.lock().called = true;
            self.bell.notify_one();
        }
    }

    /// Ends [`Housekeeping::run`] soon.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.bell.notify_one();
    }

    /// The thread.
    pub(crate) fn run(&self) {
        loop {
            self.call_at.set(self.log.appended().0 + SNAPSHOT_LOG_BYTES);
            {
                let mut state = self.state.lock();
                if !state.called && !state.stop {
                    let changed = self.flusher.confirmed() != self.views.last_snapshot().1;
                    let busy = changed || self.views.is_busy() || self.log.out_of_room().is_some();
                    self.bell.wait_for(&mut state, if busy { BUSY_ROUND } else { IDLE_ROUND });
                }
                if state.stop {
                    return;
                }
                state.called = false;
            }
            self.round();
        }
    }

    /// One round.
    pub(crate) fn round(&self) {
        let _alone = self.at_work.lock();
        self.remove_old();
        let space = self.disk.space(&self.config.root).unwrap_or_default();
        self.log.refuse(refusal(&self.config, space));
        if self.log.cannot_grow().is_some() {
            self.log.prepare();
        }
        self.flusher.note_confirmed();
        // Before a snapshot: what recovery found is found again until there is one.
        self.quarantine.store();
        if let Err(error) = self.views.write_out() {
            tracing::warn!(%error, "cannot write consume queue entries, they stay in memory");
        }
        if self.is_snapshot_due() {
            self.try_snapshot();
        }
    }

    /// Removes segments that are old, or for which the disk has no room.
    fn remove_old(&self) {
        let space = self.disk.space(&self.config.root).unwrap_or_default();
        let Some((Choice { count, young }, min)) =
            self.log.removable(&self.config, self.clock.now_ms(), space, self.flusher.confirmed())
        else {
            return;
        };
        if !self.lets_go(min) {
            if self.log.out_of_room().is_none() {
                return;
            }
            // What would have to be moved has nowhere to go, and only this makes room.
            tracing::error!(
                before = %min,
                "the disk is full and old segments go before what is still needed of them was moved: delayed messages that wait in them are lost"
            );
        }
        if young > 0 {
            tracing::warn!(
                segments = young,
                disk_used_percent = space.used_percent(),
                "messages go before their time, to make room for new ones"
            );
        }
        // How far a queue has counted is nowhere else once its messages are gone.
        let counted = self.views.last_snapshot().1 >= min || self.try_snapshot();
        // The views first: who asks them must not be sent to bytes that are gone.
        let views_know = self.views.advance_min(min);
        // Otherwise the next round tries again. But a full disk keeps us from writing, and removing is what helps.
        if !(counted && views_know) && self.log.cannot_grow().is_none() {
            return;
        }
        if let Err(error) = self.log.remove_oldest(count) {
            tracing::error!(%error, "cannot remove an old segment");
        }
        self.reads.forget_before(self.log.min());
        self.quarantine.keep_within(self.log.min()..LogOffset(u64::MAX));
        if let Some(keys) = &self.keys {
            keys.call();
        }
        if !counted {
            self.try_snapshot();
        }
    }

    /// From now on it is asked before segments go.
    pub(crate) fn ask(&self, keeper: Arc<dyn Keeper>) {
        *self.keeper.lock() = Some(keeper);
    }

    fn lets_go(&self, before: LogOffset) -> bool {
        let keeper = self.keeper.lock().clone();
        keeper.map_or(!self.config.await_keeper, |keeper| keeper.may_go(before))
    }

    fn try_snapshot(&self) -> bool {
        let taken = self.take_snapshot();
        if let Err(error) = &taken {
            tracing::warn!(%error, "no snapshot of the views, opening the store will take longer");
        }
        taken.is_ok()
    }

    fn is_snapshot_due(&self) -> bool {
        let (bytes, to) = self.views.last_snapshot();
        let grown = self.flusher.confirmed().0.saturating_sub(to.0);
        let pace = self.pace.lock();
        // Large snapshots come less often, so that they never cost more than a part of the disk's time.
        let interval = SNAPSHOT_INTERVAL.max(pace.snapshot_took * 100);
        grown >= SNAPSHOT_LOG_BYTES.max(bytes * 4) || (grown > 0 && pace.snapshot_at.elapsed() >= interval)
    }

    /// Writes all views down, complete up to what is flushed and confirmed now.
    pub(crate) fn snapshot(&self) -> Result<(), SnapshotFailed> {
        let _alone = self.at_work.lock();
        self.take_snapshot()
    }

    fn take_snapshot(&self) -> Result<(), SnapshotFailed> {
        let started = Instant::now();
        let to = if is_planted(Bug::ViewsAheadOfLog) {
            self.log.appended()
        } else {
            let flushed = self.flusher.flush()?;
            // Whatever is in blocks is before both.
            flushed.min(self.flusher.applied())
        };
        let stored_at_ms = self.log.stored_at_ms();
        self.views.write_snapshot(to, stored_at_ms, self.log.min())?;
        let took = started.elapsed();
        *self.pace.lock() = Pace { snapshot_at: Instant::now(), snapshot_took: took };
        tracing::debug!(complete_to = %to, bytes = self.views.last_snapshot().0, took_ms = took.as_millis() as u64, "views snapshot written");
        Ok(())
    }
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotFailed {
    #[error(transparent)]
    Flush(#[from] FlushFailed),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
