//! What the pods of both roles have in common: restricted security, probes, spreading, the user's settings.

use std::collections::BTreeMap;

use crds::{Image, PodSettings};
use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource,
        HTTPGetAction, LocalObjectReference, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity,
        PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
        SecretVolumeSource, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
        WeightedPodAffinityTerm,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use crate::{
    identity::{CLIENT_PORT, CONTROL_PORT, HTTP_PORT, Identity, Role},
    listeners::{CERTIFICATE_DIRECTORY, Listener, Listeners},
};

/// The user and group that pods run as.
const USER: i64 = 65532;
/// The annotation that changes with the configuration that only a restart brings into force.
pub const CONFIG_HASH: &str = "mq.gantry.dev/config-hash";
/// The annotation, of a resource and of its pods, that asks for a restart: each value once.
pub const RESTARTED_AT: &str = "mq.gantry.dev/restarted-at";
/// Where the configuration is mounted.
pub const CONFIG_DIRECTORY: &str = "/etc/gantry";
const POD_UID: &str = "POD_UID";
/// The volume with the certificate for clients.
const CERTIFICATE: &str = "tls";
/// The time a pod has to stop, unless the spec says another.
const GRACE_SECONDS: i64 = 60;

/// Where images come from when a resource does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// What stands before the name.
    pub prefix: String,
    /// The tag.
    pub version: String,
}

/// An image, settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// What the container names.
    pub reference: String,
    /// When the node asks the registry.
    pub pull_policy: Option<String>,
    /// Secrets for the registry.
    pub pull_secrets: Vec<String>,
}

impl Images {
    /// The image for a role: each part from the most particular place that names it.
    pub fn settle(&self, role: Role, version: Option<&str>, image: Option<&Image>) -> ImageRef {
        let unset = Image::default();
        let Image { repository, tag, digest, pull_policy, pull_secrets } = image.unwrap_or(&unset);
        let repository =
            repository.clone().unwrap_or_else(|| format!("{}gantry-{}", self.prefix, role.component()));
        let reference = match digest {
            Some(digest) => format!("{repository}@{digest}"),
            None => format!("{repository}:{}", tag.as_deref().or(version).unwrap_or(&self.version)),
        };
        ImageRef {
            reference,
            pull_policy: pull_policy.map(|policy| policy.as_str().to_owned()),
            pull_secrets: pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        }
    }
}

/// What a pod is made from.
pub struct Parts<'a> {
    /// Whose pod it is.
    pub identity: &'a Identity,
    /// The image.
    pub image: &'a ImageRef,
    /// The user's settings.
    pub settings: &'a PodSettings,
    /// The user's resources.
    pub resources: Option<&'a ResourceRequirements>,
    /// What the container asks for where the user says nothing: CPU and memory.
    pub default_requests: (&'static str, &'static str),
    /// Labels beside those of the identity.
    pub labels: BTreeMap<String, String>,
    /// The pods to keep apart from.
    pub apart_from: BTreeMap<String, String>,
    /// The fingerprint of the configuration.
    pub config_hash: String,
    /// The value of [`RESTARTED_AT`], where somebody asked for a restart.
    pub restarted_at: Option<&'a String>,
    /// Volumes beside the configuration.
    pub volumes: Vec<Volume>,
    /// Where they are mounted.
    pub mounts: Vec<VolumeMount>,
    /// Where clients come beside the port that is always there, and the certificate that they are shown.
    pub listeners: &'a Listeners,
    /// Seconds that the process may take until it lives, recovery included.
    pub startup_seconds: i32,
    /// Whether the process speaks with the API server, and so must know which pod it is and have a token.
    pub takes_part: bool,
}

/// The pod.
pub fn pod_template(parts: Parts<'_>) -> PodTemplateSpec {
    let container = container(&parts);
    let mounts_token = parts.takes_part;
    let Parts {
        identity,
        image,
        settings,
        labels,
        apart_from,
        config_hash,
        restarted_at,
        mut volumes,
        listeners,
        ..
    } = parts;
    volumes.insert(0, configuration(identity));
    volumes.extend(listeners.secret.as_deref().map(certificate));
    let mut all_labels = settings.labels.clone();
    all_labels.extend(identity.labels());
    all_labels.extend(labels);
    let mut annotations = settings.annotations.clone();
    annotations.insert(CONFIG_HASH.to_owned(), config_hash);
    annotations.extend(restarted_at.map(|value| (RESTARTED_AT.to_owned(), value.clone())));

    let secrets = image.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(all_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            affinity: Some(settings.affinity.clone().unwrap_or_else(|| prefer_other_nodes(&apart_from))),
            automount_service_account_token: Some(mounts_token),
            containers: vec![container],
            enable_service_links: Some(false),
            image_pull_secrets: some_unless_empty(secrets),
            node_selector: Some(settings.node_selector.clone()).filter(|selector| !selector.is_empty()),
            priority_class_name: settings.priority_class_name.clone(),
            security_context: Some(pod_security()),
            service_account_name: Some(identity.base()),
            termination_grace_period_seconds: Some(
                settings.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS),
            ),
            tolerations: some_unless_empty(settings.tolerations.clone()),
            topology_spread_constraints: Some(match settings.topology_spread_constraints.as_slice() {
                [] => spread(&apart_from),
                constraints => constraints.to_vec(),
            }),
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
    }
}

fn container(parts: &Parts<'_>) -> Container {
    let component = parts.identity.role.component();
    let port = |name: &str, port| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let listens = |listener: &Listener| ContainerPort {
        host_port: listener.host_port(),
        ..port(listener.name(), listener.port())
    };
    let mut ports = vec![port("client", CLIENT_PORT), port("control", CONTROL_PORT), port("http", HTTP_PORT)];
    ports.extend(parts.listeners.others.iter().map(listens));
    let read_only = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![read_only("config", CONFIG_DIRECTORY)];
    mounts.extend(parts.mounts.clone());
    mounts.extend(parts.listeners.secret.as_ref().map(|_| read_only(CERTIFICATE, CERTIFICATE_DIRECTORY)));
    Container {
        name: component.to_owned(),
        image: Some(parts.image.reference.clone()),
        image_pull_policy: parts.image.pull_policy.clone(),
        args: Some(vec!["--config".to_owned(), format!("{CONFIG_DIRECTORY}/{component}.yaml")]),
        env: some_unless_empty(environment(parts)),
        ports: Some(ports),
        resources: Some(parts.resources.cloned().unwrap_or_else(|| requests(parts.default_requests))),
        // Recovery of a large log takes its time; until the process lives, nothing else is asked of it.
        startup_probe: Some(probe("/livez", 1, parts.startup_seconds)),
        liveness_probe: Some(if parts.takes_part { frozen() } else { probe("/livez", 10, 3) }),
        readiness_probe: Some(probe("/readyz", 1, 2)),
        security_context: Some(container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// The variables by which a process knows its pod, and this life of it, and what clients may be told of its machine.
fn environment(parts: &Parts<'_>) -> Vec<EnvVar> {
    let who_it_is = [("POD_NAME", "metadata.name"), (POD_UID, "metadata.uid"), ("POD_IP", "status.podIP")];
    let who_it_is = who_it_is.into_iter().filter(|_| parts.takes_part);
    let tells_where_it_is = parts.identity.role == Role::Broker && !parts.listeners.others.is_empty();
    let where_it_is = tells_where_it_is.then_some(("NODE_IP", "status.hostIP"));
    who_it_is
        .chain(where_it_is)
        .map(|(name, field)| EnvVar {
            name: name.to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector { field_path: field.to_owned(), api_version: None }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        })
        .collect()
}

/// Whether the pod was made with [`Parts::takes_part`].
pub fn takes_part(pod: Option<&PodSpec>) -> bool {
    let containers = pod.iter().flat_map(|spec| &spec.containers);
    containers.flat_map(|container| container.env.iter().flatten()).any(|variable| variable.name == POD_UID)
}

fn requests((cpu, memory): (&str, &str)) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.to_owned())),
            ("memory".to_owned(), Quantity(memory.to_owned())),
        ])),
        ..ResourceRequirements::default()
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(if path == "/livez" { 5 } else { 2 }),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Notices a process that is frozen, soon: until it is gone it holds its clients' connections open, and others wait for its part.
fn frozen() -> Probe {
    Probe {
        timeout_seconds: Some(2),
        // It does not heed a request to stop.
        termination_grace_period_seconds: Some(1),
        ..probe("/livez", 3, 3)
    }
}

/// What the Pod Security Standard "restricted" asks of a pod.
fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A volume with many files is not walked at each start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

fn configuration(identity: &Identity) -> Volume {
    Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: identity.config_map(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn certificate(secret: &str) -> Volume {
    Volume {
        name: CERTIFICATE.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn prefer_other_nodes(apart_from: &BTreeMap<String, String>) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    label_selector: Some(matching(apart_from)),
                    topology_key: "kubernetes.io/hostname".to_owned(),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn spread(apart_from: &BTreeMap<String, String>) -> Vec<TopologySpreadConstraint> {
    ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        .map(|topology| TopologySpreadConstraint {
            label_selector: Some(matching(apart_from)),
            max_skew: 1,
            topology_key: topology.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            ..TopologySpreadConstraint::default()
        })
        .to_vec()
}

fn matching(labels: &BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels.clone()), match_expressions: None }
}

fn some_unless_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_an_image_comes_from_the_most_particular_place() {
        let images = Images { prefix: "localhost/".to_owned(), version: "0.1.0".to_owned() };
        let image = |repository: Option<&str>, tag: Option<&str>, digest: Option<&str>| Image {
            repository: repository.map(str::to_owned),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
            ..Image::default()
        };
        for (version, image, expected) in [
            (None, image(None, None, None), "localhost/gantry-broker:0.1.0"),
            (Some("2"), image(None, None, None), "localhost/gantry-broker:2"),
            (Some("2"), image(None, Some("3"), None), "localhost/gantry-broker:3"),
            (Some("2"), image(Some("r/x"), None, None), "r/x:2"),
            (Some("2"), image(Some("r/x"), Some("3"), Some("sha256:0")), "r/x@sha256:0"),
        ] {
            assert_eq!(images.settle(Role::Broker, version, Some(&image)).reference, expected);
        }
    }
}
