//! From a changed object to the resources that must be looked at. Pure.
//!
//! Resources refer to each other, so a change of one may concern others; a [`Gate`] lets through only those changes
//! that others can see, since every status write is a change too.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use crds::{BrokerGroup, ConsumerGroup, NameServerSet, Topic};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Node, Pod},
    discovery::v1::EndpointSlice,
};
use kube::{Resource, ResourceExt as _, core::PartialObjectMeta, runtime::reflector::ObjectRef};

use crate::{
    broker_group::{drain, reign},
    conditions::{self, Type},
    declared::Declared,
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
    /// A ConsumerGroup.
    ConsumerGroup(ObjectRef<ConsumerGroup>),
}

impl Target {
    fn namespace(&self) -> Option<&str> {
        let namespace = match self {
            Self::NameServerSet(reference) => &reference.namespace,
            Self::BrokerGroup(reference) => &reference.namespace,
            Self::Topic(reference) => &reference.namespace,
            Self::ConsumerGroup(reference) => &reference.namespace,
        };
        namespace.as_deref()
    }
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
    /// Fingerprints of names, and of what was last seen: the names themselves would be the larger part of it.
    seen: HashMap<u64, u64>,
}

impl Gate {
    fn passes<K: Resource>(&mut self, change: &Change<'_, K>, look: impl Hash) -> bool {
        let key = fingerprint((&change.object().meta().namespace, &change.object().meta().name));
        if matches!(change, Change::Gone(_)) {
            self.seen.remove(&key);
            return true;
        }
        let look = fingerprint(look);
        self.seen.insert(key, look) != Some(look)
    }
}

/// Stands for something of which very many are kept.
pub fn fingerprint(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Routes of one watch.
#[derive(Default)]
pub struct Routes {
    own: Gate,
    others: Gate,
    declared: Gate,
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
        // Whom it allows decides who has a name.
        let allowed = serde_json::to_string(&set.spec.allowed_namespaces).unwrap_or_default();
        if self.others.passes(&change, (set.uid(), set.metadata.deletion_timestamp.is_some(), allowed)) {
            let (namespace, name) = (set.namespace().unwrap_or_default(), set.name_any());
            targets.extend(groups_of(stores, &namespace, &name).map(Target::BrokerGroup));
            targets.extend(declared_under(stores, &namespace, &name));
        }
        targets
    }

    /// A BrokerGroup concerns itself, its NameServerSet, the groups beside it and what it keeps for others.
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
        if self.others.passes(&change, (&exists, serves, served, group.spec.hibernate)) {
            targets.push(Target::NameServerSet(ObjectRef::new(set).within(&namespace)));
        }
        // Another primary is another broker to be given what is declared.
        let primary = group.status.as_ref().map(|status| (status.primary.clone(), status.epoch));
        let primary = primary.filter(|(_, epoch)| epoch.is_some());
        // Labels choose which topics are on it.
        if self.declared.passes(&change, (exists, served, primary, group.labels(), drain::is_asked(group))) {
            let me = ObjectRef::from_obj(group);
            targets.extend(
                groups_of(stores, &namespace, set).filter(|other| *other != me).map(Target::BrokerGroup),
            );
            targets.extend(declared_under(stores, &namespace, set));
        }
        targets
    }

    /// A Topic concerns itself, and where it comes or goes also those of the same name.
    pub fn topic(&mut self, stores: &Stores, change: Change<'_, Topic>) -> Vec<Target> {
        self.declared(stores, change).into_iter().map(Target::Topic).collect()
    }

    /// A ConsumerGroup, just so.
    pub fn consumer_group(&mut self, stores: &Stores, change: Change<'_, ConsumerGroup>) -> Vec<Target> {
        self.declared(stores, change).into_iter().map(Target::ConsumerGroup).collect()
    }

    fn declared<K: Declared>(&mut self, stores: &Stores, change: Change<'_, K>) -> Vec<ObjectRef<K>> {
        let resource = change.object();
        let mut concerned = Vec::new();
        if self.own.passes(&change, own_look(resource)) {
            concerned.push(ObjectRef::from_obj(resource));
        }
        if self.others.passes(&change, resource.uid()) {
            let rivals = K::names(stores).rivals(resource, K::store(stores));
            concerned.extend(rivals.iter().map(|rival| ObjectRef::from_obj(&**rival)));
        }
        concerned
    }

    /// A namespace concerns what is in it and refers to another one, and those of the same name: whether a rival may have it. One that
    /// comes to be served, or is so no more, concerns whatever may refer to it.
    pub fn namespace(
        &mut self,
        stores: &Stores,
        change: Change<'_, PartialObjectMeta<Namespace>>,
    ) -> Vec<Target> {
        let namespace = change.object();
        let name = namespace.name_any();
        if stores.chosen.is_some() && self.others.passes(&change, stores.serves(&name)) {
            let everything = stores.everything();
            let is_empty = !everything.iter().any(|target| target.namespace() == Some(name.as_str()));
            return if is_empty { Vec::new() } else { everything };
        }
        if !self.own.passes(&change, (namespace.labels(), namespace.metadata.deletion_timestamp.is_some())) {
            return Vec::new();
        }
        let topics = leaving::<Topic>(stores, &namespace.name_any()).map(Target::Topic);
        topics
            .chain(leaving::<ConsumerGroup>(stores, &namespace.name_any()).map(Target::ConsumerGroup))
            .collect()
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

    /// A broker that starts must be given what is declared, unless it follows another.
    pub fn pod(&mut self, stores: &Stores, change: Change<'_, Pod>) -> Vec<Target> {
        let pod = change.object();
        let mut targets: Vec<Target> = resource_of(pod).into_iter().collect();
        let ready = pods::is_ready(pod);
        let news = self.declared.passes(&change, (ready, pods::incarnation(pod), pods::address(pod, 0)));
        if let (Some(Target::BrokerGroup(group)), Some(set), true) =
            (targets.first(), pod.labels().get(NAME_SERVER_SET), ready && news)
            && !follows(stores, group, pod)
        {
            let namespace = pod.namespace().unwrap_or_default();
            targets.extend(declared_under(stores, &namespace, set));
        }
        targets
    }
}

impl Routes {
    /// A node that is cordoned, or is so no more, concerns the groups that have a broker on it.
    pub fn node(&mut self, stores: &Stores, change: Change<'_, Node>) -> Vec<Target> {
        let node = change.object();
        if !self.own.passes(&change, pods::is_cordoned(node)) {
            return Vec::new();
        }
        let name = node.name_any();
        let there = stores.pods.state_filter(|pod| pods::node(pod) == Some(&name));
        there
            .iter()
            .filter_map(|pod| resource_of(&**pod))
            .filter(|target| matches!(target, Target::BrokerGroup(_)))
            .collect()
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

/// Everything that the brokers of a NameServerSet keep for resources.
pub fn declared_under(stores: &Stores, namespace: &str, set: &str) -> Vec<Target> {
    let topics = referring::<Topic>(stores, namespace, set).map(Target::Topic);
    topics.chain(referring::<ConsumerGroup>(stores, namespace, set).map(Target::ConsumerGroup)).collect()
}

fn referring<K: Declared>(
    stores: &Stores,
    namespace: &str,
    set: &str,
) -> impl Iterator<Item = ObjectRef<K>> + use<K> {
    let all = K::store(stores).state_filter(|resource| {
        resource.set_namespace() == namespace && resource.name_server_ref().name == set
    });
    all.into_iter().map(|resource| name_of(&*resource))
}

/// No more than its name: there may be very many that wait.
fn name_of<K: Declared>(resource: &K) -> ObjectRef<K> {
    ObjectRef::new(&resource.name_any()).within(&resource.namespace().unwrap_or_default())
}

/// What is in the namespace and refers to another one, and those of the same name.
fn leaving<'a, K: Declared>(
    stores: &'a Stores,
    namespace: &str,
) -> impl Iterator<Item = ObjectRef<K>> + use<'a, K> {
    let all = K::store(stores).state_filter(|resource| {
        resource.namespace().as_deref() == Some(namespace) && resource.set_namespace() != namespace
    });
    all.into_iter().flat_map(|resource| {
        let rivals = K::names(stores).rivals(&resource, K::store(stores));
        rivals.into_iter().chain([resource]).map(|one| name_of(&*one))
    })
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
