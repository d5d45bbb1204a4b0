//! `gantry group reset`.

use proto::control as wire;
use serde::Serialize;
use wire::reset_offsets_request::{End as WireEnd, To};

use crate::args::{End, GroupResetArgs};
use crate::commands::topic::missing;
use crate::control::{Control, chosen};
use crate::failure::Failure;
use crate::output::{Paint, Printer, Table, View};
use crate::row;

/// Where the group goes on.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reset {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// False: it was only shown.
    pub done: bool,
    /// Queue by queue.
    pub queues: Vec<QueueReset>,
}

/// One queue.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueReset {
    /// The broker.
    pub broker: String,
    /// The queue there.
    pub queue_id: u32,
    /// The first offset that the group was not done with.
    pub before: u64,
    /// Where it goes on.
    pub after: u64,
    /// Deliveries that are forgotten.
    pub in_flight: u64,
}

impl View for Reset {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new(["BROKER", "QUEUE", "BEFORE", "AFTER", "IN FLIGHT"]);
        for QueueReset { broker, queue_id, before, after, in_flight } in &self.queues {
            table.row(row![broker, queue_id, before, after, in_flight]);
        }
        let outcome = match self.done {
            true => format!("group {} goes on there in topic {}", self.group, self.topic),
            false => "nothing was changed; without --dry-run the group goes on there".to_owned(),
        };
        format!("{}\n{outcome}", table.text(paint).trim_end())
    }
}

/// Runs the command.
pub async fn run(control: Control, args: GroupResetArgs, out: Printer) -> Result<(), Failure> {
    let GroupResetArgs { group, topic, to, time, offset, queues, brokers, dry_run } = args;
    let end = |end| match end {
        End::Earliest => To::End(WireEnd::Earliest as i32),
        End::Latest => To::End(WireEnd::Latest as i32),
    };
    let to = to.map(end).or(time.map(To::StoredAtMs)).or(offset.map(To::Offset));
    let mut reset = Reset { group: group.clone(), topic: topic.clone(), done: !dry_run, queues: Vec::new() };
    for mut broker in chosen(control.primaries().await?, &brokers)? {
        let request = wire::ResetOffsetsRequest {
            group: group.clone(),
            topic: topic.clone(),
            queue_ids: queues.clone(),
            to,
            dry_run,
        };
        match broker.admin.reset_offsets(request).await {
            Ok(answer) => {
                reset.queues.extend(answer.into_inner().queues.into_iter().map(|queue| QueueReset {
                    broker: broker.label.clone(),
                    queue_id: queue.queue_id,
                    before: queue.before,
                    after: queue.after,
                    in_flight: queue.in_flight,
                }))
            }
            // This broker does not have the topic.
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => {
                return Err(Failure::from_status(
                    &format!("reset group {group} on {}", broker.label),
                    &status,
                ));
            }
        }
    }
    if reset.queues.is_empty() {
        return Err(missing(&topic));
    }
    out.print(&reset)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn it_shows_queue_by_queue_where_the_group_goes_on() {
        let queue = |queue_id, before, after, in_flight| QueueReset {
            broker: "broker-a".to_owned(),
            queue_id,
            before,
            after,
            in_flight,
        };
        let reset = Reset {
            group: "billing".to_owned(),
            topic: "orders".to_owned(),
            done: true,
            queues: vec![queue(0, 4711, 0, 3), queue(1, 12, 0, 0)],
        };
        assert_snapshot!(render(&reset, Format::Table, Paint(false)).unwrap(), @"
        BROKER     QUEUE   BEFORE   AFTER   IN FLIGHT
        broker-a   0       4711     0       3
        broker-a   1       12       0       0
        group billing goes on there in topic orders
        ");
    }
}
