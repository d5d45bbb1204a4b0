//! What is asked of the API server, in the words of its rights.

use std::{cell::RefCell, collections::BTreeSet};

use http::{Method, request::Parts};
use serde_json::Value;

/// What one must have the right to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    pub(crate) verb: String,
    pub(crate) group: String,
    /// The plural, and after a slash the subresource.
    pub(crate) resource: String,
    /// Nothing: the whole cluster.
    pub(crate) namespace: Option<String>,
    /// Nothing: all of them, or one that has no name yet.
    pub(crate) name: Option<String>,
}

thread_local! {
    /// What was asked on this thread, while somebody wants to know. A test and its server run on one thread.
    static HEARD: RefCell<Option<BTreeSet<Asked>>> = const { RefCell::new(None) };
}

/// What is asked of servers of this thread while `run` runs.
pub(crate) fn while_running(run: impl FnOnce()) -> BTreeSet<Asked> {
    HEARD.set(Some(BTreeSet::new()));
    run();
    HEARD.take().unwrap_or_default()
}

/// What was asked so far.
pub(crate) fn so_far() -> BTreeSet<Asked> {
    HEARD.with_borrow(Clone::clone).unwrap_or_default()
}

impl Asked {
    pub(super) fn of(method: &Method, path: &str, query: &str) -> Self {
        let mut parts = path.trim_start_matches('/').split('/');
        let group = match parts.next() {
            Some("apis") => parts.next().unwrap_or_default(),
            _ => "",
        };
        let rest: Vec<&str> = parts.skip(1).collect();
        let (namespace, rest) = match *rest.as_slice() {
            // A namespace is in itself.
            ["namespaces", name] => (Some(name), &rest[..]),
            ["namespaces", name, _, ..] => (Some(name), &rest[2..]),
            _ => (None, &rest[..]),
        };
        let (resource, name) = (rest.first().copied().unwrap_or_default(), rest.get(1).copied());
        let resource = rest.get(2).map_or(resource.to_owned(), |sub| format!("{resource}/{sub}"));
        let watches = query.split('&').any(|part| part == "watch=true");
        let verb = match (method.as_str(), name) {
            ("GET", Some(_)) => "get",
            ("GET", None) if watches => "watch",
            ("GET", None) => "list",
            ("POST", _) => "create",
            ("PATCH", _) => "patch",
            ("PUT", _) => "update",
            ("DELETE", Some(_)) => "delete",
            ("DELETE", None) => "deletecollection",
            _ => panic!("{method} {path}: no verb for it"),
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource,
            namespace: owned(namespace),
            name: owned(name),
        }
    }

    /// The same in another namespace.
    pub(crate) fn in_namespace(mut self, namespace: &str) -> Self {
        if self.resource == "namespaces" {
            self.name = self.name.map(|_| namespace.to_owned());
        }
        self.namespace = self.namespace.map(|_| namespace.to_owned());
        self
    }

    /// Whether the object of this path is one of what was asked for.
    pub(super) fn is_for(&self, path: &str) -> bool {
        let object = Self::of(&Method::GET, path, "");
        (&self.group, &self.resource) == (&object.group, &object.resource)
            && (self.namespace.is_none() || self.namespace == object.namespace)
    }
}

/// Remembers what is asked, and what else the API server then looks at.
pub(super) fn hear(asked: &Asked, parts: &Parts, body: &[u8], exists: bool) {
    HEARD.with_borrow_mut(|heard| {
        let Some(heard) = heard else { return };
        heard.insert(asked.clone());
        let applies =
            parts.headers.get("content-type").is_some_and(|it| it == "application/apply-patch+yaml");
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        // Applying what is not there makes it.
        if applies && !exists && !asked.resource.contains('/') {
            heard.insert(Asked { verb: "create".to_owned(), ..asked.clone() });
        }
        for owner in sent["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
            // The admission plugin OwnerReferencesPermissionEnforcement wants it of whoever holds up the owner's deletion.
            if owner["blockOwnerDeletion"] == true {
                heard.insert(Asked {
                    verb: "update".to_owned(),
                    group: text(&owner["apiVersion"]).split('/').next().unwrap_or_default().to_owned(),
                    resource: format!("{}s/finalizers", text(&owner["kind"]).to_lowercase()),
                    namespace: asked.namespace.clone(),
                    name: Some(text(&owner["name"]).to_owned()),
                });
            }
        }
        // Nobody gives rights that he has not himself.
        if asked.resource == "roles" {
            heard.extend(granted(&sent, asked.namespace.as_deref()));
        }
    });
}

/// What a Role allows.
pub(crate) fn granted(role: &Value, namespace: Option<&str>) -> Vec<Asked> {
    let mut all = Vec::new();
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|one| text(one).to_owned()).collect()
    };
    for rule in role["rules"].as_array().into_iter().flatten() {
        let mut names: Vec<Option<String>> = texts(&rule["resourceNames"]).into_iter().map(Some).collect();
        if names.is_empty() {
            names.push(None);
        }
        for (group, resource) in pairs(&texts(&rule["apiGroups"]), &texts(&rule["resources"])) {
            for (verb, name) in pairs(&texts(&rule["verbs"]), &names) {
                all.push(Asked {
                    verb: verb.clone(),
                    group: group.clone(),
                    resource: resource.clone(),
                    namespace: namespace.map(str::to_owned),
                    name: name.clone(),
                });
            }
        }
    }
    all
}

fn pairs<'a, A, B>(these: &'a [A], those: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    these.iter().flat_map(move |this| those.iter().map(move |that| (this, that)))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
