//! The controller of BrokerGroups: observe → validate → desired → apply → status.

use std::{sync::Arc, time::Duration};

use crds::{BrokerGroup, LastFailover};
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};

use crate::{
    context::{self, Context, Error},
    pods::pinned,
    progress,
};

pub mod apply;
mod auto_grow;
pub mod desired;
pub mod drain;
pub mod failover;
pub mod observe;
pub mod reign;
mod replicated;
pub mod requests;
pub mod roll;
pub mod scale;
pub mod status;
pub mod steer;
mod storage;
pub mod validate;

#[cfg(test)]
mod tests;

/// How often a broker that serves is asked how it is.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN_SOON: Duration = Duration::from_secs(2);
/// One that is to be taken away may keep very many topics, and they take their time.
const LOOK_WHAT_IS_LEFT: Duration = Duration::from_secs(10);

/// The name that clients see.
pub fn broker_name(group: &BrokerGroup) -> String {
    group.spec.broker_name.clone().unwrap_or_else(|| group.name_any())
}

/// Brings one BrokerGroup to what its spec says. Its deletion needs nothing of us: the objects go with their
/// owner, and the StatefulSet keeps or deletes the volumes as the spec says.
pub async fn reconcile(group: Arc<BrokerGroup>, context: Arc<Context>) -> Result<Action, Error> {
    if group.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let now = Timestamp::now();
    let observed = observe::observe(&group, &context.stores, now);
    let validated = validate::validate(&group, &observed, &context.images);
    let is_paused = context::is_paused(&*group);
    let mut outcome = match &validated {
        Ok(validated) if is_paused => apply::Outcome {
            made_from: observed.stateful_set.as_deref().and_then(pinned::read),
            steered: steer::Steered { waits_for: Some(context::paused()), ..steer::Steered::default() },
            ..apply::Outcome::of(validated, &observe::services(&validated.identity, &context.stores))
        },
        Ok(validated) => match make(&context, &group, validated, &observed, now).await {
            Ok(outcome) => outcome,
            Err(error @ (crate::apply::Error::Foreign { .. } | crate::apply::Error::Refused { .. })) => {
                apply::Outcome { refused: Some(error.to_string()), ..apply::Outcome::default() }
            }
            Err(error) => return Err(error.into()),
        },
        Err(_) => apply::Outcome::default(),
    };

    let mut observed = observe::observe(&group, &context.stores, now);
    // While it is left alone nobody makes pods, so none are lacking.
    let wanted = validated.as_ref().ok().filter(|_| !is_paused).map_or(0, validate::Validated::pods);
    observed.lacking_for = context.lacking_for(&group.uid().unwrap_or_default(), observed.pods.len(), wanted);
    let brokers = observe::brokers(&context, &observed).await;
    if let Ok(validated) = &validated
        && outcome.resize_refused.is_none()
        && !is_paused
        && let Some(size) = auto_grow::next(validated, &observed, &brokers)
    {
        let size = size.to_string();
        outcome.resize_refused = apply::grow(&context, validated, &observed, &size).await?;
        if outcome.resize_refused.is_none() {
            let note = format!("the volumes are nearly full and are to have {size}: storage.autoGrow");
            context.events.tell(&group.object_ref(&()), false, "VolumesGrow", &note);
        }
    }
    if drain::is_asked(&group) {
        let address = crate::declared::observe::primary(&context.stores, &group);
        outcome.left = Some(drain::left(&context.control, address).await);
    }
    let status = status::status(&group, validated.as_ref(), &observed, &brokers, &outcome, Timestamp::now());
    let old = group.status.clone().unwrap_or_default();
    if status != old {
        context.applier.status(&*group, &status).await?;
        let about = group.object_ref(&());
        context.events.tell_news(&about, &old.conditions, &status.conditions);
        if let Some(rollout) = status.rollout.as_ref().filter(|it| progress::begins(old.rollout.as_ref(), it))
        {
            context.events.tell(
                &about,
                false,
                "RolloutStarted",
                &format!("pods are replaced: {}", rollout.reason),
            );
        }
        if let Some(failover) =
            status.last_failover.as_ref().filter(|it| old.last_failover.as_ref() != Some(*it))
        {
            let LastFailover { at: _, from, to, epoch } = failover;
            let note = format!("{to} is primary in epoch {epoch}, after {from}");
            context.events.tell(&about, false, "PrimaryChanged", &note);
        }
    }
    tracing::debug!(name = group.name_any(), ready = status.ready_replicas, "broker group reconciled");
    Ok(Action::requeue(match (status::is_settled(&status), outcome.left) {
        (true, _) => LOOK_AGAIN,
        (false, None) => LOOK_AGAIN_SOON,
        (false, Some(_)) => LOOK_WHAT_IS_LEFT,
    }))
}

/// Writes what differs, and then does the next step of what takes several.
async fn make(
    context: &Context,
    group: &BrokerGroup,
    validated: &validate::Validated,
    observed: &observe::Observed,
    now: Timestamp,
) -> Result<apply::Outcome, crate::apply::Error> {
    let known = group.status.clone().unwrap_or_default();
    let mut outcome = apply::apply(context, validated, observed, &known).await?;
    outcome.steered = steer::steer(context, group, validated, observed, now).await?;
    Ok(outcome)
}
