//! Wire ↔ domain: messages as clients write them, and as they lie in the log.
//!
//! Properties keep RocketMQ's names, so that its own tools read the log. The body is never copied on
//! its way in, nor on its way out.

use std::collections::BTreeMap;
use std::time::Duration;

use access::{LiteTopic, Refusal};
use bytes::Bytes;
use proto::v2::{self, Code, Encoding};
use store::{Properties, Record};

use super::bodies;
use crate::delivery::Received;
use crate::topics::MessageType;

const KEYS: &str = "KEYS";
const TAGS: &str = "TAGS";
const MESSAGE_ID: &str = "UNIQ_KEY";
const MESSAGE_GROUP: &str = "__SHARDINGKEY";
const TRACE_CONTEXT: &str = "TRACE_CONTEXT";
const BORN_HOST: &str = "__BORNHOST";
const BORN_TIMESTAMP: &str = "BORN_TIMESTAMP";
const DELIVER_AT: &str = "TIMER_DELIVER_MS";
const PRIORITY: &str = "_SYS_MSG_PRIORITY_";
const IS_TRANSACTION: &str = "TRAN_MSG";
const ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
const ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
const LITE_TOPIC: &str = "__LITE_TOPIC";

/// Names that a user property may not have (RocketMQ: `MessageConst.STRING_HASH_SET`), and those beginning with `TIMER_`.
const RESERVED: [&str; 40] = [
    KEYS,
    TAGS,
    "WAIT",
    "DELAY",
    "RETRY_TOPIC",
    "REAL_TOPIC",
    "REAL_QID",
    IS_TRANSACTION,
    "PGROUP",
    "MIN_OFFSET",
    "MAX_OFFSET",
    "BUYER_ID",
    "ORIGIN_MESSAGE_ID",
    "TRANSFER_FLAG",
    "CORRECTION_FLAG",
    "MQ2_FLAG",
    "RECONSUME_TIME",
    MESSAGE_ID,
    "EXTEND_UNIQ_INFO",
    "MAX_RECONSUME_TIMES",
    "CONSUME_START_TIME",
    "POP_CK",
    "POP_CK_OFFSET",
    "1ST_POP_TIME",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "DUP_INFO",
    "INSTANCE_ID",
    "CORRELATION_ID",
    "REPLY_TO_CLIENT",
    "TTL",
    "ARRIVE_TIME",
    "PUSH_REPLY_TIME",
    "CLUSTER",
    "MSG_TYPE",
    "MSG_REGION",
    "TRACE_ON",
    "INNER_MULTI_QUEUE_OFFSET",
    BORN_HOST,
    BORN_TIMESTAMP,
    "__CRC32#",
];
const RESERVED_TOO: [&str; 5] = [ORIGIN_TOPIC, ORIGIN_MESSAGE_ID, PRIORITY, LITE_TOPIC, TRACE_CONTEXT];
/// Names that are the broker's own business, though a user property may have them.
const HIDDEN: [&str; 1] = ["CHECK_IMMUNITY_TIME_IN_SECONDS"];
const RESERVED_PREFIX: &str = "TIMER_";

const MAX_USER_PROPERTIES: usize = 128;
const MAX_PROPERTY_BYTES: usize = 16 << 10;
/// A message group is shorter than this.
const MESSAGE_GROUP_BYTES: usize = 64;
const LONGEST_RECOVERY_S: i64 = 3600;
/// Of the properties of most messages, encoded.
const USUAL_PROPERTY_BYTES: usize = 256;

/// RocketMQ's `MessageSysFlag.COMPRESSED_FLAG`: the body is what the client compressed.
const COMPRESSED: i32 = 0x1;

/// A message that may be stored.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) body: Bytes,
    pub(super) properties: Properties,
    pub(super) tag: Option<String>,
    pub(super) message_id: String,
    pub(super) message_group: Option<String>,
    /// The higher the more urgent.
    pub(super) priority: Option<u32>,
    pub(super) lite_topic: Option<LiteTopic>,
    pub(super) kind: MessageType,
    /// When it is to be delivered, if it says so.
    pub(super) deliver_at_ms: Option<i64>,
    pub(super) sys_flag: i32,
    pub(super) born_at_ms: i64,
    /// Of a transaction: how long its producer may take before it is asked.
    pub(super) first_check_after: Option<Duration>,
}

/// Checks a message and takes it apart.
pub(super) fn incoming(
    message: v2::Message,
    max_body_bytes: usize,
    longest_delay: Duration,
    now_ms: i64,
) -> Result<Incoming, Refusal> {
    let v2::Message { topic: _, user_properties, system_properties, body } = message;
    let system = system_properties.ok_or_else(|| {
        Refusal::new(Code::MessageCorrupted, "the message has no system properties: set at least message_id")
    })?;
    check_body(&body, max_body_bytes)?;
    check_properties(&user_properties, &system)?;
    let kind = kind_of(&system);
    check_times(&system, longest_delay, now_ms)?;

    let v2::SystemProperties {
        tag,
        keys,
        message_id,
        body_digest,
        body_encoding,
        message_type: _,
        born_timestamp,
        born_host,
        store_timestamp: _,
        store_host: _,
        delivery_timestamp,
        receipt_handle: _,
        queue_id: _,
        queue_offset: _,
        invisible_duration: _,
        delivery_attempt: _,
        message_group,
        trace_context,
        orphaned_transaction_recovery_duration,
        dead_letter_queue: _,
        lite_topic,
        priority,
    } = system;
    if body_digest.is_some_and(|digest| bodies::contradicts(&digest, &body)) {
        return Err(Refusal::new(
            Code::MessageCorrupted,
            "the body is not the one of the digest that came with it: send it again",
        ));
    }
    // A producer whose clock is beyond all bounds has none.
    let born_at_ms = born_timestamp.as_ref().filter(|at| is_valid(at)).map_or(now_ms, timestamp_ms);
    let sys_flag = match Encoding::try_from(body_encoding) {
        Ok(Encoding::Gzip) => COMPRESSED,
        Ok(Encoding::Identity | Encoding::Unspecified) => 0,
        Err(_) => {
            return Err(Refusal::new(
                Code::MessageCorrupted,
                format!("the body encoding {body_encoding} is unknown: use IDENTITY or GZIP"),
            ));
        }
    };

    let mut properties = Properties::with_capacity(USUAL_PROPERTY_BYTES);
    for (name, value) in &user_properties {
        properties.push(name, value);
    }
    properties.push(MESSAGE_ID, &message_id);
    if let Some(tag) = &tag {
        properties.push(TAGS, tag);
    }
    match keys.as_slice() {
        [] => {}
        [key] => properties.push(KEYS, key),
        keys => properties.push(KEYS, &keys.join(" ")),
    }
    if let Some(group) = &message_group {
        properties.push(MESSAGE_GROUP, group);
    }
    if let Some(context) = trace_context.as_deref().filter(|context| is_storable(context)) {
        properties.push(TRACE_CONTEXT, context);
    }
    if is_storable(&born_host) {
        properties.push(BORN_HOST, &born_host);
    }
    let lite_topic = lite_topic.as_deref().filter(|_| kind == MessageType::Lite);
    let lite_topic = lite_topic.map(LiteTopic::parse).transpose()?;
    if let Some(lite) = &lite_topic {
        properties.push(LITE_TOPIC, lite.as_str());
    }
    let deliver_at_ms = delivery_timestamp.as_ref().map(timestamp_ms);
    if let Some(at) = deliver_at_ms {
        properties.push(DELIVER_AT, &at.to_string());
    }
    let priority = priority.map(|priority| u32::try_from(priority).unwrap_or(0));
    if let Some(priority) = priority {
        properties.push(PRIORITY, &priority.to_string());
    }
    let first_check_after = orphaned_transaction_recovery_duration.as_ref().and_then(duration);
    let first_check_after = first_check_after.filter(|after| !after.is_zero());
    Ok(Incoming {
        body,
        properties,
        tag,
        message_id,
        message_group,
        priority,
        lite_topic,
        kind,
        deliver_at_ms,
        sys_flag,
        born_at_ms,
        first_check_after,
    })
}

/// The type of a message is what its properties make it (RocketMQ looks at them in this order).
fn kind_of(system: &v2::SystemProperties) -> MessageType {
    if system.message_type == v2::MessageType::Transaction as i32 {
        MessageType::Transaction
    } else if system.delivery_timestamp.is_some() {
        MessageType::Delay
    } else if system.message_group.is_some() {
        MessageType::Fifo
    } else if system.lite_topic.is_some() {
        MessageType::Lite
    } else if system.priority.is_some() {
        MessageType::Priority
    } else {
        MessageType::Normal
    }
}

fn check_body(body: &[u8], limit: usize) -> Result<(), Refusal> {
    match body.len() {
        0 => Err(Refusal::new(Code::MessageBodyEmpty, "the message has no body: send at least one byte")),
        found if found > limit => Err(Refusal::new(
            Code::MessageBodyTooLarge,
            format!("the body has {found} bytes, the limit is {limit}: send less, or a reference to it"),
        )),
        _ => Ok(()),
    }
}

fn check_properties(user: &BTreeMap<String, String>, system: &v2::SystemProperties) -> Result<(), Refusal> {
    let too_large = |sentence: String| Err(Refusal::new(Code::MessagePropertiesTooLarge, sentence));
    if user.len() > MAX_USER_PROPERTIES {
        return too_large(format!(
            "the message has {} user properties: use at most {MAX_USER_PROPERTIES}",
            user.len()
        ));
    }
    let mut bytes =
        system.tag.as_ref().map_or(0, String::len) + system.keys.iter().map(String::len).sum::<usize>();
    for (name, value) in user {
        bytes += name.len() + value.len();
        check_user_property(name, value)?;
    }
    if bytes > MAX_PROPERTY_BYTES {
        return too_large(format!(
            "properties, tag and keys take {bytes} bytes: use at most {MAX_PROPERTY_BYTES}"
        ));
    }
    if let Some(tag) = &system.tag
        && (is_blank(tag) || tag.contains('|') || has_control(tag))
    {
        return Err(Refusal::new(
            Code::IllegalMessageTag,
            format!(
                "the tag {tag:?} is blank or contains '|' or a control character: use another tag, or none"
            ),
        ));
    }
    if let Some(key) = system.keys.iter().find(|key| is_blank(key) || has_control(key)) {
        return Err(Refusal::new(
            Code::IllegalMessageKey,
            format!("the key {key:?} is blank or contains a control character: use another key"),
        ));
    }
    if is_blank(&system.message_id) || has_control(&system.message_id) {
        return Err(Refusal::new(
            Code::IllegalMessageId,
            "the message id is blank or contains a control character: set an id that is unique",
        ));
    }
    if let Some(priority) = system.priority
        && priority < 0
    {
        return Err(Refusal::new(
            Code::BadRequest,
            format!("the priority is {priority}: use 0, or more for what is more urgent"),
        ));
    }
    if let Some(group) = &system.message_group
        && (is_blank(group) || group.len() >= MESSAGE_GROUP_BYTES || has_control(group))
    {
        return Err(Refusal::new(
            Code::IllegalMessageGroup,
            format!(
                "the message group {group:?} is blank, contains a control character or has {MESSAGE_GROUP_BYTES} bytes or more: use another one"
            ),
        ));
    }
    Ok(())
}

fn check_user_property(name: &str, value: &str) -> Result<(), Refusal> {
    let illegal = |sentence: String| Err(Refusal::new(Code::IllegalMessagePropertyKey, sentence));
    if is_blank(name) {
        return illegal("a user property has a blank name: name it".to_owned());
    }
    if RESERVED.contains(&name) || RESERVED_TOO.contains(&name) || name.starts_with(RESERVED_PREFIX) {
        return illegal(format!("the name {name} is reserved: rename the user property"));
    }
    if has_control(name) || has_control(value) {
        return illegal(format!("the user property {name:?} contains a control character: encode it"));
    }
    Ok(())
}

fn check_times(system: &v2::SystemProperties, longest_delay: Duration, now_ms: i64) -> Result<(), Refusal> {
    let longest_ms = i64::try_from(longest_delay.as_millis()).unwrap_or(i64::MAX);
    if let Some(at) = &system.delivery_timestamp
        && !is_valid(at)
    {
        return Err(Refusal::new(
            Code::IllegalDeliveryTime,
            format!(
                "the delivery timestamp of {} s and {} ns is not between the years 1 and 9999: choose one that is",
                at.seconds, at.nanos
            ),
        ));
    }
    if let Some(at) = &system.delivery_timestamp
        && timestamp_ms(at) > now_ms.saturating_add(longest_ms)
    {
        return Err(Refusal::new(
            Code::IllegalDeliveryTime,
            format!(
                "the delivery timestamp is {} s ahead, and this broker takes {} s at most: choose an earlier one, or raise config.timerMaxDelaySec",
                (timestamp_ms(at) - now_ms) / 1000,
                longest_delay.as_secs()
            ),
        ));
    }
    if system
        .orphaned_transaction_recovery_duration
        .as_ref()
        .is_some_and(|time| time.seconds > LONGEST_RECOVERY_S)
    {
        return Err(Refusal::new(
            Code::BadRequest,
            "the orphaned transaction recovery duration is longer than one hour: choose a shorter one",
        ));
    }
    Ok(())
}

/// A message on its way to a client.
pub(super) fn outgoing(
    received: Received,
    topic: v2::Resource,
    invisible: Option<Duration>,
    digest: v2::DigestType,
) -> v2::Message {
    let Received { record, receipt_handle, attempt, .. } = received;
    let mut message = stored(record, topic, digest);
    if let Some(system) = &mut message.system_properties {
        system.receipt_handle = Some(receipt_handle);
        system.delivery_attempt = Some(i32::try_from(attempt).unwrap_or(i32::MAX));
        system.invisible_duration = invisible.and_then(|time| prost_types::Duration::try_from(time).ok());
    }
    message
}

/// A message as it lies in the log.
pub(super) fn stored(record: Record, topic: v2::Resource, digest: v2::DigestType) -> v2::Message {
    let (body, encoding) = bodies::outgoing(&record);
    let mut system = v2::SystemProperties {
        body_digest: Some(bodies::digest(&body, digest)),
        body_encoding: encoding as i32,
        message_type: v2::MessageType::Normal as i32,
        born_timestamp: Some(timestamp(record.born_at_ms)),
        store_timestamp: Some(timestamp(record.stored_at_ms)),
        store_host: record.store_host.to_string(),
        queue_id: i32::try_from(record.queue_id.0).unwrap_or(i32::MAX),
        queue_offset: Some(i64::try_from(record.queue_offset.0).unwrap_or(i64::MAX)),
        ..v2::SystemProperties::default()
    };
    let mut user_properties = BTreeMap::new();
    let (mut origin_topic, mut origin_id) = (None, None);
    for (name, value) in record.properties() {
        match name {
            // RocketMQ's decoder does not see empty ones.
            MESSAGE_ID | TAGS | LITE_TOPIC | TRACE_CONTEXT | BORN_HOST | ORIGIN_TOPIC if value.is_empty() => {
            }
            MESSAGE_ID => system.message_id = value.to_owned(),
            TAGS => system.tag = Some(value.to_owned()),
            KEYS => system.keys = value.split(' ').filter(|key| !key.is_empty()).map(str::to_owned).collect(),
            MESSAGE_GROUP if !value.is_empty() => {
                system.message_group = Some(value.to_owned());
                system.message_type = v2::MessageType::Fifo as i32;
                // The Node client's users read it here.
                user_properties.insert(name.to_owned(), value.to_owned());
            }
            LITE_TOPIC => {
                system.lite_topic = Some(value.to_owned());
                system.message_type = v2::MessageType::Lite as i32;
            }
            TRACE_CONTEXT => system.trace_context = Some(value.to_owned()),
            BORN_HOST => system.born_host = value.to_owned(),
            DELIVER_AT => {
                system.delivery_timestamp = value.parse().ok().map(timestamp);
                system.message_type = v2::MessageType::Delay as i32;
            }
            IS_TRANSACTION if value == "true" => system.message_type = v2::MessageType::Transaction as i32,
            PRIORITY => {
                system.priority = value.parse().ok();
                system.message_type = v2::MessageType::Priority as i32;
            }
            ORIGIN_TOPIC => origin_topic = Some(value.to_owned()),
            ORIGIN_MESSAGE_ID => origin_id = Some(value.to_owned()),
            _ if HIDDEN.contains(&name) || RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX) => {}
            _ => {
                user_properties.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    if system.message_id.is_empty() {
        // Stored by another front door, without one: clients want some id.
        system.message_id = format!("{:032X}", record.log_offset.0);
    }
    if system.born_host.is_empty() {
        system.born_host = record.born_host.to_string();
    }
    if let (Some(topic), message_id) = (origin_topic, origin_id.unwrap_or_default()) {
        system.dead_letter_queue = Some(v2::DeadLetterQueue { topic, message_id });
    }
    v2::Message { topic: Some(topic), user_properties, system_properties: Some(system), body }
}

/// A duration that is not negative. The conversion that comes with the type negates what is, and the least number has no
/// opposite.
pub(super) fn duration(wire: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(wire.seconds).ok()?;
    let nanos = u64::try_from(wire.nanos).ok()?;
    Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos))
}

/// The years 1 to 9999: what a timestamp of the protocol may be. Java's client throws the whole answer away for another one.
const TIMES_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

fn is_valid(wire: &prost_types::Timestamp) -> bool {
    (0..1_000_000_000).contains(&wire.nanos) && TIMES_MS.contains(&timestamp_ms(wire))
}

/// What other front doors stored may be any number: the nearest time is told.
pub(super) fn timestamp(ms: i64) -> prost_types::Timestamp {
    let ms = ms.clamp(*TIMES_MS.start(), *TIMES_MS.end());
    let nanos = i32::try_from(ms.rem_euclid(1000) * 1_000_000).expect("less than a second");
    prost_types::Timestamp { seconds: ms.div_euclid(1000), nanos }
}

pub(super) fn timestamp_ms(wire: &prost_types::Timestamp) -> i64 {
    wire.seconds.saturating_mul(1000).saturating_add(i64::from(wire.nanos / 1_000_000))
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn has_control(text: &str) -> bool {
    // Of plain ASCII no character need be decoded.
    text.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) && text.chars().any(char::is_control)
}

/// Whether a value that the server does not check further fits between the separators of properties.
fn is_storable(value: &str) -> bool {
    !value.is_empty() && value.len() <= 4096 && !has_control(value)
}
