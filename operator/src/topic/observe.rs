//! What there is around a Topic: the brokers that shall keep it, and others of the same name.

use crds::{BrokerGroup, Topic};
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};

use crate::{broker_group, identity::CONTROL_PORT, pods, watch::Stores};

/// What there is around a Topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether the NameServerSet exists.
    pub has_name_servers: bool,
    /// The BrokerGroups of the cluster, by name.
    pub groups: Vec<Group>,
    /// The older Topic that has the name.
    pub rival: Option<String>,
}

/// A BrokerGroup that shall keep the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Where its primary's control plane is, or why that is not known.
    pub address: Result<String, String>,
}

/// Looks into the stores.
pub fn observe(topic: &Topic, stores: &Stores) -> Observed {
    let namespace = topic.namespace().unwrap_or_default();
    let set = &topic.spec.name_server_ref.name;
    let groups = stores.broker_groups.state_filter(|group| {
        group.namespace().as_deref() == Some(namespace.as_str())
            && group.spec.name_server_ref.name == *set
            && group.metadata.deletion_timestamp.is_none()
    });
    let mut groups: Vec<Group> = groups
        .iter()
        .map(|group| Group { name: group.name_any(), address: primary(stores, &namespace, group) })
        .collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    Observed {
        has_name_servers: stores.name_server_sets.get(&ObjectRef::new(set).within(&namespace)).is_some(),
        groups,
        rival: rival(topic, stores),
    }
}

fn primary(stores: &Stores, namespace: &str, group: &BrokerGroup) -> Result<String, String> {
    // Before, a name server that does not know the broker yet would tell clients that there is no such topic.
    if group.status.as_ref().is_none_or(|status| status.first_served_at.is_none()) {
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

fn rival(topic: &Topic, stores: &Stores) -> Option<String> {
    let age = |topic: &Topic| (topic.creation_timestamp(), topic.uid());
    let mine = age(topic);
    let rivals = stores.topic_names.rivals(topic, &stores.topics);
    let older = rivals.iter().filter(|other| age(other) < mine);
    older.min_by_key(|other| age(other)).map(|other| other.name_any())
}
