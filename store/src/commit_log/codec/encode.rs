//! From a new record to its bytes.

use std::net::{IpAddr, SocketAddr};

use super::{
    BORN_HOST_V6, CRC_BYTES, CRC_NAME, MAGIC_BLANK, MAGIC_V1, MAGIC_V2, MAX_PROPERTIES_BYTES,
    MAX_TOPIC_BYTES, STORE_HOST_V6, crc_digits, crc31, is_queued, tags_code,
};
use crate::error::AppendError;
use crate::{LogOffset, NewRecord, QueueId, QueueOffset};

/// A new record whose sizes are checked and whose body is summed: what can be done before taking the log's lock.
pub(crate) struct Plan<'a> {
    new: &'a NewRecord<'a>,
    body_crc: u32,
    sys_flag: i32,
    properties_len: usize,
    pub(crate) len: usize,
    pub(crate) tags_code: i64,
    pub(crate) queued: bool,
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

    pub(crate) fn queue(&self) -> (&'a str, QueueId) {
        (self.new.topic, self.new.queue_id)
    }

    /// Writes the record; `out` has exactly [`Plan::len`] bytes.
    pub(crate) fn encode(
        &self,
        out: &mut [u8],
        place: LogOffset,
        queue_offset: QueueOffset,
        stored_at_ms: i64,
    ) {
        assert_eq!(out.len(), self.len, "the room made for a record is its planned length");
        let new = self.new;
        let long_topic = new.topic.len() > 127;
        let mut to = Put { out, at: 0 };
        to.u32(self.len as u32);
        to.u32(if long_topic { MAGIC_V2 } else { MAGIC_V1 });
        to.u32(self.body_crc);
        to.u32(new.queue_id.0);
        to.u32(new.flag as u32);
        to.u64(queue_offset.0);
        to.u64(place.0);
        to.u32(self.sys_flag as u32);
        to.u64(new.born_at_ms as u64);
        to.host(new.born_host);
        to.u64(stored_at_ms as u64);
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
        let covered = to.at;
        let crc = crc31(&to.out[..covered]);
        to.bytes(CRC_NAME);
        to.bytes(&crc_digits(crc));
        to.bytes(&[2]);
        assert_eq!(to.at, self.len, "a record fills the room made for it");
    }
}

/// Writes the head of a blank.
pub(crate) fn encode_blank(out: &mut [u8], rest: u64) {
    let mut to = Put { out, at: 0 };
    to.u32(u32::try_from(rest).expect("a segment is smaller than 4 GiB"));
    to.u32(MAGIC_BLANK);
}

struct Put<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Put<'_> {
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
