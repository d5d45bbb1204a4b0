//! What happens when somebody else changes on a broker what is declared.

use crds::{ConsumerGroup, Topic};
use proto::control::{DeleteGroupRequest, DeleteTopicRequest, TopicConfig};
use serde_json::{Value, json};

use crate::declared::{Broker, Cluster};

fn topic(cluster: &Cluster, name: &str, mut spec: Value) -> String {
    spec["nameServerRef"] = json!({"name": "main"});
    cluster.put("topics", "Topic", name, spec)
}

async fn delete(broker: &mut Broker, name: &str) {
    let request = DeleteTopicRequest { name: name.to_owned(), ..DeleteTopicRequest::default() };
    broker.admin.delete_topic(request).await.unwrap();
}

#[tokio::test]
async fn a_topic_that_somebody_deletes_or_changes_is_looked_at_and_put_right() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let path = topic(&cluster, "orders", json!({"queues": 4}));
    let operator = cluster.follow();
    cluster.reconcile_by::<Topic>(&operator, &path).await;
    assert_eq!(cluster.condition(&path, "Drifted").0, "False AsDeclared");
    let made = broker.topic("orders").await.unwrap();

    delete(&mut broker, "orders").await;
    assert_eq!(operator.next_topic().await, "orders");
    assert_eq!(cluster.reconcile_by::<Topic>(&operator, &path).await, ["PATCH orders/status"]);
    assert_eq!(broker.topic("orders").await.unwrap(), made);
    let (drifted, message) = cluster.condition(&path, "Drifted");
    assert_eq!(drifted, "False Reverted");
    assert!(message.contains("a: the broker had nothing of this name, and was put right"), "{message}");

    broker.make(TopicConfig { readable: false, write_queues: 9, ..made.clone() }).await;
    assert_eq!(operator.next_topic().await, "orders");
    cluster.reconcile_by::<Topic>(&operator, &path).await;
    assert_eq!(broker.topic("orders").await.unwrap(), made);
    let (_, message) = cluster.condition(&path, "Drifted");
    assert!(message.contains("9 write queues, WriteOnly"), "{message}");
    assert_eq!(cluster.condition(&path, "Ready").0, "True Applied");
}

#[tokio::test]
async fn what_the_operator_changes_itself_needs_no_look() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let orders = topic(&cluster, "orders", json!({}));
    let bills = topic(&cluster, "bills", json!({}));
    let operator = cluster.follow();
    cluster.reconcile_by::<Topic>(&operator, &orders).await;
    cluster.reconcile_by::<Topic>(&operator, &bills).await;
    // Both were new to the broker, and this comes behind them.
    delete(&mut broker, "bills").await;
    assert_eq!(operator.next_topic().await, "bills");
}

#[tokio::test]
async fn a_consumer_group_that_somebody_deletes_is_made_again() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let spec = json!({"nameServerRef": {"name": "main"}});
    let path = cluster.put("consumergroups", "ConsumerGroup", "billing", spec);
    let operator = cluster.follow();
    cluster.reconcile_by::<ConsumerGroup>(&operator, &path).await;
    let request = DeleteGroupRequest { name: "billing".to_owned(), owner: String::new() };
    broker.admin.delete_group(request).await.unwrap();
    assert_eq!(operator.next_consumer_group().await, "billing");
    cluster.reconcile_by::<ConsumerGroup>(&operator, &path).await;
    assert_eq!(cluster.condition(&path, "Drifted").0, "False Reverted");
}

#[tokio::test]
async fn everything_is_looked_at_when_a_stream_cannot_go_on_where_it_ended() {
    let (cluster, broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let orders = topic(&cluster, "orders", json!({}));
    topic(&cluster, "bills", json!({}));
    let operator = cluster.follow();
    cluster.reconcile_by::<Topic>(&operator, &orders).await;
    let _broker = broker.restart().await;
    let mut looked = [operator.next_topic().await, operator.next_topic().await];
    looked.sort();
    assert_eq!(looked, ["bills", "orders"]);
}

#[tokio::test]
pub(crate) async fn what_is_only_reported_stays_until_the_spec_changes() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let path = topic(&cluster, "orders", json!({"driftPolicy": "Report"}));
    cluster.reconcile::<Topic>(&path).await;
    let made = broker.topic("orders").await.unwrap();
    let changed = TopicConfig { writable: false, ..made.clone() };
    broker.make(changed.clone()).await;
    cluster.reconcile::<Topic>(&path).await;
    for type_ in ["Drifted", "Stalled"] {
        assert_eq!(cluster.condition(&path, type_).0, "True Drifted");
    }
    assert_eq!(cluster.condition(&path, "Ready").0, "False Drifted");
    assert_eq!(cluster.reconcile::<Topic>(&path).await, Vec::<String>::new());
    assert_eq!(broker.topic("orders").await.unwrap(), changed);

    cluster.change(&path, "queues", json!(9));
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(cluster.condition(&path, "Drifted").0, "False AsDeclared");
    let now = broker.topic("orders").await.unwrap();
    assert_eq!((now.write_queues, now.writable), (9, true));

    delete(&mut broker, "orders").await;
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(cluster.condition(&path, "Drifted").0, "True Drifted");
    assert!(broker.topic("orders").await.is_none());
    broker.make(now).await;
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(cluster.condition(&path, "Ready").0, "True Applied");
}

#[tokio::test]
async fn queues_that_drain_are_no_drift() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let path = topic(&cluster, "orders", json!({"queues": 4, "driftPolicy": "Report"}));
    cluster.reconcile::<Topic>(&path).await;
    cluster.change(&path, "queues", json!(2));
    {
        // As it stood after the first phase.
        let made = broker.topic("orders").await.unwrap();
        broker.make(TopicConfig { write_queues: 2, ..made }).await;
        let mut objects = cluster.server.objects();
        let status = &mut objects.get_mut(&path).unwrap()["status"];
        status["observedGeneration"] = json!(2);
        status["groups"][0]["state"] = json!("Draining");
    }
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(broker.topic("orders").await.unwrap().read_queues, 2);
    assert_eq!(cluster.condition(&path, "Drifted").0, "False AsDeclared");
}

#[tokio::test]
async fn what_is_only_observed_is_never_changed() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let spec = json!({"queues": 4, "managementPolicy": "ObserveOnly", "deletionPolicy": "Delete"});
    let path = topic(&cluster, "orders", spec);
    assert_eq!(cluster.reconcile::<Topic>(&path).await, ["PATCH orders/status"], "no finalizer");
    let (ready, message) = cluster.condition(&path, "Ready");
    assert_eq!(ready, "False Drifted");
    assert!(message.contains("nothing of this name"), "{message}");
    let theirs = TopicConfig {
        name: "orders".to_owned(),
        read_queues: 4,
        write_queues: 4,
        readable: true,
        writable: true,
        owner: "terraform".to_owned(),
        message_type: 1,
    };
    broker.make(theirs.clone()).await;
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(cluster.condition(&path, "Ready").0, "True Applied");
    assert_eq!(broker.topic("orders").await.unwrap(), theirs);
}

#[tokio::test]
async fn adoption_says_whose_topics_become_ours() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    for (name, adoption, owner, expected) in [
        ("free", "IfUnowned", "", "True Applied"),
        ("theirs", "IfUnowned", "terraform", "False ForeignOwner"),
        ("taken", "Always", "terraform", "True Applied"),
        ("left", "Never", "", "False ForeignOwner"),
        ("new", "Never", "-", "True Applied"),
    ] {
        if owner != "-" {
            let found = TopicConfig {
                name: name.to_owned(),
                read_queues: 1,
                write_queues: 1,
                owner: owner.to_owned(),
                ..TopicConfig::default()
            };
            broker.make(found).await;
        }
        let path = topic(&cluster, name, json!({"adoption": adoption}));
        cluster.reconcile::<Topic>(&path).await;
        assert_eq!(cluster.condition(&path, "Ready").0, expected, "{name}");
        let owner = broker.topic(name).await.unwrap().owner;
        assert_eq!(owner.starts_with("shop/"), expected == "True Applied", "{name}: {owner}");
    }
}

#[tokio::test]
async fn who_takes_back_what_was_adopted_keeps_it() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let theirs = TopicConfig {
        name: "orders".to_owned(),
        read_queues: 1,
        write_queues: 1,
        owner: "terraform".to_owned(),
        message_type: 1,
        ..TopicConfig::default()
    };
    broker.make(theirs.clone()).await;
    let path = topic(&cluster, "orders", json!({"adoption": "Always"}));
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(cluster.condition(&path, "Ready").0, "True Applied");

    broker.make(theirs.clone()).await;
    for _ in 0..2 {
        assert!(!cluster.looks_again::<Topic>(&path).await, "the broker tells when they let go");
        assert_eq!(cluster.condition(&path, "Ready").0, "False ForeignOwner");
        assert_eq!(broker.topic("orders").await.unwrap(), theirs);
    }
    // A broker that is away and comes back changes nothing about that.
    cluster.take_broker("a");
    cluster.reconcile::<Topic>(&path).await;
    cluster.add_group("a", Some(&broker));
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(broker.topic("orders").await.unwrap(), theirs);

    delete(&mut broker, "orders").await;
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(cluster.condition(&path, "Ready").0, "True Applied");
}

#[tokio::test]
async fn a_broker_that_did_not_answer_is_asked_again_though_all_was_well_there() {
    let (cluster, broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let path = topic(&cluster, "orders", json!({}));
    assert!(!cluster.looks_again::<Topic>(&path).await);
    broker.running.stop().await.unwrap();
    assert!(cluster.looks_again::<Topic>(&path).await, "somebody may have changed it there");
    assert_eq!(cluster.condition(&path, "Ready").0, "True Applied");
    cluster.take_broker("a");
    assert!(!cluster.looks_again::<Topic>(&path).await, "the pod tells when it is ready");
}
