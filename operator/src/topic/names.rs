//! Which Topics ask for a name, so that nobody must look at all Topics to find two of one name.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use crds::Topic;
use kube::{
    ResourceExt as _,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher::Event,
    },
};

use super::topic_name;

/// Namespace, NameServerSet and topic name: where two Topics agree in these, the older one has it.
type Key = (String, String, String);

/// The index. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct TopicNames {
    /// Names of resources. May name some that are gone or differ by now: the store knows.
    asking: Arc<Mutex<HashMap<Key, BTreeSet<String>>>>,
}

fn key(topic: &Topic) -> Key {
    (topic.namespace().unwrap_or_default(), topic.spec.name_server_ref.name.clone(), topic_name(topic))
}

impl TopicNames {
    /// Takes in what the watch tells, after `store` did.
    pub fn apply(&self, event: &Event<Topic>, store: &Store<Topic>) {
        let mut asking = self.asking.lock().expect("no panic while the lock is held");
        match event {
            Event::Apply(topic) | Event::InitApply(topic) => {
                asking.entry(key(topic)).or_default().insert(topic.name_any());
            }
            Event::Delete(topic) => {
                let key = key(topic);
                if let Some(names) = asking.get_mut(&key) {
                    names.remove(&topic.name_any());
                    if names.is_empty() {
                        asking.remove(&key);
                    }
                }
            }
            Event::Init => {}
            // What was deleted while the watch was broken is in no event.
            Event::InitDone => asking.retain(|key, names| {
                names.retain(|name| store.get(&ObjectRef::new(name).within(&key.0)).is_some());
                !names.is_empty()
            }),
        }
    }

    /// The other Topics that ask for the name of this one.
    pub fn rivals(&self, topic: &Topic, store: &Store<Topic>) -> Vec<Arc<Topic>> {
        let wanted = key(topic);
        let names = {
            let asking = self.asking.lock().expect("no panic while the lock is held");
            asking.get(&wanted).cloned().unwrap_or_default()
        };
        let others = names.iter().filter_map(|name| store.get(&ObjectRef::new(name).within(&wanted.0)));
        others.filter(|other| other.uid() != topic.uid() && key(other) == wanted).collect()
    }
}

#[cfg(test)]
mod tests {
    use crds::{NameServerRef, TopicSpec};
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
        let names = TopicNames::default();
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
