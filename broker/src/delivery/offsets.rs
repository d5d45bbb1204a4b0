//! The progress of groups as numbers: looked at, set, and read past it (PullMessage).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use access::filter::Filter;
use access::{GroupName, TopicName};
use store::{QueueId, QueueOffset, ReadError, Record};
use tokio::time::Instant;

use super::Delivery;
use super::poll::{DISK_PATIENCE, NotReceived, TooManyReads};
use super::pop::{Look, Source as _};
use super::source::{Need, Queues, Shelf};

/// How a group stands on a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupQueue {
    pub(crate) topic: TopicName,
    pub(crate) queue_id: u32,
    pub(crate) cursor: u64,
    pub(crate) in_flight: u64,
    pub(crate) end: u64,
}

/// How far a group is with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has not come so far.
    NotYet,
    /// It waits for an earlier message of its message group.
    Blocked,
    /// Delivered, and not acknowledged.
    InFlight {
        /// How often.
        attempt: u32,
        /// When it is delivered again, Unix milliseconds.
        visible_at: i64,
        /// Who keeps it by being online.
        client: Option<std::sync::Arc<str>>,
    },
    /// The group is done with it.
    Done,
}

/// What a client reads, by offset.
#[derive(Clone, Debug)]
pub(crate) struct Pulls {
    pub(crate) group: GroupName,
    pub(crate) topic: TopicName,
    pub(crate) queue_id: u32,
    pub(crate) offset: u64,
    pub(crate) max: usize,
    pub(crate) filter: Filter,
    /// How long to wait for a message.
    pub(crate) wait: Duration,
}

/// What a pull brings.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) records: Vec<Record>,
    /// Where to go on.
    pub(crate) next: u64,
}

/// The outcome of one look.
enum Pull {
    Looked(Pulled),
    /// These must be fetched first.
    Away(Vec<Need>),
    /// Retention was at work since the bounds were read.
    Gone,
}

/// Why a pull fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullFailed {
    /// Group or topic do not allow it.
    #[error(transparent)]
    Refused(#[from] NotReceived),
    /// Outside of the queue.
    #[error("offset {offset} is not in the queue, which reaches from {start} to {end}: pull within", start = bounds.start, end = bounds.end)]
    OutOfRange {
        /// Asked for.
        offset: u64,
        /// What there is.
        bounds: Range<u64>,
    },
    /// The bounds on reading what is not in memory.
    #[error("too many read old messages now: pull again")]
    TooManyReads,
    /// The disk refuses.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<TooManyReads> for PullFailed {
    fn from(TooManyReads: TooManyReads) -> Self {
        Self::TooManyReads
    }
}

impl Delivery {
    /// The first offset that the group is not done with; `None`: it never looked at the queue.
    pub(crate) fn progress(&self, group: &GroupName, topic: &TopicName, id: u32) -> Option<u64> {
        self.find(group, topic)?.state.lock().queue(id).map(super::queue::Queue::progress)
    }

    /// The group goes on at `offset`; what it has in flight there is forgotten. `Err`: what there is.
    pub(crate) fn set_progress(
        &self,
        group: &GroupName,
        topic: &TopicName,
        id: u32,
        offset: u64,
    ) -> Result<(), Range<u64>> {
        let bounds = self.bounds(topic, id);
        if offset < bounds.start || offset > bounds.end {
            return Err(bounds);
        }
        let subscription = self.subscription(group, topic);
        subscription.state.lock().reset(id, offset, self.is_ordered(group));
        self.changed(&subscription);
        subscription.wake_one();
        Ok(())
    }

    /// How many messages of the queue the group has in flight.
    pub(crate) fn in_flight(&self, group: &GroupName, topic: &TopicName, id: u32) -> u64 {
        let in_flight = |subscription: std::sync::Arc<super::subscription::Subscription>| {
            subscription.state.lock().queue(id).map_or(0, super::queue::Queue::len)
        };
        self.find(group, topic).map_or(0, in_flight) as u64
    }

    /// From the first offset that is left to the end (exclusive).
    pub(crate) fn queue_bounds(&self, topic: &TopicName, id: u32) -> Range<u64> {
        self.bounds(topic, id)
    }

    /// Everything that the group ever looked at.
    pub(crate) fn describe_group(&self, group: &GroupName) -> Vec<GroupQueue> {
        let subscriptions: Vec<_> = {
            let by_group = self.by_group.read();
            by_group.get(group).into_iter().flat_map(|topics| topics.values().cloned()).collect()
        };
        let mut queues = Vec::new();
        for subscription in subscriptions {
            let state = subscription.state.lock();
            queues.extend(state.queues().map(|(queue_id, queue)| GroupQueue {
                topic: subscription.topic.clone(),
                queue_id,
                cursor: queue.cursor(),
                in_flight: queue.len() as u64,
                end: self.bounds(&subscription.topic, queue_id).end,
            }));
        }
        let mut queues = lite_together(queues);
        queues.sort_by(|a, b| (&a.topic, a.queue_id).cmp(&(&b.topic, b.queue_id)));
        queues
    }

    /// How far each group that has looked at the topic is with a message, by name.
    pub(crate) fn trace(&self, topic: &TopicName, id: u32, offset: u64) -> Vec<(GroupName, Progress)> {
        let Some(listeners) = self.by_topic.read().get(topic).cloned() else { return Vec::new() };
        let subscriptions = listeners.subscriptions.read().clone();
        let mut groups: Vec<_> = subscriptions
            .iter()
            .map(|subscription| {
                let state = subscription.state.lock();
                let progress = state.queue(id).map_or(Progress::NotYet, |queue| queue.progress_of(offset));
                (subscription.group.clone(), progress)
            })
            .collect();
        groups.sort_by(|a, b| a.0.cmp(&b.0));
        groups
    }

    /// A group that is not done with the topic, and with how many messages of a queue.
    pub(crate) fn undrained(&self, topic: &TopicName) -> Option<(GroupName, u64)> {
        if let Some(found) = self.undrained_lite(topic) {
            return Some(found);
        }
        let listeners = self.by_topic.read().get(topic).cloned()?;
        let subscriptions = listeners.subscriptions.read();
        subscriptions.iter().find_map(|subscription| {
            let state = subscription.state.lock();
            let left = state.queues().map(|(id, queue)| {
                let Range { start, end } = self.bounds(topic, id);
                end.saturating_sub(queue.progress().max(start))
            });
            left.max().filter(|left| *left > 0).map(|left| (subscription.group.clone(), left))
        })
    }

    /// Reads on from an offset, whatever groups have done; waits for messages at the end of the queue.
    pub(crate) async fn pull(&self, pulls: &Pulls) -> Result<Pulled, PullFailed> {
        let Pulls { group, topic, queue_id, offset, max, filter, wait } = pulls;
        let listeners = self.listeners(topic);
        let deadline = Instant::now() + *wait;
        let mut next = *offset;
        let mut shelf = Shelf::default();
        listeners.pulling.fetch_add(1, Ordering::SeqCst);
        let _pulling = scopeguard(|| {
            listeners.pulling.fetch_sub(1, Ordering::SeqCst);
        });
        loop {
            // Enabled before the look, so that nothing that arrives in between is missed.
            let arrival = listeners.pulls.notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            self.consumable(group, topic)?;
            let bounds = self.bounds(topic, *queue_id);
            if next < bounds.start || next > bounds.end {
                return Err(PullFailed::OutOfRange { offset: next, bounds });
            }
            match self.pull_now(topic, *queue_id, next, *max, filter, &shelf)? {
                Pull::Away(needs) => {
                    tokio::select! {
                        biased;
                        () = self.needs.stopping.cancelled() => return Ok(Pulled { records: Vec::new(), next }),
                        fetched = self.fetch(topic, filter, needs, &mut shelf) => fetched?,
                        () = tokio::time::sleep_until(deadline.max(Instant::now() + DISK_PATIENCE)) => {
                            return Ok(Pulled { records: Vec::new(), next });
                        }
                    }
                    continue;
                }
                // The bounds say so.
                Pull::Gone => continue,
                Pull::Looked(pulled) if !pulled.records.is_empty() || wait.is_zero() => return Ok(pulled),
                Pull::Looked(pulled) if pulled.next > next => {
                    // None of these matches; what comes behind them may.
                    next = pulled.next;
                    tokio::task::yield_now().await;
                    continue;
                }
                Pull::Looked(_) => {}
            }
            tokio::select! {
                biased;
                () = self.needs.stopping.cancelled() => return Ok(Pulled { records: Vec::new(), next }),
                () = &mut arrival => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Pulled { records: Vec::new(), next }),
            }
        }
    }

    /// A look from `from` on that waits for nothing.
    fn pull_now(
        &self,
        topic: &TopicName,
        id: u32,
        from: u64,
        max: usize,
        filter: &Filter,
        shelf: &Shelf,
    ) -> Result<Pull, ReadError> {
        let store = self.needs.log.store();
        let mut source = Queues::new(store, topic.as_str(), filter, false, shelf);
        // A bound on what one look takes in.
        let seen = match source.look(id, from, (max.saturating_mul(8) / filter.effort()).max(1)) {
            Look::Seen(seen) => seen,
            Look::Away => return Ok(Pull::Away(source.into_needs())),
            Look::Gone { .. } => return Ok(Pull::Gone),
            Look::Failed => return Err(ReadError::Io("the disk refuses".to_owned())),
        };
        let mut pulled = Pulled { records: Vec::new(), next: from };
        for seen in seen {
            if pulled.records.len() == max {
                break;
            }
            if seen.takes {
                match seen.item.read(store) {
                    Ok(record) => pulled.records.push(record),
                    Err(error @ ReadError::Io(_)) => return Err(error),
                    Err(error) => {
                        tracing::error!(%topic, queue_id = id, %error, "a message that cannot be read is skipped");
                    }
                }
            }
            pulled.next = seen.offset + 1;
        }
        Ok(Pull::Looked(pulled))
    }

    /// The first offset stored at `at_ms` or later. Blocks on the disk.
    pub(crate) fn offset_at_time(&self, topic: &TopicName, id: u32, at_ms: i64) -> Result<u64, ReadError> {
        Ok(self.needs.log.store().offset_at_time(topic.as_str(), QueueId(id), at_ms)?.0)
    }

    /// When the last message of a queue was stored, Unix milliseconds; `None`: it is empty. Blocks on the disk.
    pub(crate) fn last_stored_at(&self, topic: &TopicName, id: u32) -> Option<i64> {
        let bounds = self.bounds(topic, id);
        let last = QueueOffset(bounds.end.checked_sub(1)?);
        let store = self.needs.log.store();
        let entries = store.entries(topic.as_str(), QueueId(id), last, 1).ok()?;
        store.record(entries.first()?).ok().map(|record| record.stored_at_ms)
    }
}

/// Lite topics may be many: those of one parent are told as its queue 0, added up.
fn lite_together(queues: Vec<GroupQueue>) -> Vec<GroupQueue> {
    let mut together: HashMap<(TopicName, u32), GroupQueue> = HashMap::new();
    for mut queue in queues {
        if let Ok(parent) = TopicName::internal(queue.topic.parent_or_self()) {
            queue.topic = parent;
        }
        match together.entry((queue.topic.clone(), queue.queue_id)) {
            Entry::Vacant(place) => drop(place.insert(queue)),
            Entry::Occupied(mut sum) => {
                let sum = sum.get_mut();
                sum.cursor += queue.cursor;
                sum.in_flight += queue.in_flight;
                sum.end += queue.end;
            }
        }
    }
    together.into_values().collect()
}

/// Runs `at_end` when dropped.
fn scopeguard(at_end: impl FnMut()) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(at_end)
}
