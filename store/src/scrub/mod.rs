//! The scrub: what is durable in the log, and what is derived from it, is read through once in a while, so that rot is found
//! while there is a good copy somewhere, and not when somebody needs the message.
//!
//! ```text
//!   pass: when, and how fast ─► derived: blocks of queues, runs of keys ─► made anew if damaged
//!                            ─► a window read from the file ─► walk: whole or damaged ─► quarantine
//!                               behind it the page cache is as before
//! ```
//!
//! A thread of its own, which sleeps between windows so that the disk is left to others, and between passes. It reads files
//! and not the mapping: a page that the disk does not give is an error there, and a signal here. What the system has in
//! memory is looked at there: rot below it is found by the pass after it has gone.

mod derived;
mod pass;
mod walk;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::LogOffset;
use crate::answers::Scrubbed;
use crate::clock::Clock;
use crate::commit_log::reader::Reader;
use crate::commit_log::{CommitLog, NotThere};
use crate::config;
use crate::disk::{Disk, File};
use crate::quarantine::Quarantine;
use crate::reads::read_and_drop;
use crate::views::Views;
use crate::views::keys::Keys;
use derived::Derived;
pub(crate) use pass::Pass;
use pass::{Plan, rest};
use walk::{Next, Told, Walk, Window};

/// What is read at once, unless a record is longer.
const WINDOW_BYTES: u64 = 1 << 20;
const PAGE_BYTES: u64 = 4096;
/// How far a pass is is written down when it has read so much more: a crash costs reading that again.
const NOTE_BYTES: u64 = 256 << 20;
/// Before it is tried again to open a file.
const RETRY: Duration = Duration::from_secs(60);

pub(crate) struct Scrub {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    log: Arc<CommitLog>,
    quarantine: Arc<Quarantine>,
    derived: Derived,
    config: config::Scrub,
    work: Mutex<Work>,
    /// Locked for moments only, so that whoever asks does not wait for the disk.
    pass: Mutex<Pass>,
    stop: Mutex<bool>,
    bell: Condvar,
    read_bytes: AtomicU64,
}

/// A pass under way.
#[derive(Default)]
struct Work {
    derived: derived::At,
    walk: Option<Walk>,
    /// By the base of its segment.
    reader: Option<(u64, Reader)>,
    /// The next window has so many bytes at least.
    long: u64,
    /// Read since the pass was noted.
    not_noted: u64,
}

/// What a step came to.
enum Done {
    /// So many bytes were read.
    Read(u64),
    /// There is nothing to do for so long.
    Idle(Duration),
    /// The log takes no more, and what it holds is no longer sure.
    Closed,
}

impl Scrub {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        log: Arc<CommitLog>,
        quarantine: Arc<Quarantine>,
        views: Arc<Views>,
        keys: Option<Arc<Keys>>,
        config: config::Scrub,
    ) -> Self {
        let pass = Mutex::new(quarantine.pass());
        Self {
            disk,
            clock,
            log,
            quarantine,
            derived: Derived { views, keys },
            config,
            work: Mutex::default(),
            pass,
            stop: Mutex::new(false),
            bell: Condvar::new(),
            read_bytes: AtomicU64::new(0),
        }
    }

    /// The thread: until it is stopped.
    pub(crate) fn run(&self) {
        loop {
            let started = Instant::now();
            let pause = match self.step() {
                Done::Read(bytes) => Some(rest(bytes, started.elapsed(), self.config.bytes_per_second)),
                Done::Idle(pause) => Some(pause),
                Done::Closed => None,
            };
            if self.sleeps_until_stopped(pause) {
                return;
            }
        }
    }

    /// `None`: for ever. True: stop.
    fn sleeps_until_stopped(&self, pause: Option<Duration>) -> bool {
        let mut stop = self.stop.lock();
        match pause {
            Some(pause) => {
                self.bell.wait_while_for(&mut stop, |stop| !*stop, pause);
            }
            None => self.bell.wait_while(&mut stop, |stop| !*stop),
        }
        *stop
    }

    /// Ends [`Scrub::run`] soon.
    pub(crate) fn stop(&self) {
        *self.stop.lock() = true;
        self.bell.notify_one();
    }

    /// Reads a window, if a pass is due; true if there is more to read now. For a store without threads.
    pub(crate) fn read_some(&self) -> bool {
        matches!(self.step(), Done::Read(_))
    }

    /// Writes down how far it is, and the places that were found.
    pub(crate) fn note(&self) {
        self.quarantine.note_pass(&self.pass.lock());
        self.quarantine.store();
    }

    /// How it stands.
    pub(crate) fn state(&self) -> Scrubbed {
        let Pass { started_ms, at, end, ended_ms } = self.pass.lock().clone();
        Scrubbed { started_ms, at, end, ended_ms, read_bytes: self.read_bytes.load(Ordering::Relaxed) }
    }

    /// One window.
    fn step(&self) -> Done {
        let work = &mut *self.work.lock();
        let Some(interval) = self.config.interval else { return Done::Closed };
        // After a failed flush the kernel shows what may never be on the disk.
        if self.log.closed().is_some() {
            work.reader = None;
            return Done::Closed;
        }
        let now_ms = self.clock.now_ms();
        let mut pass = self.pass.lock().clone();
        match pass.plan(now_ms, interval) {
            Plan::Wait(pause) => return Done::Idle(pause),
            Plan::Begin => {
                pass = pass.begin(now_ms, self.log.min()..self.log.flushed());
                *work = Work::default();
                self.go_to(&pass);
            }
            Plan::GoOn => {}
        }
        if let Some(bytes) = self.derived.read(&mut work.derived, WINDOW_BYTES) {
            self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
            return Done::Read(bytes);
        }
        match self.read_window(work, &pass) {
            Ok((bytes, false)) => {
                let walk = work.walk.as_ref().expect("it was walked on");
                pass.at = LogOffset(walk.safe_at());
                self.go_to(&pass);
                work.not_noted += bytes;
                if work.not_noted >= NOTE_BYTES {
                    work.not_noted = 0;
                    self.note();
                }
                Done::Read(bytes)
            }
            Ok((_, true)) => {
                pass.over(now_ms);
                *work = Work::default();
                self.go_to(&pass);
                self.note();
                self.tell_over(&pass);
                match pass.plan(now_ms, interval) {
                    Plan::Wait(pause) => Done::Idle(pause),
                    Plan::Begin | Plan::GoOn => Done::Read(0),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot open a file of the log to read it through, trying again");
                Done::Idle(RETRY)
            }
        }
    }

    fn go_to(&self, pass: &Pass) {
        self.pass.lock().clone_from(pass);
    }

    fn tell_over(&self, pass: &Pass) {
        let damaged = self.quarantine.counts();
        tracing::info!(
            bytes = pass.end.0.saturating_sub(self.log.min().0),
            took_ms = pass.ended_ms.saturating_sub(pass.started_ms),
            damaged_places = damaged.places,
            damaged_bytes = damaged.bytes,
            "the log was read through"
        );
    }

    /// Reads a window and reports what it shows; returns its bytes, and whether the pass is over.
    fn read_window(&self, work: &mut Work, pass: &Pass) -> io::Result<(u64, bool)> {
        let flushed = self.log.flushed();
        let appended = self.log.appended();
        let min = self.log.min().0;
        let walk = work.walk.get_or_insert_with(|| Walk::new(pass.at.0));
        if walk.at() < min {
            // Retention was here. A file that is held open keeps its room.
            *walk = Walk::new(min);
            work.reader = None;
        }
        let end = pass.end.min(flushed).0;
        if walk.safe_at() >= end {
            return Ok((0, true));
        }
        let at = walk.at();
        let place = match self.log.file_of(LogOffset(at)) {
            Ok(place) => place,
            Err(NotThere::Deleted) => return Ok((0, false)),
            Err(NotThere::NeverWritten) => return Ok((0, true)),
        };
        let reader = match &mut work.reader {
            Some((base, reader)) if *base == place.base => reader,
            other => {
                *other = None;
                match open(&*self.disk, &place.path, place.base..place.end) {
                    Ok(reader) => &mut other.insert((place.base, reader)).1,
                    Err(_) if place.base < self.log.min().0 => return Ok((0, false)),
                    Err(error) => return Err(error),
                }
            }
        };
        let limit = place.end.min(flushed.0);
        let len = WINDOW_BYTES.max(std::mem::take(&mut work.long)).min(limit - at);
        // Whole pages, so that all of them can be dropped.
        let start = at - (at - place.base) % PAGE_BYTES;
        let page_end = place.end.min(place.base + (at + len - place.base).next_multiple_of(PAGE_BYTES));
        let mut bytes = vec![0; (page_end - start) as usize];
        reader.read(start, &mut bytes);
        self.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);

        let mut told = Vec::new();
        let within = (at - start) as usize..(at + len - start) as usize;
        let goes_on = limit < place.end && flushed < appended;
        let window = Window { bytes: &bytes[within], segment_end: place.end, limit, goes_on };
        let next = walk.look(&window, &mut told);
        told.into_iter().for_each(|told| self.tell(told, &reader.unreadable));
        if let Next::Long(bytes) = next {
            work.long = bytes;
        }
        Ok((bytes.len() as u64, next == Next::End || walk.safe_at() >= end))
    }

    fn tell(&self, told: Told, unreadable: &[Range<u64>]) {
        match told {
            Told::Whole(range) => self.quarantine.found_whole(LogOffset(range.start)..LogOffset(range.end)),
            Told::Damaged(range, reason) => {
                let unread =
                    unreadable.iter().any(|pages| pages.start < range.end && range.start < pages.end);
                let reason = if unread { "the disk does not give these bytes" } else { &reason };
                self.log.note_damage(range, &reason);
            }
        }
    }
}

/// The file, read so that the page cache is afterwards as it was.
fn open(disk: &dyn Disk, path: &Path, range: Range<u64>) -> io::Result<Reader> {
    let file = disk.open_to_read(path)?;
    Ok(Reader::new(Arc::new(Dropping(file)), range))
}

struct Dropping(Arc<dyn File>);

impl File for Dropping {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        read_and_drop(&*self.0, at, into)
    }

    fn write_at(&self, _at: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
