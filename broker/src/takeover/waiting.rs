//! Messages that wait in RocketMQ's own topics when its store is taken over.
//!
//! RocketMQ keeps a message that a group is to get again as a copy, in `SCHEDULE_TOPIC_XXXX` until its time has come, then in
//! the group's retry topic. Here it stays where it is, and the group knows that it has it in flight. So for each copy its
//! original is looked for, by the unique key that both have, among those of its topic that were stored from ten minutes
//! before it was born until it was copied.
//!
//! What a group had popped and not acknowledged it has in flight as well: see `popped`.
//!
//! Messages that wait for their time, and transactions without an end, are counted, to be told; those with a delay level are
//! listed, see `levels`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use store::{QueueId, QueueOffset, ReadError, Record, Store};

use super::files::{JavaConfig, TopicAndGroup};
use super::levels::Leveled;
use super::plan::{Plan, RETRY};
use super::popped::{Accounts, Owed};
use crate::delivery::Again;

pub(super) const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";
const POPS: &str = "rmq_sys_REVIVE_LOG_";
const POPS_GROUP: &str = "CID_RMQ_SYS_REVIVE_GROUP";
const TIMER: &str = "rmq_sys_wheel_timer";
const HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const HALF_DONE: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// RocketMQ's default `messageDelayLevel`, seconds.
const DELAY_SECONDS: [i64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
/// A producer's clock may be ahead of the broker's by this.
const CLOCK_SKEW_MS: i64 = 600_000;
const AT_ONCE: usize = 256;

/// A group's queue: group, topic, queue id.
pub(super) type GroupQueue = (String, String, u32);

/// What waits.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// What groups are to get again.
    pub(super) again: BTreeMap<GroupQueue, Vec<Again>>,
    /// How many copies have no original any more, by group and the topic they lie in.
    pub(super) orphans: BTreeMap<(String, String), u64>,
    /// How many messages wait for their time, by the topic they lie in.
    pub(super) delayed: BTreeMap<&'static str, u64>,
    /// Those of them that have a delay level.
    pub(super) levels: Vec<Leveled>,
    /// Half messages that were neither committed nor rolled back.
    pub(super) half: u64,
}

/// A copy that waits.
struct Copy {
    group: String,
    lies_in: String,
    unique_key: String,
    /// How often it was delivered.
    attempt: u32,
    visible_at: i64,
    born_at_ms: i64,
    stored_at_ms: i64,
}

/// Looks for them. Copies before `since` were seen by an earlier take-over.
pub(super) fn find(
    store: &Store,
    java: &JavaConfig,
    plan: &Plan,
    since: u64,
    now_ms: i64,
) -> Result<Found, ReadError> {
    let mut found = Found::default();
    let mut copies: BTreeMap<String, Vec<Copy>> = BTreeMap::new();
    let mut keep = |group: &str, topic: Option<String>, record: &Record, visible_at: i64| {
        let lies_in = String::from_utf8_lossy(&record.topic).into_owned();
        copies.entry(topic.unwrap_or_default()).or_default().push(Copy {
            group: group.to_owned(),
            lies_in,
            unique_key: property(record, "UNIQ_KEY").unwrap_or_default(),
            attempt: u32::try_from(record.reconsume_times).unwrap_or(1).max(1),
            visible_at,
            born_at_ms: record.born_at_ms,
            stored_at_ms: record.stored_at_ms,
        });
    };

    for (name, topic) in java.topics.iter().filter(|(name, _)| name.starts_with(RETRY)) {
        let Some((group, popped)) = of_group(name, java) else { continue };
        let done = java.offsets.get(&TopicAndGroup { topic: name.clone(), group: group.to_owned() });
        for queue in 0..topic.read_queue_nums {
            let done = done.and_then(|queues| queues.get(&queue)).copied().unwrap_or(0);
            walk(store, name, queue, done, &mut |record| {
                if record.log_offset.0 >= since {
                    let topic = property(record, "RETRY_TOPIC").or_else(|| popped.map(str::to_owned));
                    keep(group, topic, record, now_ms);
                }
                true
            })?;
        }
    }
    for (level, seconds) in (1..).zip(DELAY_SECONDS) {
        let done = java.delay_offsets.get(&level).copied().unwrap_or(0);
        walk(store, SCHEDULE, level - 1, done, &mut |record| {
            let real_topic = property(record, "REAL_TOPIC").unwrap_or_default();
            match of_group(&real_topic, java) {
                Some((group, _)) if record.log_offset.0 >= since => {
                    let visible_at = record.stored_at_ms.saturating_add(seconds * 1000);
                    keep(group, property(record, "RETRY_TOPIC"), record, visible_at);
                }
                None if record.log_offset.0 >= since => {
                    *found.delayed.entry(SCHEDULE).or_default() += 1;
                    let due_ms = record.stored_at_ms.saturating_add(seconds * 1000);
                    found.levels.push(Leveled { queue: level - 1, offset: record.queue_offset.0, due_ms });
                }
                Some(_) | None => {}
            }
            true
        })?;
    }
    walk(store, TIMER, 0, 0, &mut |record| {
        let due = property(record, "TIMER_OUT_MS").and_then(|ms| ms.parse::<i64>().ok());
        let is_of_pops = property(record, "REAL_TOPIC").is_some_and(|topic| topic.starts_with(POPS));
        if due.is_some_and(|due| due > now_ms) && !is_of_pops {
            *found.delayed.entry(TIMER).or_default() += 1;
        }
        true
    })?;
    found.half = open_halves(store)?;
    for owed in owed(store, java, since)? {
        match of_group(&owed.topic, java) {
            // A retry topic's message is a copy itself.
            Some((group, popped)) => walk(store, &owed.topic, owed.queue, owed.offset, &mut |record| {
                if record.queue_offset.0 == owed.offset {
                    let topic = property(record, "RETRY_TOPIC").or_else(|| popped.map(str::to_owned));
                    keep(group, topic, record, owed.visible_at);
                }
                false
            })?,
            None => {
                let again = Again { offset: owed.offset, attempt: 1, visible_at: owed.visible_at };
                let of = (owed.group, owed.topic, owed.queue);
                if plan.cursors.get(&of).is_some_and(|cursor| owed.offset < *cursor) {
                    note(found.again.entry(of).or_default(), again);
                }
            }
        }
    }
    for (topic, copies) in copies {
        find_originals(store, java, plan, &topic, copies, &mut found)?;
    }
    Ok(found)
}

/// What groups had popped and not acknowledged.
fn owed(store: &Store, java: &JavaConfig, since: u64) -> Result<Vec<Owed>, ReadError> {
    let mut accounts = Accounts::default();
    let mut account = |record: &Record, settled: bool| {
        if record.log_offset.0 >= since {
            accounts.note(&property(record, "TAGS").unwrap_or_default(), &record.body, settled);
        }
        true
    };
    walk(store, TIMER, 0, 0, &mut |record| {
        let is_of_pops = property(record, "REAL_TOPIC").is_some_and(|topic| topic.starts_with(POPS));
        !is_of_pops || account(record, false)
    })?;
    for (name, topic) in java.topics.iter().filter(|(name, _)| name.starts_with(POPS)) {
        let done = java.offsets.get(&TopicAndGroup { topic: name.clone(), group: POPS_GROUP.to_owned() });
        for queue in 0..topic.read_queue_nums {
            let done = done.and_then(|queues| queues.get(&queue)).copied().unwrap_or(0);
            walk(store, name, queue, 0, &mut |record| account(record, record.queue_offset.0 < done))?;
        }
    }
    Ok(accounts.owed())
}

/// The group that a retry topic is of, and the topic if it is one of popped messages (`%RETRY%group_topic`, `%RETRY%group+topic`).
fn of_group<'a>(name: &'a str, java: &'a JavaConfig) -> Option<(&'a str, Option<&'a str>)> {
    let rest = name.strip_prefix(RETRY)?;
    let popped = |group: &str| {
        let topic = rest.strip_prefix(group)?.strip_prefix(['_', '+'])?;
        java.topics.contains_key(topic).then_some(topic)
    };
    if java.groups.contains_key(rest) {
        return Some((rest, None));
    }
    let groups = java.groups.keys().filter_map(|group| Some((group.as_str(), Some(popped(group)?))));
    groups.max_by_key(|(group, _)| group.len())
}

/// Halves that no record of the other topic names.
fn open_halves(store: &Store) -> Result<u64, ReadError> {
    let mut halves = BTreeSet::new();
    walk(store, HALF, 0, 0, &mut |record| {
        halves.insert(record.queue_offset.0);
        true
    })?;
    walk(store, HALF_DONE, 0, 0, &mut |record| {
        for offset in String::from_utf8_lossy(&record.body).split(',') {
            if let Ok(offset) = offset.trim().parse() {
                halves.remove(&offset);
            }
        }
        true
    })?;
    Ok(halves.len() as u64)
}

fn find_originals(
    store: &Store,
    java: &JavaConfig,
    plan: &Plan,
    topic: &str,
    copies: Vec<Copy>,
    found: &mut Found,
) -> Result<(), ReadError> {
    let from_ms = copies.iter().map(|copy| copy.born_at_ms).min().unwrap_or(0).saturating_sub(CLOCK_SKEW_MS);
    let to_ms = copies.iter().map(|copy| copy.stored_at_ms).max().unwrap_or(0);
    let mut by_key: HashMap<String, Vec<Copy>> = HashMap::new();
    for copy in copies {
        by_key.entry(copy.unique_key.clone()).or_default().push(copy);
    }
    // Without a key nothing can be found by it.
    let keyless = by_key.remove("").unwrap_or_default();
    let queues = java.topics.get(topic).map_or(0, |topic| topic.read_queue_nums.max(topic.write_queue_nums));
    for queue in 0..queues {
        let start = store.offset_at_time(topic, QueueId(queue), from_ms)?.0;
        walk(store, topic, queue, start, &mut |record| {
            let copies = property(record, "UNIQ_KEY").and_then(|key| by_key.remove(&key));
            for copy in copies.into_iter().flatten() {
                let of = (copy.group, topic.to_owned(), queue);
                // What lies behind its cursor a group gets anyway.
                if plan.cursors.get(&of).is_some_and(|cursor| record.queue_offset.0 < *cursor) {
                    let again = found.again.entry(of).or_default();
                    note(
                        again,
                        Again {
                            offset: record.queue_offset.0,
                            attempt: copy.attempt,
                            visible_at: copy.visible_at,
                        },
                    );
                }
            }
            record.stored_at_ms <= to_ms && !by_key.is_empty()
        })?;
    }
    for copy in by_key.into_values().flatten().chain(keyless) {
        *found.orphans.entry((copy.group, copy.lies_in)).or_default() += 1;
    }
    Ok(())
}

/// Each message once, in the order of the queue; of several copies the latest counts.
fn note(again: &mut Vec<Again>, new: Again) {
    match again.binary_search_by_key(&new.offset, |again| again.offset) {
        Ok(at) if again[at].attempt <= new.attempt => again[at] = new,
        Ok(_) => {}
        Err(at) => again.insert(at, new),
    }
}

/// Shows the records of a queue from `from` on, while `go_on` says so. Damaged ones are left out.
fn walk(
    store: &Store,
    topic: &str,
    queue: u32,
    from: u64,
    go_on: &mut dyn FnMut(&Record) -> bool,
) -> Result<(), ReadError> {
    let Range { start, end } = store.queue_bounds(topic, QueueId(queue));
    let mut at = from.max(start.0);
    while at < end.0 {
        let entries = match store.entries(topic, QueueId(queue), QueueOffset(at), AT_ONCE) {
            Ok(entries) => entries,
            // Retention works beside us.
            Err(ReadError::Deleted { min }) if min.0 > at => {
                at = min.0;
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(last) = entries.last() else { return Ok(()) };
        at = last.queue_offset.0 + 1;
        for entry in &entries {
            match store.record(entry) {
                Ok(record) if !go_on(&record) => return Ok(()),
                Ok(_) | Err(ReadError::Deleted { .. }) => {}
                Err(error @ ReadError::Io(_)) => return Err(error),
                Err(error) => {
                    tracing::error!(topic, queue, %error, "a message that cannot be read is not taken over")
                }
            }
        }
    }
    Ok(())
}

fn property(record: &Record, wanted: &str) -> Option<String> {
    record.properties().filter(|(name, _)| *name == wanted).last().map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_topic_names_its_group_whatever_their_names() {
        let mut java = JavaConfig::default();
        for group in ["a", "a_b", "billing"] {
            java.groups.insert(group.to_owned(), Default::default());
        }
        for topic in ["orders", "b_orders"] {
            java.topics.insert(topic.to_owned(), Default::default());
        }
        let check = |name, expected| assert_eq!(of_group(name, &java), expected, "{name}");
        check("%RETRY%billing", Some(("billing", None)));
        check("%RETRY%billing_orders", Some(("billing", Some("orders"))));
        check("%RETRY%billing+orders", Some(("billing", Some("orders"))));
        check("%RETRY%a_b_orders", Some(("a_b", Some("orders"))));
        check("%RETRY%a_b", Some(("a_b", None)));
        check("%RETRY%nobody", None);
        check("orders", None);
    }

    #[test]
    fn of_several_copies_of_a_message_the_latest_counts() {
        let mut again = Vec::new();
        let copy = |offset, attempt| Again { offset, attempt, visible_at: i64::from(attempt) };
        for new in [copy(7, 1), copy(3, 2), copy(7, 2), copy(3, 1)] {
            note(&mut again, new);
        }
        assert_eq!(again, [copy(3, 2), copy(7, 2)]);
    }
}
