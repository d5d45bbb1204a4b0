//! The controller of NameServerSets: observe → validate → desired → apply → status.

use std::{sync::Arc, time::Duration};

use crds::NameServerSet;
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};

use crate::context::{Context, Error};

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
    let applied =
        apply::apply(&context, &validated, &observed, &desired::desired(&validated, &observed)).await;
    let refused = match applied {
        Ok(()) => None,
        Err(error @ (crate::apply::Error::Foreign { .. } | crate::apply::Error::Refused { .. })) => {
            Some(error.to_string())
        }
        Err(error) => return Err(error.into()),
    };

    let seen = observe::routes(&context, &observed).await;
    let observed = observe::observe(&set, &context.stores);
    let status = status::status(&set, &validated, &observed, &seen, refused.as_deref(), Timestamp::now());
    let old = set.status.clone().unwrap_or_default();
    if status != old {
        context.applier.status(&*set, &status).await?;
        context.events.tell_news(&set.object_ref(&()), &old.conditions, &status.conditions);
    }
    tracing::debug!(name = set.name_any(), ready = status.ready_replicas, "name server set reconciled");
    let settled = status::is_settled(&status) && refused.is_none();
    Ok(Action::requeue(if settled { LOOK_AGAIN } else { LOOK_AGAIN_SOON }))
}
