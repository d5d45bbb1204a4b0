//! Taking over the metadata of a RocketMQ broker, and giving it back.
//!
//! ```text
//!   config/*.json ── files, fastjson ──► JavaConfig ── plan (pure) ──► topics, groups, cursors ──┐
//!   the log ─────────────────────────────────────────── waiting ─────► what groups get again ────┴─► meta.redb, at once
//!   meta.redb ── give_back ──► JavaConfig ── write ──► config/*.json
//! ```
//!
//! The log of a Java broker is opened as it lies; what it knew of topics, groups and their progress is taken from its files
//! when they are new: the first time, and again when RocketMQ wrote them anew. What is ours by then stays: topics and groups
//! are added, cursors only move forward.

mod fastjson;
mod files;
mod levels;
mod plan;
mod popped;
mod waiting;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use store::{ReadError as LogError, Store};

pub use fastjson::quote_integer_keys;
pub use files::*;

use crate::delivery::{KeptStanding, put_standings, standings};
use crate::meta::{self, Definition, Meta};
use crate::topics::kept::{self, Change};
use crate::topics::{Backoff, GroupConfig, MessageType, TopicConfig};
use plan::{Ours, Plan, plan};
use waiting::{Found, GroupQueue};

/// What was taken over last, under the key `rocketmq`.
const TAKEN: Definition = Definition::new("takenOver");
const FROM: &str = "rocketmq";
const FORMAT: u32 = 1;
/// So many of what is left are told one by one.
const TOLD_ONE_BY_ONE: usize = 20;

/// Why metadata is not taken over, or not given back. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// RocketMQ's files.
    #[error(transparent)]
    Files(#[from] ReadError),
    /// Our own.
    #[error(transparent)]
    Meta(#[from] meta::Error),
    /// Messages with a delay level cannot be appended where they wait here.
    #[error("cannot take over messages with a delay level: {0}")]
    Levels(#[from] levels::NotMoved),
    /// The messages that wait.
    #[error("cannot read what waits in RocketMQ's topics: {0}")]
    Log(#[from] LogError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Taken {
    format: u32,
    /// Of the files.
    fingerprint: u32,
    /// Where the log ended then.
    log_end: u64,
}

/// Before anything is written to a directory that is new to us: its files must be good.
pub(crate) fn check(config: &Path) -> Result<(), ReadError> {
    if config.join("meta.redb").exists() { Ok(()) } else { read(config).map(drop) }
}

/// RocketMQ's own views of the log tell of what was cut; without them it builds them anew. It knows none of this folder's
/// files that are ours.
pub(crate) fn remove_views(data_dir: &Path) -> std::io::Result<()> {
    let missing = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    for folder in ["consumequeue", "index"] {
        missing(std::fs::remove_dir_all(data_dir.join(folder)))?;
    }
    missing(std::fs::remove_file(data_dir.join("checkpoint")))
}

/// Takes over what is new, in one transaction, and tells it.
pub(crate) fn take_over(
    config: &Path,
    meta: &Meta,
    store: &Store,
    max_attempts: u32,
    now_ms: i64,
) -> Result<(), Error> {
    let Some(files) = JavaFiles::look(config)? else { return Ok(()) };
    let before = taken(meta)?;
    let fingerprint = files.fingerprint();
    if before.is_some_and(|before| before.fingerprint == fingerprint) {
        return Ok(());
    }
    let java = files.parse()?;
    let ours = Ours { topics: kept::topics(meta)?, groups: kept::groups(meta)? };
    let plan = plan(&java, &ours, max_attempts);
    let since = before.map_or(0, |before| before.log_end);
    let found = waiting::find(store, &java, &plan, since, now_ms)?;
    let known = standings(meta)?
        .into_iter()
        .map(|known| ((known.group.clone(), known.topic.clone(), known.queue), known));
    let moved = moved(&plan, &found, &known.collect());
    // Before it is written down that they are taken over: rather twice than lost.
    levels::append(store, &found.levels, now_ms)?;
    let taken = Taken { format: FORMAT, fingerprint, log_end: store.state().appended.0 };
    let taken = serde_json::to_vec(&taken).expect("plain numbers are JSON");
    let topics = plan.topics.iter().map(|topic| Change::Topic(&topic.name, Some(topic)));
    let groups = plan.groups.iter().map(|group| Change::Group(&group.name, Some(group)));
    let changes: Vec<_> = topics.chain(groups).collect();
    meta.write(|transaction| {
        kept::write_within(transaction, &changes)?;
        put_standings(transaction, &moved)?;
        transaction.open_table(TAKEN)?.insert(FROM, taken.as_slice())?;
        Ok(())
    })?;
    tell(&plan, &found, &moved);
    Ok(())
}

fn taken(meta: &Meta) -> Result<Option<Taken>, meta::Error> {
    let all = meta.read_all(TAKEN, |name, value| {
        let damaged = |error: serde_json::Error| meta::Error::Damaged(format!("{name}: {error}"));
        serde_json::from_slice::<Taken>(value).map_err(damaged)
    })?;
    Ok(all.into_iter().find(|taken| taken.format <= FORMAT))
}

/// Where groups stand now, as far as that is new. Nobody goes back: what a group was done with here it is done with.
fn moved(plan: &Plan, found: &Found, known: &BTreeMap<GroupQueue, KeptStanding>) -> Vec<KeptStanding> {
    let mut moved = Vec::new();
    for (of, &cursor) in &plan.cursors {
        let again = found.again.get(of);
        let standing = match known.get(of) {
            Some(known) if known.cursor >= cursor => {
                let Some(again) = again else { continue };
                let mut standing = known.clone();
                let new = again.iter().filter(|new| known.again.iter().all(|old| old.offset != new.offset));
                standing.again.extend(new);
                standing.again.sort_by_key(|again| again.offset);
                standing
            }
            _ => {
                let (group, topic, queue) = of.clone();
                KeptStanding { group, topic, queue, cursor, again: again.cloned().unwrap_or_default() }
            }
        };
        moved.push(standing);
    }
    moved
}

/// A person must be able to see what became of everything.
fn tell(plan: &Plan, found: &Found, moved: &[KeptStanding]) {
    let again: usize = found.again.values().map(Vec::len).sum();
    tracing::warn!(
        topics = plan.topics.len(),
        groups = plan.groups.len(),
        positions = moved.len(),
        in_flight = again,
        not_taken = plan.left.len(),
        system = plan.system,
        "took over the metadata of a RocketMQ broker"
    );
    for (what, why) in plan.left.iter().take(TOLD_ONE_BY_ONE) {
        tracing::warn!(what, why, "not taken over from RocketMQ");
    }
    if plan.left.len() > TOLD_ONE_BY_ONE {
        tracing::warn!(more = plan.left.len() - TOLD_ONE_BY_ONE, "not taken over from RocketMQ either");
    }
    for ((group, lies_in), messages) in &found.orphans {
        tracing::error!(
            group,
            lies_in,
            messages,
            "messages wait for this group in RocketMQ's retry topic, and their originals are gone: it will not get them; read them there with `gantry store export`"
        );
    }
    for (lies_in, messages) in &found.delayed {
        match *lies_in {
            crate::schedule::TOPIC => tracing::info!(
                messages,
                "messages wait for their time in RocketMQ's timer; they are delivered then"
            ),
            lies_in => tracing::info!(
                lies_in,
                messages,
                "messages with a delay level wait for their time; they are delivered then"
            ),
        }
    }
    if found.half > 0 {
        tracing::warn!(
            messages = found.half,
            "transactions of RocketMQ were neither committed nor rolled back; their messages are kept"
        );
    }
}

/// Our topics, groups and their progress as RocketMQ has them, from the `config` folder of a stopped broker. What only RocketMQ
/// knows (its own topics and groups, how far delayed messages are) stays as its files there have it.
pub fn give_back(config: &Path) -> Result<JavaConfig, Error> {
    let mut java = read(config)?.unwrap_or_default();
    if !config.join("meta.redb").exists() {
        return Ok(java);
    }
    let meta = Meta::open(config, std::sync::Arc::default())?;
    for topic in kept::topics(&meta)? {
        let name = topic.name.to_string();
        let before = java.topics.remove(&name).unwrap_or_default();
        java.topics.insert(name, java_topic(&topic, before));
    }
    for group in kept::groups(&meta)? {
        java.groups.insert(group.name.to_string(), java_group(&group));
    }
    for KeptStanding { group, topic, queue, cursor, again } in standings(&meta)? {
        // RocketMQ knows one number: what was done beyond it is delivered again.
        let next = again.first().map_or(cursor, |again| again.offset.min(cursor));
        java.offsets.entry(TopicAndGroup { topic, group }).or_default().insert(queue, next);
    }
    meta.close();
    Ok(java)
}

fn java_topic(topic: &TopicConfig, before: JavaTopic) -> JavaTopic {
    let TopicConfig { name, read_queues, write_queues, readable, writable, message_type, owner: _ } = topic;
    let mut attributes = before.attributes.clone();
    match message_type {
        MessageType::Normal => attributes.remove("message.type"),
        other => attributes.insert("message.type".to_owned(), other.as_str().to_owned()),
    };
    JavaTopic {
        topic_name: name.to_string(),
        read_queue_nums: *read_queues,
        write_queue_nums: *write_queues,
        perm: u32::from(*readable) * 4 + u32::from(*writable) * 2,
        attributes,
        ..before
    }
}

fn java_group(group: &GroupConfig) -> JavaGroup {
    // RocketMQ has no place for the owner.
    let GroupConfig { name, consume_enabled, ordered, max_attempts, backoff, owner: _ } = group;
    let group_retry_policy = match backoff {
        Backoff::Custom { delays_ms } => JavaRetryPolicy {
            customized_retry_policy: Some(JavaCustomized { next: delays_ms.clone() }),
            ..JavaRetryPolicy::default()
        },
        Backoff::Exponential { initial_ms, max_ms, multiplier } => JavaRetryPolicy {
            kind: JavaRetryKind::Exponential,
            exponential_retry_policy: Some(JavaExponential {
                initial: *initial_ms,
                max: *max_ms,
                // RocketMQ has whole numbers only.
                multiplier: multiplier.round() as u64,
            }),
            ..JavaRetryPolicy::default()
        },
    };
    JavaGroup {
        group_name: name.to_string(),
        consume_enable: *consume_enabled,
        consume_message_orderly: *ordered,
        retry_max_times: i32::try_from(max_attempts.saturating_sub(1)).unwrap_or(i32::MAX),
        group_retry_policy,
        ..JavaGroup::default()
    }
}

#[cfg(test)]
mod tests;
