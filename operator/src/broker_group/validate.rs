//! A BrokerGroup with everything settled. After this nobody looks at the spec. Pure.

use std::collections::BTreeSet;

use crds::{BROKER_CONFIG, BrokerGroup, EffectiveReplication, Flush, PodSettings, Update, VolumePolicy};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ResourceRequirements};
use kube::ResourceExt as _;

use super::{
    auto_grow::largest,
    broker_name,
    failover::Limits,
    observe::{self, Observed, SEGMENT_SIZE},
    scale::{Scale, Size, scale},
};
use crate::{
    conditions::Reason,
    config::{Knobs, LoggingFile},
    identity::{Identity, Role},
    listeners::Listeners,
    pods::{
        self, keeps_pods, pinned,
        template::{ImageRef, Images, RESTARTED_AT, takes_part},
    },
    quantity::ByteCount,
};

/// A BrokerGroup with everything settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// Names and labels.
    pub identity: Identity,
    /// The NameServerSet.
    pub name_servers: String,
    /// The cluster.
    pub cluster_name: String,
    /// The name that clients see.
    pub broker_name: String,
    /// Brokers that keep the log now.
    pub replicas: i32,
    /// Whether they sleep: there are no pods then.
    pub hibernates: bool,
    /// How they replicate; nothing for one alone.
    pub replication: Option<EffectiveReplication>,
    /// Those that must not be primary.
    pub fenced: BTreeSet<i32>,
    /// The one that shall be.
    pub preferred: Option<i32>,
    /// What becomes of a primary's place when it is lost.
    pub failover: Limits,
    /// On the way to the number of pods that the spec asks for.
    pub scale: Scale,
    /// The image.
    pub image: ImageRef,
    /// Where the log is.
    pub volume: Volume,
    /// Size of a file of the log.
    pub segment_size: ByteCount,
    /// How long messages are kept.
    pub retention: Retention,
    /// When a message counts as stored.
    pub flush: Flush,
    /// The user's resources.
    pub resources: Option<ResourceRequirements>,
    /// The user's settings.
    pub pod: PodSettings,
    /// `spec.config`, judged.
    pub knobs: Knobs,
    /// Where clients come.
    pub listeners: Listeners,
    /// What is logged.
    pub logging: LoggingFile,
    /// Whether a single pod of several may be evicted at a time.
    pub has_budget: bool,
    /// How pods are replaced.
    pub update: Update,
    /// What a person asked a restart by.
    pub restarted_at: Option<String>,
    /// The fingerprint of what people asked for of the pods.
    pub asked: String,
}

impl Validated {
    /// Pods that there shall be now.
    pub fn pods(&self) -> i32 {
        if self.hibernates { 0 } else { self.replicas }
    }
}

/// Where the log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// On a volume of its own.
    Claim {
        /// How large it shall be.
        size: String,
        /// What a new volume is asked for: fixed in the StatefulSet.
        template_size: String,
        /// Its class.
        storage_class: Option<String>,
        /// How it grows by itself.
        auto_grow: Option<AutoGrow>,
        /// What becomes of it when the group goes.
        on_delete: VolumePolicy,
        /// What becomes of it when its broker goes.
        on_scale_down: VolumePolicy,
    },
    /// With the pod.
    Ephemeral {
        /// What the pod may write.
        size_limit: Option<String>,
    },
}

/// How a volume grows by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoGrow {
    /// When it is so full.
    pub threshold_percent: u64,
    /// By so much.
    pub increment: ByteCount,
    /// To so much at most.
    pub max: ByteCount,
}

/// How long messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// After this age.
    pub time: String,
    /// At any hour when the volume is so full.
    pub disk_percent: i32,
    /// Else at this time of day.
    pub delete_at: String,
    /// However young when the volume is so full.
    pub delete_early_percent: Option<i32>,
    /// Sends are refused when the volume is so full.
    pub refuse_percent: i32,
    /// So much at most.
    pub size: Option<ByteCount>,
}

/// Why a BrokerGroup cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It refers into another namespace.
    #[error(
        "nameServerRef.namespace is {named}, this BrokerGroup is in {own}: make it in {named}, since only Topics and ConsumerGroups may be in another namespace than their NameServerSet"
    )]
    OtherNamespace {
        /// What it refers to.
        named: String,
        /// Where it is.
        own: String,
    },
    /// An older one has the name.
    #[error(
        "BrokerGroup {older} has the brokerName {name} in this cluster already: delete this one, and make it anew with another brokerName"
    )]
    NameTaken {
        /// The older one.
        older: String,
        /// The name.
        name: String,
    },
    /// A size that the schema should have refused.
    #[error("{field} is {value:?}: set a quantity such as 100Gi")]
    NoQuantity {
        /// Where.
        field: &'static str,
        /// What.
        value: String,
    },
    /// A storage that the schema should have refused.
    #[error("storage needs exactly one of commitLog and ephemeral")]
    NoStorage,
}

impl Invalid {
    /// The reason in the condition.
    pub fn reason(&self) -> Reason {
        match self {
            Self::OtherNamespace { .. } => Reason::NamespaceNotAllowed,
            Self::NameTaken { .. } => Reason::NameConflict,
            Self::NoQuantity { .. } | Self::NoStorage => Reason::InvalidSpec,
        }
    }
}

/// Settles what the spec leaves open.
pub fn validate(group: &BrokerGroup, observed: &Observed, images: &Images) -> Result<Validated, Invalid> {
    let spec = &group.spec;
    let identity = observe::identity(group);
    if let Some(named) = spec.name_server_ref.namespace.clone().filter(|named| *named != identity.namespace) {
        return Err(Invalid::OtherNamespace { named, own: identity.namespace });
    }
    if let Some(older) = observed.rival.clone() {
        return Err(Invalid::NameTaken { older, name: broker_name(group) });
    }
    let scale = size(group, observed);
    let (volume, segment_size) = volume(group, observed, scale.pods)?;
    let restarted_at = group.annotations().get(RESTARTED_AT);
    let knobs = Knobs::judge(&BROKER_CONFIG, &spec.config);
    let retention = spec.message_retention.clone().unwrap_or_default();
    Ok(Validated {
        name_servers: spec.name_server_ref.name.clone(),
        cluster_name: spec.cluster_name.clone(),
        broker_name: broker_name(group),
        replicas: scale.pods,
        hibernates: spec.hibernate,
        has_budget: keeps_pods(scale.pods, spec.disruption.as_ref()),
        replication: scale.replicates.then(|| replication(group, scale.pods)),
        fenced: fenced(group),
        preferred: spec.preferred_primary,
        failover: limits(group),
        scale,
        image: images.settle(Role::Broker, spec.version.as_deref(), spec.image.as_ref()),
        volume,
        segment_size,
        retention: Retention {
            time: retention.time.unwrap_or_else(|| "72h".to_owned()),
            disk_percent: retention.disk_percent.unwrap_or(75),
            delete_at: retention.delete_at.unwrap_or_else(|| "04:00".to_owned()),
            delete_early_percent: retention.delete_early_percent,
            refuse_percent: retention.refuse_percent.unwrap_or(90),
            size: retention
                .size
                .map(|value| {
                    let field = "messageRetention.size";
                    ByteCount::parse(&value).ok_or(Invalid::NoQuantity { field, value })
                })
                .transpose()?,
        },
        flush: spec.flush.unwrap_or_default(),
        resources: spec.resources.clone(),
        pod: spec.pod.clone().unwrap_or_default(),
        listeners: Listeners::settle(&spec.listeners, spec.tls.as_ref(), &knobs.accepted),
        knobs,
        logging: LoggingFile::of(spec.logging.as_ref()),
        update: spec.update.clone().unwrap_or_default(),
        asked: pinned::asked(spec, restarted_at.map(String::as_str)),
        restarted_at: restarted_at.cloned(),
        identity,
    })
}

fn size(group: &BrokerGroup, observed: &Observed) -> Scale {
    let set = observed.stateful_set.as_ref().and_then(|set| set.spec.as_ref());
    let (present, replicates) = match set {
        // Those that sleep are still members.
        Some(set) if set.replicas == Some(0) => {
            (left_over(observed).0, takes_part(set.template.spec.as_ref()))
        }
        Some(set) => (set.replicas, takes_part(set.template.spec.as_ref())),
        None => left_over(observed),
    };
    let ready: BTreeSet<i32> = observed.ready();
    let wanted = group.spec.replicas.unwrap_or(1);
    scale(Size {
        wanted,
        present,
        replicates,
        min_in_sync: replication(group, wanted).min_in_sync,
        reign: observed.reign.as_ref(),
        reigning: observed.reigning().and_then(pods::ordinal),
        ready: &ready,
        fenced: &fenced(group),
    })
}

fn fenced(group: &BrokerGroup) -> BTreeSet<i32> {
    group.spec.fenced_members.iter().copied().collect()
}

fn limits(group: &BrokerGroup) -> Limits {
    let failover = group.spec.failover.clone().unwrap_or_default();
    let max_per_hour = failover.max_per_hour.and_then(|most| usize::try_from(most).ok());
    Limits { enabled: failover.enabled.unwrap_or(true), max_per_hour: max_per_hour.unwrap_or(6) }
}

/// Members of a group whose StatefulSet is gone: those whose pods are there still, and those on whose volumes everything that is
/// acknowledged may be. A group that begins again with fewer needs them first.
fn left_over(observed: &Observed) -> (Option<i32>, bool) {
    let reign = observed.reign.as_ref().filter(|reign| reign.epoch > 0);
    let recorded = reign.and_then(|reign| reign.in_sync.last().copied());
    let pods = observed.pods.iter().filter(|pod| takes_part(pod.spec.as_ref()));
    let last = pods.filter_map(|pod| pods::ordinal(pod)).chain(recorded).max();
    (last.map(|last| last + 1), last.is_some())
}

fn replication(group: &BrokerGroup, members: i32) -> EffectiveReplication {
    let replication = group.spec.replication.clone().unwrap_or_default();
    let failover = group.spec.failover.clone().unwrap_or_default();
    EffectiveReplication {
        mode: replication.mode.unwrap_or_default(),
        min_in_sync: replication.min_in_sync.unwrap_or(2).min(members),
        max_lag_seconds: replication.max_lag_seconds.unwrap_or(10),
        lease_duration_seconds: failover.lease_duration_seconds.unwrap_or(8),
        renew_deadline_seconds: failover.renew_deadline_seconds.unwrap_or(5),
        retry_period_millis: failover.retry_period_millis.unwrap_or(1000),
        failover_enabled: failover.enabled.unwrap_or(true),
        max_failovers_per_hour: failover.max_per_hour.unwrap_or(6),
    }
}

fn volume(group: &BrokerGroup, observed: &Observed, members: i32) -> Result<(Volume, ByteCount), Invalid> {
    let storage = &group.spec.storage;
    let bytes = |field, value: &str| {
        ByteCount::parse(value).ok_or_else(|| Invalid::NoQuantity { field, value: value.to_owned() })
    };
    match (&storage.commit_log, &storage.ephemeral) {
        (Some(claim), None) => {
            let size = bytes("storage.commitLog.size", &claim.size)?;
            let retention = storage.retention.clone().unwrap_or_default();
            let template = template_of(observed);
            let auto_grow = storage.auto_grow.as_ref().map(|grow| -> Result<_, Invalid> {
                Ok(AutoGrow {
                    threshold_percent: u64::from(grow.threshold_percent.unwrap_or(80).unsigned_abs()),
                    increment: bytes("storage.autoGrow.increment", &grow.increment)?,
                    max: bytes("storage.autoGrow.max", &grow.max)?,
                })
            });
            let auto_grow = auto_grow.transpose()?;
            // What grew by itself stays so, and the others follow.
            let grown =
                auto_grow.as_ref().and_then(|_| largest(observed, members)).filter(|grown| *grown > size);
            let volume = Volume::Claim {
                size: grown.map_or_else(|| claim.size.clone(), |grown| grown.to_string()),
                auto_grow,
                template_size: template.and_then(requested).unwrap_or_else(|| claim.size.clone()),
                storage_class: claim.storage_class_name.clone(),
                on_delete: retention.on_delete.unwrap_or_default(),
                // Who sleeps was not scaled away.
                on_scale_down: retention.on_scale_down.filter(|_| !group.spec.hibernate).unwrap_or_default(),
            };
            // The files that lie on a volume have the size of its beginnings, whatever it has grown to since.
            let remembered = observed.claims.iter().map(|claim| &**claim).chain(template).find_map(|claim| {
                claim.annotations().get(SEGMENT_SIZE).and_then(|size| ByteCount::parse(size))
            });
            Ok((volume, remembered.unwrap_or_else(|| segment_size(size))))
        }
        (None, Some(ephemeral)) => {
            let size = match &ephemeral.size_limit {
                Some(limit) => bytes("storage.ephemeral.sizeLimit", limit)?,
                None => ByteCount::mebibytes(1024),
            };
            Ok((Volume::Ephemeral { size_limit: ephemeral.size_limit.clone() }, segment_size(size)))
        }
        (Some(_), Some(_)) | (None, None) => Err(Invalid::NoStorage),
    }
}

/// About a sixteenth of the volume, a power of two from 16 MiB to RocketMQ's 1 GiB: files go one at a time, so
/// small volumes need small ones.
fn segment_size(volume: ByteCount) -> ByteCount {
    let sixteenth = (volume.0 / 16).max(1);
    let power = 1_u64 << sixteenth.ilog2();
    ByteCount(power.clamp(ByteCount::mebibytes(16).0, ByteCount::mebibytes(1024).0))
}

fn template_of(observed: &Observed) -> Option<&PersistentVolumeClaim> {
    observed.stateful_set.as_ref()?.spec.as_ref()?.volume_claim_templates.as_ref()?.first()
}

/// What a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Option<String> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").map(|size| size.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_a_sixteenth_of_the_volume_as_a_power_of_two_within_bounds() {
        for (volume, expected) in [
            ("64Mi", "16Mi"),
            ("256Mi", "16Mi"),
            ("1Gi", "64Mi"),
            ("10Gi", "512Mi"),
            ("16Gi", "1Gi"),
            ("2Ti", "1Gi"),
        ] {
            let volume = ByteCount::parse(volume).expect("a quantity");
            assert_eq!(segment_size(volume).to_string(), expected, "{volume}");
        }
    }
}
