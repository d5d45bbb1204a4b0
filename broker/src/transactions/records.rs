//! Half messages, commits and ends as they lie in the log: as RocketMQ writes them.
//!
//! | record | topic | says |
//! |---|---|---|
//! | half message | `RMQ_SYS_TRANS_HALF_TOPIC` | the message, and in properties its real topic and queue |
//! | commit | the real topic | the message, with the log offset of its half message |
//! | end | `RMQ_SYS_TRANS_OP_HALF_TOPIC` | the queue offset of a half message that was committed, rolled back or given up |
//! | given up | `TRANS_CHECK_MAX_TIME_TOPIC` | the half message, for people |

use std::net::SocketAddr;

use access::TopicName;
use store::{LogOffset, NewRecord, Properties, QueueId, Record};

pub(super) const HALVES: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub(super) const ENDS: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub(super) const GIVEN_UP: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// The only queue of each of these topics.
pub(super) const QUEUE: QueueId = QueueId(0);

const REAL_TOPIC: &str = "REAL_TOPIC";
const REAL_QUEUE: &str = "REAL_QID";
const IS_TRANSACTION: &str = "TRAN_MSG";
const PRODUCER_GROUP: &str = "PGROUP";
const FIRST_CHECK_SECONDS: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
const HALF_OFFSET: &str = "TRAN_PREPARED_QUEUE_OFFSET";
const TRANSACTION_ID: &str = "__transactionId__";
const MESSAGE_ID: &str = "UNIQ_KEY";
const TAGS: &str = "TAGS";
/// Whoever writes that property himself may write any number, and nobody would be asked for ever.
const LONGEST_FIRST_CHECK_S: i64 = 24 * 3600;
/// The tag of ends: this half message is done with.
const DONE: &str = "d";

/// RocketMQ's `MessageSysFlag`: how the body is compressed, and that a record commits a transaction.
const COMPRESSION_BITS: i32 = 0x1 | (0x7 << 8);
const COMMITS: i32 = 0x2 << 2;

/// A message whose transaction begins.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// Where it goes if the transaction commits.
    pub(crate) topic: TopicName,
    /// The queue there.
    pub(crate) queue: QueueId,
    pub(crate) body: bytes::Bytes,
    pub(crate) properties: Properties,
    pub(crate) tag: Option<String>,
    pub(crate) message_id: String,
    pub(crate) sys_flag: i32,
    pub(crate) born_at_ms: i64,
    pub(crate) born_host: SocketAddr,
    /// How long its producer may take before it is asked; `None`: as configured.
    pub(crate) first_check_after: Option<std::time::Duration>,
}

impl Prepared {
    /// The properties of the half message.
    pub(super) fn half_properties(&self) -> Properties {
        let mut properties = self.properties.clone();
        properties.push(REAL_TOPIC, self.topic.as_str());
        properties.push(REAL_QUEUE, &self.queue.0.to_string());
        properties.push(IS_TRANSACTION, "true");
        // Clients of this protocol have no producer groups: RocketMQ's proxy names the topic too.
        properties.push(PRODUCER_GROUP, self.topic.as_str());
        if let Some(after) = self.first_check_after {
            properties.push(FIRST_CHECK_SECONDS, &after.as_secs().to_string());
        }
        properties
    }

    pub(super) fn half<'a>(&'a self, properties: &'a Properties, store_host: SocketAddr) -> NewRecord<'a> {
        NewRecord {
            topic: HALVES,
            queue_id: QUEUE,
            body: &self.body,
            properties: properties.as_bytes(),
            tag: self.tag.as_deref(),
            flag: 0,
            sys_flag: self.sys_flag & COMPRESSION_BITS,
            born_at_ms: self.born_at_ms,
            born_host: self.born_host,
            store_host,
            reconsume_times: 0,
            prepared_offset: LogOffset(0),
        }
    }
}

/// What a half message says of itself.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) topic: TopicName,
    pub(super) queue: QueueId,
    /// `None`: as configured.
    pub(super) first_check_after_ms: Option<i64>,
}

/// `None`: it is none.
pub(super) fn read(half: &Record) -> Option<Read> {
    Some(Read {
        topic: TopicName::internal(property(half, REAL_TOPIC)?).ok()?,
        queue: QueueId(property(half, REAL_QUEUE)?.parse().ok()?),
        first_check_after_ms: property(half, FIRST_CHECK_SECONDS)
            .and_then(|seconds| seconds.parse::<i64>().ok())
            .filter(|seconds| *seconds > 0)
            .map(|seconds| seconds.min(LONGEST_FIRST_CHECK_S) * 1000),
    })
}

pub(super) fn message_id(record: &Record) -> &str {
    property(record, MESSAGE_ID).unwrap_or_default()
}

/// The properties of the message once it is committed.
pub(super) fn committed_properties(half: &Record) -> Properties {
    let mut properties = Properties::default();
    let only_of_halves = [REAL_TOPIC, REAL_QUEUE, FIRST_CHECK_SECONDS, TRANSACTION_ID];
    for (name, value) in half.properties().filter(|(name, _)| !only_of_halves.contains(name)) {
        properties.push(name, value);
    }
    properties.push(HALF_OFFSET, &half.queue_offset.0.to_string());
    properties.push(TRANSACTION_ID, message_id(half));
    properties
}

/// The message as consumers get it.
pub(super) fn commit<'a>(
    half: &'a Record,
    to: &'a Read,
    properties: &'a Properties,
    store_host: SocketAddr,
) -> NewRecord<'a> {
    NewRecord {
        topic: to.topic.as_str(),
        queue_id: to.queue,
        sys_flag: half.sys_flag & COMPRESSION_BITS | COMMITS,
        prepared_offset: half.log_offset,
        ..copy(half, properties.as_bytes(), store_host)
    }
}

/// The half message, where people find it.
pub(super) fn given_up(half: &Record, store_host: SocketAddr) -> NewRecord<'_> {
    NewRecord { topic: GIVEN_UP, queue_id: QUEUE, ..copy(half, &half.properties, store_host) }
}

fn copy<'a>(half: &'a Record, properties: &'a [u8], store_host: SocketAddr) -> NewRecord<'a> {
    NewRecord {
        topic: HALVES,
        queue_id: QUEUE,
        body: &half.body,
        properties,
        tag: property(half, TAGS),
        flag: half.flag,
        sys_flag: half.sys_flag & COMPRESSION_BITS,
        born_at_ms: half.born_at_ms,
        born_host: half.born_host,
        store_host,
        reconsume_times: 0,
        prepared_offset: LogOffset(0),
    }
}

/// The body of an end; RocketMQ lists several.
pub(super) fn end_body(half_offset: u64) -> String {
    format!("{half_offset},")
}

pub(super) fn end_properties() -> Properties {
    let mut properties = Properties::default();
    properties.push(TAGS, DONE);
    properties
}

pub(super) fn end<'a>(
    body: &'a str,
    properties: &'a Properties,
    now_ms: i64,
    host: SocketAddr,
) -> NewRecord<'a> {
    NewRecord {
        topic: ENDS,
        queue_id: QUEUE,
        body: body.as_bytes(),
        properties: properties.as_bytes(),
        tag: Some(DONE),
        flag: 0,
        sys_flag: 0,
        born_at_ms: now_ms,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: LogOffset(0),
    }
}

/// The half messages that a record of ends names.
pub(super) fn ended(end: &Record) -> impl Iterator<Item = u64> {
    let text = std::str::from_utf8(&end.body).unwrap_or_default();
    text.split(',').filter_map(|offset| offset.trim().parse().ok())
}

fn property<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.properties().find(|(found, _)| *found == name).map(|(_, value)| value)
}
