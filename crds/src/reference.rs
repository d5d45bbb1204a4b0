//! How one resource names another.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Names a NameServerSet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "camelCase")]
pub struct NameServerRef {
    /// Name of the NameServerSet.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the NameServerSet. Unset: the namespace of this resource, which is also the only one
    /// that is accepted until a NameServerSet can consent to references from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}
