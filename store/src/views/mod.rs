//! What is derived from the log and can be rebuilt from it: the consume queues of all topics.

pub(crate) mod consume_queue;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::RwLock;

pub(crate) use consume_queue::{ConsumeQueue, RawEntry};

use crate::{LogOffset, QueueId};

/// The queues of a topic, sorted by id.
#[derive(Default)]
struct Topic {
    queues: Vec<Arc<ConsumeQueue>>,
}

/// All queues.
#[derive(Default)]
pub(crate) struct Views {
    topics: RwLock<HashMap<Arc<str>, Topic, RandomState>>,
}

impl Views {
    /// A queue that had a message.
    pub(crate) fn queue(&self, topic: &str, id: QueueId) -> Option<Arc<ConsumeQueue>> {
        let topics = self.topics.read();
        let queues = &topics.get(topic)?.queues;
        let index = queues.binary_search_by_key(&id, |queue| queue.id()).ok()?;
        Some(Arc::clone(&queues[index]))
    }

    /// A queue, made if it is new.
    pub(crate) fn queue_or_new(&self, topic: &str, id: QueueId) -> Arc<ConsumeQueue> {
        if let Some(queue) = self.queue(topic, id) {
            return queue;
        }
        let mut topics = self.topics.write();
        let name = topics.get_key_value(topic).map_or_else(|| Arc::from(topic), |(name, _)| Arc::clone(name));
        let queues = &mut topics.entry(Arc::clone(&name)).or_default().queues;
        match queues.binary_search_by_key(&id, |queue| queue.id()) {
            Ok(index) => Arc::clone(&queues[index]),
            Err(index) => {
                let queue = Arc::new(ConsumeQueue::new(name, id));
                queues.insert(index, Arc::clone(&queue));
                queue
            }
        }
    }

    /// Forgets the queues of a topic.
    pub(crate) fn delete(&self, topic: &str) {
        let Some(gone) = self.topics.write().remove(topic) else { return };
        for queue in gone.queues {
            queue.delete();
        }
    }

    /// The log now starts here: entries of what is before are gone.
    pub(crate) fn advance_min(&self, min: LogOffset) {
        let queues: Vec<_> =
            self.topics.read().values().flat_map(|topic| topic.queues.iter().map(Arc::clone)).collect();
        for queue in queues {
            queue.advance_min(min);
        }
    }
}
