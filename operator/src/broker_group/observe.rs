//! What there is of a BrokerGroup.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crds::{BrokerGroup, NameServerSet};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service},
};
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use proto::control::GetStateResponse;

use super::{broker_name, reign::Reign};
use crate::{
    apply::belongs_to,
    context::Context,
    control,
    identity::{CONTROL_PORT, Identity, Role},
    pods,
    watch::Stores,
};

/// The annotation of a volume claim with the size of the log's files on it.
pub const SEGMENT_SIZE: &str = "mq.gantry.dev/segment-size";

/// A NameServerSet may take so long to start all its name servers. A group that comes with it waits no longer for the last of them.
const YOUNG: SignedDuration = SignedDuration::from_secs(60);

/// What there is of a BrokerGroup.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The StatefulSet.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// The ConfigMap.
    pub config_map: Option<Arc<ConfigMap>>,
    /// The pods, by name.
    pub pods: Vec<Arc<Pod>>,
    /// How long some have been lacking.
    pub lacking_for: Duration,
    /// The volume claims, by name, also of members that are gone.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// The brokers whose nodes are cordoned.
    pub leaving: BTreeSet<i32>,
    /// What the Lease says, if there is one.
    pub reign: Option<Reign>,
    /// Whether the NameServerSet exists.
    pub has_name_servers: bool,
    /// How many of its name servers answer clients, or are about to.
    pub name_servers: usize,
    /// The older BrokerGroup that has the same name in the same cluster.
    pub rival: Option<String>,
}

impl Observed {
    /// The pod that is primary, if that process is there.
    pub fn reigning(&self) -> Option<&Pod> {
        let reign = self.reign.as_ref()?;
        self.pods.iter().map(|pod| &**pod).find(|pod| reign.is_held_by(pod))
    }

    /// The volume claims of this many members. Those of members that are gone stay as they are, and concern nobody.
    pub fn claims_of(&self, members: i32) -> impl Iterator<Item = &PersistentVolumeClaim> {
        let is_of_member = move |claim: &&PersistentVolumeClaim| {
            claim.metadata.deletion_timestamp.is_none()
                && pods::ordinal_in(&claim.name_any()).is_some_and(|ordinal| ordinal < members)
        };
        self.claims.iter().map(|claim| &**claim).filter(is_of_member)
    }

    /// The members whose pods are Ready.
    pub fn ready(&self) -> BTreeSet<i32> {
        let ready = self.pods.iter().filter(|pod| pods::is_ready(pod));
        ready.filter_map(|pod| pods::ordinal(pod)).collect()
    }
}

/// The identity of what is made for a BrokerGroup.
pub fn identity(group: &BrokerGroup) -> Identity {
    Identity {
        role: Role::Broker,
        name: group.name_any(),
        namespace: group.namespace().unwrap_or_default(),
        uid: group.uid().unwrap_or_default(),
    }
}

/// Looks into the stores.
pub fn observe(group: &BrokerGroup, stores: &Stores, now: Timestamp) -> Observed {
    let identity = identity(group);
    let selector = identity.selector();
    let namespace = identity.namespace.as_str();
    let selects = |labels: &BTreeMap<String, String>| {
        selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let mut pods = stores
        .pods
        .state_filter(|pod| pod.namespace().as_deref() == Some(namespace) && selects(pod.labels()));
    pods.sort_by_key(|pod| pod.name_any());
    let mut claims = stores
        .claims
        .state_filter(|claim| claim.namespace().as_deref() == Some(namespace) && selects(claim.labels()));
    claims.sort_by_key(|claim| claim.name_any());
    let set =
        stores.name_server_sets.get(&ObjectRef::new(&group.spec.name_server_ref.name).within(namespace));
    let name_servers = set.as_ref().map_or(0, |set| name_servers(set, now));
    let leaving = pods.iter().filter(|pod| is_leaving(pod, stores)).filter_map(|pod| pods::ordinal(pod));
    Observed {
        leaving: leaving.collect(),
        stateful_set: stores.stateful_sets.get(&ObjectRef::new(&identity.base()).within(namespace)),
        config_map: stores.config_maps.get(&ObjectRef::new(&identity.config_map()).within(namespace)),
        pods,
        lacking_for: Duration::ZERO,
        claims,
        reign: stores
            .leases
            .get(&ObjectRef::new(&identity.base()).within(namespace))
            .map(|lease| Reign::of(&lease)),
        has_name_servers: set.is_some(),
        name_servers,
        rival: rival(group, stores),
    }
}

/// The name servers that clients are led to. Where all were made a moment ago, also those that are not ready yet: one that comes
/// last is asked at once, and brokers need seconds to see it.
pub(super) fn name_servers(set: &NameServerSet, now: Timestamp) -> usize {
    let ready = set.status.as_ref().map_or(0, |status| status.ready_replicas);
    let is_young = set.creation_timestamp().is_some_and(|made| now.duration_since(made.0) < YOUNG);
    let all = if is_young { set.spec.replicas } else { 0 };
    usize::try_from(ready.max(all)).unwrap_or_default()
}

/// Whether the pod's node is about to be drained.
fn is_leaving(pod: &Pod, stores: &Stores) -> bool {
    let node = pods::node(pod).and_then(|name| stores.nodes.as_ref()?.get(&ObjectRef::new(name)));
    node.is_some_and(|node| pods::is_cordoned(&node))
}

/// The Services that were made, by name.
pub fn services(owner: &Identity, stores: &Stores) -> BTreeMap<String, Arc<Service>> {
    let made = stores.services.state_filter(|service| {
        service.namespace().as_deref() == Some(owner.namespace.as_str()) && belongs_to(service, owner)
    });
    made.into_iter().map(|service| (service.name_any(), service)).collect()
}

/// The address of a Service, once it has one.
pub fn cluster_ip(service: &Service) -> Option<String> {
    let ip = service.spec.as_ref()?.cluster_ip.clone()?;
    (!ip.is_empty() && ip != "None").then_some(ip)
}

fn rival(group: &BrokerGroup, stores: &Stores) -> Option<String> {
    let place = |group: &BrokerGroup| {
        let spec = &group.spec;
        (group.namespace(), spec.name_server_ref.name.clone(), spec.cluster_name.clone(), broker_name(group))
    };
    let age = |group: &BrokerGroup| (group.creation_timestamp(), group.uid());
    let here = place(group);
    let mut rivals = stores.broker_groups.state_filter(|other| {
        other.uid() != group.uid()
            && other.metadata.deletion_timestamp.is_none()
            && place(other) == here
            && age(other) < age(group)
    });
    rivals.sort_by_key(|other| age(other));
    rivals.first().map(|other| other.name_any())
}

/// What the brokers say, by ordinal.
pub type Brokers = BTreeMap<i32, Result<GetStateResponse, String>>;

/// Asks every broker that runs.
pub async fn brokers(context: &Context, observed: &Observed) -> Brokers {
    let running = observed.pods.iter().filter(|pod| pods::runs(pod));
    let asked = running.filter_map(|pod| {
        let address = pods::address(pod, CONTROL_PORT)?;
        let ordinal = pods::ordinal(pod)?;
        Some(async move {
            let state = context.control.broker_state(&address).await;
            (ordinal, state.map_err(|status| control::explain(&status)))
        })
    });
    futures::future::join_all(asked).await.into_iter().collect()
}
