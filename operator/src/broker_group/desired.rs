//! What is made for a BrokerGroup. Pure: the golden files show it.
//!
//! It comes in two parts, since the second needs what the API server gives to the first: brokers advertise the
//! address of their member Service.

use std::collections::BTreeMap;

use crds::Flush;
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec},
        core::v1::{
            ConfigMap, EmptyDirVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec, Service,
            ServiceAccount, Volume as PodVolume, VolumeMount, VolumeResourceRequirements,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
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
    identity::{CLIENT_PORT, COMPONENT, CONTROL_PORT, NAME_SERVER_SET, Role},
    pods::template::{Parts, pod_template},
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
    /// Headless, and one for each member.
    pub services: Vec<Service>,
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
    services.extend((0..group.replicas).map(|ordinal| services::member(identity, ordinal)));
    Network { service_account: services::account(identity), services }
}

/// Pods and their like; nothing while a member has no address.
pub fn workload(group: &Validated, addresses: &BTreeMap<i32, String>) -> Option<Workload> {
    let identity = &group.identity;
    let host = addresses.get(&0)?;
    let file = file(group, host, &group.logging);
    // Levels change at run time and restart no pod.
    let unleveled = LoggingFile { levels: BTreeMap::new(), ..group.logging.clone() };
    let config_hash = fingerprint(&self::file(group, host, &unleveled));
    Some(Workload {
        config_map: ConfigMap {
            metadata: identity.metadata(identity.config_map()),
            data: Some(BTreeMap::from([(CONFIG_KEY.to_owned(), file)])),
            ..ConfigMap::default()
        },
        budget: (group.replicas > 1).then(|| PodDisruptionBudget {
            metadata: identity.metadata(identity.base()),
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(1)),
                selector: Some(identity.label_selector()),
                ..PodDisruptionBudgetSpec::default()
            }),
            ..PodDisruptionBudget::default()
        }),
        stateful_set: stateful_set(group, config_hash),
    })
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
    config: &'a BTreeMap<String, String>,
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

fn file(group: &Validated, host: &str, logging: &LoggingFile) -> String {
    let name_servers = crate::identity::Identity {
        role: Role::NameServer,
        name: group.name_servers.clone(),
        ..group.identity.clone()
    };
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
        config: &group.knobs.accepted,
    };
    serde_yaml::to_string(&file).expect("a configuration of plain data is YAML")
}

fn stateful_set(group: &Validated, config_hash: String) -> StatefulSet {
    let identity = &group.identity;
    let in_cluster = BTreeMap::from([(NAME_SERVER_SET.to_owned(), group.name_servers.clone())]);
    let mut apart_from = in_cluster.clone();
    apart_from.insert(COMPONENT.to_owned(), Role::Broker.component().to_owned());
    let template = pod_template(Parts {
        identity,
        image: &group.image,
        settings: &group.pod,
        resources: group.resources.as_ref(),
        default_requests: ("100m", "128Mi"),
        labels: in_cluster,
        apart_from,
        config_hash,
        volumes: ephemeral(&group.volume).into_iter().collect(),
        mounts: vec![VolumeMount {
            name: DATA.to_owned(),
            mount_path: DATA_DIRECTORY.to_owned(),
            ..VolumeMount::default()
        }],
        startup_seconds: STARTUP_SECONDS,
    });
    let (claims, policy) = claims(group);
    StatefulSet {
        metadata: identity.metadata(identity.base()),
        spec: Some(StatefulSetSpec {
            persistent_volume_claim_retention_policy: policy,
            // A pod that cannot start never keeps its correction waiting.
            pod_management_policy: Some("Parallel".to_owned()),
            replicas: Some(group.replicas),
            revision_history_limit: Some(3),
            selector: identity.label_selector(),
            service_name: Some(identity.headless()),
            template,
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
    let Volume::Claim { size: _, template_size, storage_class, on_delete, on_scale_down } = &group.volume
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
