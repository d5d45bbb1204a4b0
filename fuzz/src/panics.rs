//! Panics of threads that nobody waits for.

use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Hears of every panic of the process but those of other tests, whose threads have the paths of their functions as names.
#[derive(Clone, Debug)]
pub struct Panics {
    heard: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
}

impl Panics {
    /// Begins to listen.
    #[must_use]
    pub fn listen() -> Self {
        let (heard, over) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let this = Self { heard, over };
        let (told, before) = (this.clone(), panic::take_hook());
        panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            if !told.over.load(Ordering::Relaxed) && !thread.contains("::") && thread != "main" {
                told.lock().push(format!("thread {thread:?}: {panic}"));
            }
            before(panic);
        }));
        this
    }

    /// What was heard since this was asked last.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        // The hook keeps one more.
        if Arc::strong_count(&self.over) <= 2 {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}
