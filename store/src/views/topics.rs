//! The queues by topic, in shards: who goes through all of them holds up nobody for long.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use parking_lot::RwLock;

use super::consume_queue::ConsumeQueue;
use super::entries::Entries;
use super::in_use::Queues;
use crate::QueueId;

/// A hundred thousand topics are four hundred to a shard.
const SHARDS: usize = 256;

/// The queues of a topic are sorted by id.
type Shard = HashMap<Arc<str>, Queues, RandomState>;

/// All queues that ever had a message.
pub(super) struct Topics {
    shards: Vec<RwLock<Shard>>,
    hasher: RandomState,
    /// Queues in all.
    count: AtomicU64,
}

impl Default for Topics {
    fn default() -> Self {
        let hasher = RandomState::default();
        let shards = (0..SHARDS).map(|_| RwLock::new(Shard::with_hasher(hasher.clone()))).collect();
        Self { shards, hasher, count: AtomicU64::new(0) }
    }
}

impl Topics {
    fn shard(&self, topic: &str) -> &RwLock<Shard> {
        // Bits that the map itself does not look at first.
        &self.shards[(self.hasher.hash_one(topic) >> 40) as usize % SHARDS]
    }

    /// How many queues there are.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// A queue that had a message.
    pub(super) fn queue(&self, topic: &str, id: QueueId) -> Option<Arc<ConsumeQueue>> {
        let shard = self.shard(topic).read();
        let queues = shard.get(topic)?;
        // Most topics use all of their queues.
        let index = match queues.get(id.0 as usize) {
            Some(queue) if queue.id() == id => id.0 as usize,
            _ => queues.binary_search_by_key(&id, |queue| queue.id()).ok()?,
        };
        Some(Arc::clone(&queues[index]))
    }

    /// Whether a queue of the topic ever had a message.
    pub(super) fn is_known(&self, topic: &str) -> bool {
        self.shard(topic).read().contains_key(topic)
    }

    /// A queue, made if it is new.
    pub(super) fn queue_or_new(&self, topic: &str, id: QueueId) -> Arc<ConsumeQueue> {
        if let Some(queue) = self.queue(topic, id) {
            return queue;
        }
        let mut shard = self.shard(topic).write();
        let name = shard.get_key_value(topic).map_or_else(|| Arc::from(topic), |(name, _)| Arc::clone(name));
        let queues = shard.entry(Arc::clone(&name)).or_default();
        match queues.binary_search_by_key(&id, |queue| queue.id()) {
            Ok(index) => Arc::clone(&queues[index]),
            Err(index) => {
                let queue = Arc::new(ConsumeQueue::new(name, id, Entries::default()));
                queues.insert(index, Arc::clone(&queue));
                self.count.fetch_add(1, Ordering::Relaxed);
                queue
            }
        }
    }

    /// Puts a topic in, as a snapshot has it.
    pub(super) fn restore(&self, topic: &str, queues: impl Iterator<Item = (QueueId, Entries)>) -> Queues {
        let name: Arc<str> = topic.into();
        let mut restored: Queues =
            queues.map(|(id, entries)| Arc::new(ConsumeQueue::new(Arc::clone(&name), id, entries))).collect();
        restored.sort_by_key(|queue| queue.id());
        restored.shrink_to_fit();
        self.count.fetch_add(restored.len() as u64, Ordering::Relaxed);
        self.shard(topic).write().insert(name, restored.clone());
        restored
    }

    /// Takes a topic out; empty if none of its queues ever had a message.
    pub(super) fn remove(&self, topic: &str) -> Queues {
        let removed = self.shard(topic).write().remove(topic).unwrap_or_default();
        self.count.fetch_sub(removed.len() as u64, Ordering::Relaxed);
        removed
    }

    /// All topics and their queues, a portion at a time, each as it is when its turn comes.
    pub(super) fn portions(&self) -> impl Iterator<Item = Vec<(Arc<str>, Queues)>> {
        (0..).map_while(|number| self.portion(number))
    }

    /// One of the portions, by its number from 0.
    pub(super) fn portion(&self, number: usize) -> Option<Vec<(Arc<str>, Queues)>> {
        let shard = self.shards.get(number)?.read();
        Some(shard.iter().map(|(name, queues)| (Arc::clone(name), queues.clone())).collect())
    }
}
