//! Wakes a thread that sleeps while there is nothing to do, and costs whoever works no more than a look.
//!
//! ```text
//!   who works: makes a change ─ fence ─ asleep? ── yes ─► ring            one of the two sees what the other did:
//!   who sleeps: asleep := true ─ fence ─ anything to do? ── no ─► wait     no change is slept through
//! ```

use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// A state under a lock, and the thread that sleeps beside it.
#[derive(Default)]
pub(crate) struct Bell<S> {
    state: Mutex<S>,
    condvar: Condvar,
    /// Somebody sleeps, or is about to.
    asleep: AtomicBool,
}

impl<S> Bell<S> {
    pub(crate) fn state(&self) -> MutexGuard<'_, S> {
        self.state.lock()
    }

    /// After a change elsewhere that the sleeper looks at: is it to be woken?
    pub(crate) fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed)
    }

    /// Wakes the thread if it sleeps or waits for a time.
    pub(crate) fn ring(&self) {
        // The lock makes sure that the thread is not between its last look and its wait.
        drop(self.state.lock());
        self.condvar.notify_all();
    }

    /// Changes the state, and wakes the thread.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut S)) {
        change(&mut self.state.lock());
        self.condvar.notify_all();
    }

    /// Sleeps for as long as there is nothing to do.
    pub(crate) fn sleep_while(&self, state: &mut MutexGuard<'_, S>, nothing_to_do: impl Fn(&S) -> bool) {
        loop {
            self.asleep.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if !nothing_to_do(state) {
                break;
            }
            self.condvar.wait(state);
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Waits until then, unless somebody rings before; false: it is then.
    pub(crate) fn wait_until(&self, state: &mut MutexGuard<'_, S>, until: std::time::Instant) -> bool {
        !self.condvar.wait_until(state, until).timed_out()
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64;
    use loom::thread;

    use super::*;

    #[test]
    fn no_change_is_slept_through_in_any_order() {
        loom::model(|| {
            let shared = Arc::new((Bell::<()>::default(), AtomicU64::new(0)));
            let worker = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (bell, done) = &*shared;
                    for change in 1..=2 {
                        done.store(change, Ordering::Release);
                        if bell.must_ring() {
                            bell.ring();
                        }
                    }
                })
            };
            let (bell, done) = &*shared;
            let mut seen = 0;
            while seen < 2 {
                bell.sleep_while(&mut bell.state(), |()| done.load(Ordering::Acquire) == seen);
                seen = done.load(Ordering::Acquire);
            }
            worker.join().expect("the worker ends");
        });
    }
}
