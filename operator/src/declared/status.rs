//! What a status says, from what the brokers answered. Pure.

use jiff::Timestamp;

use super::{Declared, Place, State, check::Invalid, observe::Observed};
use crate::conditions::{self, Finding, Reason, Type};

/// The status with these broker groups and findings. Those that it leaves do not count.
pub fn status<K: Declared>(
    resource: &K,
    observed: &Observed,
    places: Vec<K::Place>,
    findings: Vec<Finding>,
    now: Timestamp,
) -> K::Status {
    let old = resource.current().map(|status| K::parts(status).2).unwrap_or_default();
    let (_, staying) = split(observed, &places);
    let done = staying.iter().filter(|place| place.state() == State::Applied).count();
    let applied = format!("{done}/{}", staying.len());
    let conditions = conditions::conditions(old, findings, resource.meta().generation, now);
    resource.new_status(places, applied, conditions)
}

/// Of something that waits for `left` before it goes: groups, and what is in the way.
pub fn deleting(what: &str, left: &[(String, String)]) -> Vec<Finding> {
    let each: Vec<String> = left.iter().map(|(group, why)| format!("{group}: {why}")).collect();
    let message = format!(
        "the {what} is being deleted; still in the way: {}. With the annotation mq.gantry.dev/force-delete it goes at once",
        each.join("; ")
    );
    vec![
        Finding::no(Type::Ready, Reason::Deleting, message.clone()),
        Finding::yes(Type::Reconciling, Reason::Deleting, message),
        Finding::not_stalled(),
    ]
}

/// Of something that could not even be tried.
pub fn impossible(invalid: &Invalid) -> Vec<Finding> {
    let (reason, message) = (invalid.reason(), invalid.to_string());
    let (reconciling, stalled) = if invalid.stalls() {
        (Finding::up_to_date(), Finding::yes(Type::Stalled, reason, message.clone()))
    } else {
        (Finding::yes(Type::Reconciling, reason, message.clone()), Finding::not_stalled())
    };
    vec![Finding::no(Type::Ready, reason, message), reconciling, stalled]
}

/// The broker groups that it leaves, and those that shall have it.
fn split<'a, P: Place>(observed: &Observed, places: &'a [P]) -> (Vec<&'a P>, Vec<&'a P>) {
    let leaves = |group: &str| observed.groups.iter().any(|other| other.name == group && !other.chosen);
    places.iter().partition(|place| leaves(place.group()))
}

/// Each with its message; nothing where there is none.
fn in_words<'a, P: Place + 'a>(places: impl Iterator<Item = &'a P>) -> Option<String> {
    let each: Vec<String> = places.map(|place| format!("{}: {}", place.group(), place.message())).collect();
    (!each.is_empty()).then(|| each.join("; "))
}

/// Of what the broker groups answered.
pub fn found<P: Place>(what: &str, observed: &Observed, places: &[P]) -> Vec<Finding> {
    let (leaving, staying) = split(observed, places);
    let told = |state: State| in_words(staying.iter().copied().filter(|place| place.state() == state));
    let foreign = told(State::Foreign).map(|told| {
        let advice = "or make this resource anew with another name";
        (Reason::ForeignOwner, format!("{told}; delete that {what} or its owner's claim to it, {advice}"))
    });
    let rejected = told(State::Rejected).map(|told| (Reason::ConfigRejected, told));
    let drifted = told(State::Drifted).map(|told| (Reason::Drifted, told));
    let unavailable = told(State::Unavailable);
    let done = staying.iter().any(|place| matches!(place.state(), State::Applied | State::Draining));

    if let Some((reason, message)) = foreign.or(rejected).or(drifted) {
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
    let under_way = |place: &&P| place.state() == State::Draining;
    let reconciling = match in_words(staying.iter().copied().filter(under_way).chain(leaving)) {
        Some(message) => Finding::yes(Type::Reconciling, Reason::Draining, message),
        None => Finding::up_to_date(),
    };
    let message = format!("all {} broker groups have the {what}", staying.len());
    vec![Finding::yes(Type::Ready, Reason::Applied, message), reconciling, Finding::not_stalled()]
}

/// Whether brokers have it otherwise than declared. What was put right is told until the spec changes.
pub fn drift<K: Declared>(resource: &K, places: &[K::Place], reverted: &[String]) -> Finding {
    let drifted = in_words(places.iter().filter(|place| place.state() == State::Drifted));
    if let Some(drifted) = drifted {
        return Finding::yes(Type::Drifted, Reason::Drifted, drifted);
    }
    if !reverted.is_empty() {
        return Finding::no(Type::Drifted, Reason::Reverted, reverted.join("; "));
    }
    let old = resource.current().and_then(|status| conditions::of(K::parts(status).2, Type::Drifted));
    let told = old.filter(|old| {
        old.reason == Reason::Reverted.as_str() && old.observed_generation == resource.meta().generation
    });
    match told {
        Some(old) => Finding::no(Type::Drifted, Reason::Reverted, old.message.clone()),
        None => Finding::no(Type::Drifted, Reason::AsDeclared, "brokers have it as it is declared"),
    }
}

#[cfg(test)]
mod tests {
    use State::{Applied, Draining, Drifted, Foreign, Rejected, Unavailable};
    use crds::{NameServerRef, Topic, TopicGroupStatus, TopicSpec};
    use kube::runtime::reflector::ObjectRef;

    use super::*;
    use crate::declared::observe::Group;

    /// The brokers of these groups, each with what it has; the topic leaves `b`.
    fn around(states: &[(&str, State)]) -> (Observed, Vec<TopicGroupStatus>) {
        let place = |(group, state): &(&str, State)| {
            TopicGroupStatus::without(group, *state, format!("{state:?} here"))
        };
        let group = |(name, _): &(&str, State)| Group {
            name: (*name).to_owned(),
            chosen: *name != "b",
            has_served: true,
            reference: ObjectRef::new(name),
            address: Err(String::new()),
        };
        let groups = states.iter().map(group).collect();
        (Observed { groups, ..Observed::default() }, states.iter().map(place).collect())
    }

    #[test]
    fn a_group_that_it_leaves_takes_nothing_from_those_that_have_it() {
        let topic = Topic::new(
            "orders",
            TopicSpec { name_server_ref: NameServerRef::default(), ..TopicSpec::default() },
        );
        for state in [Draining, Unavailable, Rejected] {
            let (observed, places) = around(&[("a", Applied), ("b", state)]);
            let findings = found("topic", &observed, &places);
            assert_eq!((findings[0].holds, findings[0].reason), (true, Reason::Applied), "{state:?}");
            assert_eq!(findings[0].message, "all 1 broker groups have the topic");
            let expected = Finding::yes(Type::Reconciling, Reason::Draining, format!("b: {state:?} here"));
            assert_eq!(findings[1], expected);
            let status = status(&topic, &observed, places, findings, Timestamp::UNIX_EPOCH);
            assert_eq!((status.applied_groups.as_deref(), status.groups.len()), (Some("1/1"), 2));
        }
    }

    /// Ready's status and reason, and which of Reconciling and Stalled holds.
    #[track_caller]
    fn check(states: &[State], expected: (bool, Reason, bool, bool)) {
        let states: Vec<_> = states.iter().map(|state| ("a", *state)).collect();
        let (observed, places) = around(&states);
        let findings = found("topic", &observed, &places);
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
        check(&[Unavailable, Drifted], (false, Reason::Drifted, false, true));
        check(&[Unavailable, Rejected], (false, Reason::ConfigRejected, false, true));
        let taken = Invalid::NameTaken {
            kind: "Topic".to_owned(),
            older: "x".to_owned(),
            field: "topicName",
            name: "t".to_owned(),
        };
        for (invalid, reason, stalled) in [
            (Invalid::NoBrokers { name: "x".to_owned() }, Reason::ClusterNotFound, false),
            (taken, Reason::NameConflict, true),
        ] {
            let findings = impossible(&invalid);
            assert_eq!((findings[0].reason, findings[2].holds), (reason, stalled));
        }
    }
}
