//! A Topic with everything settled. After this nobody looks at the spec. Pure.

use crds::{MessageType, Topic};
use proto::control;

/// What brokers shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The name that clients use.
    pub name: String,
    /// Queues in each group.
    pub queues: u32,
    /// Whether clients may receive.
    pub readable: bool,
    /// Whether clients may send.
    pub writable: bool,
    /// What producers may send.
    pub message_type: control::MessageType,
    /// What is stamped on the topic.
    pub owner: String,
}

/// Settles what the spec leaves open.
pub fn wanted(topic: &Topic, name: String, owner: String) -> Wanted {
    let spec = &topic.spec;
    Wanted {
        name,
        owner,
        queues: u32::try_from(spec.queues).unwrap_or(1),
        readable: spec.permission.readable(),
        writable: spec.permission.writable(),
        message_type: message_type(spec.message_type),
    }
}

fn message_type(type_: MessageType) -> control::MessageType {
    match type_ {
        MessageType::Normal => control::MessageType::Normal,
        MessageType::Fifo => control::MessageType::Fifo,
        MessageType::Delay => control::MessageType::Delay,
        MessageType::Transaction => control::MessageType::Transaction,
        MessageType::Priority => control::MessageType::Priority,
        MessageType::Lite => control::MessageType::Lite,
        MessageType::Mixed => control::MessageType::Mixed,
    }
}
