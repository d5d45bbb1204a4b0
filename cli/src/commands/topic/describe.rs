//! `gantry topic describe`.

use jiff::Timestamp;
use proto::control as wire;
use serde::Serialize;

use super::list::{Topic, of_config};
use super::{find, missing, queues_text};
use crate::args::TopicName;
use crate::control::Control;
use crate::failure::Failure;
use crate::output::{Paint, Printer, Table, View};
use crate::place::Place;
use crate::{row, units};

/// A topic and its queues.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// The topic as the first broker has it.
    #[serde(flatten)]
    pub topic: Topic,
    /// Messages that wait for their time, in all brokers. They are in no queue yet.
    pub waiting: u64,
    /// The queues of all brokers.
    pub queues: Vec<Queue>,
    /// How many lite topics it has in all brokers; their messages are in none of its queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lite_topics: Option<u64>,
    #[serde(skip)]
    now: Timestamp,
}

/// One queue of one broker.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// The broker's name.
    pub broker: String,
    /// The queue's id.
    pub queue_id: u32,
    /// Its oldest message.
    pub min_offset: u64,
    /// One past its newest message.
    pub max_offset: u64,
    /// When its newest message was stored; 0 if it is empty.
    pub last_stored_at_ms: i64,
}

impl View for Description {
    fn text(&self, paint: Paint) -> String {
        let Self { topic, waiting, queues, lite_topics, now } = self;
        let mut table = Table::new(["BROKER", "QUEUE", "FIRST", "END", "MESSAGES", "LAST STORED"]);
        for queue in queues {
            let last = units::since(queue.last_stored_at_ms, *now).map(|past| format!("{past} ago"));
            table.row(row![
                &queue.broker,
                queue.queue_id,
                queue.min_offset,
                queue.max_offset,
                queue.max_offset.saturating_sub(queue.min_offset),
                last.unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        let messages = queues.iter().map(|queue| queue.max_offset.saturating_sub(queue.min_offset)).sum();
        let waiting = match waiting {
            0 => String::new(),
            waiting => format!(", {waiting} waiting for their time"),
        };
        let owner = match topic.owner.as_str() {
            "" => String::new(),
            owner => format!("\nmanaged by {owner}"),
        };
        let contents = match lite_topics {
            Some(count) => units::counted(*count, "lite topic"),
            None => units::counted(messages, "message"),
        };
        format!(
            "{}: {}, {} queues a broker, {}, {contents}{waiting}{owner}\n\n{}",
            paint.heading(&topic.name),
            topic.message_type,
            queues_text(topic.read_queues, topic.write_queues),
            topic.permission,
            table.text(paint),
        )
    }
}

/// Runs the command.
pub async fn run(place: Place, args: TopicName, out: Printer) -> Result<(), Failure> {
    match place {
        Place::Kubernetes(kubernetes) => out.print(&kubernetes.describe_topic(&args.topic).await?),
        Place::Direct(server) => {
            let mut found = Vec::new();
            for mut broker in Control::connect(&server).await?.primaries().await? {
                if let Some(description) = find(&mut broker, &args.topic).await? {
                    found.push((broker.label, description));
                }
            }
            out.print(&join(found, Timestamp::now()).ok_or_else(|| missing(&args.topic))?)
        }
    }
}

fn join(found: Vec<(String, wire::DescribeTopicResponse)>, now: Timestamp) -> Option<Description> {
    let mut topic = of_config(found.first()?.1.topic.clone()?);
    let (mut queues, mut waiting, mut lite_topics) = (Vec::new(), 0, 0);
    for (broker, description) in found {
        waiting += description.waiting;
        lite_topics += description.lite_topics;
        topic.brokers.push(broker.clone());
        queues.extend(description.queues.into_iter().map(|queue| {
            let wire::QueueState { queue_id, min_offset, max_offset, last_stored_at_ms } = queue;
            Queue { broker: broker.clone(), queue_id, min_offset, max_offset, last_stored_at_ms }
        }));
    }
    let lite_topics = (topic.message_type == "Lite").then_some(lite_topics);
    Some(Description { topic, waiting, queues, lite_topics, now })
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    fn fixed() -> Description {
        let topic = wire::TopicConfig {
            name: "orders".to_owned(),
            read_queues: 2,
            write_queues: 2,
            readable: true,
            writable: true,
            message_type: wire::MessageType::Normal.into(),
            owner: String::new(),
        };
        let queue = |queue_id, min_offset, max_offset, last_stored_at_ms| wire::QueueState {
            queue_id,
            min_offset,
            max_offset,
            last_stored_at_ms,
        };
        let of_broker = |queues| {
            let topic = Some(topic.clone());
            wire::DescribeTopicResponse { topic, queues, waiting: 2, lite_topics: 3 }
        };
        join(
            vec![
                ("broker-a".to_owned(), of_broker(vec![queue(0, 10, 1510, 995_000), queue(1, 0, 0, 0)])),
                ("broker-b".to_owned(), of_broker(vec![queue(0, 0, 1, 1_000), queue(1, 0, 0, 0)])),
            ],
            Timestamp::from_millisecond(1_000_000).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn every_queue_takes_a_line() {
        assert_snapshot!(render(&fixed(), Format::Table, Paint(false)).unwrap(), @r"
        orders: Normal, 2 queues a broker, ReadWrite, 1501 messages, 4 waiting for their time

        BROKER     QUEUE   FIRST   END    MESSAGES   LAST STORED
        broker-a   0       10      1510   1500       5s ago
        broker-a   1       0       0      0          -
        broker-b   0       0       1      1          16m39s ago
        broker-b   1       0       0      0          -
        ");
    }

    #[test]
    fn a_topic_of_lite_topics_says_how_many_it_has() {
        let mut lite = fixed();
        lite.queues.clear();
        lite.topic.message_type = "Lite";
        lite.lite_topics = Some(6);
        assert_snapshot!(render(&lite, Format::Table, Paint(false)).unwrap(), @r"
        orders: Lite, 2 queues a broker, ReadWrite, 6 lite topics, 4 waiting for their time

        BROKER   QUEUE   FIRST   END   MESSAGES   LAST STORED
        ");
    }

    #[test]
    fn programs_get_the_same_facts() {
        let mut fixed = fixed();
        fixed.queues.truncate(1);
        assert_snapshot!(render(&fixed, Format::Json, Paint(false)).unwrap(), @r#"
        {
          "name": "orders",
          "type": "Normal",
          "readQueues": 2,
          "writeQueues": 2,
          "permission": "ReadWrite",
          "brokers": [
            "broker-a",
            "broker-b"
          ],
          "waiting": 4,
          "queues": [
            {
              "broker": "broker-a",
              "queueId": 0,
              "minOffset": 10,
              "maxOffset": 1510,
              "lastStoredAtMs": 995000
            }
          ]
        }
        "#);
    }
}
