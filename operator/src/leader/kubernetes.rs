//! The Lease in Kubernetes.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};

use super::{Record, Timing, run::LeaseStore};
use crate::apply::FIELD_MANAGER;

/// The Lease in Kubernetes.
pub struct KubernetesLease {
    api: Api<Lease>,
    name: String,
    timing: Timing,
}

impl KubernetesLease {
    /// The Lease `name`, which need not exist.
    pub fn new(client: Client, namespace: &str, name: &str, timing: Timing) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), timing }
    }

    fn lease(
        &self,
        holder: &str,
        transitions: i32,
        resource_version: Option<&str>,
        acquired: Option<MicroTime>,
    ) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: resource_version.map(str::to_owned),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(i32::try_from(self.timing.lease.as_secs()).unwrap_or(i32::MAX)),
                lease_transitions: Some(transitions),
                // For people; nothing is decided by it.
                acquire_time: acquired,
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        }
    }
}

impl LeaseStore for KubernetesLease {
    type Error = kube::Error;

    async fn read(&self) -> kube::Result<Option<Record>> {
        let Some(lease) = self.api.get_opt(&self.name).await? else { return Ok(None) };
        let spec = lease.spec.unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Ok(Some(Record {
            holder: spec.holder_identity.unwrap_or_default(),
            duration: seconds.map_or(self.timing.lease, Duration::from_secs),
            renewed: spec.renew_time.map(|time| time.0.to_string()).unwrap_or_default(),
            transitions: spec.lease_transitions.unwrap_or_default(),
            resource_version: lease.metadata.resource_version.unwrap_or_default(),
        }))
    }

    async fn create(&self, holder: &str) -> kube::Result<bool> {
        let lease = self.lease(holder, 0, None, Some(MicroTime(Timestamp::now())));
        swapped(self.api.create(&PostParams::default(), &lease).await)
    }

    async fn write(
        &self,
        holder: &str,
        resource_version: &str,
        transitions: i32,
        renewal: bool,
    ) -> kube::Result<bool> {
        let acquired = (!renewal).then(|| MicroTime(Timestamp::now()));
        let lease = self.lease(holder, transitions, Some(resource_version), acquired);
        // A merge keeps the time of acquisition where we do not set it; the resource version makes it a swap.
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        swapped(self.api.patch(&self.name, &parameters, &Patch::Merge(&lease)).await)
    }
}

fn swapped(result: kube::Result<Lease>) -> kube::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
