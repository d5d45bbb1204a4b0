//! Receiving and acknowledging.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use proto::v2;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::session::{self, REQUEST_TIMEOUT, Session, proto_duration, resource};
use super::{Dialer, Error, Stub};

const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// The longest poll that is asked for; servers answer an empty one by then.
const LONGEST_POLL: Duration = Duration::from_secs(20);
/// The largest batch that servers give.
const LARGEST_BATCH: usize = 32;

/// A message as it was delivered, and the broker's queue it came from.
#[derive(Debug, Clone)]
pub struct Received {
    /// The broker's name.
    pub broker: String,
    /// The message, receipt handle included.
    pub message: v2::Message,
    queue: v2::MessageQueue,
}

/// A simple consumer of one topic: what it receives is hidden from its group for a while, and
/// comes again unless it is acknowledged.
pub struct Consumer {
    session: Session,
    group: String,
    filter: v2::FilterExpression,
    invisible: Duration,
    polls: FuturesUnordered<BoxFuture<'static, Poll>>,
    // Delivered, not yet handed out: several brokers may answer at once.
    waiting: VecDeque<Received>,
    heartbeat: Interval,
}

/// The end of one long poll.
struct Poll {
    queue: v2::MessageQueue,
    outcome: Result<Vec<v2::Message>, Error>,
}

/// Messages with these tags, such as `eu || us`; `*` is all.
pub fn by_tags(expression: &str) -> v2::FilterExpression {
    v2::FilterExpression { r#type: v2::FilterType::Tag.into(), expression: expression.to_owned() }
}

/// Messages of which a condition holds, such as `price > 100`.
pub fn by_sql(expression: &str) -> v2::FilterExpression {
    v2::FilterExpression { r#type: v2::FilterType::Sql.into(), expression: expression.to_owned() }
}

impl Consumer {
    /// Finds the topic and makes itself known to its brokers.
    pub async fn open(
        dialer: &Dialer,
        access_point: &str,
        topic: &str,
        group: &str,
        filter: v2::FilterExpression,
        invisible: Duration,
    ) -> Result<Self, Error> {
        let mut settings = session::settings(v2::ClientType::SimpleConsumer, access_point);
        settings.pub_sub = Some(v2::settings::PubSub::Subscription(v2::Subscription {
            group: Some(resource(group)),
            subscriptions: vec![v2::SubscriptionEntry {
                topic: Some(resource(topic)),
                expression: Some(filter.clone()),
            }],
            ..Default::default()
        }));
        let readable = |permission| matches!(permission, v2::Permission::Read | v2::Permission::ReadWrite);
        let session = Session::open(dialer, access_point, topic, settings, readable, "read from").await?;
        let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT_EVERY, HEARTBEAT_EVERY);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            session,
            group: group.to_owned(),
            filter,
            invisible,
            polls: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            heartbeat,
        })
    }

    /// Waits up to `wait` for messages and gives at most `max` of them; none when time is up.
    pub async fn receive(&mut self, max: usize, wait: Duration) -> Result<Vec<Received>, Error> {
        let deadline = Instant::now() + wait;
        while self.waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            if self.polls.is_empty() {
                self.start_polls(max, left);
            }
            tokio::select! {
                Some(poll) = self.polls.next() => self.take(poll)?,
                _ = self.heartbeat.tick() => {
                    self.session.heartbeat(Some(&self.group), v2::ClientType::SimpleConsumer).await;
                }
                () = tokio::time::sleep_until(deadline) => return Ok(Vec::new()),
            }
        }
        let count = max.min(self.waiting.len());
        Ok(self.waiting.drain(..count).collect())
    }

    /// One poll to each broker: the server pops from any of the broker's queues.
    fn start_polls(&mut self, max: usize, wait: Duration) {
        let wait = wait.min(LONGEST_POLL);
        for queue in self.session.queue_of_each_broker() {
            let (address, stub) = self.session.stub(&queue);
            let request = v2::ReceiveMessageRequest {
                group: Some(resource(&self.group)),
                message_queue: Some(queue.clone()),
                filter_expression: Some(self.filter.clone()),
                batch_size: i32::try_from(max.clamp(1, LARGEST_BATCH)).expect("at most 32"),
                invisible_duration: Some(proto_duration(self.invisible)),
                auto_renew: false,
                long_polling_timeout: Some(proto_duration(wait)),
                attempt_id: None,
            };
            let poll = poll(address, stub, request, wait);
            self.polls.push(poll.map(|outcome| Poll { queue, outcome }).boxed());
        }
    }

    fn take(&mut self, poll: Poll) -> Result<(), Error> {
        let Poll { queue, outcome } = poll;
        let broker = queue.broker.as_ref().map(|broker| broker.name.clone()).unwrap_or_default();
        self.waiting.extend(outcome?.into_iter().map(|message| Received {
            broker: broker.clone(),
            message,
            queue: queue.clone(),
        }));
        Ok(())
    }

    /// Acknowledges: the message does not come to this group again.
    pub async fn ack(&self, received: &Received) -> Result<(), Error> {
        let (address, mut stub) = self.session.stub(&received.queue);
        let mut request = tonic::Request::new(v2::AckMessageRequest {
            group: Some(resource(&self.group)),
            topic: Some(resource(&self.session.topic)),
            entries: vec![v2::AckMessageEntry {
                message_id: received.message_id().to_owned(),
                receipt_handle: received.receipt_handle().to_owned(),
                lite_topic: None,
            }],
        });
        request.set_timeout(REQUEST_TIMEOUT);
        let answer = stub
            .ack_message(request)
            .await
            .map_err(|status| Error::transport(&address, &status))?
            .into_inner();
        Error::check(&address, answer.status)?;
        let entry = answer.entries.into_iter().next();
        entry.map_or(Ok(()), |entry| Error::check(&address, entry.status))
    }

    /// Makes what was delivered but never handed out visible again, and says good-bye.
    pub async fn close(self) {
        drop(self.polls);
        for received in &self.waiting {
            let (_, mut stub) = self.session.stub(&received.queue);
            let mut request = tonic::Request::new(v2::ChangeInvisibleDurationRequest {
                group: Some(resource(&self.group)),
                topic: Some(resource(&self.session.topic)),
                receipt_handle: received.receipt_handle().to_owned(),
                invisible_duration: Some(proto_duration(Duration::ZERO)),
                message_id: received.message_id().to_owned(),
                lite_topic: None,
                suspend: None,
            });
            request.set_timeout(REQUEST_TIMEOUT);
            // If this is not heard, the message comes when its invisible duration is over.
            let _unheard = stub.change_invisible_duration(request).await;
        }
        self.session.close(Some(&self.group)).await;
    }
}

/// One ReceiveMessage, read to its end.
async fn poll(
    address: String,
    mut stub: Stub,
    request: v2::ReceiveMessageRequest,
    wait: Duration,
) -> Result<Vec<v2::Message>, Error> {
    use v2::receive_message_response::Content;

    let transport = |status: tonic::Status| Error::transport(&address, &status);
    let mut request = tonic::Request::new(request);
    request.set_timeout(wait + REQUEST_TIMEOUT);
    let mut answers = stub.receive_message(request).await.map_err(transport)?.into_inner();
    let mut messages = Vec::new();
    while let Some(answer) = answers.message().await.map_err(transport)? {
        match answer.content {
            Some(Content::Message(message)) => messages.push(message),
            Some(Content::Status(status)) => match status.code() {
                v2::Code::Ok | v2::Code::MessageNotFound => {}
                _ => return Err(Error::refused(status)),
            },
            Some(Content::DeliveryTimestamp(_)) | None => {}
        }
    }
    Ok(messages)
}

impl Received {
    fn system(&self) -> Option<&v2::SystemProperties> {
        self.message.system_properties.as_ref()
    }

    /// The id that the sender gave it.
    pub fn message_id(&self) -> &str {
        self.system().map_or("", |system| &system.message_id)
    }

    fn receipt_handle(&self) -> &str {
        self.system().and_then(|system| system.receipt_handle.as_deref()).unwrap_or_default()
    }
}
