//! NameServerSet: the name servers of a messaging cluster.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AllowedNamespaces, CertificateStatus, Disruption, Endpoint, Image, Listener, Logging, PodSettings,
    Rollout, Tls, Update,
};

/// Name servers: brokers register with each of them, clients ask any of them for routes.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "mq.gantry.dev",
    version = "v1alpha1",
    kind = "NameServerSet",
    plural = "nameserversets",
    shortname = "nss",
    category = "gantry",
    namespaced,
    status = "NameServerSetStatus",
    derive = "PartialEq",
    doc = "Name servers of a messaging cluster: brokers register with each of them, clients ask any of them for routes.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas", description = "Name servers that answer"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas", description = "Name servers that are asked for"),
    printcolumn(name = "Groups", type_ = "integer", json_path = ".status.registeredGroups", description = "Broker groups that are registered"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address", description = "What clients connect to"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name begins with a letter, has lower-case letters, digits and dashes only and at most 40 characters: it becomes part of the names of Services"),
    validation = Rule::new("!has(self.spec.tls) || !has(self.spec.tls.mode) || !has(self.spec.config) || !('tls' in self.spec.config)")
        .message("config.tls and tls.mode say the same: remove config.tls"),
    validation = Rule::new("!has(self.spec.config) || !('tls' in self.spec.config) || !has(self.spec.listeners) || !self.spec.listeners.exists(it, it.name == 'internal' && has(it.tls))")
        .message("config.tls and the tls of the listener internal say the same: remove config.tls, and set tls.mode for other listeners"),
    validation = Rule::new("!has(self.spec.tls) || !has(self.spec.tls.secretName) || !has(self.spec.tls.mode) || self.spec.tls.mode != 'Disabled' || (has(self.spec.listeners) && self.spec.listeners.exists(it, has(it.tls) && it.tls != 'Disabled'))")
        .message("tls.secretName is shown to nobody while TLS is Disabled at every listener: remove it, or change tls.mode")
)]
pub struct NameServerSetSpec {
    /// How many name servers. They share nothing; any one of them is enough to serve.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,
    /// The namespaces whose Topics and ConsumerGroups may refer to these name servers. Unset: this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
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
    /// Knobs of the name server by name. An unknown one is not handed on, and the condition ConfigApplied names it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::pod::config")]
    pub config: BTreeMap<String, String>,
    /// What is logged, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// How pods are replaced when what they are made of changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("!has(self.strategy) || self.strategy != 'Supervised'")
            .message("update.strategy Supervised is about primaries, which name servers have not: use Rolling, or Rolling with paused or canary")
    )]
    pub update: Option<Update>,
    /// What keeps the pods when nodes are drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
    /// While it is true the API server refuses to delete this resource, unless its namespace is deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deletion_protection: bool,
}

fn three() -> i32 {
    3
}

/// What the operator has seen.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NameServerSetStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that answer clients.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// What clients in the cluster connect to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When a name server first answered clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_served_at: Option<String>,
    /// Broker groups that are registered with the name servers.
    #[serde(default)]
    pub registered_groups: i32,
    /// The last time that pods were to be replaced, and how far that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
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
    pub effective: Option<NameServerSetEffective>,
    /// Ready, Reconciling, Stalled, ConfigApplied and RoutesConsistent; with `spec.tls.secretName` also CertificatesValid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// What was chosen where the spec of a NameServerSet leaves the choice open.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NameServerSetEffective {
    /// The image of the pods.
    pub image: String,
    /// The version of Gantry whose defaults the pods have.
    #[serde(default)]
    pub profile_version: String,
}
