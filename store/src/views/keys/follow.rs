//! Reads the log for the keys of its records, a portion at a time.

use super::entry::{Hash, KeyEntry, keys, seconds};
use crate::LogOffset;
use crate::commit_log::CommitLog;
use crate::commit_log::codec::{Announced, Head, Outline, announced, is_rollback};
use crate::commit_log::walk::scan;

/// So much of the log is read in one go, and so many entries are taken from it.
const PORTION_BYTES: usize = 1 << 20;
const PORTION_ENTRIES: usize = 16 << 10;

/// What is to be read, and how.
pub(super) struct Follow<'a> {
    pub(super) log: &'a CommitLog,
    pub(super) hash: Hash,
    /// What lies before came from the disk and may have changed there.
    pub(super) written_before: LogOffset,
}

impl Follow<'_> {
    /// Adds the entries of some records from `from` on, where a record or a segment starts, and returns where to go on:
    /// behind them, and not behind `to`, unless damage reaches beyond it. `to` is confirmed. What is deleted has no keys,
    /// and what is damaged has none.
    pub(super) fn portion(&self, from: u64, to: u64, entries: &mut Vec<KeyEntry>) -> u64 {
        let at = from.max(self.log.min().0);
        if at >= to {
            return to;
        }
        // Deleted since: the next call begins where the log does.
        let Ok(bytes) = self.log.slice_to(LogOffset(at), LogOffset(to)) else { return at };
        let mut read = 0;
        let before = entries.len();
        while read < bytes.len().min(PORTION_BYTES) && entries.len() - before < PORTION_ENTRIES {
            let place = at + read as u64;
            let rest = &bytes[read..];
            match announced(rest) {
                Announced::Record(size) if self.take(&rest[..size], place, entries) => read += size,
                Announced::Blank => return at + bytes.len() as u64,
                Announced::Record(_) | Announced::Nothing | Announced::Bad(_) => {
                    read = scan(&bytes, at, bytes.len() as u64, place + 1)
                        .map_or(bytes.len(), |next| (next - at) as usize);
                }
            }
        }
        at + read as u64
    }

    /// Adds the entries of a record; false: it is damaged.
    fn take(&self, record: &[u8], at: u64, entries: &mut Vec<KeyEntry>) -> bool {
        let is_good = || Head::parse(record).and_then(|head| head.verify(record, LogOffset(at))).is_ok();
        if at < self.written_before.0 && !is_good() {
            return false;
        }
        let Some(Outline { sys_flag, stored_at_ms, topic, properties }) = Outline::read(record) else {
            return false;
        };
        if !is_rollback(sys_flag) {
            let stored_s = seconds(stored_at_ms);
            let entry = |key| KeyEntry { hash: (self.hash)(topic, key), at, stored_s };
            entries.extend(keys(properties).map(entry));
        }
        true
    }
}
