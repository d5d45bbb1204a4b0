//! A consume queue's entry as it is kept: RocketMQ's 20 bytes.

use crate::answers::Entry;
use crate::{LogOffset, QueueId, QueueOffset};

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

    /// As it lies in a block: log offset 8, size 4, CRC-32 4, tag hash 4. The checksum covers the entry, its queue and
    /// its place there, so that another queue's entry is not taken for it. A tag's hash has 32 bits, whatever the width of
    /// RocketMQ's field.
    pub(crate) fn seal(&self, seal: &Seal, at: u64) -> Sealed {
        let mut sealed = self.0;
        sealed[12..16].copy_from_slice(&seal.of(&self.0, at).to_be_bytes());
        sealed
    }

    /// The entry as it was sealed; `None`: these bytes are damaged, or another's.
    pub(crate) fn unseal(sealed: &Sealed, seal: &Seal, at: u64) -> Option<Self> {
        let tag_hash = i32::from_be_bytes(*sealed.last_chunk().expect("20 bytes hold 4"));
        let mut bytes = *sealed;
        bytes[12..].copy_from_slice(&i64::from(tag_hash).to_be_bytes());
        let crc = u32::from_be_bytes([sealed[12], sealed[13], sealed[14], sealed[15]]);
        (seal.of(&bytes, at) == crc).then_some(Self(bytes))
    }

    pub(crate) fn log_offset(&self) -> LogOffset {
        LogOffset(u64::from_be_bytes(*self.0.first_chunk().expect("20 bytes hold 8")))
    }

    /// Where its record ends.
    pub(crate) fn end(&self) -> LogOffset {
        self.log_offset().plus(u64::from(self.size()))
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

/// An entry as it lies in a block.
pub(crate) type Sealed = [u8; ENTRY_BYTES];

/// What the checksums of a queue's entries begin with.
pub(crate) struct Seal(crc32fast::Hasher);

impl Seal {
    pub(crate) fn new(topic: &str, id: QueueId) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(topic.as_bytes());
        hasher.update(&id.0.to_be_bytes());
        Self(hasher)
    }

    fn of(&self, entry: &[u8; ENTRY_BYTES], at: u64) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(&at.to_be_bytes());
        hasher.update(entry);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_entry_is_its_queue_s_at_its_place_and_whole_or_it_is_none() {
        for tags_code in [0, 97, -1, i64::from(i32::MIN), i64::from(i32::MAX)] {
            let entry = RawEntry::new(LogOffset(0x0123_4567_89AB), 1234, tags_code);
            let seal = Seal::new("orders", QueueId(3));
            let sealed = entry.seal(&seal, 42);
            assert_eq!(RawEntry::unseal(&sealed, &seal, 42), Some(entry));
            assert_eq!(RawEntry::unseal(&sealed, &seal, 43), None);
            assert_eq!(RawEntry::unseal(&sealed, &Seal::new("orders", QueueId(4)), 42), None);
            assert_eq!(RawEntry::unseal(&sealed, &Seal::new("bills", QueueId(3)), 42), None);
            for bit in 0..8 * ENTRY_BYTES {
                let mut damaged = sealed;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(RawEntry::unseal(&damaged, &seal, 42), None, "bit {bit}");
            }
        }
        assert_eq!(RawEntry::unseal(&[0; ENTRY_BYTES], &Seal::new("orders", QueueId(3)), 0), None);
    }
}
