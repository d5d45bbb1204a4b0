//! From a changed object to the resources that must be looked at. Pure.
//!
//! Resources refer to each other, so a change of one may concern others; a [`Gate`] lets through only those changes
//! that others can see, since every status write is a change too.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use crds::{BrokerGroup, NameServerSet, Topic};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Resource, ResourceExt as _, runtime::reflector::ObjectRef};

use crate::{
    broker_group::reign,
    conditions::{self, Type},
    identity::{BROKER_GROUP, COMPONENT, NAME_SERVER_SET, Role},
    pods,
    watch::Stores,
};

/// A resource to reconcile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A NameServerSet.
    NameServerSet(ObjectRef<NameServerSet>),
    /// A BrokerGroup.
    BrokerGroup(ObjectRef<BrokerGroup>),
    /// A Topic.
    Topic(ObjectRef<Topic>),
}

/// What happened to an object.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a, K> {
    /// It is there, new or different.
    Is(&'a K),
    /// It is gone.
    Gone(&'a K),
}

impl<K> Change<'_, K> {
    fn object(&self) -> &K {
        match self {
            Self::Is(object) | Self::Gone(object) => object,
        }
    }
}

/// Lets a change through when what is looked at differs from the last time.
#[derive(Default)]
struct Gate {
    seen: HashMap<String, u64>,
}

impl Gate {
    fn passes<K: Resource>(&mut self, change: &Change<'_, K>, look: impl Hash) -> bool {
        let key =
            format!("{}/{}", change.object().namespace().unwrap_or_default(), change.object().name_any());
        if matches!(change, Change::Gone(_)) {
            self.seen.remove(&key);
            return true;
        }
        let mut hasher = DefaultHasher::new();
        look.hash(&mut hasher);
        let look = hasher.finish();
        self.seen.insert(key, look) != Some(look)
    }
}

/// Routes of one watch.
#[derive(Default)]
pub struct Routes {
    own: Gate,
    others: Gate,
    topics: Gate,
}

/// What a resource's own controller must see: everything but its status.
fn own_look<K: Resource>(object: &K) -> impl Hash + use<K> {
    let meta = object.meta();
    (
        meta.uid.clone(),
        meta.generation,
        meta.deletion_timestamp.is_some(),
        meta.finalizers.clone(),
        meta.annotations.clone(),
    )
}

impl Routes {
    /// A NameServerSet concerns itself, and where it comes or goes also those that refer to it.
    pub fn name_server_set(&mut self, stores: &Stores, change: Change<'_, NameServerSet>) -> Vec<Target> {
        let set = change.object();
        let mut targets = Vec::new();
        if self.own.passes(&change, own_look(set)) {
            targets.push(Target::NameServerSet(ObjectRef::from_obj(set)));
        }
        if self.others.passes(&change, (set.uid(), set.metadata.deletion_timestamp.is_some())) {
            let (namespace, name) = (set.namespace().unwrap_or_default(), set.name_any());
            targets.extend(groups_of(stores, &namespace, &name).map(Target::BrokerGroup));
            targets.extend(topics_of(stores, &namespace, &name).map(Target::Topic));
        }
        targets
    }

    /// A BrokerGroup concerns itself, its NameServerSet, the groups beside it and the topics that it keeps.
    pub fn broker_group(&mut self, stores: &Stores, change: Change<'_, BrokerGroup>) -> Vec<Target> {
        let group = change.object();
        let namespace = group.namespace().unwrap_or_default();
        let set = &group.spec.name_server_ref.name;
        let mut targets = Vec::new();
        if self.own.passes(&change, own_look(group)) {
            targets.push(Target::BrokerGroup(ObjectRef::from_obj(group)));
        }
        let conditions = group.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let serves = conditions::holds(conditions, Type::Ready);
        let served = group.status.as_ref().is_some_and(|status| status.first_served_at.is_some());
        let exists = (group.uid(), group.metadata.deletion_timestamp.is_some());
        if self.others.passes(&change, (&exists, serves, served)) {
            targets.push(Target::NameServerSet(ObjectRef::new(set).within(&namespace)));
        }
        // Another primary is another broker to be given the topics.
        let primary = group.status.as_ref().map(|status| (status.primary.clone(), status.epoch));
        let primary = primary.filter(|(_, epoch)| epoch.is_some());
        if self.topics.passes(&change, (exists, served, primary)) {
            let me = ObjectRef::from_obj(group);
            targets.extend(
                groups_of(stores, &namespace, set).filter(|other| *other != me).map(Target::BrokerGroup),
            );
            targets.extend(topics_of(stores, &namespace, set).map(Target::Topic));
        }
        targets
    }

    /// A Topic concerns itself, and where it comes or goes also those of the same name.
    pub fn topic(&mut self, stores: &Stores, change: Change<'_, Topic>) -> Vec<Target> {
        let topic = change.object();
        let mut targets = Vec::new();
        if self.own.passes(&change, own_look(topic)) {
            targets.push(Target::Topic(ObjectRef::from_obj(topic)));
        }
        if self.others.passes(&change, topic.uid()) {
            let rivals = stores.topic_names.rivals(topic, &stores.topics);
            targets.extend(rivals.iter().map(|rival| Target::Topic(ObjectRef::from_obj(&**rival))));
        }
        targets
    }

    /// An object of ours concerns the resource that it was made for.
    pub fn object<K: Resource<DynamicType = ()>>(
        &mut self,
        _: &Stores,
        change: Change<'_, K>,
    ) -> Vec<Target> {
        resource_of(change.object()).into_iter().collect()
    }

    /// A Lease concerns its group when it says something new, and is renewed every few seconds.
    pub fn lease(&mut self, _: &Stores, change: Change<'_, Lease>) -> Vec<Target> {
        let lease = change.object();
        let news = self.own.passes(&change, reign::look(lease));
        resource_of(lease).into_iter().filter(|_| news).collect()
    }

    /// Where a primary is concerns its group when nobody says it any more. Kubernetes' own slices bear the labels of our Services, and
    /// concern nobody here.
    pub fn endpoints(&mut self, _: &Stores, change: Change<'_, EndpointSlice>) -> Vec<Target> {
        let slice = change.object();
        let ours = slice.owner_references().iter().any(|owner| owner.kind == Role::Broker.kind());
        let news =
            ours && self.own.passes(&change, (slice.uid(), slice.metadata.deletion_timestamp.is_some()));
        resource_of(slice).into_iter().filter(|_| news).collect()
    }

    /// A broker that starts must be given its topics, unless it follows another.
    pub fn pod(&mut self, stores: &Stores, change: Change<'_, Pod>) -> Vec<Target> {
        let pod = change.object();
        let mut targets: Vec<Target> = resource_of(pod).into_iter().collect();
        let ready = pods::is_ready(pod);
        let news = self.topics.passes(&change, (ready, pods::incarnation(pod), pods::address(pod, 0)));
        if let (Some(Target::BrokerGroup(group)), Some(set), true) =
            (targets.first(), pod.labels().get(NAME_SERVER_SET), ready && news)
            && !follows(stores, group, pod)
        {
            let namespace = pod.namespace().unwrap_or_default();
            targets.extend(topics_of(stores, &namespace, set).map(Target::Topic));
        }
        targets
    }
}

/// Whether the pod's broker is known to be a replica.
fn follows(stores: &Stores, group: &ObjectRef<BrokerGroup>, pod: &Pod) -> bool {
    let group = stores.broker_groups.get(group);
    let status = group.as_ref().and_then(|group| group.status.as_ref());
    status.is_some_and(|status| {
        status.epoch.is_some() && status.primary.as_ref().is_some_and(|primary| *primary != pod.name_any())
    })
}

fn groups_of<'a>(
    stores: &Stores,
    namespace: &'a str,
    set: &'a str,
) -> impl Iterator<Item = ObjectRef<BrokerGroup>> + use<'a> {
    let groups = stores.broker_groups.state_filter(|group| {
        group.namespace().as_deref() == Some(namespace) && group.spec.name_server_ref.name == set
    });
    groups.into_iter().map(|group| ObjectRef::from_obj(&*group))
}

fn topics_of<'a>(
    stores: &Stores,
    namespace: &'a str,
    set: &'a str,
) -> impl Iterator<Item = ObjectRef<Topic>> + use<'a> {
    let topics = stores.topics.state_filter(|topic| {
        topic.namespace().as_deref() == Some(namespace) && topic.spec.name_server_ref.name == set
    });
    topics.into_iter().map(|topic| ObjectRef::from_obj(&*topic))
}

/// The resource that an object was made for, from its labels.
fn resource_of<K: Resource>(object: &K) -> Option<Target> {
    let namespace = object.namespace()?;
    let labels = object.labels();
    let component = labels.get(COMPONENT)?.as_str();
    if component == Role::Broker.component() {
        let name = labels.get(BROKER_GROUP)?;
        Some(Target::BrokerGroup(ObjectRef::new(name).within(&namespace)))
    } else {
        let name = labels.get(NAME_SERVER_SET)?;
        Some(Target::NameServerSet(ObjectRef::new(name).within(&namespace)))
    }
}
