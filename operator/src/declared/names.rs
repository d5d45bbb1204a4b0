//! Which resources of a kind ask for a name, so that nobody must look at all of them to find two of one name.

use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::{Arc, Mutex},
};

use kube::{
    ResourceExt as _,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher::Event,
    },
};

use super::Declared;
use crate::routes::fingerprint;

/// The NameServerSet's namespace and name, and the name that clients use: where two agree in these, the older one has it.
type Key = (String, String, String);
/// Namespace and name of a resource.
type Asking = (Box<str>, Box<str>);

/// The index. Clones are the same.
#[derive(Debug)]
pub struct Names<K> {
    /// Names of resources by the fingerprint of what they ask for: there may be very many, and most ask alone. May name some that
    /// are gone, differ by now, or ask for something else of the same fingerprint: the store knows.
    asking: Arc<Mutex<HashMap<u64, Vec<Asking>>>>,
    kind: PhantomData<fn(&K)>,
}

impl<K> Clone for Names<K> {
    fn clone(&self) -> Self {
        Self { asking: Arc::clone(&self.asking), kind: PhantomData }
    }
}

impl<K> Default for Names<K> {
    fn default() -> Self {
        Self { asking: Arc::default(), kind: PhantomData }
    }
}

fn key<K: Declared>(resource: &K) -> Key {
    (resource.set_namespace(), resource.name_server_ref().name.clone(), resource.client_name())
}

fn asking<K: Declared>(resource: &K) -> Asking {
    (resource.namespace().unwrap_or_default().into(), resource.name_any().into())
}

impl<K: Declared> Names<K> {
    /// Takes in what the watch tells, after `store` did.
    pub fn apply(&self, event: &Event<K>, store: &Store<K>) {
        let mut all = self.asking.lock().expect("no panic while the lock is held");
        match event {
            Event::Apply(resource) | Event::InitApply(resource) => {
                let asking = asking(resource);
                let names = all.entry(fingerprint(key(resource))).or_insert_with(|| Vec::with_capacity(1));
                if !names.contains(&asking) {
                    names.push(asking);
                }
            }
            Event::Delete(resource) => {
                let key = fingerprint(key(resource));
                if let Some(names) = all.get_mut(&key) {
                    names.retain(|other| *other != asking(resource));
                    if names.is_empty() {
                        all.remove(&key);
                    }
                }
            }
            Event::Init => {}
            // What was deleted while the watch was broken is in no event.
            Event::InitDone => all.retain(|_, names| {
                names
                    .retain(|(namespace, name)| store.get(&ObjectRef::new(name).within(namespace)).is_some());
                !names.is_empty()
            }),
        }
    }

    /// Those that ask for a name.
    pub fn asking(&self, namespace: &str, set: &str, name: &str, store: &Store<K>) -> Vec<Arc<K>> {
        let wanted = (namespace.to_owned(), set.to_owned(), name.to_owned());
        let names = {
            let asking = self.asking.lock().expect("no panic while the lock is held");
            asking.get(&fingerprint(&wanted)).cloned().unwrap_or_default()
        };
        let all = names.iter();
        let all = all.filter_map(|(namespace, name)| store.get(&ObjectRef::new(name).within(namespace)));
        all.filter(|resource| key(&**resource) == wanted).collect()
    }

    /// The others that ask for the name of this one.
    pub fn rivals(&self, resource: &K, store: &Store<K>) -> Vec<Arc<K>> {
        let (namespace, set, name) = key(resource);
        let mut all = self.asking(&namespace, &set, &name, store);
        all.retain(|other| other.uid() != resource.uid());
        all
    }
}

#[cfg(test)]
mod tests {
    use crds::{NameServerRef, Topic, TopicSpec};
    use kube::runtime::reflector;

    use super::*;

    fn topic(namespace: &str, resource: &str, name: Option<&str>) -> Topic {
        let name_server_ref = NameServerRef { name: "set".to_owned(), namespace: None };
        let spec = TopicSpec { name_server_ref, topic_name: name.map(str::to_owned), ..TopicSpec::default() };
        let mut topic = Topic::new(resource, spec);
        topic.metadata.namespace = Some(namespace.to_owned());
        topic.metadata.uid = Some(format!("{namespace}/{resource}"));
        topic
    }

    #[test]
    fn topics_of_one_name_find_each_other_as_long_as_they_are_there() {
        let (store, mut writer) = reflector::store();
        let names = Names::<Topic>::default();
        let mut tell = |event: Event<Topic>| {
            writer.apply_watcher_event(&event);
            names.apply(&event, &store);
        };
        let (plain, named) = (topic("shop", "orders", None), topic("shop", "other", Some("orders")));
        tell(Event::Init);
        let far = topic("far", "orders", None);
        for topic in [&plain, &named, &far, &topic("shop", "bills", None)] {
            tell(Event::InitApply(topic.clone()));
        }
        tell(Event::InitDone);
        let rivals =
            |of: &Topic| names.rivals(of, &store).iter().map(|topic| topic.name_any()).collect::<Vec<_>>();
        assert_eq!(rivals(&plain), ["other"]);
        assert_eq!(rivals(&named), ["orders"]);
        assert_eq!(rivals(&far), [""; 0]);
        tell(Event::Delete(named.clone()));
        assert_eq!(rivals(&plain), [""; 0]);

        // The watch breaks, and nobody tells that one is gone.
        tell(Event::Apply(named));
        assert_eq!(rivals(&plain), ["other"]);
        for event in [Event::Init, Event::InitApply(plain.clone()), Event::InitDone] {
            tell(event);
        }
        assert_eq!(rivals(&plain), [""; 0]);
        assert_eq!(names.asking.lock().unwrap().len(), 1);
    }
}
