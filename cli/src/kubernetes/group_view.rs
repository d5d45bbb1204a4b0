//! ConsumerGroup resources as they are printed.

use std::collections::HashSet;

use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;

use super::declared::{Declared as _, Standing};
use crate::commands::group::list::{Groups, yes_no};
use crate::output::{Cell, Paint, Table, View};

/// The consumer groups of a namespace: its resources, and what brokers have besides.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct GroupRows {
    /// In order of the names that clients use.
    pub groups: Vec<GroupRow>,
}

/// A consumer group in one line.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupRow {
    /// The name that clients use.
    pub group: String,
    /// Whether it receives messages.
    pub consumes: bool,
    /// Whether messages of one message group come in order.
    pub ordered: bool,
    /// Deliveries before a message becomes a dead letter.
    pub max_attempts: u32,
    /// The resource; nothing for a group that came into being by being used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<GroupResource>,
}

/// What a resource says of a consumer group.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupResource {
    /// Its name.
    pub name: String,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

impl GroupResource {
    pub(super) fn of(group: &crds::ConsumerGroup, now: Timestamp) -> Self {
        Self { name: group.name_any(), standing: Standing::of(group, now) }
    }

    /// In a line of its own.
    pub(crate) fn text(&self, paint: Paint) -> String {
        let Standing { name_server_set, ready, reason, message, .. } = &self.standing;
        let reason = if *ready { paint.good(reason) } else { paint.bad(reason) };
        format!("ConsumerGroup {} of {name_server_set}: {reason}: {message}", self.name)
    }
}

impl GroupRows {
    /// `brokers` are of the cluster of `set`: what a resource of another one says is not about them.
    pub(super) fn of(
        resources: &[crds::ConsumerGroup],
        brokers: Groups,
        set: Option<(&str, &str)>,
        now: Timestamp,
    ) -> Self {
        let declared: HashSet<String> = resources
            .iter()
            .filter(|group| set.is_some_and(|set| group.is_of(set)))
            .map(crds::ConsumerGroup::client_name)
            .collect();
        let mut groups: Vec<GroupRow> = resources.iter().map(|group| GroupRow::of(group, now)).collect();
        let others = brokers.groups.into_iter().filter(|found| !declared.contains(&found.name));
        groups.extend(others.map(|found| GroupRow {
            group: found.name,
            consumes: found.consumes,
            ordered: found.ordered,
            max_attempts: found.max_attempts,
            resource: None,
        }));
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Self { groups }
    }
}

impl GroupRow {
    pub(super) fn of(group: &crds::ConsumerGroup, now: Timestamp) -> Self {
        Self {
            group: group.client_name(),
            consumes: group.spec.consume_enabled,
            ordered: group.spec.ordered,
            max_attempts: u32::try_from(group.spec.retry.max_attempts).unwrap_or_default(),
            resource: Some(GroupResource::of(group, now)),
        }
    }
}

impl View for GroupRows {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new([
            "GROUP", "CONSUMES", "ORDERED", "ATTEMPTS", "RESOURCE", "CLUSTER", "GROUPS", "STATUS", "AGE",
        ]);
        for row in &self.groups {
            let [name, cluster, groups, status, age] = match &row.resource {
                Some(GroupResource { name, standing }) => [
                    Cell::from(name),
                    Cell::from(&standing.name_server_set),
                    Cell::from(&standing.groups),
                    Cell::judged(standing.ready, standing.reason.as_str()),
                    Cell::from(&standing.age),
                ],
                None => ["-"; 5].map(Cell::from),
            };
            table.row([
                Cell::from(&row.group),
                Cell::judged(row.consumes, yes_no(row.consumes)),
                Cell::from(yes_no(row.ordered)),
                Cell::from(row.max_attempts),
                name,
                cluster,
                groups,
                status,
                age,
            ]);
        }
        table.text(paint)
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::commands::group::list::Group;
    use crate::output::{Format, render};

    #[test]
    fn resources_are_listed_with_their_condition_and_others_without() {
        let resource: crds::ConsumerGroup = serde_yaml::from_str(
            r#"
            apiVersion: mq.gantry.dev/v1alpha1
            kind: ConsumerGroup
            metadata: { name: billing-eu, namespace: shop, generation: 2, creationTimestamp: "2026-11-21T00:00:00Z" }
            spec: { nameServerRef: { name: main }, groupName: Billing_EU, consumeEnabled: false, retry: { maxAttempts: 5 } }
            status:
              observedGeneration: 2
              appliedGroups: 2/2
              conditions:
              - { type: Ready, status: "True", reason: Applied, message: all have it, lastTransitionTime: "2026-11-21T00:00:00Z" }
            "#,
        )
        .unwrap();
        let group = |name: &str| Group {
            name: name.to_owned(),
            consumes: true,
            ordered: true,
            max_attempts: 17,
            brokers: vec!["a".to_owned()],
            owner: String::new(),
        };
        let brokers = || Groups { groups: vec![group("Billing_EU"), group("audit")] };
        let now = "2026-11-21T01:30:00Z".parse().unwrap();
        let elsewhere =
            GroupRows::of(std::slice::from_ref(&resource), brokers(), Some(("shop", "other")), now);
        assert_eq!(elsewhere.groups.len(), 3, "that one of this name is in another cluster");
        let rows = GroupRows::of(&[resource], brokers(), Some(("shop", "main")), now);
        assert_snapshot!(render(&rows, Format::Table, Paint(false)).unwrap(), @r"
        GROUP        CONSUMES   ORDERED   ATTEMPTS   RESOURCE     CLUSTER   GROUPS   STATUS    AGE
        Billing_EU   no         no        5          billing-eu   main      2/2      Applied   1h30m
        audit        yes        yes       17         -            -         -        -         -
        ");
    }
}
