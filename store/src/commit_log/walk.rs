//! How a log is walked: what lies at a place, and what it means when that is no valid record.
//!
//! Recovery and the offline tools must judge alike, so the judgement is here and only computes. A place without a valid
//! record is one of three things, and [`verdict`] tells them apart:
//! - *the end*: nothing valid follows, and nothing there was ever known to be durable;
//! - *torn*: a crash lost pages behind the last durable offset;
//! - *rot*: what lies there was durable, or more valid records follow than a crash may have torn. Never cut.

use super::codec::{Announced, BLANK_BYTES, Flaw, Head, MAGIC_V1, MAGIC_V2, announced};
use crate::LogOffset;
use crate::config::Flush;
use crate::planted::{Bug, is_planted};

/// What lies at a place.
pub(crate) enum Step {
    Record(Head, usize),
    Blank,
    Nothing,
    Flawed(Flaw),
}

/// What to do where no valid record lies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The log ends here; what follows is cut.
    End,
    /// Go on here; what is between is damaged.
    SkipTo(u64),
}

/// Decides what a place without a valid record means. `next_valid` is where the next valid record starts, if any.
pub(crate) fn verdict(at: u64, durable: u64, flush: Flush, next_valid: Option<u64>) -> Verdict {
    match next_valid {
        _ if is_planted(Bug::EndAtFirstBadRecord) => Verdict::End,
        // It was on disk once: rot, whatever follows.
        Some(next) if at < durable => Verdict::SkipTo(next),
        None if at < durable => Verdict::SkipTo(durable),
        // With sync flush the durable offset we remember is older than what was promised, so a valid record may
        // have been acknowledged: keep it. At worst it was in flight, which may or may not have happened.
        Some(next) if flush == Flush::Sync || is_planted(Bug::KeepBehindTear) => Verdict::SkipTo(next),
        // With async flush, a crash loses a suffix and nothing else.
        _ => Verdict::End,
    }
}

/// What lies at the start of `rest`, which reaches to the segment's end.
pub(crate) fn step(rest: &[u8], at: LogOffset) -> Step {
    if rest.len() < BLANK_BYTES as usize {
        // There is no room to say so. Nobody writes a record that leaves so little, but one that is whole is believed.
        return Step::Blank;
    }
    match announced(rest) {
        Announced::Record(size) => {
            let record = &rest[..size];
            match Head::parse(record).and_then(|head| head.verify(record, at).map(|()| head)) {
                Ok(head) => Step::Record(head, size),
                Err(_) if is_planted(Bug::TrustSizeBeforeCrc) => {
                    Head::parse(record).map_or_else(Step::Flawed, |head| Step::Record(head, size))
                }
                Err(flaw) => Step::Flawed(flaw),
            }
        }
        Announced::Blank => Step::Blank,
        Announced::Nothing => Step::Nothing,
        Announced::Bad(flaw) => Step::Flawed(flaw),
    }
}

/// What is wrong with a place where [`step`] found no record, for people.
pub(crate) fn flaw(rest: &[u8], at: LogOffset) -> Flaw {
    match step(rest, at) {
        Step::Flawed(flaw) => flaw,
        Step::Record(..) | Step::Blank | Step::Nothing => Flaw::Magic(0),
    }
}

/// Where the next valid record starts in a segment, at or after `from`. `bytes` are the segment's from `base` on, and
/// nothing that is not zero lies at or behind `data_end`, counted from `base`. A record says its own place, so a copy of
/// one in a body is not taken for it.
pub(crate) fn scan(bytes: &[u8], base: u64, data_end: u64, from: u64) -> Option<u64> {
    let data = &bytes[..data_end as usize];
    let mut at = (from - base) as usize;
    loop {
        at = candidate(data, at)?;
        if matches!(step(&bytes[at..], LogOffset(base + at as u64)), Step::Record(..)) {
            return Some(base + at as u64);
        }
        at += 1;
    }
}

/// The next place at or after `from` where the first eight bytes could be a record's: a magic number follows the size.
pub(crate) fn candidate(data: &[u8], from: usize) -> Option<usize> {
    let magics = [MAGIC_V1.to_be_bytes(), MAGIC_V2.to_be_bytes()];
    let mut at = from;
    while at + 8 <= data.len() {
        // The magic's first byte is rare; look for it with the library's fast search.
        at += data[at + 4..].iter().position(|&byte| byte == magics[0][0])?;
        if at + 8 <= data.len() && magics.iter().any(|magic| &data[at + 4..at + 8] == magic) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit_log::codec::fuzzing::valid;

    #[test]
    fn what_is_left_of_a_segment_and_too_short_for_anything_is_blank() {
        let record = valid(7).swap_remove(0);
        for left in 0..BLANK_BYTES as usize {
            let segment = [record.as_slice(), &vec![0xAB; left]].concat();
            let Step::Record(_, size) = step(&segment, LogOffset(7)) else { panic!("it is a record") };
            assert!(matches!(step(&segment[size..], LogOffset(7 + size as u64)), Step::Blank), "{left}");
        }
        assert!(matches!(step(&[0xAB; BLANK_BYTES as usize], LogOffset(7)), Step::Flawed(_)));
    }
}
