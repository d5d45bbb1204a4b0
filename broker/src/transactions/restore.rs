//! What waits is found in the log again after a restart.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use store::{QueueOffset, ReadError, Record, Store};

use super::pending::{Pending, Replay};
use super::records;
use crate::meta::{Definition, Error, Meta};

const TRANSACTIONS: Definition = Definition::new("transactions");
const REPLAY: &str = "replay";
/// Half messages by their offsets, and how often producers were asked about them.
const CHECKS: Definition = Definition::new("transaction_checks");
/// Entries read at a time.
const AT_ONCE: usize = 256;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    half_offset: u64,
    end_offset: u64,
}

/// Where reading begins; at the start of what is left, if that was never written down.
pub(super) fn replay(meta: &Meta) -> Result<Replay, Error> {
    let found = meta.read_all(TRANSACTIONS, |key, value| {
        let kept: Kept = serde_json::from_slice(value)
            .map_err(|error| Error::Damaged(format!("transactions {key}: {error}")))?;
        Ok((key == REPLAY).then_some(Replay { halves: kept.half_offset, ends: kept.end_offset }))
    })?;
    Ok(found.into_iter().flatten().next().unwrap_or_default())
}

/// How often producers were asked, by the offset of the half message.
pub(super) fn checks(meta: &Meta) -> Result<Vec<(u64, u32)>, Error> {
    meta.read_all(CHECKS, |key, value| {
        let count = <[u8; 4]>::try_from(value).ok().map(u32::from_be_bytes);
        let pair = key.parse().ok().zip(count);
        pair.ok_or_else(|| Error::Damaged(format!("the count of questions of transaction {key}")))
    })
}

/// With the counts of questions that changed; those of 0 are struck out. Blocks on the disk.
pub(super) fn keep(meta: &Meta, replay: Replay, checks: &[(u64, u32)]) -> Result<(), Error> {
    let kept = Kept { half_offset: replay.halves, end_offset: replay.ends };
    let value = serde_json::to_vec(&kept).expect("numbers are JSON");
    meta.write(|transaction| {
        transaction.open_table(TRANSACTIONS)?.insert(REPLAY, value.as_slice())?;
        let mut counts = transaction.open_table(CHECKS)?;
        for (offset, count) in checks {
            let key = offset.to_string();
            match count {
                0 => counts.remove(key.as_str())?,
                count => counts.insert(key.as_str(), count.to_be_bytes().as_slice())?,
            }
        }
        Ok(())
    })
}

/// The half messages that have not ended. Their producers are asked as if they were new: who knows how long this
/// broker was away. Blocks on the disk.
pub(super) fn pending(
    store: &Store,
    from: Replay,
    first_check_at: &dyn Fn(&records::Read) -> i64,
) -> Result<Pending, ReadError> {
    let mut ended = HashSet::new();
    walk(store, records::ENDS, from.ends, &mut |_, record| ended.extend(records::ended(record)))?;
    let mut pending = Pending::default();
    walk(store, records::HALVES, from.halves, &mut |offset, record| {
        if ended.contains(&offset) {
            return;
        }
        match records::read(record) {
            Some(read) => pending.insert(offset, read.topic.clone(), first_check_at(&read), from.ends),
            None => tracing::warn!(offset, "a record among the half messages is none, it is left alone"),
        }
    })?;
    Ok(pending)
}

fn walk(store: &Store, topic: &str, from: u64, see: &mut dyn FnMut(u64, &Record)) -> Result<(), ReadError> {
    let bounds = store.queue_bounds(topic, records::QUEUE);
    let mut at = bounds.start.max(QueueOffset(from));
    while at < bounds.end {
        let entries = store.entries(topic, records::QUEUE, at, AT_ONCE)?;
        let Some(last) = entries.last() else { return Ok(()) };
        at = QueueOffset(last.queue_offset.0 + 1);
        for entry in &entries {
            match store.record(entry) {
                Ok(record) => see(entry.queue_offset.0, &record),
                Err(ReadError::Io(error)) => return Err(ReadError::Io(error)),
                Err(error) => {
                    tracing::warn!(topic, offset = entry.queue_offset.0, %error, "a record of transactions is lost")
                }
            }
        }
    }
    Ok(())
}
