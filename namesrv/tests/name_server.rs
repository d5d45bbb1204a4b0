//! A name server over real sockets: a broker that registers by hand, and a client that asks.

#![expect(clippy::unwrap_used, reason = "a test")]

mod any_call;
mod stub;

use std::time::Duration;

use access::ports::Port;
use access::{ListenerName, RecallHandle, TransactionId, hop, route};
use namesrv::{Config, Running, config::ExpectedGroup};
use proto::control::broker_report::Report;
use proto::control::registry_client::RegistryClient;
use proto::control::{
    Address as ControlAddress, BrokerReport, ChangeReport, DescribeClusterRequest, FullReport,
    FullReportPart, GroupConfig, ListenerEndpoints, RegistryAck, SetLogLevelsRequest, TopicConfig,
};
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);

async fn started(change: impl FnOnce(&mut Config)) -> Running {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config =
        Config { client_listen: any, control_listen: any, http_listen: Some(any), ..Config::default() };
    change(&mut config);
    namesrv::start(config).await.unwrap()
}

/// A broker as far as a name server can tell.
struct Broker {
    reports: mpsc::Sender<BrokerReport>,
    acks: Streaming<RegistryAck>,
    sequence: u64,
}

impl Broker {
    async fn register(server: &Running, full: FullReport) -> Self {
        let mut broker = Self::connect(server).await;
        broker.report(Report::Full(full)).await.unwrap();
        broker
    }

    async fn connect(server: &Running) -> Self {
        let mut client = RegistryClient::connect(format!("http://{}", server.control_addr)).await.unwrap();
        let (reports, outbound) = mpsc::channel(4);
        let acks = client.register(ReceiverStream::new(outbound)).await.unwrap().into_inner();
        Self { reports, acks, sequence: 0 }
    }

    async fn report(&mut self, report: Report) -> Result<RegistryAck, tonic::Status> {
        self.send(report).await;
        let ack = tokio::time::timeout(PATIENCE, self.acks.message()).await.unwrap()?.unwrap();
        assert_eq!(ack.sequence, self.sequence);
        Ok(ack)
    }

    async fn send(&mut self, report: Report) {
        self.sequence += 1;
        self.reports.send(BrokerReport { sequence: self.sequence, report: Some(report) }).await.unwrap();
    }

    async fn end(&mut self) -> Result<Option<RegistryAck>, tonic::Status> {
        tokio::time::timeout(PATIENCE, self.acks.message()).await.unwrap()
    }
}

fn full(broker_name: &str, topics: &[&str]) -> FullReport {
    FullReport {
        cluster_name: "c".to_owned(),
        broker_name: broker_name.to_owned(),
        clients: Some(route::endpoints("127.0.0.1", 18081)),
        topics: topics.iter().map(|name| topic(name)).collect(),
        groups: vec![GroupConfig { name: "in-order".to_owned(), ordered: true, ..GroupConfig::default() }],
        heartbeat_interval_ms: 60_000,
        ..FullReport::default()
    }
}

fn topic(name: &str) -> TopicConfig {
    TopicConfig {
        name: name.to_owned(),
        read_queues: 2,
        write_queues: 2,
        readable: true,
        writable: true,
        ..TopicConfig::default()
    }
}

type Client = MessagingServiceClient<Channel>;

async fn client(server: &Running) -> Client {
    Client::connect(format!("http://{}", server.client_addr)).await.unwrap()
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-mq-client-id", "tester@1".parse().unwrap());
    request.metadata_mut().insert("x-mq-language", "JAVA".parse().unwrap());
    request
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.to_owned() })
}

async fn query(client: &mut Client, topic: &str) -> QueryRouteResponse {
    let query = QueryRouteRequest { topic: resource(topic), endpoints: None };
    client.query_route(request(query)).await.unwrap().into_inner()
}

/// Asks until the route is as wanted; the state is on its way by events that this side cannot see.
async fn query_until(client: &mut Client, topic: &str, code: Code) {
    let ask = async {
        while query(client, topic).await.status.unwrap().code() != code {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ask).await.unwrap();
}

fn code(status: Option<Status>) -> Code {
    status.expect("every answer has a status").code()
}

#[tokio::test]
async fn a_full_report_in_parts_is_shown_whole_or_not_at_all() {
    let server = started(|_| {}).await;
    let names: Vec<String> = (0..1000).map(|n| format!("topic-{n}")).collect();
    let mut broker = Broker::connect(&server).await;
    let mut parts = names.chunks(300);
    let part = |names: &[String]| names.iter().map(|name| topic(name)).collect::<Vec<_>>();
    let head = FullReport { topics: part(parts.next().unwrap()), more: true, ..full("a", &[]) };
    broker.send(Report::Full(head)).await;
    broker.send(Report::Heartbeat(proto::control::Heartbeat {})).await;
    let parts: Vec<_> = parts.collect();
    for (index, names) in parts.iter().enumerate() {
        let describe = async || {
            let mut client =
                RegistryClient::connect(format!("http://{}", server.control_addr)).await.unwrap();
            client.describe_cluster(DescribeClusterRequest {}).await.unwrap().into_inner().brokers
        };
        assert_eq!(describe().await, [], "before the last part nothing is shown");
        let more = index + 1 < parts.len();
        let report = Report::Part(FullReportPart { topics: part(names), groups: Vec::new(), more });
        if more {
            broker.send(report).await;
        } else {
            broker.report(report).await.unwrap();
            assert_eq!(describe().await[0].topics, 1000);
        }
    }
    broker.send(Report::Part(FullReportPart::default())).await;
    let refused = broker.end().await.unwrap_err();
    assert!(refused.message().contains("begin with"), "{refused}");
}

#[tokio::test]
async fn a_client_is_told_what_a_broker_registered_until_it_leaves() {
    let server = started(|_| {}).await;
    let mut client = client(&server).await;
    let unknown = query(&mut client, "orders").await;
    let status = unknown.status.unwrap();
    assert_eq!(status.code(), Code::TopicNotFound);
    assert!(status.message.starts_with("TOPIC_NOT_FOUND: ") && status.message.contains("orders"));

    let mut broker = Broker::register(&server, full("a", &["orders"])).await;
    let route = query(&mut client, "orders").await;
    assert_eq!(code(route.status), Code::Ok);
    assert_eq!(route.message_queues.iter().map(|queue| queue.id).collect::<Vec<_>>(), [0, 1]);
    let queue = &route.message_queues[0];
    assert_eq!(queue.topic, resource("orders"));
    assert_eq!(queue.permission(), Permission::ReadWrite);
    assert_eq!(queue.accept_message_types, [MessageType::Normal as i32]);
    let endpoints = queue.broker.as_ref().unwrap().endpoints.as_ref().unwrap();
    assert_eq!(endpoints.scheme(), AddressScheme::IPv4);
    assert_eq!(endpoints.addresses[0].port, 18081);

    // What is acknowledged is shown.
    let change = ChangeReport { topics: vec![topic("bills")], ..ChangeReport::default() };
    broker.report(Report::Change(change)).await.unwrap();
    assert_eq!(code(query(&mut client, "bills").await.status), Code::Ok);
    let change = ChangeReport { removed_topics: vec!["bills".to_owned()], ..ChangeReport::default() };
    broker.report(Report::Change(change)).await.unwrap();
    assert_eq!(code(query(&mut client, "bills").await.status), Code::TopicNotFound);

    drop(broker);
    query_until(&mut client, "orders", Code::TopicNotFound).await;
    drop(client);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn each_listener_leads_to_the_addresses_of_its_name() {
    let any = "127.0.0.1:0".parse().unwrap();
    let external = ListenerName::parse("external").unwrap();
    let server = started(|config| {
        config.listeners = vec![Port { name: external.clone(), listen: any, tls: None }];
    })
    .await;
    let mut broker = Broker::connect(&server).await;
    let at = |host: &str| Some(route::endpoints(host, 30_081));
    let told = |host: &str| FullReport {
        listeners: vec![ListenerEndpoints { name: "external".to_owned(), clients: at(host) }],
        ..full("a", &["orders"])
    };
    broker.report(Report::Full(told("192.0.2.1"))).await.unwrap();

    let connect = async |addr| Client::connect(format!("http://{addr}")).await.unwrap();
    let mut outside = connect(server.listeners[&external]).await;
    let mut inside = connect(server.client_addr).await;
    // A broker passes on what it is asked over the control plane.
    let mut passed_on = connect(server.control_addr).await;
    let host = async |client: &mut Client, listener: Option<&str>| {
        let mut query = request(QueryRouteRequest { topic: resource("orders"), endpoints: None });
        if let Some(listener) = listener {
            query.metadata_mut().insert(hop::LISTENER, listener.parse().unwrap());
        }
        let answer = client.query_route(query).await.unwrap().into_inner();
        let broker = answer.message_queues.into_iter().next().and_then(|queue| queue.broker);
        broker.map(|broker| broker.endpoints.unwrap().addresses[0].host.clone())
    };
    let (external_host, internal_host) = (Some("192.0.2.1".to_owned()), Some("127.0.0.1".to_owned()));
    assert_eq!(host(&mut outside, None).await, external_host);
    assert_eq!(host(&mut inside, None).await, internal_host);
    assert_eq!(host(&mut inside, Some("external")).await, internal_host, "a client cannot choose");
    assert_eq!(host(&mut passed_on, None).await, internal_host);
    assert_eq!(host(&mut passed_on, Some("external")).await, external_host);
    assert_eq!(host(&mut passed_on, Some("partners")).await, None, "the broker has no address there");
    // Addresses that change are told by a full report on the same stream.
    broker.report(Report::Full(told("192.0.2.7"))).await.unwrap();
    assert_eq!(host(&mut outside, None).await, Some("192.0.2.7".to_owned()));
    server.stop().await.unwrap();
}

#[tokio::test]
async fn assignments_are_one_a_broker_or_one_a_queue_in_order() {
    let server = started(|_| {}).await;
    let _a = Broker::register(&server, full("a", &["orders"])).await;
    let _b = Broker::register(&server, full("b", &["orders"])).await;
    let mut client = client(&server).await;
    let mut ask = async |topic: &str, group: &str| {
        let query =
            QueryAssignmentRequest { topic: resource(topic), group: resource(group), endpoints: None };
        client.query_assignment(request(query)).await.unwrap().into_inner()
    };
    let ids = |answer: &QueryAssignmentResponse| {
        let queues = answer.assignments.iter().map(|assignment| assignment.message_queue.as_ref().unwrap());
        queues.map(|queue| (queue.broker.as_ref().unwrap().name.clone(), queue.id)).collect::<Vec<_>>()
    };
    let expected =
        |list: &[(&str, i32)]| list.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect::<Vec<_>>();
    assert_eq!(ids(&ask("orders", "billing").await), expected(&[("a", -1), ("b", -1)]));
    assert_eq!(ids(&ask("orders", "in-order").await), expected(&[("a", 0), ("a", 1), ("b", 0), ("b", 1)]));
    assert_eq!(code(ask("nothing", "billing").await.status), Code::TopicNotFound);
    assert_eq!(code(ask("orders", "").await.status), Code::IllegalConsumerGroup);
    assert_eq!(code(ask("or ders", "billing").await.status), Code::IllegalTopic);
}

#[tokio::test]
async fn settings_are_answered_and_the_stream_ends_at_a_stop() {
    let server = started(|_| {}).await;
    let _broker = Broker::register(&server, full("a", &["orders"])).await;
    let mut client = client(&server).await;
    let (commands, outbound) = mpsc::channel(4);
    let subscription = Subscription { group: resource("in-order"), ..Subscription::default() };
    let settings = Settings {
        client_type: Some(ClientType::PushConsumer as i32),
        pub_sub: Some(settings::PubSub::Subscription(subscription)),
        ..Settings::default()
    };
    let command = telemetry_command::Command::Settings(settings);
    commands.send(TelemetryCommand { status: None, command: Some(command) }).await.unwrap();
    let mut answers = client.telemetry(request(ReceiverStream::new(outbound))).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(code(answer.status), Code::Ok);
    let Some(telemetry_command::Command::Settings(settings)) = answer.command else { panic!("no settings") };
    let Some(settings::PubSub::Subscription(subscription)) = settings.pub_sub else {
        panic!("no subscription")
    };
    assert_eq!(subscription.fifo, Some(true), "what the broker registered of the group");

    server.stop().await.unwrap();
    assert_eq!(answers.message().await.unwrap(), None, "ended, not broken");
}

#[tokio::test]
async fn settings_with_a_wrong_filter_are_refused_as_a_broker_refuses_them() {
    let server = started(|_| {}).await;
    let mut client = client(&server).await;
    for (r#type, expression, says) in [
        (FilterType::Sql, "price > 5", None),
        (FilterType::Tag, "a || b", None),
        (FilterType::Sql, "price >", Some("ILLEGAL_FILTER_EXPRESSION: column 8: ")),
        (
            FilterType::Tag,
            "a ||",
            Some("ILLEGAL_FILTER_EXPRESSION: the expression \"a ||\" has an empty tag"),
        ),
    ] {
        let entry = SubscriptionEntry {
            topic: resource("orders"),
            expression: Some(FilterExpression { r#type: r#type as i32, expression: expression.to_owned() }),
        };
        let subscription = Subscription {
            group: resource("billing"),
            subscriptions: vec![entry],
            ..Subscription::default()
        };
        let settings =
            Settings { pub_sub: Some(settings::PubSub::Subscription(subscription)), ..Settings::default() };
        let command = telemetry_command::Command::Settings(settings);
        let (commands, outbound) = mpsc::channel(1);
        commands.send(TelemetryCommand { status: None, command: Some(command) }).await.unwrap();
        let mut answers =
            client.telemetry(request(ReceiverStream::new(outbound))).await.unwrap().into_inner();
        match (answers.message().await, says) {
            (Ok(answer), None) => assert_eq!(code(answer.unwrap().status), Code::Ok, "{expression}"),
            (Err(error), Some(says)) => {
                assert_eq!(error.code(), tonic::Code::InvalidArgument);
                assert!(error.message().starts_with(says), "{error}");
            }
            (answer, _) => panic!("{expression}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn whoever_asks_for_messages_is_sent_to_a_broker() {
    let server = started(|_| {}).await;
    let mut client = client(&server).await;
    let send = client.send_message(request(SendMessageRequest::default())).await.unwrap().into_inner();
    assert_eq!(code(send.status), Code::NotImplemented);
    let recall = client.recall_message(request(RecallMessageRequest::default())).await.unwrap().into_inner();
    assert_eq!(code(recall.status), Code::InternalServerError);
    let handle = RecallHandle {
        due_ms: 1,
        id: 1,
        topic: "later".to_owned(),
        broker: "broker-x".to_owned(),
        message_id: "a".to_owned(),
    };
    let nobody_s = RecallMessageRequest { topic: resource("later"), recall_handle: handle.to_text() };
    let nobody_s = client.recall_message(request(nobody_s)).await.unwrap().into_inner().status.unwrap();
    assert!(nobody_s.message.contains("broker-x"), "{}", nobody_s.message);
    let entry = AckMessageEntry { receipt_handle: "handle".to_owned(), ..AckMessageEntry::default() };
    let ack = AckMessageRequest { entries: vec![entry], ..AckMessageRequest::default() };
    let ack = client.ack_message(request(ack)).await.unwrap().into_inner();
    assert_eq!((ack.entries.len(), ack.entries[0].receipt_handle.as_str()), (1, "handle"));

    let no_id = client.end_transaction(request(EndTransactionRequest::default())).await.unwrap().into_inner();
    assert_eq!(code(no_id.status), Code::InvalidTransactionId);
    let id = TransactionId { broker: "broker-x".to_owned(), offset: 0, message_id: "a".to_owned() };
    let nobody_s = EndTransactionRequest { transaction_id: id.to_text(), ..EndTransactionRequest::default() };
    let nobody_s = client.end_transaction(request(nobody_s)).await.unwrap().into_inner().status.unwrap();
    assert_eq!(nobody_s.code(), Code::InternalServerError);
    assert!(nobody_s.message.contains("broker-x"), "{}", nobody_s.message);

    use receive_message_response::Content;
    let mut received =
        client.receive_message(request(ReceiveMessageRequest::default())).await.unwrap().into_inner();
    let first = received.message().await.unwrap().unwrap().content.unwrap();
    assert!(matches!(first, Content::Status(status) if status.code() == Code::NotImplemented));
    let last = received.message().await.unwrap().unwrap().content.unwrap();
    assert!(matches!(last, Content::DeliveryTimestamp(_)));
    assert_eq!(received.message().await.unwrap(), None);
}

#[tokio::test]
async fn what_a_client_holds_of_lite_topics_is_told_to_every_broker_with_their_parent() {
    let server = started(|_| {}).await;
    let mut client = client(&server).await;
    let sync = |topic: &str| SyncLiteSubscriptionRequest {
        topic: resource(topic),
        group: resource("g"),
        lite_topic_set: vec!["a".to_owned()],
        ..SyncLiteSubscriptionRequest::default()
    };
    let answer = client.sync_lite_subscription(request(sync("sessions"))).await.unwrap().into_inner();
    assert_eq!(code(answer.status), Code::TopicNotFound);
    let (a, b) = (stub::Broker::start(Code::Ok).await, stub::Broker::start(Code::Ok).await);
    let elsewhere = stub::Broker::start(Code::Ok).await;
    let registered = |name: &str, topic: &str, stub: &stub::Broker| FullReport {
        control: Some(ControlAddress { host: "127.0.0.1".to_owned(), port: u32::from(stub.port) }),
        ..full(name, &[topic])
    };
    let _a = Broker::register(&server, registered("a", "sessions", &a)).await;
    let _b = Broker::register(&server, registered("b", "sessions", &b)).await;
    let _elsewhere = Broker::register(&server, registered("c", "orders", &elsewhere)).await;
    let answer = client.sync_lite_subscription(request(sync("sessions"))).await.unwrap().into_inner();
    assert_eq!(code(answer.status), Code::Ok);
    for stub in [&a, &b] {
        assert_eq!(stub.heard(), [("tester@1".to_owned(), sync("sessions"))]);
    }
    assert_eq!(elsewhere.heard(), []);

    let refusing = stub::Broker::start(Code::LiteSubscriptionQuotaExceeded).await;
    let _refusing = Broker::register(&server, registered("d", "sessions", &refusing)).await;
    let answer = client.sync_lite_subscription(request(sync("sessions"))).await.unwrap().into_inner();
    assert_eq!(code(answer.status), Code::LiteSubscriptionQuotaExceeded, "one refusal is the answer");
}

#[tokio::test]
async fn a_heartbeat_that_says_nothing_needs_no_name_and_all_else_does() {
    let server = started(|_| {}).await;
    let mut client = client(&server).await;
    let beat = client.heartbeat(HeartbeatRequest::default()).await.unwrap().into_inner();
    assert_eq!(code(beat.status), Code::Ok);
    let beat = HeartbeatRequest { client_type: ClientType::Producer as i32, group: None };
    let nameless = client.heartbeat(beat).await.unwrap().into_inner();
    assert_eq!(code(nameless.status), Code::ClientIdRequired);
    let strange = client.heartbeat(request(HeartbeatRequest { client_type: 99, group: None })).await;
    assert_eq!(code(strange.unwrap().into_inner().status), Code::UnrecognizedClientType);
    let goodbye = NotifyClientTerminationRequest { group: resource("") };
    let nameless = client.notify_client_termination(goodbye).await.unwrap().into_inner();
    assert_eq!(code(nameless.status), Code::ClientIdRequired);
    let goodbye = NotifyClientTerminationRequest { group: resource("") };
    let goodbye = client.notify_client_termination(request(goodbye)).await.unwrap().into_inner();
    assert_eq!(code(goodbye.status), Code::Ok);
    let query = QueryRouteRequest { topic: resource("orders"), endpoints: None };
    let route = client.query_route(query).await.unwrap().into_inner();
    assert_eq!(code(route.status), Code::ClientIdRequired);
    let (_commands, outbound) = mpsc::channel(1);
    let error = client.telemetry(ReceiverStream::new(outbound)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn bad_reports_end_their_stream_with_the_reason_and_change_nothing() {
    let server = started(|_| {}).await;
    let mut client = client(&server).await;
    let check = async |report: Option<Report>, code: tonic::Code| {
        let mut broker = Broker::connect(&server).await;
        broker.reports.send(BrokerReport { sequence: 1, report }).await.unwrap();
        let error = broker.end().await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(!error.message().is_empty());
    };
    check(None, tonic::Code::InvalidArgument).await;
    check(Some(Report::Change(ChangeReport::default())), tonic::Code::FailedPrecondition).await;
    check(Some(Report::Heartbeat(proto::control::Heartbeat {})), tonic::Code::FailedPrecondition).await;
    check(Some(Report::Full(FullReport::default())), tonic::Code::InvalidArgument).await;
    let nowhere = FullReport { clients: None, ..full("a", &["orders"]) };
    check(Some(Report::Full(nowhere)), tonic::Code::InvalidArgument).await;

    let _reigning = Broker::register(&server, FullReport { epoch: 2, ..full("a", &["orders"]) }).await;
    let past = FullReport { epoch: 1, ..full("a", &["past"]) };
    check(Some(Report::Full(past)), tonic::Code::FailedPrecondition).await;
    assert_eq!(code(query(&mut client, "orders").await.status), Code::Ok);
    assert_eq!(code(query(&mut client, "past").await.status), Code::TopicNotFound);
}

#[tokio::test]
async fn a_higher_epoch_ends_the_stream_of_the_lower() {
    let server = started(|_| {}).await;
    let mut client = client(&server).await;
    let mut old = Broker::register(&server, full("a", &["old"])).await;
    let _new = Broker::register(&server, FullReport { epoch: 1, ..full("a", &["new"]) }).await;
    assert_eq!(old.end().await.unwrap_err().code(), tonic::Code::Aborted);
    assert_eq!(code(query(&mut client, "old").await.status), Code::TopicNotFound);
    assert_eq!(code(query(&mut client, "new").await.status), Code::Ok);
}

#[tokio::test]
async fn a_silent_broker_is_taken_off_and_its_stream_ended() {
    let server = started(|_| {}).await;
    let mut client = client(&server).await;
    let report = FullReport { heartbeat_interval_ms: 100, ..full("a", &["orders"]) };
    let mut silent = Broker::register(&server, report).await;
    assert_eq!(silent.end().await.unwrap_err().code(), tonic::Code::Aborted);
    assert_eq!(code(query(&mut client, "orders").await.status), Code::TopicNotFound);
}

async fn page(server: &Running, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.http_addr.unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn it_is_ready_when_every_expected_group_has_registered() {
    let expected = |name: &str| ExpectedGroup { cluster: "c".to_owned(), broker_name: name.to_owned() };
    let server = started(|config| {
        config.expected_groups = vec![expected("a"), expected("b")];
        config.warm_up_timeout = Duration::from_secs(3600);
    })
    .await;
    let _a = Broker::register(&server, full("a", &["orders"])).await;
    let waiting = page(&server, "/readyz").await;
    assert!(
        waiting.starts_with("HTTP/1.1 503") && waiting.contains("c/b") && !waiting.contains("c/a"),
        "{waiting}"
    );
    let mut registry = RegistryClient::connect(format!("http://{}", server.control_addr)).await.unwrap();
    let seen = registry.describe_cluster(DescribeClusterRequest {}).await.unwrap().into_inner();
    assert_eq!((seen.warm, seen.missing_groups, seen.brokers.len()), (false, vec!["c/b".to_owned()], 1));
    assert_eq!(seen.brokers[0].topics, 1);

    let b = Broker::register(&server, full("b", &[])).await;
    tokio::time::timeout(PATIENCE, server.ready()).await.unwrap();
    assert!(page(&server, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(page(&server, "/metrics").await.contains("gantry_namesrv_brokers 2"));

    // A broker that leaves later does not make the name server unready: others still need it.
    drop(b);
    let left = async {
        while registry.describe_cluster(DescribeClusterRequest {}).await.unwrap().into_inner().brokers.len()
            > 1
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.unwrap();
    assert!(page(&server, "/readyz").await.starts_with("HTTP/1.1 200"));
    let levels = SetLogLevelsRequest { levels: [("namesrv".to_owned(), "debug".to_owned())].into() };
    assert_eq!(registry.set_log_levels(levels).await.unwrap_err().code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn it_is_ready_without_them_when_the_warm_up_time_is_over() {
    let server = started(|config| {
        config.expected_groups = vec![ExpectedGroup { cluster: "c".to_owned(), broker_name: "a".to_owned() }];
        config.warm_up_timeout = Duration::from_millis(1);
    })
    .await;
    tokio::time::timeout(PATIENCE, server.ready()).await.unwrap();
}

#[tokio::test]
async fn a_call_that_nobody_knows_is_unimplemented_at_every_port() {
    let server = started(|_| {}).await;
    for addr in [server.client_addr, server.control_addr] {
        let channel = Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
        for path in ["/apache.rocketmq.v2.MessagingService/Nothing", "/nothing.Service/QueryRoute", "/"] {
            let mut grpc = tonic::client::Grpc::new(channel.clone());
            grpc.ready().await.unwrap();
            let query = request(QueryRouteRequest { topic: resource("orders"), endpoints: None });
            let codec = proto::codec::SmallBuffers::<QueryRouteRequest, QueryRouteResponse>::default();
            let answer = grpc.unary(query, path.parse().unwrap(), codec).await;
            assert_eq!(answer.unwrap_err().code(), tonic::Code::Unimplemented, "{path} at {addr}");
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_stopping_server_answers_to_the_last_and_ends_the_streams_of_brokers() {
    let server = started(|_| {}).await;
    let mut broker = Broker::register(&server, full("a", &["orders"])).await;
    let (addr, http_addr) = (server.client_addr, server.http_addr.unwrap());
    server.stop().await.unwrap();
    assert_eq!(broker.end().await.unwrap(), None);
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    assert!(tokio::net::TcpStream::connect(http_addr).await.is_err());
}
