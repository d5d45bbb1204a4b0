//! What there is of a NameServerSet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crds::{BrokerGroup, NameServerSet};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Pod},
};
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};

use proto::control::CertificateState;

use crate::{
    broker_group::broker_name,
    context::Context,
    identity::{CONTROL_PORT, Identity, Role},
    pods,
    watch::Stores,
};

/// What there is of a NameServerSet.
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
    /// The BrokerGroups that refer to it, by name.
    pub groups: Vec<Group>,
}

/// A BrokerGroup that refers to a NameServerSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name of the resource.
    pub name: String,
    /// `cluster/brokerName`.
    pub path: String,
    /// Whether it ever served, and should.
    pub served: bool,
}

impl Group {
    /// What concerns the name servers of a BrokerGroup.
    pub fn of(group: &BrokerGroup) -> Self {
        Self {
            name: group.name_any(),
            path: format!("{}/{}", group.spec.cluster_name, broker_name(group)),
            // One that sleeps registers with nobody.
            served: !group.spec.hibernate
                && group.status.as_ref().is_some_and(|status| status.first_served_at.is_some()),
        }
    }
}

/// The identity of what is made for a NameServerSet.
pub fn identity(set: &NameServerSet) -> Identity {
    Identity {
        role: Role::NameServer,
        name: set.name_any(),
        namespace: set.namespace().unwrap_or_default(),
        uid: set.uid().unwrap_or_default(),
    }
}

/// Looks into the stores.
pub fn observe(set: &NameServerSet, stores: &Stores) -> Observed {
    let identity = identity(set);
    let selector = identity.selector();
    let mut pods = stores.pods.state_filter(|pod| {
        pod.namespace().as_deref() == Some(identity.namespace.as_str())
            && selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
    });
    pods.sort_by_key(|pod| pod.name_any());
    let groups = stores.broker_groups.state_filter(|group| {
        group.namespace() == set.namespace() && group.spec.name_server_ref.name == identity.name
    });
    let mut groups: Vec<Group> = groups.iter().map(|group| Group::of(group)).collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    let at = |name: String| (name, identity.namespace.clone());
    let (name, namespace) = at(identity.base());
    let stateful_set = stores.stateful_sets.get(&ObjectRef::new(&name).within(&namespace));
    let (name, namespace) = at(identity.config_map());
    let config_map = stores.config_maps.get(&ObjectRef::new(&name).within(&namespace));
    Observed { stateful_set, config_map, pods, lacking_for: Duration::ZERO, groups }
}

/// What the name servers say, each by the name of its pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// `cluster/brokerName` of what is registered.
    pub registered: BTreeMap<String, BTreeSet<String>>,
    /// How many answered.
    pub answers: usize,
    /// The certificates that they show.
    pub certificates: Vec<CertificateState>,
    /// What a name server waits for that is not warm.
    pub missing: BTreeSet<String>,
}

/// Asks every name server that runs.
pub async fn routes(context: &Context, observed: &Observed) -> Routes {
    let running = observed.pods.iter().filter(|pod| pods::runs(pod));
    let asked = running.filter_map(|pod| {
        let address = pods::address(pod, CONTROL_PORT)?;
        Some(async move {
            (pod.name_any(), pods::is_ready(pod), context.control.describe_cluster(&address).await)
        })
    });
    let mut routes = Routes::default();
    for (pod, ready, answer) in futures::future::join_all(asked).await {
        match answer {
            Ok(cluster) => {
                routes.answers += 1;
                routes.certificates.extend(cluster.certificate);
                if !cluster.warm {
                    routes.missing.extend(cluster.missing_groups);
                }
                if ready {
                    let paths = cluster
                        .brokers
                        .iter()
                        .map(|broker| format!("{}/{}", broker.cluster_name, broker.broker_name));
                    routes.registered.insert(pod, paths.collect());
                }
            }
            Err(status) => tracing::debug!(pod, %status, "name server does not answer"),
        }
    }
    routes
}
