//! Topic: a topic of a messaging cluster, kept on every broker group.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Adoption, DriftPolicy, ManagementPolicy, NameServerRef};

/// A topic of a messaging cluster, kept on every broker group of its NameServerSet.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "mq.gantry.dev",
    version = "v1alpha1",
    kind = "Topic",
    plural = "topics",
    shortname = "mqt",
    category = "gantry",
    namespaced,
    status = "TopicStatus",
    derive = "PartialEq",
    doc = "A topic of a messaging cluster, kept on every broker group of its NameServerSet.",
    printcolumn(name = "Topic", type_ = "string", json_path = ".status.topicName", description = "The name that clients use"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.nameServerRef.name", description = "The name servers"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.messageType"),
    printcolumn(name = "Queues", type_ = "integer", json_path = ".spec.queues", description = "Queues in each broker group"),
    printcolumn(name = "Groups", type_ = "string", json_path = ".status.appliedGroups", description = "Broker groups that have the topic"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("has(self.spec.topicName) || !self.metadata.name.contains('.')")
        .message("a topic's name has no dot: set spec.topicName, or choose a metadata.name without a dot"),
    validation = Rule::new("has(self.spec.topicName) || self.metadata.name.size() <= 127")
        .message("a topic's name has at most 127 characters: set spec.topicName, or choose a shorter metadata.name"),
    validation = Rule::new("(has(self.spec.topicName) ? self.spec.topicName : self.metadata.name) == (has(oldSelf.spec.topicName) ? oldSelf.spec.topicName : oldSelf.metadata.name)")
        .message("topicName cannot change: make another Topic and move producers and consumers to it")
)]
pub struct TopicSpec {
    /// The name servers of the cluster that the topic belongs to.
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("nameServerRef cannot change: make another Topic under the other name servers")
    )]
    pub name_server_ref: NameServerRef,
    /// The name that clients use. Unset: the name of the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127))]
    #[x_kube(
        validation = Rule::new("!self.startsWith('%RETRY%') && !self.startsWith('%DLQ%')")
            .message("topicName cannot begin with %RETRY% or %DLQ%: brokers make these topics for consumer groups"),
        validation = Rule::new("!self.startsWith('rmq_sys_') && !self.startsWith('RMQ_SYS_')")
            .message("topicName cannot begin with rmq_sys_ or RMQ_SYS_: such topics belong to the system"),
        validation = Rule::new("!(self in ['TBW102', 'SCHEDULE_TOPIC_XXXX', 'BenchmarkTest', 'TRANS_CHECK_MAX_TIME_TOPIC', 'SELF_TEST_TOPIC', 'OFFSET_MOVED_EVENT', 'CHECKPOINT_TOPIC'])")
            .message("this topicName belongs to the system: choose another"),
        validation = Rule::new("self.matches('^[%|A-Za-z0-9_-]+$')")
            .message("topicName has letters, digits, dash, underscore, % and | only")
    )]
    pub topic_name: Option<String>,
    /// What producers may send.
    #[serde(default)]
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("messageType cannot change: messages of the old kind may be stored; make another Topic")
    )]
    pub message_type: MessageType,
    /// Queues in each broker group. With fewer than before, the last queues take no more messages at once, and go when they are consumed.
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 1024))]
    pub queues: i32,
    /// What clients may do.
    #[serde(default)]
    pub permission: Permission,
    /// Which broker groups have the topic. Unset: all. A topic that moves is made where it shall be first; where it was it takes no more
    /// messages then, and goes when they are consumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// What happens to the topic and its messages when this resource is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
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

fn eight() -> i32 {
    8
}

impl Topic {
    /// The name that clients use.
    pub fn client_name(&self) -> String {
        self.spec.topic_name.clone().unwrap_or_else(|| self.name_any())
    }
}

/// Which broker groups have a topic: by name, or by their labels.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.names) != has(self.selector)")
        .message("placement needs exactly one of names and selector; leave it out for all broker groups")
)]
pub struct Placement {
    /// Names of BrokerGroups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Option<Vec<String>>,
    /// Labels of BrokerGroups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// What producers may send to a topic.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageType {
    /// Messages without order.
    #[default]
    Normal,
    /// Messages with a message group, in order within it.
    Fifo,
    /// Messages that are delivered later.
    Delay,
    /// Messages that a transaction commits or rolls back.
    Transaction,
    /// Messages with a priority.
    Priority,
    /// Messages of many small topics below one.
    Lite,
    /// All of these.
    Mixed,
}

/// What clients may do with a topic.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Permission {
    /// Send and receive.
    #[default]
    ReadWrite,
    /// Receive.
    ReadOnly,
    /// Send.
    WriteOnly,
    /// Nothing.
    None,
}

impl Permission {
    /// Whether clients may receive.
    pub fn readable(self) -> bool {
        matches!(self, Self::ReadWrite | Self::ReadOnly)
    }

    /// Whether clients may send.
    pub fn writable(self) -> bool {
        matches!(self, Self::ReadWrite | Self::WriteOnly)
    }

    /// The permission with these two parts.
    pub fn of(readable: bool, writable: bool) -> Self {
        match (readable, writable) {
            (true, true) => Self::ReadWrite,
            (true, false) => Self::ReadOnly,
            (false, true) => Self::WriteOnly,
            (false, false) => Self::None,
        }
    }
}

/// What happens to a topic and its messages when its resource is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// Both stay.
    #[default]
    Retain,
    /// They go when every consumer group has consumed them; until then the resource stays.
    DeleteWhenDrained,
    /// They go at once.
    Delete,
}

/// What the operator has seen.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The name that clients use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_name: Option<String>,
    /// How many broker groups have the topic as the spec says, of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_groups: Option<String>,
    /// Each broker group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub groups: Vec<TopicGroupStatus>,
    /// Ready, Reconciling, Stalled and Drifted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// The topic on one broker group.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TopicGroupStatus {
    /// Name of the BrokerGroup.
    pub name: String,
    /// Queues that can be read.
    pub read_queues: i32,
    /// Queues that can be written.
    pub write_queues: i32,
    /// What clients may do.
    pub permission: Permission,
    /// How far it is.
    pub state: TopicGroupState,
    /// What is in the way, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How far a topic is on one broker group.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicGroupState {
    /// As the spec says.
    Applied,
    /// The last queues, or all where the topic leaves the group, take no more messages and wait to be consumed.
    Draining,
    /// The broker has it otherwise than the spec says, and it is left so.
    Drifted,
    /// The broker cannot be reached.
    Unavailable,
    /// The broker has a topic of this name that is someone else's.
    Foreign,
    /// The broker refused.
    Rejected,
}
