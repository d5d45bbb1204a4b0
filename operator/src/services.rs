//! Services of both roles. Pure.

use k8s_openapi::{
    api::{
        core::v1::{Service, ServiceAccount, ServicePort, ServiceSpec},
        discovery::v1::{EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::identity::{CLIENT_PORT, CONTROL_PORT, Identity};

/// The account of the pods. It has no rights and mounts no token, but where brokers of one group agree who is primary.
pub fn account(identity: &Identity) -> ServiceAccount {
    ServiceAccount {
        metadata: identity.metadata(identity.base()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// DNS names for the pods, also for those that are not ready: brokers register with name servers that still
/// warm up.
pub fn headless(identity: &Identity) -> Service {
    let mut service = service(identity, identity.headless());
    let spec = service.spec.get_or_insert_default();
    spec.cluster_ip = Some("None".to_owned());
    spec.publish_not_ready_addresses = Some(true);
    service
}

/// One address for all ready pods.
pub fn clients(identity: &Identity) -> Service {
    service(identity, identity.base())
}

/// An address that stays with one pod's data through restarts.
pub fn member(identity: &Identity, ordinal: i32) -> Service {
    let name = identity.member(ordinal);
    let mut service = service(identity, name.clone());
    let spec = service.spec.get_or_insert_default();
    spec.selector.get_or_insert_default().insert("statefulset.kubernetes.io/pod-name".to_owned(), name);
    // The broker serves clients and name servers before it is ready, and while it stops.
    spec.publish_not_ready_addresses = Some(true);
    service
}

/// An address that stays with whoever is primary, one of [`Identity::primaries`]. It selects no pods: the primary itself says where
/// it is, in the EndpointSlice of the same name, so that an address never leads to one that was primary.
pub fn primary(identity: &Identity, name: &str) -> Service {
    let mut service = service(identity, name.to_owned());
    let spec = service.spec.get_or_insert_default();
    spec.selector = None;
    for port in spec.ports.iter_mut().flatten() {
        port.target_port = Some(IntOrString::Int(port.port));
    }
    service
}

/// Where the primary says where it is: empty, until there is one.
pub fn primary_endpoints(identity: &Identity, name: &str) -> EndpointSlice {
    let mut metadata = identity.metadata(name.to_owned());
    let labels = metadata.labels.get_or_insert_default();
    labels.insert("kubernetes.io/service-name".to_owned(), name.to_owned());
    labels.insert("endpointslice.kubernetes.io/managed-by".to_owned(), "broker.mq.gantry.dev".to_owned());
    let port = |name: &str, port| EndpointPort {
        name: Some(name.to_owned()),
        port: Some(port),
        protocol: Some("TCP".to_owned()),
        ..EndpointPort::default()
    };
    EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints: Vec::new(),
        metadata,
        ports: Some(vec![port("client", CLIENT_PORT), port("control", CONTROL_PORT)]),
    }
}

fn service(identity: &Identity, name: String) -> Service {
    let port = |name: &str, port| ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    Service {
        metadata: identity.metadata(name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(identity.selector()),
            ports: Some(vec![port("client", CLIENT_PORT), port("control", CONTROL_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
