//! What is made for a BrokerGroup. Pure: the golden files show it.
//!
//! It comes in two parts, since the second needs what the API server gives to the first: brokers advertise the
//! address of their member Service.

use std::collections::BTreeMap;

use crds::{EffectiveReplication, Flush, ReplicationMode};
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec},
        core::v1::{
            ConfigMap, EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec, Service,
            ServiceAccount, Volume as PodVolume, VolumeMount, VolumeResourceRequirements,
        },
        discovery::v1::EndpointSlice,
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
        rbac::v1::{PolicyRule, Role as Rights, RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use serde::Serialize;

use super::{
    observe::SEGMENT_SIZE,
    validate::{Validated, Volume},
};
use crate::{
    config::LoggingFile,
    covers::fingerprint,
    identity::{CLIENT_PORT, COMPONENT, CONTROL_PORT, Identity, NAME_SERVER_SET, Role},
    listeners::{ADDRESSES_KEY, CertificateFile, ListenerFile, Place, Told},
    pods::{
        in_turn,
        template::{CONFIG_DIRECTORY, Parts, pod_template},
    },
    services,
};

/// The key of the ConfigMap with the broker's configuration.
pub const CONFIG_KEY: &str = "broker.yaml";
/// The volume with the log.
const DATA: &str = "data";
const DATA_DIRECTORY: &str = "/var/lib/gantry";
/// A long log is read from its last checkpoint on; this is for the worst of disks.
const STARTUP_SECONDS: i32 = 1800;

/// What needs nothing of others.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The account of the pods.
    pub service_account: ServiceAccount,
    /// Headless, and one for each member; of several also those of the primary.
    pub services: Vec<Service>,
    /// What several members need to agree who is primary.
    pub agreement: Option<Agreement>,
}

/// What several members need to agree who is primary, beside the Lease.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Agreement {
    /// What members may do: change their Lease, and say where the primary is.
    pub role: Rights,
    /// That they may.
    pub role_binding: RoleBinding,
    /// Where the primary is. They are made once: what is in them is the primary's.
    pub endpoints: [EndpointSlice; 2],
}

/// What brokers tell clients: Services, or their addresses.
///
/// Clients keep a connection to a machine that died, or to a process that is frozen, for as long as their route names the same
/// address. So there are two for the primary, and each reign uses the one that the reign before it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advertised {
    /// Of the only member.
    Member(String),
    /// Of whoever is primary: in epoch e it is number e % 2.
    Primary([String; 2]),
}

impl Advertised {
    /// That of an epoch.
    pub fn of(&self, epoch: i64) -> &str {
        match self {
            Self::Member(only) => only,
            Self::Primary([even, odd]) => {
                if epoch % 2 == 0 {
                    even
                } else {
                    odd
                }
            }
        }
    }

    /// The same of something else, unless that lacks for one.
    pub fn each(&self, of: impl Fn(&str) -> Option<String>) -> Option<Self> {
        Some(match self {
            Self::Member(only) => Self::Member(of(only)?),
            Self::Primary([even, odd]) => Self::Primary([of(even)?, of(odd)?]),
        })
    }
}

/// What needs the addresses of members.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// The configuration.
    pub config_map: ConfigMap,
    /// For more than one.
    pub budget: Option<PodDisruptionBudget>,
    /// The pods.
    pub stateful_set: StatefulSet,
}

/// Services and their like.
pub fn network(group: &Validated) -> Network {
    let identity = &group.identity;
    let mut services = vec![services::headless(identity)];
    for ordinal in 0..group.replicas {
        services.push(services::member(identity, ordinal));
        services.extend(group.listeners.services(identity, Place::Member(ordinal)));
    }
    let agreement = group.replication.is_some().then(|| {
        let names = identity.primaries();
        services.extend(names.iter().map(|name| services::primary(identity, name)));
        let (role, role_binding) = rights(identity);
        let endpoints = names.map(|name| services::primary_endpoints(identity, &name));
        Agreement { role, role_binding, endpoints }
    });
    Network { service_account: services::account(identity), services, agreement }
}

/// The members' rights: these few objects, by name, and nothing else.
fn rights(identity: &Identity) -> (Rights, RoleBinding) {
    let rule = |group: &str, resource: &str, names: Vec<String>, verbs: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: Some(names),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    };
    let role = Rights {
        metadata: identity.metadata(identity.base()),
        rules: Some(vec![
            rule("coordination.k8s.io", "leases", vec![identity.base()], &["get", "watch", "patch"]),
            rule("discovery.k8s.io", "endpointslices", identity.primaries().into(), &["patch"]),
        ]),
    };
    let binding = RoleBinding {
        metadata: identity.metadata(identity.base()),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: identity.base(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: identity.base(),
            namespace: Some(identity.namespace.clone()),
            ..Subject::default()
        }]),
    };
    (role, binding)
}

/// The Services whose addresses the brokers tell clients.
pub fn advertised(group: &Validated) -> Advertised {
    let identity = &group.identity;
    match &group.replication {
        Some(_) => Advertised::Primary(identity.primaries()),
        None => Advertised::Member(identity.member(0)),
    }
}

/// The fingerprint of all that pods are made from and that is not the operator's choice.
pub fn asked(group: &Validated, hosts: &Advertised) -> String {
    let Validated { asked, replicas, segment_size, replication, .. } = group;
    fingerprint(&format!("{asked} {replicas} {segment_size} {} {hosts:?}", replication.is_some()))
}

/// Pods and their like, when `hosts` are the addresses of the Services [`advertised`], and `told` what clients are told that come by
/// other listeners.
pub fn workload(group: &Validated, hosts: &Advertised, told: &Told) -> Workload {
    let identity = &group.identity;
    let file = file(group, hosts, &group.logging);
    // Levels change at run time and restart no pod.
    let unleveled = LoggingFile { levels: BTreeMap::new(), ..group.logging.clone() };
    let config_hash = fingerprint(&self::file(group, hosts, &unleveled));
    let mut data = BTreeMap::from([(CONFIG_KEY.to_owned(), file)]);
    if !told.is_empty() {
        // Brokers read it again when it changes, so it restarts no pod.
        let told = serde_yaml::to_string(told).expect("lists of texts are YAML");
        data.insert(ADDRESSES_KEY.to_owned(), told);
    }
    Workload {
        config_map: ConfigMap {
            metadata: identity.metadata(identity.config_map()),
            data: Some(data),
            ..ConfigMap::default()
        },
        budget: group.has_budget.then(|| PodDisruptionBudget {
            metadata: identity.metadata(identity.base()),
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(1)),
                selector: Some(identity.label_selector()),
                ..PodDisruptionBudgetSpec::default()
            }),
            ..PodDisruptionBudget::default()
        }),
        stateful_set: stateful_set(group, config_hash),
    }
}

/// The file that a broker reads.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    cluster_name: &'a str,
    broker_name: &'a str,
    broker_id: u32,
    data_dir: &'static str,
    advertised: Address<'a>,
    advertised_control: Address<'a>,
    name_servers: [String; 1],
    flush: Flush,
    segment_size: String,
    message_retention: RetentionFile<'a>,
    logging: &'a LoggingFile,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<CertificateFile>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listeners: Vec<ListenerFile<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener_addresses: Option<String>,
    config: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<ReplicationFile<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplicationFile<'a> {
    mode: ReplicationMode,
    max_lag_seconds: i32,
    members: i32,
    member_address: String,
    lease: LeaseFile<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advertised: Option<&'a [String; 2]>,
    endpoint_slices: [String; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaseFile<'a> {
    namespace: &'a str,
    name: String,
    duration_seconds: i32,
    renew_deadline_seconds: i32,
    retry_period_millis: i32,
}

#[derive(Serialize)]
struct Address<'a> {
    host: &'a str,
    port: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RetentionFile<'a> {
    time: &'a str,
    disk_percent: i32,
    delete_at: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_early_percent: Option<i32>,
    refuse_percent: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<String>,
}

fn file(group: &Validated, hosts: &Advertised, logging: &LoggingFile) -> String {
    let host = hosts.of(0);
    let name_servers =
        Identity { role: Role::NameServer, name: group.name_servers.clone(), ..group.identity.clone() };
    let file = File {
        cluster_name: &group.cluster_name,
        broker_name: &group.broker_name,
        broker_id: 0,
        data_dir: DATA_DIRECTORY,
        advertised: Address { host, port: CLIENT_PORT },
        advertised_control: Address { host, port: CONTROL_PORT },
        name_servers: [format!("{}.{}.svc:{CONTROL_PORT}", name_servers.headless(), name_servers.namespace)],
        flush: group.flush,
        segment_size: group.segment_size.to_string(),
        message_retention: RetentionFile {
            time: &group.retention.time,
            disk_percent: group.retention.disk_percent,
            delete_at: &group.retention.delete_at,
            delete_early_percent: group.retention.delete_early_percent,
            refuse_percent: group.retention.refuse_percent,
            size: group.retention.size.map(|size| size.to_string()),
        },
        logging,
        certificate: group.listeners.certificate(),
        listeners: group.listeners.file(),
        listener_addresses: (!group.listeners.others.is_empty())
            .then(|| format!("{CONFIG_DIRECTORY}/{ADDRESSES_KEY}")),
        config: group.listeners.knobs(&group.knobs.accepted),
        replication: group
            .replication
            .as_ref()
            .map(|replication| replication_file(group, replication, hosts)),
    };
    serde_yaml::to_string(&file).expect("a configuration of plain data is YAML")
}

fn replication_file<'a>(
    group: &'a Validated,
    replication: &EffectiveReplication,
    hosts: &'a Advertised,
) -> ReplicationFile<'a> {
    let identity = &group.identity;
    let EffectiveReplication {
        mode,
        max_lag_seconds,
        lease_duration_seconds,
        renew_deadline_seconds,
        retry_period_millis,
        // These are in the Lease: they change while pods run.
        min_in_sync: _,
        failover_enabled: _,
        max_failovers_per_hour: _,
    } = *replication;
    ReplicationFile {
        mode,
        max_lag_seconds,
        members: group.replicas,
        member_address: format!("{}:{CONTROL_PORT}", identity.member_hosts()),
        lease: LeaseFile {
            namespace: &identity.namespace,
            name: identity.base(),
            duration_seconds: lease_duration_seconds,
            renew_deadline_seconds,
            retry_period_millis,
        },
        advertised: match hosts {
            Advertised::Primary(both) => Some(both),
            Advertised::Member(_) => None,
        },
        endpoint_slices: identity.primaries(),
    }
}

fn stateful_set(group: &Validated, config_hash: String) -> StatefulSet {
    let identity = &group.identity;
    let in_cluster = BTreeMap::from([(NAME_SERVER_SET.to_owned(), group.name_servers.clone())]);
    let mut apart_from = in_cluster.clone();
    apart_from.insert(COMPONENT.to_owned(), Role::Broker.component().to_owned());
    if group.replication.is_some() {
        // A node that fails should take one copy of the log with it, whatever other groups there are.
        apart_from = identity.selector();
    }
    let template = pod_template(Parts {
        identity,
        image: &group.image,
        settings: &group.pod,
        resources: group.resources.as_ref(),
        default_requests: ("100m", "128Mi"),
        labels: in_cluster,
        apart_from,
        config_hash,
        restarted_at: group.restarted_at.as_ref(),
        volumes: ephemeral(&group.volume).into_iter().collect(),
        mounts: vec![VolumeMount {
            name: DATA.to_owned(),
            mount_path: DATA_DIRECTORY.to_owned(),
            ..VolumeMount::default()
        }],
        listeners: &group.listeners,
        startup_seconds: STARTUP_SECONDS,
        takes_part: group.replication.is_some(),
    });
    let (claims, policy) = claims(group);
    StatefulSet {
        metadata: identity.metadata(identity.base()),
        spec: Some(StatefulSetSpec {
            persistent_volume_claim_retention_policy: policy,
            // A pod that cannot start never keeps its correction waiting.
            pod_management_policy: Some("Parallel".to_owned()),
            replicas: Some(group.pods()),
            revision_history_limit: Some(3),
            selector: identity.label_selector(),
            service_name: Some(identity.headless()),
            template,
            // Which pod is replaced when depends on who is primary, on who is in sync, and on `spec.update`: see `roll`.
            update_strategy: Some(in_turn::strategy()),
            volume_claim_templates: claims,
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn ephemeral(volume: &Volume) -> Option<PodVolume> {
    match volume {
        Volume::Ephemeral { size_limit } => Some(PodVolume {
            name: DATA.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: size_limit.clone().map(Quantity),
                medium: None,
            }),
            ..PodVolume::default()
        }),
        Volume::Claim { .. } => None,
    }
}

fn claims(
    group: &Validated,
) -> (Option<Vec<PersistentVolumeClaim>>, Option<StatefulSetPersistentVolumeClaimRetentionPolicy>) {
    let Volume::Claim { size: _, auto_grow: _, template_size, storage_class, on_delete, on_scale_down } =
        &group.volume
    else {
        return (None, None);
    };
    let claim = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA.to_owned()),
            labels: Some(group.identity.labels()),
            annotations: Some(BTreeMap::from([(SEGMENT_SIZE.to_owned(), group.segment_size.to_string())])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(template_size.clone()))])),
                limits: None,
            }),
            storage_class_name: storage_class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    };
    let policy = StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some(on_delete.as_str().to_owned()),
        when_scaled: Some(on_scale_down.as_str().to_owned()),
    };
    (Some(vec![claim]), Some(policy))
}
