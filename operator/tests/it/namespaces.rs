//! Topics in namespaces of their own, and namespaces that end.

use std::{sync::Arc, time::Duration};

use crds::Topic;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, store},
};
use operator::{
    routes::{Change, Routes, Target},
    watch::Stores,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::declared::{Broker, Cluster};
use crate::server::Server;

const SET: &str = "/apis/mq.gantry.dev/v1alpha1/namespaces/shop/nameserversets/main";
const GROUP: &str = "/apis/mq.gantry.dev/v1alpha1/namespaces/shop/brokergroups/a";

fn orders_of(cluster: &Cluster, namespace: &str, resource: &str, mut spec: Value) -> String {
    spec["nameServerRef"] = json!({"name": "main", "namespace": "shop"});
    spec["topicName"] = json!("orders");
    cluster.put_in(namespace, "topics", "Topic", resource, spec)
}

fn namespace(cluster: &Cluster, name: &str, labels: Value) -> String {
    let path = format!("/api/v1/namespaces/{name}");
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": name, "labels": labels},
    });
    cluster.server.put(&path, object);
    path
}

fn allow(cluster: &Cluster, allowed: Value) {
    cluster.server.objects().get_mut(SET).unwrap()["spec"]["allowedNamespaces"] = allowed;
}

#[tokio::test]
pub(crate) async fn a_topic_of_another_namespace_is_made_with_the_name_servers_consent_only() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    namespace(&cluster, "team", json!({"kubernetes.io/metadata.name": "team", "stage": "test"}));
    let path = orders_of(&cluster, "team", "orders", json!({}));
    let selector = |stage: &str| json!({"from": "Selector", "selector": {"matchLabels": {"stage": stage}}});
    for refusing in [Value::Null, json!({"from": "Same"}), selector("production")] {
        allow(&cluster, refusing);
        cluster.reconcile::<Topic>(&path).await;
        let (ready, message) = cluster.condition(&path, "Ready");
        assert_eq!(ready, "False NamespaceNotAllowed");
        assert!(message.contains("shop/main does not allow references from namespace team"), "{message}");
        assert!(broker.topic("orders").await.is_none());
    }
    for allowing in [selector("test"), json!({"from": "All"})] {
        allow(&cluster, allowing);
        cluster.reconcile::<Topic>(&path).await;
        assert_eq!(cluster.condition(&path, "Ready").0, "True Applied");
        assert_eq!(broker.topic("orders").await.unwrap().owner, "team/orders/uid-orders");
    }
}

#[tokio::test]
async fn the_oldest_of_those_that_are_allowed_has_the_name() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let old = orders_of(&cluster, "team", "old", json!({}));
    let young = orders_of(&cluster, "shop", "young", json!({}));
    cluster.server.objects().get_mut(&young).unwrap()["metadata"]["creationTimestamp"] =
        json!("2026-01-03T00:00:00Z");
    cluster.reconcile::<Topic>(&young).await;
    assert_eq!(cluster.condition(&young, "Ready").0, "True Applied", "the old one has no right to it");

    allow(&cluster, json!({"from": "All"}));
    cluster.reconcile::<Topic>(&young).await;
    let (ready, message) = cluster.condition(&young, "Ready");
    assert_eq!(ready, "False NameConflict");
    assert!(message.contains("Topic team/old has the topicName orders already"), "{message}");
    cluster.reconcile::<Topic>(&old).await;
    let (ready, message) = cluster.condition(&old, "Ready");
    // The stamp of a namespace that another operator may serve.
    assert_eq!(ready, "False ForeignOwner");
    assert!(message.contains("managed by shop/young/uid-young"), "{message}");
    assert_eq!(broker.topic("orders").await.unwrap().owner, "shop/young/uid-young");
}

#[tokio::test]
async fn without_the_name_server_set_nobody_consents_and_the_oldest_has_the_name_as_before() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    cluster.server.objects().remove(SET);
    let strange = orders_of(&cluster, "team", "strange", json!({}));
    cluster.reconcile::<Topic>(&strange).await;
    assert_eq!(cluster.condition(&strange, "Ready").0, "False ClusterNotFound");
    assert!(broker.topic("orders").await.is_none());

    let old = orders_of(&cluster, "shop", "old", json!({}));
    let young = orders_of(&cluster, "shop", "young", json!({}));
    cluster.server.objects().get_mut(&young).unwrap()["metadata"]["creationTimestamp"] =
        json!("2026-01-03T00:00:00Z");
    cluster.reconcile::<Topic>(&young).await;
    assert_eq!(cluster.condition(&young, "Ready").0, "False NameConflict");
    cluster.reconcile::<Topic>(&old).await;
    assert_eq!(cluster.condition(&old, "Ready").0, "True Applied");
}

#[tokio::test]
async fn labels_of_a_namespace_concern_also_those_elsewhere_that_ask_for_the_same_names() {
    let cluster = Cluster::new();
    orders_of(&cluster, "team", "theirs", json!({}));
    orders_of(&cluster, "shop", "ours", json!({}));
    let other = json!({"nameServerRef": {"name": "main"}});
    cluster.put("topics", "Topic", "bills", other);
    let path = namespace(&cluster, "team", json!({"stage": "test"}));
    let team: Arc<PartialObjectMeta<Namespace>> = cluster.server.get(&path);
    let mut found = Routes::default().namespace(&cluster.stores(), Change::Is(&team));
    found.sort_by_key(|target| format!("{target:?}"));
    let topic = |namespace: &str, name: &str| Target::Topic(ObjectRef::new(name).within(namespace));
    assert_eq!(found, [topic("shop", "ours"), topic("team", "theirs")]);
}

#[tokio::test]
async fn a_namespace_that_ends_with_its_cluster_is_held_up_by_no_topic() {
    let (cluster, broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let path = orders_of(&cluster, "shop", "orders", json!({"deletionPolicy": "DeleteWhenDrained"}));
    cluster.reconcile::<Topic>(&path).await;
    cluster.reconcile::<Topic>(&path).await;
    broker.running.stop().await.unwrap();
    cluster.delete(&path);
    cluster.reconcile::<Topic>(&path).await;
    let finalizers = |cluster: &Cluster| cluster.server.objects()[&path]["metadata"]["finalizers"].clone();
    assert_ne!(finalizers(&cluster), json!([]), "the cluster may come back");
    cluster.delete(GROUP);
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(finalizers(&cluster), json!([]));
}

#[tokio::test]
pub(crate) async fn a_namespace_that_ends_waits_for_no_broker_of_another() {
    let (cluster, broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    allow(&cluster, json!({"from": "All"}));
    let team = namespace(&cluster, "team", json!({}));
    let path = orders_of(&cluster, "team", "orders", json!({"deletionPolicy": "Delete"}));
    cluster.reconcile::<Topic>(&path).await;
    cluster.reconcile::<Topic>(&path).await;
    broker.running.stop().await.unwrap();
    cluster.delete(&path);
    cluster.reconcile::<Topic>(&path).await;
    let finalizers = |cluster: &Cluster| cluster.server.objects()[&path]["metadata"]["finalizers"].clone();
    assert_ne!(finalizers(&cluster), json!([]), "its messages are to go");
    cluster.delete(&team);
    cluster.reconcile::<Topic>(&path).await;
    assert_eq!(finalizers(&cluster), json!([]));
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_may_not_look_at_nodes_begins_all_the_same() {
    let server = Server::default();
    let (client, _task) = server.start();
    let (nodes, _never_listed) = store();
    let stores = Stores { nodes: Some(nodes), ..server.context(&client).stores.clone() };
    timeout(Duration::from_secs(60), stores.ready()).await.expect("it waits for nodes").unwrap();
}
