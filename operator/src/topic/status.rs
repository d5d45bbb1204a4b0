//! What the status of a Topic says, from what the brokers answered. Pure.

use crds::{Topic, TopicGroupState, TopicGroupStatus, TopicStatus};
use jiff::Timestamp;

use super::{topic_name, validate::Invalid};
use crate::conditions::{self, Finding, Reason, Type};

/// The status, of a topic that could not even be tried where it is `invalid`.
pub fn status(
    topic: &Topic,
    invalid: Option<&Invalid>,
    groups: &[TopicGroupStatus],
    now: Timestamp,
) -> TopicStatus {
    let findings = match invalid {
        Some(invalid) => impossible(invalid),
        None => found(groups),
    };
    of(topic, groups, findings, now)
}

/// The status of a topic that waits for `left`: groups, and what is in the way.
pub fn deleting(topic: &Topic, left: &[(String, String)], now: Timestamp) -> TopicStatus {
    let each: Vec<String> = left.iter().map(|(group, why)| format!("{group}: {why}")).collect();
    let message = format!(
        "the topic is being deleted; still in the way: {}. With the annotation mq.gantry.dev/force-delete it goes at once",
        each.join("; ")
    );
    let findings = vec![
        Finding::no(Type::Ready, Reason::Deleting, message.clone()),
        Finding::yes(Type::Reconciling, Reason::Deleting, message),
        Finding::not_stalled(),
    ];
    let groups = topic.status.as_ref().map(|status| status.groups.as_slice()).unwrap_or_default();
    of(topic, groups, findings, now)
}

/// Whether nothing is under way that would not tell of itself.
pub fn is_settled(status: &TopicStatus) -> bool {
    let stalled = conditions::of(&status.conditions, Type::Ready);
    conditions::holds(&status.conditions, Type::Ready)
        && !conditions::holds(&status.conditions, Type::Reconciling)
        || stalled.is_some_and(|ready| ready.reason == Reason::ClusterNotFound.as_str())
}

fn of(topic: &Topic, groups: &[TopicGroupStatus], findings: Vec<Finding>, now: Timestamp) -> TopicStatus {
    let old = topic.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let done = groups.iter().filter(|group| group.state == TopicGroupState::Applied).count();
    TopicStatus {
        observed_generation: topic.metadata.generation,
        topic_name: Some(topic_name(topic)),
        applied_groups: Some(format!("{done}/{}", groups.len())),
        groups: groups.to_vec(),
        conditions: conditions::conditions(old, findings, topic.metadata.generation, now),
    }
}

fn impossible(invalid: &Invalid) -> Vec<Finding> {
    let (reason, message) = (invalid.reason(), invalid.to_string());
    let (reconciling, stalled) = if invalid.stalls() {
        (Finding::up_to_date(), Finding::yes(Type::Stalled, reason, message.clone()))
    } else {
        (Finding::yes(Type::Reconciling, reason, message.clone()), Finding::not_stalled())
    };
    vec![Finding::no(Type::Ready, reason, message), reconciling, stalled]
}

fn found(groups: &[TopicGroupStatus]) -> Vec<Finding> {
    let told = |state: TopicGroupState| {
        let each: Vec<String> = groups
            .iter()
            .filter(|group| group.state == state)
            .map(|group| format!("{}: {}", group.name, group.message))
            .collect();
        (!each.is_empty()).then(|| each.join("; "))
    };
    let foreign = told(TopicGroupState::Foreign).map(|told| {
        let advice = "delete that topic or its owner's claim to it, or choose another topicName";
        (Reason::ForeignOwner, format!("{told}; {advice}"))
    });
    let rejected = told(TopicGroupState::Rejected).map(|told| (Reason::ConfigRejected, told));
    let unavailable = told(TopicGroupState::Unavailable);
    let done = groups
        .iter()
        .any(|group| matches!(group.state, TopicGroupState::Applied | TopicGroupState::Draining));

    if let Some((reason, message)) = foreign.or(rejected) {
        return vec![
            Finding::no(Type::Ready, reason, message.clone()),
            Finding::up_to_date(),
            Finding::yes(Type::Stalled, reason, message),
        ];
    }
    if let Some(message) = unavailable {
        let reason = if done { Reason::PartiallyApplied } else { Reason::BrokerUnavailable };
        return vec![
            Finding::no(Type::Ready, reason, message.clone()),
            Finding::yes(Type::Reconciling, Reason::BrokerUnavailable, message),
            Finding::not_stalled(),
        ];
    }
    let reconciling = match told(TopicGroupState::Draining) {
        Some(message) => Finding::yes(Type::Reconciling, Reason::Draining, message),
        None => Finding::up_to_date(),
    };
    let message = format!("all {} broker groups have the topic", groups.len());
    vec![Finding::yes(Type::Ready, Reason::Applied, message), reconciling, Finding::not_stalled()]
}

#[cfg(test)]
mod tests {
    use TopicGroupState::{Applied, Draining, Foreign, Rejected, Unavailable};
    use crds::Permission;

    use super::*;

    fn group(state: TopicGroupState) -> TopicGroupStatus {
        TopicGroupStatus {
            name: "a".to_owned(),
            read_queues: 8,
            write_queues: 8,
            permission: Permission::ReadWrite,
            state,
            message: String::new(),
        }
    }

    /// Ready's status and reason, and which of Reconciling and Stalled holds.
    #[track_caller]
    fn check(states: &[TopicGroupState], expected: (bool, Reason, bool, bool)) {
        let groups: Vec<TopicGroupStatus> = states.iter().map(|state| group(*state)).collect();
        let findings = found(&groups);
        let holds = |type_| findings.iter().any(|finding| finding.type_ == type_ && finding.holds);
        let is = (findings[0].holds, findings[0].reason, holds(Type::Reconciling), holds(Type::Stalled));
        assert_eq!(is, expected, "{states:?}");
    }

    #[test]
    fn ready_means_that_every_group_has_it() {
        check(&[Applied, Applied], (true, Reason::Applied, false, false));
        check(&[Applied, Draining], (true, Reason::Applied, true, false));
        check(&[Applied, Unavailable], (false, Reason::PartiallyApplied, true, false));
        check(&[Unavailable], (false, Reason::BrokerUnavailable, true, false));
    }

    #[test]
    fn what_does_not_go_by_itself_stalls() {
        check(&[Applied, Foreign], (false, Reason::ForeignOwner, false, true));
        check(&[Unavailable, Rejected], (false, Reason::ConfigRejected, false, true));
        for (invalid, reason, stalled) in [
            (Invalid::NoNameServers { name: "x".to_owned() }, Reason::ClusterNotFound, false),
            (Invalid::NameTaken { older: "x".to_owned(), name: "t".to_owned() }, Reason::NameConflict, true),
        ] {
            let findings = impossible(&invalid);
            assert_eq!((findings[0].reason, findings[2].holds), (reason, stalled));
        }
    }
}
