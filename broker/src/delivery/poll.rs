//! A poll: takes messages, or waits until there are some.

use std::sync::Arc;
use std::time::Duration;

use access::filter::Filter;
use access::{GroupName, TopicName};
use store::{FetchError, ReadError, Record};
use tokio::time::Instant;

use super::handle::Handle;
use super::pop::{Away, Delivered, Popped, Rules, Skip, Wish};
use super::source::{Item, Need, Queues, Shelf};
use super::subscription::Subscription;
use super::{Delivery, now_ms};
use crate::topics::{self, MessageType, Topic, stable_hash};

/// A poll that does not wait for messages waits so long for the disk.
pub(super) const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// The bounds on reading what is not in memory.
#[derive(Debug)]
pub(super) struct TooManyReads;

impl From<TooManyReads> for NotReceived {
    fn from(TooManyReads: TooManyReads) -> Self {
        Self::TooManyReads
    }
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) group: GroupName,
    pub(crate) topic: TopicName,
    pub(crate) filter: Filter,
    pub(crate) max: usize,
    /// How long messages stay away; `None`: as long as the client is online, within limits.
    pub(crate) invisible: Option<Duration>,
    pub(crate) client: String,
    /// Names the poll, so that a lost response to an ordered group can be sent again.
    pub(crate) attempt_id: Option<String>,
    /// The client takes messages of a group (message group) one after the other only if it gets one at a time.
    pub(crate) one_of_a_message_group: bool,
    /// How long to wait for a message.
    pub(crate) wait: Duration,
}

impl Ask {
    /// The attempt id, digested; 0: none.
    pub(super) fn poll(&self) -> u64 {
        self.attempt_id.as_ref().map_or(0, |id| stable_hash(id.as_bytes()))
    }
}

/// Why a poll brings nothing but an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReceived {
    /// There is none.
    #[error("there is no topic {0}: create it first")]
    NoTopic(TopicName),
    /// Its configuration forbids it.
    #[error("topic {0} is not readable: make it so, or read another one")]
    NotReadable(TopicName),
    /// Its configuration forbids it.
    #[error("consumer group {0} may not consume: enable it first")]
    GroupDisabled(GroupName),
    /// The cap on waiting polls.
    #[error("{0} polls are waiting already: poll less often, or raise maxParkedPolls")]
    TooManyPolls(usize),
    /// The cap on unacknowledged messages.
    #[error(
        "consumer group {group} has {limit} unacknowledged messages in a queue: acknowledge some, or raise maxInFlightPerQueue"
    )]
    TooManyInFlight {
        /// Whose messages.
        group: GroupName,
        /// How many there may be.
        limit: usize,
    },
    /// The bounds on reading what is not in memory.
    #[error("too many polls read old messages now: poll again")]
    TooManyReads,
    /// The group could not be created.
    #[error(transparent)]
    Group(#[from] topics::Error),
}

/// A message on its way to a client.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) record: Record,
    pub(crate) receipt_handle: String,
    /// From 1.
    pub(crate) attempt: u32,
    handle: Handle,
}

/// Messages on their way to a client. What is not taken out is given back.
pub(crate) struct Batch {
    messages: std::vec::IntoIter<Received>,
    owner: Option<(Arc<Delivery>, Arc<Subscription>)>,
    /// Of a poll that takes from several lite topics.
    more: Vec<Batch>,
}

impl Batch {
    pub(super) fn empty() -> Self {
        Self { messages: Vec::new().into_iter(), owner: None, more: Vec::new() }
    }

    /// What comes behind.
    pub(super) fn join(&mut self, batch: Batch) {
        if self.is_empty() {
            *self = batch;
        } else {
            self.more.push(batch);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len() + self.more.iter().map(Batch::len).sum::<usize>()
    }

    /// Takes the next message out.
    pub(crate) fn pop(&mut self) -> Option<Received> {
        self.messages.next().or_else(|| self.more.iter_mut().find_map(Batch::pop))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let Some((delivery, subscription)) = &self.owner else { return };
        if self.messages.len() == 0 {
            return;
        }
        let now = now_ms();
        let mut state = subscription.state.lock();
        for message in &mut self.messages {
            state.give_back(now, &message.handle);
        }
        drop(state);
        delivery.changed(subscription);
        delivery.arm(subscription);
    }
}

/// What a poll must know of a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    queues: u32,
    by_priority: bool,
}

impl Shape {
    pub(super) const LITE: Self = Self { queues: 1, by_priority: false };

    fn of(topic: &Topic) -> Self {
        let by_priority = topic.config.message_type == MessageType::Priority;
        Self { queues: topic.config.read_queues, by_priority }
    }
}

pub(super) enum Attempt {
    Messages(Batch),
    /// Nothing matched so far, there is more to look at.
    GoOn,
    /// Nothing was taken, these must be fetched first.
    Away(Vec<Need>),
    Nothing {
        capped: bool,
    },
}

impl Delivery {
    /// Takes messages for a client; waits for some if there are none. An empty batch: time is up.
    pub(crate) async fn receive(self: &Arc<Self>, ask: &Ask) -> Result<Batch, NotReceived> {
        self.group_rules(&ask.group).await?;
        if self.consumable(&ask.group, &ask.topic)?.config.message_type == MessageType::Lite {
            return self.receive_lite(ask).await;
        }
        let subscription = self.subscription(&ask.group, &ask.topic);
        let _polling = subscription.enter();
        let deadline = Instant::now() + ask.wait;
        let mut parked = None;
        let mut shelf = Shelf::default();
        loop {
            let topic = self.consumable(&ask.group, &ask.topic)?;
            let capped = match self.attempt(&subscription, Shape::of(&topic), ask.max, ask, &shelf) {
                Attempt::Messages(batch) => return Ok(batch),
                Attempt::Away(needs) => {
                    let patience = deadline.max(Instant::now() + DISK_PATIENCE);
                    tokio::select! {
                        biased;
                        () = self.needs.stopping.cancelled() => return Ok(Batch::empty()),
                        fetched = self.fetch(&ask.topic, &ask.filter, needs, &mut shelf) => fetched?,
                        () = tokio::time::sleep_until(patience) => return Ok(Batch::empty()),
                    }
                    continue;
                }
                Attempt::GoOn => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Attempt::Nothing { capped } => capped,
            };
            let wait_is_over = || match capped {
                true => Err(NotReceived::TooManyInFlight {
                    group: ask.group.clone(),
                    limit: self.needs.max_in_flight_per_queue,
                }),
                false => Ok(Batch::empty()),
            };
            if ask.wait.is_zero() {
                return wait_is_over();
            }
            if parked.is_none() {
                parked = Some(Parked::new(self)?);
            }
            self.arm(&subscription);
            tokio::select! {
                biased;
                () = self.needs.stopping.cancelled() => return Ok(Batch::empty()),
                () = subscription.wake.notified() => {}
                () = tokio::time::sleep_until(deadline) => return wait_is_over(),
            }
        }
    }

    /// Puts what a look needs on the shelf. Nothing is taken or locked meanwhile, so a client may go as it likes.
    pub(super) async fn fetch(
        &self,
        topic: &TopicName,
        filter: &Filter,
        needs: Vec<Need>,
        shelf: &mut Shelf,
    ) -> Result<(), TooManyReads> {
        shelf.clear();
        for need in needs {
            match need.fetch(&self.needs.log, topic, filter).await {
                Ok(fetched) => shelf.put(need, fetched),
                Err(FetchError::Busy) if shelf.is_empty() => return Err(TooManyReads),
                Err(FetchError::Busy) => return Ok(()),
                // The next look is told where the queue starts now.
                Err(FetchError::Read(ReadError::Deleted { .. })) => {}
                Err(error @ (FetchError::Closed | FetchError::Read(_))) => {
                    tracing::error!(%topic, queue_id = need.queue, %error, "cannot read a queue");
                    shelf.fail(need);
                }
            }
            if shelf.is_full() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn group_rules(&self, group: &GroupName) -> Result<Arc<topics::GroupConfig>, topics::Error> {
        if let Some(rules) = self.needs.topics.group(group.as_str()) {
            return Ok(rules);
        }
        let (topics, group) = (Arc::clone(&self.needs.topics), group.clone());
        let made = tokio::task::spawn_blocking(move || topics.ensure_group(&group)).await;
        made.expect("creating a group does not panic")
    }

    /// The topic, as long as both it and the group allow to receive. Both may change while a poll waits.
    pub(super) fn consumable(&self, group: &GroupName, topic: &TopicName) -> Result<Arc<Topic>, NotReceived> {
        if self.needs.topics.group(group.as_str()).is_some_and(|group| !group.consume_enabled) {
            return Err(NotReceived::GroupDisabled(group.clone()));
        }
        match self.needs.topics.topic(topic.as_str()) {
            None => Err(NotReceived::NoTopic(topic.clone())),
            Some(found) if !found.config.readable => Err(NotReceived::NotReadable(topic.clone())),
            Some(found) => Ok(found),
        }
    }

    /// One look at the queues, and at what was fetched. No await between taking messages and the batch that gives them
    /// back, and no wait for a disk under the lock.
    pub(super) fn attempt(
        self: &Arc<Self>,
        subscription: &Arc<Subscription>,
        shape: Shape,
        max: usize,
        ask: &Ask,
        shelf: &Shelf,
    ) -> Attempt {
        let group = self.needs.topics.group_or_default(&ask.group);
        let wish = Wish {
            max,
            away: match ask.invisible {
                Some(time) => Away::For(i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2)),
                None => Away::While(ask.client.as_str().into()),
            },
            poll: ask.poll(),
            one_of_a_lane: ask.one_of_a_message_group,
            sifts: !ask.filter.is_all(),
            effort: ask.filter.effort(),
        };
        let rules = Rules {
            ordered: group.ordered,
            max_attempts: group.max_attempts,
            max_in_flight: self.needs.max_in_flight_per_queue,
            queues: shape.queues,
            by_priority: shape.by_priority,
            online: &*self.needs.online,
        };
        let store = self.needs.log.store();
        let mut source = Queues::new(store, subscription.topic.as_str(), &ask.filter, group.ordered, shelf);
        let Popped { deliveries, dead, more, capped, away, skipped } =
            subscription.state.lock().pop(now_ms(), &wish, &rules, &mut source);
        let needs = Some(source.into_needs()).filter(|_| away);
        if !skipped.is_empty() {
            self.changed(subscription);
            skipped.iter().for_each(|skip| self.tell_skipped(subscription, skip));
        }
        if !deliveries.is_empty() || !dead.is_empty() || more {
            self.changed(subscription);
        }
        if !dead.is_empty() {
            self.bury(subscription, dead);
        }
        let batch = self.read(subscription, deliveries);
        if more {
            subscription.wake_one();
        }
        if !batch.is_empty() && subscription.is_polled_by_others() {
            self.arm(subscription);
        }
        match (batch.is_empty(), needs, more) {
            (false, _, _) => Attempt::Messages(batch),
            (true, Some(needs), _) => Attempt::Away(needs),
            (true, None, true) => Attempt::GoOn,
            (true, None, false) => Attempt::Nothing { capped },
        }
    }

    /// Retention deleted what the group was not done with: never silently.
    fn tell_skipped(&self, subscription: &Subscription, skip: &Skip) {
        let Skip { queue, offsets, messages } = skip;
        let (topic, group) = (&subscription.topic, &subscription.group);
        tracing::warn!(
            %topic, %group, queue_id = queue, from = offsets.start, to = offsets.end, messages,
            "retention deleted messages before the group was done with them, it goes on behind them"
        );
        self.skipped.inc_by(group, *messages);
    }

    fn read(self: &Arc<Self>, subscription: &Arc<Subscription>, deliveries: Vec<Delivered<Item>>) -> Batch {
        let mut messages = Vec::with_capacity(deliveries.len());
        for Delivered { handle, item } in deliveries {
            if let Some(record) = self.read_or_drop(subscription, &handle, item) {
                let receipt_handle = handle.to_text(subscription.scope);
                messages.push(Received { record, receipt_handle, attempt: handle.attempt, handle });
            }
        }
        let owner = Some((Arc::clone(self), Arc::clone(subscription)));
        Batch { messages: messages.into_iter(), owner, more: Vec::new() }
    }

    /// The record; if it is gone for good the group is done with it.
    pub(super) fn read_or_drop(
        &self,
        subscription: &Subscription,
        handle: &Handle,
        item: Item,
    ) -> Option<Record> {
        let error = match item.read(self.needs.log.store()) {
            Ok(record) => return Some(record),
            Err(error) => error,
        };
        let (topic, group) = (&subscription.topic, &subscription.group);
        let mut state = subscription.state.lock();
        match error {
            ReadError::Deleted { .. } => {
                state.finish(handle.queue, handle.offset);
                drop(state);
                let (queue, offsets) = (handle.queue, handle.offset..handle.offset + 1);
                self.tell_skipped(subscription, &Skip { queue, offsets, messages: 1 });
            }
            ReadError::Damaged { .. } => {
                tracing::error!(%topic, %group, queue_id = handle.queue, %error, "a damaged message is skipped");
                state.finish(handle.queue, handle.offset);
            }
            ReadError::Io(_) => {
                tracing::error!(%topic, %group, queue_id = handle.queue, %error, "a message cannot be read now");
                state.give_back(now_ms(), handle);
            }
        }
        None
    }
}

/// A place among the waiting polls.
pub(super) struct Parked<'a>(&'a Delivery);

impl<'a> Parked<'a> {
    pub(super) fn new(delivery: &'a Delivery) -> Result<Self, NotReceived> {
        let limit = delivery.needs.max_parked_polls;
        let parked = delivery.parked.inc();
        if usize::try_from(parked).is_ok_and(|parked| parked >= limit) {
            delivery.parked.dec();
            return Err(NotReceived::TooManyPolls(limit));
        }
        Ok(Self(delivery))
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.parked.dec();
    }
}
