//! The calls that the benchmarks make, with as little work on this side as can be.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use proto::control::admin_client::AdminClient;
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::{control, v2};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

/// The generated client, with constant headers on every call.
pub type Stub = MessagingServiceClient<InterceptedService<Channel, Headers>>;

/// The headers of a client, made once.
#[derive(Debug, Clone)]
pub struct Headers {
    client_id: AsciiMetadataValue,
}

impl tonic::service::Interceptor for Headers {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        let metadata = request.metadata_mut();
        metadata.insert("x-mq-client-id", self.client_id.clone());
        metadata.insert("x-mq-language", AsciiMetadataValue::from_static("OTHER"));
        metadata.insert("x-mq-client-version", AsciiMetadataValue::from_static(env!("CARGO_PKG_VERSION")));
        metadata.insert("x-mq-protocol", AsciiMetadataValue::from_static("v2"));
        metadata.insert("x-mq-date-time", AsciiMetadataValue::from_static("20261121T000000Z"));
        Ok(request)
    }
}

/// A connection of its own.
pub async fn connect(address: &str, index: usize) -> anyhow::Result<Stub> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await;
    let channel = channel.with_context(|| format!("cannot connect to {address}"))?;
    let client_id = format!("bench@{}@{index}@0", std::process::id());
    let headers = Headers { client_id: client_id.parse().context("client id")? };
    Ok(MessagingServiceClient::with_interceptor(channel, headers).max_decoding_message_size(256 << 20))
}

/// Makes a topic through the broker's Admin service; one that is there stays.
pub async fn create_topic(admin: &str, topic: &str, queues: u32) -> anyhow::Result<()> {
    create_topic_of(admin, topic, queues, control::MessageType::Normal).await
}

/// The same for messages of some type.
pub async fn create_topic_of(
    admin: &str,
    topic: &str,
    queues: u32,
    message_type: control::MessageType,
) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{admin}"))?.connect().await?;
    let config = control::TopicConfig {
        name: topic.to_owned(),
        read_queues: queues,
        write_queues: queues,
        readable: true,
        writable: true,
        message_type: message_type.into(),
        owner: String::new(),
    };
    let request = control::UpsertTopicRequest { topic: Some(config), only_if_unowned: false };
    AdminClient::new(channel).upsert_topic(request).await.context("cannot create the topic")?;
    Ok(())
}

/// A message as an official client would send it.
pub fn message(topic: &str, message_id: String, queue_id: i32, body: Bytes) -> v2::Message {
    v2::Message {
        topic: Some(resource(topic)),
        system_properties: Some(v2::SystemProperties {
            message_id,
            body_encoding: v2::Encoding::Identity.into(),
            message_type: v2::MessageType::Normal.into(),
            born_timestamp: Some(SystemTime::now().into()),
            born_host: "bench".to_owned(),
            queue_id,
            ..Default::default()
        }),
        body,
        ..Default::default()
    }
}

/// Makes the message wait until then, Unix milliseconds.
pub fn delay(message: &mut v2::Message, due_ms: i64) {
    let nanos = i32::try_from(due_ms.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    let at = prost_types::Timestamp { seconds: due_ms.div_euclid(1000), nanos };
    if let Some(system) = &mut message.system_properties {
        system.delivery_timestamp = Some(at);
    }
}

/// Sends one message; an error unless the server acknowledged it.
pub async fn send(stub: &mut Stub, message: v2::Message) -> anyhow::Result<()> {
    let answer = stub.send_message(v2::SendMessageRequest { messages: vec![message] }).await?.into_inner();
    let status = answer.status.context("an answer without a status")?;
    if status.code() != v2::Code::Ok {
        bail!("{}", status.message);
    }
    if answer.entries.len() != 1 {
        bail!("{} entries for one message", answer.entries.len());
    }
    Ok(())
}

/// One ReceiveMessage: what came, acknowledged at once. Empty when nothing was there.
pub async fn receive(
    stub: &mut Stub,
    topic: &str,
    group: &str,
    wait: Duration,
) -> anyhow::Result<Vec<v2::Message>> {
    use v2::receive_message_response::Content;

    let seconds = |length: Duration| prost_types::Duration { seconds: length.as_secs() as i64, nanos: 0 };
    let mut request = tonic::Request::new(v2::ReceiveMessageRequest {
        group: Some(resource(group)),
        message_queue: Some(v2::MessageQueue { topic: Some(resource(topic)), ..Default::default() }),
        filter_expression: Some(v2::FilterExpression {
            r#type: v2::FilterType::Tag.into(),
            expression: "*".to_owned(),
        }),
        batch_size: 32,
        invisible_duration: Some(seconds(Duration::from_secs(30))),
        auto_renew: false,
        long_polling_timeout: Some(seconds(wait)),
        attempt_id: None,
    });
    request.set_timeout(wait + Duration::from_secs(10));
    let mut stream = stub.receive_message(request).await?.into_inner();
    let mut messages = Vec::new();
    while let Some(answer) = stream.message().await? {
        match answer.content {
            Some(Content::Message(message)) => messages.push(message),
            Some(Content::Status(status)) => match status.code() {
                v2::Code::Ok | v2::Code::MessageNotFound => {}
                _ => bail!("{}", status.message),
            },
            Some(Content::DeliveryTimestamp(_)) | None => {}
        }
    }
    if !messages.is_empty() {
        acknowledge(stub, topic, group, &messages).await?;
    }
    Ok(messages)
}

async fn acknowledge(
    stub: &mut Stub,
    topic: &str,
    group: &str,
    messages: &[v2::Message],
) -> anyhow::Result<()> {
    let mut handles = HashSet::new();
    let entries = messages.iter().filter_map(|message| message.system_properties.as_ref()).map(|system| {
        v2::AckMessageEntry {
            message_id: system.message_id.clone(),
            receipt_handle: system.receipt_handle.clone().unwrap_or_default(),
            lite_topic: None,
        }
    });
    let entries: Vec<_> = entries.filter(|entry| handles.insert(entry.receipt_handle.clone())).collect();
    let request =
        v2::AckMessageRequest { group: Some(resource(group)), topic: Some(resource(topic)), entries };
    let status =
        stub.ack_message(request).await?.into_inner().status.context("an answer without a status")?;
    if status.code() != v2::Code::Ok {
        bail!("not acknowledged: {}", status.message);
    }
    Ok(())
}

fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}
