//! SendMessage: checked, placed in a queue, appended together, answered when confirmed. What is to be delivered later is
//! placed where such messages wait.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use access::client::ClientIdentity;
use access::{RecallHandle, Refusal, TopicName};
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::{Code, Message, SendMessageRequest, SendMessageResponse, SendResultEntry};
use store::{LogOffset, NewRecord, QueueId};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use super::convert::{self, Incoming};
use super::{Front, status};
use crate::delivery::now_ms;
use crate::schedule;
use crate::topics::{MessageType, Topic};

impl Front {
    pub(super) async fn send(
        &self,
        client: &ClientIdentity,
        metadata: &MetadataMap,
        peer: Option<SocketAddr>,
        request: SendMessageRequest,
    ) -> SendMessageResponse {
        let count = request.messages.len();
        let stored = match self.topic_of(client, &request.messages) {
            Ok((name, topic)) if topic.config.writable => {
                self.store_messages(client, peer, name, topic, request.messages).await
            }
            Ok((name, _)) => match self.send_elsewhere(client, metadata, &request).await {
                Some(answer) => return answer,
                None => Err(Refusal::new(
                    Code::Forbidden,
                    format!("topic {name} is not writable: make it so, or send to another one"),
                )),
            },
            Err(refusal) => Err(refusal),
        };
        match stored {
            Ok(entries) => SendMessageResponse { status: Some(status::ok()), entries },
            Err(refusal) => {
                self.metrics.refused_sends.inc();
                let status = refusal.status(client);
                let entry = SendResultEntry { status: Some(status.clone()), ..SendResultEntry::default() };
                SendMessageResponse { status: Some(status), entries: vec![entry; count] }
            }
        }
    }

    fn topic_of(
        &self,
        client: &ClientIdentity,
        messages: &[Message],
    ) -> Result<(TopicName, Arc<Topic>), Refusal> {
        let name = one_topic(client, messages)?;
        let topic = self.topics.topic(name.as_str()).ok_or_else(|| status::topic_not_found(&name))?;
        Ok((name, topic))
    }

    /// Where the topic leaves this broker, another one takes the messages: routes are up to 30 seconds old, and Go and Rust do
    /// not look at the permissions in them.
    async fn send_elsewhere(
        &self,
        client: &ClientIdentity,
        metadata: &MetadataMap,
        request: &SendMessageRequest,
    ) -> Option<SendMessageResponse> {
        let call = async |mut server: MessagingServiceClient<Channel>, hop| server.send_message(hop).await;
        let answer = self.routes.ask_a_name_server(client, metadata, request, call).await?;
        // Its name server may be one that passes nothing on.
        let is_of_a_broker =
            answer.status.as_ref().is_some_and(|status| status.code() != Code::NotImplemented);
        is_of_a_broker.then_some(answer)
    }

    async fn store_messages(
        &self,
        client: &ClientIdentity,
        peer: Option<SocketAddr>,
        name: TopicName,
        topic: Arc<Topic>,
        messages: Vec<Message>,
    ) -> Result<Vec<SendResultEntry>, Refusal> {
        let now_ms = now_ms();
        let mut incoming = Vec::with_capacity(messages.len());
        for message in messages {
            let message = convert::incoming(message, self.max_body_bytes, self.longest_delay, now_ms)?;
            check_kind(&topic, message.kind)?;
            incoming.push(message);
        }

        let peer = peer.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        if incoming.iter().any(|message| message.kind == MessageType::Transaction) {
            let alone = incoming.pop().filter(|_| incoming.is_empty());
            let message = alone.ok_or_else(|| {
                Refusal::new(
                    Code::MessageCorrupted,
                    "a transaction message is sent with others: send it in a request of its own",
                )
            })?;
            return Ok(vec![self.begin_transaction(client, &topic, message, peer).await?]);
        }
        let lite = self.sending_to_lite(&name, &incoming)?;
        // Messages of one request that need no order among groups stay together, in order.
        let mut normal_queue = None;
        let places: Vec<(&str, QueueId)> = incoming
            .iter_mut()
            .enumerate()
            .map(|(index, message)| {
                if let Some(lite) = &lite {
                    return (lite.topics[index].as_str(), QueueId(0));
                }
                let queue_id = match (&message.message_group, message.priority) {
                    (Some(group), _) => topic.queue_of_group(group),
                    (None, Some(priority)) => topic.queue_of_priority(priority),
                    (None, None) => *normal_queue.get_or_insert_with(|| topic.next_queue()),
                };
                // If its time has come there is nothing to wait for.
                message.deliver_at_ms.take_if(|at| *at <= now_ms);
                match message.deliver_at_ms {
                    None => (name.as_str(), queue_id),
                    Some(at) => {
                        schedule::make_wait(&mut message.properties, name.as_str(), queue_id, at);
                        (schedule::TOPIC, schedule::QUEUE)
                    }
                }
            })
            .collect();
        let records: Vec<NewRecord<'_>> = incoming
            .iter()
            .zip(places)
            .map(|(message, (topic, queue_id))| NewRecord {
                topic,
                queue_id,
                body: &message.body,
                properties: message.properties.as_bytes(),
                tag: message.tag.as_deref(),
                flag: 0,
                sys_flag: message.sys_flag,
                born_at_ms: message.born_at_ms,
                born_host: peer,
                store_host: self.log.store_host,
                reconsume_times: 0,
                prepared_offset: LogOffset(0),
            })
            .collect();
        let appended = self.log.append(&records).await.map_err(|error| status::not_appended(&error))?;
        let handles = self.recall_handles(&name, &incoming, &records, appended.start);
        drop(records);
        self.metrics.messages_in.inc_by(incoming.len() as u64);
        self.metrics.bytes_in.inc_by(incoming.iter().map(|message| message.body.len() as u64).sum());
        let entries = incoming.into_iter().zip(appended.queue_offsets).zip(handles);
        let entries = entries.map(|((message, offset), recall_handle)| {
            let Incoming { message_id, .. } = message;
            SendResultEntry {
                status: Some(status::ok()),
                // RocketMQ's proxy does so for every message.
                transaction_id: message_id.clone(),
                message_id,
                offset: i64::try_from(offset.0).unwrap_or(i64::MAX),
                recall_handle,
            }
        });
        Ok(entries.collect())
    }

    /// For each message what takes it back, empty for those that do not wait. The records lie one behind the other.
    fn recall_handles(
        &self,
        topic: &TopicName,
        incoming: &[Incoming],
        records: &[NewRecord<'_>],
        start: LogOffset,
    ) -> Vec<String> {
        let mut at = start;
        let handle = |(message, record): (&Incoming, &NewRecord<'_>)| {
            at = at.plus(record.check(usize::MAX).unwrap_or(0));
            let id = at;
            message.deliver_at_ms.map_or_else(String::new, |due_ms| {
                let (topic, broker) = (topic.to_string(), self.broker_name.clone());
                RecallHandle { due_ms, id: id.0, topic, broker, message_id: message.message_id.clone() }
                    .to_text()
            })
        };
        if incoming.iter().all(|message| message.deliver_at_ms.is_none()) {
            return vec![String::new(); incoming.len()];
        }
        incoming.iter().zip(records).map(handle).collect()
    }
}

/// The topic of all messages of a request.
fn one_topic(client: &ClientIdentity, messages: &[Message]) -> Result<TopicName, Refusal> {
    let corrupted = |sentence: &str| Refusal::new(Code::MessageCorrupted, sentence);
    let (first, rest) =
        messages.split_first().ok_or_else(|| corrupted("the request holds no message: send at least one"))?;
    if rest.iter().any(|message| message.topic != first.topic) {
        return Err(corrupted("the messages are of several topics: send one request for each topic"));
    }
    TopicName::of(first.topic.as_ref(), client)
}

fn check_kind(topic: &Topic, kind: MessageType) -> Result<(), Refusal> {
    let config = &topic.config;
    if !config.message_type.takes(kind) {
        return Err(Refusal::new(
            Code::MessagePropertyConflictWithType,
            format!(
                "topic {} takes {} messages and this is a {} message: change the properties of the message, or the topic",
                config.name,
                config.message_type.as_str(),
                kind.as_str()
            ),
        ));
    }
    match kind {
        MessageType::Normal
        | MessageType::Fifo
        | MessageType::Delay
        | MessageType::Transaction
        | MessageType::Lite
        | MessageType::Priority => Ok(()),
        MessageType::Mixed => unreachable!("no message is of the mixed type"),
    }
}
