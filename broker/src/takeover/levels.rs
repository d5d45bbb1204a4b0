//! Messages with a delay level, which wait in `SCHEDULE_TOPIC_XXXX`: appended anew where our own wait for their time.
//!
//! RocketMQ would deliver them from there. Who goes back to RocketMQ before they are due gets them twice.

use access::TopicName;
use store::{
    AppendError, FlushFailed, LogOffset, NewRecord, Properties, QueueId, QueueOffset, ReadError, Record,
    Store,
};

use super::waiting::SCHEDULE;
use crate::schedule;

/// Appended in one go.
const AT_ONCE: usize = 64;
/// What made a message wait in RocketMQ.
const LEVEL: &str = "DELAY";
const REAL_TOPIC: &str = "REAL_TOPIC";
const REAL_QUEUE: &str = "REAL_QID";
const TIMER_PREFIX: &str = "TIMER_";

/// One that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leveled {
    /// Of `SCHEDULE_TOPIC_XXXX`: the level, from 0.
    pub(super) queue: u32,
    /// Its place there.
    pub(super) offset: u64,
    /// When it is due, Unix milliseconds.
    pub(super) due_ms: i64,
}

/// Why they cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum NotMoved {
    /// The log refuses.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The disk does not keep them.
    #[error(transparent)]
    Flush(#[from] FlushFailed),
}

/// Appends them, durably. What is due already is due now. Blocks on the disk.
///
/// # Errors
/// The log takes no messages. Some may have been appended, and come twice.
pub(super) fn append(store: &Store, levels: &[Leveled], now_ms: i64) -> Result<(), NotMoved> {
    for portion in levels.chunks(AT_ONCE) {
        let read: Vec<(Record, Properties)> =
            portion.iter().filter_map(|leveled| waiting(store, *leveled, now_ms)).collect();
        for (record, properties) in &read {
            let record = NewRecord {
                topic: schedule::TOPIC,
                queue_id: schedule::QUEUE,
                body: &record.body,
                properties: properties.as_bytes(),
                tag: property(record, "TAGS"),
                flag: record.flag,
                sys_flag: record.sys_flag,
                born_at_ms: record.born_at_ms,
                born_host: record.born_host,
                store_host: record.store_host,
                reconsume_times: record.reconsume_times,
                prepared_offset: LogOffset(0),
            };
            store.append(&[record])?;
        }
    }
    if !levels.is_empty() {
        store.flush()?;
    }
    Ok(())
}

/// The record, and the properties with which it waits here. `None`: it cannot be read, or says not where it goes.
fn waiting(store: &Store, leveled: Leveled, now_ms: i64) -> Option<(Record, Properties)> {
    let Leveled { queue, offset, due_ms } = leveled;
    let read = store.entries(SCHEDULE, QueueId(queue), QueueOffset(offset), 1);
    let record = read.and_then(|entries| match entries.first() {
        Some(entry) if entry.queue_offset.0 == offset => store.record(entry),
        _ => Err(ReadError::Deleted { min: QueueOffset(offset) }),
    });
    let record = match record {
        Ok(record) => record,
        Err(error) => {
            tracing::error!(queue, offset, %error, "a delayed message of RocketMQ's cannot be read, it is not delivered");
            return None;
        }
    };
    let topic = property(&record, REAL_TOPIC).and_then(|name| TopicName::internal(name).ok());
    let real_queue = property(&record, REAL_QUEUE).and_then(|queue| queue.parse().ok()).map(QueueId);
    let Some((topic, real_queue)) = topic.zip(real_queue) else {
        tracing::error!(
            queue,
            offset,
            "a delayed message of RocketMQ's does not say where it goes, it stays where it is"
        );
        return None;
    };
    let mut properties = Properties::default();
    for (name, value) in record.properties() {
        if ![LEVEL, REAL_TOPIC, REAL_QUEUE].contains(&name) && !name.starts_with(TIMER_PREFIX) {
            properties.push(name, value);
        }
    }
    schedule::make_wait(&mut properties, topic.as_str(), real_queue, due_ms.max(now_ms));
    Some((record, properties))
}

fn property<'a>(record: &'a Record, wanted: &str) -> Option<&'a str> {
    record.properties().filter(|(name, _)| *name == wanted).last().map(|(_, value)| value)
}
