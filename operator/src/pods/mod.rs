//! Pods: what they are made of ([`template`], or what it was before: [`pinned`]), how they are doing ([`rollout`]), and which may be
//! replaced ([`manner`], [`in_turn`]). Pure.

use crds::{BudgetPolicy, Disruption};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::ResourceExt as _;

pub mod in_turn;
pub mod manner;
pub mod pinned;
pub mod rollout;
pub mod template;

/// Whether there is to be a disruption budget for so many pods. One pod has none: it would hold up every drain.
pub fn keeps_pods(replicas: i32, disruption: Option<&Disruption>) -> bool {
    let policy = disruption.and_then(|disruption| disruption.pdb).unwrap_or_default();
    replicas > 1 && policy == BudgetPolicy::Auto
}

/// Whether the pod takes traffic.
pub fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && condition(pod, "Ready") == Some("True")
}

/// Since when it takes traffic, or takes none.
pub fn since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Ready"));
    let changed = ready.and_then(|ready| ready.last_transition_time.as_ref());
    changed.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

/// Where it runs.
pub fn node(pod: &Pod) -> Option<&String> {
    pod.spec.as_ref()?.node_name.as_ref()
}

/// Whether a node takes no new pods, as before it is drained.
pub fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default()
}

/// Where a port of the pod is reached, once it has an address.
pub fn address(pod: &Pod, port: i32) -> Option<String> {
    let ip = pod.status.as_ref()?.pod_ip.as_deref().filter(|ip| !ip.is_empty())?;
    Some(if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") })
}

/// How often its container was started again.
pub fn restarts(pod: &Pod) -> i32 {
    container(pod).map_or(0, |status| status.restart_count)
}

/// Whether its container runs.
pub fn runs(pod: &Pod) -> bool {
    container(pod).is_some_and(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

/// Tells one life of the process from the next.
pub fn incarnation(pod: &Pod) -> String {
    format!("{}/{}", pod.uid().unwrap_or_default(), restarts(pod))
}

/// The number at the end of the pod's name.
pub fn ordinal(pod: &Pod) -> Option<i32> {
    ordinal_in(&pod.name_any())
}

/// The number at the end of the name of a pod, or of its volume claim.
pub fn ordinal_in(name: &str) -> Option<i32> {
    name.rsplit_once('-')?.1.parse().ok()
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_).map(|condition| condition.status.as_str())
}
