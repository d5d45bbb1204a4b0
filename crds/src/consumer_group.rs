//! ConsumerGroup: a consumer group of a messaging cluster, kept on every broker group.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Adoption, DriftPolicy, ManagementPolicy, NameServerRef};

/// A consumer group of a messaging cluster, kept on every broker group of its NameServerSet.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "mq.gantry.dev",
    version = "v1alpha1",
    kind = "ConsumerGroup",
    plural = "consumergroups",
    shortname = "cgrp",
    category = "gantry",
    namespaced,
    status = "ConsumerGroupStatus",
    derive = "PartialEq",
    doc = "A consumer group of a messaging cluster, kept on every broker group of its NameServerSet.",
    printcolumn(name = "Group", type_ = "string", json_path = ".status.groupName", description = "The name that clients use"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.nameServerRef.name", description = "The name servers"),
    printcolumn(name = "Consumes", type_ = "boolean", json_path = ".spec.consumeEnabled", description = "Whether it receives messages"),
    printcolumn(name = "Ordered", type_ = "boolean", json_path = ".spec.ordered", description = "Whether messages of one message group come in order"),
    printcolumn(name = "Brokers", type_ = "string", json_path = ".status.appliedGroups", description = "Broker groups that have it as the spec says"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("has(self.spec.groupName) || !self.metadata.name.contains('.')")
        .message("a consumer group's name has no dot: set spec.groupName, or choose a metadata.name without a dot"),
    validation = Rule::new("has(self.spec.groupName) || self.metadata.name.size() <= 120")
        .message("a consumer group's name has at most 120 characters: set spec.groupName, or choose a shorter metadata.name"),
    validation = Rule::new("(has(self.spec.groupName) ? self.spec.groupName : self.metadata.name) == (has(oldSelf.spec.groupName) ? oldSelf.spec.groupName : oldSelf.metadata.name)")
        .message("groupName cannot change: make another ConsumerGroup and let consumers join it")
)]
pub struct ConsumerGroupSpec {
    /// The name servers of the cluster that the group belongs to.
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("nameServerRef cannot change: make another ConsumerGroup under the other name servers")
    )]
    pub name_server_ref: NameServerRef,
    /// The name that clients use. Unset: the name of the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 120))]
    #[x_kube(
        validation = Rule::new("!self.startsWith('CID_RMQ_SYS_')")
            .message("groupName cannot begin with CID_RMQ_SYS_: such groups belong to the system"),
        validation = Rule::new("self.matches('^[%|A-Za-z0-9_-]+$')")
            .message("groupName has letters, digits, dash, underscore, % and | only")
    )]
    pub group_name: Option<String>,
    /// Whether the group receives messages. While it does not, receiving is refused, and what was received can still be acknowledged.
    #[serde(default = "yes")]
    pub consume_enabled: bool,
    /// Whether messages of one message group are delivered strictly one after the other (FIFO).
    #[serde(default)]
    pub ordered: bool,
    /// What happens to a message that is not acknowledged.
    #[serde(default)]
    pub retry: Retry,
    /// What happens to the group and its progress when this resource is deleted.
    #[serde(default)]
    pub deletion_policy: GroupDeletionPolicy,
    /// Whether one that brokers have already becomes managed by this resource.
    #[serde(default)]
    pub adoption: Adoption,
    /// What happens when somebody else changes or removes it on a broker.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
    /// Whether brokers are changed at all.
    #[serde(default)]
    pub management_policy: ManagementPolicy,
}

fn yes() -> bool {
    true
}

/// What happens to a message that is not acknowledged.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Deliveries of a message before it becomes a dead letter. The default is the first one and RocketMQ's 16 retries.
    #[serde(default = "seventeen")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: i32,
    /// How long a message stays away after a failed delivery. Unset: the steps of RocketMQ, 1s, 5s, 10s, 30s, 1m to 10m, 20m, 30m, 1h, 2h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: seventeen(), backoff: None }
    }
}

fn seventeen() -> i32 {
    17
}

/// How long a message stays away after a failed delivery: longer each time, or as listed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.exponential) != has(self.custom)")
        .message("retry.backoff needs exactly one of exponential and custom")
)]
pub struct Backoff {
    /// Longer by a factor each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponential: Option<ExponentialBackoff>,
    /// One duration for each attempt, such as `10s` or `5m`; the last one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 2, max = 12)))]
    #[x_kube(
        validation = Rule::new("self.all(d, d.matches('^[1-9][0-9]{0,6}(ms|s|m|h|d)$'))")
            .message("a duration is a whole number with one of d, h, m, s, ms behind it, such as 10s")
    )]
    pub custom: Option<Vec<String>>,
}

/// From an initial time to a longest one, growing by a factor.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[self.initial, self.max].all(d, d.matches('^[1-9][0-9]{0,6}(ms|s|m|h|d)$'))")
        .message("a duration is a whole number with one of d, h, m, s, ms behind it, such as 10s")
)]
pub struct ExponentialBackoff {
    /// After the first attempt, such as `5s`.
    #[serde(default = "five_seconds")]
    #[schemars(length(min = 2, max = 12))]
    pub initial: String,
    /// Never longer than this, such as `2h`.
    #[serde(default = "two_hours")]
    #[schemars(length(min = 2, max = 12))]
    pub max: String,
    /// From one attempt to the next.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub multiplier: i32,
}

fn five_seconds() -> String {
    "5s".to_owned()
}

fn two_hours() -> String {
    "2h".to_owned()
}

fn two() -> i32 {
    2
}

impl ConsumerGroup {
    /// The name that clients use.
    pub fn client_name(&self) -> String {
        self.spec.group_name.clone().unwrap_or_else(|| self.name_any())
    }
}

/// What happens to a consumer group and its progress when its resource is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupDeletionPolicy {
    /// Both stay.
    #[default]
    Retain,
    /// They go at once: a group of this name that comes later begins at the beginning.
    Delete,
}

/// What the operator has seen.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerGroupStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The name that clients use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    /// How many broker groups have the group as the spec says, of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_groups: Option<String>,
    /// Each broker group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub groups: Vec<ConsumerGroupPlace>,
    /// Ready, Reconciling, Stalled and Drifted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// The consumer group on one broker group.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerGroupPlace {
    /// Name of the BrokerGroup.
    pub name: String,
    /// How far it is.
    pub state: ConsumerGroupState,
    /// What is in the way, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How far a consumer group is on one broker group.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerGroupState {
    /// As the spec says.
    Applied,
    /// The broker has it otherwise than the spec says, and it is left so.
    Drifted,
    /// The broker cannot be reached.
    Unavailable,
    /// The broker has a group of this name that is someone else's.
    Foreign,
    /// The broker refused.
    Rejected,
}
