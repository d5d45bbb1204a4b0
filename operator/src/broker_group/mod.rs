//! The controller of BrokerGroups: observe → validate → desired → apply → status.

use std::{sync::Arc, time::Duration};

use crds::{BrokerGroup, LastFailover};
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};

use crate::context::{Context, Error};

pub mod apply;
pub mod desired;
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
    let observed = observe::observe(&group, &context.stores);
    let validated = validate::validate(&group, &observed, &context.images);
    let now = Timestamp::now();
    let outcome = match &validated {
        Ok(validated) => match make(&context, &group, validated, &observed, now).await {
            Ok(outcome) => outcome,
            Err(error @ (crate::apply::Error::Foreign { .. } | crate::apply::Error::Refused { .. })) => {
                apply::Outcome { refused: Some(error.to_string()), ..apply::Outcome::default() }
            }
            Err(error) => return Err(error.into()),
        },
        Err(_) => apply::Outcome::default(),
    };

    let observed = observe::observe(&group, &context.stores);
    let brokers = observe::brokers(&context, &observed).await;
    let status = status::status(&group, validated.as_ref(), &observed, &brokers, &outcome, Timestamp::now());
    let old = group.status.clone().unwrap_or_default();
    if status != old {
        context.applier.status(&*group, &status).await?;
        let about = group.object_ref(&());
        context.events.tell_news(&about, &old.conditions, &status.conditions);
        if let Some(failover) =
            status.last_failover.as_ref().filter(|it| old.last_failover.as_ref() != Some(*it))
        {
            let LastFailover { at: _, from, to, epoch } = failover;
            let note = format!("{to} is primary in epoch {epoch}, after {from}");
            context.events.tell(&about, false, "PrimaryChanged", &note);
        }
    }
    tracing::debug!(name = group.name_any(), ready = status.ready_replicas, "broker group reconciled");
    Ok(Action::requeue(if status::is_settled(&status) { LOOK_AGAIN } else { LOOK_AGAIN_SOON }))
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
