//! Resources that wait to be reconciled, each once at most.
//!
//! A watch that had to wait for its controller would not be read meanwhile: the API server would end it as too old, and
//! on a connection that they share it would hold up all other answers, those to the renewal of the lead too. So nobody waits here,
//! and what waits is bounded by the resources that there are.

use std::{
    collections::{HashSet, VecDeque},
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex},
};

use futures::{Stream, stream};
use tokio::sync::Notify;

/// The two ends of the queue; clones are the same.
#[derive(Debug)]
pub struct Pending<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    waiting: Mutex<Waiting<T>>,
    came: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    in_order: VecDeque<Arc<T>>,
    known: HashSet<Arc<T>>,
}

impl<T> Clone for Pending<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Eq + Hash> Default for Pending<T> {
    fn default() -> Self {
        let waiting = Waiting { in_order: VecDeque::new(), known: HashSet::new() };
        Self(Arc::new(Inner { waiting: Mutex::new(waiting), came: Notify::new() }))
    }
}

impl<T: Clone + Eq + Hash> Pending<T> {
    /// Puts it at the end, unless it waits already.
    pub fn add(&self, what: T) {
        let what = Arc::new(what);
        {
            let mut waiting = self.0.waiting.lock().expect("no panic while the lock is held");
            if !waiting.known.insert(Arc::clone(&what)) {
                return;
            }
            waiting.in_order.push_back(what);
        }
        self.0.came.notify_one();
    }

    /// What waits, oldest first, as it comes; for one reader. Never ends.
    pub fn stream(self) -> impl Stream<Item = T> {
        stream::unfold(self, |pending| async {
            loop {
                if let Some(next) = pending.take() {
                    return Some((next, pending));
                }
                pending.0.came.notified().await;
            }
        })
    }

    fn take(&self) -> Option<T> {
        let mut waiting = self.0.waiting.lock().expect("no panic while the lock is held");
        let next = waiting.in_order.pop_front()?;
        waiting.known.remove(&next);
        Some(Arc::unwrap_or_clone(next))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[tokio::test]
    async fn each_waits_once_and_in_its_order_and_can_wait_again_when_taken() {
        let pending = Pending::default();
        let mut taken = pin!(pending.clone().stream());
        assert!(taken.next().now_or_never().is_none(), "nothing waits");
        for what in ["a", "b", "a", "c", "b"] {
            pending.add(what);
        }
        assert_eq!(taken.next().await, Some("a"));
        pending.add("a");
        let rest: Vec<_> = taken.by_ref().take(3).collect().await;
        assert_eq!(rest, ["b", "c", "a"]);
        assert!(taken.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_waits_hears_of_what_comes() {
        let pending = Pending::default();
        let mut taken = pin!(pending.clone().stream());
        let adds = async { pending.add(7) };
        // The reader is polled first, and waits.
        let (next, ()) = futures::join!(taken.next(), adds);
        assert_eq!(next, Some(7));
    }
}
