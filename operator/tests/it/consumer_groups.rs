//! ConsumerGroups, from the resource to the broker.

use crds::ConsumerGroup;
use proto::control::{GetGroupsRequest, GroupConfig, UpsertGroupRequest, backoff};
use serde_json::{Value, json};

use crate::declared::{Broker, Cluster};

fn billing(cluster: &Cluster, mut spec: Value) -> String {
    spec["nameServerRef"] = json!({"name": "main"});
    cluster.put("consumergroups", "ConsumerGroup", "billing", spec)
}

async fn on(broker: &mut Broker) -> Option<GroupConfig> {
    let request = GetGroupsRequest { names: vec!["billing".to_owned()] };
    broker.admin.get_groups(request).await.unwrap().into_inner().groups.pop()
}

async fn reconcile(cluster: &Cluster, path: &str) -> Vec<String> {
    cluster.reconcile::<ConsumerGroup>(path).await
}

#[tokio::test]
pub(crate) async fn a_group_is_made_on_every_broker_with_its_owner_and_then_not_written_again() {
    let (cluster, mut a, mut b) = (Cluster::new(), Broker::start().await, Broker::start().await);
    cluster.add_group("a", Some(&a));
    cluster.add_group("b", Some(&b));
    let spec = json!({"ordered": true, "retry": {"maxAttempts": 3, "backoff": {"custom": ["1s", "2m"]}}});
    let path = billing(&cluster, spec);
    assert_eq!(reconcile(&cluster, &path).await, ["PATCH billing/status"]);
    for broker in [&mut a, &mut b] {
        let group = on(broker).await.unwrap();
        assert_eq!((group.consume_enabled, group.ordered, group.max_attempts), (true, true, 3));
        let delays_ms = vec![1000, 120_000];
        let expected = backoff::Kind::Custom(backoff::Custom { delays_ms });
        assert_eq!(group.backoff.unwrap().kind, Some(expected));
        assert_eq!(group.owner, "shop/billing/uid-billing");
    }
    assert_eq!(cluster.condition(&path, "Ready").0, "True Applied");
    assert_eq!(cluster.server.objects()[&path]["status"]["appliedGroups"], "2/2");
    assert_eq!(reconcile(&cluster, &path).await, Vec::<String>::new());

    cluster.change(&path, "consumeEnabled", json!(false));
    assert_eq!(reconcile(&cluster, &path).await, ["PATCH billing/status"]);
    assert!(!on(&mut a).await.unwrap().consume_enabled);
}

#[tokio::test]
async fn what_says_nothing_of_retries_is_what_the_broker_has_after_the_first_time() {
    let (cluster, broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let path = billing(&cluster, json!({}));
    reconcile(&cluster, &path).await;
    let mut broker = broker.restart().await;
    let before = on(&mut broker).await.unwrap();
    assert_eq!(reconcile(&cluster, &path).await, Vec::<String>::new());
    assert_eq!(on(&mut broker).await.unwrap(), before);
}

#[tokio::test]
pub(crate) async fn a_group_of_somebody_else_is_left_alone_and_named() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let theirs = GroupConfig {
        name: "billing".to_owned(),
        consume_enabled: true,
        max_attempts: 9,
        owner: "elsewhere/billing/uid".to_owned(),
        ..GroupConfig::default()
    };
    let request = UpsertGroupRequest { group: Some(theirs), only_if_unowned: false };
    broker.admin.upsert_group(request).await.unwrap();
    let path = billing(&cluster, json!({"deletionPolicy": "Delete"}));
    reconcile(&cluster, &path).await;
    reconcile(&cluster, &path).await;
    let (ready, message) = cluster.condition(&path, "Ready");
    assert_eq!(ready, "False ForeignOwner");
    assert!(message.contains("managed by elsewhere/billing/uid"), "{message}");
    cluster.delete(&path);
    reconcile(&cluster, &path).await;
    assert_eq!(on(&mut broker).await.unwrap().max_attempts, 9);
}

#[tokio::test]
pub(crate) async fn a_broker_that_is_away_is_named_and_does_not_undo_what_was_done() {
    let (cluster, a) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&a));
    cluster.add_group("b", None);
    let path = billing(&cluster, json!({}));
    reconcile(&cluster, &path).await;
    let (ready, message) = cluster.condition(&path, "Ready");
    assert_eq!(ready, "False PartiallyApplied");
    assert!(message.contains("b: pod b-broker-0 is not there yet"), "{message}");
    a.running.stop().await.unwrap();
    assert_eq!(reconcile(&cluster, &path).await, Vec::<String>::new(), "a had it");
}

#[tokio::test]
async fn the_oldest_has_the_name() {
    let (cluster, broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let old = billing(&cluster, json!({}));
    let spec = json!({"nameServerRef": {"name": "main"}, "groupName": "billing", "ordered": true});
    let young = cluster.put("consumergroups", "ConsumerGroup", "another", spec);
    cluster.server.objects().get_mut(&young).unwrap()["metadata"]["creationTimestamp"] =
        json!("2026-01-03T00:00:00Z");
    reconcile(&cluster, &young).await;
    let (ready, message) = cluster.condition(&young, "Ready");
    assert_eq!(ready, "False NameConflict");
    assert!(message.contains("ConsumerGroup billing has the groupName billing already"), "{message}");
    reconcile(&cluster, &old).await;
    assert_eq!(cluster.condition(&old, "Ready").0, "True Applied");
}

#[tokio::test]
pub(crate) async fn deletion_keeps_the_group_unless_the_policy_says_that_it_goes() {
    let (cluster, mut broker) = (Cluster::new(), Broker::start().await);
    cluster.add_group("a", Some(&broker));
    let path = billing(&cluster, json!({}));
    reconcile(&cluster, &path).await;
    assert_eq!(cluster.server.objects()[&path]["metadata"]["finalizers"], Value::Null);

    cluster.change(&path, "deletionPolicy", json!("Delete"));
    assert_eq!(reconcile(&cluster, &path).await, ["PATCH consumergroups/billing"], "first the finalizer");
    reconcile(&cluster, &path).await;
    cluster.delete(&path);
    assert_eq!(reconcile(&cluster, &path).await, ["PATCH consumergroups/billing"]);
    assert_eq!(cluster.server.objects()[&path]["metadata"]["finalizers"], json!([]));
    assert!(on(&mut broker).await.is_none());
}
