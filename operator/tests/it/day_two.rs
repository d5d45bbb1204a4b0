//! What the operator writes when a cluster that runs is changed, put to sleep, or left alone.

use std::sync::Arc;

use crds::{BrokerGroup, NameServerSet};
use kube::Client;
use operator::{
    broker_group,
    context::Context,
    declared::drift,
    events::{self, Publisher},
    metrics::Metrics,
    name_server_set,
};
use serde_json::{Value, json};

use super::declared::Broker;
use super::server::{
    GROUP, LEASE, SET, STATEFUL_SET, Server, reconcile_group, reconcile_set, wished, with_a_group,
    with_a_primary, with_a_replicated_group, with_a_set, with_pods,
};

/// What one pod would be on the StatefulSet as it is: Ready, or stopped by its image.
fn with_one_pod(server: &Server, revision: &str, status: Value) {
    let mut objects = server.objects();
    let set = objects.get_mut(STATEFUL_SET).expect("a stateful set");
    set["metadata"]["generation"] = json!(2);
    set["status"] = json!({"replicas": 1, "observedGeneration": 2, "updateRevision": "new"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "a-broker-0", "namespace": "shop", "uid": "u0",
            "labels": {
                "controller-revision-hash": revision, "app.kubernetes.io/component": "broker",
                "mq.gantry.dev/broker-group": "a",
            },
        },
        "spec": {"containers": [{"name": "broker"}]},
        "status": status,
    });
    objects.insert("/api/v1/namespaces/shop/pods/a-broker-0".to_owned(), pod);
}

fn ready() -> Value {
    json!({"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
}

fn without_image() -> Value {
    json!({
        "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{
            "name": "broker", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff"}},
        }],
    })
}

fn condition(server: &Server, type_: &str) -> (String, String, String) {
    let group = server.get::<BrokerGroup>(GROUP);
    let conditions = &group.status.as_ref().expect("a status").conditions;
    let found = conditions.iter().find(|condition| condition.type_ == type_).expect("a condition");
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

async fn reconcile_group_with(server: &Server, client: &Client, version: &str) -> Vec<String> {
    broker_group::reconcile(server.get::<BrokerGroup>(GROUP), server.context_of(client, version))
        .await
        .expect("a reconcile");
    server.writes()
}

#[tokio::test]
async fn another_version_of_the_operator_restarts_no_pod_until_it_is_asked_for() {
    let server = with_a_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_one_pod(&server, "new", ready());
    reconcile_group(&server, &client).await;
    let before = server.objects()[STATEFUL_SET]["spec"].clone();

    assert_eq!(reconcile_group_with(&server, &client, "0.2.0").await, Vec::<String>::new());
    assert_eq!(server.objects()[STATEFUL_SET]["spec"], before);
    let image = |server: &Server| {
        let set = &server.objects()[STATEFUL_SET];
        set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(image(&server), "localhost/gantry-broker:0.1.0");
    // More log is no reason either.
    server.objects().get_mut(GROUP).unwrap()["spec"]["logging"] = json!({"levels": {"broker": "debug"}});
    let writes = reconcile_group_with(&server, &client, "0.2.0").await;
    assert_eq!(writes, ["PATCH configmaps/a-broker-config"]);

    server.objects().get_mut(GROUP).unwrap()["spec"]["update"] = json!({"profileVersion": "0.2.0"});
    let writes = reconcile_group_with(&server, &client, "0.2.0").await;
    assert!(writes.contains(&"PATCH statefulsets/a-broker".to_owned()), "{writes:?}");
    assert_eq!(image(&server), "localhost/gantry-broker:0.2.0");
    let status = server.get::<BrokerGroup>(GROUP).status.clone().unwrap();
    assert_eq!(status.effective.unwrap().profile_version, "0.2.0");
}

#[tokio::test]
pub(crate) async fn name_servers_stay_as_they_are_under_a_newer_operator_also_while_none_is_ready() {
    let server = with_a_set(1);
    let (client, _task) = server.start();
    reconcile_set(&server, &client).await;
    let with_a_pod = |ready: &str| {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "shop-namesrv-0", "namespace": "shop", "uid": "u0", "labels": {
                "app.kubernetes.io/component": "namesrv", "mq.gantry.dev/name-server-set": "shop",
            }},
            "spec": {"containers": [{"name": "namesrv"}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        server.put("/api/v1/namespaces/shop/pods/shop-namesrv-0", pod);
    };
    let of_the_next = async || {
        let set = server.get::<NameServerSet>(SET);
        name_server_set::reconcile(set, server.context_of(&client, "0.2.0")).await.expect("a reconcile");
        server.writes().contains(&"PATCH statefulsets/shop-namesrv".to_owned())
    };
    with_a_pod("True");
    reconcile_set(&server, &client).await;
    with_a_pod("False");
    assert!(!of_the_next().await);

    // One that never worked is worth nothing.
    server.objects().get_mut(SET).unwrap()["status"]["firstServedAt"] = Value::Null;
    assert!(of_the_next().await);
}

#[tokio::test]
async fn a_restart_is_heeded_after_an_upgrade_of_the_operator() {
    let server = with_a_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_one_pod(&server, "new", ready());
    reconcile_group(&server, &client).await;
    assert_eq!(reconcile_group_with(&server, &client, "0.2.0").await, Vec::<String>::new());
    server.objects().get_mut(GROUP).unwrap()["metadata"]["annotations"] =
        json!({"mq.gantry.dev/restarted-at": "2026-11-30T08:00:00Z"});
    let writes = reconcile_group_with(&server, &client, "0.2.0").await;
    assert!(writes.contains(&"PATCH statefulsets/a-broker".to_owned()), "{writes:?}");
    let template = &server.objects()[STATEFUL_SET]["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"]["mq.gantry.dev/restarted-at"], "2026-11-30T08:00:00Z");
}

#[tokio::test]
pub(crate) async fn a_single_broker_that_lacks_its_image_is_replaced_when_the_spec_is_corrected() {
    let server = with_a_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_one_pod(&server, "new", ready());
    reconcile_group(&server, &client).await;

    server.objects().get_mut(GROUP).unwrap()["spec"]["image"] = json!({"tag": "none"});
    reconcile_group(&server, &client).await;
    with_one_pod(&server, "old", ready());
    assert!(reconcile_group(&server, &client).await.contains(&"DELETE pods/a-broker-0".to_owned()));
    let rollout = server.get::<BrokerGroup>(GROUP).status.clone().unwrap().rollout.expect("it rolls");
    assert_eq!(rollout.reason, "image localhost/gantry-broker:0.1.0 becomes localhost/gantry-broker:none");
    assert_eq!((rollout.done, rollout.total), (0, 1));

    with_one_pod(&server, "new", without_image());
    let writes = reconcile_group(&server, &client).await;
    assert!(!writes.contains(&"DELETE pods/a-broker-0".to_owned()), "{writes:?}");
    let (stalled, reason, message) = condition(&server, "Stalled");
    assert_eq!((stalled.as_str(), reason.as_str()), ("True", "ImagePullFailed"));
    assert!(message.contains("a-broker-0"), "{message}");

    server.objects().get_mut(GROUP).unwrap()["spec"]["image"] = json!({"tag": "0.1.0"});
    reconcile_group(&server, &client).await;
    with_one_pod(&server, "old", without_image());
    assert!(reconcile_group(&server, &client).await.contains(&"DELETE pods/a-broker-0".to_owned()));
    with_one_pod(&server, "new", ready());
    reconcile_group(&server, &client).await;
    assert_eq!(condition(&server, "Stalled").0, "False");
    assert_eq!(server.get::<BrokerGroup>(GROUP).status.clone().unwrap().rollout.unwrap().done, 1);
}

#[tokio::test]
async fn an_image_that_the_operator_chose_and_nobody_has_is_cured_by_the_next_operator() {
    let server = with_a_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_one_pod(&server, "new", without_image());
    reconcile_group(&server, &client).await;
    let writes = reconcile_group_with(&server, &client, "0.2.0").await;
    assert!(writes.contains(&"PATCH statefulsets/a-broker".to_owned()), "{writes:?}");
}

#[tokio::test]
pub(crate) async fn a_paused_update_replaces_nothing_and_says_so() {
    let server = with_a_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_one_pod(&server, "new", ready());
    reconcile_group(&server, &client).await;
    server.objects().get_mut(GROUP).unwrap()["spec"]["update"] = json!({"paused": true});
    server.objects().get_mut(GROUP).unwrap()["metadata"]["annotations"] =
        json!({"mq.gantry.dev/restarted-at": "2026-11-30T08:00:00Z"});
    reconcile_group(&server, &client).await;
    with_one_pod(&server, "old", ready());
    let writes = reconcile_group(&server, &client).await;
    assert_eq!(writes, ["PATCH a/status"]);
    let (reconciling, reason, message) = condition(&server, "Reconciling");
    assert_eq!((reconciling.as_str(), reason.as_str()), ("False", "RolloutPaused"));
    assert!(message.contains("update.paused"), "{message}");
    assert_eq!(condition(&server, "Stalled").0, "False");
    let rollout = server.get::<BrokerGroup>(GROUP).status.clone().unwrap().rollout.expect("it would roll");
    assert_eq!(rollout.reason, "restart asked for: 2026-11-30T08:00:00Z");

    server.objects().get_mut(GROUP).unwrap()["spec"]["update"] = json!({});
    assert!(reconcile_group(&server, &client).await.contains(&"DELETE pods/a-broker-0".to_owned()));
}

#[tokio::test]
pub(crate) async fn a_group_that_hibernates_has_no_pods_and_keeps_what_it_needs_to_wake() {
    let server = with_a_replicated_group();
    server.objects().get_mut(GROUP).unwrap()["spec"]["storage"]["retention"] =
        json!({"onScaleDown": "Delete"});
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_pods(&server, &[]);
    with_a_primary(&server, 1, 3, "0:a,1:b,2:c");
    reconcile_group(&server, &client).await;
    let policy = |server: &Server| {
        server.objects()[STATEFUL_SET]["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"].clone()
    };
    assert_eq!(policy(&server), "Delete");

    server.objects().get_mut(GROUP).unwrap()["spec"]["hibernate"] = json!(true);
    reconcile_group(&server, &client).await;
    assert_eq!(server.objects()[STATEFUL_SET]["spec"]["replicas"], 0);
    assert_eq!(policy(&server), "Retain", "nobody is scaled away");
    for ordinal in 0..3 {
        server.objects().remove(&format!("/api/v1/namespaces/shop/pods/a-broker-{ordinal}"));
    }
    server.objects().get_mut(LEASE).unwrap()["spec"]["holderIdentity"] = json!("");
    reconcile_group(&server, &client).await;
    assert_eq!(condition(&server, "Ready").1, "Hibernated");
    assert_eq!(condition(&server, "Reconciling").0, "False");
    assert_eq!(condition(&server, "Stalled").0, "False");
    assert_eq!(reconcile_group(&server, &client).await, Vec::<String>::new());

    server.objects().get_mut(GROUP).unwrap()["spec"]["hibernate"] = json!(false);
    reconcile_group(&server, &client).await;
    assert_eq!(server.objects()[STATEFUL_SET]["spec"]["replicas"], 3);
    assert_eq!(policy(&server), "Delete");
}

#[tokio::test]
async fn a_group_that_is_made_smaller_in_its_sleep_wakes_with_those_that_have_everything() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_a_primary(&server, 1, 3, "1:b,2:c");
    server.objects().get_mut(LEASE).unwrap()["spec"]["holderIdentity"] = json!("");
    server.objects().get_mut(GROUP).unwrap()["spec"]["hibernate"] = json!(true);
    reconcile_group(&server, &client).await;
    server.objects().get_mut(GROUP).unwrap()["spec"]["replicas"] = json!(1);
    reconcile_group(&server, &client).await;
    server.objects().get_mut(GROUP).unwrap()["spec"]["hibernate"] = json!(false);
    reconcile_group(&server, &client).await;
    assert_eq!(server.objects()[STATEFUL_SET]["spec"]["replicas"], 3);
}

#[tokio::test]
pub(crate) async fn a_group_that_is_paused_is_looked_at_and_left_alone() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_pods(&server, &[]);
    with_a_primary(&server, 1, 3, "0:a,1:b,2:c");
    reconcile_group(&server, &client).await;
    server.objects().get_mut(GROUP).unwrap()["metadata"]["annotations"] =
        json!({"mq.gantry.dev/paused": "true"});
    server.objects().get_mut(GROUP).unwrap()["spec"]["config"] = json!({"maxConnections": "5"});
    assert_eq!(reconcile_group(&server, &client).await, ["PATCH a/status"]);
    assert_eq!(condition(&server, "Reconciling").1, "Paused");
    assert_eq!(condition(&server, "Ready").1, "Serving");
    let status = server.get::<BrokerGroup>(GROUP).status.clone().unwrap();
    assert_eq!(status.members[1].address.as_deref(), Some("10.96.0.10:8081"));
    server.objects().get_mut(GROUP).unwrap()["metadata"]["annotations"] = json!({});
    let writes = reconcile_group(&server, &client).await;
    assert!(writes.contains(&"PATCH configmaps/a-broker-config".to_owned()), "{writes:?}");
}

#[tokio::test]
pub(crate) async fn a_volume_that_may_not_grow_is_asked_for_once_in_a_while_and_no_event_says_that_it_grows()
{
    let server = with_a_group();
    // Any disk is so full.
    server.objects().get_mut(GROUP).unwrap()["spec"]["storage"]["autoGrow"] =
        json!({"thresholdPercent": 0, "increment": "1Gi", "max": "5Gi"});
    server.objects().get_mut(GROUP).unwrap()["spec"]["update"] = json!({"paused": true});
    let broker = Broker::start().await;
    let labels = json!({"app.kubernetes.io/component": "broker", "mq.gantry.dev/broker-group": "a"});
    let claim = "/api/v1/namespaces/shop/persistentvolumeclaims/data-a-broker-0";
    server.put(
        claim,
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data-a-broker-0", "namespace": "shop", "uid": "c0", "labels": labels},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}},
            "status": {"capacity": {"storage": "1Gi"}},
        }),
    );
    server.put(
        "/api/v1/namespaces/shop/pods/a-broker-0",
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a-broker-0", "namespace": "shop", "uid": "u0", "labels": labels},
            "spec": {"containers": [{"name": "broker"}]},
            "status": {"podIP": broker.ip, "containerStatuses": [{
                "name": "broker", "image": "x", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }]},
        }),
    );
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    server.objects().get_mut(STATEFUL_SET).unwrap()["status"] = json!({"observedGeneration": 1});
    server.objects().get_mut(claim).unwrap()["spec"]["resources"]["requests"]["storage"] = json!("1Gi");

    // By the same operator time after time: how often it asks, and what it tells.
    let operator = |server: &Server| {
        let metrics = Arc::new(Metrics::default());
        let (events, publisher) = events::channel(client.clone(), "test", Arc::clone(&metrics));
        let followers = drift::channel().0;
        (Arc::new(server.context_telling(&client, "0.1.0", followers, metrics, events)), publisher)
    };
    let looks = async |context: Arc<Context>, publisher: Publisher| {
        for _ in 0..3 {
            let group = server.get::<BrokerGroup>(GROUP);
            broker_group::reconcile(group, Arc::clone(&context)).await.expect("a reconcile");
        }
        drop(context);
        publisher.run().await;
        let grown = |write: &&String| write.as_str() == "PATCH persistentvolumeclaims/data-a-broker-0";
        let asked = server.writes().iter().filter(grown).count();
        let events = server.objects();
        let told = events.values().any(|it| it["kind"] == "Event" && it["reason"] == "VolumesGrow");
        (asked, told)
    };
    server.refuse("persistentvolumeclaims");
    let (context, publisher) = operator(&server);
    assert_eq!(looks(context, publisher).await, (1, false));
    let (_, reason, message) = condition(&server, "StorageHealthy");
    assert_eq!(reason, "ResizeUnsupported");
    assert!(message.contains("remove storage.autoGrow"), "{message}");

    server.refuse("nothing");
    let (context, publisher) = operator(&server);
    assert!(looks(context, publisher).await.1, "it tells once it is allowed");
}

#[tokio::test]
async fn a_disruption_budget_is_there_unless_it_is_not_wanted() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    let budget = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/a-broker";
    assert_eq!(server.objects()[budget]["spec"]["maxUnavailable"], 1);
    server.objects().get_mut(GROUP).unwrap()["spec"]["disruption"] = json!({"pdb": "Disabled"});
    reconcile_group(&server, &client).await;
    assert!(!server.objects().contains_key(budget));
}

#[tokio::test]
async fn a_primary_hands_over_when_its_node_is_cordoned() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_pods(&server, &[]);
    with_a_primary(&server, 1, 3, "0:a,1:b,2:c");
    for ordinal in 0..3 {
        let pod = format!("/api/v1/namespaces/shop/pods/a-broker-{ordinal}");
        server.objects().get_mut(&pod).unwrap()["spec"]["nodeName"] = json!(format!("node-{ordinal}"));
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{ordinal}")},
            "spec": {"unschedulable": ordinal < 2},
        });
        server.put(&format!("/api/v1/nodes/node-{ordinal}"), node);
    }
    let writes = reconcile_group(&server, &client).await;
    assert!(writes.contains(&"PATCH leases/a-broker".to_owned()), "{writes:?}");
    assert_eq!(wished(&server), "2");
    let (_, reason, message) = condition(&server, "Reconciling");
    assert_eq!(reason, "Switchover");
    assert!(message.contains("cordoned"), "{message}");
    with_a_primary(&server, 2, 4, "0:a,1:b,2:c");
    reconcile_group(&server, &client).await;
    assert_eq!(wished(&server), Value::Null);
    assert_eq!(condition(&server, "Reconciling").0, "False");
}

/// A group of three that serves, with 1 as its primary.
async fn that_serves(server: &Server, client: &Client) {
    reconcile_group(server, client).await;
    with_pods(server, &[]);
    with_a_primary(server, 1, 3, "0:a,1:b,2:c");
    reconcile_group(server, client).await;
    reconcile_group(server, client).await;
    assert_eq!(condition(server, "Ready").1, "Serving");
}

fn note(server: &Server, key: &str) -> Value {
    server.objects()[LEASE]["metadata"]["annotations"][format!("mq.gantry.dev/{key}")].clone()
}

fn set(server: &Server, field: &str, value: Value) {
    server.objects().get_mut(GROUP).unwrap()["spec"][field] = value;
}

#[tokio::test]
async fn a_fence_is_told_to_members_and_a_fenced_primary_hands_over() {
    let server = with_a_replicated_group();
    // Before the first primary there is nobody else.
    set(&server, "fencedMembers", json!([0]));
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    reconcile_group(&server, &client).await;
    assert_eq!(note(&server, "fenced"), Value::Null);
    that_serves(&server, &client).await;
    assert_eq!(note(&server, "fenced"), "0");

    set(&server, "fencedMembers", json!([1, 0]));
    let writes = reconcile_group(&server, &client).await;
    assert_eq!(writes, ["PATCH leases/a-broker", "PATCH leases/a-broker", "PATCH a/status"]);
    assert_eq!((note(&server, "fenced"), wished(&server)), (json!("0,1"), json!("2")));
    assert_eq!(condition(&server, "Reconciling").1, "Switchover");
    with_a_primary(&server, 2, 4, "0:a,1:b,2:c");
    reconcile_group(&server, &client).await;
    set(&server, "fencedMembers", json!([]));
    // Nothing is restarted for it.
    assert_eq!(reconcile_group(&server, &client).await, ["PATCH leases/a-broker"]);
    assert_eq!(note(&server, "fenced"), Value::Null);
}

#[tokio::test]
async fn the_preferred_primary_is_asked_for_when_all_is_well_and_no_person_chose_another() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    that_serves(&server, &client).await;
    let annotations = json!({"mq.gantry.dev/switchover-to": "1@monday"});
    server.objects().get_mut(GROUP).unwrap()["metadata"]["annotations"] = annotations;
    set(&server, "preferredPrimary", json!(0));
    set(&server, "update", json!({"minStableSeconds": 0}));
    reconcile_group(&server, &client).await;
    assert_eq!(wished(&server), Value::Null, "a person chose the present one");
    server.objects().get_mut(GROUP).unwrap()["metadata"]["annotations"] = json!({});
    set(&server, "update", json!({"minStableSeconds": 3600}));
    reconcile_group(&server, &client).await;
    assert_eq!(wished(&server), Value::Null, "it serves only since a moment ago");
    set(&server, "update", json!({"minStableSeconds": 0}));
    reconcile_group(&server, &client).await;
    assert_eq!(wished(&server), "0");
    assert_eq!(condition(&server, "Reconciling").1, "Switchover");
}

#[tokio::test]
async fn failover_is_held_where_the_spec_says_so_and_after_too_many() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    that_serves(&server, &client).await;
    set(&server, "failover", json!({"enabled": false}));
    assert_eq!(reconcile_group(&server, &client).await, ["PATCH leases/a-broker", "PATCH a/status"]);
    assert_eq!(note(&server, "failover"), "held");
    assert_eq!(condition(&server, "Stalled").0, "False", "nothing waits");
    set(&server, "failover", json!({"maxPerHour": 2}));
    reconcile_group(&server, &client).await;
    assert_eq!(note(&server, "failover"), Value::Null);

    // Members count them.
    for (failovers, held) in [("1", Value::Null), ("2", json!("held"))] {
        server.objects().get_mut(LEASE).unwrap()["metadata"]["annotations"]["mq.gantry.dev/failovers"] =
            json!(failovers);
        reconcile_group(&server, &client).await;
        assert_eq!(note(&server, "failover"), held, "after {failovers}");
    }
    assert_eq!(condition(&server, "Stalled").1, "FailoverBackoff");
    set(&server, "failover", json!({"maxPerHour": 3}));
    reconcile_group(&server, &client).await;
    assert_eq!(note(&server, "failover"), Value::Null);
    assert_eq!(condition(&server, "Stalled").1, "Progressing");
}
