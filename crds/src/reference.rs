//! How one resource names another, and who may.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names a NameServerSet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "camelCase")]
pub struct NameServerRef {
    /// Name of the NameServerSet.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the NameServerSet. Unset: the namespace of this resource. A Topic or a ConsumerGroup can name another one,
    /// where the NameServerSet's allowedNamespaces consent; a BrokerGroup cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// The namespaces whose Topics and ConsumerGroups may refer to a NameServerSet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.selector) == (self.from == 'Selector')")
        .message("allowedNamespaces.selector goes with from: Selector, and with that alone")
)]
pub struct AllowedNamespaces {
    /// Which.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Labels of the namespaces, where `from` is Selector. Each namespace has the label `kubernetes.io/metadata.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Which namespaces.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamespacesFrom {
    /// The NameServerSet's own.
    #[default]
    Same,
    /// All.
    All,
    /// Those with certain labels, and its own.
    Selector,
}
