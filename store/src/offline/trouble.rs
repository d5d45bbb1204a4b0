//! A place where no valid record lies: what it is, and where the walk goes on. The verdict is recovery's.

use super::Error;
use super::segments::Segments;
use super::walk::{Damage, WINDOW, What};
use crate::LogOffset;
use crate::commit_log::codec::{Announced, announced_by};
use crate::commit_log::reader::Reader;
use crate::commit_log::walk::{Step, Verdict, candidate, flaw, step, verdict};
use crate::config::Flush;

/// Where a record says its own place.
const PLACE_AT: usize = 28;

/// What a place without a valid record is.
pub(super) enum Resolved {
    /// Nothing was ever written here.
    End,
    /// The log ends here, with bytes that a crash left.
    Torn(Damage),
    /// Go on behind this.
    Skip(Damage),
}

/// Judges the place `at`. How the store is configured to flush is not known here, so nothing valid is given up.
pub(super) fn resolve(segments: &Segments, at: u64, durable: u64) -> Result<Resolved, Error> {
    let mut used_to = at;
    let mut next_valid = None;
    let first = segments.index_at(at).expect("the place lies in a file");
    for index in first..segments.files.len() {
        let mut reader = segments.open(index)?;
        // What lies at the place itself was looked at, and is no record.
        let from = if index == first { at } else { reader.range.start };
        next_valid = find_valid(&mut reader, from, &mut used_to);
        if next_valid.is_some() {
            break;
        }
    }
    let mut reader = segments.open(first)?;
    let what = |reader: &mut Reader| {
        let reason = reason(reader, at);
        let unreadable = reader.unreadable.iter().any(|pages| pages.start <= at + 8 && at < pages.end);
        if unreadable { What::Unreadable } else { What::Damaged(reason) }
    };
    Ok(match verdict(at, durable, Flush::Sync, next_valid) {
        Verdict::End if used_to == at => Resolved::End,
        Verdict::End => {
            let what = What::Torn(reason(&mut reader, at));
            Resolved::Torn(Damage { from: LogOffset(at), to: LogOffset(used_to), what })
        }
        Verdict::SkipTo(next) => {
            let to = next.min(contiguous_end(segments, first));
            Resolved::Skip(Damage { from: LogOffset(at), to: LogOffset(to), what: what(&mut reader) })
        }
    })
}

/// Behind the last of the files that follow each other without a gap.
fn contiguous_end(segments: &Segments, first: usize) -> u64 {
    let mut end = segments.range(first).end;
    for index in first + 1..segments.files.len() {
        let range = segments.range(index);
        if range.start != end {
            break;
        }
        end = range.end;
    }
    end
}

/// Where the next valid record starts at or after `from` in this file. `used_to` moves behind the last byte seen that is
/// not zero.
fn find_valid(reader: &mut Reader, from: u64, used_to: &mut u64) -> Option<u64> {
    // As many bytes as a candidate needs are kept from window to window.
    const OVERLAP: u64 = 7;
    let end = reader.range.end;
    let mut window = Vec::new();
    let mut base = from;
    while base < end {
        window.resize(WINDOW.min(end - base) as usize, 0);
        reader.read(base, &mut window);
        if let Some(last) = last_used(&window) {
            *used_to = (*used_to).max(base + last as u64 + 1);
            let mut at = 0;
            while let Some(found) = candidate(&window, at) {
                if is_valid(reader, &window[found..], base + found as u64) {
                    return Some(base + found as u64);
                }
                at = found + 1;
            }
        }
        if base + window.len() as u64 == end {
            break;
        }
        base += window.len() as u64 - OVERLAP;
    }
    None
}

/// The last byte that is not zero. Zeros are compared many at a time.
fn last_used(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let chunks = bytes.chunks(ZEROS.len()).enumerate();
    let (index, chunk) = chunks.rev().find(|(_, chunk)| **chunk != ZEROS[..chunk.len()])?;
    chunk.iter().rposition(|&byte| byte != 0).map(|last| index * ZEROS.len() + last)
}

/// Does a valid record lie here? `seen` are the bytes that are read already, eight at least.
fn is_valid(reader: &mut Reader, seen: &[u8], at: u64) -> bool {
    let head = seen.first_chunk().expect("a candidate has eight bytes");
    let Announced::Record(size) = announced_by(head, (reader.range.end - at) as usize) else { return false };
    let place = seen.get(PLACE_AT..PLACE_AT + 8);
    if place.is_some_and(|place| *place != at.to_be_bytes()) {
        return false;
    }
    if let Some(record) = seen.get(..size) {
        return matches!(step(record, LogOffset(at)), Step::Record(..));
    }
    let mut record = vec![0; size];
    reader.read(at, &mut record);
    matches!(step(&record, LogOffset(at)), Step::Record(..))
}

/// In words, what is wrong here.
fn reason(reader: &mut Reader, at: u64) -> String {
    let room = (reader.range.end - at) as usize;
    let mut head = vec![0; room.min(8)];
    reader.read(at, &mut head);
    let announced = head.first_chunk().map(|head| announced_by(head, room));
    let reason = match announced {
        Some(Announced::Nothing) => return "zeros where a record should be".to_owned(),
        Some(Announced::Record(size)) => {
            let mut record = vec![0; size];
            reader.read(at, &mut record);
            flaw(&record, LogOffset(at))
        }
        Some(Announced::Bad(flaw)) => flaw,
        Some(Announced::Blank) | None => return "the segment ends within it".to_owned(),
    };
    reason.to_string()
}
