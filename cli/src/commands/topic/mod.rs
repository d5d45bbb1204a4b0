//! `gantry topic …`: on the control plane the brokers' own topics, in Kubernetes mode Topic
//! resources.

pub mod create;
pub mod delete;
pub mod describe;
pub mod list;
pub mod many;
pub mod update;

use proto::control as wire;

use crate::args::{MessageType, Permission};
use crate::control::Broker;
use crate::failure::Failure;

impl MessageType {
    /// As the control plane has it.
    pub(crate) fn on_wire(self) -> wire::MessageType {
        match self {
            Self::Normal => wire::MessageType::Normal,
            Self::Fifo => wire::MessageType::Fifo,
            Self::Delay => wire::MessageType::Delay,
            Self::Transaction => wire::MessageType::Transaction,
            Self::Priority => wire::MessageType::Priority,
            Self::Lite => wire::MessageType::Lite,
            Self::Mixed => wire::MessageType::Mixed,
        }
    }
}

impl Permission {
    /// (readable, writable)
    pub(crate) fn flags(self) -> (bool, bool) {
        match self {
            Self::ReadWrite => (true, true),
            Self::ReadOnly => (true, false),
            Self::WriteOnly => (false, true),
            Self::None => (false, false),
        }
    }
}

/// A permission as it is printed.
pub(crate) fn permission_text(readable: bool, writable: bool) -> &'static str {
    match (readable, writable) {
        (true, true) => "ReadWrite",
        (true, false) => "ReadOnly",
        (false, true) => "WriteOnly",
        (false, false) => "None",
    }
}

/// A message type as it is printed: the word of the Topic resource.
pub(crate) fn type_text(message_type: wire::MessageType) -> &'static str {
    match message_type {
        wire::MessageType::Unspecified => "?",
        wire::MessageType::Normal => "Normal",
        wire::MessageType::Fifo => "Fifo",
        wire::MessageType::Delay => "Delay",
        wire::MessageType::Transaction => "Transaction",
        wire::MessageType::Lite => "Lite",
        wire::MessageType::Priority => "Priority",
        wire::MessageType::Mixed => "Mixed",
    }
}

/// Queues as they are printed: read and write queues differ only while a topic shrinks.
pub(crate) fn queues_text(read_queues: u32, write_queues: u32) -> String {
    match read_queues == write_queues {
        true => read_queues.to_string(),
        false => format!("{read_queues}r/{write_queues}w"),
    }
}

/// The topic as one broker has it, or nothing.
pub(crate) async fn find(
    broker: &mut Broker,
    topic: &str,
) -> Result<Option<wire::DescribeTopicResponse>, Failure> {
    match broker.admin.describe_topic(wire::DescribeTopicRequest { name: topic.to_owned() }).await {
        Ok(found) => Ok(Some(found.into_inner())),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => {
            Err(Failure::from_status(&format!("describe topic {topic} on {}", broker.label), &status))
        }
    }
}

/// Nobody has the topic.
pub(crate) fn missing(topic: &str) -> Failure {
    Failure::not_found(format!("topic {topic} does not exist"))
        .next(format!("gantry topic list shows all; gantry topic create {topic} makes it"))
}
