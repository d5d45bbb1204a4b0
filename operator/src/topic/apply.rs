//! Carries out what the plan says, on one broker.

use crds::{Permission, TopicGroupState, TopicGroupStatus};
use proto::control::TopicConfig;
use tonic::Code;

use super::{
    placement::{self, Step},
    plan,
    validate::Wanted,
};
use crate::{
    control::{ControlPlane, explain},
    declared::{
        Brought, Failure, Place as _, State,
        carry_out::{Done, carry_out},
        decide::{Live, Rules, Told},
        owner::owner,
    },
};

/// Makes the topic so on the broker at `address`, where the rules allow it.
pub async fn bring(
    control: &ControlPlane,
    wanted: &Wanted,
    rules: Rules,
    group: &str,
    address: &str,
    known: Option<State>,
) -> Result<Brought<TopicGroupStatus>, Failure> {
    let live = control.topic(address, &wanted.name).await?;
    let left = if plan::shrinks(wanted, live.as_ref()) {
        let queues = control.describe_topic(address, &wanted.name).await?.unwrap_or_default().queues;
        plan::left(&wanted.name, wanted.queues, &queues, &control.groups(address).await?)
    } else {
        0
    };
    let (seen, next) = match &live {
        None => (Live::Absent, plan::next(wanted, None, left)),
        Some(live) => {
            let wanted = plan::compared(wanted, rules, live);
            let next = plan::next(&wanted, Some(live), left);
            (if *live == next { Live::Same } else { Live::Differs(owner(&wanted.owner, &live.owner)) }, next)
        }
    };
    let told = match known {
        // What we closed ourselves, and what has been drained since, is no stranger's doing.
        Some(State::Draining) if live.as_ref().is_some_and(|live| plan::is_on_the_way(wanted, live)) => {
            Told::Nothing
        }
        known => Told::of(known),
    };
    let write = |only_if_unowned| control.upsert_topic(address, next.clone(), only_if_unowned);
    match carry_out((rules, seen, told), live.as_ref().map(plan::in_words), write).await? {
        Done::AsDeclared { reverted } => Ok(Brought { place: present(group, &next, left), reverted }),
        Done::Drifted(message) => {
            let place = match &live {
                Some(live) => TopicGroupStatus {
                    state: TopicGroupState::Drifted,
                    message,
                    ..present(group, live, left)
                },
                None => TopicGroupStatus::without(group, State::Drifted, message),
            };
            Ok(Brought { place, reverted: None })
        }
    }
}

fn present(group: &str, topic: &TopicConfig, left: u64) -> TopicGroupStatus {
    let draining = topic.read_queues > topic.write_queues;
    TopicGroupStatus {
        name: group.to_owned(),
        read_queues: count(topic.read_queues),
        write_queues: count(topic.write_queues),
        permission: Permission::of(topic.readable, topic.writable),
        state: if draining { TopicGroupState::Draining } else { TopicGroupState::Applied },
        message: if draining {
            let last = topic.read_queues - 1;
            let many = in_words(left);
            format!(
                "queues {} to {last} hold {many} messages that a consumer group has yet to consume",
                topic.write_queues
            )
        } else {
            String::new()
        },
    }
}

fn count(queues: u32) -> i32 {
    i32::try_from(queues).unwrap_or(i32::MAX)
}

/// Lets the topic leave the broker at `address`, where it has `stamp` on it; nothing once it is not there.
pub async fn withdraw(
    control: &ControlPlane,
    group: &str,
    address: &str,
    name: &str,
    stamp: &str,
    arrived: bool,
) -> Result<Option<TopicGroupStatus>, Failure> {
    let live = control.topic(address, name).await?;
    let Some(live) = live.filter(|live| live.owner == stamp) else { return Ok(None) };
    let left = if arrived && !live.writable {
        let queues = control.describe_topic(address, name).await?.unwrap_or_default().queues;
        plan::left(name, 0, &queues, &control.groups(address).await?)
    } else {
        0
    };
    let (shown, message) = match placement::step(&live, arrived, left) {
        Step::Wait => (live, "it leaves this group once it is where it shall be".to_owned()),
        Step::Close(closed) => {
            Failure::check(control.upsert_topic(address, closed.clone(), true).await?)?;
            (closed, "it leaves this group and takes no more messages here".to_owned())
        }
        Step::Drain => {
            let many = in_words(left);
            (live, format!("it leaves this group when {many} messages are consumed here"))
        }
        Step::Remove => {
            // Somebody may have sent since it was closed, over a stream that began before.
            match control.delete_topic(address, name, stamp, true).await {
                Ok(()) => return Ok(None),
                Err(status) if status.code() == Code::FailedPrecondition => (live, explain(&status)),
                Err(status) => return Err(status.into()),
            }
        }
    };
    Ok(Some(TopicGroupStatus { state: TopicGroupState::Draining, message, ..present(group, &shown, left) }))
}

/// A coarse figure: a status is no place for numbers that change with every message.
fn in_words(left: u64) -> &'static str {
    if left >= 1000 { "more than a thousand" } else { "some" }
}

/// Deletes the topic from the broker at `address`, if `stamp` is on it.
pub async fn take_away(
    control: &ControlPlane,
    address: &str,
    name: &str,
    stamp: &str,
    drained_only: bool,
) -> Result<(), String> {
    let live = control.topic(address, name).await.map_err(|status| explain(&status))?;
    // What is not stamped as ours is not ours to delete.
    let Some(live) = live.filter(|live| live.owner == stamp) else { return Ok(()) };
    if drained_only && live.writable {
        // With producers still at it, it would never be drained.
        let closed = TopicConfig { writable: false, ..live };
        let outcome = control.upsert_topic(address, closed, true).await.map_err(|status| explain(&status))?;
        if !outcome.refused.is_empty() {
            return Err(outcome.refused);
        }
    }
    control.delete_topic(address, name, stamp, drained_only).await.map_err(|status| match status.code() {
        Code::FailedPrecondition => format!("messages wait to be consumed ({})", explain(&status)),
        _ => explain(&status),
    })
}
