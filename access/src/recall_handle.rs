//! Recall handles: which waiting message, as text that clients keep and give back.
//!
//! ```text
//!   base64url of:  g1 due-ms id topic broker message-id        separated by blanks; the id is where it ends in the log,
//!                                                              and only the message id may hold blanks itself
//! ```
//!
//! RocketMQ's begin with `v1` and do not say where the message lies. It is no secret: who may recall is the front door's
//! business, and what a handle says is compared with the message.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

const VERSION: &str = "g1";

/// What a handle says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallHandle {
    /// When the message is due, Unix milliseconds.
    pub due_ms: i64,
    /// Where it ends in the log of its broker.
    pub id: u64,
    /// Its topic.
    pub topic: String,
    /// The broker that keeps it.
    pub broker: String,
    /// The id that the client gave it.
    pub message_id: String,
}

impl RecallHandle {
    /// As clients get it.
    pub fn to_text(&self) -> String {
        let Self { due_ms, id, topic, broker, message_id } = self;
        URL_SAFE.encode(format!("{VERSION} {due_ms} {id} {topic} {broker} {message_id}"))
    }

    /// `None`: this is no handle of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let decoded = String::from_utf8(URL_SAFE.decode(text).ok()?).ok()?;
        let mut fields = decoded.splitn(6, ' ');
        if fields.next() != Some(VERSION) {
            return None;
        }
        Some(Self {
            due_ms: fields.next()?.parse().ok()?,
            id: fields.next()?.parse().ok()?,
            topic: fields.next()?.to_owned(),
            broker: fields.next()?.to_owned(),
            message_id: fields.next()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_comes_back_from_its_text_and_nothing_else_is_one() {
        let handle = RecallHandle {
            due_ms: 1_700_000_000_000,
            id: u64::MAX,
            topic: "orders".to_owned(),
            broker: "broker-a".to_owned(),
            message_id: "an id of its own kind é".to_owned(),
        };
        assert_eq!(RecallHandle::parse(&handle.to_text()), Some(handle));
        let java = URL_SAFE.encode("v1 orders broker-a 1700000000000 01ABCDEF");
        for other in
            ["", "g1", "****", &java, &URL_SAFE.encode("g1 x 1 t b i"), &URL_SAFE.encode([0xFF, 0x20])]
        {
            assert_eq!(RecallHandle::parse(other), None, "{other}");
        }
    }
}
