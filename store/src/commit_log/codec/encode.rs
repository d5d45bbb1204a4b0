//! From a new record to its bytes.

use std::net::{IpAddr, SocketAddr};

use super::{
    BORN_HOST_V6, CRC_BYTES, CRC_DIGITS, CRC_NAME, MAGIC_BLANK, MAGIC_V1, MAGIC_V2, MAX_PROPERTIES_BYTES,
    MAX_TOPIC_BYTES, STORE_HOST_V6, crc_digits, crc31, is_queued, tags_code,
};
use crate::error::AppendError;
use crate::{LogOffset, NewRecord, QueueId, QueueOffset};

/// What becomes a record in the log.
pub(crate) trait Put {
    /// Bytes of the record.
    fn len(&self) -> usize;

    /// Writes the record but for what its place decides; `out` has exactly [`Put::len`] bytes. Follow with [`seal`].
    fn put(&self, out: &mut [u8]);
}

/// Put before.
impl Put for Vec<u8> {
    fn len(&self) -> usize {
        self.len()
    }

    fn put(&self, out: &mut [u8]) {
        out.copy_from_slice(self);
    }
}

/// A new record whose sizes are checked and whose body is summed: what can be done before taking the log's lock.
pub(crate) struct Plan<'a> {
    new: &'a NewRecord<'a>,
    body_crc: u32,
    sys_flag: i32,
    properties_len: usize,
    len: usize,
    pub(crate) tags_code: i64,
    queued: bool,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(new: &'a NewRecord<'a>, max_body_bytes: usize) -> Result<Self, AppendError> {
        let check = |what, found, limit| {
            if found > limit { Err(AppendError::FieldTooLarge { what, found, limit }) } else { Ok(()) }
        };
        if new.body.len() > max_body_bytes {
            return Err(AppendError::BodyTooLarge { found: new.body.len(), limit: max_body_bytes });
        }
        check("topic", new.topic.len(), MAX_TOPIC_BYTES)?;
        let separator = usize::from(new.properties.last().is_some_and(|&last| last != 2));
        let properties_len = new.properties.len() + separator + CRC_BYTES;
        check("properties", new.properties.len(), MAX_PROPERTIES_BYTES - separator - CRC_BYTES)?;
        check("queue id", new.queue_id.0 as usize, i32::MAX as usize)?;

        let mut sys_flag = new.sys_flag & !(BORN_HOST_V6 | STORE_HOST_V6);
        let mut hosts = 16;
        for (host, bit) in [(new.born_host, BORN_HOST_V6), (new.store_host, STORE_HOST_V6)] {
            if host.is_ipv6() {
                sys_flag |= bit;
                hosts += 12;
            }
        }
        let topic_width = if new.topic.len() > 127 { 2 } else { 1 };
        // Everything but hosts, topic length's width and the contents: 91 - 16 - 1.
        let len = 74 + hosts + new.body.len() + topic_width + new.topic.len() + properties_len;
        Ok(Self {
            new,
            body_crc: crc31(new.body),
            sys_flag,
            properties_len,
            len,
            tags_code: tags_code(new.tag),
            queued: is_queued(sys_flag),
        })
    }

    /// The queue that the record goes to; `None` for prepared and rollback records.
    pub(crate) fn queue(&self) -> Option<(&'a str, QueueId)> {
        self.queued.then_some((self.new.topic, self.new.queue_id))
    }
}

impl Put for Plan<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn put(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.len, "the room made for a record is its planned length");
        let new = self.new;
        let long_topic = new.topic.len() > 127;
        let mut to = Fields { out, at: 0 };
        to.u32(self.len as u32);
        to.u32(if long_topic { MAGIC_V2 } else { MAGIC_V1 });
        to.u32(self.body_crc);
        to.u32(new.queue_id.0);
        to.u32(new.flag as u32);
        to.u64(0);
        to.u64(0);
        to.u32(self.sys_flag as u32);
        to.u64(new.born_at_ms as u64);
        to.host(new.born_host);
        to.u64(0);
        to.host(new.store_host);
        to.u32(new.reconsume_times as u32);
        to.u64(new.prepared_offset.0);
        to.u32(new.body.len() as u32);
        to.bytes(new.body);
        if long_topic {
            to.bytes(&(new.topic.len() as u16).to_be_bytes());
        } else {
            to.bytes(&[new.topic.len() as u8]);
        }
        to.bytes(new.topic.as_bytes());
        to.bytes(&(self.properties_len as u16).to_be_bytes());
        to.bytes(new.properties);
        if new.properties.last().is_some_and(|&last| last != 2) {
            to.bytes(&[2]);
        }
        to.bytes(CRC_NAME);
        to.bytes(&[b'0'; CRC_DIGITS]);
        to.bytes(&[2]);
        assert_eq!(to.at, self.len, "a record fills the room made for it");
    }
}

/// Writes into a record that [`Put::put`] made what only the writer of the log knows, and the checksum over it all.
pub(crate) fn seal(record: &mut [u8], place: LogOffset, queue_offset: QueueOffset, stored_at_ms: i64) {
    let sys_flag = record[36..40].first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes));
    let stored_at = if sys_flag & BORN_HOST_V6 == 0 { 56 } else { 68 };
    record[20..28].copy_from_slice(&queue_offset.0.to_be_bytes());
    record[28..36].copy_from_slice(&place.0.to_be_bytes());
    record[stored_at..stored_at + 8].copy_from_slice(&(stored_at_ms as u64).to_be_bytes());
    let covered = record.len() - CRC_BYTES;
    let crc = crc31(&record[..covered]);
    let digits = covered + CRC_NAME.len();
    record[digits..digits + CRC_DIGITS].copy_from_slice(&crc_digits(crc));
}

/// Writes the head of a blank.
pub(crate) fn encode_blank(out: &mut [u8], rest: u64) {
    let mut to = Fields { out, at: 0 };
    to.u32(u32::try_from(rest).expect("a segment is smaller than 4 GiB"));
    to.u32(MAGIC_BLANK);
}

struct Fields<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Fields<'_> {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    #[inline]
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    #[inline]
    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    fn host(&mut self, host: SocketAddr) {
        match host.ip() {
            IpAddr::V4(ip) => self.bytes(&ip.octets()),
            IpAddr::V6(ip) => self.bytes(&ip.octets()),
        }
        self.u32(u32::from(host.port()));
    }
}
