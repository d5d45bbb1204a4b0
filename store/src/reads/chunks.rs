//! Stretches of the log that were read ahead: those used last, within a bound.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

/// However small they are, looking for one must not take long.
const MOST_CHUNKS: usize = 256;

/// Stretches by where they start; the last used ones at the back.
pub(super) struct Chunks {
    chunks: VecDeque<(u64, Bytes)>,
    bytes: usize,
    most_bytes: usize,
}

impl Chunks {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, most_bytes }
    }

    /// The bytes of this range of the log, if one chunk has them all.
    pub(super) fn get(&mut self, range: &Range<u64>) -> Option<Bytes> {
        let has =
            |(start, bytes): &(u64, Bytes)| *start <= range.start && range.end <= *start + bytes.len() as u64;
        let index = self.chunks.iter().rposition(has)?;
        let chunk = self.chunks.remove(index).expect("it was found there");
        let within = (range.start - chunk.0) as usize..(range.end - chunk.0) as usize;
        let bytes = chunk.1.slice(within);
        self.chunks.push_back(chunk);
        Some(bytes)
    }

    pub(super) fn put(&mut self, start: u64, bytes: Bytes) {
        self.bytes += bytes.len();
        self.chunks.push_back((start, bytes));
        while self.bytes > self.most_bytes || self.chunks.len() > MOST_CHUNKS {
            let (_, gone) = self.chunks.pop_front().expect("what takes room is there");
            self.bytes -= gone.len();
        }
    }

    pub(super) fn forget_before(&mut self, min: u64) {
        self.chunks.retain(|(start, _)| *start >= min);
        self.bytes = self.chunks.iter().map(|(_, bytes)| bytes.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays_within_the_bound() {
        let mut chunks = Chunks::new(25);
        let tens = |n: u8| Bytes::from(vec![n; 10]);
        chunks.put(0, tens(0));
        chunks.put(10, tens(1));
        assert_eq!(chunks.get(&(2..5)).unwrap(), vec![0; 3]);
        chunks.put(20, tens(2));
        assert_eq!(chunks.get(&(10..11)), None, "it was not used for the longest time");
        assert_eq!(chunks.get(&(0..10)).unwrap(), tens(0));
        assert_eq!(chunks.get(&(9..11)), None, "across two");
        chunks.put(30, Bytes::from(vec![3; 26]));
        assert_eq!(chunks.get(&(30..31)), None, "larger than the bound");
        assert_eq!(chunks.bytes, 0);
        chunks.put(40, tens(4));
        chunks.forget_before(41);
        assert_eq!(chunks.get(&(40..41)), None);
    }
}
