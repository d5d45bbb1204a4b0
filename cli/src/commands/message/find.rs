//! `gantry message find`.

use std::cmp::Reverse;

use proto::control as wire;
use serde::Serialize;
use wire::find_messages_request::Wanted;

use super::Stored;
use crate::args::MessageFindArgs;
use crate::commands::topic::missing;
use crate::control::{Control, chosen};
use crate::failure::Failure;
use crate::output::{Paint, Printer, Table, View};
use crate::{row, units};

/// The messages found.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Newest first.
    pub messages: Vec<Stored>,
    /// There may be older ones.
    pub more: bool,
    /// So many bytes of the brokers' logs were not searched, because they are not indexed yet.
    pub unsearched_bytes: u64,
}

impl View for Found {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new(["BROKER", "QUEUE", "OFFSET", "STORED", "BODY", "TAG", "KEYS", "ID"]);
        for Stored { broker, message, body_bytes } in &self.messages {
            let property = |name| message.properties.get(name).unwrap_or("-");
            table.row(row![
                broker,
                message.queue_id,
                message.queue_offset,
                units::instant(message.stored_at_ms),
                units::bytes(*body_bytes),
                property("TAGS"),
                property("KEYS"),
                property("UNIQ_KEY"),
            ]);
        }
        table.text(paint)
    }
}

/// What one broker answered.
struct Answer {
    /// Newest first.
    messages: Vec<Stored>,
    more: bool,
    unsearched_bytes: u64,
}

/// Runs the command.
pub async fn run(control: Control, args: MessageFindArgs, out: Printer) -> Result<(), Failure> {
    let MessageFindArgs { topic, key, id, since, until, limit, brokers } = args;
    let mut answers = Vec::new();
    for mut broker in chosen(control.primaries().await?, &brokers)? {
        let request = wire::FindMessagesRequest {
            topic: topic.clone(),
            wanted: key.clone().map(Wanted::Key).or_else(|| id.clone().map(Wanted::Id)),
            stored_since_ms: since,
            stored_until_ms: until,
            limit,
        };
        match broker.admin.find_messages(request).await.map(tonic::Response::into_inner) {
            Ok(wire::FindMessagesResponse { messages, more, unsearched_bytes }) => {
                let messages = messages.into_iter().map(|message| Stored::of(&broker, message));
                answers.push(Answer {
                    messages: messages.collect::<Result<_, _>>()?,
                    more,
                    unsearched_bytes,
                });
            }
            // This broker does not have the topic.
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => {
                return Err(Failure::from_status(&format!("find messages on {}", broker.label), &status));
            }
        }
    }
    if answers.is_empty() {
        return Err(missing(&topic));
    }
    let found = merge(answers, usize::try_from(limit).unwrap_or(usize::MAX));
    if found.unsearched_bytes > 0 {
        let bytes = units::bytes(found.unsearched_bytes);
        eprintln!("{bytes} of log are not indexed yet and were not searched: ask again in a while");
    }
    if found.messages.is_empty() {
        let wanted = key.map(|key| format!("the key {key}")).or(id.map(|id| format!("the id {id}")));
        let wanted = wanted.unwrap_or_default();
        return Err(Failure::not_found(format!("topic {topic} has no message with {wanted} of that time")));
    }
    if found.more {
        eprintln!("there may be older ones: raise --limit, or look further back with --until");
    }
    out.print(&found)
}

/// The newest of all brokers.
fn merge(answers: Vec<Answer>, limit: usize) -> Found {
    // A broker that ended early has not told what is older than its last.
    let ends = answers.iter().filter(|answer| answer.more).filter_map(|answer| answer.messages.last());
    let told_from = ends.map(|last| last.message.stored_at_ms).max();
    let mut more = answers.iter().any(|answer| answer.more);
    let unsearched_bytes = answers.iter().map(|answer| answer.unsearched_bytes).sum();
    let mut messages: Vec<_> = answers.into_iter().flat_map(|answer| answer.messages).collect();
    messages.sort_by_key(|stored| Reverse((stored.message.stored_at_ms, stored.message.log_offset)));
    let all = messages.len();
    messages.retain(|stored| told_from.is_none_or(|from| stored.message.stored_at_ms >= from));
    messages.truncate(limit);
    more |= messages.len() < all;
    Found { messages, more, unsearched_bytes }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::tests::stored;
    use super::*;
    use crate::output::{Format, render};

    fn answer(broker: &str, stored_at_ms: impl IntoIterator<Item = i64>, more: bool) -> Answer {
        let messages = stored_at_ms.into_iter().map(|at_ms| stored(broker, at_ms, None));
        Answer { messages: messages.collect(), more, unsearched_bytes: 7 }
    }

    fn times(found: &Found) -> Vec<i64> {
        found.messages.iter().map(|stored| stored.message.stored_at_ms).collect()
    }

    #[test]
    fn the_newest_of_all_brokers_come_first() {
        let both = || vec![answer("a", [9, 5, 1], false), answer("b", [8, 7, 6], false)];
        let all = merge(both(), 10);
        assert_eq!((times(&all), all.more, all.unsearched_bytes), (vec![9, 8, 7, 6, 5, 1], false, 14));
        let some = merge(both(), 4);
        assert_eq!((times(&some), some.more), (vec![9, 8, 7, 6], true));
    }

    #[test]
    fn nothing_older_is_shown_than_where_a_broker_ended_early() {
        let found = merge(vec![answer("a", [9, 5], true), answer("b", [8, 5, 4], false)], 10);
        assert_eq!((times(&found), found.more), (vec![9, 8, 5, 5], true));
        let found = merge(vec![answer("a", [], true), answer("b", [8], false)], 10);
        assert_eq!((times(&found), found.more), (vec![8], true));
    }

    #[test]
    fn a_message_takes_a_line_and_programs_get_all_of_it() {
        let found = merge(vec![answer("broker-a", [1_795_628_530_007, 1_795_628_530_006], false)], 10);
        assert_snapshot!(render(&found, Format::Table, Paint(false)).unwrap(), @r"
        BROKER     QUEUE   OFFSET   STORED                     BODY   TAG   KEYS    ID
        broker-a   3       4711     2026-11-25T17:42:10.007Z   7 B    eu    k1 k2   0A7F
        broker-a   3       4711     2026-11-25T17:42:10.006Z   7 B    eu    k1 k2   0A7F
        ");
        let found = merge(vec![answer("broker-a", [1_795_628_530_007], true)], 10);
        assert_snapshot!(render(&found, Format::Json, Paint(false)).unwrap(), @r#"
        {
          "messages": [
            {
              "broker": "broker-a",
              "topic": "orders",
              "queueId": 3,
              "queueOffset": 4711,
              "logOffset": 1073741824,
              "storedAtMs": 1795628530007,
              "storeHost": "[2001:db8::1]:8081",
              "bornAtMs": 1795628529000,
              "bornHost": "10.1.2.3:4567",
              "flag": 0,
              "sysFlag": 32,
              "reconsumeTimes": 0,
              "preparedOffset": 0,
              "properties": {
                "KEYS": "k1 k2",
                "TAGS": "eu",
                "UNIQ_KEY": "0A7F"
              },
              "bodyBytes": 7
            }
          ],
          "more": true,
          "unsearchedBytes": 7
        }
        "#);
    }
}
