//! Lists, and watches that go on from them: every change has a number, and whoever watches names the last that he knows.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::asked::Asked;

/// A change: the path of an object, and the event that tells of it.
type Change = (String, Value);

/// All changes since the beginning, and how many they are.
#[derive(Clone)]
pub(super) struct Changes {
    /// So many there were before those that are known here.
    before: usize,
    all: Arc<Mutex<Vec<Change>>>,
    told: watch::Sender<usize>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { before: 0, all: Arc::default(), told: watch::Sender::new(0) }
    }
}

impl Changes {
    /// What goes on from here.
    pub(super) fn later(&self) -> Self {
        let known = self.all.lock().expect("no panic under the lock").len();
        Self { before: self.before + known, ..Self::default() }
    }

    /// Tells of a change, which gives the object its version.
    pub(super) fn tell(&self, what: &str, path: &str, object: &mut Value) {
        let mut all = self.all.lock().expect("no panic under the lock");
        object["metadata"]["resourceVersion"] = json!(version(self.before + all.len() + 1).to_string());
        all.push((path.to_owned(), json!({"type": what, "object": object})));
        self.told.send_replace(all.len());
    }

    /// Something was asked: who waits looks again.
    pub(super) fn poke(&self) {
        self.told.send_modify(|_| {});
    }

    /// Tells how many changes there are.
    pub(super) fn subscribe(&self) -> watch::Receiver<usize> {
        self.told.subscribe()
    }

    /// What is there of what is asked for.
    pub(super) fn list(&self, objects: &BTreeMap<String, Value>, asked: &Asked) -> Value {
        let now = version(self.all.lock().expect("no panic under the lock").len());
        let found = objects.iter().filter(|(path, _)| asked.is_for(path));
        let items: Vec<Value> = found.map(|(_, object)| object.clone()).collect();
        json!({
            "apiVersion": "v1", "kind": "List",
            "metadata": {"resourceVersion": now.to_string()},
            "items": items,
        })
    }

    /// An answer that goes on for as long as it is read.
    pub(super) fn watch(&self, asked: Asked, query: &str) -> Body {
        let known = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        let known: usize = known.and_then(|known| known.parse().ok()).expect("a version to go on from");
        let known = known.checked_sub(version(0)).expect("a version that was told");
        let (all, told) = (Arc::clone(&self.all), self.told.subscribe());
        Body::from_stream(stream::unfold((known, told), move |(mut next, mut told)| {
            let (all, asked) = (Arc::clone(&all), asked.clone());
            async move {
                loop {
                    let change = all.lock().expect("no panic under the lock").get(next).cloned();
                    let Some((path, event)) = change else {
                        told.changed().await.ok()?;
                        continue;
                    };
                    next += 1;
                    if asked.is_for(&path) {
                        return Some((Ok::<_, Infallible>(format!("{event}\n")), (next, told)));
                    }
                }
            }
        }))
    }
}

/// The version after so many changes. Kubernetes knows no version 0.
fn version(changes: usize) -> usize {
    changes + 1
}
