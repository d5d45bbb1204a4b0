//! The bytes, by the table of RocketMQ's format, and back.

use std::net::SocketAddr;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{AppendError, LogOffset, NewRecord, Properties, QueueId, QueueOffset};

const LIMIT: usize = 4 << 20;

pub(crate) fn new_record<'a>(topic: &'a str, body: &'a [u8], properties: &'a [u8]) -> NewRecord<'a> {
    NewRecord {
        topic,
        queue_id: QueueId(3),
        body,
        properties,
        tag: Some("paid"),
        flag: 7,
        sys_flag: 1,
        born_at_ms: 1_700_000_000_000,
        born_host: "10.1.2.3:4567".parse().unwrap(),
        store_host: "10.4.5.6:8081".parse().unwrap(),
        reconsume_times: 2,
        prepared_offset: LogOffset(99),
    }
}

fn encoded(new: &NewRecord<'_>, at: u64, queue_offset: u64, stored_at_ms: i64) -> Vec<u8> {
    let plan = Plan::new(new, LIMIT).unwrap();
    let mut out = vec![0xEE; plan.len()];
    plan.put(&mut out);
    seal(&mut out, LogOffset(at), QueueOffset(queue_offset), stored_at_ms);
    out
}

/// Bit by bit, so that the checksum is not checked against itself.
fn slow_crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    !crc & 0x7FFF_FFFF
}

#[test]
fn a_v1_record_has_the_bytes_of_the_format_s_table() {
    let bytes = encoded(&new_record("T", b"hello", b"TAGS\x01paid\x02"), 0x1234, 5, 1_700_000_000_001);
    #[rustfmt::skip]
    let mut expected = vec![
        0, 0, 0, 0,                                     // total size, set below
        0xDA, 0xA3, 0x20, 0xA7,                         // V1
        0x36, 0x10, 0xA6, 0x86,                         // CRC-32 of "hello" & 0x7FFFFFFF
        0, 0, 0, 3,                                     // queue id
        0, 0, 0, 7,                                     // flag
        0, 0, 0, 0, 0, 0, 0, 5,                         // queue offset
        0, 0, 0, 0, 0, 0, 0x12, 0x34,                   // log offset
        0, 0, 0, 1,                                     // system flag
        0, 0, 0x01, 0x8B, 0xCF, 0xE5, 0x68, 0x00,       // born at
        10, 1, 2, 3, 0, 0, 0x11, 0xD7,                  // born host
        0, 0, 0x01, 0x8B, 0xCF, 0xE5, 0x68, 0x01,       // stored at
        10, 4, 5, 6, 0, 0, 0x1F, 0x91,                  // store host
        0, 0, 0, 2,                                     // reconsume times
        0, 0, 0, 0, 0, 0, 0, 99,                        // prepared transaction
        0, 0, 0, 5, b'h', b'e', b'l', b'l', b'o',       // body
        1, b'T',                                        // topic
        0, 30,                                          // properties
        b'T', b'A', b'G', b'S', 1, b'p', b'a', b'i', b'd', 2,
    ];
    let total = expected.len() + 20;
    expected[3] = total as u8;
    let crc = format!("{:010}", slow_crc(&expected));
    expected.extend_from_slice(b"__CRC32#\x01");
    expected.extend(crc.bytes().rev());
    expected.push(2);
    assert_eq!(bytes, expected);
    assert_eq!(total, 91 + 5 + 1 + 10 + 20, "the format's smallest record and what is in this one");
}

#[test]
fn a_topic_of_128_bytes_makes_a_v2_record_and_ipv6_hosts_set_their_bits() {
    let topic = "t".repeat(128);
    let new = NewRecord { born_host: "[2001:db8::1]:80".parse().unwrap(), ..new_record(&topic, b"", b"") };
    let bytes = encoded(&new, 0, 0, 0);
    assert_eq!(bytes[4..8], MAGIC_V2.to_be_bytes());
    assert_eq!(bytes[36..40], (1i32 | 1 << 4).to_be_bytes());
    assert_eq!(bytes.len(), 91 + 12 + 1 + 128 + 20);
    let head = Head::parse(&bytes).unwrap();
    assert_eq!(head.topic(&bytes), topic);
    assert_eq!((head.born_host, head.store_host), (new.born_host, new.store_host));
    assert_eq!(encoded(&new_record(&topic[1..], b"", b""), 0, 0, 0)[4..8], MAGIC_V1.to_be_bytes());
}

#[test]
fn tags_hash_as_java_strings_do() {
    for (tag, expected) in [
        (None, 0),
        (Some("a"), 97),
        (Some("TagA"), 2_598_919),
        (Some("polygenelubricants"), -2_147_483_648),
        (Some("é😀"), 1_996_812),
    ] {
        assert_eq!(tags_code(tag), expected, "{tag:?}");
    }
}

#[test]
fn what_does_not_fit_the_format_is_refused_and_the_limit_itself_fits() {
    let fits = |new: &NewRecord<'_>| Plan::new(new, LIMIT).map(|plan| plan.len());
    let (long, body, properties) = ("t".repeat(256), vec![0; LIMIT + 1], vec![b'x'; 32_747]);
    assert!(fits(&new_record(&long[..255], b"", b"")).is_ok());
    assert!(matches!(
        fits(&new_record(&long, b"", b"")),
        Err(AppendError::FieldTooLarge { what: "topic", found: 256, limit: 255 })
    ));
    assert!(fits(&new_record("t", &body[..LIMIT], b"")).is_ok());
    assert!(matches!(fits(&new_record("t", &body, b"")), Err(AppendError::BodyTooLarge { .. })));
    // One byte goes to the separator that is missing at the end.
    assert!(fits(&new_record("t", b"", &properties[..32_746])).is_ok());
    assert!(matches!(
        fits(&new_record("t", b"", &properties)),
        Err(AppendError::FieldTooLarge { what: "properties", .. })
    ));
}

#[test]
fn no_changed_bit_passes_for_the_record() {
    let bytes = encoded(&new_record("topic", b"some body", b"KEYS\x01k\x02"), 4096, 1, 2);
    Head::parse(&bytes).unwrap().verify(&bytes, LogOffset(4096)).unwrap();
    for bit in (0..bytes.len() * 8).step_by(if cfg!(miri) { 31 } else { 1 }) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let seen = Head::parse(&flipped).and_then(|head| head.verify(&flipped, LogOffset(4096)));
        assert!(seen.is_err(), "bit {bit}");
    }
}

#[test]
fn a_record_elsewhere_than_it_says_is_none() {
    let bytes = encoded(&new_record("t", b"b", b""), 0, 0, 0);
    assert_eq!(Head::parse(&bytes).unwrap().verify(&bytes, LogOffset(8)), Err(Flaw::Place(0)));
}

#[test]
fn a_record_of_java_s_without_the_checksum_property_is_checked_by_its_body() {
    let ours = encoded(&new_record("t", b"body", b"K\x01v\x02"), 0, 0, 0);
    let mut java = ours[..ours.len() - 20].to_vec();
    let total = java.len() as u32;
    java[..4].copy_from_slice(&total.to_be_bytes());
    let properties_len_at = java.len() - 4 - 2;
    java[properties_len_at..properties_len_at + 2].copy_from_slice(&4u16.to_be_bytes());
    let head = Head::parse(&java).unwrap();
    head.verify(&java, LogOffset(0)).unwrap();
    let record = head.into_record(&Bytes::from(java.clone()));
    assert_eq!(record.properties().collect::<Vec<_>>(), [("K", "v")]);
    java[88] ^= 1;
    assert_eq!(Head::parse(&java).unwrap().verify(&java, LogOffset(0)), Err(Flaw::BodyCrc));
}

#[test]
fn a_queue_offset_that_no_queue_reaches_is_not_believed() {
    assert!(Head::parse(&encoded(&new_record("t", b"b", b""), 0, LAST_QUEUE_OFFSET, 0)).is_ok());
    let bytes = encoded(&new_record("t", b"b", b""), 0, LAST_QUEUE_OFFSET + 1, 0);
    assert_eq!(Head::parse(&bytes), Err(Flaw::Shape));
}

#[test]
fn the_first_bytes_announce_what_lies_there() {
    let record = encoded(&new_record("t", b"", b""), 0, 0, 0);
    let len = record.len();
    let mut more = record.clone();
    more.extend([0; 50]);
    let mut blank = vec![0; 32];
    encode_blank(&mut blank, 32);
    let cases: [(&[u8], Announced); 7] = [
        (&more, Announced::Record(len)),
        (&record[..len - 1], Announced::Bad(Flaw::Size(len as i32))),
        (&blank, Announced::Blank),
        (&blank[..31], Announced::Bad(Flaw::Size(32))),
        (&[0; 8], Announced::Nothing),
        (&[0; 7], Announced::Bad(Flaw::Shape)),
        (&[0, 0, 0, 9, 1, 2, 3, 4, 5], Announced::Bad(Flaw::Magic(0x0102_0304))),
    ];
    for (bytes, expected) in cases {
        assert_eq!(announced(bytes), expected);
    }
}

prop_compose! {
    fn any_host()(v6 in any::<bool>(), bits in any::<u128>(), port in any::<u16>()) -> SocketAddr {
        if v6 { (std::net::Ipv6Addr::from(bits), port).into() } else { (std::net::Ipv4Addr::from(bits as u32), port).into() }
    }
}

proptest! {
    #[test]
    fn every_record_comes_back_as_it_went(
        topic in "[a-zA-Z%é_]{1,100}", body in prop::collection::vec(any::<u8>(), 0..600),
        pairs in prop::collection::vec(("[A-Z_]{1,9}", "[a-z0-9 é]{1,20}"), 0..6),
        (queue_id, flag, sys_flag) in (0..i32::MAX as u32, any::<i32>(), any::<i32>()),
        (born_host, store_host) in (any_host(), any_host()),
        (at, queue_offset, stored_at_ms, born_at_ms) in (any::<u64>(), 0..=LAST_QUEUE_OFFSET, any::<i64>(), any::<i64>()),
    ) {
        let mut properties = Properties::default();
        pairs.iter().for_each(|(name, value)| properties.push(name, value));
        let new = NewRecord {
            topic: &topic, queue_id: QueueId(queue_id), body: &body, properties: properties.as_bytes(), tag: None, flag, sys_flag,
            born_at_ms, born_host, store_host, reconsume_times: -1, prepared_offset: LogOffset(at),
        };
        let bytes = Bytes::from(encoded(&new, at, queue_offset, stored_at_ms));
        let head = Head::parse(&bytes).unwrap();
        prop_assert_eq!(head.verify(&bytes, LogOffset(at)), Ok(()));
        let outline = Outline::read(&bytes).unwrap();
        prop_assert_eq!((outline.sys_flag, outline.stored_at_ms, outline.topic), (head.sys_flag, stored_at_ms, topic.as_bytes()));
        prop_assert!(outline.properties.starts_with(&bytes[head.properties.clone()]));
        let stamp = Stamp::read(&bytes[..STAMP_BYTES]).unwrap();
        let expected = Stamp { queue_offset: QueueOffset(queue_offset), place: LogOffset(at), stored_at_ms };
        prop_assert_eq!(stamp, expected);
        let back = head.into_record(&bytes);
        prop_assert_eq!((&back.topic[..], &back.body[..]), (topic.as_bytes(), &body[..]));
        prop_assert_eq!(back.properties().collect::<Vec<_>>(), pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>());
        prop_assert_eq!((back.born_host, back.store_host), (born_host, store_host));
        prop_assert_eq!((back.queue_id.0, back.flag, back.queue_offset.0, back.log_offset.0), (queue_id, flag, queue_offset, at));
        prop_assert_eq!((back.born_at_ms, back.stored_at_ms, back.reconsume_times), (born_at_ms, stored_at_ms, -1));
        prop_assert_eq!(back.sys_flag & !0x30, sys_flag & !0x30);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), v2 in any::<bool>(), sized in any::<bool>()) {
        if bytes.len() >= 8 {
            bytes[4..8].copy_from_slice(&if v2 { MAGIC_V2 } else { MAGIC_V1 }.to_be_bytes());
            if sized {
                let len = bytes.len() as u32;
                bytes[..4].copy_from_slice(&len.to_be_bytes());
            }
        }
        let _ = (Outline::read(&bytes), Stamp::read(&bytes));
        if let Ok(head) = Head::parse(&bytes) {
            let _ = head.verify(&bytes, LogOffset(0));
            let _ = head.tags_code(&bytes);
        }
    }
}
