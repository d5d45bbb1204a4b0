//! What is made for a NameServerSet. Pure: the golden files show it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        core::v1::{ConfigMap, Lifecycle, LifecycleHandler, Service, ServiceAccount, SleepAction},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde::Serialize;

use super::{observe::Observed, validate::Validated};
use crate::{
    config::LoggingFile,
    covers::fingerprint,
    listeners::{CertificateFile, ListenerFile, Place},
    pods::{
        in_turn,
        template::{CONFIG_DIRECTORY, Parts, pod_template},
    },
    services,
};

/// The key of the ConfigMap with the name server's configuration.
pub const CONFIG_KEY: &str = "namesrv.yaml";
const EXPECTED_GROUPS_KEY: &str = "expected-groups.yaml";
/// How long a name server that starts waits for broker groups.
const WARM_UP: &str = "30s";
/// A pod that stops goes on answering until the nodes have taken it out of the Service.
const DRAIN_SECONDS: i64 = 3;

/// What is made for a NameServerSet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The account of the pods.
    pub service_account: ServiceAccount,
    /// Headless, for clients, and those of other listeners.
    pub services: Vec<Service>,
    /// The configuration.
    pub config_map: ConfigMap,
    /// For more than one.
    pub budget: Option<PodDisruptionBudget>,
    /// The pods.
    pub stateful_set: StatefulSet,
}

/// The file that a name server reads.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    expected_groups_file: String,
    warm_up_timeout: &'static str,
    logging: &'a LoggingFile,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<CertificateFile>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listeners: Vec<ListenerFile<'a>>,
    config: BTreeMap<String, String>,
}

/// What is made for a NameServerSet.
pub fn desired(set: &Validated, observed: &Observed) -> Desired {
    let identity = &set.identity;
    let file = file(set, &set.logging);
    // Levels change at run time, and the groups that are expected matter at the start only: neither restarts a pod.
    let unleveled = LoggingFile { levels: BTreeMap::new(), ..set.logging.clone() };
    let config_hash = fingerprint(&self::file(set, &unleveled));
    let mut services = vec![services::headless(identity), services::clients(identity)];
    services.extend(set.listeners.services(identity, Place::All));
    Desired {
        service_account: services::account(identity),
        services,
        config_map: ConfigMap {
            metadata: identity.metadata(identity.config_map()),
            data: Some(BTreeMap::from([
                (CONFIG_KEY.to_owned(), file),
                (EXPECTED_GROUPS_KEY.to_owned(), expected_groups(observed)),
            ])),
            ..ConfigMap::default()
        },
        budget: set.has_budget.then(|| PodDisruptionBudget {
            metadata: identity.metadata(identity.base()),
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(1)),
                selector: Some(identity.label_selector()),
                unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
                ..PodDisruptionBudgetSpec::default()
            }),
            ..PodDisruptionBudget::default()
        }),
        stateful_set: stateful_set(set, config_hash),
    }
}

fn file(set: &Validated, logging: &LoggingFile) -> String {
    let file = File {
        expected_groups_file: format!("{CONFIG_DIRECTORY}/{EXPECTED_GROUPS_KEY}"),
        warm_up_timeout: WARM_UP,
        logging,
        certificate: set.listeners.certificate(),
        listeners: set.listeners.file(),
        config: set.listeners.knobs(&set.knobs.accepted),
    };
    serde_yaml::to_string(&file).expect("a configuration of plain data is YAML")
}

/// Groups that never served have no clients, so nobody need wait for them: a new cluster starts at once.
fn expected_groups(observed: &Observed) -> String {
    let mut paths: Vec<&str> =
        observed.groups.iter().filter(|group| group.served).map(|group| group.path.as_str()).collect();
    paths.sort_unstable();
    serde_yaml::to_string(&paths).expect("a list of texts is YAML")
}

fn stateful_set(set: &Validated, config_hash: String) -> StatefulSet {
    let identity = &set.identity;
    let mut template = pod_template(Parts {
        identity,
        image: &set.image,
        settings: &set.pod,
        resources: set.resources.as_ref(),
        default_requests: ("50m", "32Mi"),
        labels: BTreeMap::new(),
        apart_from: identity.selector(),
        config_hash,
        restarted_at: set.restarted_at.as_ref(),
        volumes: Vec::new(),
        mounts: Vec::new(),
        listeners: &set.listeners,
        startup_seconds: 60,
        takes_part: false,
    });
    let container = template.spec.as_mut().and_then(|spec| spec.containers.first_mut());
    container.expect("a pod has a container").lifecycle = Some(Lifecycle {
        pre_stop: Some(LifecycleHandler {
            sleep: Some(SleepAction { seconds: DRAIN_SECONDS }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    });
    StatefulSet {
        metadata: identity.metadata(identity.base()),
        spec: Some(StatefulSetSpec {
            // All at once at first; and a pod that cannot start never keeps its correction waiting.
            pod_management_policy: Some("Parallel".to_owned()),
            replicas: Some(set.replicas),
            revision_history_limit: Some(3),
            selector: identity.label_selector(),
            service_name: Some(identity.headless()),
            template,
            update_strategy: Some(in_turn::strategy()),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}
