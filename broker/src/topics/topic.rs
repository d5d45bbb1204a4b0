//! What a broker knows about a topic.

use std::sync::atomic::{AtomicU32, Ordering};

use access::TopicName;
use serde::{Deserialize, Serialize};
use store::QueueId;

/// The most queues that a topic may have in one broker.
pub const MAX_QUEUES: u32 = 1024;

/// A topic as it is kept and registered. Readable queue ids are below `read_queues`, writable ones
/// below `write_queues`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Its name.
    pub name: TopicName,
    /// How many queues consumers see.
    pub read_queues: u32,
    /// How many queues producers see.
    pub write_queues: u32,
    /// Whether consumers may read.
    pub readable: bool,
    /// Whether producers may write.
    pub writable: bool,
    /// Which messages it takes.
    pub message_type: MessageType,
    /// Who manages it; empty: nobody.
    pub owner: String,
}

impl TopicConfig {
    /// A readable and writable topic of normal messages.
    #[must_use]
    pub fn new(name: TopicName, queues: u32) -> Self {
        Self {
            name,
            read_queues: queues,
            write_queues: queues,
            readable: true,
            writable: true,
            message_type: MessageType::Normal,
            owner: String::new(),
        }
    }

    /// Whether they agree in all but who manages them.
    pub(super) fn same_but_owner(&self, other: &Self) -> bool {
        let Self { name, read_queues, write_queues, readable, writable, message_type, owner: _ } = other;
        (&self.name, self.read_queues, self.write_queues, self.readable, self.writable, self.message_type)
            == (name, *read_queues, *write_queues, *readable, *writable, *message_type)
    }

    /// For whoever expected something else.
    pub(super) fn in_words(&self) -> String {
        let queues = match self.read_queues == self.write_queues {
            true => format!("{} queues", self.read_queues),
            false => format!("{} queues to read and {} to write", self.read_queues, self.write_queues),
        };
        let may = match (self.readable, self.writable) {
            (true, true) => "readable and writable",
            (true, false) => "only readable",
            (false, true) => "only writable",
            (false, false) => "neither readable nor writable",
        };
        format!("{} messages, {queues}, {may}", self.message_type.as_str())
    }
}

/// Which messages a topic takes, or what kind a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MessageType {
    /// No order, no delay.
    #[default]
    Normal,
    /// In order within a message group.
    Fifo,
    /// Delivered at a time.
    Delay,
    /// Visible once its transaction commits.
    Transaction,
    /// On a lite topic below its topic.
    Lite,
    /// More urgent ones first.
    Priority,
    /// Of a topic only: normal, FIFO, delay and transaction.
    Mixed,
}

impl MessageType {
    /// Whether a topic of this type takes a message of type `message`.
    #[must_use]
    pub fn takes(self, message: MessageType) -> bool {
        use MessageType::{Delay, Fifo, Lite, Mixed, Normal, Priority, Transaction};
        match self {
            Mixed => matches!(message, Normal | Fifo | Delay | Transaction),
            Normal | Fifo | Delay | Transaction | Lite | Priority => self == message,
        }
    }

    /// The name that users write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MessageType::Normal => "NORMAL",
            MessageType::Fifo => "FIFO",
            MessageType::Delay => "DELAY",
            MessageType::Transaction => "TRANSACTION",
            MessageType::Lite => "LITE",
            MessageType::Priority => "PRIORITY",
            MessageType::Mixed => "MIXED",
        }
    }
}

/// A topic in use.
#[derive(Debug)]
pub struct Topic {
    /// What was asked for.
    pub config: TopicConfig,
    turn: AtomicU32,
}

impl Topic {
    pub(crate) fn new(config: TopicConfig) -> Self {
        Self { config, turn: AtomicU32::new(0) }
    }

    /// The queue for messages without a message group: each in its turn. The topic must have one.
    #[must_use]
    pub fn next_queue(&self) -> QueueId {
        QueueId(self.turn.fetch_add(1, Ordering::Relaxed) % self.config.write_queues)
    }

    /// The queue for messages of a priority: the last one is for the most urgent, and for all beyond.
    #[must_use]
    pub fn queue_of_priority(&self, priority: u32) -> QueueId {
        QueueId(priority.min(self.config.write_queues.saturating_sub(1)))
    }

    /// The queue for a message group: the same whichever client sends, and after a restart.
    #[must_use]
    pub fn queue_of_group(&self, message_group: &str) -> QueueId {
        let queue = stable_hash(message_group.as_bytes()) % u64::from(self.config.write_queues);
        QueueId(u32::try_from(queue).expect("a remainder of a u32 fits"))
    }
}

/// FNV-1a with a final mix. Written to disk by way of the queue chosen: it must never change.
#[must_use]
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(queues: u32) -> Topic {
        Topic::new(TopicConfig::new(TopicName::parse("orders").unwrap(), queues))
    }

    #[test]
    fn normal_messages_take_turns() {
        let topic = topic(3);
        let queues: Vec<u32> = (0..6).map(|_| topic.next_queue().0).collect();
        assert_eq!(queues, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_message_group_keeps_its_queue_for_ever() {
        assert_eq!(stable_hash(b""), 17058014651485797458);
        assert_eq!(stable_hash(b"order-1"), 13892068806328221254);
        let topic = topic(8);
        let used: std::collections::BTreeSet<u32> =
            (0..200).map(|n| topic.queue_of_group(&format!("group-{n}")).0).collect();
        assert_eq!(used.len(), 8, "all queues are used");
    }

    #[test]
    fn the_more_urgent_the_higher_the_queue() {
        let queues = |priorities: [u32; 4]| priorities.map(|priority| topic(3).queue_of_priority(priority).0);
        assert_eq!(queues([0, 1, 2, 9]), [0, 1, 2, 2]);
    }

    #[test]
    fn a_topic_takes_messages_of_its_type_only() {
        use MessageType::{Delay, Fifo, Mixed, Normal, Priority};
        let check = |topic: MessageType, message: MessageType, expected: bool| {
            assert_eq!(topic.takes(message), expected, "{topic:?} {message:?}");
        };
        check(Normal, Normal, true);
        check(Normal, Fifo, false);
        check(Fifo, Normal, false);
        check(Mixed, Fifo, true);
        check(Mixed, Delay, true);
        check(Mixed, Priority, false);
    }
}
