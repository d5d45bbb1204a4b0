//! What must be in a store, whatever happened to it: nothing but lists.

use std::collections::BTreeMap;
use std::time::Duration;

use store::{QueueId, QueueOffset, ReadError, Store};

/// All topics that the traces use, two queues each.
pub(crate) const TOPICS: [&str; 3] = ["orders", "bills", "audit"];
pub(crate) const QUEUES: u32 = 2;
/// What is older may go.
pub(crate) const RETENTION: Duration = Duration::from_secs(60);

/// Topic, by its place in [`TOPICS`], and queue.
pub(crate) type Key = (usize, u32);

/// A message that was appended.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Where its record starts.
    pub(crate) start: u64,
    /// Where its batch ends: it is confirmed up to here or not at all.
    pub(crate) batch_end: u64,
    pub(crate) stored_at_ms: i64,
    pub(crate) body: Digest,
}

/// A body's number and length, which say all about it.
pub(crate) type Digest = (u64, usize);

/// The body of this digest.
pub(crate) fn body((number, len): Digest) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(len, b'x');
    body
}

/// # Panics
/// If it is no body that [`body`] makes.
pub(crate) fn digest(body: &[u8]) -> Digest {
    assert!(body[8..].iter().all(|&byte| byte == b'x'), "no test wrote this body: {body:?}");
    (u64::from_be_bytes(*body.first_chunk().unwrap()), body.len())
}

/// What a queue has, by queue offset.
pub(crate) type Found = BTreeMap<u64, Digest>;

/// Every message of every topic's present life, by queue and queue offset. Nothing is taken out when retention removes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) queues: BTreeMap<Key, BTreeMap<u64, Sent>>,
    /// Topics whose deletion may not be remembered yet: after a crash nobody knows what they have.
    pub(crate) unsure: Vec<usize>,
}

/// What a store must have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Messages whose batch ends up to here must be there.
    pub(crate) end: u64,
    /// Of those behind, only a suffix of the log may be missing.
    pub(crate) only_a_suffix_is_lost: bool,
    pub(crate) now_ms: i64,
}

pub(crate) fn keys() -> impl Iterator<Item = Key> {
    (0..TOPICS.len()).flat_map(|topic| (0..QUEUES).map(move |queue| (topic, queue)))
}

impl Expected {
    /// Forgets what a crash took and what retention removed, but for the last of each queue: its offset is not given out
    /// again.
    pub(crate) fn keep_found(&mut self, store: &Store, found: &BTreeMap<Key, Found>) {
        let log_min = store.state().min.0;
        for (key, queue) in &mut self.queues {
            let start = bounds(store, *key).start.0;
            let nothing = Found::new();
            let found = found.get(key).unwrap_or(&nothing);
            queue.retain(|offset, message| {
                found.contains_key(offset) || offset + 1 == start && message.start < log_min
            });
        }
    }

    /// Compares the queues with what the store gives of them, which is the answer.
    ///
    /// # Panics
    /// If something is missing that must be there, or something is there that was never appended.
    pub(crate) fn check(&self, store: &Store, demand: Demand) -> BTreeMap<Key, Found> {
        let mut all_found = BTreeMap::new();
        let log_min = store.state().min.0;
        let mut first_missing = u64::MAX;
        let mut last_found = None;
        for key in keys().filter(|key| !self.unsure.contains(&key.0)) {
            let bounds = bounds(store, key);
            let found = found(store, key);
            let nothing = BTreeMap::new();
            let sent = self.queues.get(&key).unwrap_or(&nothing);
            for (offset, body) in &found {
                let expected = sent.get(offset).unwrap_or_else(|| panic!("{key:?}: {offset} is a phantom"));
                assert!(*body == expected.body, "{key:?}: {offset} is another message");
                last_found = last_found.max(Some(expected.start));
            }
            for (offset, message) in sent {
                let must_be_there = message.batch_end <= demand.end;
                assert!(
                    !must_be_there || *offset < bounds.end.0,
                    "{key:?}: {offset} would be given out again, the queue ends at {}",
                    bounds.end
                );
                if found.contains_key(offset) {
                    continue;
                }
                let age_ms = demand.now_ms - message.stored_at_ms;
                if *offset < bounds.start.0 || message.start < log_min {
                    assert!(
                        !must_be_there || age_ms > RETENTION.as_millis() as i64,
                        "{key:?}: {offset} went too early, after {age_ms} ms"
                    );
                } else {
                    assert!(!must_be_there, "{key:?}: {offset} at {} is lost", message.start);
                    first_missing = first_missing.min(message.start);
                }
            }
            all_found.insert(key, found);
        }
        assert!(
            !demand.only_a_suffix_is_lost || last_found.is_none_or(|last| last < first_missing),
            "{first_missing} is lost and {last_found:?} is not"
        );
        all_found
    }
}

pub(crate) fn bounds(store: &Store, key: Key) -> std::ops::Range<QueueOffset> {
    store.queue_bounds(TOPICS[key.0], QueueId(key.1))
}

/// All that a queue has: bodies by offset.
pub(crate) fn found(store: &Store, key: Key) -> Found {
    let from = bounds(store, key).start;
    try_found(store, key, from).unwrap()
}

/// The same from `from` on, if the disk can be read. What retention removed meanwhile is left out.
pub(crate) fn try_found(store: &Store, key: Key, from: QueueOffset) -> Result<Found, ReadError> {
    let mut found = Found::new();
    for entry in store.entries(TOPICS[key.0], QueueId(key.1), from, usize::MAX)? {
        match store.record(&entry) {
            Ok(record) => {
                found.insert(entry.queue_offset.0, digest(&record.body));
            }
            Err(ReadError::Deleted { .. }) if entry.log_offset < store.state().min => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
