//! The messages of all figures: 1 KiB, a unique key and a tag, over eight queues of one topic.

use std::net::{Ipv4Addr, SocketAddr};

use store::{LogOffset, NewRecord, Properties, QueueId};

/// Where all messages go.
pub(crate) const TOPIC: &str = "rate";
/// The topic's queues, by turns.
pub(crate) const QUEUES: u64 = 8;
/// Bytes of a body.
pub(crate) const BODY_BYTES: usize = 1024;

pub(crate) struct Scribe {
    body: Vec<u8>,
    properties: Properties,
}

impl Scribe {
    pub(crate) fn new() -> Self {
        let mut properties = Properties::default();
        properties.push("UNIQ_KEY", "01A2B3C4D5E6F7000105A1B2C300000001");
        properties.push("TAGS", "a");
        Self { body: vec![b'x'; BODY_BYTES], properties }
    }

    pub(crate) fn record(&self, number: u64) -> NewRecord<'_> {
        let host = SocketAddr::from((Ipv4Addr::LOCALHOST, 8081));
        NewRecord {
            topic: TOPIC,
            queue_id: QueueId((number % QUEUES) as u32),
            body: &self.body,
            properties: self.properties.as_bytes(),
            tag: Some("a"),
            flag: 0,
            sys_flag: 0,
            born_at_ms: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_offset: LogOffset(0),
        }
    }
}
