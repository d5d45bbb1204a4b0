//! RocketMQ's message record, byte for byte. All numbers are big-endian.
//!
//! ```text
//!   at    width   field
//!   0     4       total size, this field included
//!   4     4       magic: V1 0xDAA320A7, V2 0xDAA320AB (topic longer than 127 bytes)
//!   8     4       CRC-32 of the body & 0x7FFFFFFF
//!   12    4       queue id
//!   16    4       flag, the user's
//!   20    8       queue offset; 0 for prepared and rollback records
//!   28    8       log offset: the record's own place
//!   36    4       system flag
//!   40    8       born at, producer's clock
//!   48    8|20    born host: address and i32 port; 20 when system flag bit 4 says IPv6
//!   +0    8       stored at, store's clock
//!   +8    8|20    store host, bit 5
//!   ..    4       reconsume times
//!   ..    8       prepared transaction's log offset
//!   ..    4+n     body
//!   ..    1+n     topic (V2: 2+n)
//!   ..    2+n     properties: name 0x01 value 0x02, ...
//! ```
//!
//! The last property is always `__CRC32#`: ten decimal digits, least significant first, of the CRC-32
//! (& 0x7FFFFFFF) over all bytes before that property (RocketMQ's `enabledAppendPropCRC`). So every byte of a
//! record is covered. Records written by Java without it are covered by the body's CRC only.
//!
//! A record never crosses a segment's end: the rest of a segment is a *blank*, `i32 rest, 0xCBD43194`.
//! (RocketMQ: `MessageExtEncoder`, `MessageDecoder`, `CommitLog.DefaultAppendMessageCallback`.)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use bytes::Bytes;

use crate::error::AppendError;
use crate::{LogOffset, NewRecord, QueueId, QueueOffset, Record};

pub(crate) const MAGIC_V1: u32 = 0xDAA3_20A7;
pub(crate) const MAGIC_V2: u32 = 0xDAA3_20AB;
pub(crate) const MAGIC_BLANK: u32 = 0xCBD4_3194;
/// Bytes that stay free at the end of a segment, for the blank's head.
pub(crate) const BLANK_BYTES: u64 = 8;
/// The smallest record that can be: IPv4, V1, all fields empty.
pub(crate) const MIN_RECORD_BYTES: usize = 91;

const BORN_HOST_V6: i32 = 1 << 4;
const STORE_HOST_V6: i32 = 1 << 5;
const TRANSACTION_BITS: i32 = 0b11 << 2;
const TRANSACTION_COMMIT: i32 = 0b10 << 2;
const CRC_NAME: &[u8; 9] = b"__CRC32#\x01";
const CRC_DIGITS: usize = 10;
const CRC_BYTES: usize = CRC_NAME.len() + CRC_DIGITS + 1;
const MAX_TOPIC_BYTES: usize = 255;
const MAX_PROPERTIES_BYTES: usize = i16::MAX as usize;
/// No record is larger: Java's largest configurable body plus all else, generously.
const MAX_RECORD_BYTES: usize = 256 << 20;

/// CRC-32 (IEEE) without its highest bit, as RocketMQ stores it.
pub(crate) fn crc31(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes) & 0x7FFF_FFFF
}

/// Java's `String.hashCode` of a tag, which consume queues filter by.
pub(crate) fn tags_code(tag: Option<&str>) -> i64 {
    let tag = tag.unwrap_or_default();
    i64::from(tag.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit))))
}

/// Prepared and rollback records are in no queue.
pub(crate) fn is_queued(sys_flag: i32) -> bool {
    matches!(sys_flag & TRANSACTION_BITS, 0 | TRANSACTION_COMMIT)
}

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

/// Decimal, least significant digit first, zero padded.
fn crc_digits(mut crc: u32) -> [u8; CRC_DIGITS] {
    std::array::from_fn(|_| {
        let digit = b'0' + (crc % 10) as u8;
        crc /= 10;
        digit
    })
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

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("the size field says {0}")]
    Size(i32),
    #[error("the magic number is {0:#010x}")]
    Magic(u32),
    #[error("the lengths of its fields do not add up")]
    Shape,
    #[error("it says that it belongs at {0}")]
    Place(u64),
    #[error("the checksum of its bytes does not match")]
    RecordCrc,
    #[error("the checksum of its body does not match")]
    BodyCrc,
}

/// What the first eight bytes at a place announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// A record of this size, which fits.
    Record(usize),
    /// The rest of the segment is blank.
    Blank,
    /// Nothing was ever written here.
    Nothing,
    Bad(Flaw),
}

/// Reads the first eight bytes of `rest`, the bytes up to the segment's end.
pub(crate) fn announced(rest: &[u8]) -> Announced {
    let Some(head) = rest.first_chunk::<8>() else { return Announced::Bad(Flaw::Shape) };
    let size = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let magic = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    match magic {
        MAGIC_V1 | MAGIC_V2 => {
            let fits = usize::try_from(size)
                .ok()
                .filter(|size| (MIN_RECORD_BYTES..=rest.len().min(MAX_RECORD_BYTES)).contains(size));
            fits.map_or(Announced::Bad(Flaw::Size(size)), Announced::Record)
        }
        MAGIC_BLANK if usize::try_from(size) == Ok(rest.len()) => Announced::Blank,
        MAGIC_BLANK => Announced::Bad(Flaw::Size(size)),
        0 if size == 0 => Announced::Nothing,
        other => Announced::Bad(Flaw::Magic(other)),
    }
}

/// A record's fields, those of varying length as ranges of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) body_crc: u32,
    pub(crate) queue_id: QueueId,
    pub(crate) flag: i32,
    pub(crate) queue_offset: QueueOffset,
    pub(crate) place: LogOffset,
    pub(crate) sys_flag: i32,
    pub(crate) born_at_ms: i64,
    pub(crate) born_host: SocketAddr,
    pub(crate) stored_at_ms: i64,
    pub(crate) store_host: SocketAddr,
    pub(crate) reconsume_times: i32,
    pub(crate) prepared_offset: LogOffset,
    pub(crate) body: Range<usize>,
    pub(crate) topic: Range<usize>,
    /// Without the checksum property.
    pub(crate) properties: Range<usize>,
    /// The digits of the checksum property, if it is there.
    record_crc: Option<Range<usize>>,
}

impl Head {
    /// Takes the fields apart; `bytes` is exactly one record. Checks the shape, not the checksums.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        match announced(bytes) {
            Announced::Record(size) if size == bytes.len() => {}
            Announced::Record(size) => return Err(Flaw::Size(size as i32)),
            Announced::Bad(flaw) => return Err(flaw),
            Announced::Blank => return Err(Flaw::Magic(MAGIC_BLANK)),
            Announced::Nothing => return Err(Flaw::Magic(0)),
        }
        Self::take(bytes).ok_or(Flaw::Shape)
    }

    fn take(bytes: &[u8]) -> Option<Self> {
        let mut from = Take { bytes, at: 4 };
        let long_topic = from.u32()? == MAGIC_V2;
        let body_crc = from.u32()?;
        let queue_id = QueueId(from.u32()?);
        let flag = from.u32()? as i32;
        let queue_offset = QueueOffset(from.u64()?);
        let place = LogOffset(from.u64()?);
        let sys_flag = from.u32()? as i32;
        let born_at_ms = from.u64()? as i64;
        let born_host = from.host(sys_flag & BORN_HOST_V6 != 0)?;
        let stored_at_ms = from.u64()? as i64;
        let store_host = from.host(sys_flag & STORE_HOST_V6 != 0)?;
        let reconsume_times = from.u32()? as i32;
        let prepared_offset = LogOffset(from.u64()?);
        let body_len = from.u32()?;
        let body = from.range(usize::try_from(body_len).ok()?)?;
        let topic_len = if long_topic { usize::from(from.u16()?) } else { usize::from(from.u8()?) };
        let topic = from.range(topic_len)?;
        let properties_len = usize::from(from.u16()?);
        let stored = from.range(properties_len)?;
        if from.at != bytes.len() || std::str::from_utf8(&bytes[topic.clone()]).is_err() {
            return None;
        }
        let (properties, record_crc) = split_crc(bytes, stored);
        Some(Self {
            body_crc,
            queue_id,
            flag,
            queue_offset,
            place,
            sys_flag,
            born_at_ms,
            born_host,
            stored_at_ms,
            store_host,
            reconsume_times,
            prepared_offset,
            body,
            topic,
            properties,
            record_crc,
        })
    }

    /// Checks that the record lies where it says, and its checksums.
    pub(crate) fn verify(&self, bytes: &[u8], at: LogOffset) -> Result<(), Flaw> {
        if self.place != at {
            return Err(Flaw::Place(self.place.0));
        }
        match &self.record_crc {
            Some(digits) => {
                let covered = &bytes[..digits.start - CRC_NAME.len()];
                let tail = &bytes[digits.start - CRC_NAME.len()..];
                let same = tail.starts_with(CRC_NAME)
                    && tail.ends_with(&[2])
                    && bytes[digits.clone()] == crc_digits(crc31(covered));
                if same { Ok(()) } else { Err(Flaw::RecordCrc) }
            }
            None if crc31(&bytes[self.body.clone()]) == self.body_crc => Ok(()),
            None => Err(Flaw::BodyCrc),
        }
    }

    /// The topic; [`Head::parse`] has checked it.
    pub(crate) fn topic<'a>(&self, bytes: &'a [u8]) -> &'a str {
        std::str::from_utf8(&bytes[self.topic.clone()]).expect("a parsed head's topic is UTF-8")
    }

    /// What the consume queue keeps of the tag.
    pub(crate) fn tags_code(&self, bytes: &[u8]) -> i64 {
        tags_code(
            crate::record::pairs(&bytes[self.properties.clone()])
                .filter(|pair| pair.0 == "TAGS")
                .last()
                .map(|pair| pair.1),
        )
    }

    /// The record as slices of `bytes`.
    pub(crate) fn into_record(self, bytes: &Bytes) -> Record {
        Record {
            log_offset: self.place,
            queue_id: self.queue_id,
            queue_offset: self.queue_offset,
            flag: self.flag,
            sys_flag: self.sys_flag,
            born_at_ms: self.born_at_ms,
            born_host: self.born_host,
            stored_at_ms: self.stored_at_ms,
            store_host: self.store_host,
            reconsume_times: self.reconsume_times,
            prepared_offset: self.prepared_offset,
            topic: bytes.slice(self.topic),
            body: bytes.slice(self.body),
            properties: bytes.slice(self.properties),
        }
    }
}

/// Tells the checksum property from the user's. One or two wrong bytes in its fixed part still make it the
/// checksum property, a damaged one: otherwise a flipped bit there would switch the check off.
fn split_crc(bytes: &[u8], stored: Range<usize>) -> (Range<usize>, Option<Range<usize>>) {
    let Some(start) = stored.len().checked_sub(CRC_BYTES).map(|skip| stored.start + skip) else {
        return (stored, None);
    };
    let digits = start + CRC_NAME.len()..stored.end - 1;
    let wrong = bytes[start..digits.start].iter().zip(CRC_NAME).filter(|(found, name)| found != name).count()
        + usize::from(bytes[digits.end] != 2);
    if wrong <= 2 { (stored.start..start, Some(digits)) } else { (stored, None) }
}

struct Take<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Take<'_> {
    fn range(&mut self, len: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len())?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let range = self.range(N)?;
        self.bytes[range].first_chunk::<N>().copied()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn host(&mut self, v6: bool) -> Option<SocketAddr> {
        let ip = if v6 {
            IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))
        } else {
            IpAddr::V4(Ipv4Addr::from(self.array::<4>()?))
        };
        // Java keeps the port in an i32; what does not fit a port is not worth losing a message for.
        Some(SocketAddr::new(ip, self.u32()? as u16))
    }
}
