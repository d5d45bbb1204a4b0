//! Records as callers see them: what is to be appended, and what lies in the log.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::commit_log::codec::{Plan, Put as _};
use crate::error::AppendError;
use crate::{LogOffset, QueueId, QueueOffset};

/// What a caller appends. The store adds offsets, checksum, store time and host bits.
#[derive(Clone, Debug)]
pub struct NewRecord<'a> {
    /// At most 127 bytes (255 for retry topics).
    pub topic: &'a str,
    /// The queue of the topic.
    pub queue_id: QueueId,
    /// As it came from the client, compressed or not.
    pub body: &'a [u8],
    /// Encoded name and value pairs, see [`Properties`]; at most 32,746 bytes (the format's 32,767 less the
    /// store's checksum property).
    pub properties: &'a [u8],
    /// The tag whose hash goes to the consume queue; it must be among the properties as well.
    pub tag: Option<&'a str>,
    /// RocketMQ's user flag, opaque.
    pub flag: i32,
    /// Transaction and compression bits; the host bits are the store's.
    pub sys_flag: i32,
    /// Producer's clock, Unix milliseconds.
    pub born_at_ms: i64,
    /// Where the producer was.
    pub born_host: SocketAddr,
    /// Where this broker is.
    pub store_host: SocketAddr,
    /// How often the message was consumed before.
    pub reconsume_times: i32,
    /// Log offset of the half message that this one commits, or 0.
    pub prepared_offset: LogOffset,
}

impl NewRecord<'_> {
    /// Would an append take it? Returns the bytes that it takes in the log.
    pub fn check(&self, max_body_bytes: usize) -> Result<u64, AppendError> {
        Plan::new(self, max_body_bytes).map(|plan| plan.len() as u64)
    }
}

/// Encoded properties: repeated `name 0x01 value 0x02`.
#[derive(Clone, Debug, Default)]
pub struct Properties(Vec<u8>);

impl Properties {
    /// None, with room for so many bytes of them.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Adds a pair. The caller has checked that neither holds a control character.
    pub fn push(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(1);
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(2);
    }

    /// The bytes for [`NewRecord::properties`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A record in the log: slices of the mapping, which they keep alive.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where the record starts.
    pub log_offset: LogOffset,
    /// The queue that it belongs to.
    pub queue_id: QueueId,
    /// Its place in that queue.
    pub queue_offset: QueueOffset,
    /// RocketMQ's user flag.
    pub flag: i32,
    /// RocketMQ's system flag bits.
    pub sys_flag: i32,
    /// Producer's clock, Unix milliseconds.
    pub born_at_ms: i64,
    /// Where the producer was.
    pub born_host: SocketAddr,
    /// Store's clock, Unix milliseconds; never decreases along the log.
    pub stored_at_ms: i64,
    /// The broker that stored it.
    pub store_host: SocketAddr,
    /// How often the message was consumed before.
    pub reconsume_times: i32,
    /// Log offset of the half message that this one commits, or 0.
    pub prepared_offset: LogOffset,
    /// The topic, UTF-8.
    pub topic: Bytes,
    /// The body as sent.
    pub body: Bytes,
    /// Encoded pairs without the store's checksum; walk them with [`Record::properties`].
    pub properties: Bytes,
}

impl Record {
    /// The name and value pairs, in the order stored; a later duplicate wins.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.properties)
    }
}

/// A record that a walk passes.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// Where it starts.
    pub log_offset: LogOffset,
    /// Its bytes in the log.
    pub size: u32,
    /// The topic.
    pub topic: &'a str,
    /// The queue that it belongs to.
    pub queue_id: QueueId,
    /// Its place in that queue.
    pub queue_offset: QueueOffset,
    /// RocketMQ's system flag bits.
    pub sys_flag: i32,
    /// See [`NewRecord::prepared_offset`].
    pub prepared_offset: LogOffset,
    pub(crate) properties: &'a [u8],
}

impl<'a> Passed<'a> {
    /// As [`Record::properties`].
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        pairs(self.properties)
    }
}

/// Walks encoded properties; skips what is not a pair, as RocketMQ's decoder does. That one skips empty values too, and what
/// a client sent as empty comes back as empty here.
pub(crate) fn pairs(encoded: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    encoded.split(|&b| b == 2).filter_map(|pair| {
        let at = pair.iter().position(|&b| b == 1)?;
        let name = std::str::from_utf8(&pair[..at]).ok()?;
        let value = std::str::from_utf8(&pair[at + 1..]).ok()?;
        (!name.is_empty()).then_some((name, value))
    })
}
