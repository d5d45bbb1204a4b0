//! `gantry message trace`.

use proto::control as wire;
use serde::Serialize;
use wire::find_messages_request::Wanted;
use wire::group_trace::State;

use super::Stored;
use crate::args::MessageTraceArgs;
use crate::commands::topic::missing;
use crate::control::{Broker, Control, chosen};
use crate::failure::Failure;
use crate::output::{Paint, Printer, Table, View};
use crate::{row, units};

/// A message may be stored several times under one id: a client that gets no answer sends it again.
const MOST_COPIES: u32 = 16;
/// Of a group's dead letters, this many are looked at.
const MOST_DEAD: u32 = 1;

/// Everything that is stored under the id.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Newest first.
    pub copies: Vec<Copy>,
}

/// A message, and what became of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Copy {
    /// The message.
    pub stored: Stored,
    /// How far the groups are with it.
    pub groups: Vec<Group>,
}

/// How far a group is with a message.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its name.
    pub group: String,
    /// In a word.
    pub state: &'static str,
    /// How often it was delivered, while it is in flight.
    pub attempt: Option<u32>,
    /// When it is delivered again, Unix milliseconds.
    pub visible_at_ms: Option<i64>,
    /// Who has it.
    pub client_id: Option<String>,
}

impl View for Trace {
    fn text(&self, paint: Paint) -> String {
        let copies = self.copies.iter().map(|Copy { stored, groups }| {
            let mut table = Table::new(["GROUP", "STATE", "ATTEMPT", "AGAIN AT", "CLIENT"]);
            for group in groups {
                table.row(row![
                    &group.group,
                    group.state,
                    group.attempt.map_or("-".to_owned(), |attempt| attempt.to_string()),
                    group.visible_at_ms.map_or("-".to_owned(), units::instant),
                    group.client_id.as_deref().unwrap_or("-"),
                ]);
            }
            let groups = match groups.is_empty() {
                true => "no consumer group has looked at its topic".to_owned(),
                false => table.text(paint),
            };
            format!("{}\n\n{}", stored.text(paint), groups.trim_end())
        });
        copies.collect::<Vec<_>>().join("\n\n")
    }
}

/// Runs the command.
pub async fn run(control: Control, args: MessageTraceArgs, out: Printer) -> Result<(), Failure> {
    let MessageTraceArgs { id, topic, brokers } = args;
    let (mut copies, mut known) = (Vec::new(), false);
    for mut broker in chosen(control.primaries().await?, &brokers)? {
        let Some(found) = find(&mut broker, &topic, &id, MOST_COPIES).await? else { continue };
        known = true;
        for message in found {
            let place = wire::TraceMessageRequest {
                topic: topic.clone(),
                queue_id: message.queue_id,
                queue_offset: message.queue_offset,
            };
            let doing = format!("trace a message of {}", broker.label);
            let traced = broker.admin.trace_message(place).await;
            let traced = traced.map_err(|status| Failure::from_status(&doing, &status))?.into_inner();
            let mut groups = Vec::new();
            for trace in traced.groups {
                let dead = trace.state() == State::Done && is_dead(&mut broker, &trace.group, &id).await?;
                groups.push(Group::of(trace, dead));
            }
            copies.push(Copy { stored: Stored::of(&broker, message)?, groups });
        }
    }
    match (copies.is_empty(), known) {
        (true, false) => Err(missing(&topic)),
        (true, true) => Err(Failure::not_found(format!("topic {topic} has no message with the id {id}"))),
        (false, _) => out.print(&Trace { copies }),
    }
}

impl Group {
    fn of(trace: wire::GroupTrace, dead: bool) -> Self {
        let state = match trace.state() {
            State::NotYet => "not yet",
            State::Blocked => "waits for its message group",
            State::InFlight => "in flight",
            State::Done if dead => "dead letter",
            State::Done => "done",
        };
        let in_flight = trace.state() == State::InFlight;
        Self {
            group: trace.group,
            state,
            attempt: in_flight.then_some(trace.attempt),
            visible_at_ms: in_flight.then_some(trace.visible_at_ms),
            client_id: Some(trace.client_id).filter(|client| !client.is_empty()),
        }
    }
}

/// `None`: the broker does not have the topic.
async fn find(
    broker: &mut Broker,
    topic: &str,
    id: &str,
    limit: u32,
) -> Result<Option<Vec<wire::StoredMessage>>, Failure> {
    let request = wire::FindMessagesRequest {
        topic: topic.to_owned(),
        wanted: Some(Wanted::Id(id.to_owned())),
        stored_since_ms: None,
        stored_until_ms: None,
        limit,
    };
    match broker.admin.find_messages(request).await {
        Ok(found) => Ok(Some(found.into_inner().messages)),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(Failure::from_status(&format!("find messages on {}", broker.label), &status)),
    }
}

/// Whether the group gave the message up.
async fn is_dead(broker: &mut Broker, group: &str, id: &str) -> Result<bool, Failure> {
    let dead = find(broker, &format!("%DLQ%{group}"), id, MOST_DEAD).await?;
    Ok(dead.is_some_and(|dead| !dead.is_empty()))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::tests::stored;
    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn a_message_is_shown_with_what_became_of_it() {
        let trace = |group: &str, state: State, attempt, visible_at_ms, client_id: &str| wire::GroupTrace {
            group: group.to_owned(),
            state: state as i32,
            attempt,
            visible_at_ms,
            client_id: client_id.to_owned(),
        };
        let groups = vec![
            Group::of(trace("billing", State::Done, 0, 0, ""), false),
            Group::of(trace("mail", State::Done, 0, 0, ""), true),
            Group::of(trace("search", State::InFlight, 3, 1_795_628_590_000, "host@1@0@a"), false),
            Group::of(trace("stock", State::NotYet, 0, 0, ""), false),
        ];
        let copy = Copy { stored: stored("broker-a", 1_795_628_530_007, None), groups };
        assert_snapshot!(render(&Trace { copies: vec![copy] }, Format::Table, Paint(false)).unwrap(), @r"
        broker          broker-a
        topic           orders
        queue           3, offset 4711
        log offset      1073741824
        stored          2026-11-25T17:42:10.007Z by [2001:db8::1]:8081
        born            2026-11-25T17:42:09.000Z at 10.1.2.3:4567
        flags           0, system 0x20
        consumed before 0 times
        property        KEYS = k1 k2
        property        TAGS = eu
        property        UNIQ_KEY = 0A7F
        body            7 B, shown with --body

        GROUP     STATE         ATTEMPT   AGAIN AT                   CLIENT
        billing   done          -         -                          -
        mail      dead letter   -         -                          -
        search    in flight     3         2026-11-25T17:43:10.000Z   host@1@0@a
        stock     not yet       -         -                          -
        ");
    }
}
