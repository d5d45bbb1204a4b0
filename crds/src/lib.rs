//! Gantry's custom resources as Rust types, and the YAML that is generated from them.
//!
//! ```text
//!   NameServerSet (nss) ◄── nameServerRef ── BrokerGroup (bg)   one replicated log; a cluster is all
//!        ▲                                                      groups of a NameServerSet with one clusterName
//!        ├───────────────── nameServerRef ── Topic (mqt)          kept on every group of its NameServerSet
//!        └───────────────── nameServerRef ── ConsumerGroup (cgrp) kept on every group of its NameServerSet
//! ```
//!
//! A field is here only when it has an effect. Every bound, enumeration, immutability and rule between fields
//! is in the schema, as CEL with a message that says what to change, so the API server refuses what
//! cannot work and no webhook is needed. A schema default exists only for what will never change; the operator
//! chooses the others and shows them in `status.effective`.
//!
//! `cargo run -p crds --bin crds-gen` writes `crds/*.yaml`; a test says when they are stale.

#![forbid(unsafe_code)]
#![expect(unreachable_pub, reason = "KubeSchema copies each public type into a function")]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

mod broker_group;
mod config_keys;
mod consumer_group;
mod declared;
pub mod duration;
mod listener;
mod logging;
mod name_server_set;
mod pod;
mod reference;
mod topic;
mod update;

pub use broker_group::{
    AutoGrow, BrokerGroup, BrokerGroupEffective, BrokerGroupMember, BrokerGroupSpec, BrokerGroupStatus,
    CommitLogVolume, EffectiveReplication, EphemeralVolume, Failover, Failovers, Flush, LastFailover,
    LastHandled, MemberRole, MessageRetention, Replication, ReplicationMode, Storage, StorageRetention,
    VolumePolicy,
};
pub use config_keys::{
    Allowed, BROKER_CONFIG, BROKER_CONFIG_KEYS, ConfigKey, NAME_SERVER_CONFIG, NAME_SERVER_CONFIG_KEYS,
};
pub use consumer_group::{
    Backoff, ConsumerGroup, ConsumerGroupPlace, ConsumerGroupSpec, ConsumerGroupState, ConsumerGroupStatus,
    ExponentialBackoff, GroupDeletionPolicy, Retry,
};
pub use declared::{Adoption, DriftPolicy, ManagementPolicy};
pub use listener::{Advertised, CertificateStatus, Endpoint, INTERNAL, Listener, ListenerType, Tls, TlsMode};
pub use logging::{LogFormat, Logging};
pub use name_server_set::{NameServerSet, NameServerSetEffective, NameServerSetSpec, NameServerSetStatus};
pub use pod::{Image, ImagePullPolicy, PodSettings, PullSecret};
pub use reference::{AllowedNamespaces, NameServerRef, NamespacesFrom};
pub use topic::{
    DeletionPolicy, MessageType, Permission, Placement, Topic, TopicGroupState, TopicGroupStatus, TopicSpec,
    TopicStatus,
};
pub use update::{BudgetPolicy, Disruption, Rollout, Update, UpdateStrategy, UpdateWindow, Weekday};

/// The API group of every resource here.
pub const GROUP: &str = "mq.gantry.dev";

/// The version of the API that the types here describe.
pub const VERSION: &str = "v1alpha1";

/// The annotation on each CustomResourceDefinition that says which generation of the schemas it holds.
pub const SCHEMA_ANNOTATION: &str = "mq.gantry.dev/schema-generation";

/// Grows by one whenever the operator begins to need something new of the schemas. The operator compares it with the
/// annotation of what is installed, and says so when the cluster's is older.
pub const SCHEMA_GENERATION: u32 = 5;

/// All resources, with the name of the file that holds each.
pub fn all() -> Vec<(&'static str, CustomResourceDefinition)> {
    [
        ("nameserversets.yaml", NameServerSet::crd()),
        ("brokergroups.yaml", BrokerGroup::crd()),
        ("topics.yaml", Topic::crd()),
        ("consumergroups.yaml", ConsumerGroup::crd()),
    ]
    .map(|(file, crd)| (file, finished(crd)))
    .to_vec()
}

/// What stands in `file` of [`all`]: the definition as YAML under a line that says where it comes from.
pub fn yaml(crd: &CustomResourceDefinition) -> String {
    let body = serde_yaml::to_string(crd).expect("a definition of plain data is YAML");
    format!("# Generated from crds/src by `cargo run -p crds --bin crds-gen`. Change it there.\n{body}")
}

/// The definition that the derive made, with the annotation that says how new it is.
fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.metadata
        .annotations
        .get_or_insert_default()
        .insert(SCHEMA_ANNOTATION.to_owned(), SCHEMA_GENERATION.to_string());
    crd
}
