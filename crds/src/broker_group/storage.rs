//! Where a BrokerGroup keeps its log, and for how long.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
