//! Messages by key: the index says where they may be, the log whether they are.

use std::ops::Range;

use crate::commit_log::codec::{Announced, Head, MAX_RECORD_BYTES, announced_by};
use crate::views::keys::{has_id, has_key};
use crate::{LogOffset, Record, Store};

/// A look-up gives up after so many records that were not wanted: somebody may choose keys whose hashes are the same.
const MOST_IN_VAIN: usize = 10_000;

/// What to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// Messages with this key among those in the property `KEYS`, or with this unique id, as in RocketMQ.
    Key(&'a str),
    /// Messages with this in the property `UNIQ_KEY`. Usually one; a producer that tries again may make more.
    Id(&'a str),
}

impl By<'_> {
    fn key(&self) -> &str {
        match self {
            Self::Key(key) | Self::Id(key) => key,
        }
    }

    fn is(&self, properties: &[u8]) -> bool {
        match self {
            Self::Key(key) => has_key(properties, key),
            Self::Id(id) => has_id(properties, id),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    /// Newest first.
    pub records: Vec<Record>,
    /// The search ended at the limit: there may be older ones.
    pub more: bool,
    /// So many bytes of the log are not indexed yet, and were not searched. 0 but for a while after a crash, after the
    /// index was turned on or damaged, or if it falls far behind.
    pub unsearched_bytes: u64,
}

/// Why nothing can be found.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FindError {
    /// The configuration turns the index off.
    #[error("this store keeps no key index: turn it on in the configuration to find messages by key or id")]
    Off,
    /// Nobody waits for the answer any more.
    #[error("the search was given up")]
    GivenUp,
}

impl Store {
    /// At most `limit` messages of a topic that were stored at these times (Unix milliseconds, the end excluded), newest
    /// first. Whatever was confirmed before the call is found, unless [`Matches::unsearched_bytes`] says otherwise. Messages
    /// that are deleted, of a topic that was, or damaged are not found. It may wait for the disk.
    pub fn find(
        &self,
        topic: &str,
        wanted: By<'_>,
        stored_ms: Range<i64>,
        limit: usize,
    ) -> Result<Matches, FindError> {
        self.find_while(topic, wanted, stored_ms, limit, &|| true)
    }

    /// Like [`Store::find`], while somebody waits for it: `awaited` is asked before each look at the disk.
    pub fn find_while(
        &self,
        topic: &str,
        wanted: By<'_>,
        stored_ms: Range<i64>,
        limit: usize,
        awaited: &dyn Fn() -> bool,
    ) -> Result<Matches, FindError> {
        let inner = self.inner();
        let keys = inner.keys.as_ref().ok_or(FindError::Off)?;
        let confirmed = inner.dispatch.confirmed();
        'anew: loop {
            keys.catch_up(confirmed, &|| {
                // An error closes the log, and whoever appends hears of it.
                let _ = inner.flusher.flush();
            });
            let mut search = keys.search(topic, wanted.key(), &stored_ms);
            let mut found = Matches { unsearched_bytes: keys.missing_bytes(confirmed), ..Matches::default() };
            let mut in_vain = 0;
            loop {
                if !awaited() {
                    return Err(FindError::GivenUp);
                }
                // Each time a part of the index is thrown away, so this ends.
                let Ok(next) = search.next() else { continue 'anew };
                let Some(at) = next else { return Ok(found) };
                if found.records.len() == limit || in_vain == MOST_IN_VAIN {
                    found.more = true;
                    return Ok(found);
                }
                match self.record_if(at, topic, wanted, keys.came_from_disk(at)) {
                    Some(record) if stored_ms.contains(&record.stored_at_ms) => found.records.push(record),
                    _ => in_vain += 1,
                }
            }
        }
    }

    /// The record at this place, if it is of this topic, wanted and whole.
    fn record_if(&self, at: LogOffset, topic: &str, wanted: By<'_>, verify: bool) -> Option<Record> {
        let inner = self.inner();
        let start = inner.log.slice(at, 8).ok()?;
        let Announced::Record(size) = announced_by(start.first_chunk()?, MAX_RECORD_BYTES) else {
            return None;
        };
        let bytes = inner.log.slice(at, size as u64).ok()?;
        let head = Head::parse(&bytes).ok()?;
        if head.place != at || head.topic(&bytes) != topic || !wanted.is(&bytes[head.properties.clone()]) {
            return None;
        }
        if verify {
            let flaw = head.verify(&bytes, at).err();
            if let Some(flaw) = flaw {
                inner.log.note_damage(at.0..at.0 + size as u64, &flaw);
                return None;
            }
        }
        (!inner.views.hides(topic, at)).then(|| head.into_record(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::MemoryDisk;
    use crate::{Config, NewRecord, Properties, QueueId, SystemClock};

    /// Three hashes for all keys.
    fn weak(_topic: &[u8], key: &[u8]) -> u64 {
        [0, 7, u64::MAX][key.last().map_or(0, |byte| usize::from(*byte)) % 3]
    }

    fn open(disk: &MemoryDisk) -> Store {
        let config = Config { segment_bytes: 64 << 10, key_buffer_entries: 2000, ..Config::new("/data") };
        Store::open_by_hash(Arc::new(disk.clone()), Arc::new(SystemClock), config, weak).unwrap().0
    }

    fn append(store: &Store, topic: &str, keys: &str) {
        let mut properties = Properties::default();
        properties.push("KEYS", keys);
        let host = "10.0.0.1:8081".parse().unwrap();
        let record = NewRecord {
            topic,
            queue_id: QueueId(0),
            body: b"",
            properties: properties.as_bytes(),
            tag: None,
            flag: 0,
            sys_flag: 0,
            born_at_ms: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_offset: LogOffset(0),
        };
        store.append(&[record]).unwrap();
    }

    fn find(store: &Store, topic: &str, key: &str, limit: usize) -> (usize, bool) {
        let found = store.find(topic, By::Key(key), i64::MIN..i64::MAX, limit).unwrap();
        for record in &found.records {
            assert_eq!(record.topic, topic);
            assert!(record.properties().any(|(_, value)| value.split(' ').any(|word| word == key)));
        }
        (found.records.len(), found.more)
    }

    #[test]
    fn keys_whose_hashes_are_the_same_are_told_apart() {
        let disk = MemoryDisk::default();
        let store = open(&disk);
        for n in 0..6000 {
            append(&store, ["a", "b"][n % 2], &format!("{} {}", n % 50, n % 50 + 3));
        }
        let check = |store: &Store| {
            for key in 0..53 {
                let in_topic = |topic: &str| usize::from(topic == "b");
                for topic in ["a", "b"] {
                    let of = |n: usize| n < 50 && n % 2 == in_topic(topic);
                    let expected = 120 * (usize::from(of(key)) + usize::from(key >= 3 && of(key - 3)));
                    assert_eq!(
                        find(store, topic, &key.to_string(), 1000),
                        (expected, false),
                        "{topic} {key}"
                    );
                }
            }
        };
        check(&store);
        store.close().unwrap();
        check(&open(&disk));
    }

    #[test]
    fn a_look_up_among_too_many_of_the_same_hash_ends_and_says_so() {
        let store = open(&MemoryDisk::default());
        append(&store, "t", "needle-0");
        for n in 0..MOST_IN_VAIN {
            append(&store, "t", &format!("{n}-0"));
        }
        assert_eq!(find(&store, "t", "needle-0", 5), (0, true));
        append(&store, "t", "needle-0");
        assert_eq!(find(&store, "t", "needle-0", 5), (1, true));
    }

    #[test]
    fn a_look_up_that_nobody_waits_for_any_more_ends() {
        let store = open(&MemoryDisk::default());
        (0..10).for_each(|_| append(&store, "t", "k"));
        let asked = std::cell::Cell::new(0);
        let awaited = || asked.replace(asked.get() + 1) < 5;
        let found = store.find_while("t", By::Key("k"), i64::MIN..i64::MAX, 10, &awaited);
        assert!(matches!(found, Err(FindError::GivenUp)), "{found:?}");
    }
}
