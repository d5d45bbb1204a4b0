//! One group on one topic as the rest of the broker holds it: the pure state behind a lock, and who waits.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use std::sync::Arc;

use access::{GroupName, LiteTopic, TopicName};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::consumption::Consumption;
use super::handle::Scope;
use super::lite::Hub;
use super::queue::Millis;

/// Of a subscription on a lite topic: those whose polls come from its parent.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) hub: Arc<Hub>,
    pub(super) lite: LiteTopic,
}

/// One group on one topic.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) group: GroupName,
    pub(super) topic: TopicName,
    pub(super) scope: Scope,
    /// Held for the time of one decision, never across an await.
    pub(super) state: Mutex<Consumption>,
    /// Wakes one poll. A permit stays if none is parked, so nothing that arrives between a look and a wait is missed.
    pub(super) wake: Notify,
    polls: AtomicU32,
    dirty: AtomicBool,
    place: Option<Place>,
    /// When the alarm for this subscription rings; `Millis::MAX`: it is not set.
    pub(super) alarm_at: AtomicI64,
}

impl Subscription {
    pub(super) fn new(
        broker: &str,
        group: GroupName,
        topic: TopicName,
        place: Option<Place>,
        now: Millis,
    ) -> Self {
        Self {
            scope: Scope::new(broker, group.as_str(), topic.as_str()),
            group,
            topic,
            state: Mutex::new(Consumption::new(now)),
            wake: Notify::new(),
            polls: AtomicU32::new(0),
            dirty: AtomicBool::new(false),
            place,
            alarm_at: AtomicI64::new(Millis::MAX),
        }
    }

    /// Counts a poll for as long as the answer lives.
    pub(super) fn enter(&self) -> Polling<'_> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        Polling(self)
    }

    /// Wakes one poll, if there is any.
    pub(super) fn wake_one(&self) {
        if let Some(Place { hub, lite }) = &self.place {
            hub.ready(lite.as_str());
        } else if self.is_polled() {
            self.wake.notify_one();
        }
    }

    /// Whether anybody polls now but the caller, who does.
    pub(super) fn is_polled_by_others(&self) -> bool {
        self.place.is_some() || self.polls.load(Ordering::SeqCst) > 1
    }

    /// Whether anybody polls now, or of a lite topic, holds it.
    pub(super) fn is_polled(&self) -> bool {
        match &self.place {
            Some(Place { hub, lite }) => hub.is_held(lite.as_str()),
            None => self.polls.load(Ordering::SeqCst) > 0,
        }
    }

    /// True for the first of several changes between two writes.
    pub(super) fn set_dirty(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    pub(super) fn clear_dirty(&self) {
        self.dirty.store(false, Ordering::Release);
    }
}

/// A poll under way.
pub(super) struct Polling<'a>(&'a Subscription);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.polls.fetch_sub(1, Ordering::SeqCst);
    }
}
