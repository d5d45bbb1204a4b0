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
pub fn findings(rollout: &Rollout, old: &[Condition], refused: Option<&str>, now: Timestamp) -> [Finding; 2] {
    let activity = rollout.activity();
    let reconciling = match &activity {
        None => Finding::up_to_date(),
        Some((reason, message)) => Finding::yes(Type::Reconciling, *reason, message.clone()),
    };
    [reconciling, stalled(rollout, activity.is_some(), old, refused, now)]
}

fn stalled(
    rollout: &Rollout,
    active: bool,
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
        .filter(|condition| active && condition.status == "True")
        .map(|condition| condition.last_transition_time.0);
    if since.is_some_and(|since| now.duration_since(since) > DEADLINE) {
        let message = "the pods are not as wanted after 10 minutes: see the pods' events and logs";
        return Finding::yes(Type::Stalled, Reason::RolloutDeadline, message);
    }
    Finding::not_stalled()
}
