//! Who reads on and on, and so how far ahead a read should go. Only decides.
//!
//! A first read takes what is known to be wanted. A read that begins where an earlier one ended is taken for the same
//! reader's, and goes twice as far as that one did. So a reader of single records in different places costs what they are,
//! and one that drains a backlog soon reads a mebibyte at a time.

/// A read may begin so far behind the end of the one that it follows: the records between are other queues'.
pub(super) const MOST_GAP: u64 = 64 << 10;
const FIRST_AHEAD: u64 = 128 << 10;
pub(super) const LONGEST: u64 = 1 << 20;

#[derive(Debug)]
struct Stream {
    /// Where its last read ended, and how far that went.
    end: u64,
    ahead: u64,
    used_in: u64,
}

/// The readers of late.
#[derive(Debug)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    /// So many that what each reads ahead finds room beside the others.
    most: usize,
    round: u64,
}

impl Streams {
    /// What is read ahead has so much room.
    pub(super) fn new(room_bytes: usize) -> Self {
        Self { streams: Vec::new(), most: (room_bytes / LONGEST as usize).max(1), round: 0 }
    }

    /// Where a read from `at` on should end; at least all up to `soon` is wanted.
    pub(super) fn end_of_read(&mut self, at: u64, soon: u64) -> u64 {
        self.round += 1;
        let round = self.round;
        let follows = |stream: &&mut Stream| {
            stream.end.saturating_sub(stream.ahead) <= at && at <= stream.end + MOST_GAP
        };
        if let Some(stream) = self.streams.iter_mut().find(follows) {
            stream.ahead = (stream.ahead * 2).clamp(FIRST_AHEAD, LONGEST);
            stream.end = soon.max(at + stream.ahead);
            stream.used_in = round;
            return stream.end;
        }
        if self.streams.len() >= self.most {
            let oldest = self.streams.iter().enumerate().min_by_key(|(_, stream)| stream.used_in);
            let (index, _) = oldest.expect("there is room for one at least");
            self.streams.swap_remove(index);
        }
        self.streams.push(Stream { end: soon, ahead: 0, used_in: round });
        soon
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_on_reads_ever_further_ahead() {
        let mut streams = Streams::new(4 << 20);
        let mut at = 1000;
        let mut lengths = Vec::new();
        for _ in 0..6 {
            let end = streams.end_of_read(at, at + 100);
            lengths.push(end - at);
            // The next record begins where the read ended, or was cut by its end.
            at = end - if lengths.len() > 1 { 10 } else { 0 };
        }
        let k = 1 << 10;
        assert_eq!(lengths, [100, 128 * k, 256 * k, 512 * k, 1024 * k, 1024 * k]);
    }

    #[test]
    fn who_reads_here_and_there_reads_nothing_ahead() {
        let mut streams = Streams::new(4 << 20);
        for n in 0..20 {
            let at = n * (1 << 30);
            assert_eq!(streams.end_of_read(at, at + 100), at + 100);
        }
        assert!(streams.streams.len() <= 4, "only those are remembered whose chunks have room");
    }

    #[test]
    fn readers_side_by_side_are_told_apart() {
        let mut streams = Streams::new(4 << 20);
        let mut at = [0, 1 << 30];
        for _ in 0..5 {
            for at in &mut at {
                *at = streams.end_of_read(*at, *at + 100);
            }
        }
        assert_eq!(streams.end_of_read(at[0], at[0] + 1) - at[0], LONGEST);
        assert_eq!(streams.end_of_read(at[1], at[1] + 1) - at[1], LONGEST);
    }
}
