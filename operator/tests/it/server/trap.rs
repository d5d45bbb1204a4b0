//! Something happens at one of the operator's writes: it dies, or what was before it is kept for it to see once more.

use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use tokio::sync::Notify;

use super::Objects;

/// Waits for a write, or for a change. Both are counted from one.
#[derive(Clone, Default)]
pub(crate) struct Trap {
    state: Arc<Mutex<State>>,
    sprung: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// Writes that were begun.
    writes: usize,
    /// Changes of objects, by whomever.
    changes: usize,
    set: Option<At>,
    snapshot: Option<Objects>,
    missed: Option<Missed>,
}

/// What happens, and at which write or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Who writes dies, and nothing is written.
    KilledBefore(usize),
    /// Who writes dies when it is written, without an answer.
    KilledAfter(usize),
    /// What was before this write is remembered.
    Stale(usize),
    /// What was before this change is remembered.
    Missed(usize),
}

/// A change that somebody does not hear of.
#[derive(Clone, Debug)]
pub(crate) struct Missed {
    /// Of which object.
    pub(crate) path: String,
    /// What it was.
    pub(crate) before: Option<Value>,
    /// Its version by that change: once it is another, there was a later change that was heard of.
    pub(crate) version: Value,
}

impl Trap {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }

    /// Counts from here on, and waits for this.
    pub(crate) fn set(&self, at: Option<At>) {
        *self.state() = State { set: at, ..State::default() };
    }

    /// Waits until whoever writes is dead.
    pub(crate) async fn kills(&self) {
        self.sprung.notified().await;
    }

    /// All objects as they were before the write, once.
    pub(crate) fn snapshot(&self) -> Option<Objects> {
        self.state().snapshot.take()
    }

    /// The change that is not heard of, once.
    pub(crate) fn missed(&self) -> Option<Missed> {
        self.state().missed.take()
    }

    /// How many writes there were, and how many changes.
    pub(crate) fn counted(&self) -> (usize, usize) {
        let state = self.state();
        (state.writes, state.changes)
    }

    pub(super) fn kills_before(&self) -> bool {
        let mut state = self.state();
        state.writes += 1;
        let kills = state.set == Some(At::KilledBefore(state.writes));
        if kills {
            self.sprung.notify_one();
        }
        kills
    }

    pub(super) fn remember(&self, objects: &Objects) {
        let mut state = self.state();
        if state.set == Some(At::Stale(state.writes)) {
            state.snapshot = Some(objects.clone());
        }
    }

    pub(super) fn kills_after(&self) -> bool {
        let state = self.state();
        let kills = state.set == Some(At::KilledAfter(state.writes));
        if kills {
            self.sprung.notify_one();
        }
        kills
    }

    pub(super) fn changed(&self, path: &str, before: Option<Value>, after: Option<&Value>) {
        let mut state = self.state();
        state.changes += 1;
        if state.set == Some(At::Missed(state.changes)) {
            let version = after.map_or(Value::Null, |after| after["metadata"]["resourceVersion"].clone());
            state.missed = Some(Missed { path: path.to_owned(), before, version });
        }
    }
}
