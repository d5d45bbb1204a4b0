//! Topic resources as they are printed.

use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;

use super::topics::{readiness, topic_name};
use crate::output::{Cell, Paint, Table, View};
use crate::{row, units};

/// The Topics of a namespace.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct TopicRows {
    /// In order of their names.
    pub topics: Vec<TopicRow>,
}

/// A Topic in one line.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicRow {
    /// Name of the resource.
    pub resource: String,
    /// The name that clients use.
    pub topic: String,
    /// Name of the NameServerSet.
    pub name_server_set: String,
    /// What it takes.
    #[serde(rename = "type")]
    pub message_type: crds::MessageType,
    /// Queues in each broker group.
    pub queues: i32,
    /// What clients may do.
    pub permission: crds::Permission,
    /// Broker groups that have it, of how many.
    pub groups: String,
    /// Whether it is Ready.
    pub ready: bool,
    /// Why.
    pub reason: String,
    /// In words.
    pub message: String,
    #[serde(skip)]
    age: String,
}

impl TopicRow {
    pub(super) fn of(topic: &crds::Topic, now: Timestamp) -> Self {
        let readiness = readiness(topic);
        let groups = topic.status.as_ref().and_then(|status| status.applied_groups.clone());
        Self {
            resource: topic.name_any(),
            topic: topic_name(topic),
            name_server_set: topic.spec.name_server_ref.name.clone(),
            message_type: topic.spec.message_type,
            queues: topic.spec.queues,
            permission: topic.spec.permission,
            groups: groups.unwrap_or_default(),
            ready: readiness.ready,
            reason: readiness.reason,
            message: readiness.message,
            age: age(topic, now),
        }
    }
}

/// How long ago a resource was made.
pub(super) fn age(resource: &impl kube::ResourceExt, now: Timestamp) -> String {
    let made = resource.creation_timestamp().map(|time| time.0.as_millisecond());
    made.and_then(|made| units::since(made, now)).unwrap_or_else(|| "-".to_owned())
}

impl View for TopicRows {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new([
            "NAME",
            "TOPIC",
            "CLUSTER",
            "TYPE",
            "QUEUES",
            "PERMISSION",
            "GROUPS",
            "STATUS",
            "AGE",
        ]);
        for topic in &self.topics {
            table.row([
                Cell::from(&topic.resource),
                Cell::from(&topic.topic),
                Cell::from(&topic.name_server_set),
                Cell::from(format!("{:?}", topic.message_type)),
                Cell::from(topic.queues),
                Cell::from(format!("{:?}", topic.permission)),
                Cell::from(&topic.groups),
                Cell::judged(topic.ready, topic.reason.as_str()),
                Cell::from(&topic.age),
            ]);
        }
        table.text(paint)
    }
}

/// A Topic with all that is known of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicDescription {
    /// Its line in a list.
    #[serde(flatten)]
    pub row: TopicRow,
    /// What happens to the messages when the resource is deleted.
    pub deletion_policy: crds::DeletionPolicy,
    /// The topic on each broker group.
    pub states: Vec<crds::TopicGroupStatus>,
}

impl TopicDescription {
    pub(super) fn of(topic: &crds::Topic, now: Timestamp) -> Self {
        Self {
            row: TopicRow::of(topic, now),
            deletion_policy: topic.spec.deletion_policy,
            states: topic.status.clone().unwrap_or_default().groups,
        }
    }
}

impl View for TopicDescription {
    fn text(&self, paint: Paint) -> String {
        let Self { row, deletion_policy, states } = self;
        let reason = if row.ready { paint.good(&row.reason) } else { paint.bad(&row.reason) };
        let mut text = format!(
            "{}: topic {} of {}, {:?}, {} queues a group, {:?}, deletionPolicy {deletion_policy:?}\n{reason}: {}",
            paint.heading(&row.resource),
            row.topic,
            row.name_server_set,
            row.message_type,
            row.queues,
            row.permission,
            row.message,
        );
        let mut table = Table::new(["GROUP", "READ", "WRITE", "PERMISSION", "STATE", "MESSAGE"]);
        for group in states {
            let [name, read, write, permission, message] = row![
                &group.name,
                group.read_queues,
                group.write_queues,
                format!("{:?}", group.permission),
                &group.message,
            ];
            let applied = group.state == crds::TopicGroupState::Applied;
            let state = Cell::judged(applied, format!("{:?}", group.state));
            table.row([name, read, write, permission, state, message]);
        }
        if !states.is_empty() {
            text.push_str(&format!("\n\n{}", table.text(paint)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    fn fixed() -> crds::Topic {
        serde_yaml::from_str(
            r#"
            apiVersion: mq.gantry.dev/v1alpha1
            kind: Topic
            metadata: { name: order-events, generation: 2, creationTimestamp: "2026-11-21T00:00:00Z" }
            spec: { nameServerRef: { name: main }, topicName: Order_Events, queues: 4 }
            status:
              observedGeneration: 2
              appliedGroups: 1/2
              groups:
              - { name: a, readQueues: 4, writeQueues: 4, permission: ReadWrite, state: Applied }
              - { name: b, readQueues: 0, writeQueues: 0, permission: None, state: Unavailable, message: no answer from b }
              conditions:
              - { type: Ready, status: "False", reason: BrokerUnavailable, message: b does not answer, lastTransitionTime: "2026-11-21T00:00:00Z" }
            "#,
        )
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-21T01:30:00Z".parse().unwrap()
    }

    #[test]
    fn topics_are_listed_with_their_condition() {
        let rows = TopicRows { topics: vec![TopicRow::of(&fixed(), now())] };
        assert_snapshot!(render(&rows, Format::Table, Paint(false)).unwrap(), @r"
        NAME           TOPIC          CLUSTER   TYPE     QUEUES   PERMISSION   GROUPS   STATUS              AGE
        order-events   Order_Events   main      Normal   4        ReadWrite    1/2      BrokerUnavailable   1h30m
        ");
    }

    #[test]
    fn a_description_shows_each_group() {
        let description = TopicDescription::of(&fixed(), now());
        assert_snapshot!(render(&description, Format::Table, Paint(false)).unwrap(), @r"
        order-events: topic Order_Events of main, Normal, 4 queues a group, ReadWrite, deletionPolicy Retain
        BrokerUnavailable: b does not answer

        GROUP   READ   WRITE   PERMISSION   STATE         MESSAGE
        a       4      4       ReadWrite    Applied
        b       0      0       None         Unavailable   no answer from b
        ");
    }
}
