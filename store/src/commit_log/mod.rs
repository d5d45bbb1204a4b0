//! The log: segments end to end, one writer at the end of the last, any number of readers before it.
//!
//! ```text
//!   min                                     flushed        appended
//!    │ segment │ segment │ segment │ segment   │    ▒▒▒▒▒▒▒▒  │ zeros  │ prepared │
//!    └─ removed by retain ─►       slices pin them  └ flush ┘  └ append └ prepare
//! ```
//!
//! It knows records and offsets; queues, views and waiters are the business of others.

mod append;
pub(crate) mod codec;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod mark;
mod prepare;
pub(crate) mod reader;
pub(crate) mod recover;
pub(crate) mod retain;
pub(crate) mod segment;
pub(crate) mod walk;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

pub(crate) use append::{Tail, Writer};
use mark::Mark;
use prepare::{Making, Prepared};
pub(crate) use segment::Segment;

use crate::LogOffset;
use crate::disk::Disk;
use crate::planted::{Bug, is_planted};
use crate::quarantine::Quarantine;

/// A file of the log: where it starts and ends, and its path.
pub(crate) struct Place {
    pub(crate) base: u64,
    pub(crate) end: u64,
    pub(crate) path: PathBuf,
}

/// Why bytes of the log cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotThere {
    /// Below the first segment that is left.
    Deleted,
    /// Beyond what is written, or across a segment's end: no record lies so.
    NeverWritten,
}

pub(crate) struct CommitLog {
    disk: Arc<dyn Disk>,
    /// Where segments lie.
    dir: PathBuf,
    /// Where the next one is made before it gets its name. Not in `dir`: Java takes every file there for a segment.
    temp: PathBuf,
    segment_bytes: u64,
    segments: RwLock<VecDeque<Arc<Segment>>>,
    writer: Mutex<Writer>,
    prepared: Mutex<Prepared>,
    making: Mutex<Making>,
    /// Why appends are refused although there may be room.
    refusal: Mutex<Option<String>>,
    /// There is one; read without the lock.
    refuses: AtomicBool,
    appended: AtomicU64,
    /// Store time of the last record. Written by the holder of the log's lock.
    stored_at_ms: AtomicI64,
    flushed: AtomicU64,
    /// What is not flushed below this was there when the log was opened. The process before may have failed to flush it,
    /// and then the kernel takes it for clean.
    doubted_to: u64,
    mark: Mark,
    /// Copied stretches that are damaged lie before.
    doubted_copies_to: AtomicU64,
    closed: OnceLock<String>,
    /// Who hears of damage; set once the log is open.
    quarantine: OnceLock<Arc<Quarantine>>,
}

impl CommitLog {
    /// Where the first segment that is left starts.
    pub(crate) fn min(&self) -> LogOffset {
        let segments = self.segments.read();
        LogOffset(segments.front().expect("a log has at least one segment").base())
    }

    /// Bytes of a segment.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// End of what is written.
    pub(crate) fn appended(&self) -> LogOffset {
        LogOffset(self.appended.load(Ordering::Acquire))
    }

    /// End of what is on disk.
    pub(crate) fn flushed(&self) -> LogOffset {
        LogOffset(self.flushed.load(Ordering::Acquire))
    }

    /// Takes no more appends from now on. The first reason stays.
    pub(crate) fn close(&self, reason: &str) {
        // An error means that there is a reason already.
        let _ = self.closed.set(reason.to_owned());
    }

    /// Why it takes no appends.
    pub(crate) fn closed(&self) -> Option<&str> {
        self.closed.get().map(String::as_str)
    }

    /// The log is open: from now on damage is noted there.
    pub(crate) fn note_damage_in(&self, quarantine: Arc<Quarantine>) {
        assert!(self.quarantine.set(quarantine).is_ok(), "a log has one list of damaged places");
    }

    /// No valid record lies in these bytes, which should hold one.
    pub(crate) fn note_damage(&self, range: std::ops::Range<u64>, reason: &dyn std::fmt::Display) {
        if let Some(quarantine) = self.quarantine.get() {
            quarantine.report(LogOffset(range.start)..LogOffset(range.end), &reason.to_string());
        }
    }

    /// These bytes were copied as they are, and no valid record lies in them.
    pub(crate) fn note_copied_damage(&self, range: std::ops::Range<u64>) {
        self.doubted_copies_to.fetch_max(range.end, Ordering::AcqRel);
        self.note_damage(range, &"another member's log is damaged here");
    }

    /// What was written since the opening may be damaged nevertheless before this.
    pub(crate) fn doubted_copies_to(&self) -> LogOffset {
        LogOffset(self.doubted_copies_to.load(Ordering::Acquire))
    }

    /// The bytes from `at` on, in place.
    pub(crate) fn slice(&self, at: LogOffset, len: u64) -> Result<Bytes, NotThere> {
        let segment = self.segment(at)?;
        segment.slice(at.0..at.0 + len).ok_or(NotThere::NeverWritten)
    }

    /// The bytes from `at` up to `to` or its segment's end, whatever comes first, in place.
    pub(crate) fn slice_to(&self, at: LogOffset, to: LogOffset) -> Result<Bytes, NotThere> {
        let segment = self.segment(at)?;
        segment.slice(at.0..to.0.min(segment.end())).ok_or(NotThere::NeverWritten)
    }

    /// The segments that there are now, in order.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().iter().cloned().collect()
    }

    /// The file that has the bytes from `at` on.
    pub(crate) fn file_of(&self, at: LogOffset) -> Result<Place, NotThere> {
        let segment = self.segment(at)?;
        let (base, end) = (segment.base(), segment.end());
        Ok(Place { base, end, path: segment::path(&self.dir, base) })
    }

    fn segment(&self, at: LogOffset) -> Result<Arc<Segment>, NotThere> {
        let segments = self.segments.read();
        let first = segments.front().expect("a log has at least one segment").base();
        let index = at.0.checked_sub(first).ok_or(NotThere::Deleted)? / self.segment_bytes;
        segments.get(index as usize).cloned().ok_or(NotThere::NeverWritten)
    }

    /// Shows each valid record that starts in this range, in order, while `visit` wants more. It may wait for the disk.
    pub(crate) fn walk(
        &self,
        range: std::ops::Range<LogOffset>,
        visit: &mut dyn FnMut(&codec::Head, &[u8], LogOffset) -> bool,
    ) {
        let mut at = range.start.0;
        while at < range.end.0 {
            let Ok(segment) = self.segment(LogOffset(at)) else { return };
            let end = segment.base() + segment.map().published();
            let Some(bytes) = segment.slice(segment.base()..end) else { return };
            while at < end.min(range.end.0) {
                let rest = &bytes[(at - segment.base()) as usize..];
                match walk::step(rest, LogOffset(at)) {
                    walk::Step::Record(head, size) => {
                        if !visit(&head, &rest[..size], LogOffset(at)) {
                            return;
                        }
                        at += size as u64;
                    }
                    walk::Step::Blank => break,
                    walk::Step::Nothing | walk::Step::Flawed(_) => {
                        let data_end = end - segment.base();
                        let next = walk::scan(&bytes, segment.base(), data_end, at + 1);
                        self.note_damage(at..next.unwrap_or(end), &walk::flaw(rest, LogOffset(at)));
                        match next {
                            Some(next) => at = next,
                            None => break,
                        }
                    }
                }
            }
            at = at.max(segment.end());
        }
    }

    /// Makes durable what is written before `target`; returns up to where. One caller at a time. `boundary` is the end of
    /// a record at or before `target`, the best that is known. After an error nobody can know what is on disk: the caller
    /// closes the log.
    pub(crate) fn flush(&self, target: LogOffset, boundary: LogOffset) -> io::Result<LogOffset> {
        assert!(boundary <= target && target <= self.appended(), "only what is written can be flushed");
        let flushed = self.flushed();
        if target <= flushed {
            return Ok(flushed);
        }
        let dirty: Vec<_> = {
            let segments = self.segments.read();
            segments.iter().filter(|s| s.end() > flushed.0 && s.base() < target.0).cloned().collect()
        };
        for segment in dirty {
            segment.write_again(flushed.0..target.0.min(self.doubted_to))?;
            if !is_planted(Bug::AcknowledgeBeforeFlush) {
                segment.flush(flushed.0..target.0)?;
            }
            if segment.end() <= target.0 {
                segment.map().seal();
            }
        }
        self.flushed.store(target.0, Ordering::Release);
        self.mark.note(boundary);
        Ok(target)
    }
}
