//! Where clients reach name servers and brokers: listeners, and TLS at them.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The listener that is always there.
pub const INTERNAL: &str = "internal";

/// A port for clients. Who asks a name server at a listener for a route is told the addresses that brokers have at their
/// listener of the same name. The listener `internal`, at port 8081 for clients in the cluster, is always there; naming it here
/// sets its `tls`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.name == 'internal') == (self.type == 'Internal')")
        .message("the listener named internal is the one of type Internal: rename it, or choose another type"),
    validation = Rule::new("self.type != 'Internal' || self.port == 8081")
        .message("the listener internal is at port 8081: set its port to 8081"),
    validation = Rule::new("self.type == 'Internal' || !(self.port in [8081, 9090, 9878])")
        .message("listeners[].port cannot be 8081, 9090 or 9878, which the pods use already: choose another"),
    validation = Rule::new("self.type != 'Internal' || !(has(self.advertised) || has(self.annotations) || has(self.nodePort))")
        .message("the listener internal takes only tls: remove advertised, annotations and nodePort, or make a listener of another type"),
    validation = Rule::new("!has(self.nodePort) || self.type == 'NodePort'")
        .message("listeners[].nodePort is for the type NodePort: remove it, or change the type"),
    validation = Rule::new("!has(self.annotations) || self.type != 'HostPort'")
        .message("listeners[].annotations are for Services, and a HostPort has none: remove them, or change the type")
)]
pub struct Listener {
    /// Its name, the same for name servers and brokers.
    #[schemars(length(min = 1, max = 12))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z][a-z0-9]*(-[a-z0-9]+)*$')")
            .message("listeners[].name begins with a letter and has lower-case letters, digits and single dashes between them only: ports and Services are named by it"),
        validation = Rule::new("!(self in ['client', 'control', 'http', 'headless'])")
            .message("listeners[].name cannot be client, control, http or headless, which other ports and Services have: choose another")
    )]
    pub name: String,
    /// How clients get to it.
    #[serde(rename = "type")]
    pub type_: ListenerType,
    /// Where the pods listen, and for the types ClusterIP and LoadBalancer their Services.
    #[schemars(range(min = 1024, max = 65535))]
    pub port: i32,
    /// Whether it takes TLS. Unset: as `spec.tls.mode` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsMode>,
    /// What clients are told, where it is not what Kubernetes says: a name in DNS, or the address of a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertised: Option<Advertised>,
    /// Annotations of the listener's Services. Their values may hold `{ordinal}`, `{pod}`, `{group}` and `{namespace}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Port of the nodes, for the type NodePort: of name servers, or of broker 0; broker n has the n-th after it. Unset:
    /// Kubernetes chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
}

/// How clients get to a listener.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenerType {
    /// Over the Services that are there anyway: the listener `internal`.
    #[default]
    Internal,
    /// Over a port of every node. Told are the address of the node that the pod is on, and this port.
    NodePort,
    /// Over a load balancer for each broker, and one for all name servers. Told is its address.
    LoadBalancer,
    /// Over a Service for each broker, and one for all name servers: for proxies, or where clients reach the network of Services.
    /// Told is the address of the Service.
    ClusterIP,
    /// Over the port of the node that the pod is on: told are its address and `port`. Each node takes one pod of it, and the
    /// namespace must allow host ports.
    HostPort,
}

/// What clients are told of a listener.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.host) || has(self.port)")
        .message("listeners[].advertised needs host or port: set one, or remove it")
)]
pub struct Advertised {
    /// A name or an IPv4 address, in which `{ordinal}`, `{pod}`, `{group}`, `{namespace}` and `{node}`, the address of the pod's
    /// node, are replaced: for example `broker-{ordinal}.mq.example.com`. Unset: as the type says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new("self.matches('^([A-Za-z0-9.-]|[{](ordinal|pod|group|namespace|node)[}])+$')")
            .message("listeners[].advertised.host is a name or an IPv4 address in which {ordinal}, {pod}, {group}, {namespace} and {node} may stand; a port goes into advertised.port")
    )]
    pub host: Option<String>,
    /// A port, or `30100+{ordinal}`: a port for each broker from 30100 on. Unset: as the type says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(
        validation = Rule::new("self.matches('^[1-9][0-9]{0,4}([+][{]ordinal[}])?$') && int(self.split('+')[0]) <= 65500")
            .message("listeners[].advertised.port is a port up to 65500 in quotes, such as '443', or one for each broker, such as '30100+{ordinal}'")
    )]
    pub port: Option<String>,
}

/// Whether TLS is spoken.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Plaintext only.
    Disabled,
    /// TLS and plaintext, as the client begins.
    #[default]
    Permissive,
    /// TLS only.
    Required,
}

impl TlsMode {
    /// The word in configuration files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "off",
            Self::Permissive => "permissive",
            Self::Required => "required",
        }
    }
}

/// TLS for clients.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Whether TLS is spoken, at listeners that do not say it themselves. Unset: Permissive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<TlsMode>,
    /// A Secret of type kubernetes.io/tls in the resource's namespace, with the certificate that clients are shown. A new one is
    /// taken up without a restart. Unset: each process makes one, which clients cannot check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
}

/// Where clients reach a listener.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The listener.
    pub listener: String,
    /// What clients are set up with: `host:port`, several with `;` between them, of which Go's and Python's clients take one. Absent while no
    /// address is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<String>,
    /// What routes name for each broker, by ordinal; empty where it is not known yet. Absent for name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
}

/// A certificate that clients are shown.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// The Secret.
    pub secret_name: String,
    /// When the first of those that the pods show expires.
    pub not_after: String,
}

/// The schema of annotations.
fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 4096},
    })
}
