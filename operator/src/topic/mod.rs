//! The controller of Topics: observe → validate → ask each broker → plan (pure) → apply → status.

use std::{sync::Arc, time::Duration};

use crds::{DeletionPolicy, Topic};
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};

use crate::context::{Context, Error};

pub mod apply;
pub mod names;
pub mod observe;
pub mod plan;
pub mod status;
pub mod validate;

/// Keeps a Topic until its messages are gone, where its deletion policy says that they go.
pub const FINALIZER: &str = "mq.gantry.dev/topic";
/// With this annotation a Topic goes at once, whatever the brokers say.
const FORCE_DELETE: &str = "mq.gantry.dev/force-delete";
/// How often a topic is made so again when nothing happens.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
const LOOK_AGAIN_SOON: Duration = Duration::from_secs(5);

/// The name that clients use.
pub fn topic_name(topic: &Topic) -> String {
    topic.spec.topic_name.clone().unwrap_or_else(|| topic.name_any())
}

/// Brings one Topic to what its spec says.
pub async fn reconcile(topic: Arc<Topic>, context: Arc<Context>) -> Result<Action, Error> {
    let observed = observe::observe(&topic, &context.stores);
    if topic.metadata.deletion_timestamp.is_some() {
        return delete(&topic, &context, &observed).await;
    }
    let keeps = topic.spec.deletion_policy != DeletionPolicy::Retain;
    // Before the first broker has the topic, so that none is ever left behind. The change brings the reconcile that goes on:
    // it sees what this one wrote.
    if context.applier.finalizer(&*topic, FINALIZER, keeps).await? {
        return Ok(Action::await_change());
    }

    let validated = validate::validate(&topic, &observed);
    let groups = match &validated {
        Ok(wanted) => apply::apply(&context, wanted, &observed, known(&topic)).await,
        Err(_) => Vec::new(),
    };
    let status = status::status(&topic, validated.as_ref().err(), &groups, Timestamp::now());
    write(&topic, &context, &status).await?;
    let again = if status::is_settled(&status) { spread(&topic, LOOK_AGAIN) } else { LOOK_AGAIN_SOON };
    Ok(Action::requeue(again))
}

async fn delete(topic: &Topic, context: &Context, observed: &observe::Observed) -> Result<Action, Error> {
    if !topic.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::await_change());
    }
    let forced = topic.annotations().contains_key(FORCE_DELETE);
    let keep = topic.spec.deletion_policy == DeletionPolicy::Retain;
    let left = if forced || keep { Vec::new() } else { apply::delete(context, topic, observed).await };
    if left.is_empty() {
        context.applier.finalizer(topic, FINALIZER, false).await?;
        return Ok(Action::await_change());
    }
    let status = status::deleting(topic, &left, Timestamp::now());
    write(topic, context, &status).await?;
    Ok(Action::requeue(LOOK_AGAIN_SOON))
}

async fn write(topic: &Topic, context: &Context, status: &crds::TopicStatus) -> Result<(), Error> {
    let old = topic.status.clone().unwrap_or_default();
    if *status != old {
        context.applier.status(topic, status).await?;
        context.events.tell_news(&topic.object_ref(&()), &old.conditions, &status.conditions);
    }
    Ok(())
}

/// What is known of the groups from before, if it is about the spec of today.
fn known(topic: &Topic) -> &[crds::TopicGroupStatus] {
    let status =
        topic.status.as_ref().filter(|status| status.observed_generation == topic.metadata.generation);
    status.map(|status| status.groups.as_slice()).unwrap_or_default()
}

/// Up to a half longer, each topic its own, so that many do not come at once.
fn spread(topic: &Topic, wait: Duration) -> Duration {
    let part: u32 = topic.uid().unwrap_or_default().bytes().map(u32::from).sum::<u32>() % 64;
    wait + wait / 128 * part
}
