//! Records to append, and what is read back, in a form that compares.

use std::net::SocketAddr;

use store::{Config, LogOffset, NewRecord, Properties, QueueId, QueueOffset, Store};

/// What a test says about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) queue: u32,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn message(topic: &str, queue: u32, body: impl AsRef<[u8]>) -> Message {
    Message { topic: topic.to_owned(), queue, body: body.as_ref().to_vec() }
}

fn host() -> SocketAddr {
    "10.0.0.1:8081".parse().unwrap()
}

/// The record of a message; its properties are `properties`.
pub(crate) fn record<'a>(message: &'a Message, properties: &'a Properties) -> NewRecord<'a> {
    NewRecord {
        topic: &message.topic,
        queue_id: QueueId(message.queue),
        body: &message.body,
        properties: properties.as_bytes(),
        tag: None,
        flag: 0,
        sys_flag: 0,
        born_at_ms: 1,
        born_host: host(),
        store_host: host(),
        reconsume_times: 0,
        prepared_offset: LogOffset(0),
    }
}

pub(crate) fn append(store: &Store, message: &Message) -> store::Appended {
    store.append(&[record(message, &Properties::default())]).unwrap()
}

/// The bodies of a queue from `from` on, with their offsets.
pub(crate) fn bodies(store: &Store, topic: &str, queue: u32, from: u64) -> Vec<(u64, Vec<u8>)> {
    let entries = store.entries(topic, QueueId(queue), QueueOffset(from), usize::MAX).unwrap();
    entries.iter().map(|entry| (entry.queue_offset.0, store.record(entry).unwrap().body.to_vec())).collect()
}

/// A small configuration in this directory.
pub(crate) fn config(root: &std::path::Path) -> Config {
    Config { segment_bytes: 4096, ..Config::new(root) }
}
