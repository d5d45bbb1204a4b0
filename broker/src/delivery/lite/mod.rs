//! Lite topics: many small ones below a parent topic of type LITE, made by their first message.
//!
//! ```text
//!   send ─► known (how many there may be) ─► the topic %LMQ%$parent$lite, queue 0, in the log
//!   SyncLiteSubscription ─► board: who holds what          arrival, redelivery ─► board: what is ready
//!   poll of the parent ─► board.next ─► the subscription of the group on that lite topic, as with any topic
//! ```
//!
//! Where a lite topic lies is what RocketMQ calls its queue, so a Java broker finds the messages there. To the group a lite
//! topic is a topic like others, with one queue: delivery, handles and dead letters are the same. They are not listed and not
//! registered. What clients hold outlives a restart (`kept`).

mod board;
pub(super) mod kept;
mod known;
mod poll;
mod start;
mod sweep;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use access::settings::LITE_SUBSCRIPTION_QUOTA;
use access::{GroupName, LiteTopic, TopicName};
use parking_lot::{Mutex, RwLock};

use super::queue::Millis;
use super::{Delivery, now_ms};
use board::Board;
pub(crate) use board::Holding;
use kept::{Book, Held};
use known::{Known, Refused};
pub(crate) use start::Start;

/// The bounds on lite topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one parent; more are refused.
    pub max_topics: usize,
    /// A lite topic that nothing is sent to for so long, and with which all groups are done, is removed.
    pub idle: Duration,
}

/// Why nothing is sent to a lite topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotSent {
    /// The cap on lite topics.
    #[error(
        "topic {parent} has {limit} lite topics already: use fewer, wait until idle ones are removed, or raise maxLiteTopics"
    )]
    TooMany {
        /// Of which topic.
        parent: TopicName,
        /// How many there may be.
        limit: usize,
    },
    /// It was idle for long.
    #[error("the lite topic {0} is being removed, as it was not used for long: send again")]
    Going(LiteTopic),
}

/// A client holds too many lite topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the client would subscribe {wanted} lite topics, and may subscribe {LITE_SUBSCRIPTION_QUOTA}: subscribe fewer, or use more clients"
)]
pub(crate) struct OverQuota {
    wanted: usize,
}

/// How what a client holds becomes something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// These too.
    Add(Holding),
    /// Not these.
    Remove(Holding),
    /// These and no others.
    Replace(Holding),
}

impl Change {
    /// What is held then.
    fn apply(self, mut held: Holding) -> Holding {
        match self {
            Self::Add(more) => {
                held.names.extend(more.names);
                held.all |= more.all;
                held
            }
            Self::Remove(less) => {
                held.names.retain(|lite| !less.names.contains(lite));
                held.all &= !less.all;
                held
            }
            Self::Replace(others) => others,
        }
    }
}

/// The clients of one group on one parent topic.
#[derive(Debug, Default)]
pub(super) struct Hub(Mutex<Board>);

impl Hub {
    /// Whoever holds the lite topic hears that it may have something.
    pub(super) fn ready(&self, lite: &str) {
        self.0.lock().ready(lite);
    }

    pub(super) fn is_held(&self, lite: &str) -> bool {
        self.0.lock().is_held(lite)
    }
}

/// A parent topic: its lite topics, and the groups that consume them.
#[derive(Debug, Default)]
struct Parent {
    known: Mutex<Known>,
    hubs: RwLock<HashMap<GroupName, Arc<Hub>>>,
}

/// The lite topics of all parents.
#[derive(Debug)]
pub(super) struct Lite {
    limits: Limits,
    parents: RwLock<HashMap<TopicName, Arc<Parent>>>,
    /// For which group and parent each client holds lite topics.
    clients: Mutex<HashMap<String, (GroupName, TopicName)>>,
    book: Mutex<Book>,
}

impl Lite {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, parents: RwLock::default(), clients: Mutex::default(), book: Mutex::default() }
    }

    /// A lite topic that is in the log.
    pub(super) fn restore(&self, parent: &TopicName, lite: LiteTopic, now: Millis) {
        self.parent(parent).known.lock().restore(lite, now);
    }

    pub(super) fn is_known(&self, parent: &str, lite: &str) -> bool {
        let parents = self.parents.read();
        parents.get(parent).is_some_and(|parent| parent.known.lock().contains(lite))
    }

    /// How many lite topics the parent has.
    pub(super) fn count(&self, parent: &str) -> usize {
        self.parents.read().get(parent).map_or(0, |parent| parent.known.lock().len())
    }

    /// Something arrived.
    pub(super) fn arrived(&self, parent: &str, lite: &str) {
        let parents = self.parents.read();
        let Some(parent) = parents.get(parent) else { return };
        parent.hubs.read().values().for_each(|hub| hub.ready(lite));
    }

    pub(super) fn hub(&self, group: &GroupName, parent: &TopicName) -> Arc<Hub> {
        let parent = self.parent(parent);
        if let Some(hub) = parent.hubs.read().get(group) {
            return Arc::clone(hub);
        }
        Arc::clone(parent.hubs.write().entry(group.clone()).or_default())
    }

    fn parent(&self, name: &TopicName) -> Arc<Parent> {
        if let Some(parent) = self.parents.read().get(name) {
            return Arc::clone(parent);
        }
        Arc::clone(self.parents.write().entry(name.clone()).or_default())
    }

    fn change(
        &self,
        client: &str,
        group: &GroupName,
        parent: &TopicName,
        change: Change,
    ) -> Result<(), OverQuota> {
        let mut clients = self.clients.lock();
        let hub = self.hub(group, parent);
        let held = hub.0.lock().holds(client).cloned().unwrap_or_default();
        let wanted = change.apply(held.clone());
        if wanted.len() > usize::from(LITE_SUBSCRIPTION_QUOTA) {
            return Err(OverQuota { wanted: wanted.len() });
        }
        let now = (group.clone(), parent.clone());
        let before = match wanted.len() {
            0 => clients.remove(client),
            _ => clients.insert(client.to_owned(), now.clone()),
        };
        let is_other = held != wanted || before.as_ref().is_some_and(|before| *before != now);
        if let Some((group, parent)) = before.filter(|before| *before != now) {
            self.let_go(client, &group, &parent);
        }
        let known = self.parent(parent);
        hub.0.lock().hold(client, wanted, || known.known.lock().all());
        if is_other {
            self.book.lock().changed(client);
        }
        Ok(())
    }

    /// What a client held before the start, of a parent that `is_there` still or not.
    pub(super) fn restore_held(&self, held: Held, bytes: usize, is_there: bool) {
        let Held { client, group, parent, holding } = held;
        let is_held = is_there && self.change(&client, &group, &parent, Change::Replace(holding)).is_ok();
        self.book.lock().read(&client, bytes, is_held);
    }

    fn let_go(&self, client: &str, group: &GroupName, parent: &TopicName) {
        self.hub(group, parent).0.lock().hold(client, Holding::default(), Vec::new);
    }

    /// The client holds nothing any more.
    fn client_gone(&self, client: &str) {
        let mut clients = self.clients.lock();
        if let Some((group, parent)) = clients.remove(client) {
            self.let_go(client, &group, &parent);
            self.book.lock().changed(client);
        }
    }

    /// These clients hold something else than before.
    fn changed(&self, clients: &[Arc<str>]) {
        let mut book = self.book.lock();
        clients.iter().for_each(|client| book.changed(client));
    }

    /// These clients hold nothing any more, as what they held is no more.
    fn forget_clients(&self, of: impl Fn(&GroupName, &TopicName) -> bool) {
        let gone: Vec<_> = self.clients.lock().extract_if(|_, (group, parent)| of(group, parent)).collect();
        let mut book = self.book.lock();
        gone.iter().for_each(|(client, _)| book.changed(client));
    }

    /// The group is no more.
    pub(super) fn group_gone(&self, group: &GroupName) {
        self.forget_clients(|other, _| other == group);
        for parent in self.parents.read().values() {
            if let Some(hub) = parent.hubs.write().remove(group) {
                hub.0.lock().close();
            }
        }
    }
}

/// Sends to lite topics that are under way: none of them is removed meanwhile.
#[derive(Debug)]
pub(crate) struct Sending {
    parent: Arc<Parent>,
    lites: Vec<LiteTopic>,
    /// Where the messages lie, in their order.
    pub(crate) topics: Vec<TopicName>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut known = self.parent.known.lock();
        self.lites.iter().for_each(|lite| known.sent(lite));
    }
}

impl Delivery {
    /// Messages will be sent to these lite topics.
    pub(crate) fn send_to_lite<'a>(
        &self,
        name: &TopicName,
        lites: impl Iterator<Item = &'a LiteTopic>,
    ) -> Result<Sending, NotSent> {
        let parent = self.lite.parent(name);
        let mut sending = Sending { parent, lites: Vec::new(), topics: Vec::new() };
        for lite in lites {
            let most = self.lite.limits.max_topics;
            let begun = sending.parent.known.lock().send(lite, now_ms(), most);
            begun.map_err(|refused| match refused {
                Refused::TooMany => NotSent::TooMany { parent: name.clone(), limit: most },
                Refused::Going => NotSent::Going(lite.clone()),
            })?;
            sending.lites.push(lite.clone());
            sending.topics.push(name.of_lite(lite));
        }
        Ok(sending)
    }

    /// What a client holds becomes something else. Lite topics that are new to the group begin at `start`, if it is said.
    pub(crate) async fn hold_lite(
        self: &Arc<Self>,
        client: &str,
        group: &GroupName,
        parent: &TopicName,
        change: Change,
        start: Option<Start>,
    ) -> Result<(), OverQuota> {
        if let (Change::Add(new) | Change::Replace(new), Some(start)) = (&change, start)
            && new.len() <= usize::from(LITE_SUBSCRIPTION_QUOTA)
        {
            let lites = new.names.iter().filter(|lite| self.lite.is_known(parent.as_str(), lite.as_str()));
            self.begin_at(group, lites.map(|lite| parent.of_lite(lite)).collect(), start).await;
        }
        self.lite.change(client, group, parent, change)
    }

    /// The client is gone, and what it held with it.
    pub(crate) fn lite_client_gone(&self, client: &str) {
        self.lite.client_gone(client);
    }

    /// The clients that hold lite topics, each with its group.
    pub(crate) fn lite_clients(&self) -> Vec<(String, GroupName)> {
        let clients = self.lite.clients.lock();
        clients.iter().map(|(client, (group, _))| (client.clone(), group.clone())).collect()
    }

    /// How many lite topics each parent has.
    pub(crate) fn lite_topics_by_parent(&self) -> Vec<(TopicName, usize)> {
        let parents = self.lite.parents.read();
        parents.iter().map(|(name, parent)| (name.clone(), parent.known.lock().len())).collect()
    }

    /// How many lite topics a parent has.
    pub(crate) fn lite_topics(&self, parent: &TopicName) -> usize {
        self.lite.count(parent.as_str())
    }
}
