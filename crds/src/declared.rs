//! How what is declared by a resource meets what brokers have already: the same for Topics and ConsumerGroups.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether something of this name that brokers have already becomes managed by the resource.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adoption {
    /// If nobody else manages it.
    #[default]
    IfUnowned,
    /// Also if somebody else does: their stamp is replaced.
    Always,
    /// Never: only what is made for this resource is managed.
    Never,
}

/// What happens when brokers have it otherwise than the resource once made it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriftPolicy {
    /// It is made so again at once.
    #[default]
    Revert,
    /// It stays, and the condition Drifted says so until the spec changes or brokers have it as before.
    Report,
}

/// Whether brokers are changed at all.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ManagementPolicy {
    /// Brokers are made to have what the spec says.
    #[default]
    Full,
    /// Nothing is changed or deleted; the status says whether brokers have what the spec says.
    ObserveOnly,
}
