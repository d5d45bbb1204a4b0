//! A name server and two brokers: what a client asks of the wrong one reaches the right one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use proto::control::admin_client::AdminClient;
use proto::control::{
    self, GetGroupsRequest, GroupConfig, TopicConfig, UpsertGroupRequest, UpsertTopicRequest,
};
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::*;
use tonic::Request;
use tonic::transport::Channel;

type Client = MessagingServiceClient<Channel>;

struct Cluster {
    name_server: namesrv::Running,
    /// By name.
    brokers: HashMap<String, (broker::Running, Client)>,
    _folder: tempfile::TempDir,
}

async fn channel(address: std::net::SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

impl Cluster {
    async fn start(names: [&str; 2], topics: &[(&str, control::MessageType)]) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = namesrv::Config {
            client_listen: any,
            control_listen: any,
            http_listen: None,
            ..Default::default()
        };
        let name_server = namesrv::start(config).await.unwrap();
        let mut brokers = HashMap::new();
        for name in names {
            let mut config = broker::Config {
                client_listen: any,
                control_listen: any,
                http_listen: None,
                segment_bytes: 16 << 20,
                broker_name: name.to_owned(),
                name_servers: vec![name_server.control_addr.to_string()],
                ..broker::Config::new(folder.path().join(name))
            };
            // The disk of whoever runs the tests may be nearly full of other things.
            config.retention.refuse_percent = 100;
            let broker = broker::start(config).await.unwrap();
            broker.ready().await;
            let mut admin = AdminClient::new(channel(broker.control_addr).await);
            for (topic, type_) in topics {
                let topic = TopicConfig {
                    name: (*topic).to_owned(),
                    read_queues: 2,
                    write_queues: 2,
                    readable: true,
                    writable: true,
                    message_type: (*type_).into(),
                    owner: String::new(),
                };
                // Answers when the name server shows it.
                let request = UpsertTopicRequest { topic: Some(topic), only_if_unowned: false };
                admin.upsert_topic(request).await.unwrap();
            }
            let client = MessagingServiceClient::new(channel(broker.client_addr).await);
            brokers.insert(name.to_owned(), (broker, client));
        }
        Self { name_server, brokers, _folder: folder }
    }

    fn client(&self, name: &str) -> Client {
        self.brokers[name].1.clone()
    }

    async fn stop(self) {
        for (broker, _) in self.brokers.into_values() {
            broker.stop().await.unwrap();
        }
        self.name_server.stop().await.unwrap();
    }
}

fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-mq-client-id", "test@1@0@abc".parse().unwrap());
    request
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource { name: name.to_owned(), ..Resource::default() })
}

async fn send(client: &mut Client, topic: &str, properties: SystemProperties) -> SendResultEntry {
    let message = Message {
        topic: resource(topic),
        system_properties: Some(SystemProperties { message_id: "0A1B".to_owned(), ..properties }),
        body: "x".into(),
        ..Message::default()
    };
    let answer = client.send_message(call(SendMessageRequest { messages: vec![message] })).await;
    let mut answer = answer.unwrap().into_inner();
    assert_eq!(answer.status.as_ref().unwrap().code, Code::Ok as i32, "{answer:?}");
    answer.entries.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_the_wrong_broker_is_done_by_the_right_one() {
    let topics = [("later", control::MessageType::Delay), ("pay", control::MessageType::Transaction)];
    let cluster = Cluster::start(["a", "b"], &topics).await;
    let (mut here, mut elsewhere) = (cluster.client("a"), cluster.client("b"));

    let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
    let delay = SystemProperties {
        message_type: MessageType::Delay.into(),
        delivery_timestamp: Some(in_an_hour.into()),
        ..SystemProperties::default()
    };
    let recall_handle = send(&mut here, "later", delay).await.recall_handle;
    // At the wrong broker, then at the right one, which knows that it was done already.
    for client in [&mut elsewhere, &mut here] {
        let request = RecallMessageRequest { topic: resource("later"), recall_handle: recall_handle.clone() };
        let answer = client.recall_message(call(request)).await.unwrap().into_inner();
        assert_eq!((answer.status.unwrap().code, answer.message_id.as_str()), (Code::Ok as i32, "0A1B"));
    }

    let half = SystemProperties { message_type: MessageType::Transaction.into(), ..Default::default() };
    let transaction_id = send(&mut here, "pay", half).await.transaction_id;
    let request = EndTransactionRequest {
        topic: resource("pay"),
        message_id: "0A1B".to_owned(),
        transaction_id,
        resolution: TransactionResolution::Commit.into(),
        ..Default::default()
    };
    let answer = elsewhere.end_transaction(call(request.clone())).await.unwrap().into_inner();
    assert_eq!(answer.status.unwrap().code, Code::Ok as i32);
    // What came over another door goes no further: here it is nobody's.
    let mut passed_on = call(request);
    passed_on.metadata_mut().insert(access::hop::FORWARDED, "name-server".parse().unwrap());
    let answer = elsewhere.end_transaction(passed_on).await.unwrap().into_inner();
    let status = answer.status.unwrap();
    assert_eq!(status.code, Code::InvalidTransactionId as i32, "{status:?}");
    assert!(status.message.contains("broker a"), "{status:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_somebody_manages_is_changed_on_no_broker() {
    let cluster = Cluster::start(["a", "b"], &[]).await;
    let mut admins = HashMap::new();
    for (name, owner) in [("a", ""), ("b", "shop/billing/uid")] {
        let mut admin = AdminClient::new(channel(cluster.brokers[name].0.control_addr).await);
        let group = GroupConfig {
            name: "billing".to_owned(),
            consume_enabled: true,
            max_attempts: 3,
            owner: owner.to_owned(),
            ..GroupConfig::default()
        };
        admin.upsert_group(UpsertGroupRequest { group: Some(group), only_if_unowned: false }).await.unwrap();
        admins.insert(name, admin);
    }
    let server = cluster.name_server.control_addr.to_string();
    let update = |group: &str| {
        let arguments = ["gantry", "--server", &server, "group", "update", group, "--max-attempts", "9"];
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        tokio::task::spawn_blocking(move || cli::main(arguments))
    };
    assert_eq!(format!("{:?}", update("billing").await.unwrap()), format!("{:?}", ExitCode::FAILURE));
    assert_eq!(format!("{:?}", update("free").await.unwrap()), format!("{:?}", ExitCode::SUCCESS));
    for (name, mut admin) in admins {
        let request = GetGroupsRequest { names: vec!["billing".to_owned(), "free".to_owned()] };
        let found = admin.get_groups(request).await.unwrap().into_inner().groups;
        let attempts: Vec<u32> = found.iter().map(|group| group.max_attempts).collect();
        assert_eq!(attempts, [3, 9], "{name}");
    }
    cluster.stop().await;
}

/// So many messages of the topic are on the broker.
async fn stored(admin: &mut AdminClient<Channel>, topic: &str) -> u64 {
    let request = control::DescribeTopicRequest { name: topic.to_owned() };
    let queues = admin.describe_topic(request).await.unwrap().into_inner().queues;
    queues.iter().map(|queue| queue.max_offset).sum()
}

async fn close(admin: &mut AdminClient<Channel>, name: &str) {
    let request = control::GetTopicsRequest { names: vec![name.to_owned()] };
    let topic = admin.get_topics(request).await.unwrap().into_inner().topics.pop().unwrap();
    let topic = Some(TopicConfig { writable: false, ..topic });
    admin.upsert_topic(UpsertTopicRequest { topic, only_if_unowned: false }).await.unwrap();
}

/// Routes are up to 30 seconds old, and Go and Rust send to whatever is in them.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_no_messages_of_a_topic_passes_them_to_one_that_does() {
    let topics = [("orders", control::MessageType::Normal), ("pairs", control::MessageType::Fifo)];
    let cluster = Cluster::start(["a", "b"], &topics).await;
    let mut client = cluster.client("a");
    let mut a = AdminClient::new(channel(cluster.brokers["a"].0.control_addr).await);
    let mut b = AdminClient::new(channel(cluster.brokers["b"].0.control_addr).await);
    let normal = SystemProperties { message_type: MessageType::Normal.into(), ..Default::default() };
    let ordered = SystemProperties {
        message_type: MessageType::Fifo.into(),
        message_group: Some("one".to_owned()),
        ..SystemProperties::default()
    };
    for (topic, properties) in [("orders", normal.clone()), ("pairs", ordered)] {
        send(&mut client, topic, properties.clone()).await;
        close(&mut a, topic).await;
        for _ in 0..5 {
            send(&mut client, topic, properties.clone()).await;
        }
        assert_eq!((stored(&mut a, topic).await, stored(&mut b, topic).await), (1, 5), "{topic}");
    }

    close(&mut b, "orders").await;
    let message = Message {
        topic: resource("orders"),
        system_properties: Some(SystemProperties { message_id: "0A1B".to_owned(), ..normal }),
        body: "x".into(),
        ..Message::default()
    };
    let request = SendMessageRequest { messages: vec![message] };
    let answer = client.send_message(call(request.clone())).await.unwrap().into_inner();
    let status = answer.status.unwrap();
    assert_eq!(status.code, Code::Forbidden as i32);
    assert!(status.message.contains("no broker takes messages of topic orders"), "{status:?}");
    // What came over another door goes no further.
    let mut passed_on = call(request);
    passed_on.metadata_mut().insert(access::hop::FORWARDED, "name-server".parse().unwrap());
    let answer = client.send_message(passed_on).await.unwrap().into_inner();
    assert!(answer.status.unwrap().message.contains("topic orders is not writable"));
    cluster.stop().await;
}
