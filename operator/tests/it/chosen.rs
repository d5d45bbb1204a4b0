//! An operator that serves the namespaces with a label, whenever they have it.

use std::collections::BTreeMap;

use clap::Parser as _;
use kube::ResourceExt as _;
use operator::Options;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::server::Server;

const SET: &str = "/apis/mq.gantry.dev/v1alpha1/namespaces/platform/nameserversets/main";
const TOPIC: &str = "/apis/mq.gantry.dev/v1alpha1/namespaces/team/topics/orders";

fn resource(server: &Server, path: &str, kind: &str, spec: Value) {
    let (_, name) = path.rsplit_once('/').unwrap();
    let namespace = path.split('/').nth(5).unwrap();
    let object = json!({
        "apiVersion": "mq.gantry.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": path, "generation": 1},
        "spec": spec,
    });
    server.put(path, object);
}

fn namespace(server: &Server, name: &str, labels: Value) {
    let metadata = json!({"name": name, "labels": labels});
    let path = format!("/api/v1/namespaces/{name}");
    server.put(&path, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
}

fn chosen() -> Value {
    json!({"messaging": "gantry"})
}

/// Changes the spec as a user does: with a new generation.
fn touch(server: &Server, path: &str, field: &str, value: Value) {
    server.change(path, |object| {
        object["spec"][field] = value;
        object["metadata"]["generation"] = json!(2);
    });
}

/// Why the resource is not Ready.
fn says(objects: &BTreeMap<String, Value>, path: &str, words: &str) -> bool {
    objects[path]["status"]["conditions"][0]["message"].as_str().is_some_and(|it| it.contains(words))
}

#[tokio::test]
async fn namespaces_are_served_for_as_long_as_they_have_the_label() {
    let server = Server::default();
    for (_, crd) in crds::all() {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}", crd.name_any());
        server.put(&path, serde_json::to_value(crd).unwrap());
    }
    namespace(&server, "platform", chosen());
    namespace(&server, "team", json!({}));
    resource(&server, SET, "NameServerSet", json!({"replicas": 1, "allowedNamespaces": {"from": "All"}}));
    resource(&server, TOPIC, "Topic", json!({"nameServerRef": {"name": "main", "namespace": "platform"}}));
    let options = Options::parse_from([
        "operator",
        "--watch-namespace-selector={matchLabels: {messaging: gantry}}",
        "--http-listen=127.0.0.1:0",
    ]);
    let (client, _task) = server.start();
    let stop = CancellationToken::new();
    let observed = |objects: &BTreeMap<String, Value>, path: &str| {
        objects[path]["status"]["observedGeneration"].as_i64().unwrap_or_default()
    };
    let look = async {
        let made = "/apis/apps/v1/namespaces/platform/statefulsets/main-namesrv";
        server
            .until("name servers are made where the label is", |objects| {
                objects.contains_key(made) && observed(objects, SET) == 1
            })
            .await;
        assert_eq!(server.objects()[TOPIC]["status"], Value::Null, "its namespace has no label");

        namespace(&server, "team", chosen());
        server
            .until("a namespace that gets the label is served", |objects| {
                says(objects, TOPIC, "main has no BrokerGroup yet")
            })
            .await;

        namespace(&server, "platform", json!({"messaging": "other"}));
        server
            .until("a cluster elsewhere is none of ours", |objects| {
                says(objects, TOPIC, "there is no NameServerSet main in namespace platform")
            })
            .await;
        touch(&server, SET, "replicas", json!(3));
        touch(&server, TOPIC, "queues", json!(4));
        server.until("the topic is looked at", |objects| observed(objects, TOPIC) == 2).await;
        assert_eq!(observed(&server.objects(), SET), 1, "what lost the label is left alone");
        assert_eq!(server.objects()[made]["spec"]["replicas"], 1);

        namespace(&server, "platform", chosen());
        server.until("it is served again", |objects| observed(objects, SET) == 2).await;
        assert_eq!(server.objects()[made]["spec"]["replicas"], 3);
        stop.cancel();
    };
    let run = operator::run_by(&options, &client, "system", &stop);
    let (ended, ()) = futures::join!(run, look);
    ended.unwrap();
}
