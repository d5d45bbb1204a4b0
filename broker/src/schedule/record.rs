//! What records of the log say about the schedule, and the records that say it. Only computes.
//!
//! ```text
//!   in rmq_sys_wheel_timer, queue 0, with REAL_TOPIC, REAL_QID and TIMER_OUT_MS, as RocketMQ's:
//!     a message that waits              its id is where it ends in the log: 0 is nobody's
//!     the same, moved                   TIMER_ROLL_TIMES; its prepared offset is the id
//!     that it was recalled              TIMER_DEL_UNIQKEY; its prepared offset is the id
//!   in any other topic:
//!     the message, delivered            its prepared offset is the id
//! ```
//!
//! So whatever the schedule knows can be read from the log again.

use store::schedule::Scheduled;
use store::{LogOffset, Passed, Properties, QueueId, Record};

/// Where messages wait.
pub(crate) const TOPIC: &str = "rmq_sys_wheel_timer";
/// The one queue there.
pub(crate) const QUEUE: QueueId = QueueId(0);
/// What is scheduled is to be delivered.
pub(super) const DELIVER: u8 = 1;

const REAL_TOPIC: &str = "REAL_TOPIC";
const REAL_QUEUE: &str = "REAL_QID";
const DUE: &str = "TIMER_OUT_MS";
const DELIVER_AT: &str = "TIMER_DELIVER_MS";
const MOVED: &str = "TIMER_ROLL_TIMES";
const RECALLED: &str = "TIMER_DEL_UNIQKEY";
const MESSAGE_ID: &str = "UNIQ_KEY";
/// Topics of the system: RocketMQ keeps what consumers popped in the same place.
const SYSTEM: &str = "rmq_sys_";
/// RocketMQ's `MessageSysFlag`: part of a transaction.
const TRANSACTION_BITS: i32 = 0b11 << 2;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// It waits.
    Waits { scheduled: Scheduled, topic: &'a str },
    /// It waits on, further behind in the log.
    Moved { scheduled: Scheduled, topic: &'a str },
    /// It must not be delivered.
    Recalled { due_ms: i64, id: LogOffset, topic: &'a str },
    /// It was delivered.
    Delivered { due_ms: i64, id: LogOffset, topic: &'a str },
}

/// What a record of the log says about the schedule.
pub(super) fn said_by<'a>(passed: &Passed<'a>) -> Option<Said<'a>> {
    let id = passed.prepared_offset;
    if passed.topic == TOPIC {
        return said_by_waiting(passed.log_offset, passed.size, id, passed.properties());
    }
    if id == LogOffset(0) || passed.sys_flag & TRANSACTION_BITS != 0 {
        return None;
    }
    let mut due_ms = None;
    for (name, value) in passed.properties() {
        match name {
            DUE => return Some(Said::Delivered { due_ms: value.parse().ok()?, id, topic: passed.topic }),
            DELIVER_AT => due_ms = value.parse().ok(),
            _ => {}
        }
    }
    Some(Said::Delivered { due_ms: due_ms?, id, topic: passed.topic })
}

/// The same of a record in [`TOPIC`].
pub(super) fn said_by_waiting<'a>(
    at: LogOffset,
    size: u32,
    prepared_offset: LogOffset,
    properties: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<Said<'a>> {
    let (mut due_ms, mut topic, mut is_moved, mut is_recalled) = (None, None, false, false);
    for (name, value) in properties {
        match name {
            DUE => due_ms = value.parse().ok(),
            REAL_TOPIC => topic = Some(value),
            MOVED => is_moved = true,
            RECALLED => is_recalled = true,
            _ => {}
        }
    }
    let (due_ms, topic) = (due_ms?, topic.filter(|topic| !topic.starts_with(SYSTEM))?);
    let has_id = prepared_offset != LogOffset(0);
    if is_recalled {
        // RocketMQ's own does not say which record it means.
        return has_id.then_some(Said::Recalled { due_ms, id: prepared_offset, topic });
    }
    let scheduled = |id| Scheduled { due_ms, id, at, size, kind: DELIVER };
    let own_id = at.plus(u64::from(size));
    Some(match is_moved && has_id {
        true => Said::Moved { scheduled: scheduled(prepared_offset), topic },
        false => Said::Waits { scheduled: scheduled(own_id), topic },
    })
}

/// Where a waiting message is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination<'a> {
    pub(super) topic: &'a str,
    pub(super) queue: u32,
    pub(super) message_id: &'a str,
}

pub(super) fn destination(record: &Record) -> Option<Destination<'_>> {
    let (mut topic, mut queue, mut message_id) = (None, None, "");
    for (name, value) in record.properties() {
        match name {
            REAL_TOPIC => topic = Some(value),
            REAL_QUEUE => queue = value.parse().ok(),
            MESSAGE_ID => message_id = value,
            _ => {}
        }
    }
    Some(Destination { topic: topic?, queue: queue.unwrap_or(0), message_id })
}

/// Adds what makes a message wait.
pub(crate) fn make_wait(properties: &mut Properties, topic: &str, queue: QueueId, due_ms: i64) {
    properties.push(REAL_TOPIC, topic);
    properties.push(REAL_QUEUE, &queue.to_string());
    properties.push(DUE, &due_ms.to_string());
}

/// The properties of the message that is delivered: those of the one that waits without what made it wait. When it was
/// due stays, under the name that consumers know if it has that.
pub(super) fn delivered(record: &Record) -> Properties {
    let mut properties = Properties::default();
    let has_own = record.properties().any(|(name, _)| name == DELIVER_AT);
    for (name, value) in record.properties() {
        match name {
            REAL_TOPIC | REAL_QUEUE | MOVED => {}
            DUE if has_own => {}
            name => properties.push(name, value),
        }
    }
    properties
}

/// The properties of the message that waits on, somewhere else.
pub(super) fn moved(record: &Record) -> Properties {
    let mut properties = Properties::default();
    let mut times = 0u32;
    for (name, value) in record.properties() {
        match name {
            MOVED => times = value.parse().unwrap_or(0),
            name => properties.push(name, value),
        }
    }
    properties.push(MOVED, &times.saturating_add(1).to_string());
    properties
}

/// The properties of a record that says that a message was recalled, in RocketMQ's words.
pub(super) fn recalled(topic: &str, message_id: &str, due_ms: i64) -> Properties {
    let mut properties = Properties::default();
    make_wait(&mut properties, topic, QUEUE, due_ms);
    properties.push(DELIVER_AT, &due_ms.to_string());
    properties.push(RECALLED, &format!("{topic}+{message_id}"));
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<'a>(prepared: u64, properties: &'a [(&'a str, &'a str)]) -> Option<Said<'a>> {
        said_by_waiting(LogOffset(1000), 200, LogOffset(prepared), properties.iter().copied())
    }

    #[test]
    fn records_of_the_timer_say_what_waits_what_moved_and_what_was_recalled() {
        let of =
            |id| Scheduled { due_ms: 77, id: LogOffset(id), at: LogOffset(1000), size: 200, kind: DELIVER };
        let waits = [(REAL_TOPIC, "orders"), (REAL_QUEUE, "3"), (DUE, "77")];
        assert_eq!(said(0, &waits), Some(Said::Waits { scheduled: of(1200), topic: "orders" }));
        let moved = [&waits[..], &[(MOVED, "1")]].concat();
        assert_eq!(said(500, &moved), Some(Said::Moved { scheduled: of(500), topic: "orders" }));
        // RocketMQ's own moves do not say which one they mean.
        assert_eq!(said(0, &moved), Some(Said::Waits { scheduled: of(1200), topic: "orders" }));
        let recalled = [&waits[..], &[(RECALLED, "orders+id")]].concat();
        let id = LogOffset(500);
        assert_eq!(said(500, &recalled), Some(Said::Recalled { due_ms: 77, id, topic: "orders" }));
        assert_eq!(said(0, &recalled), None);
    }

    #[test]
    fn what_consumers_of_rocketmq_popped_and_what_is_no_message_that_waits_says_nothing() {
        let pops = [(REAL_TOPIC, "rmq_sys_REVIVE_LOG_c"), (REAL_QUEUE, "0"), (DUE, "77")];
        for nothing in
            [&pops[..], &[(REAL_TOPIC, "orders")], &[(DUE, "77")], &[(REAL_TOPIC, "o"), (DUE, "x")]]
        {
            assert_eq!(said(0, nothing), None, "{nothing:?}");
        }
    }
}
