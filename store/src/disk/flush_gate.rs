//! The one way to a device for everything that must be durable.
//!
//! A device that fails a flush may drop whatever it held in its cache, for whomever it was written; the next flush, of
//! somebody else, then finds nothing left to do and succeeds. So flushes pass one at a time, and after one that failed
//! none succeeds any more.
//!
//! ```text
//!   log ─────────┐
//!   segments ────┼─► one at a time ─► device      one failed: every later one fails with that reason,
//!   views, meta ─┘                                and who listens hears it at once
//! ```

use std::io;

use parking_lot::Mutex;

use super::is_full;
use crate::planted::{Bug, is_planted};

/// Hears why nothing on the device is durable any more.
pub type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// See the [module](self). A device has one; so has each [`Disk`](super::Disk).
#[derive(Default)]
pub struct FlushGate {
    /// Held while somebody flushes.
    passing: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failure: Option<String>,
    listeners: Vec<Listener>,
}

impl std::fmt::Debug for FlushGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlushGate").field("failure", &self.failure()).finish_non_exhaustive()
    }
}

impl FlushGate {
    /// Runs a flush of whatever kind; `what` names it for the reason, as in "a flush of the log".
    ///
    /// # Errors
    /// Its own, or that of an earlier one: then it did not run. A full disk is no failure of the device, and passes.
    pub fn pass<T>(&self, what: &str, flush: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let passing = self.passing.lock();
        if let Some(failure) = self.failure() {
            return Err(io::Error::other(failure));
        }
        let flushed = flush();
        if let Err(error) = &flushed
            && !is_full(error)
            && !is_planted(Bug::GoOnAfterFailedFlush)
            && !is_planted(Bug::RetryFailedFlush)
        {
            let failure = format!("{what} failed: {error}");
            self.state.lock().failure = Some(failure.clone());
            drop(passing);
            self.tell(&failure);
        }
        flushed
    }

    /// Why nothing passes any more.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.state.lock().failure.clone()
    }

    /// Called when a flush has failed, by the thread whose flush it was; at once if that is so already.
    pub fn on_failure(&self, listener: Listener) {
        let failure = {
            let mut state = self.state.lock();
            state.listeners.push(listener);
            state.failure.clone()
        };
        if let Some(failure) = failure {
            self.tell(&failure);
        }
    }

    /// Each listener hears it once.
    fn tell(&self, failure: &str) {
        let listeners = std::mem::take(&mut self.state.lock().listeners);
        for listener in listeners {
            listener(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_flush_passes_at_a_time() {
        let (gate, inside) = (FlushGate::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let alone = gate.pass("a flush", || {
                            let before = inside.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            Ok(before == 0)
                        });
                        assert!(alone.unwrap());
                    }
                });
            }
        });
    }

    #[test]
    fn after_a_failed_flush_none_succeeds_and_listeners_hear_it_once() {
        let gate = FlushGate::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listen = || {
            let heard = Arc::clone(&heard);
            gate.on_failure(Box::new(move |reason| heard.lock().push(reason.to_owned())));
        };
        listen();
        let full = || io::Error::new(io::ErrorKind::StorageFull, "no space");
        gate.pass("a flush of a view", || Err::<(), _>(full())).unwrap_err();
        gate.pass("a flush of a view", || Ok(())).unwrap();
        gate.pass("a flush of a view", || Err::<(), _>(io::Error::other("bad"))).unwrap_err();
        let later = gate.pass("a flush of the log", || Ok(())).unwrap_err();
        assert_eq!(later.to_string(), "a flush of a view failed: bad");
        listen();
        assert_eq!(*heard.lock(), ["a flush of a view failed: bad", "a flush of a view failed: bad"]);
    }
}
