//! Entries that were damaged on the disk are made anew from the log, which has all that they say.
//!
//! The entries before and behind a damaged stretch say between which places of the log its messages lie, so that only
//! this part is walked. Where they are damaged too it is all of the log.

use std::ops::Range;
use std::sync::Arc;

use super::blocks::Blocks;
use super::consume_queue::{ConsumeQueue, Trouble};
use super::deleted::KeptMarks;
use super::entry::RawEntry;
use crate::LogOffset;
use crate::commit_log::CommitLog;
use crate::commit_log::codec::is_queued;
use crate::disk::Reach;
use crate::error::ReadError;

/// Makes the entries of these queue offsets anew, in memory and in their blocks.
pub(super) fn repair(
    queue: &ConsumeQueue,
    damaged: Range<u64>,
    log: &Arc<CommitLog>,
    deleted: &KeptMarks,
    blocks: &Blocks,
) -> Result<(), ReadError> {
    let known = |offset: u64| queue.place_of(offset, blocks);
    let from = damaged.start.checked_sub(1).and_then(known).unwrap_or(log.min()).max(log.min());
    let to = known(damaged.end).unwrap_or(log.appended());
    tracing::error!(
        topic = queue.topic(), queue_id = %queue.id(), first = damaged.start, end = damaged.end, log_from = %from, log_to = %to,
        "entries of a queue are damaged on the disk, they are made anew from the log"
    );
    let mut found: Vec<Option<RawEntry>> = vec![None; (damaged.end - damaged.start) as usize];
    log.walk(from..to, &mut |head, bytes, at| {
        let offset = head.queue_offset.0;
        let is_wanted = is_queued(head.sys_flag)
            && head.queue_id == queue.id()
            && damaged.contains(&offset)
            && head.topic(bytes) == queue.topic()
            && !deleted.look(|marks| marks.hide(queue.topic(), at));
        if is_wanted {
            let entry = RawEntry::new(at, bytes.len() as u32, head.tags_code(bytes));
            found[(offset - damaged.start) as usize] = Some(entry);
        }
        true
    });
    // What the log has no record of was damaged there as well, or is removed. Places only grow.
    let mut behind = to;
    let mut entries = Vec::with_capacity(found.len());
    for entry in found.into_iter().rev() {
        let entry = entry.unwrap_or(RawEntry::hole(behind));
        behind = entry.log_offset();
        entries.push(entry);
    }
    entries.reverse();
    queue.rewrite(damaged.start, &entries, blocks).map_err(|error| ReadError::Io(error.to_string()))
}

impl ConsumeQueue {
    /// The place in the log of this entry, if it is there and whole.
    fn place_of(&self, offset: u64, blocks: &Blocks) -> Option<LogOffset> {
        match self.read_raw(offset, 1, blocks, Reach::Disk) {
            Ok(Some(raw)) => raw.first().map(RawEntry::log_offset),
            Ok(None) | Err(Trouble::Read(_) | Trouble::Damaged(_)) => None,
        }
    }
}
