//! A consume queue's entry as it is kept: RocketMQ's 20 bytes.

use crate::answers::Entry;
use crate::{LogOffset, QueueOffset};

/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 20;

/// Log offset 8, size 4, tag hash 8, big-endian. The log offsets of a queue only grow, holes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawEntry([u8; ENTRY_BYTES]);

impl RawEntry {
    pub(crate) fn new(log_offset: LogOffset, size: u32, tags_code: i64) -> Self {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&log_offset.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&size.to_be_bytes());
        bytes[12..].copy_from_slice(&tags_code.to_be_bytes());
        Self(bytes)
    }

    /// Stands where a message was lost to damage. Its log offset is that of whatever comes next.
    pub(crate) fn hole(next: LogOffset) -> Self {
        Self::new(next, 0, 0)
    }

    pub(crate) fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        Self(*bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; ENTRY_BYTES] {
        &self.0
    }

    pub(crate) fn log_offset(&self) -> LogOffset {
        LogOffset(u64::from_be_bytes(*self.0.first_chunk().expect("20 bytes hold 8")))
    }

    fn size(&self) -> u32 {
        u32::from_be_bytes([self.0[8], self.0[9], self.0[10], self.0[11]])
    }

    pub(crate) fn is_hole(&self) -> bool {
        self.size() == 0
    }

    pub(crate) fn entry(&self, queue_offset: QueueOffset) -> Entry {
        let tags_code = i64::from_be_bytes(*self.0.last_chunk().expect("20 bytes hold 8"));
        Entry { queue_offset, log_offset: self.log_offset(), size: self.size(), tags_code }
    }
}
