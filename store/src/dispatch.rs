//! The one stream from the log to its views.
//!
//! An append queues its entries here, in log order. They reach the views when the log is confirmed up to the end of
//! their record: at once with async flush, behind the flush with sync. Listeners are told after the views know.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::LogOffset;
use crate::answers::Arrivals;
use crate::views::{ConsumeQueue, RawEntry, Views};

/// An entry whose record is appended but not confirmed.
pub(crate) struct Pending {
    pub(crate) record_end: LogOffset,
    pub(crate) queue: Arc<ConsumeQueue>,
    pub(crate) entry: RawEntry,
    pub(crate) tags_code: i64,
}

pub(crate) struct Dispatch {
    views: Arc<Views>,
    pending: Mutex<VecDeque<Pending>>,
    /// Held while entries are applied, so that views and listeners see the log's order. The buffer is kept.
    applying: Mutex<Vec<Pending>>,
    confirmed: AtomicU64,
    listener: OnceLock<Arc<dyn Arrivals>>,
}

impl Dispatch {
    pub(crate) fn new(views: Arc<Views>, confirmed: LogOffset) -> Self {
        Self {
            views,
            pending: Mutex::default(),
            applying: Mutex::default(),
            confirmed: AtomicU64::new(confirmed.0),
            listener: OnceLock::new(),
        }
    }

    pub(crate) fn listen(&self, listener: Arc<dyn Arrivals>) {
        assert!(self.listener.set(listener).is_ok(), "arrivals have one listener, set once");
    }

    /// End of what readers see.
    pub(crate) fn confirmed(&self) -> LogOffset {
        LogOffset(self.confirmed.load(Ordering::Acquire))
    }

    /// Queues entries. Only for the holder of the log's lock: the order here is the log's.
    pub(crate) fn push(&self, entries: impl Iterator<Item = Pending>) {
        self.pending.lock().extend(entries);
    }

    /// The log is confirmed up to `to`: shows the views what lies before. When it returns, they know.
    pub(crate) fn advance(&self, to: LogOffset) {
        let mut batch = self.applying.lock();
        {
            let mut pending = self.pending.lock();
            let ready = pending.partition_point(|entry| entry.record_end <= to);
            batch.extend(pending.drain(..ready));
        }
        for Pending { queue, entry, tags_code, record_end: _ } in batch.drain(..) {
            let next = self.views.push(&queue, entry);
            if let Some(next) = next
                && let Some(listener) = self.listener.get()
            {
                listener.arrived(queue.topic(), queue.id(), next, tags_code);
            }
        }
        // Last: who reads that a record is confirmed finds it in the views.
        if to.0 > self.confirmed.load(Ordering::Relaxed) {
            self.confirmed.store(to.0, Ordering::Release);
        }
    }
}
