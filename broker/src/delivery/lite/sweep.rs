//! Lite topics go: those that were idle for long, and all of a parent that is deleted.

use std::sync::Arc;
use std::time::Duration;

use access::{GroupName, LiteTopic, TopicName};

use super::Parent;
use crate::delivery::{Delivery, now_ms};
use crate::meta;

const LONGEST_ROUND: Duration = Duration::from_secs(600);
const SHORTEST_ROUND: Duration = Duration::from_millis(50);

impl Delivery {
    /// Removes lite topics that are idle and drained, until the broker stops.
    pub(crate) async fn keep_sweeping(self: Arc<Self>) {
        let round = (self.lite.limits.idle / 8).clamp(SHORTEST_ROUND, LONGEST_ROUND);
        while self.needs.stopping.run_until_cancelled(tokio::time::sleep(round)).await.is_some() {
            let delivery = Arc::clone(&self);
            let swept = tokio::task::spawn_blocking(move || delivery.sweep()).await;
            if let Err(error) = swept.expect("removing lite topics does not panic") {
                tracing::warn!(%error, "what groups did with removed lite topics is forgotten with the next start only");
            }
        }
    }

    /// Blocks on the disk.
    fn sweep(&self) -> Result<(), meta::Error> {
        let parents: Vec<_> = self
            .lite
            .parents
            .read()
            .iter()
            .map(|(name, parent)| (name.clone(), Arc::clone(parent)))
            .collect();
        for (name, parent) in parents {
            let idle = parent.known.lock().idle(now_ms(), self.lite.limits.idle);
            let (going, needed): (Vec<_>, Vec<_>) =
                idle.into_iter().partition(|lite| self.is_done(&name, &parent, lite));
            {
                let mut known = parent.known.lock();
                needed.iter().for_each(|lite| known.stays(lite));
            }
            if !going.is_empty() {
                tracing::info!(topic = %name, lite_topics = going.len(), "lite topics that were not used for long are removed");
                self.remove_lite(&name, &parent, &going)?;
            }
        }
        Ok(())
    }

    /// Whether nobody has anything to read there any more: nothing is left, or all groups are done with it, those that are
    /// about to begin too.
    fn is_done(&self, name: &TopicName, parent: &Parent, lite: &LiteTopic) -> bool {
        let topic = name.of_lite(lite);
        if self.bounds(&topic, 0).is_empty() {
            return true;
        }
        let has_begun = |group: &GroupName| self.progress(group, &topic, 0).is_some();
        let holders_have_begun =
            parent.hubs.read().iter().all(|(group, hub)| !hub.is_held(lite.as_str()) || has_begun(group));
        let consumed = self.by_topic.read().contains_key(&topic);
        consumed && holders_have_begun && self.undrained(&topic).is_none()
    }

    /// A group that is not done with a lite topic of this parent.
    pub(in crate::delivery) fn undrained_lite(&self, name: &TopicName) -> Option<(GroupName, u64)> {
        let parent = self.lite.parents.read().get(name).cloned()?;
        let all = parent.known.lock().all();
        all.iter().find_map(|lite| self.undrained(&name.of_lite(lite)))
    }

    /// Removes all lite topics of a parent that is no more. Blocks on the disk.
    pub(in crate::delivery) fn forget_parent(&self, name: &TopicName) -> Result<(), meta::Error> {
        let Some(parent) = self.lite.parents.write().remove(name) else { return Ok(()) };
        self.lite.forget_clients(|_, other| other == name);
        let hubs: Vec<_> = parent.hubs.write().drain().map(|(_, hub)| hub).collect();
        for hub in hubs {
            for (lite, holders) in hub.0.lock().close() {
                holders.iter().for_each(|client| (self.needs.unsubscribed)(client, &lite));
            }
        }
        let all = parent.known.lock().all();
        self.remove_lite(name, &parent, &all)
    }

    fn remove_lite(&self, name: &TopicName, parent: &Parent, going: &[LiteTopic]) -> Result<(), meta::Error> {
        let topics: Vec<TopicName> = going.iter().map(|lite| name.of_lite(lite)).collect();
        let hubs: Vec<_> = parent.hubs.read().values().cloned().collect();
        for lite in going {
            for hub in &hubs {
                let holders = hub.0.lock().forget(lite);
                self.lite.changed(&holders);
                holders.iter().for_each(|client| (self.needs.unsubscribed)(client, lite));
            }
        }
        self.needs.log.store().delete_topics(topics.iter().map(TopicName::as_str));
        let forgotten = self.forget_topics(&topics);
        let mut known = parent.known.lock();
        going.iter().for_each(|lite| known.gone(lite));
        forgotten
    }
}
