//! What an operator knows that has seen these objects.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Resource,
    core::PartialObjectMeta,
    runtime::{
        reflector::{Store, store},
        watcher::Event,
    },
};
use operator::{
    declared::{Declared, names::Names},
    watch::Stores,
};
use serde::de::DeserializeOwned;

use super::Objects;

/// As watches would have brought them.
pub(crate) fn stores_of(objects: &Objects) -> Stores {
    let (topics, consumer_groups) = (of_kind(objects), of_kind(objects));
    Stores {
        name_server_sets: of_kind(objects),
        broker_groups: of_kind(objects),
        topic_names: names(&topics),
        topics,
        consumer_group_names: names(&consumer_groups),
        consumer_groups,
        stateful_sets: of_kind(objects),
        services: of_kind(objects),
        config_maps: of_kind(objects),
        service_accounts: of_kind(objects),
        budgets: of_kind(objects),
        pods: of_kind(objects),
        claims: of_kind(objects),
        leases: of_kind(objects),
        endpoints: of_kind(objects),
        roles: of_kind(objects),
        role_bindings: of_kind(objects),
        nodes: Some(of_kind(objects)),
        namespaces: Some(filled::<PartialObjectMeta<Namespace>>(objects, "Namespace")),
        chosen: None,
    }
}

fn of_kind<K>(objects: &Objects) -> Store<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + 'static,
{
    filled(objects, &K::kind(&()))
}

fn filled<K>(objects: &Objects, kind: &str) -> Store<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + 'static,
{
    let (reader, mut writer) = store();
    writer.apply_watcher_event(&Event::Init);
    for object in objects.values().filter(|object| object["kind"] == kind) {
        let object = serde_json::from_value(object.clone()).expect("an object of its kind");
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
    reader
}

fn names<K: Declared + DeserializeOwned>(store: &Store<K>) -> Names<K> {
    let names = Names::default();
    for resource in store.state() {
        names.apply(&Event::InitApply(K::clone(&resource)), store);
    }
    names
}
