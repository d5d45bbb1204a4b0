//! Appending what another member's log has, byte for byte: everything is looked at before anything is written.
//!
//! ```text
//!   the other's Store::stretch ─► check: size, checksum, its own place, end to end ─► the log's end ─► pending entries
//!                                        and nothing else fits in between              the same places, the same blanks
//! ```

use std::ops::Range;
use std::sync::Arc;

use crate::LogOffset;
use crate::append::Alarm;
use crate::commit_log::codec::{BLANK_BYTES, Head, is_queued};
use crate::commit_log::walk::{Step, scan, step};
use crate::dispatch::Pending;
use crate::error::CopyError;
use crate::opened::Inner;
use crate::views::{ConsumeQueue, RawEntry};

/// A stretch that fits behind the log's end.
struct Checked {
    records: Vec<(Head, Range<usize>)>,
    /// It ends its segment.
    rolls: bool,
}

impl Inner {
    /// See [`Store::append_stretch`](crate::Store::append_stretch).
    pub(crate) fn append_stretch(
        &self,
        at: LogOffset,
        bytes: &[u8],
        damaged: bool,
    ) -> Result<LogOffset, CopyError> {
        let (end, segment_end) = self.with_tail(|tail| (tail.end(), tail.segment_end()));
        if at != end {
            return Err(CopyError::NotAtEnd { at, end });
        }
        if bytes.is_empty() {
            return Ok(end);
        }
        // Before the log's end is held: checksums take their time.
        let checked = check(at, bytes, damaged, segment_end)
            .map_err(|(at, reason)| CopyError::Invalid { at: LogOffset(at), reason })?;
        let queues: Vec<_> =
            checked.records.iter().map(|(head, range)| self.queue_of(head, &bytes[range.clone()])).collect();

        let _alarm = Alarm(self);
        let mut tail = self.log.tail();
        if tail.end() != at {
            return Err(CopyError::NotAtEnd { at, end: tail.end() });
        }
        let room = tail.room_to_copy(checked.rolls)?;
        let now_ms = self.clock.now_ms();
        let stored_at_ms = checked.records.iter().map(|(head, _)| head.sure_stored_at_ms(now_ms)).max();
        tail.copy(bytes, room, stored_at_ms);
        let pending = checked.records.into_iter().zip(queues).filter_map(|((head, range), queue)| {
            let record = &bytes[range.clone()];
            let place = at.plus(range.start as u64);
            let tags_code = head.tags_code(record);
            let entry = RawEntry::new(place, record.len() as u32, tags_code);
            Some(Pending::placed(self.alive(&queue?), head.queue_offset, entry, tags_code))
        });
        self.dispatch.push(pending);
        let end = tail.end();
        if damaged {
            self.log.note_copied_damage(at.0..at.plus(bytes.len() as u64).0);
        }
        self.serve(tail);
        self.relieve();
        Ok(end)
    }

    fn queue_of(&self, head: &Head, record: &[u8]) -> Option<Arc<ConsumeQueue>> {
        is_queued(head.sys_flag).then(|| self.views.queue_or_new(head.topic(record), head.queue_id))
    }
}

/// Looks at every byte. The error says where something does not fit, and what.
fn check(at: LogOffset, bytes: &[u8], damaged: bool, segment_end: u64) -> Result<Checked, (u64, String)> {
    let at = at.0;
    let room = segment_end - at;
    if bytes.len() as u64 > room {
        return Err((at, format!("{} bytes are left of the segment, not {}", room, bytes.len())));
    }
    if damaged {
        return match scan(bytes, at, bytes.len() as u64, at) {
            Some(place) => Err((place, "a whole record lies in what is called damaged".to_owned())),
            None => Ok(Checked { records: Vec::new(), rolls: bytes.len() as u64 == room }),
        };
    }
    let mut records = Vec::new();
    let mut from = 0;
    while from < bytes.len() {
        let place = at + from as u64;
        let left = segment_end - place;
        let rest = &bytes[from..];
        if rest.len() as u64 == left.min(BLANK_BYTES) && is_blank(rest, left) {
            return Ok(Checked { records, rolls: true });
        }
        match step(rest, LogOffset(place)) {
            Step::Record(head, size) => {
                records.push((head, from..from + size));
                from += size;
            }
            Step::Blank | Step::Nothing => return Err((place, "there is no record".to_owned())),
            Step::Flawed(flaw) => return Err((place, flaw.to_string())),
        }
    }
    Ok(Checked { records, rolls: bytes.len() as u64 == room })
}

/// Is this all that is written of a segment's rest of this length?
fn is_blank(head: &[u8], left: u64) -> bool {
    use crate::commit_log::codec::{Announced, announced_by};
    let Some(head) = head.first_chunk() else { return left < BLANK_BYTES };
    usize::try_from(left).is_ok_and(|left| announced_by(head, left) == Announced::Blank)
}
