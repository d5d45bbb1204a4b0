//! Topics that are on some of the broker groups, and move.

use std::sync::Arc;

use crds::Topic;
use futures::future::join_all;
use operator::{control::ControlPlane, metrics::Metrics};
use proto::{
    control::{DescribeGroupRequest, TopicConfig},
    v2::{
        AckMessageEntry, AckMessageRequest, Code, Encoding, Message, MessageQueue, ReceiveMessageRequest,
        Resource, SendMessageRequest, SystemProperties, messaging_service_client::MessagingServiceClient,
        receive_message_response::Content,
    },
};
use serde_json::{Value, json};
use tonic::{Request, transport::Channel};

use crate::declared::{Broker, Cluster};

fn orders(cluster: &Cluster, placement: Value) -> String {
    let spec = json!({"nameServerRef": {"name": "main"}, "queues": 1, "placement": placement});
    cluster.put("topics", "Topic", "orders", spec)
}

fn groups(cluster: &Cluster, path: &str) -> Vec<String> {
    let groups = cluster.server.objects()[path]["status"]["groups"].clone();
    let text =
        |group: &Value| format!("{} {}", group["name"].as_str().unwrap(), group["state"].as_str().unwrap());
    groups.as_array().map(|groups| groups.iter().map(text).collect()).unwrap_or_default()
}

/// A producer and consumer of a broker.
struct Clients(MessagingServiceClient<Channel>);

fn named(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.to_owned() })
}

fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    for (key, value) in [("x-mq-client-id", "test"), ("x-mq-language", "JAVA")] {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    request
}

impl Clients {
    async fn of(broker: &Broker) -> Self {
        let address = format!("http://{}", broker.running.client_addr);
        Self(MessagingServiceClient::connect(address).await.unwrap())
    }

    async fn send(&mut self) -> Code {
        let system = SystemProperties {
            message_id: "one".to_owned(),
            body_encoding: Encoding::Identity as i32,
            ..SystemProperties::default()
        };
        let message = Message {
            topic: named("orders"),
            system_properties: Some(system),
            body: b"one".to_vec().into(),
            ..Message::default()
        };
        let request = SendMessageRequest { messages: vec![message] };
        let answer = self.0.send_message(call(request)).await.unwrap().into_inner();
        answer.status.unwrap().code()
    }

    async fn consume(&mut self) {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let request = ReceiveMessageRequest {
            group: named("readers"),
            message_queue: Some(MessageQueue { topic: named("orders"), ..MessageQueue::default() }),
            batch_size: 1,
            invisible_duration: seconds(30),
            long_polling_timeout: seconds(0),
            ..ReceiveMessageRequest::default()
        };
        let mut stream = self.0.receive_message(call(request)).await.unwrap().into_inner();
        let mut entries = Vec::new();
        while let Some(answer) = stream.message().await.unwrap() {
            if let Some(Content::Message(message)) = answer.content {
                let receipt_handle = message.system_properties.unwrap().receipt_handle.unwrap();
                entries.push(AckMessageEntry { receipt_handle, ..AckMessageEntry::default() });
            }
        }
        assert_eq!(entries.len(), 1);
        let request = AckMessageRequest { group: named("readers"), topic: named("orders"), entries };
        let answer = self.0.ack_message(call(request)).await.unwrap().into_inner();
        assert_eq!(answer.status.unwrap().code(), Code::Ok);
    }
}

#[tokio::test]
pub(crate) async fn a_topic_that_moves_is_made_there_first_and_leaves_when_it_is_consumed() {
    let (cluster, mut a, mut b) = (Cluster::new(), Broker::start().await, Broker::start().await);
    cluster.add_group("a", Some(&a));
    cluster.add_group("b", None);
    let path = orders(&cluster, json!({"names": ["a"]}));
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(groups(&cluster, &path), ["a Applied"]);
    assert_eq!(cluster.condition(&path, "Ready").0, "True Applied");
    let mut clients = Clients::of(&a).await;
    assert_eq!(clients.send().await, Code::Ok);

    cluster.change(&path, "placement", json!({"names": ["b"]}));
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(groups(&cluster, &path), ["a Draining", "b Unavailable"]);
    assert_eq!(clients.send().await, Code::Ok, "it is nowhere else yet");
    clients.consume().await;

    cluster.add_group("b", Some(&b));
    cluster.reconcile::<Topic>(&path).await;
    assert!(b.topic("orders").await.unwrap().writable);
    assert!(!a.topic("orders").await.unwrap().writable);
    assert_ne!(clients.send().await, Code::Ok);
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(groups(&cluster, &path), ["a Draining", "b Applied"]);
    let (reconciling, message) = cluster.condition(&path, "Reconciling");
    assert_eq!(reconciling, "True Draining");
    assert!(message.contains("a: it leaves this group when some messages are consumed here"), "{message}");
    assert!(a.topic("orders").await.is_some());

    clients.consume().await;
    let group = DescribeGroupRequest { name: "readers".to_owned() };
    a.admin.describe_group(group).await.unwrap();
    cluster.reconcile::<Topic>(&path).await;
    assert!(a.topic("orders").await.is_none());
    assert_eq!(groups(&cluster, &path), ["b Applied"]);
    assert_eq!(cluster.condition(&path, "Reconciling").0, "False UpToDate");
    assert_eq!(cluster.reconcile::<Topic>(&path).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_topic_that_comes_back_to_a_group_before_it_left_is_no_drift() {
    let (cluster, mut a, b) = (Cluster::new(), Broker::start().await, Broker::start().await);
    cluster.add_group("a", Some(&a));
    cluster.add_group("b", Some(&b));
    let label = |group: &str, labels: Value| {
        let group = format!("/apis/mq.gantry.dev/v1alpha1/namespaces/shop/brokergroups/{group}");
        cluster.server.objects().get_mut(&group).unwrap()["metadata"]["labels"] = labels;
    };
    label("a", json!({"tier": "fast"}));
    label("b", json!({"tier": "fast"}));
    let path = orders(&cluster, json!({"selector": {"matchLabels": {"tier": "fast"}}}));
    cluster.server.objects().get_mut(&path).unwrap()["spec"]["driftPolicy"] = json!("Report");
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(Clients::of(&a).await.send().await, Code::Ok);

    label("a", json!({}));
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(groups(&cluster, &path), ["a Draining", "b Applied"]);
    assert!(!a.topic("orders").await.unwrap().writable);
    label("a", json!({"tier": "fast"}));
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(groups(&cluster, &path), ["a Applied", "b Applied"]);
    assert_eq!(cluster.condition(&path, "Drifted").0, "False AsDeclared");
    assert!(a.topic("orders").await.unwrap().writable);
}

#[tokio::test]
async fn a_broker_that_is_away_takes_nothing_from_a_topic_that_leaves_it() {
    let (cluster, a, b) = (Cluster::new(), Broker::start().await, Broker::start().await);
    cluster.add_group("a", Some(&a));
    cluster.add_group("b", Some(&b));
    let path = orders(&cluster, json!({"names": ["a", "b"]}));
    cluster.reconcile::<Topic>(&path).await;
    cluster.take_broker("a");
    cluster.change(&path, "placement", json!({"names": ["b"]}));
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(groups(&cluster, &path), ["a Unavailable", "b Applied"]);
    assert_eq!(cluster.condition(&path, "Ready").0, "True Applied");
    assert_eq!(cluster.server.objects()[&path]["status"]["appliedGroups"], "1/1");
    let (reconciling, message) = cluster.condition(&path, "Reconciling");
    assert_eq!(reconciling, "True Draining");
    assert!(
        message.contains("a: it leaves this group when the broker can be asked: pod a-broker-0"),
        "{message}"
    );
}

#[tokio::test]
pub(crate) async fn a_topic_that_goes_waits_for_no_broker_that_cannot_have_it() {
    let (cluster, a) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&a));
    for away in ["never-served", "elsewhere"] {
        cluster.add_group(away, None);
    }
    let never_served = "/apis/mq.gantry.dev/v1alpha1/namespaces/shop/brokergroups/never-served";
    cluster.server.objects().get_mut(never_served).unwrap()["status"] = json!({});
    let path = orders(&cluster, json!({"names": ["a", "never-served"]}));
    cluster.change(&path, "deletionPolicy", json!("Delete"));
    cluster.reconcile::<Topic>(&path).await;
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(groups(&cluster, &path), ["a Applied", "never-served Unavailable"]);

    let finalizers = |cluster: &Cluster| cluster.server.objects()[&path]["metadata"]["finalizers"].clone();
    cluster.delete(&path);
    cluster.take_broker("a");
    cluster.reconcile::<Topic>(&path).await;
    assert_ne!(finalizers(&cluster), json!([]), "it is on a");
    let (_, message) = cluster.condition(&path, "Ready");
    assert!(!message.contains("never-served") && !message.contains("elsewhere"), "{message}");
    cluster.add_group("a", Some(&a));
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(finalizers(&cluster), json!([]));
}

#[tokio::test]
async fn many_topics_that_leave_a_broker_ask_for_its_consumers_together() {
    let (metrics, broker) = (Arc::new(Metrics::default()), Broker::start().await);
    let control = ControlPlane::new(Arc::clone(&metrics));
    let address = broker.running.control_addr.to_string();
    let all = join_all((0..20).map(|_| control.groups(&address))).await;
    assert!(all.into_iter().all(|groups| groups.is_ok()));
    // One asks at once; the others together, when that is answered.
    let twice = r#"gantry_operator_control_calls_total{kind="ListGroups",result="ok"} 2"#;
    assert!(metrics.text().lines().any(|line| line == twice), "{}", metrics.text());
}

#[tokio::test]
async fn groups_are_chosen_by_labels_and_nothing_is_done_where_none_is() {
    let (cluster, mut a) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&a));
    let path = orders(&cluster, json!({"selector": {"matchLabels": {"tier": "fast"}}}));
    cluster.reconcile::<Topic>(&path).await;
    let (ready, message) = cluster.condition(&path, "Ready");
    assert_eq!(ready, "False NoGroupChosen");
    assert!(message.contains("none of the broker groups a"), "{message}");
    assert!(a.topic("orders").await.is_none());

    let group = "/apis/mq.gantry.dev/v1alpha1/namespaces/shop/brokergroups/a";
    cluster.server.objects().get_mut(group).unwrap()["metadata"]["labels"] = json!({"tier": "fast"});
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(groups(&cluster, &path), ["a Applied"]);
}

#[tokio::test]
async fn a_topic_of_somebody_else_on_another_group_is_left_alone() {
    let (cluster, a, mut b) = (Cluster::new(), Broker::start().await, Broker::start().await);
    cluster.add_group("a", Some(&a));
    cluster.add_group("b", Some(&b));
    let theirs = TopicConfig {
        name: "orders".to_owned(),
        read_queues: 3,
        write_queues: 3,
        writable: true,
        ..TopicConfig::default()
    };
    b.make(theirs).await;
    let path = orders(&cluster, json!({"names": ["a"]}));
    cluster.reconcile::<Topic>(&path).await;
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(groups(&cluster, &path), ["a Applied"]);
    assert!(b.topic("orders").await.unwrap().writable);
}

#[tokio::test]
async fn a_group_that_is_to_be_taken_away_is_left_by_its_topics_and_says_when_nothing_is_on_it() {
    let (cluster, mut a, mut b) = (Cluster::new(), Broker::start().await, Broker::start().await);
    cluster.add_group("a", Some(&a));
    let path = orders(&cluster, Value::Null);
    cluster.reconcile::<Topic>(&path).await;
    let mut clients = Clients::of(&a).await;
    assert_eq!(clients.send().await, Code::Ok);

    let drain = |value: &str| {
        let group = "/apis/mq.gantry.dev/v1alpha1/namespaces/shop/brokergroups/a";
        let annotations = json!({"mq.gantry.dev/drain": value});
        cluster.server.objects().get_mut(group).unwrap()["metadata"]["annotations"] = annotations;
    };
    drain("1");
    cluster.reconcile::<Topic>(&path).await;
    let (ready, message) = cluster.condition(&path, "Ready");
    assert!(ready == "False NoGroupChosen" && message.contains("drained"), "{ready} {message}");
    assert_eq!(clients.send().await, Code::Ok, "it has nowhere to go, and stays");
    let group = cluster.reconcile_group("a").await;
    let (drained, message) = cluster.condition(&group, "Drained");
    assert!(
        drained == "False Draining" && message.starts_with("still on it: orders. "),
        "{drained} {message}"
    );

    cluster.add_group("b", Some(&b));
    cluster.reconcile::<Topic>(&path).await;
    assert_ne!(clients.send().await, Code::Ok, "it takes no more here");
    assert!(b.topic("orders").await.unwrap().writable);
    clients.consume().await;
    clients.consume().await;
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(groups(&cluster, &path), ["b Applied"]);
    assert!(a.topic("orders").await.is_none());
    cluster.reconcile_group("a").await;
    assert_eq!(cluster.condition(&group, "Drained").0, "True Drained");

    // Nobody wants it gone any more.
    drain("");
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(groups(&cluster, &path), ["a Applied", "b Applied"]);
}
