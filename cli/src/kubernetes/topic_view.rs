//! Topic resources as they are printed.

use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;

use super::declared::Standing;
use crate::output::{Cell, Paint, Table, View};
use crate::row;

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
    /// What it takes.
    #[serde(rename = "type")]
    pub message_type: crds::MessageType,
    /// Queues in each broker group.
    pub queues: i32,
    /// What clients may do.
    pub permission: crds::Permission,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

impl TopicRow {
    pub(super) fn of(topic: &crds::Topic, now: Timestamp) -> Self {
        Self {
            resource: topic.name_any(),
            topic: topic.client_name(),
            message_type: topic.spec.message_type,
            queues: topic.spec.queues,
            permission: topic.spec.permission,
            standing: Standing::of(topic, now),
        }
    }
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
            let standing = &topic.standing;
            table.row([
                Cell::from(&topic.resource),
                Cell::from(&topic.topic),
                Cell::from(&standing.name_server_set),
                Cell::from(format!("{:?}", topic.message_type)),
                Cell::from(topic.queues),
                Cell::from(format!("{:?}", topic.permission)),
                Cell::from(&standing.groups),
                Cell::judged(standing.ready, standing.reason.as_str()),
                Cell::from(&standing.age),
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
        let Standing { name_server_set, ready, reason, message, .. } = &row.standing;
        let reason = if *ready { paint.good(reason) } else { paint.bad(reason) };
        let mut text = format!(
            "{}: topic {} of {name_server_set}, {:?}, {} queues a group, {:?}, deletionPolicy {deletion_policy:?}\n{reason}: {message}",
            paint.heading(&row.resource),
            row.topic,
            row.message_type,
            row.queues,
            row.permission,
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
