//! `gantry message …`: stored messages, as the brokers that have them show them, and what became of them.

pub mod find;
pub mod get;
pub mod trace;

use proto::control as wire;
use serde::Serialize;

use crate::control::Broker;
use crate::failure::Failure;
use crate::message::{Message, labelled};
use crate::output::{Paint, View};
use crate::units;

/// A message, and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// The broker's name.
    pub broker: String,
    /// All of it, the body if it was asked for.
    #[serde(flatten)]
    pub message: Message,
    /// Bytes of the body.
    pub body_bytes: u64,
}

impl Stored {
    fn of(broker: &Broker, message: wire::StoredMessage) -> Result<Self, Failure> {
        let broker = broker.label.clone();
        match Message::of_broker(message) {
            Ok((message, body_bytes)) => Ok(Self { broker, message, body_bytes }),
            Err(error) => {
                Err(Failure::failed(format!("{broker} answered with a message that is none: {error}"))
                    .next("use the gantry of the broker's version: gantry status shows it"))
            }
        }
    }
}

impl View for Stored {
    fn text(&self, paint: Paint) -> String {
        let Self { broker, message, body_bytes } = self;
        let mut text = format!("{}\n{}", labelled("broker", broker, paint), message.text(paint));
        if message.body_base64.is_none() {
            let body = format!("{}, shown with --body", units::bytes(*body_bytes));
            text = format!("{text}\n{}", labelled("body", &body, paint));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of a broker, with a body of seven bytes.
    pub(super) fn stored(broker: &str, stored_at_ms: i64, body: Option<&'static [u8]>) -> Stored {
        let message = wire::StoredMessage {
            topic: "orders".to_owned(),
            queue_id: 3,
            queue_offset: 4711,
            log_offset: 1_073_741_824,
            stored_at_ms,
            store_host: "[2001:db8::1]:8081".to_owned(),
            born_at_ms: 1_795_628_529_000,
            born_host: "10.1.2.3:4567".to_owned(),
            flag: 0,
            sys_flag: 0x20,
            reconsume_times: 0,
            prepared_offset: 0,
            properties: "KEYS\u{1}k1 k2\u{2}TAGS\u{1}eu\u{2}UNIQ_KEY\u{1}0A7F\u{2}".into(),
            body_bytes: 7,
            body: body.map(Into::into),
        };
        let (message, body_bytes) = Message::of_broker(message).unwrap();
        Stored { broker: broker.to_owned(), message, body_bytes }
    }
}
