//! BrokerGroup: one log of messages, and the brokers that keep it.

mod replication;
mod status;
mod storage;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use self::{
    replication::{Failover, Replication, ReplicationMode},
    status::{
        BrokerGroupEffective, BrokerGroupMember, BrokerGroupStatus, EffectiveReplication, Failovers,
        LastFailover, LastHandled, MemberRole,
    },
    storage::{
        AutoGrow, CommitLogVolume, EphemeralVolume, Flush, MessageRetention, Storage, StorageRetention,
        VolumePolicy,
    },
};
use crate::{Disruption, Image, Listener, Logging, NameServerRef, PodSettings, Tls, Update};

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
