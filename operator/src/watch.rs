//! Watching: one store for each kind of object, kept up to date by a task, and a queue for each kind of resource.
//!
//! A change of an object is turned into resources to reconcile by [`Routes`], which is pure. A store that
//! had to be listed anew may have missed deletions: then everything is reconciled.

use std::{fmt::Debug, hash::Hash};

use anyhow::anyhow;
use crds::{BrokerGroup, ConsumerGroup, NameServerSet, Topic};
use futures::{Stream, StreamExt as _};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Namespace, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, Store, store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::{
    declared::{Declared, names::Names},
    identity::MANAGED_BY,
    metrics::Metrics,
    options::Scope,
    pending::Pending,
    routes::{Change, Routes, Target},
    selector::selects,
    slim,
};
use std::sync::Arc;

/// What is known of the cluster.
#[derive(Clone)]
pub struct Stores {
    /// Resources.
    pub name_server_sets: Store<NameServerSet>,
    /// Resources.
    pub broker_groups: Store<BrokerGroup>,
    /// Resources.
    pub topics: Store<Topic>,
    /// Which of them ask for a name.
    pub topic_names: Names<Topic>,
    /// Resources.
    pub consumer_groups: Store<ConsumerGroup>,
    /// Which of them ask for a name.
    pub consumer_group_names: Names<ConsumerGroup>,
    /// Our objects.
    pub stateful_sets: Store<StatefulSet>,
    /// Our objects.
    pub services: Store<Service>,
    /// Our objects.
    pub config_maps: Store<ConfigMap>,
    /// Our objects.
    pub service_accounts: Store<ServiceAccount>,
    /// Our objects.
    pub budgets: Store<PodDisruptionBudget>,
    /// Pods of our StatefulSets.
    pub pods: Store<Pod>,
    /// Volume claims of our StatefulSets.
    pub claims: Store<PersistentVolumeClaim>,
    /// What members of a group agree over.
    pub leases: Store<Lease>,
    /// Where primaries say that they are.
    pub endpoints: Store<EndpointSlice>,
    /// Our objects.
    pub roles: Store<Role>,
    /// Our objects.
    pub role_bindings: Store<RoleBinding>,
    /// The nodes of the cluster, where they are to be looked at; empty as long as that is not allowed.
    pub nodes: Option<Store<Node>>,
    /// Names and labels of all namespaces, where the operator may serve any.
    pub namespaces: Option<Store<PartialObjectMeta<Namespace>>>,
    /// Which of them it serves, unless all. What is in the others is known here all the same.
    pub chosen: Option<LabelSelector>,
}

/// The resources that are to be reconciled.
#[derive(Clone, Default)]
pub struct Queues {
    /// For the controller of NameServerSets.
    pub name_server_sets: Pending<ObjectRef<NameServerSet>>,
    /// For the controller of BrokerGroups.
    pub broker_groups: Pending<ObjectRef<BrokerGroup>>,
    /// For the controller of Topics.
    pub topics: Pending<ObjectRef<Topic>>,
    /// For the controller of ConsumerGroups.
    pub consumer_groups: Pending<ObjectRef<ConsumerGroup>>,
}

impl Queues {
    /// Adds each to the queue of its kind.
    pub fn add(&self, targets: Vec<Target>) {
        for target in targets {
            match target {
                Target::NameServerSet(reference) => self.name_server_sets.add(reference),
                Target::BrokerGroup(reference) => self.broker_groups.add(reference),
                Target::Topic(reference) => self.topics.add(reference),
                Target::ConsumerGroup(reference) => self.consumer_groups.add(reference),
            }
        }
    }
}

/// Begins to watch. The tasks go into `tasks`; each runs until it is aborted, and one that ends by itself is a fault.
pub fn start(
    client: &Client,
    scope: &Scope,
    watch_nodes: bool,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> (Stores, Queues) {
    let queues = Queues::default();

    let (nss_store, nss_writer) = store();
    let (bg_store, bg_writer) = store();
    let (topic_store, topic_writer) = store();
    let (consumer_groups, consumer_group_writer) = store();
    let (stateful_sets, stateful_set_writer) = store();
    let (services, service_writer) = store();
    let (config_maps, config_map_writer) = store();
    let (service_accounts, service_account_writer) = store();
    let (budgets, budget_writer) = store();
    let (pods, pod_writer) = store();
    let (claims, claim_writer) = store();
    let (leases, lease_writer) = store();
    let (endpoints, endpoint_writer) = store();
    let (roles, role_writer) = store();
    let (role_bindings, role_binding_writer) = store();
    let (nodes, node_writer) = store();
    let (namespaces, namespace_writer) = store();
    let stores = Stores {
        name_server_sets: nss_store,
        broker_groups: bg_store,
        topics: topic_store,
        topic_names: Names::default(),
        consumer_groups,
        consumer_group_names: Names::default(),
        stateful_sets,
        services,
        config_maps,
        service_accounts,
        budgets,
        pods,
        claims,
        leases,
        endpoints,
        roles,
        role_bindings,
        nodes: watch_nodes.then_some(nodes),
        namespaces: scope.namespace().is_none().then_some(namespaces),
        chosen: match scope {
            Scope::Chosen(selector) => Some(selector.clone()),
            Scope::All | Scope::Namespace(_) => None,
        },
    };

    let mut spawner =
        Spawner { client, scope, metrics, queues: queues.clone(), stores: stores.clone(), tasks };
    spawner.resources(nss_writer, Routes::name_server_set);
    spawner.resources(bg_writer, Routes::broker_group);
    spawner.declared(topic_writer, Routes::topic, |stores, event| {
        stores.topic_names.apply(event, &stores.topics);
    });
    spawner.declared(consumer_group_writer, Routes::consumer_group, |stores, event| {
        stores.consumer_group_names.apply(event, &stores.consumer_groups);
    });
    spawner.objects(stateful_set_writer, Routes::object);
    spawner.objects(service_writer, Routes::object);
    spawner.objects(config_map_writer, Routes::object);
    spawner.objects(service_account_writer, Routes::object);
    spawner.objects(budget_writer, Routes::object);
    spawner.objects(pod_writer, Routes::pod);
    spawner.objects(claim_writer, Routes::object);
    spawner.objects(lease_writer, Routes::lease);
    spawner.objects(endpoint_writer, Routes::endpoints);
    spawner.objects(role_writer, Routes::object);
    spawner.objects(role_binding_writer, Routes::object);
    if watch_nodes {
        spawner.nodes(node_writer);
    }
    if scope.namespace().is_none() {
        spawner.namespaces(namespace_writer);
    }
    (stores, queues)
}

impl Stores {
    /// Waits until everything has been listed once that nothing can be done without.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let lost = |_| anyhow!("a watch ended before it had listed anything");
        self.name_server_sets.wait_until_ready().await.map_err(lost)?;
        self.broker_groups.wait_until_ready().await.map_err(lost)?;
        self.topics.wait_until_ready().await.map_err(lost)?;
        self.consumer_groups.wait_until_ready().await.map_err(lost)?;
        self.stateful_sets.wait_until_ready().await.map_err(lost)?;
        self.services.wait_until_ready().await.map_err(lost)?;
        self.config_maps.wait_until_ready().await.map_err(lost)?;
        self.service_accounts.wait_until_ready().await.map_err(lost)?;
        self.budgets.wait_until_ready().await.map_err(lost)?;
        self.pods.wait_until_ready().await.map_err(lost)?;
        self.claims.wait_until_ready().await.map_err(lost)?;
        self.leases.wait_until_ready().await.map_err(lost)?;
        self.endpoints.wait_until_ready().await.map_err(lost)?;
        self.roles.wait_until_ready().await.map_err(lost)?;
        self.role_bindings.wait_until_ready().await.map_err(lost)?;
        // Nodes are not waited for: without the right to look at them no primary leaves one that is cordoned, and all else goes on.
        match &self.namespaces {
            Some(namespaces) => namespaces.wait_until_ready().await.map_err(lost),
            None => Ok(()),
        }
    }

    /// Whether the operator serves the namespace: what is in others is another operator's, or nobody's.
    pub fn serves(&self, namespace: &str) -> bool {
        let (Some(selector), Some(all)) = (&self.chosen, &self.namespaces) else { return true };
        all.get(&ObjectRef::new(namespace)).is_some_and(|found| selects(selector, found.labels()))
    }

    /// Every resource.
    pub(crate) fn everything(&self) -> Vec<Target> {
        let sets = self
            .name_server_sets
            .state()
            .into_iter()
            .map(|it| Target::NameServerSet(ObjectRef::from_obj(&*it)));
        let groups =
            self.broker_groups.state().into_iter().map(|it| Target::BrokerGroup(ObjectRef::from_obj(&*it)));
        let topics = self.topics.state().into_iter().map(|it| Target::Topic(ObjectRef::from_obj(&*it)));
        let consumer_groups = self
            .consumer_groups
            .state()
            .into_iter()
            .map(|it| Target::ConsumerGroup(ObjectRef::from_obj(&*it)));
        sets.chain(groups).chain(topics).chain(consumer_groups).collect()
    }
}

/// From a change to what must be looked at.
type Route<K> = fn(&mut Routes, &Stores, Change<'_, K>) -> Vec<Target>;
/// Takes an event into an index, after the store has it.
type Index<K> = fn(&Stores, &Event<K>);

/// What is done with what a watch tells, in this order.
struct Look<K> {
    /// Drops what is not kept.
    slim: fn(&mut K),
    index: Index<K>,
    route: Route<K>,
}

struct Spawner<'a> {
    client: &'a Client,
    scope: &'a Scope,
    metrics: &'a Arc<Metrics>,
    queues: Queues,
    stores: Stores,
    tasks: &'a mut JoinSet<anyhow::Result<()>>,
}

impl Spawner<'_> {
    fn resources<K>(&mut self, writer: Writer<K>, route: Route<K>)
    where
        K: Watched + Resource<Scope = NamespaceResourceScope>,
    {
        let look = Look { slim: slim::object, index: |_, _| {}, route };
        self.follow(watcher::Config::default(), writer, look);
    }

    fn declared<K>(&mut self, writer: Writer<K>, route: Route<K>, index: Index<K>)
    where
        K: Watched + Declared,
    {
        let look = Look { slim: slim::declared, index, route };
        self.follow(watcher::Config::default(), writer, look);
    }

    fn objects<K>(&mut self, writer: Writer<K>, route: Route<K>)
    where
        K: Watched + Resource<Scope = NamespaceResourceScope>,
    {
        let ours = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
        let look = Look { slim: slim::object, index: |_, _| {}, route };
        self.follow(watcher::Config::default().labels(&ours), writer, look);
    }

    /// Nodes are in no namespace.
    fn nodes(&mut self, writer: Writer<Node>) {
        let look = Look { slim: slim::object, index: |_, _| {}, route: Routes::node };
        self.spawn(Api::all(self.client.clone()), watcher::Config::default(), writer, look);
    }

    /// No more than their metadata is asked for.
    fn namespaces(&mut self, writer: Writer<PartialObjectMeta<Namespace>>) {
        let look = Look { slim: slim::object, index: |_, _| {}, route: Routes::namespace };
        self.spawn(Api::all(self.client.clone()), watcher::Config::default(), writer, look);
    }

    fn follow<K: Watched + Resource<Scope = NamespaceResourceScope>>(
        &mut self,
        config: watcher::Config,
        writer: Writer<K>,
        look: Look<K>,
    ) {
        let api = match self.scope.namespace() {
            None => Api::all(self.client.clone()),
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
        };
        self.spawn(api, config, writer, look);
    }

    fn spawn<K: Watched>(&mut self, api: Api<K>, config: watcher::Config, writer: Writer<K>, look: Look<K>) {
        let events = watcher(api, config).default_backoff();
        self.tasks.spawn(follow(
            events,
            writer,
            look,
            self.stores.clone(),
            self.queues.clone(),
            Arc::clone(self.metrics),
        ));
    }
}

/// What can be watched here.
trait Watched: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static {}
impl<K> Watched for K
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
}

async fn follow<K: Watched>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    mut writer: Writer<K>,
    Look { slim, index, route }: Look<K>,
    stores: Stores,
    queues: Queues,
    metrics: Arc<Metrics>,
) -> anyhow::Result<()> {
    let kind = K::kind(&()).into_owned();
    let mut routes = Routes::default();
    let mut listed = false;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event.modify(slim),
            Err(error) => {
                metrics.watch_failed(&kind);
                tracing::warn!(kind, %error, "watch broken, trying again");
                continue;
            }
        };
        writer.apply_watcher_event(&event);
        index(&stores, &event);
        let targets = match &event {
            Event::Apply(object) => route(&mut routes, &stores, Change::Is(object)),
            Event::Delete(object) => route(&mut routes, &stores, Change::Gone(object)),
            Event::InitDone if listed => stores.everything(),
            // The controllers begin with everything.
            Event::InitDone => {
                listed = true;
                Vec::new()
            }
            Event::Init | Event::InitApply(_) => Vec::new(),
        };
        queues.add(targets);
    }
    Err(anyhow!("the watch of {kind} ended"))
}
