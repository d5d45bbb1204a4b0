//! `gantry group describe`.

use std::collections::{BTreeMap, BTreeSet};

use proto::control as wire;
use serde::Serialize;

use super::{backoff_text, find, missing};
use crate::args::GroupName;
use crate::failure::Failure;
use crate::kubernetes::GroupResource;
use crate::output::{Paint, Printer, Table, View};
use crate::place::Place;
use crate::{row, units};

/// A group, its progress and its consumers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// The group's name.
    pub name: String,
    /// Whether it receives messages.
    pub consumes: bool,
    /// Whether messages of one message group come in order.
    pub ordered: bool,
    /// Deliveries before a message becomes a dead letter.
    pub max_attempts: u32,
    /// How long a failed message stays away.
    pub backoff: String,
    /// The resource that is for it, in Kubernetes mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<GroupResource>,
    /// Who manages it; empty: nobody.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// The ids of the consumers that are here now.
    pub clients: Vec<String>,
    /// Its progress in each queue that it has consumed from.
    pub queues: Vec<Progress>,
    /// The topics that its consumers filter differently.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscription_conflicts: Vec<Conflict>,
}

/// A topic that the consumers filter differently, so that they take messages from each other.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    /// The topic.
    pub topic: String,
    /// The filters.
    pub filters: Vec<Filter>,
}

/// A filter that some of the consumers have.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// Such as `a || b` or `SQL a > 5`.
    pub filter: String,
    /// The ids of the consumers that have it, ten at most of each broker.
    pub clients: BTreeSet<String>,
}

/// How far the group is in one queue.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The topic.
    pub topic: String,
    /// The broker's name.
    pub broker: String,
    /// The queue's id.
    pub queue_id: u32,
    /// The next offset that was never delivered.
    pub cursor: u64,
    /// One past the newest message.
    pub max_offset: u64,
    /// Delivered, not acknowledged.
    pub in_flight: u64,
    /// Never delivered.
    pub waiting: u64,
}

impl View for Description {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new(["TOPIC", "BROKER", "QUEUE", "CURSOR", "END", "IN FLIGHT", "WAITING"]);
        for queue in &self.queues {
            let Progress { topic, broker, queue_id, cursor, max_offset, in_flight, waiting } = queue;
            table.row(row![topic, broker, queue_id, cursor, max_offset, in_flight, waiting]);
        }
        let conflicts: String =
            self.subscription_conflicts.iter().map(|conflict| conflict.text(paint)).collect();
        let waiting = self.queues.iter().map(|queue| queue.waiting).sum();
        let in_flight: u64 = self.queues.iter().map(|queue| queue.in_flight).sum();
        let owner = match (&self.resource, self.owner.as_str()) {
            (Some(resource), _) => format!("\n{}", resource.text(paint)),
            (None, "") => String::new(),
            (None, owner) => format!("\nmanaged by {owner}"),
        };
        let clients = match self.clients.as_slice() {
            [] => String::new(),
            clients => format!("\nconsumers: {}", clients.join(", ")),
        };
        format!(
            "{}: {}{}, {} attempts, backoff {}, {}, {} waiting, {in_flight} in flight{owner}{clients}\n\n{}{conflicts}",
            paint.heading(&self.name),
            if self.consumes { "consumes" } else { "paused" },
            if self.ordered { " in order" } else { "" },
            self.max_attempts,
            self.backoff,
            units::counted(self.clients.len() as u64, "consumer"),
            units::counted(waiting, "message"),
            table.text(paint),
        )
    }
}

impl Conflict {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new(["FILTER", "CONSUMERS"]);
        for Filter { filter, clients } in &self.filters {
            let clients: Vec<&str> = clients.iter().map(String::as_str).collect();
            table.row(row![filter, clients.join(", ")]);
        }
        format!(
            "\n\n{} consumers filter topic {} differently. Each gets what its own filter takes, and what that skips is gone for the whole group: give all of them one filter.\n\n{}",
            paint.bad("conflict:"),
            self.topic,
            table.text(paint),
        )
    }
}

/// Runs the command.
pub async fn run(place: Place, args: GroupName, out: Printer) -> Result<(), Failure> {
    let resource = match &place {
        Place::Kubernetes(kubernetes) => kubernetes.describe_group(&args.group).await?,
        Place::Direct(_) => None,
    };
    let control = place.control().await?;
    let mut found = Vec::new();
    for mut broker in control.primaries().await? {
        if let Some(description) = find(&mut broker, &args.group).await? {
            found.push((broker.label, description));
        }
    }
    let description = join(found).ok_or_else(|| missing(&args.group))?;
    out.print(&Description { resource, ..description })
}

fn join(found: Vec<(String, wire::DescribeGroupResponse)>) -> Option<Description> {
    let config = found.first()?.1.group.clone()?;
    let backoff = backoff_text(config.backoff.as_ref());
    let wire::GroupConfig { name, consume_enabled: consumes, ordered, max_attempts, backoff: _, owner } =
        config;
    let mut clients = Vec::new();
    let mut queues = Vec::new();
    let mut conflicts: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (broker, description) in found {
        clients.extend(description.client_ids);
        for wire::SubscriptionConflict { topic, filters } in description.subscription_conflicts {
            let conflict = conflicts.entry(topic).or_default();
            for wire::SubscriptionFilter { filter, client_ids, clients: _ } in filters {
                conflict.entry(filter).or_default().extend(client_ids);
            }
        }
        queues.extend(description.queues.into_iter().map(|queue| {
            let wire::GroupQueueState { topic, queue_id, cursor, in_flight, max_offset } = queue;
            let waiting = max_offset.saturating_sub(cursor);
            Progress { topic, broker: broker.clone(), queue_id, cursor, max_offset, in_flight, waiting }
        }));
    }
    // A consumer is connected to every broker.
    clients.sort();
    clients.dedup();
    queues.sort_by(|a, b| (&a.topic, &a.broker, a.queue_id).cmp(&(&b.topic, &b.broker, b.queue_id)));
    let conflict = |(topic, filters): (String, BTreeMap<_, _>)| {
        let filters = filters.into_iter().map(|(filter, clients)| Filter { filter, clients });
        Conflict { topic, filters: filters.collect() }
    };
    Some(Description {
        name,
        consumes,
        ordered,
        max_attempts,
        backoff,
        resource: None,
        owner,
        clients,
        queues,
        subscription_conflicts: conflicts.into_iter().map(conflict).collect(),
    })
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn progress_is_shown_for_each_queue_and_in_sum() {
        let group = wire::GroupConfig {
            name: "billing".to_owned(),
            consume_enabled: true,
            ordered: true,
            max_attempts: 17,
            backoff: Some(wire::Backoff {
                kind: Some(wire::backoff::Kind::Custom(wire::backoff::Custom {
                    delays_ms: vec![1_000, 5_000, 7_200_000],
                })),
            }),
            owner: "shop/billing/uid".to_owned(),
        };
        let queue = |queue_id, cursor, in_flight, max_offset| wire::GroupQueueState {
            topic: "orders".to_owned(),
            queue_id,
            cursor,
            in_flight,
            max_offset,
        };
        let of_broker = |queues| wire::DescribeGroupResponse {
            group: Some(group.clone()),
            queues,
            client_ids: vec!["host@1@0@abc".to_owned()],
            subscription_conflicts: Vec::new(),
            clients: Vec::new(),
        };
        let description = join(vec![
            ("broker-b".to_owned(), of_broker(vec![queue(0, 5, 0, 5)])),
            ("broker-a".to_owned(), of_broker(vec![queue(1, 90, 3, 100), queue(0, 7, 0, 8)])),
        ]);
        assert_snapshot!(render(&description.unwrap(), Format::Table, Paint(false)).unwrap(), @r"
        billing: consumes in order, 17 attempts, backoff 1s … 2h in 3 steps, 1 consumer, 11 messages waiting, 3 in flight
        managed by shop/billing/uid
        consumers: host@1@0@abc

        TOPIC    BROKER     QUEUE   CURSOR   END   IN FLIGHT   WAITING
        orders   broker-a   0       7        8     0           1
        orders   broker-a   1       90       100   3           10
        orders   broker-b   0       5        5     0           0
        ");
    }

    #[test]
    fn consumers_that_filter_a_topic_differently_are_shown_with_what_to_do() {
        let of_broker = |clients: [(&str, &str); 2]| {
            let filters = clients.map(|(filter, client)| wire::SubscriptionFilter {
                filter: filter.to_owned(),
                client_ids: vec![client.to_owned()],
                clients: 1,
            });
            wire::DescribeGroupResponse {
                group: Some(wire::GroupConfig { name: "billing".to_owned(), ..wire::GroupConfig::default() }),
                subscription_conflicts: vec![wire::SubscriptionConflict {
                    topic: "orders".to_owned(),
                    filters: filters.into(),
                }],
                ..wire::DescribeGroupResponse::default()
            }
        };
        let description = join(vec![
            ("broker-a".to_owned(), of_broker([("a || b", "host@1"), ("SQL price > 5", "host@2")])),
            ("broker-b".to_owned(), of_broker([("a || b", "host@1"), ("SQL price > 5", "host@3")])),
        ]);
        let text = render(&description.unwrap(), Format::Table, Paint(false)).unwrap();
        let conflict = text.split("\n\n").skip(2).collect::<Vec<_>>().join("\n\n");
        assert_snapshot!(conflict, @r"
        conflict: consumers filter topic orders differently. Each gets what its own filter takes, and what that skips is gone for the whole group: give all of them one filter.

        FILTER          CONSUMERS
        SQL price > 5   host@2, host@3
        a || b          host@1
        ");
    }
}
