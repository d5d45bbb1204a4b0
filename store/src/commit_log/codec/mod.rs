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

mod decode;
mod encode;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

pub(crate) use decode::{
    Announced, Flaw, Head, Outline, STAMP_BYTES, Stamp, announced, announced_by, lengths_fit,
};
pub(crate) use encode::{Plan, Put, encode_blank, seal};

pub(crate) const MAGIC_V1: u32 = 0xDAA3_20A7;
pub(crate) const MAGIC_V2: u32 = 0xDAA3_20AB;
pub(crate) const MAGIC_BLANK: u32 = 0xCBD4_3194;
/// Bytes that stay free at the end of a segment, for the blank's head.
pub(crate) const BLANK_BYTES: u64 = 8;
/// The smallest record that can be: IPv4, V1, all fields empty.
pub(crate) const MIN_RECORD_BYTES: usize = 91;
/// No queue offset is higher: Java keeps the place of its entry, of 20 bytes, in an i64.
pub(crate) const LAST_QUEUE_OFFSET: u64 = i64::MAX as u64 / 20 - 1;

const BORN_HOST_V6: i32 = 1 << 4;
const STORE_HOST_V6: i32 = 1 << 5;
const TRANSACTION_BITS: i32 = 0b11 << 2;
const TRANSACTION_COMMIT: i32 = 0b10 << 2;
const CRC_NAME: &[u8; 9] = b"__CRC32#\x01";
const CRC_DIGITS: usize = 10;
pub(crate) const CRC_BYTES: usize = CRC_NAME.len() + CRC_DIGITS + 1;
const MAX_TOPIC_BYTES: usize = 255;
const MAX_PROPERTIES_BYTES: usize = i16::MAX as usize;
/// No record is larger: Java's largest configurable body plus all else, generously.
pub(crate) const MAX_RECORD_BYTES: usize = 256 << 20;

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

/// Does the record only say that a transaction was rolled back?
pub(crate) fn is_rollback(sys_flag: i32) -> bool {
    sys_flag & TRANSACTION_BITS == TRANSACTION_BITS
}

/// Decimal, least significant digit first, zero padded.
fn crc_digits(mut crc: u32) -> [u8; CRC_DIGITS] {
    std::array::from_fn(|_| {
        let digit = b'0' + (crc % 10) as u8;
        crc /= 10;
        digit
    })
}

#[cfg(test)]
pub(crate) mod tests;
