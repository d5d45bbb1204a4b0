//! The log for Java: copied or linked, the end without what a crash left, damaged stretches covered.
//!
//! ```text
//!   a file:  │ records │ covered: rolled back records │ records │ blank │
//! ```

use std::fs;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::super::segments::Segments;
use super::{Cover, ExportError, sync_dir};
use crate::commit_log::codec::{BLANK_BYTES, CRC_BYTES, Plan, Put as _, encode_blank, seal};
use crate::commit_log::segment;
use crate::{LogOffset, NewRecord, QueueId, QueueOffset};

/// The largest record that covers: what a Java broker takes by default.
const MAX_COVER_BYTES: u64 = 4 << 20;
/// Rolled back: in no queue and under no key.
const ROLLED_BACK: i32 = 0b11 << 2;
/// Bytes copied between two words about progress.
const STEP: u64 = 64 << 20;

/// Can Java have these files? All of one size, at multiples of it. Missing ones are made.
pub(super) fn check(segments: &Segments) -> Result<(), ExportError> {
    let bytes = segment_bytes(segments);
    let odd = segments.files.iter().find(|file| file.bytes > bytes || file.base.0 % bytes.max(1) != 0);
    odd.map_or(Ok(()), |file| {
        let name = format!("commitlog/{:020}", file.base.0);
        Err(ExportError::Unfit(format!("{name} has {} bytes, and the first file has {bytes}", file.bytes)))
    })
}

fn segment_bytes(segments: &Segments) -> u64 {
    segments.files.first().map_or(0, |file| file.bytes)
}

/// Makes the files of the log up to its end; returns how many of them are links.
pub(super) fn copy(
    segments: &Segments,
    to: &Path,
    end: LogOffset,
    covers: &[Cover],
    link: bool,
    copied: &mut dyn FnMut(u64),
) -> Result<u64, ExportError> {
    let dir = to.join("commitlog");
    fs::create_dir(&dir).map_err(ExportError::at(&dir))?;
    let bytes = segment_bytes(segments);
    let (min, mut linked) = (segments.min().0, 0);
    let mut base = min;
    while base < end.0 {
        let path = segment::path(&dir, base);
        let inside = base..base + bytes;
        let mut covers = covers.iter().filter(|cover| overlap(cover, &inside).is_some()).peekable();
        // Java goes on to write in the last one.
        let unchanged = inside.end <= end.0 && covers.peek().is_none();
        let index = segments.index_at(base).filter(|index| segments.range(*index).start == base);
        let may_link = link && unchanged;
        if let Some(source) = index.filter(|_| may_link).map(|index| segments.path(index))
            && fs::hard_link(&source, &path).is_ok()
        {
            linked += 1;
        } else {
            let file = fs::File::create_new(&path).map_err(ExportError::at(&path))?;
            file.set_len(bytes).map_err(ExportError::at(&path))?;
            if let Some(index) = index {
                let until = segments.range(index).end.min(end.0);
                copy_bytes(segments, index, &file, until - base, &mut |done| copied(base - min + done))
                    .map_err(ExportError::at(&path))?;
            }
            for cover in covers {
                let part = overlap(cover, &inside).expect("it was chosen by that");
                hide(&file, part, &inside, cover.stored_at_ms).map_err(ExportError::at(&path))?;
            }
            file.sync_all().map_err(ExportError::at(&path))?;
        }
        base += bytes;
        copied(base.min(end.0) - min);
    }
    sync_dir(&dir)?;
    Ok(linked)
}

fn overlap(cover: &Cover, inside: &Range<u64>) -> Option<Range<u64>> {
    let part = cover.from.max(inside.start)..cover.to.min(inside.end);
    (part.start < part.end).then_some(part)
}

/// Copies the first `len` bytes; by the kernel, which shares the blocks where the file system can. What the disk does
/// not give is damaged, and comes as zeros to be covered.
fn copy_bytes(
    segments: &Segments,
    index: usize,
    file: &fs::File,
    len: u64,
    done: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let mut source = fs::File::open(segments.path(index))?;
    let mut target = file;
    let mut at = 0;
    while at < len {
        let step = STEP.min(len - at);
        if io::copy(&mut (&mut source).take(step), &mut target).ok() != Some(step) {
            return copy_leniently(segments, index, file, at..len);
        }
        at += step;
        done(at);
    }
    Ok(())
}

fn copy_leniently(segments: &Segments, index: usize, file: &fs::File, range: Range<u64>) -> io::Result<()> {
    let mut reader = segments.open(index).map_err(io::Error::other)?;
    let mut window = Vec::new();
    let mut at = range.start;
    while at < range.end {
        window.resize(super::super::walk::WINDOW.min(range.end - at) as usize, 0);
        reader.read(reader.range.start + at, &mut window);
        file.write_all_at(&window, at)?;
        at += window.len() as u64;
    }
    Ok(())
}

/// Covers a part of a segment: with a blank where nothing follows in it, else with rolled back records.
fn hide(file: &fs::File, mut part: Range<u64>, segment: &Range<u64>, stored_at_ms: i64) -> io::Result<()> {
    let to_the_end = part.end == segment.end;
    if to_the_end && part.start == segment.start {
        // Java asks the first record of a segment for its time.
        let first = filler(segment.start, 256.min(segment.end - segment.start - BLANK_BYTES), stored_at_ms)?;
        file.write_all_at(&first, 0)?;
        part.start += first.len() as u64;
    }
    if to_the_end {
        let mut blank = [0; BLANK_BYTES as usize];
        encode_blank(&mut blank, part.end - part.start);
        return file.write_all_at(&blank, part.start - segment.start);
    }
    while part.start < part.end {
        let left = part.end - part.start;
        // What is left for the next one must not be too small for a record.
        let len = if left > MAX_COVER_BYTES { (left / 2).min(MAX_COVER_BYTES) } else { left };
        file.write_all_at(&filler(part.start, len, stored_at_ms)?, part.start - segment.start)?;
        part.start += len;
    }
    Ok(())
}

/// A rolled back record of exactly this length. A damaged stretch is as long as a record at least; one of Java's may be
/// too small for the checksum property, and then is covered without.
fn filler(at: u64, len: u64, stored_at_ms: i64) -> io::Result<Vec<u8>> {
    let host = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut new = NewRecord {
        topic: "%",
        queue_id: QueueId(0),
        body: &[],
        properties: &[],
        tag: None,
        flag: 0,
        sys_flag: ROLLED_BACK,
        born_at_ms: stored_at_ms,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: LogOffset(0),
    };
    let too_small = || io::Error::other(format!("{len} bytes at log offset {at} are too few to cover them"));
    let smallest = new.check(usize::MAX).map_err(io::Error::other)?;
    let without = if len < smallest { CRC_BYTES as u64 } else { 0 };
    let body = vec![0; (len + without).checked_sub(smallest).ok_or_else(too_small)? as usize];
    new.body = &body;
    let plan = Plan::new(&new, usize::MAX).map_err(io::Error::other)?;
    let mut record = vec![0; plan.len()];
    plan.put(&mut record);
    seal(&mut record, LogOffset(at), QueueOffset(0), stored_at_ms);
    if without > 0 {
        // The properties, which end the record, are that one.
        record.truncate(len as usize);
        record[..4].copy_from_slice(&(len as u32).to_be_bytes());
        record[len as usize - 2..].fill(0);
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit_log::walk::{Step, step};

    #[test]
    fn every_length_from_the_smallest_record_on_can_be_covered() {
        for len in [92, 93, 111, 112, 113, 5000] {
            let record = filler(7, len, 1).unwrap();
            let Step::Record(head, size) = step(&record, LogOffset(7)) else {
                panic!("{len} bytes are no record")
            };
            assert_eq!((size as u64, head.sys_flag & ROLLED_BACK), (len, ROLLED_BACK));
        }
        assert!(filler(7, 91, 1).is_err());
    }
}
