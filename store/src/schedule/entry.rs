//! What the schedule keeps of a thing: when it is due, who it is, where its record lies.

use crate::LogOffset;

/// Bytes of an entry on the disk.
pub(super) const ENTRY_BYTES: usize = 28;

/// Says that a thing is due no more. In the place of a kind.
const CANCELLED: u8 = 0;
/// A record is smaller than 2^28 bytes; the kind lies above.
const SIZE_BITS: u32 = 28;

/// Something that is to happen at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// When, Unix milliseconds.
    pub due_ms: i64,
    /// Which: its own place in the log, such as where its first record ends. It stays the same where the record is
    /// appended anew.
    pub id: LogOffset,
    /// Where its record lies now.
    pub at: LogOffset,
    /// Bytes of the record.
    pub size: u32,
    /// What is to happen, for whoever reads it: 1 to 15.
    pub kind: u8,
}

/// In the order of time; of the same time, of the log.
pub(super) type Key = (i64, u64);

/// A thing, or that it was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) at: u64,
    pub(super) size: u32,
    kind: u8,
}

impl Entry {
    pub(super) fn of(scheduled: Scheduled) -> Self {
        let Scheduled { due_ms, id, at, size, kind } = scheduled;
        assert!((1..16).contains(&kind) && size < 1 << SIZE_BITS, "a kind has four bits, a size 28");
        Self { key: (due_ms, id.0), at: at.0, size, kind }
    }

    pub(super) fn cancelled(key: Key) -> Self {
        Self { key, at: 0, size: 0, kind: CANCELLED }
    }

    /// `None`: it was cancelled.
    pub(super) fn scheduled(self) -> Option<Scheduled> {
        let Self { key: (due_ms, id), at, size, kind } = self;
        let scheduled = Scheduled { due_ms, id: LogOffset(id), at: LogOffset(at), size, kind };
        (kind != CANCELLED).then_some(scheduled)
    }

    /// Of two of the same thing the one that counts: that it was cancelled, or where it went last.
    pub(super) fn or(self, other: Self) -> Self {
        let rank = |entry: &Self| (entry.kind == CANCELLED, entry.at);
        if rank(&other) > rank(&self) { other } else { self }
    }

    /// Due 8, id 8, place 8, kind and size 4, big-endian.
    pub(super) fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.key.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.key.1.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.at.to_be_bytes());
        bytes[24..].copy_from_slice(&(u32::from(self.kind) << SIZE_BITS | self.size).to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        let last = bytes.last_chunk().map_or(0, |last| u32::from_be_bytes(*last));
        Self {
            key: (number(0).cast_signed(), number(8)),
            at: number(16),
            size: last & ((1 << SIZE_BITS) - 1),
            kind: (last >> SIZE_BITS) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_from_its_bytes() {
        let scheduled = Scheduled {
            due_ms: -5,
            id: LogOffset(u64::MAX),
            at: LogOffset(7),
            size: (1 << SIZE_BITS) - 1,
            kind: 15,
        };
        for entry in [Entry::of(scheduled), Entry::cancelled((i64::MAX, 3))] {
            assert_eq!(Entry::from_bytes(&entry.to_bytes()), entry);
        }
        assert_eq!(Entry::of(scheduled).scheduled(), Some(scheduled));
    }

    #[test]
    fn that_it_was_cancelled_counts_most_and_then_where_it_went_last() {
        let at =
            |at| Entry::of(Scheduled { due_ms: 1, id: LogOffset(2), at: LogOffset(at), size: 9, kind: 1 });
        let cancelled = Entry::cancelled((1, 2));
        assert_eq!((at(5).or(at(9)), at(9).or(at(5))), (at(9), at(9)));
        assert_eq!((at(9).or(cancelled), cancelled.or(at(9))), (cancelled, cancelled));
    }
}
