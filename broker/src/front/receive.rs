//! ReceiveMessage: a status, the messages, the time of delivery; in this order, on every stream.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use access::client::{ClientIdentity, Language, Version};
use access::filter::Filters;
use access::{GroupName, Refusal, TopicName, status as wire};
use futures::Stream;
use proto::v2::receive_message_response::Content;
use proto::v2::{Code, DigestType, ReceiveMessageRequest, ReceiveMessageResponse, Resource, Status};

use super::{Front, convert, status};
use crate::delivery::{Ask, Batch, now_ms};

const MAX_BATCH: i32 = 32;
const SHORTEST_INVISIBLE: Duration = Duration::from_secs(10);
const LONGEST_INVISIBLE: Duration = Duration::from_secs(12 * 3600);
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// What a client adds to its long poll for the way there and back, where it does not say how long to wait.
const USUAL_REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Kept of the deadline for the way back.
const RESERVE: Duration = Duration::from_millis(500);
/// A poll with less time than this cannot be answered in time.
const SHORTEST_DEADLINE: Duration = Duration::from_millis(50);
/// With less time than this a poll that asks to wait longer is refused: it would never be answered as it was meant. RocketMQ waits
/// for no less.
const SHORTEST_POLL: Duration = Duration::from_secs(5);
/// Before this version clients had no code for a deadline that is too short.
const KNOWS_POLLING_TIME: Version = Version { major: 5, minor: 0, patch: 3 };

impl Front {
    pub(super) async fn receive(&self, client: ClientIdentity, request: ReceiveMessageRequest) -> Receiving {
        match self.take_messages(&client, request).await {
            Ok(receiving) => receiving,
            Err(refusal) => Receiving::of(refusal.status(&client)),
        }
    }

    async fn take_messages(
        &self,
        client: &ClientIdentity,
        request: ReceiveMessageRequest,
    ) -> Result<Receiving, Refusal> {
        let topic = request.message_queue.as_ref().and_then(|queue| queue.topic.clone());
        let ask = ask(client, &request, topic.as_ref(), &self.filters)?;
        // C# and Rust never send their settings again after a restart of the broker: polling shows that they live.
        let clients = &self.telemetry.clients;
        clients.polled(Instant::now(), client, &ask.group, &ask.topic, ask.filter.text());
        let batch = self.delivery.receive(&ask).await.map_err(|error| status::not_received(&error))?;
        if batch.is_empty() {
            let sentence = "no message came within the time of the poll: poll again";
            return Ok(Receiving::of(wire::for_client(client, Code::MessageNotFound, sentence)));
        }
        self.metrics.messages_out.inc_by(batch.len() as u64);
        Ok(Receiving {
            status: Some(status::ok()),
            batch: Some(batch),
            topic: topic.unwrap_or_default(),
            digest: client.digest(),
            invisible: ask.invisible,
            time: Some(now_ms()),
        })
    }
}

fn ask(
    client: &ClientIdentity,
    request: &ReceiveMessageRequest,
    topic: Option<&Resource>,
    filters: &Filters,
) -> Result<Ask, Refusal> {
    let ReceiveMessageRequest {
        group,
        message_queue: _, // its topic only: any queue of this broker is as good as the one that is named
        filter_expression,
        batch_size,
        invisible_duration,
        auto_renew,
        long_polling_timeout,
        attempt_id,
    } = request;
    let group = GroupName::of(group.as_ref(), client)?;
    let topic = TopicName::of(topic, client)?;
    let filter = filters.of(filter_expression.as_ref())?;
    let invisible = match auto_renew {
        true => None,
        false => Some(checked_invisible(invisible_duration.as_ref())?),
    };
    let wait = wait(client, long_polling_timeout.as_ref().and_then(convert::duration))?;
    Ok(Ask {
        group,
        topic,
        filter,
        max: usize::try_from((*batch_size).clamp(1, MAX_BATCH)).expect("it is positive"),
        invisible,
        client: client.id.clone(),
        attempt_id: attempt_id.clone().filter(|id| !id.is_empty()),
        // Go's push consumer goes on in its batch while a message that failed waits for its next attempt.
        one_of_a_message_group: *auto_renew && client.language == Language::Go,
        wait,
    })
}

fn checked_invisible(wire: Option<&prost_types::Duration>) -> Result<Duration, Refusal> {
    wire.and_then(convert::duration)
        .filter(|time| (SHORTEST_INVISIBLE..=LONGEST_INVISIBLE).contains(time))
        .ok_or_else(|| {
            Refusal::new(
                Code::IllegalInvisibleTime,
                "the invisible duration is not between 10 seconds and 12 hours: choose one that is",
            )
        })
}

/// How long to wait: as asked, at most 20 s, and so that the answer is there before the deadline.
fn wait(client: &ClientIdentity, asked: Option<Duration>) -> Result<Duration, Refusal> {
    let asked = asked.map(|asked| asked.min(LONGEST_WAIT));
    let Some(deadline) = client.deadline else { return Ok(asked.unwrap_or(LONGEST_WAIT)) };
    let is_in_vain = asked.is_some_and(|asked| asked > deadline) && deadline < SHORTEST_POLL;
    if deadline < SHORTEST_DEADLINE || is_in_vain {
        let code = match client.version < KNOWS_POLLING_TIME {
            true => Code::BadRequest,
            false => Code::IllegalPollingTime,
        };
        let sentence =
            "the deadline of the call leaves no time to poll: let it be later than the long poll is long";
        return Err(Refusal::new(code, sentence));
    }
    // The SimpleConsumer in Go says nothing but its deadline.
    let wanted = asked.unwrap_or_else(|| deadline.saturating_sub(USUAL_REQUEST_TIMEOUT / 2));
    let reserve = RESERVE.min(deadline / 4);
    Ok(wanted.min(LONGEST_WAIT).min(deadline - reserve))
}

/// The stream of one poll. Messages that are not taken from it are given back to the group.
pub(crate) struct Receiving {
    status: Option<Status>,
    batch: Option<Batch>,
    topic: Resource,
    digest: DigestType,
    invisible: Option<Duration>,
    time: Option<i64>,
}

impl Receiving {
    pub(super) fn of(status: Status) -> Self {
        Self {
            status: Some(status),
            batch: None,
            topic: Resource::default(),
            digest: DigestType::Md5,
            invisible: None,
            time: Some(now_ms()),
        }
    }

    fn next_content(&mut self) -> Option<Content> {
        if let Some(status) = self.status.take() {
            return Some(Content::Status(status));
        }
        if let Some(received) = self.batch.as_mut().and_then(Batch::pop) {
            let message = convert::outgoing(received, self.topic.clone(), self.invisible, self.digest);
            return Some(Content::Message(message));
        }
        self.time.take().map(|time| Content::DeliveryTimestamp(convert::timestamp(time)))
    }
}

impl Stream for Receiving {
    type Item = Result<ReceiveMessageResponse, tonic::Status>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let content = self.get_mut().next_content();
        Poll::Ready(content.map(|content| Ok(ReceiveMessageResponse { content: Some(content) })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(deadline: Option<Duration>, version: &str) -> ClientIdentity {
        ClientIdentity { deadline, version: Version::parse(version), ..ClientIdentity::default() }
    }

    #[test]
    fn a_poll_is_answered_before_its_deadline() {
        let s = Duration::from_secs;
        let check = |deadline: Option<u64>, asked: Option<u64>, expected: Duration| {
            let wait = wait(&client(deadline.map(s), "5.2.0"), asked.map(s));
            assert_eq!(wait.unwrap(), expected, "{deadline:?} {asked:?}");
        };
        check(Some(23), Some(20), s(20));
        check(Some(40), Some(40), s(20));
        check(Some(13), None, Duration::from_millis(11_500));
        check(Some(8), Some(8), Duration::from_millis(7_500));
        check(Some(8), Some(20), Duration::from_millis(7_500));
        check(Some(4), Some(4), Duration::from_millis(3_500));
        check(Some(3), Some(0), s(0));
        check(None, None, s(20));
        check(None, Some(5), s(5));
    }

    #[test]
    fn a_poll_that_cannot_wait_as_it_asks_is_refused_with_a_code_that_its_client_knows() {
        let ms = Duration::from_millis;
        let check = |deadline: Duration, asked: Option<Duration>, version: &str, expected: Code| {
            let refusal = wait(&client(Some(deadline), version), asked).unwrap_err();
            assert_eq!(refusal.code, expected, "{deadline:?} {asked:?} {version}");
        };
        check(ms(10), None, "5.2.0", Code::IllegalPollingTime);
        check(ms(10), Some(Duration::ZERO), "5.0.3", Code::IllegalPollingTime);
        check(ms(2000), Some(ms(20_000)), "5.1.2", Code::IllegalPollingTime);
        check(ms(2000), Some(ms(20_000)), "5.0.2", Code::BadRequest);
        check(ms(10), None, "", Code::BadRequest);
    }
}
