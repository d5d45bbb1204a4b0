//! Who gets which message when.
//!
//! ```text
//!   front ─► poll ──► subscription (one group on one topic) ──► consumption, queue: pure
//!              ▲  │                                                    │
//!     arrivals │  │ parked: woken by arrival, alarm, stop              ▼
//!     alarms ──┘  └► dead_letters                        notes, kept ─► meta.redb, in batches
//! ```
//!
//! A poll of a LITE topic goes by `lite`, which knows which subscriptions on lite topics to look at.
//!
//! The decisions are in `consumption`, `pop` and `queue`, which know no clock, no lock and no disk. What changed is written in
//! batches, and noted at once (`notes`), so that a kill forgets nothing of a broker with little to do. Otherwise, and in a power cut,
//! at most the last batch of changes is forgotten: those messages are delivered again, and handles from before still count.

mod alarms;
mod consumption;
mod dead_letters;
mod handle;
mod kept;
pub(crate) mod lite;
#[cfg(test)]
mod model_tests;
mod notes;
mod offsets;
mod poll;
mod pop;
mod queue;
mod receipts;
mod source;
mod subscription;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use access::{GroupName, LiteTopic, TopicName};
use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::gauge::Gauge;
use store::{QueueId, QueueOffset};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use consumption::{Invalid, Strictness};
pub(crate) use dead_letters::{Error as DeadLetterError, NotBuried};
pub(crate) use kept::{Again, Standing as KeptStanding, put_standings, standings};
pub(crate) use notes::Notes;
pub(crate) use offsets::{Progress, PullFailed, Pulls};
pub(crate) use poll::{Ask, Batch, NotReceived, Received};

use crate::log::Log;
use crate::meta::{self, Meta};
use crate::metrics::Skipped;
use crate::topics::{MessageType, Registry};
use queue::{Millis, Queue};
use subscription::{Place, Subscription};

/// Of a queue with more in flight nothing is noted at once: its row is too large.
const MOST_NOTED: usize = 128;

/// Whether a client is there; asked when a delivery falls due that its client keeps by being online.
pub(crate) type Online = Arc<dyn Fn(&str) -> bool + Send + Sync>;
/// Told of a client, and of a lite topic that it held and that is no more.
pub(crate) type Unsubscribed = Arc<dyn Fn(&str, &LiteTopic) + Send + Sync>;

/// What delivery needs of the rest.
pub(crate) struct Needs {
    pub(crate) broker_name: String,
    pub(crate) log: Arc<Log>,
    pub(crate) topics: Arc<Registry>,
    pub(crate) meta: Arc<Meta>,
    pub(crate) notes: Notes,
    pub(crate) online: Online,
    pub(crate) unsubscribed: Unsubscribed,
    pub(crate) lite: lite::Limits,
    pub(crate) max_in_flight_per_queue: usize,
    pub(crate) max_parked_polls: usize,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

type ByGroup = HashMap<GroupName, HashMap<TopicName, Arc<Subscription>>, foldhash::fast::RandomState>;
type ByTopic = HashMap<TopicName, Arc<Listeners>, foldhash::fast::RandomState>;

/// Who wants to hear of arrivals on a topic.
#[derive(Default)]
struct Listeners {
    subscriptions: RwLock<Vec<Arc<Subscription>>>,
    pulls: Notify,
    pulling: AtomicUsize,
}

/// Delivery of all topics to all groups.
pub(crate) struct Delivery {
    needs: Needs,
    by_group: RwLock<ByGroup>,
    by_topic: RwLock<ByTopic>,
    lite: lite::Lite,
    /// Subscriptions that changed since they were last written.
    dirty: Mutex<Vec<Arc<Subscription>>>,
    alarms: alarms::Alarms,
    /// Polls that wait now.
    parked: Gauge,
    /// Messages that retention deleted before a group was done with them.
    skipped: Skipped,
}

impl Delivery {
    /// Reads what was kept. Blocks on the disk.
    pub(crate) fn open(needs: Needs) -> Result<Self, meta::Error> {
        let bounds = |group: &str, topic: &str, id: u32| {
            let Range { start, end } = needs.log.store().queue_bounds(topic, QueueId(id));
            (start.0..end.0, needs.topics.group(group).is_some_and(|group| group.ordered))
        };
        let rows = kept::read_all(&needs.meta, bounds)?;
        let lite = lite::Lite::new(needs.lite);
        let mut orphans = Vec::new();
        for name in needs.log.store().topics_beginning_with(TopicName::LITE_PREFIX) {
            let Some((parent, lite_name)) = TopicName::lite_parts(&name) else { continue };
            match (needs.topics.topic(parent), LiteTopic::parse(lite_name)) {
                (Some(parent), Ok(lite_name)) => lite.restore(&parent.config.name, lite_name, now_ms()),
                // A crash came between the deletion of their parent and theirs.
                (None, _) => orphans.push(name),
                (Some(_), Err(_)) => {}
            }
        }
        needs.log.store().delete_topics(orphans.iter().map(|name| &**name));
        let delivery = Self {
            lite,
            needs,
            by_group: RwLock::default(),
            by_topic: RwLock::default(),
            dirty: Mutex::default(),
            alarms: alarms::Alarms::default(),
            parked: Gauge::default(),
            skipped: Skipped::default(),
        };
        let mut stale = false;
        for (group, topic, id, queue) in rows {
            match (delivery.needs.topics.group(&group), delivery.existing(&topic)) {
                (Some(group), Some(topic)) => {
                    let subscription = delivery.subscription(&group.name, &topic);
                    subscription.state.lock().restore(now_ms(), id, queue);
                }
                // A crash came between the deletion of a group or topic and that of its state.
                (None, _) | (_, None) => stale = true,
            }
        }
        if stale {
            kept::remove(&delivery.needs.meta, |group, topic| {
                delivery.needs.topics.group(group).is_none() || delivery.existing(topic).is_none()
            })?;
        }
        for (held, bytes) in lite::kept::read_all(&delivery.needs.meta)? {
            let parent = delivery.needs.topics.topic(held.parent.as_str());
            let is_there = parent.is_some_and(|parent| parent.config.message_type == MessageType::Lite);
            delivery.lite.restore_held(held, bytes, is_there);
        }
        Ok(delivery)
    }

    /// Polls that wait now.
    pub(crate) fn parked_polls(&self) -> Gauge {
        self.parked.clone()
    }

    /// Messages that retention deleted before a group was done with them.
    pub(crate) fn skipped(&self) -> Skipped {
        self.skipped.clone()
    }

    /// The client is gone: what it kept by being online falls due soon.
    pub(crate) fn client_gone(&self, group: &str, client: &str) {
        let subscriptions: Vec<_> = {
            let by_group = self.by_group.read();
            by_group.get(group).into_iter().flat_map(|topics| topics.values().cloned()).collect()
        };
        for subscription in subscriptions {
            let found = subscription.state.lock().client_gone(now_ms(), client);
            if found {
                self.changed(&subscription);
                self.arm(&subscription);
            }
        }
    }

    /// Forgets a group. Blocks on the disk.
    pub(crate) fn forget_group(&self, group: &GroupName) -> Result<(), meta::Error> {
        let gone = self.by_group.write().remove(group).unwrap_or_default();
        for subscription in gone.values() {
            if let Some(listeners) = self.by_topic.read().get(&subscription.topic) {
                listeners.subscriptions.write().retain(|other| !Arc::ptr_eq(other, subscription));
            }
        }
        self.skipped.forget(group);
        self.lite.group_gone(group);
        self.forget(gone.into_values())
    }

    /// Forgets what groups did with a topic. Blocks on the disk.
    pub(crate) fn forget_topic(&self, topic: &TopicName) -> Result<(), meta::Error> {
        let lite = self.forget_parent(topic);
        self.forget_topics(std::slice::from_ref(topic)).and(lite)
    }

    fn forget_topics(&self, topics: &[TopicName]) -> Result<(), meta::Error> {
        let mut gone = Vec::new();
        for topic in topics {
            let mut by_group = self.by_group.write();
            let Some(listeners) = self.by_topic.write().remove(topic) else { continue };
            let subscriptions = listeners.subscriptions.read().clone();
            for subscription in &subscriptions {
                by_group.get_mut(&subscription.group).and_then(|topics| topics.remove(topic));
            }
            gone.extend(subscriptions);
        }
        self.forget(gone.into_iter())
    }

    fn forget(&self, gone: impl Iterator<Item = Arc<Subscription>>) -> Result<(), meta::Error> {
        let pairs: Vec<_> = gone
            .map(|subscription| {
                subscription.wake.notify_waiters();
                self.dirty.lock().retain(|other| !Arc::ptr_eq(other, &subscription));
                self.needs.notes.forget(subscription.group.as_str(), subscription.topic.as_str());
                (subscription.group.clone(), subscription.topic.clone())
            })
            .collect();
        kept::remove_pairs(&self.needs.meta, &pairs)
    }

    /// Writes what changed. Blocks on the disk; what fails is tried again with the next call.
    pub(crate) fn persist(&self) -> Result<(), meta::Error> {
        let dirty = std::mem::take(&mut *self.dirty.lock());
        let held = self.lite.take_changed();
        if dirty.is_empty() && held.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::new();
        for subscription in &dirty {
            subscription.clear_dirty();
            let mut state = subscription.state.lock();
            let (group, topic) = (subscription.group.as_str(), subscription.topic.as_str());
            rows.extend(state.take_touched().map(|(id, queue)| kept::row(group, topic, id, queue)));
        }
        let covered = self.needs.notes.turn();
        self.note_what_is_not_covered();
        let written = self.needs.meta.write(|transaction| {
            kept::write(transaction, &rows)?;
            lite::kept::write(transaction, &held)?;
            covered.map_or(Ok(()), |covered| notes::cover(transaction, covered))
        });
        if written.is_ok() {
            self.needs.notes.covered();
        }
        written.inspect_err(|_| {
            self.lite.not_written(&held);
            for subscription in &dirty {
                subscription.state.lock().touch();
                self.changed(subscription);
            }
        })
    }

    /// Changed since its row was made, and noted before the turn perhaps.
    fn note_what_is_not_covered(&self) {
        let dirty = self.dirty.lock().clone();
        for subscription in dirty {
            let state = subscription.state.lock();
            state.touched().for_each(|(id, queue)| self.note_queue(&subscription, id, queue));
        }
    }

    /// Writes what changed last and closes the file. Blocks on the disk.
    pub(crate) fn close(&self) -> Result<(), meta::Error> {
        let written = self.persist();
        self.needs.meta.close();
        written
    }

    /// Writes what changes every `interval` until the broker stops. What changed last is written by the stop.
    pub(crate) async fn keep_persisting(self: Arc<Self>, interval: std::time::Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        while self.needs.stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            if self.dirty.lock().is_empty() && !self.lite.has_changed() {
                continue;
            }
            let delivery = Arc::clone(&self);
            let outcome = tokio::task::spawn_blocking(move || delivery.persist()).await;
            match outcome.expect("writing delivery state does not panic") {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "progress of consumers cannot be written; it is tried again and again");
                }
                Err(_) => {}
            }
        }
    }

    /// The subscription, made if there is none.
    fn subscription(&self, group: &GroupName, topic: &TopicName) -> Arc<Subscription> {
        if let Some(subscription) = self.find(group, topic) {
            return subscription;
        }
        let mut by_group = self.by_group.write();
        let topics = by_group.entry(group.clone()).or_default();
        if let Some(subscription) = topics.get(topic) {
            return Arc::clone(subscription);
        }
        let place = TopicName::lite_parts(topic.as_str()).and_then(|(parent, lite)| {
            let parent = TopicName::internal(parent).ok()?;
            Some(Place { hub: self.lite.hub(group, &parent), lite: LiteTopic::parse(lite).ok()? })
        });
        let broker = &self.needs.broker_name;
        let made = Subscription::new(broker, group.clone(), topic.clone(), place, now_ms());
        let made = Arc::new(made);
        topics.insert(topic.clone(), Arc::clone(&made));
        self.listeners(topic).subscriptions.write().push(Arc::clone(&made));
        made
    }

    fn find(&self, group: &GroupName, topic: &TopicName) -> Option<Arc<Subscription>> {
        self.by_group.read().get(group)?.get(topic).cloned()
    }

    fn listeners(&self, topic: &TopicName) -> Arc<Listeners> {
        if let Some(listeners) = self.by_topic.read().get(topic) {
            return Arc::clone(listeners);
        }
        Arc::clone(self.by_topic.write().entry(topic.clone()).or_default())
    }

    /// To be written with the next batch, and noted at once.
    fn changed(&self, subscription: &Arc<Subscription>) {
        if subscription.set_dirty() {
            self.dirty.lock().push(Arc::clone(subscription));
        }
        if self.needs.notes.has_room() {
            let mut state = subscription.state.lock();
            state.take_unnoted().for_each(|(id, queue)| self.note_queue(subscription, id, queue));
        }
    }

    fn note_queue(&self, subscription: &Subscription, id: u32, queue: &Queue) {
        if queue.len() <= MOST_NOTED {
            let (group, topic) = (subscription.group.as_str(), subscription.topic.as_str());
            self.needs.notes.add(&kept::row(group, topic, id, queue));
        }
    }

    fn bounds(&self, topic: &TopicName, id: u32) -> Range<u64> {
        let Range { start, end } = self.needs.log.store().queue_bounds(topic.as_str(), QueueId(id));
        start.0..end.0
    }

    /// The topic, if there is such a one; also a lite topic, by where its messages lie.
    fn existing(&self, topic: &str) -> Option<TopicName> {
        match TopicName::lite_parts(topic) {
            Some((parent, lite)) if self.lite.is_known(parent, lite) => TopicName::internal_lite(topic),
            Some(_) => None,
            None => self.needs.topics.topic(topic).map(|topic| topic.config.name.clone()),
        }
    }

    /// How many queues of the topic are read, if there is such a one; also of a lite topic.
    fn read_queues(&self, topic: &TopicName) -> Option<u32> {
        match TopicName::lite_parts(topic.as_str()) {
            Some((parent, _)) => self.needs.topics.topic(parent).map(|_| 1),
            None => self.needs.topics.topic(topic.as_str()).map(|topic| topic.config.read_queues),
        }
    }

    fn is_ordered(&self, group: &GroupName) -> bool {
        self.needs.topics.group(group.as_str()).is_some_and(|group| group.ordered)
    }
}

impl store::Arrivals for Delivery {
    fn arrived(&self, topic: &str, _queue_id: QueueId, _next: QueueOffset, _tags_code: i64) {
        if let Some((parent, lite)) = TopicName::lite_parts(topic) {
            return self.lite.arrived(parent, lite);
        }
        let listeners = {
            let by_topic = self.by_topic.read();
            let Some(listeners) = by_topic.get(topic) else { return };
            Arc::clone(listeners)
        };
        for subscription in listeners.subscriptions.read().iter() {
            subscription.wake_one();
        }
        if listeners.pulling.load(Ordering::SeqCst) > 0 {
            listeners.pulls.notify_waiters();
        }
    }
}

/// The system's clock, Unix milliseconds.
pub(crate) fn now_ms() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
