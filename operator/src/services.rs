//! Services of both roles. Pure.

use k8s_openapi::{
    api::core::v1::{Service, ServiceAccount, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::identity::{CLIENT_PORT, CONTROL_PORT, Identity};

/// The account of the pods, which has no rights and mounts no token.
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
