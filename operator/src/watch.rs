//! Watching: one store for each kind of object, kept up to date by a task, and a queue for each kind of resource.
//!
//! A change of an object is turned into resources to reconcile by [`Routes`], which is pure. A store that
//! had to be listed anew may have missed deletions: then everything is reconciled.

use std::{fmt::Debug, hash::Hash};

use anyhow::anyhow;
use crds::{BrokerGroup, NameServerSet, Topic};
use futures::{Stream, StreamExt as _};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        coordination::v1::Lease,
        core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{Role, RoleBinding},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, Store, store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::{
    identity::MANAGED_BY,
    metrics::Metrics,
    options::Scope,
    pending::Pending,
    routes::{Change, Routes, Target},
    topic::names::TopicNames,
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
    pub topic_names: TopicNames,
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
}

impl Queues {
    fn add(&self, targets: Vec<Target>) {
        for target in targets {
            match target {
                Target::NameServerSet(reference) => self.name_server_sets.add(reference),
                Target::BrokerGroup(reference) => self.broker_groups.add(reference),
                Target::Topic(reference) => self.topics.add(reference),
            }
        }
    }
}

/// Begins to watch. The tasks go into `tasks`; each runs until it is aborted, and one that ends by itself is a fault.
pub fn start(
    client: &Client,
    scope: &Scope,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> (Stores, Queues) {
    let queues = Queues::default();

    let (nss_store, nss_writer) = store();
    let (bg_store, bg_writer) = store();
    let (topic_store, topic_writer) = store();
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
    let stores = Stores {
        name_server_sets: nss_store,
        broker_groups: bg_store,
        topics: topic_store,
        topic_names: TopicNames::default(),
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
    };

    let mut spawner =
        Spawner { client, scope, metrics, queues: queues.clone(), stores: stores.clone(), tasks };
    spawner.resources(nss_writer, Routes::name_server_set, |_, _| {});
    spawner.resources(bg_writer, Routes::broker_group, |_, _| {});
    spawner.resources(topic_writer, Routes::topic, |stores, event| {
        stores.topic_names.apply(event, &stores.topics);
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
    (stores, queues)
}

impl Stores {
    /// Waits until everything has been listed once.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let lost = |_| anyhow!("a watch ended before it had listed anything");
        self.name_server_sets.wait_until_ready().await.map_err(lost)?;
        self.broker_groups.wait_until_ready().await.map_err(lost)?;
        self.topics.wait_until_ready().await.map_err(lost)?;
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
        self.role_bindings.wait_until_ready().await.map_err(lost)
    }

    /// Every resource.
    fn everything(&self) -> Vec<Target> {
        let sets = self
            .name_server_sets
            .state()
            .into_iter()
            .map(|it| Target::NameServerSet(ObjectRef::from_obj(&*it)));
        let groups =
            self.broker_groups.state().into_iter().map(|it| Target::BrokerGroup(ObjectRef::from_obj(&*it)));
        let topics = self.topics.state().into_iter().map(|it| Target::Topic(ObjectRef::from_obj(&*it)));
        sets.chain(groups).chain(topics).collect()
    }
}

/// From a change to what must be looked at.
type Route<K> = fn(&mut Routes, &Stores, Change<'_, K>) -> Vec<Target>;
/// Takes an event into an index, after the store has it.
type Index<K> = fn(&Stores, &Event<K>);

struct Spawner<'a> {
    client: &'a Client,
    scope: &'a Scope,
    metrics: &'a Arc<Metrics>,
    queues: Queues,
    stores: Stores,
    tasks: &'a mut JoinSet<anyhow::Result<()>>,
}

impl Spawner<'_> {
    fn resources<K>(&mut self, writer: Writer<K>, route: Route<K>, index: Index<K>)
    where
        K: Watched,
    {
        self.follow(watcher::Config::default(), writer, route, index);
    }

    fn objects<K>(&mut self, writer: Writer<K>, route: Route<K>)
    where
        K: Watched,
    {
        let ours = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
        self.follow(watcher::Config::default().labels(&ours), writer, route, |_, _| {});
    }

    fn follow<K: Watched>(
        &mut self,
        config: watcher::Config,
        writer: Writer<K>,
        route: Route<K>,
        index: Index<K>,
    ) {
        let api = match self.scope {
            Scope::All => Api::all(self.client.clone()),
            Scope::Namespace(namespace) => Api::namespaced(self.client.clone(), namespace),
        };
        let events = watcher(api, config).default_backoff();
        self.tasks.spawn(follow(
            events,
            writer,
            (route, index),
            self.stores.clone(),
            self.queues.clone(),
            Arc::clone(self.metrics),
        ));
    }
}

/// What can be watched here.
trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
}
impl<K> Watched for K
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
}

async fn follow<K: Watched>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    mut writer: Writer<K>,
    (route, index): (Route<K>, Index<K>),
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
            Ok(event) => event.modify(|object| object.managed_fields_mut().clear()),
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
