//! Bytes of the log for another member of its group: records end to end as they lie, or what damage lies in their place.

use bytes::Bytes;

use super::{Reads, read_and_drop};
use crate::LogOffset;
use crate::commit_log::codec::{Announced, BLANK_BYTES, STAMP_BYTES, Stamp, announced_by, lengths_fit};
use crate::commit_log::reader::Reader;
use crate::commit_log::walk::{self, Step, candidate, step};
use crate::commit_log::{NotThere, Place};
use crate::error::StretchError;

/// Bytes of the log within one segment. [`Store::append_stretch`](crate::Store::append_stretch) of another member takes
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Whole records; the last may be the head of a blank: the rest of its segment is zeros. Empty at the log's end.
    pub bytes: Bytes,
    /// Where to go on: behind them, or behind the blank.
    pub next: LogOffset,
    /// No valid record lies in these bytes.
    pub damaged: bool,
}

impl Reads {
    /// See [`Store::stretch`](crate::Store::stretch).
    pub(crate) fn stretch(&self, at: LogOffset, max: usize) -> Result<Stretch, StretchError> {
        let appended = self.log.appended();
        if at >= appended {
            return match at == appended {
                true => Ok(Stretch { bytes: Bytes::new(), next: at, damaged: false }),
                false => Err(StretchError::NeverWritten { end: appended }),
            };
        }
        let place = self.log.file_of(at).map_err(|_| self.deleted())?;
        Cut { reads: self, limit: place.end.min(appended.0), place }.stretch(at.0, max as u64)
    }

    fn deleted(&self) -> StretchError {
        StretchError::Deleted { min: self.log.min() }
    }
}

/// A segment of which a stretch is cut.
struct Cut<'a> {
    reads: &'a Reads,
    place: Place,
    /// The log's end here, or the segment's.
    limit: u64,
}

/// What lies at a place.
enum Lies {
    Record(u64),
    Blank(u64),
    Nothing,
}

impl Cut<'_> {
    fn stretch(&self, at: u64, max: u64) -> Result<Stretch, StretchError> {
        // Room for the head of whatever comes first.
        let mut bytes = self.bytes(at, max.max(BLANK_BYTES))?;
        let (mut len, mut next) = (0, None);
        while at + len < self.limit && next.is_none() && (len == 0 || len < max) {
            let lies = self.look(at + len, &bytes[len as usize..])?;
            let size = match lies {
                Lies::Record(size) | Lies::Blank(size) => size,
                Lies::Nothing if len == 0 => return self.damage(at, max.max(1)),
                Lies::Nothing => break,
            };
            if len > 0 && len + size > max {
                break;
            }
            if at + len + size > at + bytes.len() as u64 {
                // The first is longer than what is wanted of them.
                bytes = self.bytes(at, size)?;
            }
            len += size;
            if let Lies::Blank(_) = lies {
                next = Some(self.place.end);
            }
        }
        let next = LogOffset(next.unwrap_or(at + len));
        Ok(Stretch { bytes: bytes.slice(..len as usize), next, damaged: false })
    }

    /// What lies at `at`, where these bytes begin; they may end within it.
    fn look(&self, at: u64, bytes: &[u8]) -> Result<Lies, StretchError> {
        let room = self.limit - at;
        let is_whole = self.limit == self.place.end;
        if room < BLANK_BYTES {
            // As the walk has it: there is no room to say that the rest is blank.
            return Ok(if is_whole { Lies::Blank(room) } else { Lies::Nothing });
        }
        let read;
        let bytes = if bytes.len() < BLANK_BYTES as usize {
            read = self.bytes(at, BLANK_BYTES)?;
            &read
        } else {
            bytes
        };
        let head = bytes.first_chunk().expect("a head was read");
        Ok(match announced_by(head, room as usize) {
            Announced::Record(size) if self.is_record(at, size, bytes)? => Lies::Record(size as u64),
            Announced::Blank if is_whole => Lies::Blank(BLANK_BYTES),
            Announced::Record(_) | Announced::Blank | Announced::Nothing | Announced::Bad(_) => Lies::Nothing,
        })
    }

    /// Is it a valid record that announces itself here? What was written since the opening is, and is not looked at.
    fn is_record(&self, at: u64, size: usize, bytes: &[u8]) -> Result<bool, StretchError> {
        if at >= self.reads.written_before.max(self.reads.log.doubted_copies_to()).0 {
            return Ok(true);
        }
        if let Some(record) = bytes.get(..size) {
            return Ok(is_valid(record, at));
        }
        // Before so much is read as a damaged size says.
        let read;
        let start = if bytes.len() < STAMP_BYTES {
            read = self.bytes(at, STAMP_BYTES.min(size) as u64)?;
            &read
        } else {
            bytes
        };
        let may_be = lengths_fit(start, size) && Stamp::read(start).is_some_and(|stamp| stamp.place.0 == at);
        Ok(may_be && is_valid(&self.bytes(at, size as u64)?, at))
    }

    /// No valid record lies at `at`: the bytes up to the next one.
    fn damage(&self, at: u64, max: u64) -> Result<Stretch, StretchError> {
        let mut end = self.limit.min(at.saturating_add(max));
        // A head may begin just before the end.
        let bytes = self.bytes(at, end - at + BLANK_BYTES - 1)?;
        let mut from = 1;
        while let Some(found) = candidate(&bytes, from) {
            let place = at + found as u64;
            if place >= end {
                break;
            }
            if let Lies::Record(_) = self.look_closely(place, &bytes[found..])? {
                end = place;
                break;
            }
            from = found + 1;
        }
        let bytes = bytes.slice(..(end - at) as usize);
        self.reads.log.note_damage(at..end, &walk::flaw(&bytes, LogOffset(at)));
        Ok(Stretch { bytes, next: LogOffset(end), damaged: true })
    }

    /// Like [`Cut::look`]; nothing is taken for a record because it was written since the opening.
    fn look_closely(&self, at: u64, bytes: &[u8]) -> Result<Lies, StretchError> {
        match self.look(at, bytes)? {
            Lies::Record(size) if !is_valid(&self.bytes(at, size)?, at) => Ok(Lies::Nothing),
            lies => Ok(lies),
        }
    }

    /// At most `len` bytes from `at` on, up to the limit: in place where they are hot, else read.
    fn bytes(&self, at: u64, len: u64) -> Result<Bytes, StretchError> {
        let range = at..self.limit.min(at.saturating_add(len));
        let reads = self.reads;
        if LogOffset(at) >= reads.hot_from() {
            return reads.log.slice(LogOffset(at), range.end - at).map_err(|not_there| match not_there {
                NotThere::Deleted => reads.deleted(),
                NotThere::NeverWritten => StretchError::NeverWritten { end: reads.log.appended() },
            });
        }
        let file = match reads.files.open(&reads.log, &self.place) {
            Ok(file) => file,
            Err(_) if at < reads.log.min().0 => return Err(reads.deleted()),
            Err(error) => return Err(StretchError::Io(error.to_string())),
        };
        let mut bytes = vec![0; (range.end - at) as usize];
        if read_and_drop(&*file, at - self.place.base, &mut bytes).is_err() {
            // What the disk does not give reads as zeros, and so as damage.
            Reader::new(file, self.place.base..self.place.end).read(at, &mut bytes);
        }
        reads.read_bytes.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(reads.held.keep(bytes))
    }
}

fn is_valid(record: &[u8], at: u64) -> bool {
    matches!(step(record, LogOffset(at)), Step::Record(_, size) if size == record.len())
}
