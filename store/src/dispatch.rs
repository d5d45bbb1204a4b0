//! The one stream from the log to its views.
//!
//! An append queues its entries here, in log order. They reach the views when the log is confirmed up to the end of
//! their record: at once with async flush, behind the flush with sync, and never before those who replicate the log
//! have a say in it and said so ([`Confirm::Told`](crate::Confirm)). Listeners are told after the views know.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::answers::Arrivals;
use crate::views::{ConsumeQueue, RawEntry, Views};
use crate::{LogOffset, QueueOffset};

/// An entry whose record is appended but not confirmed.
pub(crate) struct Pending {
    pub(crate) record_end: LogOffset,
    pub(crate) queue: Arc<ConsumeQueue>,
    pub(crate) entry: RawEntry,
    pub(crate) tags_code: i64,
    /// The queue's next offset behind it, where the record says it: one that recovery found, or of another member's log.
    /// `None`: it is the next one of its queue.
    pub(crate) next: Option<NonZeroU64>,
}

impl Pending {
    /// An entry that says its own queue offset. Whoever appends to the queue goes on behind it.
    pub(crate) fn placed(queue: Arc<ConsumeQueue>, at: QueueOffset, entry: RawEntry, tags_code: i64) -> Self {
        let next = NonZeroU64::MIN.saturating_add(at.0);
        queue.go_on_at(QueueOffset(next.get()));
        Self { record_end: entry.end(), queue, entry, tags_code, next: Some(next) }
    }
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

    /// The same, and every entry that the views were shown lies before.
    pub(crate) fn applied(&self) -> LogOffset {
        let _nobody_applies = self.applying.lock();
        self.confirmed()
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
        for Pending { queue, entry, tags_code, record_end: _, next } in batch.drain(..) {
            let next = match next {
                None => self.views.push(&queue, entry),
                Some(next) => self.views.place(&queue, QueueOffset(next.get() - 1), entry),
            };
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
