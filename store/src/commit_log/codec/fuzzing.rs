//! Tries the decoders of a record.

use bytes::Bytes;

use super::decode::{Announced, Head, Outline, STAMP_BYTES, Stamp, announced, announced_by};
use super::encode::{Plan, Put as _, seal};
use super::{CRC_BYTES, CRC_DIGITS, CRC_NAME, MIN_RECORD_BYTES, crc_digits, crc31};
use crate::fuzzing::Input;
use crate::{LogOffset, NewRecord, QueueId, QueueOffset};

/// Makes a record's checksums right, and its place: this one.
pub(crate) fn mend(record: &mut [u8], at: u64) {
    let Ok(head) = Head::parse(record) else { return };
    record[28..36].copy_from_slice(&at.to_be_bytes());
    let body_crc = crc31(&record[head.body]);
    record[8..12].copy_from_slice(&body_crc.to_be_bytes());
    let start = record.len() - CRC_BYTES;
    if record[start..].starts_with(CRC_NAME) {
        let digits = crc_digits(crc31(&record[..start]));
        let from = start + CRC_NAME.len();
        record[from..from + CRC_DIGITS].copy_from_slice(&digits);
    }
}

/// Valid records at this place, each with another oddity.
pub(crate) fn valid(at: u64) -> Vec<Vec<u8>> {
    let host = |text: &str| text.parse().expect("a literal address is one");
    let new = NewRecord {
        topic: "orders",
        queue_id: QueueId(3),
        body: b"a body that is not long",
        properties: b"TAGS\x01paid\x02KEYS\x01k1 k2\x02UNIQ_KEY\x0101A2B3\x02",
        tag: Some("paid"),
        flag: 7,
        sys_flag: 0,
        born_at_ms: 1_700_000_000_000,
        born_host: host("10.1.2.3:4567"),
        store_host: host("10.4.5.6:8081"),
        reconsume_times: 2,
        prepared_offset: LogOffset(0),
    };
    let long_topic = "é".repeat(100);
    let odd = [
        new.clone(),
        NewRecord { topic: &long_topic, born_host: host("[2001:db8::1]:80"), ..new.clone() },
        NewRecord { store_host: host("[2001:db8::2]:80"), body: b"", properties: b"", ..new.clone() },
        NewRecord { sys_flag: 0b11 << 2, properties: b"DELAY\x013\x02", ..new.clone() },
        NewRecord { topic: "SCHEDULE_TOPIC_XXXX", properties: b"DELAY\x0118\x02", ..new },
    ];
    odd.iter()
        .map(|new| {
            let plan = Plan::new(new, new.body.len()).expect("its fields fit");
            let mut record = vec![0; plan.len()];
            plan.put(&mut record);
            seal(&mut record, LogOffset(at), QueueOffset(0), 1_700_000_000_001);
            record
        })
        .collect()
}

/// A record as Java writes it by default: without the checksum property.
pub(crate) fn without_checksum(record: &[u8]) -> Vec<u8> {
    let head = Head::parse(record).expect("it is a record");
    let mut java = record[..record.len() - CRC_BYTES].to_vec();
    let total = java.len() as u32;
    java[..4].copy_from_slice(&total.to_be_bytes());
    let properties = head.properties.len() as u16;
    java[head.properties.start - 2..head.properties.start].copy_from_slice(&properties.to_be_bytes());
    java
}

pub(crate) fn encodings() -> Vec<Vec<u8>> {
    let ours = valid(4096);
    let java: Vec<_> = ours.iter().map(|record| without_checksum(record)).collect();
    [ours, java].concat()
}

pub(crate) fn record(Input { mend: mends, bytes, .. }: Input<'_>) {
    let at = LogOffset(4096);
    let mut bytes = bytes.to_vec();
    if mends && let Some(size) = bytes.first_chunk_mut::<4>() {
        // So that lengths inside are what decides.
        *size = [0; 4];
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_be_bytes());
        mend(&mut bytes, at.0);
    }
    let outline = Outline::read(&bytes);
    let stamp = Stamp::read(&bytes[..bytes.len().min(STAMP_BYTES)]);
    if let Some(head) = bytes.first_chunk() {
        assert_eq!(announced(&bytes), announced_by(head, bytes.len()));
    }
    if let Announced::Record(size) = announced(&bytes) {
        assert!((MIN_RECORD_BYTES..=bytes.len()).contains(&size));
    }
    let Ok(head) = Head::parse(&bytes) else { return };
    // Whoever reads less of a record must see the same.
    let outline = outline.expect("what is a record has an outline");
    assert_eq!((outline.sys_flag, outline.stored_at_ms), (head.sys_flag, head.stored_at_ms));
    assert_eq!(outline.topic, head.topic(&bytes).as_bytes());
    assert!(outline.properties.starts_with(&bytes[head.properties.clone()]));
    let expected =
        Stamp { queue_offset: head.queue_offset, place: head.place, stored_at_ms: head.stored_at_ms };
    assert_eq!(stamp, Some(expected));
    let _ = (head.tags_code(&bytes), head.body_matches(&bytes));
    if head.verify(&bytes, at).is_err() {
        return;
    }
    assert!(head.verify(&bytes, at.plus(1)).is_err(), "it lies at one place");
    let record = head.clone().into_record(&Bytes::copy_from_slice(&bytes));
    let pairs: usize = record.properties().map(|(name, value)| name.len() + value.len() + 1).sum();
    assert!(pairs <= record.properties.len());
    again(&head, &record, &bytes);
}

/// What is decoded, encoded anew, is decoded to the same.
fn again(head: &Head, record: &crate::Record, bytes: &[u8]) {
    let new = NewRecord {
        topic: head.topic(bytes),
        queue_id: head.queue_id,
        body: &record.body,
        properties: &record.properties,
        tag: None,
        flag: head.flag,
        sys_flag: head.sys_flag,
        born_at_ms: head.born_at_ms,
        born_host: head.born_host,
        store_host: head.store_host,
        reconsume_times: head.reconsume_times,
        prepared_offset: head.prepared_offset,
    };
    // Java takes what we do not: longer topics and properties, queue ids below 0.
    let Ok(plan) = Plan::new(&new, usize::MAX) else { return };
    let mut encoded = vec![0; plan.len()];
    plan.put(&mut encoded);
    seal(&mut encoded, head.place, head.queue_offset, head.stored_at_ms);
    let back = Head::parse(&encoded).expect("what was encoded is a record");
    back.verify(&encoded, head.place).expect("its checksum is right");
    let back_record = back.clone().into_record(&Bytes::copy_from_slice(&encoded));
    // A separator may be added to the properties.
    assert!(back_record.properties.starts_with(&record.properties));
    assert!(back_record.properties.len() <= record.properties.len() + 1);
    assert_eq!((&back_record.topic, &back_record.body), (&record.topic, &record.body));
    let numbers = |head: &Head| {
        let times = (head.born_at_ms, head.stored_at_ms);
        let places = (head.place, head.queue_id, head.queue_offset, head.prepared_offset);
        (times, places, head.flag, head.sys_flag, head.reconsume_times, head.born_host, head.store_host)
    };
    assert_eq!(numbers(&back), numbers(head));
}
