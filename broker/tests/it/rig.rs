//! A broker on a directory of its own, and a client's words.

use std::path::Path;
use std::time::Duration;

use broker::{Config, Running};
use proto::control;
use proto::control::admin_client::AdminClient;
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::receive_message_response::Content;
use proto::v2::*;
use tokio::task::JoinSet;
use tonic::Request;
use tonic::transport::Channel;

/// The client that calls, unless a test says another.
const CLIENT: &str = "test@1@0@abc";

/// A running broker and its channels.
pub(crate) struct Rig {
    pub(crate) running: Running,
    pub(crate) client: MessagingServiceClient<Channel>,
    pub(crate) admin: AdminClient<Channel>,
}

/// One answer of a poll, sorted.
#[derive(Debug, Default)]
pub(crate) struct Polled {
    pub(crate) status: Status,
    pub(crate) messages: Vec<Message>,
    /// What came, in its order: 's', 'm' and 't'.
    pub(crate) order: String,
}

pub(crate) fn config(folder: &Path) -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config {
        client_listen: any,
        control_listen: any,
        http_listen: Some(any),
        segment_bytes: 16 << 20,
        ..Config::new(folder)
    };
    // The disk of whoever runs the tests may be nearly full of other things.
    config.retention.refuse_percent = 100;
    config
}

impl Rig {
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_with(config(folder)).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        Self::of(broker::start(config).await.unwrap()).await
    }

    pub(crate) async fn of(running: Running) -> Self {
        running.ready().await;
        let connect =
            async |addr| Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
        let client = MessagingServiceClient::new(connect(running.client_addr).await);
        let client = client.max_decoding_message_size(64 << 20);
        let admin = AdminClient::new(connect(running.control_addr).await);
        Self { running, client, admin }
    }

    pub(crate) async fn topic(&mut self, name: &str, queues: u32) {
        self.topic_of(name, queues, control::MessageType::Mixed).await;
    }

    pub(crate) async fn topic_of(&mut self, name: &str, queues: u32, message_type: control::MessageType) {
        let topic = control::TopicConfig {
            name: name.to_owned(),
            read_queues: queues,
            write_queues: queues,
            readable: true,
            writable: true,
            message_type: message_type as i32,
            owner: String::new(),
        };
        let request = control::UpsertTopicRequest { topic: Some(topic), only_if_unowned: false };
        self.admin.upsert_topic(request).await.unwrap();
    }

    pub(crate) async fn group(&mut self, name: &str, ordered: bool, max_attempts: u32) {
        let group = control::GroupConfig {
            name: name.to_owned(),
            consume_enabled: true,
            ordered,
            max_attempts,
            backoff: None,
            owner: String::new(),
        };
        self.admin
            .upsert_group(control::UpsertGroupRequest { group: Some(group), only_if_unowned: false })
            .await
            .unwrap();
    }

    pub(crate) async fn send(&mut self, messages: Vec<Message>) -> SendMessageResponse {
        self.client.send_message(call(SendMessageRequest { messages })).await.unwrap().into_inner()
    }

    /// Sends, and demands that it works.
    pub(crate) async fn send_ok(&mut self, messages: Vec<Message>) -> Vec<SendResultEntry> {
        let response = self.send(messages).await;
        let status = response.status.unwrap();
        assert_eq!(status.code, Code::Ok as i32, "{}", status.message);
        response.entries
    }

    pub(crate) async fn poll(&mut self, request: ReceiveMessageRequest) -> Polled {
        poll(&mut self.client, request).await
    }

    /// Polls beside the test, and goes on when the poll waits.
    pub(crate) async fn park(&mut self, request: ReceiveMessageRequest) -> JoinSet<Polled> {
        self.park_as(CLIENT, request).await
    }

    /// The same for a client of this name.
    pub(crate) async fn park_as(
        &mut self,
        name: &'static str,
        request: ReceiveMessageRequest,
    ) -> JoinSet<Polled> {
        let parked = self.parked_polls().await;
        let mut client = self.client.clone();
        let mut polls = JoinSet::new();
        let poll = polls.spawn(async move {
            poll_as(&mut client, name, waiting(request, Duration::from_secs(20))).await
        });
        // On a slow machine what it waits for may be there before it.
        while !poll.is_finished() && self.parked_polls().await <= parked {
            tokio::task::yield_now().await;
        }
        polls
    }

    async fn parked_polls(&mut self) -> u32 {
        self.admin.get_state(control::GetStateRequest {}).await.unwrap().into_inner().parked_polls
    }

    pub(crate) async fn ack(&mut self, group: &str, topic: &str, handles: &[&str]) -> AckMessageResponse {
        let entries = handles
            .iter()
            .map(|handle| AckMessageEntry {
                message_id: "id".to_owned(),
                receipt_handle: (*handle).to_owned(),
                lite_topic: None,
            })
            .collect();
        let request = AckMessageRequest { group: resource(group), topic: resource(topic), entries };
        self.client.ack_message(call(request)).await.unwrap().into_inner()
    }

    pub(crate) async fn ack_code(&mut self, group: &str, topic: &str, handle: &str) -> i32 {
        let response = self.ack(group, topic, &[handle]).await;
        assert_eq!(response.entries.len(), 1);
        response.status.unwrap().code
    }

    pub(crate) async fn change(
        &mut self,
        group: &str,
        topic: &str,
        handle: &str,
        away: Duration,
    ) -> ChangeInvisibleDurationResponse {
        let request = ChangeInvisibleDurationRequest {
            group: resource(group),
            topic: resource(topic),
            receipt_handle: handle.to_owned(),
            invisible_duration: Some(duration(away)),
            message_id: "id".to_owned(),
            lite_topic: None,
            suspend: None,
        };
        self.client.change_invisible_duration(call(request)).await.unwrap().into_inner()
    }
}

/// What the poll beside the test brought.
pub(crate) async fn brought(mut polls: JoinSet<Polled>) -> Polled {
    polls.join_next().await.unwrap().unwrap()
}

pub(crate) async fn poll(
    client: &mut MessagingServiceClient<Channel>,
    request: ReceiveMessageRequest,
) -> Polled {
    poll_as(client, CLIENT, request).await
}

pub(crate) async fn poll_as(
    client: &mut MessagingServiceClient<Channel>,
    name: &str,
    request: ReceiveMessageRequest,
) -> Polled {
    let mut stream = client.receive_message(call_as(name, request)).await.unwrap().into_inner();
    let mut polled = Polled::default();
    while let Some(response) = stream.message().await.unwrap() {
        match response.content.unwrap() {
            Content::Status(status) => {
                polled.status = status;
                polled.order.push('s');
            }
            Content::Message(message) => {
                polled.messages.push(message);
                polled.order.push('m');
            }
            Content::DeliveryTimestamp(_) => polled.order.push('t'),
        }
    }
    polled
}

/// A call as an official client makes it.
pub(crate) fn call<T>(message: T) -> Request<T> {
    call_as(CLIENT, message)
}

/// A call of the client of this name.
pub(crate) fn call_as<T>(name: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-mq-client-id", name.parse().unwrap());
    request.metadata_mut().insert("x-mq-language", "JAVA".parse().unwrap());
    request.metadata_mut().insert("x-mq-client-version", "5.2.0".parse().unwrap());
    request.metadata_mut().insert("x-mq-date-time", "20260101T000000Z".parse().unwrap());
    request.metadata_mut().insert("x-mq-request-id", "7f4c3f7e-5d0c-4a55-9d4b-1f7d6f0a3c11".parse().unwrap());
    request
}

pub(crate) fn resource(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.to_owned() })
}

pub(crate) fn duration(time: Duration) -> prost_types::Duration {
    time.try_into().unwrap()
}

pub(crate) fn message(topic: &str, id: &str) -> Message {
    Message {
        topic: resource(topic),
        user_properties: [("colour".to_owned(), "blue".to_owned())].into(),
        system_properties: Some(SystemProperties {
            message_id: id.to_owned(),
            body_encoding: Encoding::Identity as i32,
            ..SystemProperties::default()
        }),
        body: format!("body of {id}").into_bytes().into(),
    }
}

pub(crate) fn in_group(topic: &str, id: &str, message_group: &str) -> Message {
    let mut message = message(topic, id);
    message.system_properties.as_mut().unwrap().message_group = Some(message_group.to_owned());
    message
}

/// A poll of a simple consumer that does not wait.
pub(crate) fn ask(group: &str, topic: &str) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        group: resource(group),
        message_queue: Some(MessageQueue { topic: resource(topic), ..MessageQueue::default() }),
        filter_expression: None,
        batch_size: 32,
        invisible_duration: Some(duration(Duration::from_secs(30))),
        auto_renew: false,
        long_polling_timeout: Some(duration(Duration::ZERO)),
        attempt_id: None,
    }
}

/// The same poll, waiting.
pub(crate) fn waiting(request: ReceiveMessageRequest, time: Duration) -> ReceiveMessageRequest {
    ReceiveMessageRequest { long_polling_timeout: Some(duration(time)), ..request }
}

pub(crate) fn system(message: &Message) -> &SystemProperties {
    message.system_properties.as_ref().unwrap()
}

pub(crate) fn id(message: &Message) -> &str {
    &system(message).message_id
}

pub(crate) fn ids(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(id).collect()
}

pub(crate) fn handle(message: &Message) -> &str {
    system(message).receipt_handle.as_deref().unwrap()
}

pub(crate) fn attempt(message: &Message) -> i32 {
    system(message).delivery_attempt.unwrap()
}
