//! The Lease in Kubernetes, and the EndpointSlice by which clients find the primary.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as KubeLease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use replication::{Epoch, Lease, Ordinal, Seen, SwapOutcome, Version};
use serde_json::json;
use tokio::sync::mpsc;

use super::coordinator::{Coordinator, Unreadable};
use crate::config::Replication;

const IN_SYNC: &str = "mq.gantry.dev/in-sync";
const PRIMARY: &str = "mq.gantry.dev/primary";
const WISHED: &str = "mq.gantry.dev/wished-primary";
const FENCED: &str = "mq.gantry.dev/fenced";
const FAILOVER: &str = "mq.gantry.dev/failover";
const HELD: &str = "held";
const MIN_IN_SYNC: &str = "mq.gantry.dev/min-in-sync";
const FAILOVERS: &str = "mq.gantry.dev/failovers";

/// This member's pod, from its environment.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) ip: String,
}

impl Pod {
    /// `POD_NAME`, `POD_UID`, `POD_IP`.
    pub(super) fn from_environment() -> anyhow::Result<Self> {
        let read = |name: &str| {
            std::env::var(name).map_err(|_| {
                anyhow::anyhow!(
                    "{name} is not set: a member of a replicated group needs it from its pod (downward API)"
                )
            })
        };
        Ok(Self { name: read("POD_NAME")?, uid: read("POD_UID")?, ip: read("POD_IP")? })
    }

    /// Its place in the StatefulSet.
    pub(super) fn ordinal(&self) -> anyhow::Result<Ordinal> {
        let ordinal = self.name.rsplit('-').next().and_then(|text| text.parse().ok());
        ordinal.map(Ordinal).ok_or_else(|| anyhow::anyhow!("POD_NAME {} ends in no ordinal", self.name))
    }
}

/// The Lease in Kubernetes.
pub(super) struct KubernetesLease {
    leases: Api<KubeLease>,
    slices: Api<EndpointSlice>,
    settings: Replication,
    pod: Pod,
}

impl KubernetesLease {
    pub(super) async fn connect(settings: Replication, pod: Pod) -> anyhow::Result<Self> {
        let mut config = kube::Config::infer().await?;
        // An attempt that takes longer counts as unanswered anyway.
        config.connect_timeout = Some(settings.lease.retry);
        config.read_timeout = Some(Duration::from_secs(295));
        config.write_timeout = Some(settings.lease.renew_deadline);
        let client = Client::try_from(config)?;
        let namespace = &settings.lease.namespace;
        Ok(Self {
            leases: Api::namespaced(client.clone(), namespace),
            slices: Api::namespaced(client, namespace),
            settings,
            pod,
        })
    }

    /// From what is there now on, until the API server ends it. A member may not list: a read names the version to watch from.
    async fn watch_once(&self, changes: &mpsc::Sender<Seen>) -> Result<(), Unreadable> {
        let mut seen = self.read().await?;
        let version = seen.version.to_string();
        let parameters =
            WatchParams::default().fields(&format!("metadata.name={}", self.settings.lease.name));
        let events = self.leases.watch(&parameters, &version).await.map_err(unreadable)?;
        let mut events = events.boxed();
        loop {
            if changes.send(seen).await.is_err() {
                return Ok(());
            }
            seen = loop {
                match events.try_next().await.map_err(unreadable)? {
                    Some(WatchEvent::Added(lease) | WatchEvent::Modified(lease)) => break read(&lease)?,
                    Some(WatchEvent::Error(status)) => return Err(Unreadable(status.message.clone())),
                    Some(WatchEvent::Deleted(_)) => return Err(Unreadable("it was deleted".to_owned())),
                    Some(WatchEvent::Bookmark(_)) => {}
                    None => return Ok(()),
                }
            };
        }
    }

    fn attempt(&self) -> Duration {
        self.settings.lease.renew_deadline.min(self.settings.lease.retry * 2)
    }
}

fn unreadable(error: kube::Error) -> Unreadable {
    Unreadable(error.to_string())
}

/// What the Lease says. What is written wrongly in it says nothing, and is told.
fn read(lease: &KubeLease) -> Result<Seen, Unreadable> {
    let version =
        lease.metadata.resource_version.as_deref().and_then(|version| version.parse::<Version>().ok());
    let version = version.ok_or_else(|| Unreadable("its resourceVersion is no number".to_owned()))?;
    let annotations = lease.metadata.annotations.as_ref();
    let annotation = |name: &str| annotations.and_then(|all| all.get(name)).filter(|text| !text.is_empty());
    let ordinal = |name: &str| annotation(name).and_then(|text| text.parse().ok()).map(Ordinal);
    let in_sync = annotation(IN_SYNC).map_or("", String::as_str).parse();
    let in_sync = in_sync.map_err(|error: replication::LeaseError| Unreadable(error.to_string()))?;
    let fenced = annotation(FENCED).map_or("", String::as_str).split(',');
    let spec = lease.spec.as_ref();
    let epoch = spec.and_then(|spec| spec.lease_transitions).and_then(|epoch| u64::try_from(epoch).ok());
    let lease = Lease {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
        epoch: Epoch(epoch.unwrap_or_default()),
        primary: ordinal(PRIMARY),
        in_sync,
        wished: ordinal(WISHED),
        fenced: fenced.filter_map(|part| part.trim().parse().ok().map(Ordinal)).collect(),
        held: annotation(FAILOVER).is_some_and(|text| text == HELD),
        min_in_sync: annotation(MIN_IN_SYNC).and_then(|text| text.parse().ok()),
        failovers: annotation(FAILOVERS).and_then(|text| text.parse().ok()).unwrap_or_default(),
    };
    Ok(Seen { lease, version })
}

#[tonic::async_trait]
impl Coordinator for KubernetesLease {
    async fn read(&self) -> Result<Seen, Unreadable> {
        let asked = self.leases.get(&self.settings.lease.name);
        match tokio::time::timeout(self.attempt(), asked).await {
            Ok(Ok(lease)) => read(&lease),
            Ok(Err(error)) => Err(Unreadable(error.to_string())),
            Err(_) => Err(Unreadable("the API server does not answer".to_owned())),
        }
    }

    async fn swap(&self, lease: &Lease, version: Version) -> SwapOutcome {
        // A merge leaves the others as they are.
        let Lease { holder, epoch, primary, in_sync, wished, fenced: _, held: _, min_in_sync: _, failovers } =
            lease;
        let text = |ordinal: &Option<Ordinal>| ordinal.map(|ordinal| ordinal.to_string());
        // A merge: a resource version in it makes it a swap.
        let patch = json!({
            "metadata": {
                "resourceVersion": version.to_string(),
                "annotations": {
                    (IN_SYNC): in_sync.to_string(), (PRIMARY): text(primary), (WISHED): text(wished),
                    (FAILOVERS): failovers.to_string(),
                },
            },
            "spec": {
                "holderIdentity": holder.clone().unwrap_or_default(),
                "leaseTransitions": epoch.0,
                "leaseDurationSeconds": self.settings.lease.duration.as_secs(),
                // For people: no member goes by another's clock.
                "renewTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            },
        });
        let parameters = PatchParams::default();
        let patch = Patch::Merge(&patch);
        let asked = self.leases.patch(&self.settings.lease.name, &parameters, &patch);
        match tokio::time::timeout(self.attempt(), asked).await {
            Ok(Ok(lease)) => match read(&lease) {
                Ok(seen) => SwapOutcome::Done(seen.version),
                Err(_) => SwapOutcome::Unknown,
            },
            // Refused: it was not done, and will not be.
            Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) => {
                if status.code != 409 {
                    tracing::warn!(error = %status.message, "the Lease cannot be changed");
                }
                SwapOutcome::Conflict
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "no answer to a change of the Lease");
                SwapOutcome::Unknown
            }
            Err(_) => {
                tracing::warn!("no answer to a change of the Lease in time");
                SwapOutcome::Unknown
            }
        }
    }

    async fn watch(&self, changes: mpsc::Sender<Seen>) {
        while !changes.is_closed() {
            if let Err(error) = self.watch_once(&changes).await {
                tracing::warn!(%error, "the watch of the Lease broke");
            }
            tokio::time::sleep(self.settings.lease.retry).await;
        }
    }

    async fn announce(&self) -> Result<(), Unreadable> {
        let conditions = BTreeMap::from([("ready", true), ("serving", true), ("terminating", false)]);
        let patch = json!({
            "endpoints": [{
                "addresses": [self.pod.ip],
                "conditions": conditions,
                "targetRef": {
                    "kind": "Pod",
                    "name": self.pod.name,
                    "namespace": self.settings.lease.namespace,
                    "uid": self.pod.uid,
                },
            }],
        });
        let parameters = PatchParams::default();
        let patch = Patch::Merge(&patch);
        for name in &self.settings.endpoint_slices {
            let asked = self.slices.patch(name, &parameters, &patch);
            match tokio::time::timeout(self.attempt(), asked).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(Unreadable(error.to_string())),
                Err(_) => return Err(Unreadable("the API server does not answer".to_owned())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_wrote_for_members_is_read() {
        let lease = |annotations| -> KubeLease {
            let lease = json!({"metadata": {"resourceVersion": "7", "annotations": annotations}});
            serde_json::from_value(lease).expect("a Lease")
        };
        let annotations = json!({
            (IN_SYNC): "0", (FENCED): "1, x,2", (FAILOVER): "held", (FAILOVERS): "3", (WISHED): "2",
            (MIN_IN_SYNC): "2",
        });
        let Seen { lease: read_lease, version } = read(&lease(annotations)).expect("it is well formed");
        let expected = Lease {
            in_sync: "0".parse().expect("a set"),
            wished: Some(Ordinal(2)),
            fenced: [Ordinal(1), Ordinal(2)].into(),
            held: true,
            min_in_sync: Some(2),
            failovers: 3,
            ..Lease::default()
        };
        assert_eq!((read_lease, version), (expected, 7));
        let none = read(&lease(json!({(FAILOVER): "free"}))).expect("it is well formed");
        assert_eq!(none.lease, Lease::default());
    }
}
