//! How pods are replaced when what they are made of changes, and what protects them meanwhile.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How pods are replaced when what they are made of changes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// Who decides when a pod is replaced. Unset: Rolling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<UpdateStrategy>,
    /// No pod is replaced while it is true, not even one that is broken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// So many pods are replaced, and the others wait until this is raised or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    pub canary: Option<i32>,
    /// How long a pod that was replaced must be Ready before the next goes. Unset: 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub min_stable_seconds: Option<i32>,
    /// When pods that work may be replaced; those that are broken are at any time. Unset: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 14))]
    pub windows: Vec<UpdateWindow>,
    /// A newer operator makes pods that exist as the operator before it did, until something else changes them. Another value
    /// here, such as the version of the operator, takes over at once what the newer one does otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub profile_version: Option<String>,
}

/// Who decides when a pod is replaced.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateStrategy {
    /// The operator: one at a time, the primary last.
    #[default]
    Rolling,
    /// The operator replaces replicas; the primary waits until a person makes another the primary, or deletes its pod.
    Supervised,
    /// A person: a pod is made anew when it is deleted.
    OnDelete,
}

/// A time of the week in which pods may be replaced.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UpdateWindow {
    /// The days on which it opens. Unset: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub days: Vec<Weekday>,
    /// When it opens, in UTC.
    #[schemars(length(min = 5, max = 5))]
    #[x_kube(
        validation = Rule::new("self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')")
            .message("update.windows.from is a time in UTC from 00:00 to 23:59")
    )]
    pub from: String,
    /// How long it is open.
    #[schemars(range(min = 1, max = 24))]
    pub hours: i32,
}

/// A day of the week.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the days")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// What keeps the pods when nodes are drained.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Disruption {
    /// Whether there is a PodDisruptionBudget. Unset: Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdb: Option<BudgetPolicy>,
}

/// Whether there is a PodDisruptionBudget.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BudgetPolicy {
    /// One that lets a single pod of several be evicted at a time. Of one pod there is none: it would hold up every drain.
    #[default]
    Auto,
    /// None.
    Disabled,
}

/// How far the pods are on their way to what they shall be made of.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// What they shall be, as their StatefulSet names it.
    pub revision: String,
    /// What changed.
    pub reason: String,
    /// Pods that are new.
    pub done: i32,
    /// Pods that shall be.
    pub total: i32,
    /// What the next pod waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}
