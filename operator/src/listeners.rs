//! Listeners of both roles: the ports of pods, the Services that lead to them, and what clients are told. Pure.
//!
//! Brokers read what clients are told from a file of its own, again when it changes: an address that comes late, as those of
//! load balancers do, restarts no pod. Names and ports are in the configuration, and a change of them is a rolling change.

use std::collections::{BTreeMap, BTreeSet};

use crds::{Advertised, Endpoint, INTERNAL, ListenerType, Tls, TlsMode};
use k8s_openapi::{
    api::core::v1::{Pod, Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde::Serialize;

use crate::{broker_group::observe::cluster_ip, identity::Identity, pods};

/// In what is told, the address of the machine that a pod is on: the process knows it.
const NODE: &str = "{node}";
/// The key of a ConfigMap with what clients are told.
pub const ADDRESSES_KEY: &str = "listeners.yaml";

/// Where a resource's clients come, settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// TLS at `internal`, where the spec says something of it; else it is for `spec.config` to say.
    pub internal_tls: Option<TlsMode>,
    /// All but `internal`, in the order of the spec.
    pub others: Vec<Listener>,
    /// The Secret with the certificate.
    pub secret: Option<String>,
}

/// A listener that is not `internal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    name: String,
    kind: Kind,
    port: i32,
    /// The word in configuration files.
    tls: String,
    advertised: Advertised,
    annotations: BTreeMap<String, String>,
    node_port: Option<i32>,
}

/// How clients get to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    NodePort,
    LoadBalancer,
    ClusterIp,
    HostPort,
}

/// Whose Service or address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// All that are ready.
    All,
    /// One pod's, by ordinal.
    Member(i32),
}

/// What clients are told, by listener and ordinal; empty where it is not known.
pub type Told = BTreeMap<String, Vec<String>>;

/// A listener in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerFile<'a> {
    name: &'a str,
    listen: String,
    tls: &'a str,
}

/// The certificate in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFile {
    file: String,
    key_file: String,
}

/// Where the Secret with the certificate is mounted.
pub const CERTIFICATE_DIRECTORY: &str = "/etc/gantry-tls";

impl Listeners {
    /// Settles what the spec leaves open; `config` is its `spec.config`, judged.
    pub fn settle(spec: &[crds::Listener], tls: Option<&Tls>, config: &BTreeMap<String, String>) -> Self {
        let Tls { mode, secret_name } = tls.cloned().unwrap_or_default();
        let internal = spec.iter().find(|listener| listener.name == INTERNAL);
        let unsaid = || config.get("tls").cloned().unwrap_or_else(|| TlsMode::default().as_str().to_owned());
        let others = spec.iter().filter_map(|listener| {
            let crds::Listener { name, type_, port, tls, advertised, annotations, node_port } = listener;
            let kind = match type_ {
                ListenerType::Internal => return None,
                ListenerType::NodePort => Kind::NodePort,
                ListenerType::LoadBalancer => Kind::LoadBalancer,
                ListenerType::ClusterIP => Kind::ClusterIp,
                ListenerType::HostPort => Kind::HostPort,
            };
            Some(Listener {
                name: name.clone(),
                kind,
                port: *port,
                tls: tls.or(mode).map_or_else(unsaid, |mode| mode.as_str().to_owned()),
                advertised: advertised.clone().unwrap_or_default(),
                annotations: annotations.clone(),
                node_port: *node_port,
            })
        });
        Self {
            internal_tls: internal.and_then(|listener| listener.tls).or(mode),
            others: others.collect(),
            secret: secret_name,
        }
    }

    /// `spec.config` with what the spec says elsewhere of TLS.
    pub fn knobs(&self, config: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut config = config.clone();
        config.extend(self.internal_tls.map(|mode| ("tls".to_owned(), mode.as_str().to_owned())));
        config
    }

    /// The list in the configuration.
    pub fn file(&self) -> Vec<ListenerFile<'_>> {
        let file = |listener: &Listener| format!("0.0.0.0:{}", listener.port);
        self.others
            .iter()
            .map(|listener| ListenerFile { name: &listener.name, listen: file(listener), tls: &listener.tls })
            .collect()
    }

    /// The certificate in the configuration.
    pub fn certificate(&self) -> Option<CertificateFile> {
        self.secret.as_ref().map(|_| CertificateFile {
            file: format!("{CERTIFICATE_DIRECTORY}/tls.crt"),
            key_file: format!("{CERTIFICATE_DIRECTORY}/tls.key"),
        })
    }

    /// The Services that lead here.
    pub fn services(&self, identity: &Identity, place: Place) -> Vec<Service> {
        self.others.iter().filter_map(|listener| listener.service(identity, place)).collect()
    }

    /// What clients are told of brokers 0 to `members`, with `{node}` where the broker puts in the address of its machine.
    /// `service` is what there is of a Service.
    pub fn told<'a>(
        &self,
        identity: &Identity,
        members: i32,
        service: impl Fn(&str) -> Option<&'a Service>,
    ) -> Told {
        let of = |listener: &Listener| {
            let address = |ordinal| {
                let place = Place::Member(ordinal);
                let service = service(&listener.service_name(identity, place));
                listener.address(identity, ordinal, service).unwrap_or_default()
            };
            (0..members).map(address).collect()
        };
        self.others.iter().map(|listener| (listener.name.clone(), of(listener))).collect()
    }

    /// Where clients reach the name servers in these pods.
    pub fn shared_endpoints<'a>(
        &self,
        identity: &Identity,
        pods: &[&Pod],
        service: impl Fn(&str) -> Option<&'a Service>,
    ) -> Vec<Endpoint> {
        let of = |listener: &Listener| {
            let service = service(&listener.service_name(identity, Place::All));
            let addresses = pods.iter().filter_map(|pod| {
                let address = listener.address(identity, pods::ordinal(pod)?, service)?;
                on_node(&address, Some(pod))
            });
            let addresses: BTreeSet<String> = addresses.collect();
            Endpoint {
                listener: listener.name.clone(),
                bootstrap: joined(addresses.iter()),
                members: Vec::new(),
            }
        };
        self.others.iter().map(of).collect()
    }
}

/// Where clients reach the brokers in these pods, by what they are told.
pub fn member_endpoints(told: &Told, pods: &[&Pod]) -> Vec<Endpoint> {
    let pod = |ordinal| pods.iter().copied().find(|pod| pods::ordinal(pod) == Some(ordinal));
    let of = |(listener, addresses): (&String, &Vec<String>)| {
        let known = (0..).zip(addresses).map(|(ordinal, address)| on_node(address, pod(ordinal)));
        let members: Vec<String> = known.map(Option::unwrap_or_default).collect();
        let bootstrap = joined(members.iter().filter(|address| !address.is_empty()));
        Endpoint { listener: listener.clone(), bootstrap, members }
    };
    told.iter().map(of).collect()
}

/// The address with that of the pod's machine in it, once it is on one.
fn on_node(address: &str, pod: Option<&Pod>) -> Option<String> {
    if !address.contains(NODE) {
        return Some(address.to_owned());
    }
    let node = pod?.status.as_ref()?.host_ip.as_deref()?;
    Some(address.replace(NODE, &bracketed(node)))
}

fn joined<'a>(addresses: impl Iterator<Item = &'a String>) -> Option<String> {
    let all: Vec<&str> = addresses.map(String::as_str).collect();
    (!all.is_empty()).then(|| all.join(";"))
}

/// As it stands before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl Listener {
    /// Its name, which its port has too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where pods listen.
    pub fn port(&self) -> i32 {
        self.port
    }

    /// The port that the machine has for it.
    pub fn host_port(&self) -> Option<i32> {
        (self.kind == Kind::HostPort).then_some(self.port)
    }

    fn service_name(&self, identity: &Identity, place: Place) -> String {
        match place {
            Place::All => format!("{}-{}", identity.base(), self.name),
            Place::Member(ordinal) => format!("{}-{}", identity.member(ordinal), self.name),
        }
    }

    fn service(&self, identity: &Identity, place: Place) -> Option<Service> {
        let type_ = match self.kind {
            Kind::NodePort => "NodePort",
            Kind::LoadBalancer => "LoadBalancer",
            Kind::ClusterIp => "ClusterIP",
            Kind::HostPort => return None,
        };
        let mut selector = identity.selector();
        let ordinal = match place {
            Place::All => 0,
            Place::Member(ordinal) => {
                selector.insert("statefulset.kubernetes.io/pod-name".to_owned(), identity.member(ordinal));
                ordinal
            }
        };
        let mut metadata = identity.metadata(self.service_name(identity, place));
        let annotations = self.annotations.iter();
        let annotations: BTreeMap<String, String> =
            annotations.map(|(key, value)| (key.clone(), expand(value, identity, ordinal))).collect();
        metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
        Some(Service {
            metadata,
            spec: Some(ServiceSpec {
                type_: Some(type_.to_owned()),
                selector: Some(selector),
                // A broker serves clients, or passes them on, before it is ready and while it stops.
                publish_not_ready_addresses: matches!(place, Place::Member(_)).then_some(true),
                ports: Some(vec![ServicePort {
                    name: Some(self.name.clone()),
                    port: self.port,
                    target_port: Some(IntOrString::Int(self.port)),
                    node_port: self.node_port.map(|first| first.saturating_add(ordinal)),
                    protocol: Some("TCP".to_owned()),
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        })
    }

    /// What clients are told of this pod; nothing while that depends on what is still to come.
    fn address(&self, identity: &Identity, ordinal: i32, service: Option<&Service>) -> Option<String> {
        let host = match &self.advertised.host {
            Some(template) => expand(template, identity, ordinal),
            None => match self.kind {
                Kind::NodePort | Kind::HostPort => NODE.to_owned(),
                Kind::ClusterIp => cluster_ip(service?)?,
                Kind::LoadBalancer => balancer(service?)?,
            },
        };
        let port = match self.advertised.port.as_deref().and_then(|template| port(template, ordinal)) {
            Some(port) => port,
            None => match self.kind {
                Kind::NodePort => service?.spec.as_ref()?.ports.as_ref()?.first()?.node_port?,
                Kind::HostPort | Kind::ClusterIp | Kind::LoadBalancer => self.port,
            },
        };
        Some(format!("{}:{port}", bracketed(&host)))
    }
}

/// The address of a load balancer, once it has one.
fn balancer(service: &Service) -> Option<String> {
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?.first()?;
    ingress.hostname.clone().or_else(|| ingress.ip.clone()).filter(|host| !host.is_empty())
}

/// `443`, or `30100+{ordinal}`.
fn port(template: &str, ordinal: i32) -> Option<i32> {
    match template.split_once('+') {
        Some((first, _)) => first.parse::<i32>().ok()?.checked_add(ordinal),
        None => template.parse().ok(),
    }
}

fn expand(template: &str, identity: &Identity, ordinal: i32) -> String {
    template
        .replace("{ordinal}", &ordinal.to_string())
        .replace("{pod}", &identity.member(ordinal))
        .replace("{group}", &identity.name)
        .replace("{namespace}", &identity.namespace)
}

#[cfg(test)]
mod tests;
