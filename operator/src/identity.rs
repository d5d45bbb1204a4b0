//! Names, labels and owner of what is made for one resource.
//!
//! Names are settled here and nowhere else: other rooms, charts and users rely on them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

/// The label that every object of ours has, with this value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "gantry-operator");
/// The label that tells name servers from brokers.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The label that names the NameServerSet of a pod.
pub const NAME_SERVER_SET: &str = "mq.gantry.dev/name-server-set";
/// The label that names the BrokerGroup of a pod.
pub const BROKER_GROUP: &str = "mq.gantry.dev/broker-group";

/// The label that tells people whether a pod is the primary. Nothing depends on it.
pub const ROLE: &str = "mq.gantry.dev/role";

/// Where clients connect.
pub const CLIENT_PORT: i32 = 8081;
/// Where the control plane listens.
pub const CONTROL_PORT: i32 = 9878;
/// Where probes and metrics are answered.
pub const HTTP_PORT: i32 = 9090;

/// What runs in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A name server, made for a NameServerSet.
    NameServer,
    /// A broker, made for a BrokerGroup.
    Broker,
}

impl Role {
    /// The part of names, the container's name, the binary and the file of its configuration.
    pub fn component(self) -> &'static str {
        match self {
            Self::NameServer => "namesrv",
            Self::Broker => "broker",
        }
    }

    /// The label that names the resource.
    pub fn label(self) -> &'static str {
        match self {
            Self::NameServer => NAME_SERVER_SET,
            Self::Broker => BROKER_GROUP,
        }
    }

    /// The kind of the resource.
    pub fn kind(self) -> &'static str {
        match self {
            Self::NameServer => "NameServerSet",
            Self::Broker => "BrokerGroup",
        }
    }
}

/// One resource for which pods are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What runs in its pods.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
}

impl Identity {
    /// StatefulSet, ServiceAccount and PodDisruptionBudget; for name servers also the Service of clients, for brokers of
    /// one group the Lease, the Role and the RoleBinding.
    pub fn base(&self) -> String {
        format!("{}-{}", self.name, self.role.component())
    }

    /// The headless Service that gives pods their DNS names.
    pub fn headless(&self) -> String {
        format!("{}-headless", self.base())
    }

    /// The ConfigMap with the configuration file.
    pub fn config_map(&self) -> String {
        format!("{}-config", self.base())
    }

    /// The two Services of whoever is primary, and the EndpointSlices behind them. In epoch e clients are told number e % 2.
    pub fn primaries(&self) -> [String; 2] {
        [0, 1].map(|number| format!("{}-primary-{number}", self.base()))
    }

    /// The name of a pod in the cluster's DNS, `{ordinal}` left open: for configuration files.
    pub fn member_hosts(&self) -> String {
        format!("{}-{{ordinal}}.{}.{}.svc", self.base(), self.headless(), self.namespace)
    }

    /// A pod, and for brokers its Service.
    pub fn member(&self, ordinal: i32) -> String {
        format!("{}-{ordinal}", self.base())
    }

    /// What the pods and no others have.
    pub fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (COMPONENT.to_owned(), self.role.component().to_owned()),
            (self.role.label().to_owned(), self.name.clone()),
        ])
    }

    /// [`Self::selector`] as Kubernetes wants it.
    pub fn label_selector(&self) -> LabelSelector {
        LabelSelector { match_labels: Some(self.selector()), match_expressions: None }
    }

    /// [`Self::selector`] as `kubectl -l` wants it.
    pub fn selector_text(&self) -> String {
        self.selector().iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }

    /// The labels of everything that is made for the resource.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        for (key, value) in [
            ("app.kubernetes.io/name", "gantry"),
            ("app.kubernetes.io/instance", self.name.as_str()),
            MANAGED_BY,
        ] {
            labels.insert(key.to_owned(), value.to_owned());
        }
        labels
    }

    /// The metadata of an object `name` that goes when the resource goes.
    pub fn metadata(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        }
    }

    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{}/{}", crds::GROUP, crds::VERSION),
            kind: self.role.kind().to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}
