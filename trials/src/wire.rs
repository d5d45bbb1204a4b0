//! A plain client of our own: it shows the codes that official clients hide, and makes load that they could not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::receive_message_response::Content;
use proto::v2::{
    AckMessageEntry, AckMessageRequest, Code, Encoding, FilterExpression, FilterType, Message, MessageQueue,
    MessageType, QueryRouteRequest, ReceiveMessageRequest, Resource, SendMessageRequest, Status,
    SystemProperties,
};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, metadata::Ascii};

use crate::ledger::{BodyHash, Place, What};

/// How long a send may take before its answer counts as lost.
const SEND_LIMIT: Duration = Duration::from_secs(3);

/// What a poll's deadline has beyond its waiting time.
const POLL_RESERVE: Duration = Duration::from_secs(3);

/// The shortest time that a received message may stay hidden from others.
const INVISIBLE: Duration = Duration::from_secs(10);

/// A poll's answer of 32 messages of the largest size, and more.
const LARGEST: usize = 256 << 20;

/// A connection to one broker, or to whatever forwards to it.
#[derive(Clone)]
pub struct Wire {
    client: MessagingServiceClient<Channel>,
    channel: Channel,
    id: MetadataValue<Ascii>,
}

/// Why a call did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The server said no.
    Answered {
        /// The protocol's code.
        code: Code,
        /// What the server tells its user.
        message: String,
    },
    /// No answer: it may have happened or not.
    Silence(String),
}

impl Refusal {
    /// What a sender notes of it. Surely not stored is only what was refused before it could be: an inner error or a
    /// flush that failed may have come when the message lay in the log already.
    #[must_use]
    pub fn outcome(&self) -> What {
        match self {
            Self::Answered {
                code:
                    Code::InternalError
                    | Code::InternalServerError
                    | Code::MasterPersistenceTimeout
                    | Code::SlavePersistenceTimeout
                    | Code::ProxyTimeout,
                ..
            }
            | Self::Silence(_) => What::Unknown,
            Self::Answered { .. } => What::Refused,
        }
    }
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The id that its sender gave it.
    pub id: String,
    /// What it holds.
    pub body: Vec<u8>,
    /// What acknowledges this delivery.
    pub receipt_handle: String,
    /// Where it lies.
    pub place: Place,
    /// The how manieth delivery of it this is.
    pub attempt: u32,
}

impl Delivered {
    /// What a consumer notes of it.
    #[must_use]
    pub fn note(&self) -> What {
        What::Delivered { place: self.place, attempt: self.attempt, hash: BodyHash::of(&self.body) }
    }
}

impl Wire {
    /// A client that connects, and connects again, when it has something to say.
    pub fn new(endpoint: &str, id: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{endpoint}"))?
            .connect_timeout(Duration::from_secs(1))
            .tcp_nodelay(true)
            .connect_lazy();
        // The largest message is larger than what tonic takes by itself.
        let client = MessagingServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST);
        Ok(Self { client, channel, id: MetadataValue::try_from(id)? })
    }

    /// A client of the first broker that the access point names for a topic.
    pub async fn of_topic(access_point: &str, topic: &str, id: &str) -> Result<Self> {
        let mut asker = Self::new(access_point, id)?;
        let request =
            asker.request(QueryRouteRequest { topic: Some(resource(topic)), endpoints: None }, SEND_LIMIT);
        let answer = asker.client.query_route(request).await?.into_inner();
        let broker = answer.message_queues.first().and_then(|queue| queue.broker.clone());
        let address = broker
            .and_then(|broker| broker.endpoints)
            .and_then(|endpoints| endpoints.addresses.into_iter().next())
            .with_context(|| format!("{access_point} has no route to {topic}: {:?}", answer.status))?;
        Self::new(&format!("{}:{}", address.host, address.port), id)
    }

    /// The generated client, for calls that this one does not wrap.
    pub fn client(&mut self) -> &mut MessagingServiceClient<Channel> {
        &mut self.client
    }

    /// The channel, for calls that the generated client would not make.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Sends one message under an id of the caller's choice; where it lies then.
    pub async fn send(&mut self, topic: &str, id: &str, body: Vec<u8>) -> Result<Place, Refusal> {
        self.send_message(message(topic, id, body)).await
    }

    /// Sends one message as it is.
    pub async fn send_message(&mut self, message: Message) -> Result<Place, Refusal> {
        let id = message.system_properties.as_ref().map(|p| p.message_id.clone()).unwrap_or_default();
        let request = self.request(SendMessageRequest { messages: vec![message] }, SEND_LIMIT);
        let answer = self.client.send_message(request).await.map_err(silence)?.into_inner();
        accepted(answer.status)?;
        match answer.entries.as_slice() {
            [entry] if entry.message_id == id => {
                accepted(entry.status.clone())?;
                Ok(Place { offset: u64::try_from(entry.offset).ok(), ..Place::default() })
            }
            entries => Err(Refusal::Silence(format!("one result for {id} was due, not {entries:?}"))),
        }
    }

    /// Waits for messages of a group; none is no error.
    pub async fn receive(
        &mut self,
        topic: &str,
        group: &str,
        wait: Duration,
    ) -> Result<Vec<Delivered>, Refusal> {
        let messages = self.receive_for(topic, group, "*", INVISIBLE, wait).await?;
        Ok(messages.iter().map(delivered).collect())
    }

    /// The same with a filter and an invisible duration, and with messages as they come.
    pub async fn receive_for(
        &mut self,
        topic: &str,
        group: &str,
        filter: &str,
        invisible: Duration,
        wait: Duration,
    ) -> Result<Vec<Message>, Refusal> {
        let request = ReceiveMessageRequest {
            group: Some(resource(group)),
            message_queue: Some(MessageQueue { topic: Some(resource(topic)), id: -1, ..Default::default() }),
            filter_expression: Some(FilterExpression {
                r#type: FilterType::Tag.into(),
                expression: filter.into(),
            }),
            batch_size: 32,
            invisible_duration: Some(duration(invisible)),
            auto_renew: false,
            long_polling_timeout: Some(duration(wait)),
            ..Default::default()
        };
        let request = self.request(request, wait + POLL_RESERVE);
        let mut stream = self.client.receive_message(request).await.map_err(silence)?.into_inner();
        let mut messages = Vec::new();
        while let Some(answer) = stream.message().await.map_err(silence)? {
            match answer.content {
                Some(Content::Status(status)) if status.code == Code::MessageNotFound as i32 => {}
                Some(Content::Status(status)) => accepted(Some(status))?,
                Some(Content::Message(message)) => messages.push(message),
                Some(Content::DeliveryTimestamp(_)) | None => {}
            }
        }
        Ok(messages)
    }

    /// Acknowledges deliveries.
    pub async fn acknowledge(
        &mut self,
        topic: &str,
        group: &str,
        messages: &[Delivered],
    ) -> Result<(), Refusal> {
        let entries = messages.iter().map(|message| AckMessageEntry {
            message_id: message.id.clone(),
            receipt_handle: message.receipt_handle.clone(),
            ..Default::default()
        });
        let request = AckMessageRequest {
            group: Some(resource(group)),
            topic: Some(resource(topic)),
            entries: entries.collect(),
        };
        let request = self.request(request, SEND_LIMIT);
        accepted(self.client.ack_message(request).await.map_err(silence)?.into_inner().status)
    }

    /// A request with the metadata and the deadline that a client gives it.
    pub fn request<T>(&self, message: T, limit: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(limit);
        let metadata = request.metadata_mut();
        metadata.insert("x-mq-client-id", self.id.clone());
        metadata.insert("x-mq-language", MetadataValue::from_static("E2E"));
        metadata.insert("x-mq-client-version", MetadataValue::from_static("5.2.0"));
        metadata.insert("x-mq-protocol", MetadataValue::from_static("v2"));
        request
    }
}

/// Runs a conversation from a test that is not asynchronous itself.
pub fn block_on<T>(conversation: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(conversation)
}

/// An error unless the server answered with this code and a sentence that starts with the code's name.
pub fn ensure_refused<T>(answer: &Result<T, Refusal>, wanted: Code) -> Result<()> {
    let Err(Refusal::Answered { code, message }) = answer else {
        let but = answer.as_ref().err();
        anyhow::bail!("{} was due, but it was {but:?}", wanted.as_str_name());
    };
    ensure!(*code == wanted, "{} was due, not {}: {message}", wanted.as_str_name(), code.as_str_name());
    ensure!(
        message.starts_with(wanted.as_str_name()),
        "the message does not start with the code's name: {message}"
    );
    ensure!(message.len() > wanted.as_str_name().len() + 10, "the message says nothing: {message}");
    Ok(())
}

fn accepted(status: Option<Status>) -> Result<(), Refusal> {
    let status = status.ok_or_else(|| Refusal::Silence("an answer without a status".to_owned()))?;
    match Code::try_from(status.code) {
        Ok(Code::Ok) => Ok(()),
        Ok(code) => Err(Refusal::Answered { code, message: status.message }),
        Err(_) => Err(Refusal::Silence(format!("an unknown code {}: {}", status.code, status.message))),
    }
}

fn silence(status: tonic::Status) -> Refusal {
    Refusal::Silence(status.to_string())
}

/// A message as an ordinary client sends it.
pub fn message(topic: &str, id: &str, body: Vec<u8>) -> Message {
    Message {
        topic: Some(resource(topic)),
        system_properties: Some(SystemProperties {
            message_id: id.to_owned(),
            message_type: MessageType::Normal.into(),
            body_encoding: Encoding::Identity.into(),
            born_host: "e2e".to_owned(),
            ..Default::default()
        }),
        body: body.into(),
        ..Default::default()
    }
}

/// What a consumer needs of a message that came.
pub fn delivered(message: &Message) -> Delivered {
    let properties = message.system_properties.clone().unwrap_or_default();
    Delivered {
        place: Place {
            queue: properties.queue_id.try_into().ok(),
            offset: properties.queue_offset.and_then(|offset| offset.try_into().ok()),
            log: None,
        },
        attempt: properties.delivery_attempt.unwrap_or_default().cast_unsigned(),
        id: properties.message_id,
        body: message.body.to_vec(),
        receipt_handle: properties.receipt_handle.unwrap_or_default(),
    }
}

/// A topic or group by its name.
pub fn resource(name: &str) -> Resource {
    Resource { resource_namespace: String::new(), name: name.to_owned() }
}

fn duration(duration: Duration) -> prost_types::Duration {
    duration.try_into().expect("a poll's times are short")
}
