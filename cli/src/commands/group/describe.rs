//! `gantry group describe`.

use proto::control as wire;
use serde::Serialize;

use super::{backoff_text, find, missing};
use crate::args::GroupName;
use crate::control::Control;
use crate::failure::Failure;
use crate::output::{Paint, Printer, Table, View};
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
    /// The ids of the consumers that are here now.
    pub clients: Vec<String>,
    /// Its progress in each queue that it has consumed from.
    pub queues: Vec<Progress>,
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
        let waiting = self.queues.iter().map(|queue| queue.waiting).sum();
        let in_flight: u64 = self.queues.iter().map(|queue| queue.in_flight).sum();
        let clients = match self.clients.as_slice() {
            [] => String::new(),
            clients => format!("\nconsumers: {}", clients.join(", ")),
        };
        format!(
            "{}: {}{}, {} attempts, backoff {}, {}, {} waiting, {in_flight} in flight{clients}\n\n{}",
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

/// Runs the command.
pub async fn run(control: Control, args: GroupName, out: Printer) -> Result<(), Failure> {
    let mut found = Vec::new();
    for mut broker in control.primaries().await? {
        if let Some(description) = find(&mut broker, &args.group).await? {
            found.push((broker.label, description));
        }
    }
    out.print(&join(found).ok_or_else(|| missing(&args.group))?)
}

fn join(found: Vec<(String, wire::DescribeGroupResponse)>) -> Option<Description> {
    let config = found.first()?.1.group.clone()?;
    let backoff = backoff_text(config.backoff.as_ref());
    let wire::GroupConfig { name, consume_enabled: consumes, ordered, max_attempts, backoff: _ } = config;
    let mut clients = Vec::new();
    let mut queues = Vec::new();
    for (broker, description) in found {
        clients.extend(description.client_ids);
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
    Some(Description { name, consumes, ordered, max_attempts, backoff, clients, queues })
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
        };
        let description = join(vec![
            ("broker-b".to_owned(), of_broker(vec![queue(0, 5, 0, 5)])),
            ("broker-a".to_owned(), of_broker(vec![queue(1, 90, 3, 100), queue(0, 7, 0, 8)])),
        ]);
        assert_snapshot!(render(&description.unwrap(), Format::Table, Paint(false)).unwrap(), @r"
        billing: consumes in order, 17 attempts, backoff 1s … 2h in 3 steps, 1 consumer, 11 messages waiting, 3 in flight
        consumers: host@1@0@abc

        TOPIC    BROKER     QUEUE   CURSOR   END   IN FLIGHT   WAITING
        orders   broker-a   0       7        8     0           1
        orders   broker-a   1       90       100   3           10
        orders   broker-b   0       5        5     0           0
        ");
    }
}
