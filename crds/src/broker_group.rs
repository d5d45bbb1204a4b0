//! BrokerGroup: one log of messages, and the brokers that keep it.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    CertificateStatus, Disruption, Endpoint, Image, Listener, Logging, NameServerRef, PodSettings, Rollout,
    Tls, Update,
};

/// One log of messages, and the brokers that keep it. A cluster is all groups that name one NameServerSet and one clusterName.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "mq.gantry.dev",
    version = "v1alpha1",
    kind = "BrokerGroup",
    plural = "brokergroups",
    shortname = "bg",
    category = "gantry",
    namespaced,
    status = "BrokerGroupStatus",
    derive = "PartialEq",
    doc = "One log of messages, and the brokers that keep it. A cluster is all groups that name one NameServerSet and one clusterName.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterName"),
    printcolumn(name = "Broker", type_ = "string", json_path = ".status.brokerName", description = "The name that clients see"),
    printcolumn(name = "Primary", type_ = "string", json_path = ".status.primary", description = "The pod that takes writes"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch", description = "How often a primary has been made"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "InSync", type_ = "integer", json_path = ".status.inSyncReplicas", description = "Brokers that have everything that is acknowledged"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name begins with a letter, has lower-case letters, digits and dashes only and at most 40 characters: it becomes part of the names of Services"),
    validation = Rule::new("(has(self.spec.brokerName) ? self.spec.brokerName : self.metadata.name) == (has(oldSelf.spec.brokerName) ? oldSelf.spec.brokerName : oldSelf.metadata.name)")
        .message("brokerName cannot change: messages and progress are kept under it; make another BrokerGroup"),
    validation = Rule::new("!has(self.spec.replication) || !has(self.spec.replication.minInSync) || self.spec.replication.minInSync <= (has(self.spec.replicas) ? self.spec.replicas : 1)")
        .message("replication.minInSync is at most replicas (1 unless set), else no send would ever be taken: lower minInSync, or raise replicas"),
    validation = Rule::new("!has(self.spec.fencedMembers) || self.spec.fencedMembers.all(it, it < (has(self.spec.replicas) ? self.spec.replicas : 1))")
        .message("fencedMembers names a broker that does not exist: each is below replicas (1 unless set)"),
    validation = Rule::new("!has(self.spec.fencedMembers) || self.spec.fencedMembers.size() < (has(self.spec.replicas) ? self.spec.replicas : 1)")
        .message("fencedMembers names every broker, so none could be the primary: leave one out"),
    validation = Rule::new("!has(self.spec.preferredPrimary) || self.spec.preferredPrimary < (has(self.spec.replicas) ? self.spec.replicas : 1)")
        .message("preferredPrimary is a broker that does not exist: it is below replicas (1 unless set)"),
    validation = Rule::new("!has(self.spec.tls) || !has(self.spec.tls.mode) || !has(self.spec.config) || !('tls' in self.spec.config)")
        .message("config.tls and tls.mode say the same: remove config.tls"),
    validation = Rule::new("!has(self.spec.config) || !('tls' in self.spec.config) || !has(self.spec.listeners) || !self.spec.listeners.exists(it, it.name == 'internal' && has(it.tls))")
        .message("config.tls and the tls of the listener internal say the same: remove config.tls, and set tls.mode for other listeners"),
    validation = Rule::new("!has(self.spec.hibernate) || !self.spec.hibernate || !has(self.spec.storage.ephemeral)")
        .message("hibernate would lose every message: with storage.ephemeral the log goes with the pods; remove hibernate, or delete this BrokerGroup"),
    validation = Rule::new("!has(self.spec.tls) || !has(self.spec.tls.secretName) || !has(self.spec.tls.mode) || self.spec.tls.mode != 'Disabled' || (has(self.spec.listeners) && self.spec.listeners.exists(it, has(it.tls) && it.tls != 'Disabled'))")
        .message("tls.secretName is shown to nobody while TLS is Disabled at every listener: remove it, or change tls.mode")
)]
pub struct BrokerGroupSpec {
    /// The name servers to register with.
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("nameServerRef cannot change: make another BrokerGroup under the other name servers")
    )]
    pub name_server_ref: NameServerRef,
    /// The cluster that the group belongs to.
    #[serde(default = "default_cluster")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("clusterName cannot change: make another BrokerGroup in the other cluster"),
        validation = Rule::new("self.matches('^[A-Za-z0-9_-]+$')")
            .message("clusterName has letters, digits, dash and underscore only")
    )]
    pub cluster_name: String,
    /// The name that clients see, unique in its cluster. Unset: the name of the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_-]+$')")
            .message("brokerName has letters, digits, dash and underscore only")
    )]
    pub broker_name: Option<String>,
    /// How many brokers keep the log: one takes writes, the others follow it, and one of them takes its place when it is
    /// gone. Unset: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: Option<i32>,
    /// Version of Gantry, which is the tag of the image. Unset: the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_][A-Za-z0-9_.-]*$')")
            .message("version is the tag of an image: letters, digits, dot, dash and underscore only")
    )]
    pub version: Option<String>,
    /// The image, if not the operator's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Where the log is kept.
    pub storage: Storage,
    /// How long messages are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_retention: Option<MessageRetention>,
    /// When a message counts as stored. Unset: Async.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush: Option<Flush>,
    /// How the log gets to the other brokers, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<Replication>,
    /// How soon another broker takes the place of one that is gone, and how often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
    /// The broker that shall be the primary while all is well, by its ordinal: the primary hands over to it once all have been Ready
    /// and in sync for `update.minStableSeconds`. Unset: whoever is primary stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 8))]
    pub preferred_primary: Option<i32>,
    /// Brokers that must not be the primary, by their ordinals. They go on keeping every message; one that is primary hands over first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(range(min = 0, max = 8)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub fenced_members: Vec<i32>,
    /// More ports for clients, such as for those outside of the cluster. The listener `internal` is always there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".to_owned()]),
        validation = Rule::new("self.all(a, self.exists_one(b, b.port == a.port))")
            .message("two listeners have the same port: give each its own")
    )]
    pub listeners: Vec<Listener>,
    /// TLS for clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Resources of the container. Unset: small requests and no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Settings that are handed to the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSettings>,
    /// Knobs of the broker by name. An unknown one is not handed on, and the condition ConfigApplied names it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::pod::config")]
    pub config: BTreeMap<String, String>,
    /// What is logged, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// How pods are replaced when what they are made of changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    /// What keeps the pods when nodes are drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
    /// While it is true there are no pods. Volumes stay, and the record of who has everything; false brings the pods back. Not with
    /// `storage.ephemeral`, whose log goes with the pods.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hibernate: bool,
    /// While it is true the API server refuses to delete this resource, unless its namespace is deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deletion_protection: bool,
}

fn default_cluster() -> String {
    "DefaultCluster".to_owned()
}

/// Where the log is kept: on a volume, or with the pod.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.commitLog) != has(self.ephemeral)")
        .message("storage needs exactly one of commitLog (a volume) and ephemeral (lost with the pod, for trials)"),
    validation = Rule::new("has(self.commitLog) == has(oldSelf.commitLog)")
        .message("storage cannot change between commitLog and ephemeral: make another BrokerGroup and move the traffic there"),
    validation = Rule::new("!has(self.retention) || has(self.commitLog)")
        .message("storage.retention is about volumes: remove it, or use storage.commitLog instead of ephemeral"),
    validation = Rule::new("!has(self.autoGrow) || has(self.commitLog)")
        .message("storage.autoGrow is about volumes: remove it, or use storage.commitLog instead of ephemeral"),
    validation = Rule::new("!has(self.autoGrow) || !has(self.commitLog) || !isQuantity(self.autoGrow.max) || !isQuantity(self.commitLog.size) || quantity(self.autoGrow.max).compareTo(quantity(self.commitLog.size)) >= 0")
        .message("storage.autoGrow.max is at least storage.commitLog.size: raise it")
)]
pub struct Storage {
    /// A volume for each broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_log: Option<CommitLogVolume>,
    /// A directory that is lost with the pod. For trials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<EphemeralVolume>,
    /// What happens to volumes that are no longer needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<StorageRetention>,
    /// Volumes that are nearly full grow by themselves. Unset: only commitLog.size lets them grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_grow: Option<AutoGrow>,
}

/// How volumes that are nearly full grow by themselves. Their class must allow it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AutoGrow {
    /// How full one of them is, in percent, when all grow. Unset: 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 95))]
    pub threshold_percent: Option<i32>,
    /// By how much, for example `20Gi`.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity('1Ei')) <= 0")
            .message("storage.autoGrow.increment is at most 1Ei"),
        validation = Rule::new("isQuantity(self)")
            .message("storage.autoGrow.increment is a quantity such as 20Gi"),
        validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity('64Mi')) >= 0")
            .message("storage.autoGrow.increment is at least 64Mi")
    )]
    pub increment: String,
    /// The size beyond which they do not grow, for example `500Gi`.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity('1Ei')) <= 0")
            .message("storage.autoGrow.max is at most 1Ei"),
        validation = Rule::new("isQuantity(self)")
            .message("storage.autoGrow.max is a quantity such as 500Gi")
    )]
    pub max: String,
}

/// A volume for each broker.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storage.commitLog.storageClassName cannot change: a volume stays in its class; make another BrokerGroup and move the traffic there")
)]
pub struct CommitLogVolume {
    /// Size of the volume, for example `100Gi`. It can grow where the storage class allows it, and never shrinks.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity('1Ei')) <= 0")
            .message("storage.commitLog.size is at most 1Ei: one that is too large could never be lowered again"),
        validation = Rule::new("isQuantity(self)")
            .message("storage.commitLog.size is a quantity such as 100Gi"),
        validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity('64Mi')) >= 0")
            .message("storage.commitLog.size is at least 64Mi: a smaller volume cannot hold a log and its views"),
        validation = Rule::new("!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0")
            .message("storage.commitLog.size cannot shrink: set it to the former size or more")
    )]
    pub size: String,
    /// Class of the volume. Unset: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// A directory that is lost with the pod.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EphemeralVolume {
    /// What the pod may write before it is evicted. Unset: whatever the node has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity('1Ei')) <= 0")
            .message("storage.ephemeral.sizeLimit is at most 1Ei"),
        validation = Rule::new("isQuantity(self)")
            .message("storage.ephemeral.sizeLimit is a quantity such as 2Gi"),
        validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity('64Mi')) >= 0")
            .message("storage.ephemeral.sizeLimit is at least 64Mi: less cannot hold a log and its views")
    )]
    pub size_limit: Option<String>,
}

/// What happens to volumes that are no longer needed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StorageRetention {
    /// When the BrokerGroup is deleted. Unset: Retain. With the volumes stays the Lease that says which of them are complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<VolumePolicy>,
    /// When a broker is scaled away. Unset: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_scale_down: Option<VolumePolicy>,
}

/// What happens to a volume that is no longer needed.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VolumePolicy {
    /// It stays, and a BrokerGroup of the same name takes it up again.
    #[default]
    Retain,
    /// It goes, with all messages on it.
    Delete,
}

impl VolumePolicy {
    /// The word that Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }
}

/// How long messages are kept, consumed or not.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "(has(self.deleteEarlyPercent) ? self.deleteEarlyPercent : 0) < (has(self.refusePercent) ? self.refusePercent : 90)",
    )
    .message("messageRetention.deleteEarlyPercent is below refusePercent (90 unless set): messages must go before sends are refused")
)]
pub struct MessageRetention {
    /// Age after which a message may go, for example `72h` or `3d`. Unset: 72h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(
        validation = Rule::new("self.matches('^[1-9][0-9]{0,8}[dhms]$')")
            .message("messageRetention.time is a whole number with one of d, h, m, s behind it, such as 72h")
    )]
    pub time: Option<String>,
    /// How full the volume may be, in percent, before messages that are old enough go at any hour. Unset: 75.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 95))]
    pub disk_percent: Option<i32>,
    /// Hour of the day (UTC) at which old messages go. Unset: 04:00.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 5))]
    #[x_kube(
        validation = Rule::new("self.matches('^([01][0-9]|2[0-3]):00$')")
            .message("messageRetention.deleteAt is a full hour in UTC from 00:00 to 23:00")
    )]
    pub delete_at: Option<String>,
    /// How full the volume may be, in percent, before the oldest messages go however young they are, consumed or not.
    /// Unset: they never do, and sends are refused instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 99))]
    pub delete_early_percent: Option<i32>,
    /// How full the volume may be, in percent, before sends are refused; the rest is kept for what else must be written.
    /// 100: only when it is full. Unset: 90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 100))]
    pub refuse_percent: Option<i32>,
    /// How much log is kept at most, for example `50Gi`; then the oldest messages go, however young. Unset: as much as
    /// the volume holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity('1Ei')) <= 0")
            .message("messageRetention.size is at most 1Ei"),
        validation = Rule::new("isQuantity(self)")
            .message("messageRetention.size is a quantity such as 50Gi"),
        validation = Rule::new("!isQuantity(self) || quantity(self).compareTo(quantity('16Mi')) >= 0")
            .message("messageRetention.size is at least 16Mi: less cannot hold two files of the log")
    )]
    pub size: Option<String>,
}

/// When a message counts as stored.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// When the operating system has it: survives the broker's death, not the node's.
    #[default]
    Async,
    /// When the disk has it.
    Sync,
}

/// How the log gets to the other brokers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Replication {
    /// When a send is acknowledged. Unset: Sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ReplicationMode>,
    /// With fewer brokers in sync, the primary included, sends are refused. Unset: 2, or 1 for a single broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    pub min_in_sync: Option<i32>,
    /// A broker that is further behind than this is in sync no more, and nothing waits for it. Unset: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub max_lag_seconds: Option<i32>,
}

/// When a send is acknowledged.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicationMode {
    /// When every broker that is in sync has the message: none that is acknowledged is lost with the primary.
    #[default]
    Sync,
    /// When the primary has it: what the others do not have yet may be lost with the primary.
    Async,
}

/// How soon another broker takes the place of one that is gone, and how often.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.leaseDurationSeconds) ? self.leaseDurationSeconds : 8) > (has(self.renewDeadlineSeconds) ? self.renewDeadlineSeconds : 5)")
        .message("failover.leaseDurationSeconds (8 unless set) is above renewDeadlineSeconds (5 unless set): a primary must give up before another takes its place; raise the first or lower the second"),
    validation = Rule::new("(has(self.renewDeadlineSeconds) ? self.renewDeadlineSeconds : 5) * 1000 > (has(self.retryPeriodMillis) ? self.retryPeriodMillis : 1000)")
        .message("failover.renewDeadlineSeconds (5 unless set) is above retryPeriodMillis (1000 unless set): there must be time for another try; raise the first or lower the second")
)]
pub struct Failover {
    /// Whether a broker takes the place of a primary that is lost. When false that waits for a person, who names the next by the
    /// annotation `mq.gantry.dev/switchover-to`; a primary that ends as planned hands over all the same. Unset: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// After so many failovers within an hour each keeps the next waiting for 30 seconds. A primary that hands over does not
    /// count. Unset: 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 60))]
    pub max_per_hour: Option<i32>,
    /// How long a primary that is not heard of counts as one. Unset: 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 300))]
    pub lease_duration_seconds: Option<i32>,
    /// How long a primary tries to renew its Lease. Unset: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 299))]
    pub renew_deadline_seconds: Option<i32>,
    /// How long between two tries, in milliseconds. Unset: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 60000))]
    pub retry_period_millis: Option<i32>,
}

/// What the operator has seen.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BrokerGroupStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that serve.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Pods of the newest revision.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Label selector of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The name that clients see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_name: Option<String>,
    /// The pod that takes writes. Of several brokers: the last that was made primary; Ready says whether it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// How often a primary has been made. Absent for a single broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// The pods that have everything that is acknowledged: one of them takes the place of the primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_sync: Vec<String>,
    /// How many they are. Absent for a single broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_sync_replicas: Option<i32>,
    /// The last time that pods were to be replaced, and how far that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// The last time that a primary was made after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<LastFailover>,
    /// How often a broker took the place of a primary that was lost. Absent for a single broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failovers: Option<Failovers>,
    /// The requests by annotation that were seen to, granted or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<LastHandled>,
    /// Each broker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["ordinal".to_owned()]))]
    pub members: Vec<BrokerGroupMember>,
    /// When the group first served. Name servers that start wait for the groups that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_served_at: Option<String>,
    /// Where clients reach each listener.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["listener".to_owned()]))]
    pub endpoints: Vec<Endpoint>,
    /// The certificate of `spec.tls.secretName`, as the pods show it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["secretName".to_owned()]))]
    pub certificates: Vec<CertificateStatus>,
    /// What was chosen where the spec leaves the choice open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<BrokerGroupEffective>,
    /// Ready, Reconciling, Stalled, ConfigApplied and StorageHealthy; of several brokers also ReplicationHealthy, and
    /// DataLossPossible after an unclean promotion; with `spec.tls.secretName` CertificatesValid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// A primary that was made after another.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastFailover {
    /// When it was seen.
    pub at: String,
    /// The pod that was the primary.
    pub from: String,
    /// The pod that is: the same where its process began anew.
    pub to: String,
    /// Its epoch.
    pub epoch: i64,
}

/// How often a broker took the place of a primary that was lost.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Failovers {
    /// How often in all, as the Lease counts it.
    pub counted: i64,
    /// When those of the last hour were seen; the last 60 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<String>,
}

/// Requests by annotation that were seen to: the value of each, so that none is done twice.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastHandled {
    /// Of `mq.gantry.dev/switchover-to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switchover_to: Option<String>,
    /// Of `mq.gantry.dev/unclean-promote`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclean_promote: Option<String>,
}

/// What a broker is to its group.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberRole {
    /// It takes writes.
    Primary,
    /// It follows the primary.
    Replica,
    /// It is not there, or says nothing.
    #[default]
    Unknown,
}

/// A broker of a group.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BrokerGroupMember {
    /// Number of the pod in its StatefulSet.
    pub ordinal: i32,
    /// Name of the pod.
    pub pod: String,
    /// Serving, Following, CatchingUp, Refusing, Starting, Stopping, Missing or Hibernated.
    pub state: String,
    /// What it is to the group. Absent for a single broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
    /// Whether it must not be the primary, as the Lease tells the brokers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fenced: bool,
    /// Where clients reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Version that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What was chosen where the spec of a BrokerGroup leaves the choice open.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BrokerGroupEffective {
    /// How many brokers keep the log.
    pub replicas: i32,
    /// The image of the pods.
    pub image: String,
    /// The version of Gantry whose defaults the pods have.
    #[serde(default)]
    pub profile_version: String,
    /// When a message counts as stored.
    pub flush: Flush,
    /// How large the volumes shall be: storage.commitLog.size, or more where they grew by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_size: Option<String>,
    /// Size of a file of the log. It is fixed when the volume is made.
    pub segment_size: String,
    /// Age after which a message may go.
    pub retention_time: String,
    /// How full the volume may be, in percent, before old messages go at any hour.
    pub retention_disk_percent: i32,
    /// Hour of the day (UTC) at which old messages go.
    pub retention_delete_at: String,
    /// How full the volume may be, in percent, before young messages go; absent: they never do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_delete_early_percent: Option<i32>,
    /// How full the volume may be, in percent, before sends are refused.
    #[serde(default)]
    pub retention_refuse_percent: i32,
    /// How much log is kept at most; absent: as much as the volume holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_size: Option<String>,
    /// How the log gets to the other brokers; absent for a single broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<EffectiveReplication>,
}

/// What was chosen where `replication` and `failover` leave the choice open.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveReplication {
    /// When a send is acknowledged.
    pub mode: ReplicationMode,
    /// With fewer brokers in sync sends are refused.
    pub min_in_sync: i32,
    /// A broker that is further behind is in sync no more.
    pub max_lag_seconds: i32,
    /// How long a primary that is not heard of counts as one.
    pub lease_duration_seconds: i32,
    /// How long a primary tries to renew its Lease.
    pub renew_deadline_seconds: i32,
    /// How long between two tries.
    pub retry_period_millis: i32,
    /// Whether a broker takes the place of a primary that is lost.
    #[serde(default)]
    pub failover_enabled: bool,
    /// How often within an hour.
    #[serde(default)]
    pub max_failovers_per_hour: i32,
}
