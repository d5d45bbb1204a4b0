//! Things that are to happen at a time, up to many millions of them, in memory for a few ten thousand.
//!
//! What happens, and to whom, is the caller's: the schedule knows when, and where in the log the thing's record lies.
//! All that it knows follows from the log, so that it can be made anew; a catalog says up to where it is complete.
//!
//! ```text
//!   put, cancel ─► table ── full: frozen ─► run ┐ 8 of like size
//!                                           run ┘ become one
//!   take ◄── the first of all heads: table, frozen, runs
//! ```
//!
//! # Promises
//!
//! - **In order.** [`Schedule::take`] gives what is due first, first; of the same time in the order of their ids.
//! - **Cancelled is not taken.** That something is cancelled lies beside it in the order of time and drops it there, or
//!   when runs are merged. It is known until the time would have come, so that who asks twice hears the same.
//! - **A crash costs nothing that the log has.** The caller notes from time to time ([`Schedule::note`]) up to where of the log
//!   all is in the schedule; opening says what was noted last, and the caller tells again what the log has from there. To tell
//!   something twice changes nothing.
//! - **Bytes are checked.** What is damaged is never believed: then nothing is noted, and all is told again.
//!
//! # Memory
//!
//! The table of [`Limits::table_entries`] (65,536: some 4 MiB) and the one being written; of each run 30 bytes for a thousand entries and a
//! block of 584. Runs are some seven of each size (65 thousand, half a million, four million, ...).
//!
//! # Locks
//!
//! The work, which one does at a time, then the state, held for moments: but a block of a run may be read under it. No
//! lock of others is taken under them.

mod catalog;
mod entry;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod merge;
mod run;
mod state;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::LogOffset;
use crate::disk::Disk;
use crate::frame::{self, Kept};
use catalog::{Catalog, Listed};
use entry::Entry;
pub use entry::Scheduled;
use merge::{Input, Merged};
use run::{Run, Writer, damaged};
use state::{Cursor, Merging, State};

/// So many runs of like size become one.
const MERGE_RUNS: usize = 8;
/// Entries that one look for old records passes.
const MOST_LOOKED_AT: usize = 32 << 10;
/// Old records that one look finds.
const MOST_FOUND: usize = 256;

/// What bounds a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries in memory before they are written.
    pub table_entries: usize,
    /// Entries that one piece of work merges.
    pub merge_entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { table_entries: 64 << 10, merge_entries: 8 << 10 }
    }
}

/// What was noted last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Whatever the log says before is in the schedule.
    pub complete_to: LogOffset,
    /// The caller's own words.
    pub note: Vec<u8>,
}

/// A place in the order of time: when, and the id.
pub type Place = (i64, LogOffset);

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its time has not come, or nobody took it yet.
    Waiting(Scheduled),
    /// It was cancelled, and would not have been taken yet.
    Cancelled,
    /// It was taken, or never put.
    Unknown,
}

/// What a piece of work came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// There may be more.
    Done,
    /// There is nothing to do.
    Nothing,
    /// The disk refuses; try again later.
    Stuck,
}

/// See the module.
pub struct Schedule {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limits: Limits,
    work: Mutex<Option<Merge>>,
    state: Mutex<State>,
}

/// A note to be written: how things stood when it was asked for.
struct Job {
    complete_to: u64,
    note: Vec<u8>,
    table: Option<Arc<Vec<Entry>>>,
    runs: Vec<Listed>,
    /// In none of them any more.
    garbage: Vec<Arc<Run>>,
    /// The table, once it is written: a catalog that could not be written whole may name it.
    written: Mutex<Option<Arc<Run>>>,
}

/// A merge under way.
struct Merge {
    numbers: Vec<u64>,
    merged: Merged,
    writer: Writer,
}

/// Why a merge does not go on.
enum MergeFailed {
    Read(io::Error),
    Write(io::Error),
}

/// The schedule of a stopped store is made anew, durably, if it tells of anything in the log behind `to`.
pub(crate) fn cut_back(disk: &dyn Disk, root: &Path, to: LogOffset) -> io::Result<()> {
    let dir = root.join("views/schedule");
    disk.create_dir(&dir)?;
    let catalog = dir.join("catalog");
    match frame::read(disk, &catalog, catalog::MAGIC, Catalog::decode)? {
        Kept::Nothing => {}
        Kept::Good(noted) if noted.complete_to <= to.0 => {}
        Kept::Good(_) | Kept::Damaged => disk.remove(&catalog)?,
    }
    disk.sync_dir(&dir)
}

impl Schedule {
    /// Opens the schedule of a store with this root and log. Without [`Noted`] it is empty, and everything that the log
    /// has must be told.
    pub fn open(
        disk: Arc<dyn Disk>,
        root: &Path,
        log: Range<LogOffset>,
        limits: Limits,
    ) -> io::Result<(Self, Option<Noted>)> {
        let dir = root.join("views/schedule");
        disk.create_dir(&dir)?;
        let this = Self { disk, dir, limits, work: Mutex::default(), state: Mutex::default() };
        let noted = match this.load(&log) {
            Ok(noted) => noted,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(%error, "the schedule is damaged, it is made anew from the log");
                None
            }
            Err(error) => return Err(error),
        };
        if noted.is_none() {
            this.clear()?;
        }
        Ok((this, noted))
    }

    fn load(&self, log: &Range<LogOffset>) -> io::Result<Option<Noted>> {
        let catalog = match frame::read(&*self.disk, &self.catalog(), catalog::MAGIC, Catalog::decode)? {
            Kept::Good(catalog) => catalog,
            Kept::Nothing => return Ok(None),
            Kept::Damaged => return Err(damaged("the checksum of its catalog does not match")),
        };
        if catalog.complete_to > log.end.0 {
            return Err(damaged("the log ends before what it is complete to"));
        }
        let files = self.disk.list(&self.dir)?;
        let mut runs = Vec::new();
        for Listed { number, entries, done } in catalog.runs {
            let path = run::path(&self.dir, number);
            let file = files.iter().find(|file| run::number_of(&file.name) == Some(number));
            let file = file.ok_or_else(|| damaged(&format!("{} is missing", path.display())))?;
            let run = Run::open(self.disk.as_ref(), &self.dir, number, file.bytes)?;
            if run.entries != entries {
                return Err(damaged(&format!("{} is another one", path.display())));
            }
            runs.push(Cursor::new(Arc::new(run), done));
        }
        for file in &files {
            let is_listed = runs.iter().any(|cursor| cursor.run.path == self.dir.join(&file.name));
            if !is_listed && file.name != "catalog" {
                self.disk.remove(&self.dir.join(&file.name))?;
            }
        }
        *self.state.lock() = State {
            runs,
            next_number: catalog.next_number,
            complete_to: catalog.complete_to,
            ..State::default()
        };
        Ok(Some(Noted { complete_to: LogOffset(catalog.complete_to), note: catalog.note }))
    }

    fn catalog(&self) -> PathBuf {
        self.dir.join("catalog")
    }

    /// Forgets everything: it is to be told anew.
    pub fn clear(&self) -> io::Result<()> {
        let mut work = self.work.lock();
        let mut state = self.state.lock();
        *work = None;
        *state = State::default();
        // The catalog first: it must not name what is gone.
        let mut files = self.disk.list(&self.dir)?;
        files.sort_by_key(|file| file.name != "catalog");
        for file in files {
            self.disk.remove(&self.dir.join(file.name))?;
        }
        self.disk.sync_dir(&self.dir)
    }

    /// It is due, and its record lies there. Of two places of a thing the one further on counts.
    pub fn put(&self, scheduled: Scheduled) {
        self.state.lock().put(Entry::of(scheduled));
    }

    /// It must not happen. Only for what is waiting.
    pub fn cancel(&self, due_ms: i64, id: LogOffset) {
        self.state.lock().put(Entry::cancelled((due_ms, id.0)));
    }

    /// It happened already: told again from the log.
    pub fn forget(&self, due_ms: i64, id: LogOffset) -> io::Result<()> {
        self.noticing(|state| state.forget((due_ms, id.0)))
    }

    /// How it stands.
    pub fn standing(&self, due_ms: i64, id: LogOffset) -> io::Result<Standing> {
        self.noticing(|state| state.standing((due_ms, id.0)))
    }

    /// When something is due next.
    pub fn next_due(&self) -> io::Result<Option<i64>> {
        self.noticing(|state| Ok(state.first()?.map(|(due_ms, _)| due_ms)))
    }

    /// Takes out what is due up to then, at most `max`, in order.
    pub fn take(&self, until_ms: i64, max: usize) -> io::Result<Vec<Scheduled>> {
        self.noticing(|state| {
            let mut taken = Vec::new();
            while taken.len() < max {
                match state.first() {
                    Ok(Some(key)) if key.0 <= until_ms => taken.extend(state.take(key)),
                    Ok(_) => break,
                    // It comes again, at the next call.
                    Err(_) if !taken.is_empty() => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(taken)
        })
    }

    /// Forgets what is due up to then and was cancelled, until something that was not; at most `max`. For who follows a
    /// schedule and takes nothing from it: it would keep for ever what others took. How many were forgotten.
    pub fn pass_cancelled(&self, until_ms: i64, max: usize) -> io::Result<usize> {
        self.noticing(|state| {
            let mut passed = 0;
            while passed < max
                && let Some(key) = state.first()?
                && key.0 <= until_ms
                && state.pass_cancelled(key)
            {
                passed += 1;
            }
            Ok(passed)
        })
    }

    /// Some of what waits, behind `after` in the order of time, whose records lie before `below`; and where to go on, if that was
    /// not all.
    pub fn lying_below(
        &self,
        below: LogOffset,
        after: Option<Place>,
    ) -> io::Result<(Vec<Scheduled>, Option<Place>)> {
        self.noticing(|state| {
            let after = after.map(|(due_ms, id)| (due_ms, id.0));
            let mut rest = state.rest(after, MOST_LOOKED_AT, below.0)?;
            let mut found = Vec::new();
            for looked in 1.. {
                let Some(entry) = rest.next()? else { break };
                found.extend(entry.scheduled().filter(|scheduled| scheduled.at < below));
                if looked == MOST_LOOKED_AT || found.len() == MOST_FOUND {
                    return Ok((found, Some((entry.key.0, LogOffset(entry.key.1)))));
                }
            }
            Ok((found, None))
        })
    }

    /// Is so much in memory that nothing may be put until a note is written?
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.state.lock().table.len() >= 2 * self.limits.table_entries
    }

    /// Would a note make room, in memory or on the disk?
    #[must_use]
    pub fn wants_note(&self) -> bool {
        let state = self.state.lock();
        state.job.is_none() && (state.merged || state.table.len() >= self.limits.table_entries)
    }

    /// Something cannot be read and never will: [`Schedule::clear`], and tell everything anew.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.state.lock().damaged
    }

    /// What is on the disk is complete to here.
    #[must_use]
    pub fn complete_to(&self) -> LogOffset {
        LogOffset(self.state.lock().complete_to)
    }

    /// Whatever the log says before `complete_to` was told, and what was taken happened: [`Schedule::work`] will note that.
    /// False: the note before is not written yet.
    pub fn note(&self, complete_to: LogOffset, note: Vec<u8>) -> bool {
        let mut state = self.state.lock();
        if state.job.is_some() {
            return false;
        }
        let table = state.freeze();
        let runs = state.list();
        let garbage = std::mem::take(&mut state.garbage);
        state.merged = false;
        state.job = Some(Arc::new(Job {
            complete_to: complete_to.0,
            note,
            table,
            runs,
            garbage,
            written: Mutex::default(),
        }));
        true
    }

    /// A piece of what is to be done on the disk. `flush` makes the log durable: a note must not know more than the log.
    pub fn work(&self, flush: &dyn Fn() -> io::Result<()>) -> Work {
        let mut merge = self.work.lock();
        let job = self.state.lock().job.clone();
        if let Some(job) = job {
            return match flush().and_then(|()| self.write(&job)) {
                Ok(()) => Work::Done,
                Err(error) => {
                    if !std::mem::replace(&mut self.state.lock().stuck, true) {
                        tracing::warn!(%error, "cannot write the schedule, it stays in memory; it is tried again and again");
                    }
                    Work::Stuck
                }
            };
        }
        if merge.is_none() && !self.begin_merge(&mut merge) {
            return Work::Nothing;
        }
        match self.merge(&mut merge) {
            Ok(()) => Work::Done,
            Err(failed) => {
                self.state.lock().merging = None;
                if let Some(merge) = merge.take() {
                    self.remove(merge.writer.path());
                }
                match failed {
                    MergeFailed::Read(error) if error.kind() == io::ErrorKind::InvalidData => {
                        self.state.lock().damaged = true;
                    }
                    MergeFailed::Read(error) | MergeFailed::Write(error) => {
                        tracing::warn!(%error, "cannot merge files of the schedule");
                    }
                }
                Work::Stuck
            }
        }
    }

    fn write(&self, job: &Job) -> io::Result<()> {
        let mut runs = job.runs.clone();
        let mut written = job.written.lock();
        if let (Some(table), None) = (&job.table, &*written) {
            *written = Some(Arc::new(self.write_run(table)?));
        }
        let run = written.clone();
        runs.extend(run.iter().map(|run| Listed { number: run.number, entries: run.entries, done: 0 }));
        let next_number = self.state.lock().next_number;
        let catalog = Catalog { complete_to: job.complete_to, next_number, runs, note: job.note.clone() };
        frame::write(self.disk.as_ref(), &self.catalog(), catalog::MAGIC, &catalog.encode())?;
        {
            let mut state = self.state.lock();
            state.thaw(run);
            state.complete_to = job.complete_to;
            state.job = None;
            state.stuck = false;
        }
        job.garbage.iter().for_each(|run| self.remove(&run.path));
        Ok(())
    }

    fn write_run(&self, table: &[Entry]) -> io::Result<Run> {
        let mut writer = Writer::new(self.disk.as_ref(), &self.dir, self.number())?;
        let path = writer.path().to_owned();
        let pushed = table.iter().try_for_each(|entry| writer.push(*entry));
        let run = pushed.and_then(|()| writer.finish(self.disk.as_ref(), &self.dir));
        if run.is_err() {
            self.remove(&path);
        }
        run
    }

    /// Of a file to be written.
    fn number(&self) -> u64 {
        let mut state = self.state.lock();
        state.next_number += 1;
        state.next_number - 1
    }

    /// Begins to merge the smallest of enough like ones, if there are.
    fn begin_merge(&self, merge: &mut Option<Merge>) -> bool {
        let (numbers, inputs) = {
            let mut state = self.state.lock();
            let Some(chosen) = self.like_ones(&state.runs) else { return false };
            let numbers: Vec<_> = chosen.iter().map(|cursor| cursor.run.number).collect();
            let inputs: Vec<_> =
                chosen.iter().map(|cursor| Input::of_run(Arc::clone(&cursor.run), cursor.next)).collect();
            state.merging = Some(Merging { numbers: numbers.clone(), taken_to: None });
            (numbers, inputs)
        };
        let begun = Merged::new(inputs).map_err(MergeFailed::Read).and_then(|merged| {
            let writer = Writer::new(self.disk.as_ref(), &self.dir, self.number());
            Ok(Merge { numbers, merged, writer: writer.map_err(MergeFailed::Write)? })
        });
        match begun {
            Ok(begun) => {
                *merge = Some(begun);
                true
            }
            Err(MergeFailed::Read(error) | MergeFailed::Write(error)) => {
                tracing::warn!(%error, "cannot merge files of the schedule");
                let mut state = self.state.lock();
                state.merging = None;
                state.damaged |= error.kind() == io::ErrorKind::InvalidData;
                false
            }
        }
    }

    fn like_ones<'a>(&self, runs: &'a [Cursor]) -> Option<Vec<&'a Cursor>> {
        let left = |cursor: &Cursor| cursor.run.entries - cursor.next;
        let size = |cursor: &&Cursor| size(left(cursor), self.limits.table_entries as u64);
        let needed = |runs: &[&Cursor]| 32 * runs.iter().map(|cursor| left(cursor)).sum::<u64>();
        (0..=u64::BITS).find_map(|wanted| {
            let like: Vec<_> = runs.iter().filter(|cursor| size(cursor) == wanted).collect();
            let room = || self.disk.space(&self.dir).is_ok_and(|space| needed(&like) < space.free_bytes / 2);
            (like.len() >= MERGE_RUNS && room()).then_some(like)
        })
    }

    /// Merges a portion.
    fn merge(&self, under_way: &mut Option<Merge>) -> Result<(), MergeFailed> {
        let merge = under_way.as_mut().expect("it was begun");
        for _ in 0..self.limits.merge_entries.max(1) {
            match merge.merged.next().map_err(MergeFailed::Read)? {
                Some(entry) => merge.writer.push(entry).map_err(MergeFailed::Write)?,
                None => {
                    let Merge { numbers, merged: _, writer } = under_way.take().expect("it is under way");
                    let path = writer.path().to_owned();
                    let run = writer.finish(self.disk.as_ref(), &self.dir).map_err(MergeFailed::Write);
                    let installed = run.and_then(|run| self.install(&numbers, run));
                    if installed.is_err() {
                        self.remove(&path);
                    }
                    return installed;
                }
            }
        }
        Ok(())
    }

    /// Puts the new run in the place of those that it was made from.
    fn install(&self, numbers: &[u64], run: Run) -> Result<(), MergeFailed> {
        let mut state = self.state.lock();
        // What was taken meanwhile was the first of them together, so it is the first of this one.
        let taken_to = state.merging.as_ref().and_then(|merging| merging.taken_to);
        let next = match taken_to {
            Some((due_ms, id)) => run.position((due_ms, id + 1)).map_err(MergeFailed::Read)?.0,
            None => 0,
        };
        tracing::debug!(entries = run.entries, runs = numbers.len(), "files of the schedule merged");
        let (merged, kept) = std::mem::take(&mut state.runs)
            .into_iter()
            .partition(|cursor| numbers.contains(&cursor.run.number));
        state.runs = kept;
        let merged: Vec<Cursor> = merged;
        state.garbage.extend(merged.into_iter().map(|cursor| cursor.run));
        state.runs.push(Cursor::new(Arc::new(run), next));
        state.merging = None;
        state.merged = true;
        Ok(())
    }

    fn remove(&self, path: &Path) {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot remove a file of the schedule");
            }
            _ => {}
        }
    }

    fn noticing<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        let outcome = act(&mut state);
        if outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            state.damaged = true;
        }
        outcome
    }
}

/// Runs of like size have the same: 0 for a table or less, 1 for eight of them, ...
fn size(entries: u64, table: u64) -> u32 {
    entries.div_ceil(table.max(1)).max(1).next_power_of_two().ilog2().div_ceil(MERGE_RUNS.ilog2())
}
