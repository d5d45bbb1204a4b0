//! Reads a store that nobody else has open, all of it, and says what a ledger makes of what is there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use store::{Config, Flush, QueueId, Recovered, Store};

use crate::driver::NAME;
use crate::ledger::{BodyHash, Ledger, Note, Outcome, Place, What};

/// Entries read with one call.
const BATCH: usize = 512;
/// The time in which asynchronous flush must have flushed whatever happens: the store's half second, and a busy machine.
const ASYNC_LIMIT_MS: u64 = 10_000;

/// Everything that a store holds.
#[derive(Debug, Default)]
pub struct Found {
    /// What recovery said.
    pub recovered: Recovered,
    /// Where the log starts.
    pub min: u64,
    /// By topic and queue id.
    pub queues: BTreeMap<(String, u32), Queue>,
    /// What could not be read, in words.
    pub unreadable: Vec<String>,
}

/// A queue's readable range and its messages.
#[derive(Debug, Default)]
pub struct Queue {
    /// As the store tells them.
    pub bounds: Range<u64>,
    /// In the order of the queue.
    pub messages: Vec<Message>,
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the queue.
    pub offset: u64,
    /// Its place in the log.
    pub log: u64,
    /// What it is called.
    pub name: String,
    /// Of its body.
    pub hash: BodyHash,
}

/// Opens a store, reads every message of these queues, and closes it.
pub fn read(config: &Config, topics: &[&str], queues: u32) -> Result<Found> {
    let (store, recovered) = Store::open(config.clone())?;
    let mut found = Found { recovered, min: store.state().min.0, ..Found::default() };
    for topic in topics {
        for id in 0..queues {
            let queue = read_queue(&store, topic, id, &mut found.unreadable);
            if !queue.bounds.is_empty() {
                found.queues.insert(((*topic).to_owned(), id), queue);
            }
        }
    }
    store.close().context("it was read and does not close")?;
    Ok(found)
}

fn read_queue(store: &Store, topic: &str, id: u32, unreadable: &mut Vec<String>) -> Queue {
    let bounds = store.queue_bounds(topic, QueueId(id));
    let mut queue = Queue { bounds: bounds.start.0..bounds.end.0, messages: Vec::new() };
    let mut from = bounds.start;
    loop {
        let entries = match store.entries(topic, QueueId(id), from, BATCH) {
            Ok(entries) => entries,
            Err(error) => {
                unreadable.push(format!("{topic} {id} from {from}: {error}"));
                break;
            }
        };
        let Some(last) = entries.last() else { break };
        from = last.queue_offset.plus(1);
        for entry in &entries {
            match store.record(entry) {
                Ok(record) => {
                    let name = record.properties().filter(|pair| pair.0 == NAME).last();
                    queue.messages.push(Message {
                        offset: entry.queue_offset.0,
                        log: entry.log_offset.0,
                        name: name.map(|pair| pair.1.to_owned()).unwrap_or_default(),
                        hash: BodyHash::of(&record.body),
                    });
                }
                Err(error) => unreadable.push(format!("{topic} {id} at {}: {error}", entry.queue_offset)),
            }
        }
    }
    queue
}

impl Found {
    /// Every message, in the order of the log.
    #[must_use]
    pub fn in_log_order(&self) -> Vec<(&str, u32, &Message)> {
        let all = self.queues.iter().flat_map(|((topic, id), queue)| {
            queue.messages.iter().map(move |message| (topic.as_str(), *id, message))
        });
        let mut all: Vec<_> = all.collect();
        all.sort_unstable_by_key(|(_, _, message)| message.log);
        all
    }

    /// A ledger's text of a world in which all that was found is acknowledged, and nothing else was ever sent.
    #[must_use]
    pub fn as_ledger(&self) -> String {
        let mut text = String::new();
        for (topic, queue, message) in self.in_log_order() {
            let Message { offset, log, name, hash } = message;
            let place = Place { queue: Some(queue), offset: Some(*offset), log: Some(*log) };
            // Messages of different lives have no order that the ledger would know.
            let attempt = What::Attempt { topic: topic.to_owned(), key: None, hash: *hash };
            for what in [attempt, What::Acknowledged(place)] {
                text += &format!("{}\n", Note::now(name, what));
            }
        }
        text
    }
}

/// What is promised about the store that is judged.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// What an acknowledgement means.
    pub flush: Flush,
    /// So much log is kept in any case.
    pub kept_bytes: u64,
    /// When the power went, Unix milliseconds.
    pub cut_at_ms: u64,
}

/// Everything that is wrong with what was found, in words. `ledger` knows what was acknowledged before the cut, and what was
/// attempted by then.
#[must_use]
pub fn judge(mut ledger: Ledger, found: &Found, promise: &Promise) -> Vec<String> {
    let mut wrong = found.unreadable.clone();
    for (_, queue, message) in found.in_log_order() {
        let place = Place { queue: Some(queue), offset: Some(message.offset), log: Some(message.log) };
        ledger.note(&Note::now(&message.name, What::Delivered { place, attempt: 1, hash: message.hash }));
    }
    let verdict = ledger.verdict();
    let end = ledger.messages().filter_map(|(_, message)| log_offset(message)).max().unwrap_or_default();
    let lost: Vec<_> =
        verdict.lost.iter().filter_map(|name| loss(&ledger, name, end, found, promise)).collect();
    for (what, names) in [
        ("altered", &verdict.altered),
        ("phantom", &verdict.phantom),
        ("duplicated", &verdict.duplicated),
        ("out of order", &verdict.out_of_order),
        ("lost", &lost),
    ] {
        if let Some(first) = names.first() {
            wrong.push(format!("{} {what}, for example {first}", names.len()));
        }
    }
    if promise.flush == Flush::Async {
        wrong.extend(holes(found));
    }
    wrong
}

/// Why an acknowledged message that was not found counts as lost; `None` if it may be gone. `end` is where the last
/// acknowledged one starts.
fn loss(ledger: &Ledger, name: &str, end: u64, found: &Found, promise: &Promise) -> Option<String> {
    let message = ledger.message(name)?;
    let Outcome::Acknowledged { at_ms, place } = message.outcome else { return None };
    let topic = &message.topic;
    let queue = found.queues.get(&(topic.clone(), place.queue.unwrap_or_default()));
    let bounds = queue.map(|queue| queue.bounds.clone());
    let removed = match (place.log, place.offset, &bounds) {
        (Some(log), _, _) => log < found.min,
        (None, Some(offset), Some(bounds)) => offset < bounds.start,
        (None, _, _) => false,
    };
    let why = if removed {
        let too_early = place.log.is_some_and(|log| log + promise.kept_bytes > end);
        too_early.then_some("retention took it too early")
    } else {
        let suffix = match (place.log, place.offset) {
            (Some(log), _) => log >= found.recovered.end.0,
            (None, offset) => bounds.as_ref().is_none_or(|bounds| offset >= Some(bounds.end)),
        };
        match promise.flush {
            Flush::Sync => Some("it was on the disk"),
            Flush::Async if !suffix => Some("what came later is there"),
            Flush::Async => {
                let age_ms = promise.cut_at_ms.saturating_sub(at_ms);
                (age_ms > ASYNC_LIMIT_MS).then_some("it was acknowledged long before")
            }
        }
    };
    why.map(|why| format!("{name} of {topic} at {place:?} (found {bounds:?}): {why}"))
}

fn log_offset(message: &crate::ledger::Message) -> Option<u64> {
    match message.outcome {
        Outcome::Acknowledged { place, .. } => place.log,
        Outcome::Maybe | Outcome::Refused => None,
    }
}

/// With asynchronous flush a power cut takes a suffix: what is left has no holes.
fn holes(found: &Found) -> Vec<String> {
    let mut wrong: Vec<_> =
        found.recovered.damaged.iter().map(|(at, bytes)| format!("{bytes} damaged bytes at {at}")).collect();
    for ((topic, id), queue) in &found.queues {
        let there = queue.messages.len() as u64;
        let expected = queue.bounds.end - queue.bounds.start;
        if there != expected {
            wrong.push(format!("{topic} {id} has {there} messages in {:?}", queue.bounds));
        }
    }
    wrong
}

/// What differs between the views as they were found and as they are when they are built anew from the log.
pub fn compare_with_rebuilt(
    found: &Found,
    config: &Config,
    topics: &[&str],
    queues: u32,
) -> Result<Vec<String>> {
    remove_views(&config.root)?;
    let rebuilt = read(config, topics, queues)?;
    ensure!(
        rebuilt.recovered.end == found.recovered.end,
        "the log ends elsewhere when the views are rebuilt"
    );
    let keys: std::collections::BTreeSet<_> = found.queues.keys().chain(rebuilt.queues.keys()).collect();
    let empty = Vec::new();
    let messages =
        |found: &Found, key| found.queues.get(key).map_or(empty.clone(), |queue| queue.messages.clone());
    let differ = keys.into_iter().filter(|key| messages(found, key) != messages(&rebuilt, key));
    Ok(differ
        .map(|key| {
            let (as_found, as_rebuilt) = (messages(found, key), messages(&rebuilt, key));
            format!(
                "{} {} has {} messages by its views and {} by the log",
                key.0,
                key.1,
                as_found.len(),
                as_rebuilt.len()
            )
        })
        .collect())
}

/// All that can be rebuilt; what topics were deleted is not in the log.
fn remove_views(root: &Path) -> Result<()> {
    for entry in std::fs::read_dir(root.join("views"))? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?;
        } else if path.file_name().is_none_or(|name| name != "deleted") {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::LogOffset;

    const PROMISE: Promise = Promise { flush: Flush::Sync, kept_bytes: 1000, cut_at_ms: 100 };

    /// Messages 0 to 4 of 100 bytes each, acknowledged at 10 ms.
    fn ledger() -> Ledger {
        let mut text = String::new();
        for number in 0..5_u64 {
            text += &format!(
                "10 attempt m{number} t k {number:016x}\n10 ack m{number} 0 {number} {}\n",
                number * 100
            );
        }
        Ledger::parse(&text).unwrap()
    }

    /// What a store with these of them says.
    fn found(numbers: &[u64], bounds: Range<u64>) -> Found {
        let message = |&number: &u64| Message {
            offset: number,
            log: number * 100,
            name: format!("m{number}"),
            hash: BodyHash(number),
        };
        let end = LogOffset(bounds.end * 100);
        let queue = Queue { bounds: bounds.clone(), messages: numbers.iter().map(message).collect() };
        Found {
            recovered: Recovered { end, ..Recovered::default() },
            min: bounds.start * 100,
            queues: BTreeMap::from([(("t".to_owned(), 0), queue)]),
            unreadable: Vec::new(),
        }
    }

    #[test]
    fn sync_may_lose_nothing_and_async_a_young_suffix() {
        let asynchronous = Promise { flush: Flush::Async, ..PROMISE };
        let old = Promise { cut_at_ms: 60_000, ..asynchronous };
        let early = Promise { kept_bytes: 0, ..PROMISE };
        for (numbers, bounds, promise, wrong) in [
            (&[0, 1, 2, 3, 4][..], 0..5, PROMISE, None),
            (&[0, 1, 2, 3], 0..4, PROMISE, Some("on the disk")),
            (&[0, 1, 2, 4], 0..5, PROMISE, Some("on the disk")),
            (&[0, 1, 2, 3], 0..4, asynchronous, None),
            (&[0, 1, 2, 4], 0..5, asynchronous, Some("what came later")),
            (&[0, 1, 2, 3], 0..4, old, Some("long before")),
            (&[2, 3, 4], 2..5, PROMISE, Some("too early")),
            (&[2, 3, 4], 2..5, early, None),
        ] {
            let complaints = judge(ledger(), &found(numbers, bounds), &promise);
            match wrong {
                None => assert!(complaints.is_empty(), "{numbers:?} {promise:?}: {complaints:?}"),
                Some(wrong) => {
                    assert!(complaints.iter().any(|c| c.contains(wrong)), "{numbers:?}: {complaints:?}")
                }
            }
        }
    }

    #[test]
    fn what_was_found_is_the_next_world_and_nothing_else_is() {
        let next = Ledger::parse(&found(&[0, 1], 0..2).as_ledger()).unwrap();
        assert_eq!((next.acknowledged_count(), next.missing()), (2, 2));
        let resurrected = judge(next, &found(&[0, 1, 2], 0..3), &PROMISE);
        assert!(resurrected.iter().any(|complaint| complaint.contains("phantom")), "{resurrected:?}");
    }
}
