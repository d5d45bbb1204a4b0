//! Carries out what the plan says, on every broker of the cluster at once.

use crds::{DeletionPolicy, Permission, Topic, TopicGroupState, TopicGroupStatus};
use futures::future::join_all;
use proto::control::TopicConfig;
use tonic::{Code, Status};

use super::{
    observe::{Group, Observed},
    plan::{self, Owner},
    validate::{Wanted, owner},
};
use crate::{context::Context, control::explain};

/// Makes the topic so on every group. A group that cannot be reached keeps what was known of it.
pub async fn apply(
    context: &Context,
    wanted: &Wanted,
    observed: &Observed,
    known: &[TopicGroupStatus],
) -> Vec<TopicGroupStatus> {
    join_all(observed.groups.iter().map(|group| apply_to(context, wanted, group, known))).await
}

async fn apply_to(
    context: &Context,
    wanted: &Wanted,
    group: &Group,
    known: &[TopicGroupStatus],
) -> TopicGroupStatus {
    let known = known.iter().find(|known| known.name == group.name && is_done(known));
    let outcome = match &group.address {
        Ok(address) => bring(context, wanted, address, known.is_some()).await,
        Err(why) => Err(Failure::Unavailable(why.clone())),
    };
    match (outcome, known) {
        (Ok((topic, left)), _) => present(group, &topic, left),
        // A broker that starts again does not make its topics undone: it gets them again when it is ready.
        (Err(Failure::Unavailable(_)), Some(known)) => known.clone(),
        (Err(failure), _) => absent(group, failure),
    }
}

enum Failure {
    Unavailable(String),
    Foreign(String),
    Rejected(String),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let message = explain(&status);
        match status.code() {
            Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists | Code::Unimplemented => {
                Self::Rejected(message)
            }
            _ => Self::Unavailable(message),
        }
    }
}

/// The topic as it now is on the broker, and how many messages wait in queues that are to go. `told`: the status says
/// already that it is done.
async fn bring(
    context: &Context,
    wanted: &Wanted,
    address: &str,
    told: bool,
) -> Result<(TopicConfig, u64), Failure> {
    let control = &context.control;
    let live = control.topic(address, &wanted.name).await?;
    let whose = live.as_ref().map_or(Owner::Us, |live| plan::owner(wanted, &live.owner));
    if whose == Owner::Other {
        let stamp = live.map(|live| live.owner).unwrap_or_default();
        return Err(Failure::Foreign(format!("the broker's topic {} is managed by {stamp}", wanted.name)));
    }
    let left = if plan::shrinks(wanted, live.as_ref()) {
        let queues = control.describe_topic(address, &wanted.name).await?.unwrap_or_default().queues;
        plan::left(&wanted.name, wanted.queues, &queues, &control.groups(address).await?)
    } else {
        0
    };
    let next = plan::next(wanted, live.as_ref(), left);
    // What is so already is asked for too, once: the answer means that name servers show it.
    if told && live.as_ref() == Some(&next) {
        return Ok((next, left));
    }
    // Somebody may have stamped it since it was looked at.
    let outcome = control.upsert_topic(address, next.clone(), whose == Owner::Us).await?;
    match outcome.refused {
        refused if refused.is_empty() => Ok((next, left)),
        refused if outcome.try_again => Err(Failure::Unavailable(refused)),
        refused => Err(Failure::Rejected(refused)),
    }
}

fn present(group: &Group, topic: &TopicConfig, left: u64) -> TopicGroupStatus {
    let draining = topic.read_queues > topic.write_queues;
    TopicGroupStatus {
        name: group.name.clone(),
        read_queues: count(topic.read_queues),
        write_queues: count(topic.write_queues),
        permission: Permission::of(topic.readable, topic.writable),
        state: if draining { TopicGroupState::Draining } else { TopicGroupState::Applied },
        message: if draining {
            let last = topic.read_queues - 1;
            // A coarse figure: a status is no place for numbers that change with every message.
            let many = if left >= 1000 { "more than a thousand" } else { "some" };
            format!(
                "queues {} to {last} hold {many} messages that a consumer group has yet to consume",
                topic.write_queues
            )
        } else {
            String::new()
        },
    }
}

fn absent(group: &Group, failure: Failure) -> TopicGroupStatus {
    let (state, message) = match failure {
        Failure::Unavailable(message) => (TopicGroupState::Unavailable, message),
        Failure::Foreign(message) => (TopicGroupState::Foreign, message),
        Failure::Rejected(message) => (TopicGroupState::Rejected, message),
    };
    TopicGroupStatus {
        name: group.name.clone(),
        read_queues: 0,
        write_queues: 0,
        permission: Permission::None,
        state,
        message,
    }
}

fn is_done(group: &TopicGroupStatus) -> bool {
    matches!(group.state, TopicGroupState::Applied | TopicGroupState::Draining)
}

fn count(queues: u32) -> i32 {
    i32::try_from(queues).unwrap_or(i32::MAX)
}

/// Takes the topic from every group. Returns what is in the way, group by group; nothing when it is gone.
pub async fn delete(context: &Context, topic: &Topic, observed: &Observed) -> Vec<(String, String)> {
    let work = observed.groups.iter().map(|group| async move {
        let outcome = match &group.address {
            Ok(address) => delete_from(context, topic, address).await,
            Err(why) => Err(why.clone()),
        };
        outcome.err().map(|why| (group.name.clone(), why))
    });
    join_all(work).await.into_iter().flatten().collect()
}

async fn delete_from(context: &Context, topic: &Topic, address: &str) -> Result<(), String> {
    let control = &context.control;
    let (name, stamp) = (super::topic_name(topic), owner(topic));
    let live = control.topic(address, &name).await.map_err(|status| explain(&status))?;
    // What is not stamped as ours is not ours to delete.
    let Some(live) = live.filter(|live| live.owner == stamp) else { return Ok(()) };
    let drained_only = topic.spec.deletion_policy == DeletionPolicy::DeleteWhenDrained;
    if drained_only && live.writable {
        // With producers still at it, it would never be drained.
        let closed = TopicConfig { writable: false, ..live };
        let outcome = control.upsert_topic(address, closed, true).await.map_err(|status| explain(&status))?;
        if !outcome.refused.is_empty() {
            return Err(outcome.refused);
        }
    }
    control.delete_topic(address, &name, &stamp, drained_only).await.map_err(|status| match status.code() {
        Code::FailedPrecondition => format!("messages wait to be consumed ({})", explain(&status)),
        _ => explain(&status),
    })
}
