//! How far the pods of a StatefulSet are from what is wanted, and what is in their way.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::ResourceExt as _;

use super::{condition, container, is_ready, since};
use crate::conditions::Reason;

/// How far the pods are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Pods that should be.
    pub wanted: i32,
    /// Pods that are.
    pub existing: i32,
    /// Pods that take traffic.
    pub ready: i32,
    /// Pods of the newest revision.
    pub updated: i32,
    /// What stops a pod.
    pub problems: Vec<Problem>,
    /// How long pods have been lacking, as far as this process has seen.
    pub lacking_for: Duration,
    /// When the last of the newest pods became ready.
    pub progressed: Option<Timestamp>,
}

/// What stops a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the pod.
    pub pod: String,
    /// What kind of thing.
    pub reason: Reason,
    /// What it is, and what to do.
    pub message: String,
}

impl Rollout {
    /// Looks at a StatefulSet and its pods.
    pub fn of(wanted: i32, stateful_set: Option<&StatefulSet>, pods: &[&Pod], lacking_for: Duration) -> Self {
        let living: Vec<&Pod> =
            pods.iter().copied().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
        let newest = || living.iter().filter(|pod| is_newest(stateful_set, pod));
        Self {
            wanted,
            existing: count(pods.len()),
            ready: count(living.iter().filter(|pod| is_ready(pod)).count()),
            updated: count(newest().count()),
            problems: living.iter().filter_map(|pod| problem(pod)).collect(),
            lacking_for,
            progressed: newest().filter(|pod| is_ready(pod)).filter_map(|pod| since(pod)).max(),
        }
    }

    /// Whether all pods are as they should be.
    pub fn is_done(&self) -> bool {
        self.existing == self.wanted && self.updated == self.wanted && self.ready >= self.wanted
    }

    /// What is under way, where it is not done.
    pub fn activity(&self) -> Option<(Reason, String)> {
        let Self { wanted, existing, ready, updated, problems: _, lacking_for: _, progressed: _ } = self;
        if self.is_done() {
            None
        } else if existing < wanted && updated == existing {
            Some((Reason::ScalingUp, format!("{existing} of {wanted} pods exist")))
        } else if existing > wanted {
            Some((Reason::ScalingDown, format!("{existing} pods exist, {wanted} are wanted")))
        } else if updated < wanted {
            Some((Reason::RollingUpdate, format!("{updated} of {wanted} pods are of the newest revision")))
        } else {
            Some((Reason::Starting, format!("{ready} of {wanted} pods are ready")))
        }
    }
}

/// Whether the StatefulSet's controller has seen the newest template. Until then no pod can be of it.
pub fn template_is_seen(stateful_set: Option<&StatefulSet>) -> bool {
    stateful_set.is_some_and(|set| {
        set.status.as_ref().and_then(|status| status.observed_generation) >= set.metadata.generation
    })
}

/// Whether the pod is as the newest template says.
pub fn is_newest(stateful_set: Option<&StatefulSet>, pod: &Pod) -> bool {
    let status = stateful_set.and_then(|set| set.status.as_ref());
    let revision = status.and_then(|status| status.update_revision.as_deref());
    template_is_seen(stateful_set)
        && revision.is_some()
        && pod.labels().get("controller-revision-hash").map(String::as_str) == revision
}

/// Whether something stops the pod that does not go by itself.
pub fn is_stuck(pod: &Pod) -> bool {
    problem(pod).is_some()
}

/// Whether the pod waits for an image that it does not get.
pub fn lacks_image(pod: &Pod) -> bool {
    problem(pod).is_some_and(|problem| problem.reason == Reason::ImagePullFailed)
}

/// So many restarts are no accident.
const CRASHES: i32 = 2;

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

fn problem(pod: &Pod) -> Option<Problem> {
    if is_ready(pod) {
        return None;
    }
    let found = |reason, message| Some(Problem { pod: pod.name_any(), reason, message });
    if condition(pod, "PodScheduled") == Some("False") {
        let why = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref())
            .and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "PodScheduled"))
            .and_then(|condition| condition.message.clone())
            .unwrap_or_default();
        return found(
            Reason::Unschedulable,
            format!("no node takes the pod: {why} Free or add nodes, or change resources, pod or storage"),
        );
    }
    let container = container(pod)?;
    let state = container.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let why = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
    let detail = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
    // Between two attempts the node says the same in other words; a status must not change with each.
    let detail = detail.rsplit_once("ErrImagePull: ").map_or(detail.as_str(), |(_, detail)| detail);
    match why {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => found(
            Reason::ImagePullFailed,
            format!(
                "the image {} cannot be pulled: {detail}. Correct version or image, or make the image available",
                container.image
            ),
        ),
        // Also in the moments when it runs.
        "CrashLoopBackOff" | "" if container.restart_count >= CRASHES => {
            let current = state.and_then(|state| state.terminated.as_ref());
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let ended = current.or(last);
            let code = ended.map_or(0, |ended| ended.exit_code);
            let said = ended.and_then(|ended| ended.message.as_deref()).unwrap_or_default().trim();
            let said = if said.is_empty() { String::new() } else { format!(" saying: {said}") };
            found(
                Reason::CrashLooping,
                format!(
                    "the container ends again and again, last with code {code}{said}. See `kubectl logs --previous {}`",
                    pod.name_any()
                ),
            )
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            found(Reason::CrashLooping, format!("the container cannot be started: {detail}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(yaml: &str) -> Pod {
        serde_yaml::from_str(yaml).expect("a pod")
    }

    fn ready(name: &str, revision: &str) -> Pod {
        pod(&format!(
            "metadata: {{name: {name}, labels: {{controller-revision-hash: {revision}}}}}\n\
             status: {{conditions: [{{type: Ready, status: 'True'}}]}}"
        ))
    }

    fn stateful_set(observed: i64) -> StatefulSet {
        serde_yaml::from_str(&format!(
            "metadata: {{name: x, generation: 2}}\n\
             spec: {{selector: {{}}, template: {{}}}}\n\
             status: {{replicas: 1, observedGeneration: {observed}, updateRevision: new}}"
        ))
        .expect("a stateful set")
    }

    #[test]
    fn it_is_done_when_all_pods_are_new_and_ready() {
        let rollout = Rollout::of(1, Some(&stateful_set(2)), &[&ready("x-0", "new")], Duration::ZERO);
        assert!(rollout.is_done());
        assert_eq!(rollout.activity(), None);
    }

    #[test]
    fn it_goes_on_when_one_of_the_new_pods_becomes_ready() {
        let became = |name: &str, revision: &str, status: &str, time: &str| {
            pod(&format!(
                "metadata: {{name: {name}, labels: {{controller-revision-hash: {revision}}}}}\n\
                 status: {{conditions: [{{type: Ready, status: '{status}', lastTransitionTime: '{time}'}}]}}"
            ))
        };
        let pods = [
            became("x-0", "old", "True", "2026-01-01T00:00:09Z"),
            became("x-1", "new", "True", "2026-01-01T00:00:01Z"),
            became("x-2", "new", "True", "2026-01-01T00:00:02Z"),
            became("x-3", "new", "False", "2026-01-01T00:00:09Z"),
        ];
        let pods: Vec<&Pod> = pods.iter().collect();
        let rollout = Rollout::of(4, Some(&stateful_set(2)), &pods, Duration::ZERO);
        assert_eq!(rollout.progressed.map(|time| time.to_string()).as_deref(), Some("2026-01-01T00:00:02Z"));
    }

    #[test]
    fn an_old_pod_or_an_unseen_template_is_a_rolling_update() {
        for rollout in [
            Rollout::of(1, Some(&stateful_set(2)), &[&ready("x-0", "old")], Duration::ZERO),
            Rollout::of(1, Some(&stateful_set(1)), &[&ready("x-0", "new")], Duration::ZERO),
        ] {
            assert_eq!(rollout.activity().map(|(reason, _)| reason), Some(Reason::RollingUpdate));
        }
    }

    #[test]
    fn missing_and_superfluous_pods_are_scaling() {
        let up = Rollout::of(3, None, &[], Duration::ZERO);
        assert_eq!(up.activity().map(|(reason, _)| reason), Some(Reason::ScalingUp));
        let down = Rollout::of(
            1,
            Some(&stateful_set(2)),
            &[&ready("x-0", "new"), &ready("x-1", "new")],
            Duration::ZERO,
        );
        assert_eq!(down.activity().map(|(reason, _)| reason), Some(Reason::ScalingDown));
    }

    #[test]
    fn what_stops_a_pod_is_named() {
        for (status, expected) in [
            (
                "conditions: [{type: PodScheduled, status: 'False', message: '0/3 nodes are available.'}]",
                Reason::Unschedulable,
            ),
            (
                "containerStatuses: [{name: c, image: i, imageID: '', ready: false, restartCount: 0, state: {waiting: {reason: ImagePullBackOff}}}]",
                Reason::ImagePullFailed,
            ),
            (
                "containerStatuses: [{name: c, image: i, imageID: '', ready: false, restartCount: 3, state: {waiting: {reason: CrashLoopBackOff}}}]",
                Reason::CrashLooping,
            ),
        ] {
            let pod = pod(&format!("metadata: {{name: x-0}}\nstatus: {{{status}}}"));
            let rollout = Rollout::of(1, None, &[&pod], Duration::ZERO);
            assert_eq!(rollout.problems.iter().map(|problem| problem.reason).collect::<Vec<_>>(), [expected]);
        }
    }
}
