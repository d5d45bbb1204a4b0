//! Topics and groups as the control plane writes them.

use proto::control;

use crate::topics::{Backoff, GroupConfig, MessageType, TopicConfig};

/// A topic for name servers, operator and command line.
#[must_use]
pub(crate) fn topic(topic: &TopicConfig) -> control::TopicConfig {
    let TopicConfig { name, read_queues, write_queues, readable, writable, message_type, owner } = topic;
    control::TopicConfig {
        name: name.to_string(),
        read_queues: *read_queues,
        write_queues: *write_queues,
        readable: *readable,
        writable: *writable,
        message_type: match message_type {
            MessageType::Normal => control::MessageType::Normal,
            MessageType::Fifo => control::MessageType::Fifo,
            MessageType::Delay => control::MessageType::Delay,
            MessageType::Transaction => control::MessageType::Transaction,
            MessageType::Lite => control::MessageType::Lite,
            MessageType::Priority => control::MessageType::Priority,
            MessageType::Mixed => control::MessageType::Mixed,
        } as i32,
        owner: owner.clone(),
    }
}

/// A group for name servers, operator and command line.
#[must_use]
pub(crate) fn group(group: &GroupConfig) -> control::GroupConfig {
    let GroupConfig { name, consume_enabled, ordered, max_attempts, backoff, owner } = group;
    let kind = match backoff {
        Backoff::Exponential { initial_ms, max_ms, multiplier } => {
            let (initial_ms, max_ms, multiplier) = (*initial_ms, *max_ms, *multiplier);
            control::backoff::Kind::Exponential(control::backoff::Exponential {
                initial_ms,
                max_ms,
                multiplier,
            })
        }
        Backoff::Custom { delays_ms } => {
            control::backoff::Kind::Custom(control::backoff::Custom { delays_ms: delays_ms.clone() })
        }
    };
    control::GroupConfig {
        name: name.to_string(),
        consume_enabled: *consume_enabled,
        ordered: *ordered,
        max_attempts: *max_attempts,
        backoff: Some(control::Backoff { kind: Some(kind) }),
        owner: owner.clone(),
    }
}
