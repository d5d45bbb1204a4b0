//! How the operator speaks with the API server: what it writes, in which order, and when it writes nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use asked::Asked;
use axum::body::Body as Answer;
use changes::Changes;
use crds::{BrokerGroup, NameServerSet};
use http::{Method, Request, Response, StatusCode, request::Parts};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{Client, client::Body};
use operator::{
    apply::Applier,
    broker_group,
    context::Context,
    control::ControlPlane,
    declared::{
        again::Again,
        drift::{self, Followers},
    },
    events::{self, Events},
    metrics::Metrics,
    name_server_set,
    pods::template::Images,
    refusals::Refusals,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

pub(crate) mod asked;
mod changes;
pub(crate) mod listeners;
pub(crate) mod statuses;
mod stores;
mod trap;
mod writes;

pub(crate) use stores::stores_of;
pub(crate) use trap::{At, Missed, Trap};

const PATIENCE: Duration = Duration::from_secs(20);

/// All objects, by the path that each has on the API server.
pub(crate) type Objects = BTreeMap<String, Value>;

/// An API server in memory: it keeps what is applied, tells who watches, and remembers each write.
#[derive(Clone, Default)]
pub(crate) struct Server {
    objects: Arc<Mutex<Objects>>,
    /// What was applied last to each path.
    applied: Arc<Mutex<Objects>>,
    changes: Changes,
    pub(crate) trap: Trap,
    writes: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<Option<&'static str>>>,
}

impl Server {
    pub(crate) fn start(&self) -> (Client, JoinSet<()>) {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Answer>>();
        handle.allow(10_000);
        let server = self.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Whoever is dead by then gets no answer.
            let mut unanswered = Vec::new();
            while let Some((request, answer)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.expect("a whole request");
                match server.answer(&parts, &body) {
                    Some(response) => answer.send_response(response),
                    None => unanswered.push(answer),
                }
            }
        });
        (Client::new(service, "shop"), task)
    }

    /// Another with the same objects, which goes on by itself.
    pub(crate) fn copy(&self) -> Self {
        Self {
            objects: Arc::new(Mutex::new(self.objects().clone())),
            applied: Arc::new(Mutex::new(self.applied().clone())),
            changes: self.changes.later(),
            ..Self::default()
        }
    }

    /// Nothing, where whoever asks is killed meanwhile.
    fn answer(&self, parts: &Parts, body: &[u8]) -> Option<Response<Answer>> {
        let Parts { method, uri, .. } = parts;
        let (method, path) = (method.clone(), uri.path());
        let asked = Asked::of(&method, path, uri.query().unwrap_or_default());
        let mut objects = self.objects();
        asked::hear(&asked, parts, body, objects.contains_key(path));
        self.changes.poke();
        match asked.verb.as_str() {
            "list" => return Some(respond(StatusCode::OK, &self.changes.list(&objects, &asked))),
            "watch" => {
                return Some(Response::new(self.changes.watch(asked, uri.query().unwrap_or_default())));
            }
            "get" => {
                let found = objects.get(path);
                return Some(found.map_or_else(not_found, |found| respond(StatusCode::OK, found)));
            }
            _ => {}
        }
        if self.trap.kills_before() {
            return None;
        }
        let mut last = path.rsplit('/');
        let (last, before) = (last.next().unwrap_or_default(), last.next().unwrap_or_default());
        self.writes.lock().expect("no panic under the lock").push(format!("{method} {before}/{last}"));
        let refused = *self.refused.lock().expect("no panic under the lock");
        if refused.is_some_and(|refused| path.contains(refused)) {
            return Some(failed(StatusCode::FORBIDDEN, "Forbidden"));
        }
        self.trap.remember(&objects);
        let response = self.write(&mut objects, &asked, parts, body);
        if self.trap.kills_after() { None } else { Some(response) }
    }

    fn write(
        &self,
        objects: &mut Objects,
        asked: &Asked,
        Parts { method, uri, headers, .. }: &Parts,
        body: &[u8],
    ) -> Response<Answer> {
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        let asked_for = uri.path();
        let is_status = asked.resource.ends_with("/status");
        let mut path = asked_for.strip_suffix("/status").unwrap_or(asked_for).to_owned();
        if *method == Method::POST {
            path += &format!("/{}", sent["metadata"]["name"].as_str().expect("a name"));
        }
        let before = objects.get(&path).cloned();
        let applies = headers.get("content-type").is_some_and(|it| it == "application/apply-patch+yaml");
        let makes = *method == Method::POST || (applies && !is_status);
        if before.is_none() && !makes {
            return not_found();
        }
        if *method == Method::POST && before.is_some() {
            return failed(StatusCode::CONFLICT, "AlreadyExists");
        }
        let conditions = if *method == Method::DELETE { &sent["preconditions"] } else { &sent["metadata"] };
        if before.as_ref().is_some_and(|before| writes::conflicts(conditions, &before["metadata"])) {
            return failed(StatusCode::CONFLICT, "Conflict");
        }
        if *method == Method::DELETE {
            let mut gone = objects.remove(&path).expect("it was there");
            self.applied().remove(&path);
            if sent["propagationPolicy"] == "Orphan" {
                writes::orphan(objects, &gone["metadata"]["uid"]);
            }
            self.changes.tell("DELETED", &path, &mut gone);
            self.trap.changed(&path, before, None);
            return respond(StatusCode::OK, &gone);
        }
        let mut object = before.clone().unwrap_or_else(|| json!({}));
        if applies {
            let former = self.applied().get(asked_for).cloned().unwrap_or_default();
            writes::take_back(&mut object, &former, &sent);
        }
        writes::merge(&mut object, &sent);
        writes::complete(&mut object, before.as_ref());
        if let Some(message) = writes::invalid(&object) {
            let code = StatusCode::UNPROCESSABLE_ENTITY;
            let reply = json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": message});
            return respond(code, &reply);
        }
        if applies {
            self.applied().insert(asked_for.to_owned(), sent);
        }
        if before.as_ref() != Some(&object) {
            self.changes.tell(if before.is_none() { "ADDED" } else { "MODIFIED" }, &path, &mut object);
            self.trap.changed(&path, before, Some(&object));
            objects.insert(path, object.clone());
        }
        if is_status {
            statuses::keep(&object);
        }
        respond(StatusCode::OK, &object)
    }

    fn applied(&self) -> MutexGuard<'_, Objects> {
        self.applied.lock().expect("no panic under the lock")
    }

    /// Refuses to write what has this in its path.
    pub(super) fn refuse(&self, part: &'static str) {
        *self.refused.lock().expect("no panic under the lock") = Some(part);
    }

    pub(crate) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().expect("no panic under the lock")
    }

    pub(crate) fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.writes.lock().expect("no panic under the lock"))
    }

    pub(crate) fn context(&self, client: &Client) -> Arc<Context> {
        self.context_of(client, "0.1.0")
    }

    /// What an operator of this version is given.
    pub(crate) fn context_of(&self, client: &Client, version: &str) -> Arc<Context> {
        // Nobody follows: what is asked for is dropped at once.
        self.context_with(client, version, drift::channel().0)
    }

    /// What an operator is given that follows brokers.
    pub(crate) fn context_with(&self, client: &Client, version: &str, followers: Followers) -> Arc<Context> {
        let metrics = Arc::new(Metrics::default());
        let (events, _publisher) = events::channel(client.clone(), "test", Arc::clone(&metrics));
        Arc::new(self.context_telling(client, version, followers, metrics, events))
    }

    /// What an operator is given that begins.
    pub(crate) fn new_context(&self, client: &Client) -> Context {
        Arc::into_inner(self.context(client)).expect("nobody else has it yet")
    }

    /// What an operator is given that tells by `events`.
    pub(super) fn context_telling(
        &self,
        client: &Client,
        version: &str,
        followers: Followers,
        metrics: Arc<Metrics>,
        events: Events,
    ) -> Context {
        Context {
            stores: stores_of(&self.objects()),
            applier: Applier::new(client.clone(), Arc::clone(&metrics)),
            control: Arc::new(ControlPlane::new(Arc::clone(&metrics))),
            followers,
            again: Again::default(),
            events,
            metrics,
            images: Images { prefix: "localhost/".to_owned(), version: version.to_owned() },
            levels_told: Mutex::default(),
            growth_refused: Refusals::default(),
            lacks_since: Mutex::default(),
        }
    }

    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut objects = self.objects();
        let before = objects.get(path).cloned();
        self.changes.tell(if before.is_none() { "ADDED" } else { "MODIFIED" }, path, &mut object);
        self.trap.changed(path, before, Some(&object));
        objects.insert(path.to_owned(), object);
    }

    /// Takes an object away, as others do.
    pub(crate) fn remove(&self, path: &str) {
        let mut objects = self.objects();
        let Some(mut gone) = objects.remove(path) else { return };
        self.applied().remove(path);
        self.applied().remove(&format!("{path}/status"));
        let before = Some(gone.clone());
        self.changes.tell("DELETED", path, &mut gone);
        self.trap.changed(path, before, None);
    }

    /// Changes an object, as a user does.
    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.objects()[path].clone();
        change(&mut object);
        self.put(path, object);
    }

    /// Waits until this is so of all objects. It is asked after every change that is told.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut(&Objects) -> bool) {
        let mut told = self.changes.subscribe();
        let wait = async {
            while !is_so(&self.objects()) {
                told.changed().await.expect("the server goes on");
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }

    pub(crate) fn get<K: DeserializeOwned>(&self, path: &str) -> Arc<K> {
        let object = self.objects()[path].clone();
        Arc::new(serde_json::from_value(object).expect("an object of its kind"))
    }
}

fn respond(status: StatusCode, reply: &Value) -> Response<Answer> {
    let body = serde_json::to_vec(reply).expect("JSON");
    Response::builder().status(status).body(Answer::from(body)).expect("a response")
}

fn failed(code: StatusCode, reason: &str) -> Response<Answer> {
    respond(code, &json!({"status": "Failure", "code": code.as_u16(), "reason": reason, "message": "no"}))
}

fn not_found() -> Response<Answer> {
    failed(StatusCode::NOT_FOUND, "NotFound")
}

pub(super) const GROUP: &str = "/apis/mq.gantry.dev/v1alpha1/namespaces/shop/brokergroups/a";
pub(super) const SET: &str = "/apis/mq.gantry.dev/v1alpha1/namespaces/shop/nameserversets/shop";
pub(super) const STATEFUL_SET: &str = "/apis/apps/v1/namespaces/shop/statefulsets/a-broker";

pub(super) fn with_a_group() -> Server {
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

pub(super) async fn reconcile_group(server: &Server, client: &Client) -> Vec<String> {
    broker_group::reconcile(server.get::<BrokerGroup>(GROUP), server.context(client))
        .await
        .expect("a reconcile");
    server.writes()
}

#[tokio::test]
pub(crate) async fn a_broker_group_is_made_in_order_and_then_not_written_again() {
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
pub(crate) async fn a_stateful_set_whose_fixed_fields_differ_is_replaced_and_its_pods_stay() {
    let server = with_a_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    server.objects().get_mut(STATEFUL_SET).unwrap()["spec"]["serviceName"] = json!("another");
    assert_eq!(reconcile_group(&server, &client).await, ["DELETE statefulsets/a-broker"]);
    assert_eq!(reconcile_group(&server, &client).await, ["PATCH statefulsets/a-broker"]);
}

#[tokio::test]
pub(crate) async fn an_object_of_somebody_else_is_left_alone_and_named() {
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

pub(super) const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/a-broker";
const SLICES: [&str; 2] = [
    "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/a-broker-primary-0",
    "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/a-broker-primary-1",
];

pub(super) fn with_a_replicated_group() -> Server {
    let server = with_a_group();
    server.objects().get_mut(GROUP).expect("the group")["spec"]["replicas"] = json!(3);
    server
}

/// What the StatefulSet's controller would do: pods of the newest revision, all Ready, of which these are old.
pub(super) fn with_pods(server: &Server, old: &[usize]) {
    let mut objects = server.objects();
    let set = objects.get_mut(STATEFUL_SET).expect("a stateful set");
    set["metadata"]["generation"] = json!(2);
    set["status"] = json!({"replicas": 3, "observedGeneration": 2, "updateRevision": "new"});
    for ordinal in 0..3 {
        let revision = if old.contains(&ordinal) { "old" } else { "new" };
        let name = format!("a-broker-{ordinal}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "shop", "uid": format!("u{ordinal}"),
                "labels": {
                    "controller-revision-hash": revision, "app.kubernetes.io/component": "broker",
                    "mq.gantry.dev/broker-group": "a",
                    "mq.gantry.dev/role": if ordinal == 1 { "primary" } else { "replica" },
                },
            },
            "spec": {"containers": [{"name": "broker", "env": [{"name": "POD_UID"}]}]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        });
        objects.insert(format!("/api/v1/namespaces/shop/pods/{name}"), pod);
    }
}

/// What a member would do that becomes primary.
pub(super) fn with_a_primary(server: &Server, ordinal: usize, epoch: i32, in_sync: &str) {
    let mut objects = server.objects();
    let lease = objects.get_mut(LEASE).expect("a lease");
    lease["spec"]["holderIdentity"] = json!(format!("a-broker-{ordinal}/u{ordinal}"));
    lease["spec"]["leaseTransitions"] = json!(epoch);
    lease["metadata"]["annotations"]["mq.gantry.dev/in-sync"] = json!(in_sync);
    lease["metadata"]["annotations"]["mq.gantry.dev/primary"] = json!(ordinal.to_string());
}

pub(super) fn wished(server: &Server) -> Value {
    server.objects()[LEASE]["metadata"]["annotations"]["mq.gantry.dev/wished-primary"].clone()
}

#[tokio::test]
pub(crate) async fn a_replicated_group_is_made_in_order_and_what_members_write_stays() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    assert_eq!(
        reconcile_group(&server, &client).await,
        [
            "PATCH serviceaccounts/a-broker",
            "PATCH services/a-broker-headless",
            "PATCH services/a-broker-0",
            "PATCH services/a-broker-1",
            "PATCH services/a-broker-2",
            "PATCH services/a-broker-primary-0",
            "PATCH services/a-broker-primary-1",
            "PATCH roles/a-broker",
            "PATCH rolebindings/a-broker",
            "POST shop/endpointslices",
            "POST shop/endpointslices",
            "POST shop/leases",
            "PATCH configmaps/a-broker-config",
            "PATCH poddisruptionbudgets/a-broker",
            "PATCH statefulsets/a-broker",
            "PATCH a/status",
        ]
    );
    // The first to be made saw no Lease yet.
    assert_eq!(reconcile_group(&server, &client).await, ["PATCH a/status"]);
    for slice in SLICES {
        server.objects().get_mut(slice).unwrap()["endpoints"] = json!([{"addresses": ["10.0.0.7"]}]);
    }
    server.objects().get_mut(LEASE).unwrap()["spec"]["renewTime"] = json!("2026-01-01T00:00:00.000000Z");
    assert_eq!(reconcile_group(&server, &client).await, Vec::<String>::new());

    with_pods(&server, &[]);
    with_a_primary(&server, 1, 3, "0:a,1:b,2:c");
    reconcile_group(&server, &client).await;
    server.objects().get_mut(LEASE).unwrap()["spec"]["renewTime"] = json!("2026-01-01T00:00:02.000000Z");
    assert_eq!(reconcile_group(&server, &client).await, Vec::<String>::new(), "a renewal is no news");
}

#[tokio::test]
async fn a_replicated_group_waits_until_both_addresses_of_its_primary_are_known() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    let without_address = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "a-broker-primary-1", "namespace": "shop",
            "ownerReferences": [{"apiVersion": "mq.gantry.dev/v1alpha1", "kind": "BrokerGroup", "name": "a", "uid": "u", "controller": true}],
        },
        "spec": {"clusterIP": ""},
    });
    let service = "/api/v1/namespaces/shop/services/a-broker-primary-1";
    server.put(service, without_address);
    let writes = reconcile_group(&server, &client).await;
    assert!(writes.contains(&"PATCH services/a-broker-primary-1".to_owned()), "{writes:?}");
    assert!(!writes.iter().any(|write| write.contains("configmaps") || write.contains("statefulsets")));

    server.objects().get_mut(service).unwrap()["spec"]["clusterIP"] = json!("10.96.0.11");
    let writes = reconcile_group(&server, &client).await;
    assert!(writes.contains(&"PATCH statefulsets/a-broker".to_owned()), "{writes:?}");
    let objects = server.objects();
    let file = objects["/api/v1/namespaces/shop/configmaps/a-broker-config"]["data"]["broker.yaml"].as_str();
    let file: Value = serde_yaml::from_str(file.unwrap()).unwrap();
    assert_eq!(file["advertised"]["host"], "10.96.0.10");
    assert_eq!(file["replication"]["advertised"], json!(["10.96.0.10", "10.96.0.11"]));
    assert_eq!(file["replication"]["endpointSlices"], json!(["a-broker-primary-0", "a-broker-primary-1"]));
}

#[tokio::test]
pub(crate) async fn a_slice_of_the_primary_that_was_deleted_is_made_again() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    reconcile_group(&server, &client).await;
    server.objects().remove(SLICES[1]);
    assert_eq!(reconcile_group(&server, &client).await, ["POST shop/endpointslices"]);
    assert!(server.objects().contains_key(SLICES[1]));
}

#[tokio::test]
async fn a_lease_that_was_deleted_is_made_again_as_it_was() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_pods(&server, &[]);
    with_a_primary(&server, 1, 3, "1:b,2:c");
    reconcile_group(&server, &client).await;
    server.objects().remove(LEASE);
    assert!(reconcile_group(&server, &client).await.contains(&"POST shop/leases".to_owned()));
    let lease = server.objects()[LEASE].clone();
    assert_eq!(lease["metadata"]["annotations"]["mq.gantry.dev/in-sync"], "1,2");
    assert_eq!(lease["spec"]["leaseTransitions"], 3);
    assert_eq!(lease["spec"]["holderIdentity"], Value::Null);
    assert_eq!(
        lease["metadata"]["ownerReferences"],
        Value::Null,
        "the volumes are retained, so the Lease is"
    );
    // When the volumes are to go with the group, so is the Lease.
    server.objects().get_mut(GROUP).unwrap()["spec"]["storage"]["retention"] = json!({"onDelete": "Delete"});
    assert!(reconcile_group(&server, &client).await.contains(&"PATCH leases/a-broker".to_owned()));
    assert_eq!(server.objects()[LEASE]["metadata"]["ownerReferences"][0]["uid"], "u");
}

#[tokio::test]
pub(crate) async fn a_roll_ends_with_a_switchover_and_the_former_primary() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_a_primary(&server, 1, 3, "0:a,1:b,2:c");
    with_pods(&server, &[0, 1, 2]);
    let only_pods = |writes: Vec<String>| -> Vec<String> {
        writes.into_iter().filter(|write| write != "PATCH a/status").collect()
    };
    assert_eq!(only_pods(reconcile_group(&server, &client).await), ["DELETE pods/a-broker-2"]);
    with_pods(&server, &[0, 1]);
    assert_eq!(only_pods(reconcile_group(&server, &client).await), ["DELETE pods/a-broker-0"]);
    with_pods(&server, &[1]);
    assert_eq!(only_pods(reconcile_group(&server, &client).await), ["PATCH leases/a-broker"]);
    assert_eq!(wished(&server), "0");
    assert_eq!(only_pods(reconcile_group(&server, &client).await), Vec::<String>::new(), "it waits");
    let group = server.get::<BrokerGroup>(GROUP);
    let conditions = &group.status.as_ref().unwrap().conditions;
    let reconciling = conditions.iter().find(|condition| condition.type_ == "Reconciling").unwrap();
    assert_eq!(reconciling.reason, "Switchover");

    with_a_primary(&server, 0, 4, "0:a,1:b,2:c");
    let writes = only_pods(reconcile_group(&server, &client).await);
    let labels = ["PATCH pods/a-broker-0", "PATCH pods/a-broker-1"];
    assert_eq!(writes, [labels[0], labels[1], "PATCH leases/a-broker", "DELETE pods/a-broker-1"]);
    assert_eq!(wished(&server), Value::Null, "the wish came true");
    let status = server.get::<BrokerGroup>(GROUP).status.clone().unwrap();
    let failover = status.last_failover.expect("it was seen");
    assert_eq!(
        (failover.from.as_str(), failover.to.as_str(), failover.epoch),
        ("a-broker-1", "a-broker-0", 4)
    );
}

#[tokio::test]
async fn a_request_is_granted_once() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    with_pods(&server, &[]);
    with_a_primary(&server, 1, 3, "0:a,1:b,2:c");
    reconcile_group(&server, &client).await;
    let annotations = json!({"mq.gantry.dev/switchover-to": "2@monday"});
    server.objects().get_mut(GROUP).unwrap()["metadata"]["annotations"] = annotations;
    assert_eq!(reconcile_group(&server, &client).await, ["PATCH leases/a-broker", "PATCH a/status"]);
    assert_eq!(wished(&server), "2");
    assert_eq!(reconcile_group(&server, &client).await, Vec::<String>::new());
}

#[tokio::test]
pub(crate) async fn one_broker_becomes_three_and_one_again() {
    let server = with_a_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    server.objects().get_mut(GROUP).unwrap()["spec"]["replicas"] = json!(3);
    let writes = reconcile_group(&server, &client).await;
    assert!(writes.contains(&"PATCH statefulsets/a-broker".to_owned()), "{writes:?}");
    reconcile_group(&server, &client).await;

    with_pods(&server, &[]);
    with_a_primary(&server, 1, 3, "0:a,1:b,2:c");
    server.objects().get_mut(GROUP).unwrap()["spec"]["replicas"] = json!(1);
    reconcile_group(&server, &client).await;
    assert_eq!(server.objects()[STATEFUL_SET]["spec"]["replicas"], 3, "the primary would go");
    assert_eq!(wished(&server), "0");
    with_a_primary(&server, 0, 4, "0:a,1:b,2:c");
    reconcile_group(&server, &client).await;
    assert_eq!(server.objects()[STATEFUL_SET]["spec"]["replicas"], 1);
    assert_eq!(replicates(&server), true);
    server.objects().remove("/api/v1/namespaces/shop/pods/a-broker-1");
    server.objects().remove("/api/v1/namespaces/shop/pods/a-broker-2");
    with_a_primary(&server, 0, 4, "0:a");
    let writes = reconcile_group(&server, &client).await;
    assert!(!writes.contains(&"PATCH statefulsets/a-broker".to_owned()), "it is not restarted: {writes:?}");
    assert_eq!(replicates(&server), true, "epochs go on, and clients know the primary's addresses");
}

/// Whether the members take part in elections.
fn replicates(server: &Server) -> Value {
    server.objects()[STATEFUL_SET]["spec"]["template"]["spec"]["automountServiceAccountToken"].clone()
}

#[tokio::test]
pub(crate) async fn a_group_without_a_first_primary_becomes_one_broker_without_a_lease_to_hold() {
    let server = with_a_replicated_group();
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    assert_eq!(replicates(&server), true);
    server.objects().get_mut(GROUP).unwrap()["spec"]["replicas"] = json!(1);
    reconcile_group(&server, &client).await;
    assert_eq!(replicates(&server), false);
    let objects = server.objects();
    let only_several_need = objects.keys().filter(|path| path.contains("primary") || path.contains("roles/"));
    assert_eq!(only_several_need.collect::<Vec<_>>(), Vec::<&String>::new());
}

pub(super) fn with_a_set(replicas: i32) -> Server {
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

pub(super) async fn reconcile_set(server: &Server, client: &Client) -> Vec<String> {
    name_server_set::reconcile(server.get::<NameServerSet>(SET), server.context(client))
        .await
        .expect("a reconcile");
    server.writes()
}

#[tokio::test]
pub(crate) async fn a_disruption_budget_goes_when_one_name_server_is_left() {
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
pub(crate) async fn name_servers_stay_while_broker_groups_refer_to_them() {
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
