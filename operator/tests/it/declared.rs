//! A messaging cluster for what is declared: an API server in memory, and real brokers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use broker::{Config, Running};
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Client,
    runtime::{controller::Action, reflector::ObjectRef},
};
use operator::{
    context::Context,
    declared::{self, Declared, drift},
    pending::Pending,
    watch::{Queues, Stores},
};
use proto::control::{GetTopicsRequest, TopicConfig, UpsertTopicRequest, admin_client::AdminClient};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::Channel;

use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(20);

/// An address that nobody else listens on.
pub(crate) fn own_address() -> Ipv4Addr {
    static GIVEN: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 0x80, low, GIVEN.fetch_add(1, Ordering::Relaxed))
}

/// A broker that listens where the operator looks for it.
pub(crate) struct Broker {
    pub(crate) running: Running,
    pub(crate) admin: AdminClient<Channel>,
    pub(crate) ip: Ipv4Addr,
    folder: TempDir,
}

impl Broker {
    /// On an address of its own: the port of the control plane is the same for all.
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), own_address()).await
    }

    async fn start_in(folder: TempDir, ip: Ipv4Addr) -> Self {
        let running = broker::start(config(folder.path(), ip)).await.unwrap();
        running.ready().await;
        let address = format!("http://{}", running.control_addr);
        let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
        Self { running, admin: AdminClient::new(channel), ip, folder }
    }

    /// The topic as the broker has it.
    pub(crate) async fn topic(&mut self, name: &str) -> Option<TopicConfig> {
        let request = GetTopicsRequest { names: vec![name.to_owned()] };
        self.admin.get_topics(request).await.unwrap().into_inner().topics.pop()
    }

    /// Makes the topic so, as somebody else may.
    pub(crate) async fn make(&mut self, topic: TopicConfig) {
        let request = UpsertTopicRequest { topic: Some(topic), only_if_unowned: false };
        self.admin.upsert_topic(request).await.unwrap();
    }

    /// The same broker, started again.
    pub(crate) async fn restart(self) -> Self {
        let Self { running, admin: _, ip, folder } = self;
        running.stop().await.unwrap();
        Self::start_in(folder, ip).await
    }
}

fn config(folder: &Path, ip: Ipv4Addr) -> Config {
    let mut config = Config {
        client_listen: SocketAddr::from((ip, 0)),
        control_listen: SocketAddr::from((ip, 9878)),
        http_listen: None,
        segment_bytes: 1 << 20,
        ..Config::new(folder)
    };
    // The disk of whoever runs the tests may be nearly full of other things.
    config.retention.refuse_percent = 100;
    config
}

/// An operator that follows brokers.
pub(crate) struct Following {
    context: Arc<Context>,
    queues: Queues,
    _tasks: JoinSet<()>,
}

impl Following {
    /// The next Topic that it shall look at.
    pub(crate) async fn next_topic(&self) -> String {
        next(self.queues.topics.clone()).await
    }

    /// The next ConsumerGroup that it shall look at.
    pub(crate) async fn next_consumer_group(&self) -> String {
        next(self.queues.consumer_groups.clone()).await
    }
}

async fn next<K: Declared>(queue: Pending<ObjectRef<K>>) -> String {
    let mut queue = std::pin::pin!(queue.stream());
    timeout(PATIENCE, queue.next()).await.expect("nothing to look at").unwrap().name
}

/// A NameServerSet `main` in namespace `shop`, and what was added to it.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    client: Client,
    _task: JoinSet<()>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let server = Server::default();
        let (client, _task) = server.start();
        let cluster = Self { server, client, _task };
        cluster.put("nameserversets", "NameServerSet", "main", json!({"replicas": 1}));
        cluster
    }

    /// A BrokerGroup whose broker is ready; nowhere: whose broker is not there.
    pub(crate) fn add_group(&self, name: &str, broker: Option<&Broker>) {
        let spec = json!({
            "nameServerRef": {"name": "main"}, "clusterName": "DefaultCluster", "storage": {"ephemeral": {}},
        });
        let path = self.put("brokergroups", "BrokerGroup", name, spec);
        let status = json!({"firstServedAt": "2026-01-01T00:00:00Z"});
        self.server.objects().get_mut(&path).unwrap()["status"] = status;
        let Some(broker) = broker else { return };
        let pod = format!("{name}-broker-0");
        self.server.put(
            &format!("/api/v1/namespaces/shop/pods/{pod}"),
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod, "namespace": "shop", "uid": format!("uid-of-{pod}")},
                "status": {"podIP": broker.ip, "conditions": [{"type": "Ready", "status": "True"}]},
            }),
        );
    }

    /// A resource in the namespace. Returns its path.
    pub(crate) fn put(&self, plural: &str, kind: &str, name: &str, spec: Value) -> String {
        self.put_in("shop", plural, kind, name, spec)
    }

    /// A resource in another namespace. Returns its path.
    pub(crate) fn put_in(
        &self,
        namespace: &str,
        plural: &str,
        kind: &str,
        name: &str,
        spec: Value,
    ) -> String {
        let path = format!("/apis/mq.gantry.dev/v1alpha1/namespaces/{namespace}/{plural}/{name}");
        self.server.put(
            &path,
            json!({
                "apiVersion": "mq.gantry.dev/v1alpha1", "kind": kind,
                "metadata": {
                    "name": name, "namespace": namespace, "uid": format!("uid-{name}"), "generation": 1,
                    "creationTimestamp": "2026-01-02T00:00:00Z",
                },
                "spec": spec,
            }),
        );
        path
    }

    /// Reconciles once; what was written.
    pub(crate) async fn reconcile<K: Declared>(&self, path: &str) -> Vec<String> {
        let resource: Arc<K> = self.server.get(path);
        declared::reconcile(resource, self.server.context(&self.client)).await.unwrap();
        self.server.writes()
    }

    /// Reconciles a BrokerGroup once. Returns its path.
    pub(crate) async fn reconcile_group(&self, name: &str) -> String {
        let path = format!("/apis/mq.gantry.dev/v1alpha1/namespaces/shop/brokergroups/{name}");
        let context = self.server.context(&self.client);
        operator::broker_group::reconcile(self.server.get(&path), context).await.unwrap();
        path
    }

    /// Reconciles once; whether it looks again though nobody tells of a change.
    pub(crate) async fn looks_again<K: Declared>(&self, path: &str) -> bool {
        let resource: Arc<K> = self.server.get(path);
        let action = declared::reconcile(resource, self.server.context(&self.client)).await.unwrap();
        action != Action::await_change()
    }

    /// What is known of the cluster.
    pub(crate) fn stores(&self) -> Stores {
        self.server.context(&self.client).stores.clone()
    }

    /// The broker of a BrokerGroup is away: its pod is not there.
    pub(crate) fn take_broker(&self, group: &str) {
        self.server.objects().remove(&format!("/api/v1/namespaces/shop/pods/{group}-broker-0"));
    }

    /// An operator that follows brokers: what it shall look at comes out of its queues.
    pub(crate) fn follow(&self) -> Following {
        let (followers, runner) = drift::channel();
        let context = self.server.context_with(&self.client, "0.1.0", followers);
        let (control, stores, queues) =
            (Arc::clone(&context.control), context.stores.clone(), Queues::default());
        let mut tasks = JoinSet::new();
        let fed = queues.clone();
        tasks.spawn(async move { runner.run(&control, &stores, &fed).await });
        Following { context, queues, _tasks: tasks }
    }

    /// Reconciles once by an operator that follows; what was written.
    pub(crate) async fn reconcile_by<K: Declared>(&self, operator: &Following, path: &str) -> Vec<String> {
        let resource: Arc<K> = self.server.get(path);
        declared::reconcile(resource, Arc::clone(&operator.context)).await.unwrap();
        self.server.writes()
    }

    /// Changes the spec as a user does: with a new generation.
    pub(crate) fn change(&self, path: &str, field: &str, value: Value) {
        let mut objects = self.server.objects();
        let resource = objects.get_mut(path).unwrap();
        resource["spec"][field] = value;
        let generation = resource["metadata"]["generation"].as_i64().unwrap();
        resource["metadata"]["generation"] = json!(generation + 1);
    }

    /// A resource is to be deleted.
    pub(crate) fn delete(&self, path: &str) {
        let mut objects = self.server.objects();
        objects.get_mut(path).unwrap()["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
    }

    /// A condition as `status reason`, and its message.
    pub(crate) fn condition(&self, path: &str, type_: &str) -> (String, String) {
        let conditions = self.server.objects()[path]["status"]["conditions"].clone();
        let conditions: Vec<Condition> = serde_json::from_value(conditions).unwrap();
        let found = conditions.into_iter().find(|condition| condition.type_ == type_).unwrap();
        (format!("{} {}", found.status, found.reason), found.message)
    }
}
