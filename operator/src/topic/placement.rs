//! Which broker groups have a topic, and how it leaves those that shall have it no more. Pure.

use crds::{BrokerGroup, Placement};
use kube::ResourceExt as _;
use proto::control::TopicConfig;

use crate::selector::selects;

/// Whether the topic shall be on the group.
pub fn chooses(placement: Option<&Placement>, group: &BrokerGroup) -> bool {
    match placement {
        None => true,
        Some(Placement { names: Some(names), selector: _ }) => names.contains(&group.name_any()),
        Some(Placement { names: None, selector }) => {
            selector.as_ref().is_none_or(|selector| selects(selector, group.labels()))
        }
    }
}

/// The next step of a topic that leaves a group.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Not before it is where it shall be.
    Wait,
    /// It takes no more messages.
    Close(TopicConfig),
    /// Some are still to be consumed.
    Drain,
    /// Nothing is in it any more.
    Remove,
}

/// `arrived`: it is wherever it shall be. `left`: so many messages wait.
pub fn step(live: &TopicConfig, arrived: bool, left: u64) -> Step {
    match (arrived, live.writable) {
        (false, _) => Step::Wait,
        (true, true) => Step::Close(TopicConfig { writable: false, ..live.clone() }),
        (true, false) if left > 0 => Step::Drain,
        (true, false) => Step::Remove,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(placement: &str, expected: bool) {
        let group: BrokerGroup = serde_yaml::from_str(
            "{apiVersion: mq.gantry.dev/v1alpha1, kind: BrokerGroup, metadata: {name: a, labels: {zone: x, tier: fast}}, \
             spec: {nameServerRef: {name: main}, clusterName: c, storage: {ephemeral: {}}}}",
        )
        .unwrap();
        let placement: Option<Placement> = serde_yaml::from_str(placement).unwrap();
        assert_eq!(chooses(placement.as_ref(), &group), expected, "{placement:?}");
    }

    #[test]
    fn groups_are_chosen_by_name_or_by_labels() {
        check("null", true);
        check("{names: [a, b]}", true);
        check("{names: [b]}", false);
        check("{selector: {}}", true);
        check("{selector: {matchLabels: {zone: x}}}", true);
        check("{selector: {matchLabels: {zone: x, tier: slow}}}", false);
        for (expression, expected) in [
            ("{key: zone, operator: In, values: [w, x]}", true),
            ("{key: zone, operator: In, values: [w]}", false),
            ("{key: zone, operator: NotIn, values: [w]}", true),
            ("{key: rack, operator: NotIn, values: [w]}", true),
            ("{key: rack, operator: Exists}", false),
            ("{key: rack, operator: DoesNotExist}", true),
            ("{key: zone, operator: Gt, values: ['1']}", false),
        ] {
            check(&format!("{{selector: {{matchExpressions: [{expression}]}}}}"), expected);
        }
    }

    #[test]
    fn a_topic_leaves_when_it_has_arrived_and_nothing_waits() {
        let open = TopicConfig { writable: true, readable: true, ..TopicConfig::default() };
        let closed = TopicConfig { writable: false, ..open.clone() };
        assert_eq!(step(&open, false, 0), Step::Wait);
        assert_eq!(step(&open, true, 0), Step::Close(closed.clone()));
        assert_eq!(step(&closed, true, 3), Step::Drain);
        assert_eq!(step(&closed, true, 0), Step::Remove);
        assert_eq!(step(&closed, false, 0), Step::Wait);
    }
}
