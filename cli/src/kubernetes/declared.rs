//! What Topics and ConsumerGroups have in common: the name that clients use, the cluster, and how they stand.

use std::fmt::Debug;

use crds::NameServerRef;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt as _};
use serde::{Serialize, de::DeserializeOwned};

use super::{Kubernetes, MANAGER, Readiness, age, failure};
use crate::failure::Failure;

/// A kind of resource that brokers keep something for.
pub(super) trait Declared:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static
{
    /// The name that clients use.
    fn client_name(&self) -> String;
    /// The cluster.
    fn name_server_ref(&self) -> &NameServerRef;
    /// Of the status: the generation that it speaks of, how many broker groups have it, the conditions.
    fn told(&self) -> (Option<i64>, Option<&String>, &[Condition]);

    /// How Ready it is.
    fn readiness(&self) -> Readiness {
        let (observed, _, conditions) = self.told();
        Readiness::of(self.meta().generation, observed, conditions)
    }

    /// Whether it is for the cluster of this NameServerSet.
    fn is_of(&self, (namespace, name): (&str, &str)) -> bool {
        let NameServerRef { name: named, namespace: elsewhere } = self.name_server_ref();
        let of = elsewhere.as_deref().or(self.meta().namespace.as_deref());
        (of, named.as_str()) == (Some(namespace), name)
    }
}

impl Declared for crds::Topic {
    fn client_name(&self) -> String {
        Self::client_name(self)
    }

    fn name_server_ref(&self) -> &NameServerRef {
        &self.spec.name_server_ref
    }

    fn told(&self) -> (Option<i64>, Option<&String>, &[Condition]) {
        self.status.as_ref().map_or((None, None, &[]), |status| {
            (status.observed_generation, status.applied_groups.as_ref(), status.conditions.as_slice())
        })
    }
}

impl Declared for crds::ConsumerGroup {
    fn client_name(&self) -> String {
        Self::client_name(self)
    }

    fn name_server_ref(&self) -> &NameServerRef {
        &self.spec.name_server_ref
    }

    fn told(&self) -> (Option<i64>, Option<&String>, &[Condition]) {
        self.status.as_ref().map_or((None, None, &[]), |status| {
            (status.observed_generation, status.applied_groups.as_ref(), status.conditions.as_slice())
        })
    }
}

/// How a resource stands, as it is printed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Name of the NameServerSet.
    pub name_server_set: String,
    /// Broker groups that have it, of how many.
    pub groups: String,
    /// Whether it is Ready.
    pub ready: bool,
    /// Why.
    pub reason: String,
    /// In words.
    pub message: String,
    /// How long ago it was made.
    #[serde(skip)]
    pub age: String,
}

impl Standing {
    pub(super) fn of<K: Declared>(resource: &K, now: Timestamp) -> Self {
        let Readiness { ready, reason, message } = resource.readiness();
        Self {
            name_server_set: resource.name_server_ref().name.clone(),
            groups: resource.told().1.cloned().unwrap_or_default(),
            ready,
            reason,
            message,
            age: age(resource, now),
        }
    }
}

impl Kubernetes {
    /// All of the namespace.
    pub(super) async fn all<K: Declared>(&self) -> Result<Vec<K>, Failure> {
        let all = self.api::<K>().list(&ListParams::default()).await;
        all.map(|list| list.items).map_err(|error| failure(&format!("list {}", K::plural(&())), &error))
    }

    /// The NameServerSet that was named on the command line, in the namespace.
    pub(super) fn named_set(&self) -> Option<(&str, &str)> {
        self.name_server_set.as_deref().map(|name| (self.namespace.as_str(), name))
    }

    /// Changes the spec and waits until that is Ready.
    pub(super) async fn change<K: Declared>(
        &self,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<(), Failure> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        let patched = self.api::<K>().patch(name, &params, &Patch::Merge(patch)).await;
        patched.map_err(|error| failure(&format!("update {} {name}", K::kind(&())), &error))?;
        self.await_ready::<K>(name).await
    }
}

/// The one of `all` that is for the name that clients use, of the cluster of `set` where that is known.
pub(super) fn for_name<'a, K: Declared>(
    all: &'a [K],
    name: &str,
    set: Option<(&str, &str)>,
) -> Result<Option<&'a K>, Failure> {
    let is_for = |one: &&K| one.client_name() == name && set.is_none_or(|set| one.is_of(set));
    only(name, &all.iter().filter(is_for).collect::<Vec<_>>())
}

/// The one that was found for a name. Of several nobody knows which is meant.
pub(super) fn only<'a, K: Declared>(name: &str, found: &[&'a K]) -> Result<Option<&'a K>, Failure> {
    match found {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let each: Vec<String> = several
                .iter()
                .map(|one| format!("{} of NameServerSet {}", one.name_any(), one.name_server_ref().name))
                .collect();
            let plural = K::plural(&());
            let what = format!("several {plural} are for {name}: {}", each.join(", "));
            let next = format!("choose with --name-server-set, or change one with kubectl edit {plural}");
            Err(Failure::usage(what).next(next))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(resource: &str, name: &str, set: &str, namespace: Option<&str>) -> crds::ConsumerGroup {
        let name_server_ref = NameServerRef { name: set.to_owned(), namespace: namespace.map(str::to_owned) };
        let mut spec: crds::ConsumerGroupSpec =
            serde_json::from_value(serde_json::json!({ "nameServerRef": name_server_ref })).unwrap();
        spec.group_name = Some(name.to_owned());
        let mut group = crds::ConsumerGroup::new(resource, spec);
        group.metadata.namespace = Some("shop".to_owned());
        group
    }

    #[test]
    fn a_name_means_the_resource_of_the_cluster_that_is_asked() {
        let all = [
            group("billing", "other", "main", None),
            group("of-main", "billing", "main", None),
            group("of-second", "billing", "second", None),
            group("elsewhere", "billing", "main", Some("platform")),
        ];
        let found = |set| for_name(&all, "billing", set).unwrap().map(kube::ResourceExt::name_any);
        assert_eq!(found(Some(("shop", "main"))).as_deref(), Some("of-main"));
        assert_eq!(found(Some(("shop", "second"))).as_deref(), Some("of-second"));
        assert_eq!(found(Some(("platform", "main"))).as_deref(), Some("elsewhere"));
        assert_eq!(found(Some(("shop", "third"))), None);
        let several = for_name(&all, "billing", None).unwrap_err().to_string();
        assert!(several.contains("of-main of NameServerSet main, of-second"), "{several}");
        assert_eq!(for_name(&all, "other", None).unwrap().unwrap().name_any(), "billing");
    }
}
