//! A cluster in memory that goes on by itself: an API server, and whoever works there beside the operator.
//!
//! ```text
//!   user ── resources ──► API server ◄── operator (somebody else's, see `killed` and `fields`)
//!                          ▲  ▲  ▲
//!     the controller of StatefulSets, kubelets  │  └ members, who agree by a Lease
//!                             └ volumes, garbage
//! ```
//!
//! Everything is done in steps, in one order, and without a clock: the same run twice is the same.

use std::{collections::BTreeMap, sync::Mutex};

use kube::Client;
use proto::control::{
    DeleteGroupRequest, DeleteTopicRequest, GroupConfig, ListGroupsRequest, ListTopicsRequest, TopicConfig,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use name_server::NameServer;

use crate::{
    declared::Broker,
    server::{Objects, Server},
};

mod garbage;
mod members;
mod name_server;
pub(crate) mod normal;
pub(crate) mod operator;
mod pods;

/// The namespace of all that is here.
pub(crate) const NAMESPACE: &str = "shop";

/// The cluster.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) client: Client,
    _task: JoinSet<()>,
    /// Real brokers, by the name of their BrokerGroup.
    pub(crate) brokers: BTreeMap<String, Broker>,
    /// The one process of name servers, where it can be asked.
    name_server: Option<NameServer>,
    /// Pods that do not get ready, by name.
    lost: Mutex<Vec<String>>,
    /// How many pods were made.
    made: Mutex<usize>,
}

impl World {
    /// With a real broker for each of these BrokerGroups.
    pub(crate) async fn new(groups: &[&str]) -> Self {
        let mut brokers = BTreeMap::new();
        for group in groups {
            brokers.insert((*group).to_owned(), Broker::start().await);
        }
        Self::with(brokers, None)
    }

    /// The same with a name server that can be asked.
    pub(crate) fn and_a_name_server(self) -> Self {
        Self { name_server: Some(NameServer::start()), ..self }
    }

    fn with(brokers: BTreeMap<String, Broker>, name_server: Option<NameServer>) -> Self {
        let server = Server::default();
        let (client, _task) = server.start();
        Self { server, client, _task, brokers, name_server, lost: Mutex::default(), made: Mutex::default() }
    }

    /// Another without anything, whose brokers are these once more, and empty.
    pub(crate) async fn anew(mut self) -> Self {
        for broker in self.brokers.values_mut() {
            let admin = &mut broker.admin;
            for TopicConfig { name, .. } in
                admin.list_topics(ListTopicsRequest::default()).await.unwrap().into_inner().topics
            {
                admin
                    .delete_topic(DeleteTopicRequest { name, ..DeleteTopicRequest::default() })
                    .await
                    .unwrap();
            }
            for GroupConfig { name, .. } in
                admin.list_groups(ListGroupsRequest {}).await.unwrap().into_inner().groups
            {
                admin
                    .delete_group(DeleteGroupRequest { name, ..DeleteGroupRequest::default() })
                    .await
                    .unwrap();
            }
        }
        self.name_server.iter().for_each(NameServer::forget);
        Self::with(self.brokers, self.name_server)
    }

    /// Another that is just so, and goes on by itself. Brokers cannot be had twice.
    pub(crate) fn copy(&self) -> Self {
        assert!(!self.is_asked());
        let server = self.server.copy();
        let (client, _task) = server.start();
        let (lost, made) = (self.lost.lock().unwrap().clone(), *self.made.lock().unwrap());
        let (lost, made) = (Mutex::new(lost), Mutex::new(made));
        Self { server, client, _task, brokers: BTreeMap::new(), name_server: None, lost, made }
    }

    /// Where a resource is.
    pub(crate) fn path(kind: &str, name: &str) -> String {
        if kind == "Namespace" {
            return format!("/api/v1/namespaces/{name}");
        }
        format!("/apis/mq.gantry.dev/v1alpha1/namespaces/{NAMESPACE}/{}s/{name}", kind.to_lowercase())
    }

    /// A user makes a resource.
    pub(crate) fn make(&self, kind: &str, name: &str, spec: Value) {
        let version = if kind == "Namespace" { "v1" } else { "mq.gantry.dev/v1alpha1" };
        let metadata = json!({
            "name": name, "namespace": NAMESPACE, "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        });
        let resource = json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec});
        self.server.put(&Self::path(kind, name), resource);
    }

    /// A user gives a resource another spec.
    pub(crate) fn respecify(&self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
        self.server.change(&Self::path(kind, name), |resource| {
            change(&mut resource["spec"]);
            let generation = resource["metadata"]["generation"].as_i64().unwrap_or_default();
            resource["metadata"]["generation"] = json!(generation + 1);
        });
    }

    /// A user, or a namespace that ends, deletes a resource.
    pub(crate) fn delete(&self, path: &str) {
        self.server.change(path, |resource| {
            resource["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
        });
    }

    /// The pod goes with its machine, and those after it do not get ready.
    pub(crate) fn lose(&self, pod: &str) {
        self.lost.lock().unwrap().push(pod.to_owned());
        self.server.remove(&pods::path(pod));
    }

    /// The pod's machine is back.
    pub(crate) fn heal(&self, pod: &str) {
        self.lost.lock().unwrap().retain(|lost| lost != pod);
    }

    fn is_lost(&self, pod: &str) -> bool {
        self.lost.lock().unwrap().iter().any(|lost| lost == pod)
    }

    /// Whoever is there beside the operator does the next thing.
    pub(crate) fn go_on(&self) {
        self.get_ready();
        self.make_pods();
        self.agree();
        self.grow_volumes();
        self.collect_garbage();
    }

    fn of_kind(&self, kind: &str) -> Vec<(String, Value)> {
        let objects = self.server.objects();
        let found = objects.iter().filter(|(_, object)| object["kind"] == kind);
        found.map(|(path, object)| (path.clone(), object.clone())).collect()
    }

    fn get(&self, path: &str) -> Option<Value> {
        self.server.objects().get(path).cloned()
    }

    /// All objects as they are.
    pub(crate) fn objects(&self) -> Objects {
        self.server.objects().clone()
    }

    /// Whether there is somebody who can be asked.
    pub(crate) fn is_asked(&self) -> bool {
        !self.brokers.is_empty() || self.name_server.is_some()
    }

    /// All that lasts: objects without what passes, and what brokers have.
    pub(crate) async fn contents(&self) -> Objects {
        let mut contents = normal::normal(self.objects());
        for (group, broker) in &self.brokers {
            let mut admin = broker.admin.clone();
            for topic in admin.list_topics(ListTopicsRequest::default()).await.unwrap().into_inner().topics {
                contents.insert(format!("/brokers/{group}/{}", topic.name), json!(format!("{topic:?}")));
            }
            for consumers in admin.list_groups(ListGroupsRequest {}).await.unwrap().into_inner().groups {
                contents.insert(
                    format!("/consumers/{group}/{}", consumers.name),
                    json!(format!("{consumers:?}")),
                );
            }
        }
        if let Some(name_server) = &self.name_server {
            contents.insert("/name-servers/levels".to_owned(), json!(name_server.levels()));
        }
        contents
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
