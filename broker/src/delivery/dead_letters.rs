//! Messages that a group gives up go to the topic `%DLQ%group`: stored there first, acknowledged then.

use std::sync::Arc;

use access::{GroupName, TopicName};
use store::{FetchError, Found, NewRecord, Properties, QueueId, QueueOffset, ReadError, Record};

use super::consumption::{Invalid, Standing, Strictness};
use super::handle::Handle;
use super::pop::Delivered;
use super::source::{Item, property};
use super::subscription::Subscription;
use super::{Delivery, now_ms};
use crate::log;
use crate::topics::{self, TopicConfig};

const ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
const ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
const MESSAGE_ID: &str = "UNIQ_KEY";
const TAGS: &str = "TAGS";

/// How giving a message up went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buried {
    /// It is in the dead letter topic.
    Now,
    /// The delivery was finished before.
    Before,
}

/// Why a message is not in the dead letter topic.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The dead letter topic cannot be made.
    #[error(transparent)]
    Topic(#[from] topics::Error),
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] log::Error),
}

/// Why a client cannot give a message up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotBuried {
    /// The handle counts no more.
    #[error("the receipt handle is not valid")]
    Invalid(Invalid),
    /// It may work later.
    #[error(transparent)]
    Failed(#[from] Error),
    /// It may be read later.
    #[error("the message cannot be read: {0}")]
    Unread(FetchError),
}

impl Delivery {
    /// Moves messages to the dead letter topic, in a task of its own: no client can cancel it halfway. What cannot be
    /// moved falls due again later.
    pub(super) fn bury(self: &Arc<Self>, subscription: &Arc<Subscription>, dead: Vec<Delivered<Item>>) {
        let (delivery, subscription) = (Arc::clone(self), Arc::clone(subscription));
        self.needs.tasks.spawn(async move {
            for Delivered { handle, item } in dead {
                let Some(record) = delivery.read_or_drop(&subscription, &handle, item) else { continue };
                if let Err(error) = delivery.store_dead_letter(&subscription, &handle, &record).await {
                    let (topic, group) = (&subscription.topic, &subscription.group);
                    tracing::error!(%topic, %group, %error, "a dead letter cannot be stored; it is tried again later");
                }
            }
        });
    }

    /// A client gives a message up.
    pub(crate) async fn forward_to_dead_letters(
        self: &Arc<Self>,
        group: &GroupName,
        topic: &TopicName,
        receipt_handle: &str,
        strictness: Strictness,
    ) -> Result<Buried, NotBuried> {
        let (subscription, handle) =
            self.resolve(group, topic, receipt_handle).map_err(NotBuried::Invalid)?;
        let standing = {
            let state = subscription.state.lock();
            state.standing(now_ms(), &handle, strictness, &*self.needs.online).map_err(NotBuried::Invalid)?
        };
        if standing == Standing::Finished {
            return Ok(Buried::Before);
        }
        let offset = QueueOffset(handle.offset);
        let found = match self.needs.log.fetch(topic, handle.queue, handle.offset, 1, |_| true).await {
            Ok(fetched) => {
                fetched.found.into_iter().next().filter(|found| found.entry.queue_offset == offset)
            }
            Err(FetchError::Read(ReadError::Deleted { .. })) => None,
            Err(error) => return Err(NotBuried::Unread(error)),
        };
        // Deleted by retention: there is nothing left to give up.
        let Some(Found { entry, record }) = found else { return Ok(Buried::Before) };
        let Some(record) = self.read_or_drop(&subscription, &handle, Item { entry, record }) else {
            return Ok(Buried::Before);
        };
        self.store_dead_letter(&subscription, &handle, &record).await?;
        Ok(Buried::Now)
    }

    /// The handle of a delivery by the id of its message, for clients that send no handle (C++). Reads what the
    /// group has in flight, and so blocks on the disk.
    pub(crate) fn handle_by_message_id(
        &self,
        group: &GroupName,
        topic: &TopicName,
        message_id: &str,
    ) -> Option<String> {
        let subscription = self.find(group, topic)?;
        let in_flight: Vec<(u32, u64)> = {
            let state = subscription.state.lock();
            let delivered = |(id, queue): (u32, &super::queue::Queue)| -> Vec<(u32, u64)> {
                queue
                    .flights()
                    .filter(|(_, flight)| flight.attempt > 0)
                    .map(|(offset, _)| (id, offset))
                    .collect()
            };
            state.queues().flat_map(delivered).collect()
        };
        let store = self.needs.log.store();
        let (id, offset) = in_flight.into_iter().find(|(id, offset)| {
            let wanted = QueueOffset(*offset);
            let entries = store.entries(topic.as_str(), QueueId(*id), wanted, 1).unwrap_or_default();
            let record =
                entries.first().filter(|e| e.queue_offset == wanted).and_then(|e| store.record(e).ok());
            record.is_some_and(|record| property(&record, MESSAGE_ID) == Some(message_id))
        })?;
        let handle = subscription.state.lock().current_handle(id, offset)?;
        Some(handle.to_text(subscription.scope))
    }

    async fn store_dead_letter(
        &self,
        subscription: &Arc<Subscription>,
        handle: &Handle,
        record: &Record,
    ) -> Result<(), Error> {
        let topic = self.dead_letter_topic(&subscription.group).await?;
        let properties = dead_letter_properties(record, subscription.topic.parent_or_self());
        let dead = NewRecord {
            topic: topic.as_str(),
            queue_id: QueueId(0),
            body: &record.body,
            properties: properties.as_bytes(),
            tag: property(record, TAGS),
            flag: record.flag,
            sys_flag: record.sys_flag & COMPRESSION_BITS,
            born_at_ms: record.born_at_ms,
            born_host: record.born_host,
            store_host: self.needs.log.store_host,
            reconsume_times: i32::try_from(handle.attempt).unwrap_or(i32::MAX),
            prepared_offset: store::LogOffset(0),
        };
        self.needs.log.append(&[dead]).await?;
        subscription.state.lock().finish(handle.queue, handle.offset);
        self.changed(subscription);
        subscription.wake_one();
        tracing::info!(
            topic = %subscription.topic, group = %subscription.group, attempt = handle.attempt,
            message_id = property(record, MESSAGE_ID), "a message is a dead letter now"
        );
        Ok(())
    }

    async fn dead_letter_topic(&self, group: &GroupName) -> Result<TopicName, topics::Error> {
        let name = TopicName::dead_letter_of(group);
        if self.needs.topics.topic(name.as_str()).is_none() {
            let topics = Arc::clone(&self.needs.topics);
            let config = TopicConfig::new(name.clone(), 1);
            let made = tokio::task::spawn_blocking(move || topics.upsert_topic(config, false)).await;
            made.expect("creating a topic does not panic")?;
        }
        Ok(name)
    }
}

/// Of a record's system flags those that say how the body is compressed; host and transaction bits are made anew.
const COMPRESSION_BITS: i32 = 0x1 | (0x7 << 8);

/// As they were, with where the message came from; the first origin stays.
fn dead_letter_properties(record: &Record, topic: &str) -> Properties {
    let mut properties = Properties::default();
    let (mut has_origin, mut message_id) = (false, None);
    for (name, value) in record.properties() {
        has_origin |= name == ORIGIN_TOPIC;
        if name == MESSAGE_ID {
            message_id = Some(value);
        }
        properties.push(name, value);
    }
    if !has_origin {
        properties.push(ORIGIN_TOPIC, topic);
        properties.push(ORIGIN_MESSAGE_ID, message_id.unwrap_or_default());
    }
    properties
}
