//! Whoever holds a lock does the work of those who wait for it.
//!
//! ```text
//!   who finds it taken: join ─ fence ─ free now? ── yes ─► serve all who joined      one of the two sees what the other
//!   who has held it:    let go ─ fence ─ anybody? ── yes ─► hold it again, serve      did: nobody waits unserved
//! ```

use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex};

/// A holder serves the crowd so many times, then one of the crowd leads: nobody works for the others for ever.
const ROUNDS: usize = if cfg!(loom) { 1 } else { 16 };
/// Looks at the answer before sleeping: a writer needs a microsecond or two.
const LOOKS: usize = if cfg!(loom) { 0 } else { 64 };

/// Those who found the lock taken: what each wants, and where it waits for its answer.
pub(crate) struct Crowd<W, A> {
    requests: Mutex<Vec<(W, Duty<A>)>>,
    /// How many; read without the lock.
    count: AtomicUsize,
}

impl<W, A> Default for Crowd<W, A> {
    fn default() -> Self {
        Self { requests: Mutex::default(), count: AtomicUsize::new(0) }
    }
}

impl<W, A> Crowd<W, A> {
    /// Has this done by whoever holds the lock, and waits for the answer. `try_hold` takes the lock if it is free; `serve`
    /// does what [`Crowd::leave`] gives, lets the lock go and then answers. `None`: whoever had it to do panicked.
    pub(crate) fn ask<T>(&self, wanted: W, try_hold: impl Fn() -> Option<T>, serve: impl Fn(T)) -> Option<A> {
        let slot = self.join(wanted);
        // The holder may have left before it could see this request.
        self.relieve(&try_hold, &serve);
        while let Told::Lead = slot.wait() {
            self.relieve(&try_hold, &serve);
        }
        slot.take()
    }

    fn join(&self, wanted: W) -> Arc<Slot<A>> {
        let slot = Arc::new(Slot::default());
        let mut requests = self.requests.lock();
        requests.push((wanted, Duty(Some(Arc::clone(&slot)))));
        self.count.store(requests.len(), Ordering::Relaxed);
        drop(requests);
        slot
    }

    /// Takes all who wait out of the crowd. Whoever gets a duty must do it.
    pub(crate) fn leave(&self) -> Vec<(W, Duty<A>)> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let mut requests = self.requests.lock();
        self.count.store(0, Ordering::Relaxed);
        std::mem::take(&mut *requests)
    }

    /// After letting go of the lock: serves those who came meanwhile, unless somebody holds it again. Then that one will.
    pub(crate) fn relieve<T>(&self, try_hold: impl Fn() -> Option<T>, serve: impl Fn(T)) {
        for _ in 0..ROUNDS {
            // Between joining or letting go, which was before, and the look at what the other did.
            fence(Ordering::SeqCst);
            if self.count.load(Ordering::Relaxed) == 0 {
                return;
            }
            let Some(held) = try_hold() else { return };
            serve(held);
        }
        self.let_one_lead();
    }

    /// How many wait.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn waiting(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn let_one_lead(&self) {
        if let Some((_, Duty(Some(slot)))) = self.requests.lock().first() {
            slot.tell(|state| state.lead = true);
        }
    }
}

/// Where one waits for its answer.
struct Slot<A> {
    state: Mutex<SlotState<A>>,
    bell: Condvar,
    told: AtomicBool,
}

struct SlotState<A> {
    /// `Some(None)`: there will be none.
    answer: Option<Option<A>>,
    lead: bool,
}

impl<A> Default for Slot<A> {
    fn default() -> Self {
        Self {
            state: Mutex::new(SlotState { answer: None, lead: false }),
            bell: Condvar::new(),
            told: AtomicBool::new(false),
        }
    }
}

enum Told {
    Answer,
    /// Serve the crowd, then wait again.
    Lead,
}

impl<A> Slot<A> {
    fn tell(&self, change: impl FnOnce(&mut SlotState<A>)) {
        change(&mut self.state.lock());
        self.told.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    fn wait(&self) -> Told {
        for _ in 0..LOOKS {
            if self.told.load(Ordering::Acquire) {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = self.state.lock();
        loop {
            if state.answer.is_some() {
                return Told::Answer;
            }
            if std::mem::take(&mut state.lead) {
                self.told.store(false, Ordering::Relaxed);
                return Told::Lead;
            }
            self.bell.wait(&mut state);
        }
    }

    fn take(&self) -> Option<A> {
        self.state.lock().answer.take().expect("who was told has an answer, and takes it once")
    }
}

/// The duty to answer. Who dies in a panic answers too.
pub(crate) struct Duty<A>(Option<Arc<Slot<A>>>);

impl<A> Duty<A> {
    pub(crate) fn answer(mut self, answer: A) {
        if let Some(slot) = self.0.take() {
            slot.tell(|state| state.answer = Some(Some(answer)));
        }
    }
}

impl<A> Drop for Duty<A> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.tell(|state| state.answer = Some(None));
        }
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A count that threads raise, by the rules of the crowd. Each hears what it was.
    ///
    /// The lock is bare, since loom's own orders more than a lock must.
    #[derive(Default)]
    struct Count {
        held: AtomicBool,
        value: AtomicUsize,
        crowd: Crowd<(), usize>,
    }

    struct Hold<'a>(&'a Count);

    impl Drop for Hold<'_> {
        fn drop(&mut self) {
            self.0.held.store(false, Ordering::Release);
        }
    }

    impl Count {
        fn try_hold(&self) -> Option<Hold<'_>> {
            let was = self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
            was.ok().map(|_| Hold(self))
        }

        fn raise(&self) -> usize {
            let Some(hold) = self.try_hold() else {
                return self
                    .crowd
                    .ask((), || self.try_hold(), |hold| self.serve(hold))
                    .expect("nobody panics");
            };
            let was = self.value.fetch_add(1, Ordering::Relaxed);
            self.serve(hold);
            self.crowd.relieve(|| self.try_hold(), |hold| self.serve(hold));
            was
        }

        fn serve(&self, hold: Hold<'_>) {
            let crowd = self.crowd.leave().into_iter();
            let served: Vec<_> =
                crowd.map(|((), duty)| (duty, self.value.fetch_add(1, Ordering::Relaxed))).collect();
            drop(hold);
            served.into_iter().for_each(|(duty, was)| duty.answer(was));
        }
    }

    #[test]
    fn everybody_is_served_once_in_any_order() {
        let mut model = loom::model::Builder::new();
        // Beyond so many switches where no thread waits, orders only repeat themselves.
        model.preemption_bound = Some(3);
        model.check(|| {
            let count = Arc::new(Count::default());
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let count = Arc::clone(&count);
                    thread::spawn(move || count.raise())
                })
                .collect();
            let mut heard = vec![count.raise()];
            heard.extend(others.into_iter().map(|other| other.join().expect("it ends")));
            heard.sort_unstable();
            assert_eq!(heard, [0, 1, 2]);
        });
    }
}
