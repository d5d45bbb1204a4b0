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
mod work;

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
use run::{Run, damaged};
use state::{Cursor, State};
pub use work::Work;
use work::{Job, Merge};

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

/// See the module.
pub struct Schedule {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limits: Limits,
    work: Mutex<Option<Merge>>,
    state: Mutex<State>,
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

    fn noticing<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        let outcome = act(&mut state);
        if outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            state.damaged = true;
        }
        outcome
    }
}
