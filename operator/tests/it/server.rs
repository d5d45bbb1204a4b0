//! How the operator speaks with the API server: what it writes, in which order, and when it writes nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use crds::{BrokerGroup, NameServerSet};
use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{
    Client,
    client::Body,
    runtime::{
        reflector::{Store, store},
        watcher::Event,
    },
};
use operator::{
    apply::Applier, broker_group, context::Context, control::ControlPlane, events, metrics::Metrics,
    name_server_set, pods::template::Images, watch::Stores,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// An API server in memory: it keeps what is applied, and remembers each write.
#[derive(Clone, Default)]
struct Server {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    writes: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(&self) -> (Client, JoinSet<()>) {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        handle.allow(1000);
        let server = self.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some((request, answer)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.expect("a whole request");
                answer.send_response(server.answer(&parts.method, parts.uri.path(), &body));
            }
        });
        (Client::new(service, "shop"), task)
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> Response<Body> {
        let mut objects = self.objects();
        if *method != Method::GET {
            let mut parts = path.rsplit('/');
            let (last, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            self.writes.lock().expect("no panic under the lock").push(format!("{method} {before}/{last}"));
        }
        let path = path.strip_suffix("/status").unwrap_or(path);
        let reply = match *method {
            Method::GET => objects.get(path).cloned(),
            Method::DELETE => objects.remove(path),
            _ => {
                let sent: Value = serde_json::from_slice(body).expect("JSON");
                let object = objects.entry(path.to_owned()).or_insert_with(|| json!({}));
                merge(object, &sent);
                complete(object);
                Some(object.clone())
            }
        };
        let (status, reply) = match reply {
            Some(object) => (StatusCode::OK, object),
            None => (
                StatusCode::NOT_FOUND,
                json!({"status": "Failure", "code": 404, "reason": "NotFound", "message": ""}),
            ),
        };
        let body = serde_json::to_vec(&reply).expect("JSON");
        Response::builder().status(status).body(Body::from(body)).expect("a response")
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.objects.lock().expect("no panic under the lock")
    }

    fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.writes.lock().expect("no panic under the lock"))
    }

    /// All objects of a kind, as a watch would have brought them.
    fn store<K>(&self) -> Store<K>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned + Clone + 'static,
    {
        let (reader, mut writer) = store();
        writer.apply_watcher_event(&Event::Init);
        for object in self.objects().values().filter(|object| object["kind"] == K::kind(&()).as_ref()) {
            let object = serde_json::from_value(object.clone()).expect("an object of its kind");
            writer.apply_watcher_event(&Event::InitApply(object));
        }
        writer.apply_watcher_event(&Event::InitDone);
        reader
    }

    fn context(&self, client: &Client) -> Arc<Context> {
        let metrics = Arc::new(Metrics::default());
        let (events, _publisher) = events::channel(client.clone(), "test", Arc::clone(&metrics));
        Arc::new(Context {
            stores: Stores {
                name_server_sets: self.store(),
                broker_groups: self.store(),
                topics: self.store(),
                topic_names: Default::default(),
                stateful_sets: self.store(),
                services: self.store(),
                config_maps: self.store(),
                service_accounts: self.store(),
                budgets: self.store(),
                pods: self.store(),
                claims: self.store(),
            },
            applier: Applier::new(client.clone(), Arc::clone(&metrics)),
            control: ControlPlane::new(Arc::clone(&metrics)),
            events,
            metrics,
            images: Images { prefix: "localhost/".to_owned(), version: "0.1.0".to_owned() },
            levels_told: Mutex::default(),
        })
    }

    fn put(&self, path: &str, object: Value) {
        self.objects().insert(path.to_owned(), object);
    }

    fn get<K: DeserializeOwned>(&self, path: &str) -> Arc<K> {
        let object = self.objects()[path].clone();
        Arc::new(serde_json::from_value(object).expect("an object of its kind"))
    }
}

/// As much of a merge as applying needs: what is sent replaces what was, field by field.
fn merge(object: &mut Value, sent: &Value) {
    match (object, sent) {
        (Value::Object(object), Value::Object(sent)) => {
            for (key, value) in sent {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, sent) => *object = sent.clone(),
    }
}

/// What the server adds by itself.
fn complete(object: &mut Value) {
    if object["kind"] == "Service" && object["spec"]["clusterIP"].is_null() {
        object["spec"]["clusterIP"] = json!("10.96.0.10");
        object["spec"]["sessionAffinity"] = json!("None");
    }
    if object["metadata"]["uid"].is_null() {
        object["metadata"]["uid"] = json!(format!("uid-of-{}", object["metadata"]["name"]));
    }
}

const GROUP: &str = "/apis/mq.gantry.dev/v1alpha1/namespaces/shop/brokergroups/a";
const SET: &str = "/apis/mq.gantry.dev/v1alpha1/namespaces/shop/nameserversets/shop";
const STATEFUL_SET: &str = "/apis/apps/v1/namespaces/shop/statefulsets/a-broker";

fn with_a_group() -> Server {
    let server = Server::default();
    server.put(
        GROUP,
        json!({
            "apiVersion": "mq.gantry.dev/v1alpha1", "kind": "BrokerGroup",
            "metadata": {"name": "a", "namespace": "shop", "uid": "u", "generation": 1},
            "spec": {
                "nameServerRef": {"name": "shop"}, "clusterName": "DefaultCluster",
                "storage": {"commitLog": {"size": "1024Mi"}},
                "resources": {"limits": {"memory": "1024Mi", "cpu": "0.5"}},
            },
        }),
    );
    server
}

async fn reconcile_group(server: &Server, client: &Client) -> Vec<String> {
    broker_group::reconcile(server.get::<BrokerGroup>(GROUP), server.context(client))
        .await
        .expect("a reconcile");
    server.writes()
}

#[tokio::test]
async fn a_broker_group_is_made_in_order_and_then_not_written_again() {
    let server = with_a_group();
    let (client, _task) = server.start();
    assert_eq!(
        reconcile_group(&server, &client).await,
        [
            "PATCH serviceaccounts/a-broker",
            "PATCH services/a-broker-headless",
            "PATCH services/a-broker-0",
            "PATCH configmaps/a-broker-config",
            "PATCH statefulsets/a-broker",
            "PATCH a/status",
        ]
    );
    assert_eq!(reconcile_group(&server, &client).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_somebody_else_changed_is_put_right_and_nothing_besides() {
    let server = with_a_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    server.objects().get_mut(STATEFUL_SET).unwrap()["spec"]["replicas"] = json!(5);
    assert_eq!(reconcile_group(&server, &client).await, ["PATCH statefulsets/a-broker"]);
    // What others add does not matter.
    server.objects().get_mut(STATEFUL_SET).unwrap()["metadata"]["labels"]["theirs"] = json!("x");
    assert_eq!(reconcile_group(&server, &client).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_change_of_the_configuration_writes_what_depends_on_it() {
    let server = with_a_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    let hash = |server: &Server| {
        let set = server.get::<StatefulSet>(STATEFUL_SET);
        let template = set.spec.clone().unwrap().template.metadata.unwrap();
        template.annotations.unwrap()["mq.gantry.dev/config-hash"].clone()
    };
    let before = hash(&server);
    server.objects().get_mut(GROUP).unwrap()["spec"]["config"] = json!({"maxConnections": "5"});
    assert_eq!(
        reconcile_group(&server, &client).await,
        ["PATCH configmaps/a-broker-config", "PATCH statefulsets/a-broker"]
    );
    assert_ne!(hash(&server), before);
    // Levels change at run time: no pod is touched.
    server.objects().get_mut(GROUP).unwrap()["spec"]["logging"] = json!({"levels": {"broker": "debug"}});
    assert_eq!(reconcile_group(&server, &client).await, ["PATCH configmaps/a-broker-config"]);
}

#[tokio::test]
async fn a_stateful_set_whose_fixed_fields_differ_is_replaced_and_its_pods_stay() {
    let server = with_a_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    server.objects().get_mut(STATEFUL_SET).unwrap()["spec"]["serviceName"] = json!("another");
    assert_eq!(reconcile_group(&server, &client).await, ["DELETE statefulsets/a-broker"]);
    assert_eq!(reconcile_group(&server, &client).await, ["PATCH statefulsets/a-broker"]);
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone_and_named() {
    let server = with_a_group();
    let theirs = "/api/v1/namespaces/shop/services/a-broker-headless";
    server.put(
        theirs,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a-broker-headless"}}),
    );
    let (client, _task) = server.start();
    assert_eq!(reconcile_group(&server, &client).await, ["PATCH serviceaccounts/a-broker", "PATCH a/status"]);
    let group = server.get::<BrokerGroup>(GROUP);
    let conditions = &group.status.as_ref().unwrap().conditions;
    let stalled = conditions.iter().find(|condition| condition.type_ == "Stalled").unwrap();
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "InvalidSpec"));
    assert!(stalled.message.contains("Service a-broker-headless exists"), "{}", stalled.message);
}

fn with_a_set(replicas: i32) -> Server {
    let server = Server::default();
    server.put(
        SET,
        json!({
            "apiVersion": "mq.gantry.dev/v1alpha1", "kind": "NameServerSet",
            "metadata": {"name": "shop", "namespace": "shop", "uid": "u", "generation": 1},
            "spec": {"replicas": replicas},
        }),
    );
    server
}

async fn reconcile_set(server: &Server, client: &Client) -> Vec<String> {
    name_server_set::reconcile(server.get::<NameServerSet>(SET), server.context(client))
        .await
        .expect("a reconcile");
    server.writes()
}

#[tokio::test]
async fn a_disruption_budget_goes_when_one_name_server_is_left() {
    let server = with_a_set(3);
    let (client, _task) = server.start();
    let budget = "PATCH poddisruptionbudgets/shop-namesrv".to_owned();
    assert!(reconcile_set(&server, &client).await.contains(&budget));
    assert_eq!(reconcile_set(&server, &client).await, Vec::<String>::new());
    server.objects().get_mut(SET).unwrap()["spec"]["replicas"] = json!(1);
    let writes = reconcile_set(&server, &client).await;
    assert!(writes.contains(&"DELETE poddisruptionbudgets/shop-namesrv".to_owned()), "{writes:?}");
}

#[tokio::test]
async fn name_servers_stay_while_broker_groups_refer_to_them() {
    let server = with_a_set(1);
    let (client, _task) = server.start();
    reconcile_set(&server, &client).await;
    let group = with_a_group().objects()[GROUP].clone();
    server.put(GROUP, group);
    server.objects().get_mut(SET).unwrap()["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    reconcile_set(&server, &client).await;
    let set = server.get::<NameServerSet>(SET);
    assert_eq!(set.metadata.finalizers.as_deref(), Some(&[name_server_set::FINALIZER.to_owned()][..]));
    let conditions = &set.status.as_ref().unwrap().conditions;
    let stalled = conditions.iter().find(|condition| condition.type_ == "Stalled").unwrap();
    assert_eq!(stalled.reason, "DeletionBlocked");
    assert!(stalled.message.contains("delete a first"), "{}", stalled.message);

    server.objects().remove(GROUP);
    reconcile_set(&server, &client).await;
    assert_eq!(server.get::<NameServerSet>(SET).metadata.finalizers, Some(Vec::new()));
}
