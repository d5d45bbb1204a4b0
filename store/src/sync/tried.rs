//! loom's locks, with the methods that parking_lot's have.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

use loom::sync;

const POISON: &str = "a model ends at its first panic";

#[derive(Debug)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

pub(crate) struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect(POISON)))
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is away only while a bell is waited for")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is away only while a bell is waited for")
    }
}

#[derive(Debug)]
pub(crate) struct Condvar(sync::Condvar);

pub(crate) struct TimedOut;

impl TimedOut {
    pub(crate) fn timed_out(&self) -> bool {
        true
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let lock = guard.0.take().expect("it is waited for by one");
        guard.0 = Some(self.0.wait(lock).expect(POISON));
    }

    /// Time does not pass in a model: it is over at once.
    pub(crate) fn wait_until<T>(&self, _guard: &mut MutexGuard<'_, T>, _until: Instant) -> TimedOut {
        loom::thread::yield_now();
        TimedOut
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}
