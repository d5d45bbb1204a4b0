//! Writing: the only place where the operator changes something in the cluster.
//!
//! Objects go by server-side apply under our own field manager, and only when the live one is not yet as wanted.
//! What was applied leaves its fingerprint on the object, so that a restarted operator knows it without writing.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        coordination::v1::Lease,
        core::v1::{Namespace, PersistentVolumeClaim, Pod},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::reflector::{ObjectRef, Store},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    covers::{covers, fingerprint},
    identity::Identity,
    metrics::Metrics,
};

/// The name under which our fields are kept.
pub const FIELD_MANAGER: &str = "gantry-operator";
/// So often a change of a Lease is tried that others change too.
const SWAPS: usize = 5;
/// The annotation with the fingerprint of what was applied last.
pub const APPLIED: &str = "mq.gantry.dev/applied";

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object of that name belongs to someone else.
    #[error(
        "{kind} {name} exists and is not of this resource: delete it, or give this resource another name"
    )]
    Foreign {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// The API server does not accept it as it is.
    #[error("{kind} {name} was refused: {message}")]
    Refused {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// What the API server says.
        message: String,
    },
    /// Not now.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// What we write: namespaced, known at compile time.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// Writes.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    metrics: Arc<Metrics>,
}

impl Applier {
    /// Writes through `client`.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics }
    }

    /// Makes `wanted` so, and returns what then is. Nothing is written when it already is.
    pub async fn apply<K: Object>(
        &self,
        live: &Store<K>,
        owner: &Identity,
        mut wanted: K,
    ) -> Result<Arc<K>, Error> {
        let name = wanted.name_any();
        let namespace = owner.namespace.as_str();
        let body = as_json(&wanted);
        let print = fingerprint(&body.to_string());
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let known = match live.get(&ObjectRef::new(&name).within(namespace)) {
            Some(live) => Some(live),
            // The store may be behind, and holds our own objects only.
            None => api.get_opt(&name).await?.map(Arc::new),
        };
        if let Some(live) = known {
            if !belongs_to(live.as_ref(), owner) {
                return Err(Error::Foreign { kind: K::kind(&()).into_owned(), name });
            }
            if live.annotations().get(APPLIED) == Some(&print) && covers(&body, &as_json(live.as_ref())) {
                return Ok(live);
            }
        }
        wanted.annotations_mut().insert(APPLIED.to_owned(), print);
        tracing::info!(kind = %K::kind(&()), namespace, name, "apply");
        self.metrics.applied(&K::kind(&()));
        let applied =
            api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&wanted)).await;
        applied.map(Arc::new).map_err(|error| refusal::<K>(name, error))
    }

    /// Makes the StatefulSet so. One whose fixed fields differ is replaced: its pods stay and are adopted by the
    /// next. Returns nothing while the old one is going; its deletion brings the reconcile that goes on.
    pub async fn apply_stateful_set(
        &self,
        live: &Store<StatefulSet>,
        owner: &Identity,
        wanted: StatefulSet,
    ) -> Result<Option<Arc<StatefulSet>>, Error> {
        let namespace = owner.namespace.as_str();
        if let Some(live) = live.get(&ObjectRef::new(&wanted.name_any()).within(namespace)) {
            if live.metadata.deletion_timestamp.is_some() {
                return Ok(None);
            }
            if belongs_to(live.as_ref(), owner) && fixed_fields_differ(&wanted, &live) {
                let name = live.name_any();
                tracing::info!(namespace, name, "replace the stateful set, its pods stay");
                self.metrics.applied("StatefulSet");
                let same = Preconditions { uid: live.uid(), resource_version: None };
                let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), namespace);
                ignore_not_found(api.delete(&name, &DeleteParams::orphan().preconditions(same)).await)?;
                return Ok(None);
            }
        }
        self.apply(live, owner, wanted).await.map(Some)
    }

    /// Makes the object if there is none of its name, and returns what then is. What is there already is left as it is: others
    /// write into it.
    pub async fn create_if_absent<K: Object>(
        &self,
        live: &Store<K>,
        owner: &Identity,
        wanted: K,
    ) -> Result<Arc<K>, Error> {
        let name = wanted.name_any();
        let namespace = owner.namespace.as_str();
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let known = match live.get(&ObjectRef::new(&name).within(namespace)) {
            Some(live) => Some(live),
            None => api.get_opt(&name).await?.map(Arc::new),
        };
        if let Some(live) = known {
            if belongs_to(live.as_ref(), owner) || is_left_to(live.as_ref(), owner) {
                return Ok(live);
            }
            return Err(Error::Foreign { kind: K::kind(&()).into_owned(), name });
        }
        tracing::info!(kind = %K::kind(&()), namespace, name, "create");
        self.metrics.applied(&K::kind(&()));
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let made = api.create(&parameters, &wanted).await;
        made.map(Arc::new).map_err(|error| refusal::<K>(name, error))
    }

    /// Changes a Lease by what `change` says of it as it is; nothing where that says nothing. Its holder writes too, so this is a
    /// compare-and-swap, tried again a few times. Returns whether something was written.
    pub async fn swap_lease(
        &self,
        namespace: &str,
        name: &str,
        change: impl Fn(&Lease) -> Option<Value>,
    ) -> Result<bool, Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let mut tries = 0;
        loop {
            let lease = api.get(name).await?;
            let Some(mut patch) = change(&lease) else { return Ok(false) };
            patch["metadata"]["resourceVersion"] = json!(lease.resource_version());
            self.metrics.applied("Lease");
            tries += 1;
            match api.patch(name, &parameters, &Patch::Merge(&patch)).await {
                Ok(_) => {
                    tracing::info!(namespace, name, %patch, "lease changed");
                    return Ok(true);
                }
                Err(kube::Error::Api(status)) if status.code == 409 && tries < SWAPS => {}
                Err(error) => return Err(refusal::<Lease>(name.to_owned(), error)),
            }
        }
    }

    /// Deletes this life of a pod; its StatefulSet makes the next.
    pub async fn replace_pod(&self, pod: &Pod) -> Result<(), Error> {
        let name = pod.name_any();
        let namespace = pod.namespace().unwrap_or_default();
        tracing::info!(namespace, name, "replace the pod");
        self.metrics.applied("Pod");
        let same = Preconditions { uid: pod.uid(), resource_version: None };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        match api.delete(&name, &DeleteParams::default().preconditions(same)).await {
            // It was replaced already.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => ignore_not_found(other),
        }
    }

    /// Sets a label of a pod.
    pub async fn label_pod(&self, pod: &Pod, label: &str, value: &str) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let patch = json!({"metadata": {"uid": pod.uid(), "labels": {label: value}}});
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.metrics.applied("Pod");
        match api.patch(&pod.name_any(), &parameters, &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => ignore_not_found(other),
        }
    }

    /// Deletes what belongs to `owner` and is none of `keep`.
    pub async fn prune<K: Object>(
        &self,
        live: &Store<K>,
        owner: &Identity,
        keep: &[String],
    ) -> Result<(), Error> {
        let left_over = live.state_filter(|object| {
            object.namespace().as_deref() == Some(owner.namespace.as_str())
                && belongs_to(object, owner)
                && object.meta().deletion_timestamp.is_none()
                && !keep.contains(&object.name_any())
        });
        let api: Api<K> = Api::namespaced(self.client.clone(), &owner.namespace);
        for object in left_over {
            let name = object.name_any();
            tracing::info!(kind = %K::kind(&()), namespace = owner.namespace, name, "delete");
            self.metrics.applied(&K::kind(&()));
            ignore_not_found(api.delete(&name, &DeleteParams::background()).await)?;
        }
        Ok(())
    }

    /// Asks for a larger volume.
    pub async fn grow(&self, claim: &PersistentVolumeClaim, size: &str) -> Result<(), Error> {
        let name = claim.name_any();
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default());
        let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
        tracing::info!(name, size, "grow the volume");
        self.metrics.applied("PersistentVolumeClaim");
        let grown = api
            .patch(
                &name,
                &PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() },
                &Patch::Merge(&patch),
            )
            .await;
        grown.map(|_| ()).map_err(|error| refusal::<PersistentVolumeClaim>(name, error))
    }

    /// Writes the status of a resource. One that is gone needs none.
    pub async fn status<K: Object, S: Serialize>(&self, resource: &K, status: &S) -> Result<(), Error> {
        let name = resource.name_any();
        let api: Api<K> = Api::namespaced(self.client.clone(), &resource.namespace().unwrap_or_default());
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            // With the uid, a status never lands on another resource of the same name.
            "metadata": {"name": name, "uid": resource.uid()},
            "status": status,
        });
        self.metrics.status_written(&K::kind(&()));
        let written =
            api.patch_status(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&patch)).await;
        ignore_gone(written.map(|_| ()))
    }

    /// Whether the namespace is being deleted. Who may not look at it, or cannot now, takes it to stay.
    pub async fn namespace_ends(&self, name: &str) -> bool {
        let found = Api::<Namespace>::all(self.client.clone()).get_metadata_opt(name).await;
        found.is_ok_and(|found| found.is_some_and(|it| it.metadata.deletion_timestamp.is_some()))
    }

    /// Adds or removes our finalizer. Returns whether something was written.
    pub async fn finalizer<K: Object>(
        &self,
        resource: &K,
        finalizer: &str,
        present: bool,
    ) -> Result<bool, Error> {
        if resource.finalizers().iter().any(|known| known == finalizer) == present {
            return Ok(false);
        }
        let mut finalizers = resource.finalizers().to_vec();
        finalizers.retain(|known| known != finalizer);
        if present {
            finalizers.push(finalizer.to_owned());
        }
        // With the resource version, finalizers that others set meanwhile are not lost.
        let patch =
            json!({"metadata": {"finalizers": finalizers, "resourceVersion": resource.resource_version()}});
        let api: Api<K> = Api::namespaced(self.client.clone(), &resource.namespace().unwrap_or_default());
        let written = api.patch(&resource.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        ignore_gone(written.map(|_| ()))?;
        Ok(true)
    }
}

fn as_json<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("an object of plain data is JSON")
}

/// Whether `owner` controls the object.
pub fn belongs_to<K: Resource>(object: &K, owner: &Identity) -> bool {
    let owners = object.meta().owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|reference| reference.controller == Some(true) && reference.uid == owner.uid)
}

/// Whether the object was made for a resource of this name and has outlived it.
fn is_left_to<K: Resource>(object: &K, owner: &Identity) -> bool {
    object.owner_references().is_empty()
        && owner.labels().iter().all(|(key, value)| object.labels().get(key) == Some(value))
}

/// Whether `wanted` asks for another value of a field that a StatefulSet keeps for life.
fn fixed_fields_differ(wanted: &StatefulSet, live: &StatefulSet) -> bool {
    const FIXED: [&str; 4] = ["serviceName", "podManagementPolicy", "selector", "volumeClaimTemplates"];
    let (wanted, live) = (as_json(&wanted.spec), as_json(&live.spec));
    let at = |spec: &Value, field: &str| spec.get(field).cloned().unwrap_or(Value::Null);
    // Server-side apply cannot change this one: what the server added for the former strategy is refused by the next.
    let strategy = |spec: &Value| {
        let strategy = spec.pointer("/updateStrategy/type").and_then(Value::as_str);
        strategy.unwrap_or("RollingUpdate").to_owned()
    };
    let count = |spec: &Value| at(spec, "volumeClaimTemplates").as_array().map_or(0, Vec::len);
    let differs =
        |field: &str| wanted.get(field).is_some() && !covers(&at(&wanted, field), &at(&live, field));
    count(&wanted) != count(&live) || strategy(&wanted) != strategy(&live) || FIXED.into_iter().any(differs)
}

/// What the API server will not accept however often it is asked is told from what may pass.
fn refusal<K: Resource<DynamicType = ()>>(name: String, error: kube::Error) -> Error {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => {
            Error::Refused { kind: K::kind(&()).into_owned(), name, message: status.message }
        }
        error => Error::Api(error),
    }
}

fn ignore_not_found<T>(result: kube::Result<T>) -> Result<(), Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other.map(|_| ())?),
    }
}

/// A resource that was deleted meanwhile, or deleted and made again, needs nothing from an old reconcile. Server-side
/// apply to one that is gone would make it anew: without a spec that is invalid, and with another uid a conflict.
fn ignore_gone(result: kube::Result<()>) -> Result<(), Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other?),
    }
}
