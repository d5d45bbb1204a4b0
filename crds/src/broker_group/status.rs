//! What the operator has seen of a BrokerGroup, and what it chose.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Flush, ReplicationMode};
use crate::{CertificateStatus, Endpoint, Rollout};

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
