//! The conditions Reconciling and Stalled of whatever has pods, and how far a change of them is. Pure.

use std::time::Duration;

use crds::Update;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::apps::v1::StatefulSet, apimachinery::pkg::apis::meta::v1::Condition};

use crate::{
    conditions::{self, Finding, Reason, Type},
    pods::{
        manner::Manner,
        pinned,
        rollout::{self, Rollout},
    },
};

/// After so long without progress a roll-out is said to be stuck.
const DEADLINE: SignedDuration = SignedDuration::from_mins(10);

/// A pod is made within a moment of its StatefulSet, or is refused.
const NO_POD: Duration = Duration::from_secs(20);

/// Reconciling and Stalled, from how far the pods are and what the API server would not take.
///
/// What it waits for, where that is known better than the pods tell, is in `waits_for`; how pods are replaced is in `update`.
pub fn findings(
    rollout: &Rollout,
    waits_for: Option<(Reason, String)>,
    update: &Update,
    old: &[Condition],
    refused: Option<&str>,
    now: Timestamp,
) -> [Finding; 2] {
    let activity = waits_for.or_else(|| rollout.activity());
    let reconciling = match &activity {
        None => Finding::up_to_date(),
        // Nothing goes on before somebody wants it, or its time has come.
        Some((reason @ (Reason::RolloutPaused | Reason::Paused), message)) => {
            Finding::no(Type::Reconciling, *reason, message.clone())
        }
        Some((reason, message)) => Finding::yes(Type::Reconciling, *reason, message.clone()),
    };
    // A pod that is to be Ready for a while is waited for as long.
    let deadline = DEADLINE + SignedDuration::from_secs(Manner::of(update, now).stable_seconds);
    [reconciling, stalled(rollout, activity, deadline, old, refused, now)]
}

/// How far the pods are that are to be replaced; nothing where nobody knows why they should.
pub fn rollout(
    rollout: &Rollout,
    stateful_set: Option<&StatefulSet>,
    waits_for: Option<String>,
) -> Option<crds::Rollout> {
    let set = stateful_set.filter(|set| rollout::template_is_seen(Some(set)))?;
    let reason = pinned::read(set)?.reason;
    let revision = set.status.as_ref()?.update_revision.clone()?;
    let Rollout { wanted, updated, .. } = *rollout;
    let waiting_for = waits_for.filter(|_| updated < wanted);
    (!reason.is_empty()).then_some(crds::Rollout {
        revision,
        reason,
        done: updated,
        total: wanted,
        waiting_for,
    })
}

/// Whether this is another change of the pods than the one before.
pub fn begins(before: Option<&crds::Rollout>, now: &crds::Rollout) -> bool {
    before.is_none_or(|before| (&before.revision, &before.reason) != (&now.revision, &now.reason))
}

fn stalled(
    rollout: &Rollout,
    activity: Option<(Reason, String)>,
    deadline: SignedDuration,
    old: &[Condition],
    refused: Option<&str>,
    now: Timestamp,
) -> Finding {
    if let Some(message) = refused {
        return Finding::yes(Type::Stalled, Reason::InvalidSpec, message);
    }
    if let Some(problem) = rollout.problems.first() {
        let message = format!("pod {}: {}", problem.pod, problem.message);
        return Finding::yes(Type::Stalled, problem.reason, message);
    }
    if matches!(activity, Some((Reason::Paused, _))) {
        return Finding::not_stalled();
    }
    let activity = activity.filter(|(reason, _)| *reason != Reason::RolloutPaused);
    let since = conditions::of(old, Type::Reconciling)
        .filter(|condition| activity.is_some() && condition.status == "True")
        .map(|condition| condition.last_transition_time.0.max(rollout.progressed.unwrap_or(Timestamp::MIN)));
    if rollout.existing < rollout.wanted && rollout.lacking_for > NO_POD {
        let Rollout { existing, wanted, .. } = rollout;
        let message = format!(
            "{existing} of {wanted} pods exist, and no more are made: `kubectl describe statefulset` says what refuses them, such as a quota, a policy, or a priority class that does not exist"
        );
        return Finding::yes(Type::Stalled, Reason::RolloutDeadline, message);
    }
    if since.is_some_and(|since| now.duration_since(since) > deadline) {
        let what = activity.map(|(_, what)| what).unwrap_or_default();
        let minutes = deadline.as_mins();
        let message = format!("no further for {minutes} minutes: {what}. See the pods' events and logs");
        return Finding::yes(Type::Stalled, Reason::RolloutDeadline, message);
    }
    Finding::not_stalled()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::conditions;

    const MINUTE: i64 = 60;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number is a time")
    }

    /// Whether a roll that began at 0, and by which the last pod became ready then, is stuck at `now`.
    fn is_stuck(update: &str, progressed: Option<i64>, now: i64) -> bool {
        let update: Update = serde_yaml::from_str(update).expect("an update");
        let rollout = Rollout {
            wanted: 9,
            existing: 9,
            ready: 9,
            updated: 4,
            progressed: progressed.map(at),
            ..Rollout::default()
        };
        let [reconciling, _] = findings(&rollout, None, &update, &[], None, at(0));
        let old = conditions(&[], vec![reconciling], None, at(0));
        let [_, stalled] = findings(&rollout, None, &update, &old, None, at(now));
        stalled.holds
    }

    #[test]
    fn a_long_roll_is_stuck_only_when_it_goes_no_further() {
        assert!(!is_stuck("{}", None, 10 * MINUTE));
        assert!(is_stuck("{}", None, 11 * MINUTE));
        assert!(!is_stuck("{}", Some(9 * MINUTE), 19 * MINUTE));
        assert!(is_stuck("{}", Some(9 * MINUTE), 20 * MINUTE));
        assert!(!is_stuck("{minStableSeconds: 3600}", Some(9 * MINUTE), 70 * MINUTE));
    }

    #[test]
    fn what_is_left_alone_waits_for_nothing() {
        let lacking =
            Rollout { wanted: 3, existing: 1, lacking_for: Duration::from_secs(60), ..Rollout::default() };
        let stalled = |waits_for| {
            let [_, stalled] = findings(&lacking, waits_for, &Update::default(), &[], None, at(0));
            stalled.holds
        };
        assert!(stalled(None));
        assert!(
            stalled(Some((Reason::RolloutPaused, String::new()))),
            "pods that lack are made all the same"
        );
        assert!(!stalled(Some((Reason::Paused, String::new()))));
    }
}
