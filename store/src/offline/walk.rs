//! Every record of a log, in order and checked: one thread reads and tells, the others check.
//!
//! ```text
//!   read a window ─ hop over its records by their sizes ─┬─► checked by a thread ─┐
//!   read the next ─ hop ─────────────────────────────────┼─► checked by another ──┤─► told in the log's order
//!   ...                                                  └─► ...               ───┘
//! ```
//!
//! Reading hops over records by what they announce, before anybody has checked that. Where a check finds a flaw, what was
//! read ahead is thrown away, and the walk goes on as recovery would ([`crate::commit_log::walk`]): at the next valid
//! record. Memory is bounded by the windows in flight.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::Mutex;

use super::Error;
use super::segments::Segments;
use super::trouble::{Resolved, resolve};
use crate::LogOffset;
use crate::commit_log::codec::{Announced, Head, announced_by};
use crate::commit_log::reader::Reader;
use crate::commit_log::walk::{Step, step};

/// What is read at once. It stays in the processor's cache until it is checked.
pub(super) const WINDOW: u64 = 1 << 20;
/// More threads than this wait for memory, not for work.
const MAX_THREADS: usize = 8;

/// Some records, one behind the other.
#[derive(Default)]
pub(super) struct Batch {
    /// Log offset of the first byte.
    pub(super) base: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) items: Vec<Item>,
}

/// A valid record of a [`Batch`].
pub(super) struct Item {
    pub(super) start: usize,
    pub(super) size: usize,
    pub(super) head: Head,
    pub(super) tags_code: i64,
    /// The checksum of its body is right too.
    pub(super) body_matches: bool,
}

impl Batch {
    /// Log offset behind the last record.
    pub(super) fn end(&self) -> LogOffset {
        LogOffset(self.base + self.items.last().map_or(0, |item| (item.start + item.size) as u64))
    }

    pub(super) fn record(&self, item: &Item) -> &[u8] {
        &self.bytes[item.start..item.start + item.size]
    }
}

/// A stretch of the log that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// First byte.
    pub from: LogOffset,
    /// Behind the last.
    pub to: LogOffset,
    /// What is wrong there.
    pub what: What,
}

/// What is wrong with a stretch of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// No valid record lies there. It is skipped, and what follows is served.
    Damaged(String),
    /// The disk does not give these bytes.
    Unreadable,
    /// The file is missing, or is too short.
    Missing,
    /// Written last, and not wholly: a crash does that. Opening the store cuts it.
    Torn(String),
    /// The record is whole, but the checksum of its body does not match: its writer was wrong. Java refuses it.
    Body,
}

/// What a walk tells.
pub(super) enum Told<'a> {
    /// Valid records. The buffers may be taken.
    Batch(&'a mut Batch),
    Damage(Damage),
}

/// Walks the log from `from` on, where a record starts. All before `durable` was flushed once. Returns the log's end, or
/// where `visit` broke off.
pub(super) fn walk(
    segments: &Segments,
    from: LogOffset,
    durable: LogOffset,
    visit: &mut dyn FnMut(Told<'_>) -> ControlFlow<()>,
) -> Result<LogOffset, Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let (jobs, waiting) = sync_channel::<Job>(2 * threads);
    let waiting = Mutex::new(waiting);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| check_all(&waiting));
        }
        let front = Front { segments, at: from.0, reader: None, spare: Vec::new() };
        // Moved in: when it goes, the threads end.
        Walk { front, durable: durable.0, jobs, in_flight: VecDeque::new(), most: 2 * threads }.run(visit)
    })
}

/// A window to be checked, and where the answer goes.
struct Job {
    window: Batch,
    used: usize,
    answer: SyncSender<Checked>,
}

struct Checked {
    batch: Batch,
    /// Log offset of the first record that is not valid.
    flawed_at: Option<u64>,
}

/// A thread's work: check windows until there are no more.
fn check_all(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting.lock().recv();
        let Ok(Job { window, used, answer }) = job else { return };
        // Nobody waits for it any more when a window before it had a flaw.
        let _ = answer.send(check(window, used));
    }
}

fn check(mut batch: Batch, used: usize) -> Checked {
    batch.items.clear();
    let mut start = 0;
    while start < used {
        let at = batch.base + start as u64;
        match step(&batch.bytes[start..], LogOffset(at)) {
            Step::Record(head, size) => {
                let record = &batch.bytes[start..start + size];
                let tags_code = head.tags_code(record);
                let body_matches = head.body_matches(record);
                batch.items.push(Item { start, size, head, tags_code, body_matches });
                start += size;
            }
            Step::Blank | Step::Nothing | Step::Flawed(_) => return Checked { batch, flawed_at: Some(at) },
        }
    }
    Checked { batch, flawed_at: None }
}

struct Walk<'a> {
    front: Front<'a>,
    durable: u64,
    jobs: SyncSender<Job>,
    /// Answers to come, in the log's order.
    in_flight: VecDeque<Receiver<Checked>>,
    most: usize,
}

impl Walk<'_> {
    fn run(mut self, visit: &mut dyn FnMut(Told<'_>) -> ControlFlow<()>) -> Result<LogOffset, Error> {
        let mut stop = None;
        loop {
            while stop.is_none() && self.in_flight.len() < self.most {
                match self.front.next()? {
                    Next::Window(window, used) => {
                        let (answer, answered) = sync_channel(1);
                        self.jobs
                            .send(Job { window, used, answer })
                            .expect("the checking threads wait for jobs");
                        self.in_flight.push_back(answered);
                    }
                    Next::Stop(why) => stop = Some(why),
                }
            }
            let Some(answered) = self.in_flight.pop_front() else {
                match stop.take().expect("nothing is in flight only when the front has stopped") {
                    Stop::End => return Ok(LogOffset(self.front.at)),
                    Stop::Gap(to) => {
                        let from = std::mem::replace(&mut self.front.at, to);
                        let damage = Damage { from: LogOffset(from), to: LogOffset(to), what: What::Missing };
                        if visit(Told::Damage(damage)).is_break() {
                            return Ok(LogOffset(from));
                        }
                    }
                    Stop::Flawed => {
                        let at = LogOffset(self.front.at);
                        match resolve(self.front.segments, at.0, self.durable)? {
                            Resolved::End => return Ok(at),
                            Resolved::Torn(damage) => {
                                let _ = visit(Told::Damage(damage));
                                return Ok(at);
                            }
                            Resolved::Skip(damage) => {
                                self.front.at = damage.to.0;
                                self.front.reader = None;
                                if visit(Told::Damage(damage)).is_break() {
                                    return Ok(at);
                                }
                            }
                        }
                    }
                }
                continue;
            };
            let Checked { mut batch, flawed_at } = answered.recv().expect("a checking thread answers");
            if let Some(at) = flawed_at {
                self.in_flight.clear();
                self.front.at = at;
                stop = Some(Stop::Flawed);
            }
            let end = batch.end();
            if !batch.items.is_empty() && visit(Told::Batch(&mut batch)).is_break() {
                return Ok(end);
            }
            self.front.spare.push(batch);
        }
    }
}

enum Next {
    /// A window, and how many of its bytes are whole records by what they announce.
    Window(Batch, usize),
    Stop(Stop),
}

/// Why reading ahead stops until all before is told.
enum Stop {
    /// No file holds the place any more.
    End,
    /// The next file starts here.
    Gap(u64),
    /// No record is announced at the place.
    Flawed,
}

/// Reads ahead.
struct Front<'a> {
    segments: &'a Segments,
    at: u64,
    /// The segment's index and its file.
    reader: Option<(usize, Reader)>,
    /// Buffers to use again.
    spare: Vec<Batch>,
}

impl Front<'_> {
    fn next(&mut self) -> Result<Next, Error> {
        loop {
            let Some(index) = self.segments.index_at(self.at) else { return Ok(Next::Stop(Stop::End)) };
            let range = self.segments.range(index);
            if self.at < range.start {
                return Ok(Next::Stop(Stop::Gap(range.start)));
            }
            let mut window = self.spare.pop().unwrap_or_default();
            let mut len = WINDOW;
            let (used, found) = loop {
                self.fill(index, &mut window, len)?;
                let (used, found) = hop(&window.bytes, (range.end - self.at) as usize);
                match found {
                    // Longer than a window.
                    Found::Part(size) if used == 0 => len = size as u64,
                    found => break (used, found),
                }
            };
            self.at += used as u64;
            if let Found::Blank = found {
                self.at = range.end;
            }
            match (used, found) {
                (0, Found::Flawed) => return Ok(Next::Stop(Stop::Flawed)),
                (0, _) => self.spare.push(window),
                _ => return Ok(Next::Window(window, used)),
            }
        }
    }

    fn fill(&mut self, index: usize, window: &mut Batch, len: u64) -> Result<(), Error> {
        let reader = match &mut self.reader {
            Some((open, reader)) if *open == index => reader,
            other => &mut other.insert((index, self.segments.open(index)?)).1,
        };
        window.base = self.at;
        window.bytes.resize(len.min(reader.range.end - self.at) as usize, 0);
        reader.read(self.at, &mut window.bytes);
        Ok(())
    }
}

/// What comes behind the whole records of a window.
enum Found {
    /// A part of a record of this size, or of its head.
    Part(usize),
    Blank,
    /// The segment's end.
    End,
    Flawed,
}

/// Counts the bytes of whole records by their sizes alone. `room` is what is left of the segment.
fn hop(bytes: &[u8], room: usize) -> (usize, Found) {
    let mut used = 0;
    loop {
        let Some(head) = bytes[used..].first_chunk::<8>() else {
            let found = match room - used {
                0 => Found::End,
                // As `step` has it.
                1..8 => Found::Blank,
                _ => Found::Part(8),
            };
            return (used, found);
        };
        match announced_by(head, room - used) {
            Announced::Record(size) if size <= bytes.len() - used => used += size,
            Announced::Record(size) => return (used, Found::Part(size)),
            Announced::Blank => return (used, Found::Blank),
            Announced::Nothing | Announced::Bad(_) => return (used, Found::Flawed),
        }
    }
}
