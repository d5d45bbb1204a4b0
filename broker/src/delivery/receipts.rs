//! What clients do with a receipt handle: acknowledge, keep away longer, give up.

use std::sync::Arc;
use std::time::Duration;

use access::{GroupName, TopicName};

use super::consumption::{Invalid, Strictness};
use super::handle::{Handle, Scope};
use super::subscription::Subscription;
use super::{Delivery, now_ms};

impl Delivery {
    /// The message was consumed. Acknowledging again is no mistake.
    pub(crate) fn ack(
        &self,
        group: &GroupName,
        topic: &TopicName,
        receipt_handle: &str,
        strictness: Strictness,
    ) -> Result<(), Invalid> {
        let (subscription, handle) = self.resolve(group, topic, receipt_handle)?;
        let opens = {
            let mut state = subscription.state.lock();
            state.ack(now_ms(), &handle, strictness, &*self.needs.online)?;
            // What waits behind it in its lane may go now, or there is room again.
            state.queue(handle.queue).is_some_and(|queue| {
                queue.is_ordered() || queue.len() + 1 >= self.needs.max_in_flight_per_queue
            })
        };
        self.changed(&subscription);
        if opens {
            subscription.wake_one();
        }
        Ok(())
    }

    /// The message stays away for `away` from now on. Answers the new receipt handle.
    pub(crate) fn change_invisible(
        &self,
        group: &GroupName,
        topic: &TopicName,
        receipt_handle: &str,
        away: Duration,
        suspend: bool,
        strictness: Strictness,
    ) -> Result<String, Invalid> {
        let (subscription, handle) = self.resolve(group, topic, receipt_handle)?;
        let away = i64::try_from(away.as_millis()).unwrap_or(i64::MAX / 2);
        let changed = subscription.state.lock().change(
            now_ms(),
            &handle,
            away,
            suspend,
            strictness,
            &*self.needs.online,
        )?;
        self.changed(&subscription);
        if away == 0 {
            subscription.wake_one();
        }
        self.arm(&subscription);
        Ok(changed.to_text(subscription.scope))
    }

    /// What a handle names.
    pub(super) fn resolve(
        &self,
        group: &GroupName,
        topic: &TopicName,
        receipt_handle: &str,
    ) -> Result<(Arc<Subscription>, Handle), Invalid> {
        let known = self.find(group, topic);
        let scope = known.as_ref().map_or_else(
            || Scope::new(&self.needs.broker_name, group.as_str(), topic.as_str()),
            |subscription| subscription.scope,
        );
        let handle = Handle::parse(receipt_handle, scope).ok_or(Invalid::Unknown)?;
        let read_queues = self.read_queues(topic).ok_or(Invalid::Unknown)?;
        let subscription = match known {
            Some(subscription) => subscription,
            // From before a crash that came before anything was written about the group.
            None => self.subscription(group, topic),
        };
        if handle.queue < read_queues {
            let bounds = self.bounds(topic, handle.queue);
            subscription.state.lock().ensure(handle.queue, &bounds, self.is_ordered(group));
        }
        Ok((subscription, handle))
    }
}
