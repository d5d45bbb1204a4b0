//! Wakes a parked poll when a delivery falls due again: one alarm a subscription, one sleeper for all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::queue::Millis;
use super::subscription::Subscription;
use super::{Delivery, now_ms};

/// The alarms that are set. An alarm that was moved forward leaves its old entry, which then rings in vain.
#[derive(Default)]
pub(super) struct Alarms {
    set: Mutex<BinaryHeap<Reverse<Alarm>>>,
    earlier: Notify,
}

struct Alarm {
    at: Millis,
    subscription: Weak<Subscription>,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Alarm {}
impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Delivery {
    /// Makes sure that a poll is woken when the next delivery of the subscription falls due, if one waits.
    pub(super) fn arm(&self, subscription: &Arc<Subscription>) {
        if !subscription.is_polled() {
            return;
        }
        let Some(queues) = self.read_queues(&subscription.topic) else { return };
        let Some(at) = subscription.state.lock().next_due(queues) else { return };
        if subscription.alarm_at.fetch_min(at, Ordering::AcqRel) <= at {
            return;
        }
        let mut set = self.alarms.set.lock();
        let is_first = set.peek().is_none_or(|Reverse(first)| at < first.at);
        set.push(Reverse(Alarm { at, subscription: Arc::downgrade(subscription) }));
        drop(set);
        if is_first {
            self.alarms.earlier.notify_one();
        }
    }

    /// Rings alarms until the broker stops.
    pub(crate) async fn keep_ringing(self: Arc<Self>) {
        loop {
            let first = self.alarms.set.lock().peek().map(|Reverse(alarm)| alarm.at);
            let sleep = async {
                match first {
                    None => std::future::pending().await,
                    // The clock of alarms may be set; so that no jump is slept through, sleep in steps.
                    Some(at) => {
                        let rest = u64::try_from(at - now_ms()).unwrap_or(0).min(1000);
                        tokio::time::sleep(Duration::from_millis(rest)).await;
                    }
                }
            };
            tokio::select! {
                () = self.needs.stopping.cancelled() => return,
                () = self.alarms.earlier.notified() => {}
                () = sleep => self.ring(now_ms()),
            }
        }
    }

    fn ring(&self, now: Millis) {
        loop {
            let mut set = self.alarms.set.lock();
            if set.peek().is_none_or(|Reverse(first)| first.at > now) {
                return;
            }
            let alarm = set.pop().expect("it was there just now").0;
            drop(set);
            let Some(subscription) = alarm.subscription.upgrade() else { continue };
            if subscription
                .alarm_at
                .compare_exchange(alarm.at, Millis::MAX, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                // The poll that wakes sets the next one.
                subscription.wake_one();
            }
        }
    }
}
