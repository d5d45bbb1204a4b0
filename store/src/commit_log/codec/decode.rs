//! From bytes to a record, trusting nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use bytes::Bytes;

use super::{
    BORN_HOST_V6, CRC_BYTES, CRC_NAME, LAST_QUEUE_OFFSET, MAGIC_BLANK, MAGIC_V1, MAGIC_V2, MAX_RECORD_BYTES,
    MIN_RECORD_BYTES, STORE_HOST_V6, crc_digits, crc31, tags_code,
};
use crate::{LogOffset, QueueId, QueueOffset, Record};

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
    rest.first_chunk().map_or(Announced::Bad(Flaw::Shape), |head| announced_by(head, rest.len()))
}

/// The same from the eight bytes alone, which are the first of `room` up to the segment's end.
pub(crate) fn announced_by(head: &[u8; 8], room: usize) -> Announced {
    let size = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let magic = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    match magic {
        MAGIC_V1 | MAGIC_V2 => {
            let fits = usize::try_from(size)
                .ok()
                .filter(|size| (MIN_RECORD_BYTES..=room.min(MAX_RECORD_BYTES)).contains(size));
            fits.map_or(Announced::Bad(Flaw::Size(size)), Announced::Record)
        }
        MAGIC_BLANK if usize::try_from(size) == Ok(room) => Announced::Blank,
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

    /// What damaged records were that lie one behind the other, as far as their shape can be read, each with its place in
    /// `bytes`. Any field may be wrong.
    pub(crate) fn remains(bytes: &[u8]) -> impl Iterator<Item = (Self, Range<usize>)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let rest = &bytes[from..];
            let size = match announced(rest) {
                Announced::Record(size) => size,
                // Perhaps the last one, of which only the size or the magic is wrong.
                _ => rest.len(),
            };
            let head = Self::take(&rest[..size])?;
            let range = from..from + size;
            from = range.end;
            Some((head, range))
        })
    }

    fn take(bytes: &[u8]) -> Option<Self> {
        let mut from = Take { bytes, at: 4 };
        let long_topic = from.u32()? == MAGIC_V2;
        let body_crc = from.u32()?;
        let queue_id = QueueId(from.u32()?);
        let flag = from.u32()? as i32;
        // Where no checksum covers it, a rotten one must not count.
        let queue_offset = Some(QueueOffset(from.u64()?)).filter(|offset| offset.0 <= LAST_QUEUE_OFFSET)?;
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
            None => self.verify_without(bytes),
        }
    }

    /// Java's records need not have the property. One of ours whose end was torn off has not either, but zeros where it
    /// was, and properties are text. (A zero before that is a user's: Java lets them through.)
    fn verify_without(&self, bytes: &[u8]) -> Result<(), Flaw> {
        let properties = &bytes[self.properties.clone()];
        let end = &properties[properties.len().saturating_sub(CRC_BYTES)..];
        if end.contains(&0) || std::str::from_utf8(properties).is_err() {
            return Err(Flaw::RecordCrc);
        }
        if crc31(&bytes[self.body.clone()]) == self.body_crc { Ok(()) } else { Err(Flaw::BodyCrc) }
    }

    /// Is the body as its own checksum says? [`Head::verify`] asks only where no checksum covers the whole record; Java
    /// always asks.
    pub(crate) fn body_matches(&self, bytes: &[u8]) -> bool {
        self.record_crc.is_none() || crc31(&bytes[self.body.clone()]) == self.body_crc
    }

    /// The store time as far as those of later records may go by it: where no checksum covers it it may have rotted, and
    /// a time in the future would be that of all that follow.
    pub(crate) fn sure_stored_at_ms(&self, now_ms: i64) -> i64 {
        if self.record_crc.is_some() { self.stored_at_ms } else { self.stored_at_ms.min(now_ms) }
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

/// Can a record that starts so have this size, by the length of its body? Topic and properties are short. True if `start`
/// does not reach so far.
pub(crate) fn lengths_fit(start: &[u8], size: usize) -> bool {
    const MOST_BEHIND_BODY: usize = 2 * (2 + u16::MAX as usize);
    let mut from = Take { bytes: start, at: 36 };
    let body_end = |from: &mut Take<'_>| {
        let sys_flag = from.u32()? as i32;
        from.at += 8;
        from.host(sys_flag & BORN_HOST_V6 != 0)?;
        from.at += 8;
        from.host(sys_flag & STORE_HOST_V6 != 0)?;
        from.at += 12;
        let body_len = usize::try_from(from.u32()?).ok()?;
        from.at.checked_add(body_len)
    };
    body_end(&mut from).is_none_or(|end| (end..=end.saturating_add(MOST_BEHIND_BODY)).contains(&size))
}

/// A record up to its store time, with a born host of IPv6, takes so much.
pub(crate) const STAMP_BYTES: usize = 76;

/// What the start of a record says of its place and time, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) queue_offset: QueueOffset,
    pub(crate) place: LogOffset,
    pub(crate) stored_at_ms: i64,
}

impl Stamp {
    /// Reads the first [`STAMP_BYTES`] of a record, or all of it. `None`: it is no record.
    pub(crate) fn read(start: &[u8]) -> Option<Self> {
        let mut from = Take { bytes: start, at: 4 };
        if !matches!(from.u32()?, MAGIC_V1 | MAGIC_V2) {
            return None;
        }
        from.at = 20;
        let queue_offset = QueueOffset(from.u64()?);
        let place = LogOffset(from.u64()?);
        let sys_flag = from.u32()? as i32;
        from.at += 8;
        from.host(sys_flag & BORN_HOST_V6 != 0)?;
        Some(Self { queue_offset, place, stored_at_ms: from.u64()? as i64 })
    }
}

/// The few fields that the key index reads of each record, with nothing checked but the shape.
pub(crate) struct Outline<'a> {
    pub(crate) sys_flag: i32,
    pub(crate) stored_at_ms: i64,
    pub(crate) topic: &'a [u8],
    /// With the checksum property.
    pub(crate) properties: &'a [u8],
}

impl<'a> Outline<'a> {
    /// `bytes` is exactly one record.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut from = Take { bytes, at: 36 };
        let sys_flag = from.u32()? as i32;
        let host_bytes = |v6: i32| if sys_flag & v6 == 0 { 8 } else { 20 };
        from.at += 8 + host_bytes(BORN_HOST_V6);
        let stored_at_ms = from.u64()? as i64;
        from.at += host_bytes(STORE_HOST_V6) + 12;
        let body_len = from.u32()?;
        from.range(usize::try_from(body_len).ok()?)?;
        let long_topic = bytes.get(4..8)? == MAGIC_V2.to_be_bytes();
        let topic_len = if long_topic { usize::from(from.u16()?) } else { usize::from(from.u8()?) };
        let topic = from.range(topic_len)?;
        let properties_len = from.u16()?;
        let properties = from.range(usize::from(properties_len))?;
        let whole = from.at == bytes.len();
        whole.then(|| Self { sys_flag, stored_at_ms, topic: &bytes[topic], properties: &bytes[properties] })
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
