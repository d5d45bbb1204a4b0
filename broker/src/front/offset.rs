//! GetOffset, QueryOffset, UpdateOffset, PullMessage: progress as numbers, and reading past it.

use std::time::Duration;

use access::client::ClientIdentity;
use access::{GroupName, Refusal, TopicName};
use proto::v2::pull_message_response::Content;
use proto::v2::{
    Code, GetOffsetRequest, GetOffsetResponse, MessageQueue, PullMessageRequest, PullMessageResponse,
    QueryOffsetPolicy, QueryOffsetRequest, QueryOffsetResponse, UpdateOffsetRequest, UpdateOffsetResponse,
};

use super::{Front, convert, status};
use crate::delivery::{PullFailed, Pulls};

const MAX_BATCH: i32 = 32;
const LONGEST_WAIT: Duration = Duration::from_secs(20);

impl Front {
    pub(super) fn get_offset(
        &self,
        client: &ClientIdentity,
        request: &GetOffsetRequest,
    ) -> GetOffsetResponse {
        let found = || -> Result<u64, Refusal> {
            let group = GroupName::of(request.group.as_ref(), client)?;
            let (topic, id) = self.queue(client, request.message_queue.as_ref())?;
            self.delivery.progress(&group, &topic, id).ok_or_else(|| {
                let sentence =
                    format!("consumer group {group} has not consumed from queue {id} of topic {topic} yet");
                Refusal::new(Code::OffsetNotFound, sentence)
            })
        };
        match found() {
            Ok(offset) => GetOffsetResponse { status: Some(status::ok()), offset: wire_offset(offset) },
            Err(refusal) => GetOffsetResponse { status: Some(refusal.status(client)), offset: 0 },
        }
    }

    pub(super) async fn update_offset(
        &self,
        client: &ClientIdentity,
        request: &UpdateOffsetRequest,
    ) -> UpdateOffsetResponse {
        let status = match self.set_offset(client, request).await {
            Ok(()) => status::ok(),
            Err(refusal) => refusal.status(client),
        };
        UpdateOffsetResponse { status: Some(status) }
    }

    async fn set_offset(
        &self,
        client: &ClientIdentity,
        request: &UpdateOffsetRequest,
    ) -> Result<(), Refusal> {
        let group = GroupName::of(request.group.as_ref(), client)?;
        let (topic, id) = self.queue(client, request.message_queue.as_ref())?;
        let illegal = |sentence: String| Refusal::new(Code::IllegalOffset, sentence);
        let offset = u64::try_from(request.offset).map_err(|_| {
            illegal(format!("the offset {} is negative: use one of the queue", request.offset))
        })?;
        let (topics, name) = (self.topics.clone(), group.clone());
        let made = tokio::task::spawn_blocking(move || topics.ensure_group(&name)).await;
        made.expect("creating a group does not panic").map_err(|error| status::not_changed(&error))?;
        self.delivery.set_progress(&group, &topic, id, offset).map_err(|bounds| {
            illegal(format!(
                "offset {offset} is not in queue {id} of topic {topic}, which reaches from {} to {}: use one that is",
                bounds.start, bounds.end
            ))
        })
    }

    pub(super) async fn query_offset(
        &self,
        client: &ClientIdentity,
        request: QueryOffsetRequest,
    ) -> QueryOffsetResponse {
        match self.find_offset(client, request).await {
            Ok(offset) => QueryOffsetResponse { status: Some(status::ok()), offset: wire_offset(offset) },
            Err(refusal) => QueryOffsetResponse { status: Some(refusal.status(client)), offset: 0 },
        }
    }

    async fn find_offset(
        &self,
        client: &ClientIdentity,
        request: QueryOffsetRequest,
    ) -> Result<u64, Refusal> {
        let (topic, id) = self.queue(client, request.message_queue.as_ref())?;
        let bad = |sentence: &str| Refusal::new(Code::BadRequest, sentence);
        match QueryOffsetPolicy::try_from(request.query_offset_policy) {
            Ok(QueryOffsetPolicy::Beginning) => Ok(self.delivery.queue_bounds(&topic, id).start),
            Ok(QueryOffsetPolicy::End) => Ok(self.delivery.queue_bounds(&topic, id).end),
            Ok(QueryOffsetPolicy::Timestamp) => {
                let at =
                    request.timestamp.ok_or_else(|| bad("the policy TIMESTAMP needs a timestamp: set it"))?;
                let delivery = self.delivery.clone();
                let search = move || delivery.offset_at_time(&topic, id, convert::timestamp_ms(&at));
                let found =
                    tokio::task::spawn_blocking(search).await.expect("searching a queue does not panic");
                found.map_err(|error| status::not_read(&error))
            }
            Err(_) => Err(bad("the policy is unknown: use BEGINNING, END or TIMESTAMP")),
        }
    }

    pub(super) async fn pull(
        &self,
        client: &ClientIdentity,
        request: PullMessageRequest,
    ) -> Vec<PullMessageResponse> {
        let contents = match self.pull_messages(client, request).await {
            Ok(contents) => contents,
            Err(refusal) => vec![Content::Status(refusal.status(client))],
        };
        contents.into_iter().map(|content| PullMessageResponse { content: Some(content) }).collect()
    }

    async fn pull_messages(
        &self,
        client: &ClientIdentity,
        request: PullMessageRequest,
    ) -> Result<Vec<Content>, Refusal> {
        let PullMessageRequest {
            group,
            message_queue,
            offset,
            batch_size,
            filter_expression,
            long_polling_timeout,
        } = request;
        let group = GroupName::of(group.as_ref(), client)?;
        let (topic, queue_id) = self.queue(client, message_queue.as_ref())?;
        let filter = self.filters.of(filter_expression.as_ref())?;
        let offset = u64::try_from(offset).map_err(|_| {
            Refusal::new(
                Code::IllegalOffset,
                format!("the offset {offset} is negative: use one of the queue"),
            )
        })?;
        let max = usize::try_from(batch_size.clamp(1, MAX_BATCH)).expect("it is positive");
        let wait = long_polling_timeout.as_ref().and_then(convert::duration).unwrap_or_default();
        let wait =
            wait.min(LONGEST_WAIT).min(client.deadline.map_or(LONGEST_WAIT, |deadline| deadline / 4 * 3));
        let pulls = Pulls { group, topic, queue_id, offset, max, filter, wait };
        let pulled = match self.delivery.pull(&pulls).await {
            Ok(pulled) => pulled,
            // As RocketMQ does (`PULL_OFFSET_MOVED`): where to go on comes with it.
            Err(ref error @ PullFailed::OutOfRange { ref bounds, offset }) => {
                let nearest = wire_offset(offset.clamp(bounds.start, bounds.end));
                let status = status::not_pulled(error).status(client);
                return Ok(vec![Content::Status(status), Content::NextOffset(nearest)]);
            }
            Err(error) => return Err(status::not_pulled(&error)),
        };

        let resource = message_queue.and_then(|queue| queue.topic).unwrap_or_default();
        let first = match pulled.records.is_empty() {
            true => Refusal::new(Code::MessageNotFound, "no message is there: pull again").status(client),
            false => status::ok(),
        };
        self.metrics.messages_out.inc_by(pulled.records.len() as u64);
        let mut contents = vec![Content::Status(first)];
        contents.extend(
            pulled
                .records
                .into_iter()
                .map(|record| Content::Message(convert::stored(record, resource.clone(), client.digest()))),
        );
        contents.push(Content::NextOffset(wire_offset(pulled.next)));
        Ok(contents)
    }

    /// The queue that a request names, which there must be.
    fn queue(
        &self,
        client: &ClientIdentity,
        queue: Option<&MessageQueue>,
    ) -> Result<(TopicName, u32), Refusal> {
        let queue =
            queue.ok_or_else(|| Refusal::new(Code::BadRequest, "the request names no queue: set it"))?;
        let name = TopicName::of(queue.topic.as_ref(), client)?;
        let topic = self.topics.topic(name.as_str()).ok_or_else(|| status::topic_not_found(&name))?;
        let queues = topic.config.read_queues;
        let id = u32::try_from(queue.id).ok().filter(|id| *id < queues).ok_or_else(|| {
            let sentence = format!("topic {name} has no queue {}: it has {queues}, from 0", queue.id);
            Refusal::new(Code::BadRequest, sentence)
        })?;
        Ok((name, id))
    }
}

fn wire_offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
