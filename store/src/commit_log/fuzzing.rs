//! Tries the walk over a segment, and what else is read to judge a log: the flushed mark, who wrote last, what is known to be damaged.

use std::path::Path;

use super::codec::{BLANK_BYTES, encode_blank, fuzzing as records};
use super::walk::{self, Step, Verdict, step, verdict};
use super::{LogOffset, mark as flushed};
use crate::config::Flush;
use crate::disk::{Disk as _, MemoryDisk};
use crate::epochs;
use crate::fuzzing::Input;
use crate::last_writer::{self, LastWriter};
use crate::quarantine;

/// Where the segment begins.
const BASE: u64 = 1 << 20;

/// Makes the checksums of all records right, and their places, in a segment that begins at `base`.
pub(crate) fn mend(segment: &mut [u8], base: u64) {
    let mut at = 0;
    while let Some(found) = walk::candidate(segment, at) {
        at = match super::codec::announced(&segment[found..]) {
            super::codec::Announced::Record(size) => {
                records::mend(&mut segment[found..found + size], base + found as u64);
                found + size
            }
            _ => found + 1,
        };
    }
}

/// A segment of valid records, with a blank at its end.
pub(crate) fn segment(base: u64) -> Vec<u8> {
    let mut segment = Vec::new();
    for n in 0..records::valid(0).len() {
        let at = base + segment.len() as u64;
        segment.extend(records::valid(at).swap_remove(n));
    }
    segment.resize(segment.len() + 60, 0);
    let start = segment.len() - 60;
    encode_blank(&mut segment[start..start + BLANK_BYTES as usize], 60);
    segment
}

pub(crate) fn segments() -> Vec<Vec<u8>> {
    let whole = segment(BASE);
    let mut holed = whole.clone();
    holed[100..300].fill(0);
    let mut torn = whole[..whole.len() - 60].to_vec();
    torn.resize(torn.len() + 100, 0);
    torn[whole.len() - 200..].fill(0);
    vec![whole, holed, torn]
}

/// Walks as recovery does.
pub(crate) fn walk(Input { mend: mends, choice, bytes }: Input<'_>) {
    let mut segment = bytes.to_vec();
    if mends {
        mend(&mut segment, BASE);
    }
    let flush = if choice & 1 == 0 { Flush::Async } else { Flush::Sync };
    let end = BASE + segment.len() as u64;
    let durable = BASE + segment.len() as u64 * u64::from(choice >> 1) / 64;
    let data_end = segment.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    let mut at = BASE;
    while at < end {
        let rest = &segment[(at - BASE) as usize..];
        match step(rest, LogOffset(at)) {
            Step::Record(head, size) => {
                assert!(size <= rest.len() && head.place.0 == at);
                assert_eq!(walk::scan(&segment, BASE, data_end, at), Some(at));
                at += size as u64;
            }
            Step::Blank => return,
            Step::Nothing | Step::Flawed(_) => {
                let _ = walk::flaw(rest, LogOffset(at)).to_string();
                let next = walk::scan(&segment, BASE, data_end, at + 1);
                if let Some(next) = next {
                    assert!(at < next && next < end, "a scan goes forward");
                    let found = step(&segment[(next - BASE) as usize..], LogOffset(next));
                    assert!(matches!(found, Step::Record(..)), "a scan finds a record");
                }
                match verdict(at, durable, flush, next) {
                    Verdict::SkipTo(to) => {
                        assert!(at < to && to <= end.max(durable), "a skip goes forward");
                        at = to;
                    }
                    Verdict::End => {
                        assert!(at >= durable, "what was durable is not cut");
                        return;
                    }
                }
            }
        }
    }
}

pub(crate) fn marks() -> Vec<Vec<u8>> {
    let aborts = ["gantry open, process 7", "gantry closed", "4711"].map(|abort| abort.as_bytes().to_vec());
    let marks = [0, 1 << 40].map(|at| flushed::encode(LogOffset(at)).to_vec());
    [aborts.to_vec(), marks.to_vec(), vec![quarantine::empty(), epochs::two()]].concat()
}

/// As the flushed mark, as the `abort` file, as the list of damaged places, and as the epochs.
pub(crate) fn mark(Input { mend: mends, bytes, .. }: Input<'_>) {
    let mut bytes = bytes.to_vec();
    let as_framed = |bytes: &[u8]| {
        quarantine::try_bytes(bytes);
        epochs::try_bytes(bytes);
    };
    as_framed(&bytes);
    if mends && let Some((content, _)) = bytes.split_last_chunk::<4>() {
        as_framed(&[content, &crc32fast::hash(content).to_be_bytes()].concat());
    }
    if mends && let Some((offset, crc)) = bytes.split_first_chunk_mut::<8>() {
        let right = crc32fast::hash(offset).to_be_bytes();
        crc.iter_mut().zip(right).for_each(|(byte, right)| *byte = right);
    }
    let disk = MemoryDisk::default();
    let root = Path::new("/data");
    let kept = |name: &str| disk.write(&root.join(name), &bytes).expect("there is room");
    kept("flushed");
    if let Some(at) = flushed::read(&disk, root).expect("there is a mark") {
        assert_eq!(flushed::encode(at), bytes[..]);
    }
    assert_eq!(LastWriter::look(&disk, root).expect("no call fails"), LastWriter::Nobody);
    kept("abort");
    let _ = LastWriter::look(&disk, root).expect("no call fails").was_clean();
    last_writer::note_open(&disk, root).expect("there is room");
    assert_eq!(LastWriter::look(&disk, root).ok(), Some(LastWriter::Us { clean: false }));
    last_writer::note_closed(&disk, root).expect("there is room");
    assert_eq!(LastWriter::look(&disk, root).ok(), Some(LastWriter::Us { clean: true }));
}
