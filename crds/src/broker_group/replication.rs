//! How a log gets to several brokers, and how soon one of them takes the place of another.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
