//! A stored message in words: all of its fields, as JSON and as people read it, from a broker or from a directory. The same
//! JSON is a line of an export.

use std::fmt::Write as _;
use std::net::{AddrParseError, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::control as wire;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use store::{LogOffset, QueueId, QueueOffset, Record};

use crate::output::{Paint, View};
use crate::units;

/// A message as it lies in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The queue of the topic.
    pub queue_id: u32,
    /// Its place in the queue; 0 for messages that are in none.
    pub queue_offset: u64,
    /// Its place in the log.
    pub log_offset: u64,
    /// Store's clock, Unix milliseconds.
    pub stored_at_ms: i64,
    /// The broker that stored it.
    pub store_host: SocketAddr,
    /// Producer's clock, Unix milliseconds.
    pub born_at_ms: i64,
    /// Where the producer was.
    pub born_host: SocketAddr,
    /// RocketMQ's user flag.
    pub flag: i32,
    /// RocketMQ's system flag: compression, transaction, kind of hosts.
    pub sys_flag: i32,
    /// How often it was consumed before.
    pub reconsume_times: i32,
    /// Log offset of the half message that this one commits, or 0.
    pub prepared_offset: u64,
    /// Its properties, in their order.
    pub properties: Pairs,
    /// All properties as they are stored, where pairs alone would not give them back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties_base64: Option<Base64>,
    /// The body as sent, compressed or not; nothing if nobody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<Base64>,
}

/// Names and values in an order; a JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs(pub Vec<(String, String)>);

/// Bytes; in JSON text in base64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Message {
    /// The message of a record.
    pub fn of(record: &Record) -> Self {
        let pairs =
            Pairs(record.properties().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
        let same = pairs.encoded() == record.properties;
        Self {
            topic: String::from_utf8_lossy(&record.topic).into_owned(),
            queue_id: record.queue_id.0,
            queue_offset: record.queue_offset.0,
            log_offset: record.log_offset.0,
            stored_at_ms: record.stored_at_ms,
            store_host: record.store_host,
            born_at_ms: record.born_at_ms,
            born_host: record.born_host,
            flag: record.flag,
            sys_flag: record.sys_flag,
            reconsume_times: record.reconsume_times,
            prepared_offset: record.prepared_offset.0,
            properties: pairs,
            properties_base64: (!same).then(|| Base64(record.properties.to_vec())),
            body_base64: Some(Base64(record.body.to_vec())),
        }
    }

    /// The message of a broker's answer, and the bytes of its body.
    pub fn of_broker(message: wire::StoredMessage) -> Result<(Self, u64), AddrParseError> {
        let wire::StoredMessage {
            topic,
            queue_id,
            queue_offset,
            log_offset,
            stored_at_ms,
            store_host,
            born_at_ms,
            born_host,
            flag,
            sys_flag,
            reconsume_times,
            prepared_offset,
            properties,
            body_bytes,
            body,
        } = message;
        let has_body = body.is_some();
        let record = Record {
            log_offset: LogOffset(log_offset),
            queue_id: QueueId(queue_id),
            queue_offset: QueueOffset(queue_offset),
            flag,
            sys_flag,
            born_at_ms,
            born_host: born_host.parse()?,
            stored_at_ms,
            store_host: store_host.parse()?,
            reconsume_times,
            prepared_offset: LogOffset(prepared_offset),
            topic: topic.into(),
            body: body.unwrap_or_default(),
            properties,
        };
        let message = Self::of(&record);
        let body_base64 = message.body_base64.filter(|_| has_body);
        Ok((Self { body_base64, ..message }, body_bytes))
    }

    /// The body; empty if nobody asked for it.
    pub fn body(&self) -> &[u8] {
        self.body_base64.as_ref().map_or(&[], |body| &body.0)
    }

    /// The properties as they are stored.
    pub fn encoded_properties(&self) -> Vec<u8> {
        self.properties_base64.as_ref().map_or_else(|| self.properties.encoded(), |bytes| bytes.0.clone())
    }
}

impl Pairs {
    /// RocketMQ's form: `name 0x01 value 0x02`, repeated.
    fn encoded(&self) -> Vec<u8> {
        let mut encoded = store::Properties::default();
        self.0.iter().for_each(|(name, value)| encoded.push(name, value));
        encoded.as_bytes().to_vec()
    }

    /// The value of a name; of several the last counts.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|pair| pair.0 == name).map(|pair| pair.1.as_str())
    }
}

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of property names and texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

impl View for Message {
    fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", labelled(name, &value, paint));
        };
        line("topic", self.topic.clone());
        line("queue", format!("{}, offset {}", self.queue_id, self.queue_offset));
        line("log offset", self.log_offset.to_string());
        line("stored", format!("{} by {}", units::instant(self.stored_at_ms), self.store_host));
        line("born", format!("{} at {}", units::instant(self.born_at_ms), self.born_host));
        line("flags", format!("{}, system {:#x}", self.flag, self.sys_flag));
        line("consumed before", units::counted(u64::from(self.reconsume_times.unsigned_abs()), "time"));
        if self.prepared_offset != 0 {
            line("commits", format!("the half message at log offset {}", self.prepared_offset));
        }
        for (name, value) in &self.properties.0 {
            line("property", format!("{name} = {value}"));
        }
        match &self.body_base64 {
            Some(Base64(body)) => {
                line("body", units::bytes(body.len() as u64));
                text.push_str(&body_text(body));
            }
            // The last line's end.
            None => _ = text.pop(),
        }
        text
    }
}

/// A line of a message.
pub(crate) fn labelled(name: &str, value: &str, paint: Paint) -> String {
    format!("{}{value}", paint.heading(&format!("{name:<16}")))
}

/// The body if it is text, else its base64.
fn body_text(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !c.is_whitespace()) => text.to_owned(),
        _ => STANDARD.encode(body),
    }
}
