//! Transaction ids: which half message in which broker, as text.
//!
//! URL-safe base64 of `v1 <broker> <queue offset of the half message> <message id>`: whoever is asked to end a
//! transaction finds the broker that keeps it in the id.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const VERSION: &str = "v1";

/// What a transaction id says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionId {
    /// The broker that keeps the half message.
    pub broker: String,
    /// Its place in the queue of half messages.
    pub offset: u64,
    /// The id that the client gave the message.
    pub message_id: String,
}

impl TransactionId {
    /// As clients get it.
    pub fn to_text(&self) -> String {
        let Self { broker, offset, message_id } = self;
        URL_SAFE_NO_PAD.encode(format!("{VERSION} {broker} {offset} {message_id}"))
    }

    /// `None`: no broker of this version made it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        // A message id may hold spaces; it is the last.
        let mut fields = text.splitn(4, ' ');
        let (version, broker, offset, message_id) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        if version != VERSION || broker.is_empty() || message_id.is_empty() {
            return None;
        }
        Some(Self {
            broker: broker.to_owned(),
            offset: offset.parse().ok()?,
            message_id: message_id.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_says_what_it_was_made_of(broker in "[a-z-]{1,20}", offset: u64, message_id in "[ -~]{1,40}") {
            let id = TransactionId { broker, offset, message_id };
            prop_assert_eq!(TransactionId::parse(&id.to_text()), Some(id));
        }

        #[test]
        fn any_text_is_an_id_or_none(text in ".*") {
            if let Some(id) = TransactionId::parse(&text) {
                prop_assert_eq!(TransactionId::parse(&id.to_text()), Some(id));
            }
        }
    }

    #[test]
    fn what_was_cut_is_no_id() {
        let id = TransactionId { broker: "broker-a".to_owned(), offset: 7, message_id: "0A".to_owned() };
        let text = id.to_text();
        assert_eq!(TransactionId::parse(&text[..10]), None);
        assert_eq!(TransactionId::parse(""), None);
    }
}
