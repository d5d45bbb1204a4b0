//! The scrub's way through the queues: every entry that lies in a block is read, and what is damaged is made anew.

use std::sync::Arc;

use super::blocks::{BLOCK_BYTES, BLOCK_ENTRIES};
use super::{ConsumeQueue, Views};
use crate::disk::Reach;
use crate::error::ReadError;

/// Entries of one queue that are read together.
const ENTRIES: u64 = 32 * BLOCK_ENTRIES;

/// How far it is.
#[derive(Default)]
pub(crate) struct Checking {
    /// Portions of the topics that are read, or being read.
    portions: usize,
    /// What is left of the last of them.
    queues: Vec<Arc<ConsumeQueue>>,
    /// All before is read of the last of these queues.
    from: u64,
}

impl Views {
    /// Reads on, about so many bytes; returns how many. `None`: everything was read. Leaves the page cache as it was.
    pub(crate) fn check(&self, checking: &mut Checking, bytes: u64) -> Option<u64> {
        let mut read = 0;
        while read < bytes {
            let Some(queue) = checking.queues.last() else {
                let Some(portion) = self.topics.portion(checking.portions) else {
                    return (read > 0).then_some(read);
                };
                checking.portions += 1;
                checking.queues = portion.into_iter().flat_map(|(_, queues)| queues).collect();
                continue;
            };
            let in_blocks = queue.in_blocks();
            let from = checking.from.max(in_blocks.start);
            if from >= in_blocks.end {
                checking.queues.pop();
                checking.from = 0;
                continue;
            }
            let end = in_blocks.end.min(from + ENTRIES);
            let look = || queue.read_raw(from, (end - from) as usize, &self.blocks, Reach::DiskOnce);
            match self.repaired(queue, look(), look) {
                // Retention may go on meanwhile.
                Ok(_) | Err(ReadError::Deleted { .. }) => {}
                Err(error) => {
                    tracing::warn!(topic = queue.topic(), queue_id = %queue.id(), first = from, end, %error, "entries of a queue are damaged, and cannot be made anew");
                }
            }
            checking.from = end;
            read += (end - from).div_ceil(BLOCK_ENTRIES) * BLOCK_BYTES;
        }
        Some(read)
    }
}
