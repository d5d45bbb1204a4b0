//! What there is around a resource: the brokers that shall keep it, and others of the same name.

use crds::{AllowedNamespaces, BrokerGroup, NameServerSet, NamespacesFrom};
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};

use super::Declared;
use crate::{broker_group, identity::CONTROL_PORT, pods, selector::selects, watch::Stores};

/// What there is around a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether the NameServerSet exists.
    pub has_name_servers: bool,
    /// Whether it consents to references from the resource's namespace.
    pub is_allowed: bool,
    /// The BrokerGroups of the cluster, by name.
    pub groups: Vec<Group>,
    /// The older resource of its kind that has the name.
    pub rival: Option<String>,
}

/// A BrokerGroup of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Whether it shall have it.
    pub chosen: bool,
    /// Whether its brokers have ever been asked for anything.
    pub has_served: bool,
    /// Which it is.
    pub reference: ObjectRef<BrokerGroup>,
    /// Where its primary's control plane is, or why that is not known.
    pub address: Result<String, String>,
}

/// Looks into the stores.
pub fn observe<K: Declared>(resource: &K, stores: &Stores) -> Observed {
    let namespace = resource.set_namespace();
    let set = &resource.name_server_ref().name;
    // A cluster that is served by another operator is none of ours.
    let is_served = stores.serves(&namespace);
    let groups = stores.broker_groups.state_filter(|group| {
        is_served
            && group.namespace().as_deref() == Some(namespace.as_str())
            && group.spec.name_server_ref.name == *set
            && group.metadata.deletion_timestamp.is_none()
    });
    let mut groups: Vec<Group> = groups
        .iter()
        .map(|group| Group {
            name: group.name_any(),
            chosen: resource.chooses(group),
            has_served: has_served(group),
            reference: ObjectRef::from_obj(&**group),
            address: primary(stores, group),
        })
        .collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    let set = stores.name_server_sets.get(&ObjectRef::new(set).within(&namespace)).filter(|_| is_served);
    let may = |one: &K| {
        let from = one.namespace().unwrap_or_default();
        // Where there is no such set, nobody consents for it; and who is not served asks for nothing.
        stores.serves(&from)
            && (from == namespace || set.as_ref().is_some_and(|set| consents(stores, set, &from)))
    };
    Observed {
        has_name_servers: set.is_some(),
        is_allowed: may(resource),
        groups,
        rival: rival(resource, stores, may),
    }
}

/// Whether the NameServerSet consents to references from another namespace.
fn consents(stores: &Stores, set: &NameServerSet, namespace: &str) -> bool {
    let Some(AllowedNamespaces { from, selector }) = &set.spec.allowed_namespaces else { return false };
    match from {
        NamespacesFrom::Same => false,
        NamespacesFrom::All => true,
        NamespacesFrom::Selector => {
            let found = stores.namespaces.as_ref().and_then(|all| all.get(&ObjectRef::new(namespace)));
            found.is_some_and(|found| {
                selector.as_ref().is_some_and(|selector| selects(selector, found.labels()))
            })
        }
    }
}

/// Where the primary of a group is to be asked, or why nobody can be.
pub fn primary(stores: &Stores, group: &BrokerGroup) -> Result<String, String> {
    let namespace = &group.namespace().unwrap_or_default();
    // Before, a name server that does not know the broker yet would tell clients that there is no such topic.
    if !has_served(group) {
        return Err("the broker group has never been Ready".to_owned());
    }
    let status = group.status.as_ref().filter(|status| status.epoch.is_some());
    let pod = &match status {
        None => broker_group::observe::identity(group).member(0),
        Some(status) => status.primary.clone().ok_or("the broker group has no primary yet")?,
    };
    let Some(pod) = stores.pods.get(&ObjectRef::new(pod).within(namespace)) else {
        return Err(format!("pod {pod} is not there yet"));
    };
    if !pods::is_ready(&pod) {
        return Err(format!("pod {} is not ready", pod.name_any()));
    }
    pods::address(&pod, CONTROL_PORT).ok_or_else(|| format!("pod {} has no address yet", pod.name_any()))
}

fn has_served(group: &BrokerGroup) -> bool {
    group.status.as_ref().is_some_and(|status| status.first_served_at.is_some())
}

/// The oldest of those that may have the name, if that is another one.
fn rival<K: Declared>(resource: &K, stores: &Stores, may: impl Fn(&K) -> bool) -> Option<String> {
    let age = |resource: &K| (resource.creation_timestamp(), resource.uid());
    let mine = age(resource);
    let rivals = K::names(stores).rivals(resource, K::store(stores));
    let older = rivals.iter().filter(|other| age(other) < mine && may(other));
    let oldest = older.min_by_key(|other| age(other))?;
    Some(match oldest.namespace() == resource.namespace() {
        true => oldest.name_any(),
        false => format!("{}/{}", oldest.namespace().unwrap_or_default(), oldest.name_any()),
    })
}
