//! Which pod is replaced next of those that need nothing of each other: name servers, and the only broker of a group. Pure.

use crds::UpdateStrategy;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetUpdateStrategy},
    core::v1::Pod,
};

use super::{manner::Manner, rollout};

/// So long a pod may be not Ready before it counts as broken: a failover takes less.
pub const BROKEN_SECONDS: i64 = 60;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every pod is new, or will be made so.
    Done,
    /// This member's pod goes, and comes back new.
    Replace(i32),
    /// This member should be primary.
    HandOver(i32),
    /// Nothing yet.
    Wait(String),
    /// Nothing, before somebody wants it or a time has come.
    Hold(String),
}

/// What matters of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Its number.
    pub ordinal: i32,
    /// Whether it is as the newest template says.
    pub is_new: bool,
    /// Whether it is Ready.
    pub is_ready: bool,
    /// How long it has been so, Ready or not.
    pub seconds: i64,
    /// Whether it is going.
    pub is_stopping: bool,
    /// Whether something stops it that does not go by itself.
    pub is_stuck: bool,
}

/// The strategy of a StatefulSet that leaves the replacing of pods to the operator.
pub fn strategy() -> StatefulSetUpdateStrategy {
    StatefulSetUpdateStrategy { type_: Some("OnDelete".to_owned()), rolling_update: None }
}

impl Turn {
    /// Looks at a pod.
    pub fn of(pod: &Pod, stateful_set: Option<&StatefulSet>, now: Timestamp) -> Option<Self> {
        Some(Self {
            ordinal: super::ordinal(pod)?,
            is_new: rollout::is_newest(stateful_set, pod),
            is_ready: super::is_ready(pod),
            seconds: super::since(pod).map_or(0, |since| now.duration_since(since).as_secs()),
            is_stopping: pod.metadata.deletion_timestamp.is_some(),
            is_stuck: rollout::is_stuck(pod),
        })
    }
}

/// What to do next with the pods, of which there shall be `wanted`.
pub fn next(pods: &[Turn], wanted: i32, manner: &Manner) -> Step {
    let old = || pods.iter().filter(|pod| !pod.is_new && !pod.is_stopping);
    if old().next().is_none() {
        return Step::Done;
    }
    if let Some(why) = manner.forbids_all() {
        return Step::Hold(why);
    }
    // A correction never waits for what it corrects.
    let serves_nobody =
        |pod: &&Turn| pod.is_stuck || (!pod.is_ready && (wanted == 1 || pod.seconds >= BROKEN_SECONDS));
    if let Some(pod) = old().find(serves_nobody) {
        return Step::Replace(pod.ordinal);
    }
    let new = pods.iter().filter(|pod| pod.is_new);
    if let Some(why) = manner.forbids_healthy(new.clone().count()) {
        return Step::Hold(why);
    }
    if let Some(pod) = pods.iter().find(|pod| pod.is_stopping) {
        return Step::Wait(format!("pod {} is being replaced", pod.ordinal));
    }
    if pods.len() < usize::try_from(wanted).unwrap_or_default() {
        return Step::Wait("a pod is being made".to_owned());
    }
    if let Some(pod) = pods.iter().find(|pod| !pod.is_ready) {
        return Step::Wait(format!("pod {} is not Ready", pod.ordinal));
    }
    if let Some(pod) = new.clone().find(|pod| pod.seconds < manner.stable_seconds) {
        return Step::Wait(format!(
            "pod {} was replaced and is to be Ready for update.minStableSeconds, {}",
            pod.ordinal, manner.stable_seconds
        ));
    }
    match old().max_by_key(|pod| pod.ordinal) {
        Some(pod) if manner.strategy == UpdateStrategy::Supervised => Step::Hold(format!(
            "update.strategy is Supervised, and no other takes the place of broker {}: delete its pod when that suits",
            pod.ordinal
        )),
        Some(pod) => Step::Replace(pod.ordinal),
        None => Step::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Turn = Turn {
        ordinal: 0,
        is_new: false,
        is_ready: true,
        seconds: 1000,
        is_stopping: false,
        is_stuck: false,
    };
    const NEW: Turn = Turn { is_new: true, ..OLD };

    fn after<const N: usize>(pods: [Turn; N], manner: &Manner) -> Step {
        let pods: Vec<Turn> = (0..).zip(pods).map(|(ordinal, pod)| Turn { ordinal, ..pod }).collect();
        next(&pods, i32::try_from(N).expect("a few"), manner)
    }

    #[track_caller]
    fn waits<const N: usize>(pods: [Turn; N], why: &str) {
        let manner = Manner { stable_seconds: 15, ..Manner::default() };
        match after(pods, &manner) {
            Step::Wait(found) => assert!(found.contains(why), "{found:?}"),
            other => panic!("{other:?}, to wait for {why:?}"),
        }
    }

    #[test]
    fn the_highest_goes_first_and_the_next_when_it_is_ready_and_stable() {
        let any = Manner::default();
        assert_eq!(after([OLD, OLD, OLD], &any), Step::Replace(2));
        waits([OLD, OLD, Turn { is_stopping: true, ..OLD }], "pod 2 is being replaced");
        waits([OLD, OLD, Turn { is_ready: false, seconds: 3, ..NEW }], "pod 2 is not Ready");
        waits([OLD, OLD, Turn { seconds: 14, ..NEW }], "minStableSeconds, 15");
        assert_eq!(after([OLD, OLD, NEW], &any), Step::Replace(1));
        assert_eq!(after([NEW, NEW, NEW], &any), Step::Done);
    }

    #[test]
    fn the_first_that_does_not_come_up_stops_it_and_its_correction_waits_for_nothing() {
        let broken = Turn { is_stuck: true, is_ready: false, seconds: 1, ..NEW };
        waits([OLD, OLD, broken.clone()], "pod 2 is not Ready");
        let corrected = Turn { is_new: false, ..broken };
        let closed = Manner { opens: Some(jiff::Timestamp::UNIX_EPOCH), ..Manner::default() };
        assert_eq!(after([OLD, OLD, corrected.clone()], &closed), Step::Replace(2));
        assert_eq!(after([corrected], &closed), Step::Replace(0));
        let starting = Turn { is_ready: false, seconds: 1, ..OLD };
        assert_eq!(after([starting.clone()], &closed), Step::Replace(0), "there is no other to wait for");
        waits([OLD, OLD, starting], "pod 2 is not Ready");
    }

    #[test]
    fn people_decide_when_they_said_so() {
        let held = |manner: Manner| matches!(after([OLD, NEW], &manner), Step::Hold(_));
        assert!(held(Manner { paused: true, ..Manner::default() }));
        assert!(held(Manner { canary: Some(1), ..Manner::default() }));
        assert!(held(Manner { strategy: UpdateStrategy::OnDelete, ..Manner::default() }));
        assert!(held(Manner { strategy: UpdateStrategy::Supervised, ..Manner::default() }));
        assert!(!held(Manner { canary: Some(2), ..Manner::default() }));
    }
}
