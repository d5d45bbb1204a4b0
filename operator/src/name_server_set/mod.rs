//! The controller of NameServerSets: observe → validate → desired → apply → status.

use std::{sync::Arc, time::Duration};

use crds::NameServerSet;
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};

use crate::{
    context::{self, Context, Error},
    pods::pinned,
    progress,
};

mod apply;
pub mod desired;
pub mod observe;
pub mod status;
pub mod validate;

#[cfg(test)]
mod tests;

/// Keeps a NameServerSet while BrokerGroups refer to it.
pub const FINALIZER: &str = "mq.gantry.dev/name-server-set";
/// How often routes are compared when nothing happens.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN_SOON: Duration = Duration::from_secs(5);

/// Brings one NameServerSet to what its spec says.
pub async fn reconcile(set: Arc<NameServerSet>, context: Arc<Context>) -> Result<Action, Error> {
    let deleting = set.metadata.deletion_timestamp.is_some();
    let observed = observe::observe(&set, &context.stores);
    if deleting && observed.groups.is_empty() {
        context.applier.finalizer(&*set, FINALIZER, false).await?;
        return Ok(Action::await_change());
    }
    if !deleting {
        context.applier.finalizer(&*set, FINALIZER, true).await?;
    }

    let validated = validate::validate(&set, &context.images);
    // While deletion waits for broker groups, these need their name servers as they are.
    let desired = desired::desired(&validated, &observed);
    let has_served = set.status.as_ref().is_some_and(|status| status.first_served_at.is_some());
    let is_paused = context::is_paused(&*set);
    let outcome = if is_paused {
        let made_from = observed.stateful_set.as_deref().and_then(pinned::read);
        apply::Outcome { waits_for: Some(context::paused()), made_from, ..apply::Outcome::default() }
    } else {
        match apply::apply(&context, &validated, &observed, desired, has_served, Timestamp::now()).await {
            Ok(outcome) => outcome,
            Err(error @ (crate::apply::Error::Foreign { .. } | crate::apply::Error::Refused { .. })) => {
                apply::Outcome { refused: Some(error.to_string()), ..apply::Outcome::default() }
            }
            Err(error) => return Err(error.into()),
        }
    };

    let seen = observe::routes(&context, &observed).await;
    let mut observed = observe::observe(&set, &context.stores);
    // While it is left alone nobody makes pods, so none are lacking.
    let wanted = if is_paused { 0 } else { validated.replicas };
    observed.lacking_for = context.lacking_for(&set.uid().unwrap_or_default(), observed.pods.len(), wanted);
    let status = status::status(&set, &validated, &observed, &seen, &outcome, Timestamp::now());
    let old = set.status.clone().unwrap_or_default();
    if status != old {
        context.applier.status(&*set, &status).await?;
        let about = set.object_ref(&());
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
    }
    tracing::debug!(name = set.name_any(), ready = status.ready_replicas, "name server set reconciled");
    let settled = status::is_settled(&status) && outcome.refused.is_none();
    Ok(Action::requeue(if settled { LOOK_AGAIN } else { LOOK_AGAIN_SOON }))
}
