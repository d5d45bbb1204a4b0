//! The conditions Reconciling and Stalled of whatever has pods. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    conditions::{self, Finding, Reason, Type},
    pods::rollout::Rollout,
};

/// After so long a roll-out is said to be stuck.
const DEADLINE: SignedDuration = SignedDuration::from_mins(10);

/// Reconciling and Stalled, from how far the pods are and what the API server would not take.
///
/// What it waits for, where that is known better than the pods tell, is in `waits_for`.
pub fn findings(
    rollout: &Rollout,
    waits_for: Option<(Reason, String)>,
    old: &[Condition],
    refused: Option<&str>,
    now: Timestamp,
) -> [Finding; 2] {
    let activity = waits_for.or_else(|| rollout.activity());
    let reconciling = match &activity {
        None => Finding::up_to_date(),
        Some((reason, message)) => Finding::yes(Type::Reconciling, *reason, message.clone()),
    };
    [reconciling, stalled(rollout, activity, old, refused, now)]
}

fn stalled(
    rollout: &Rollout,
    activity: Option<(Reason, String)>,
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
    let since = conditions::of(old, Type::Reconciling)
        .filter(|condition| activity.is_some() && condition.status == "True")
        .map(|condition| condition.last_transition_time.0);
    if since.is_some_and(|since| now.duration_since(since) > DEADLINE) {
        let what = activity.map(|(_, what)| what).unwrap_or_default();
        let message =
            format!("the pods are not as wanted after 10 minutes: {what}. See the pods' events and logs");
        return Finding::yes(Type::Stalled, Reason::RolloutDeadline, message);
    }
    Finding::not_stalled()
}
