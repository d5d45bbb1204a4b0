//! What is to be done on the disk, a piece at a time: notes with the table in them are written, runs of like size become one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Schedule;
use super::catalog::{self, Catalog, Listed};
use super::entry::Entry;
use super::merge::{Input, Merged};
use super::run::{Run, Writer};
use super::state::{Cursor, Merging};
use crate::frame;

/// So many runs of like size become one.
const MERGE_RUNS: usize = 8;

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

/// A note to be written: how things stood when it was asked for.
pub(super) struct Job {
    pub(super) complete_to: u64,
    pub(super) note: Vec<u8>,
    pub(super) table: Option<Arc<Vec<Entry>>>,
    pub(super) runs: Vec<Listed>,
    /// In none of them any more.
    pub(super) garbage: Vec<Arc<Run>>,
    /// The table, once it is written: a catalog that could not be written whole may name it.
    pub(super) written: Mutex<Option<Arc<Run>>>,
}

/// A merge under way.
pub(super) struct Merge {
    numbers: Vec<u64>,
    merged: Merged,
    writer: Writer,
}

/// Why a merge does not go on.
enum MergeFailed {
    Read(io::Error),
    Write(io::Error),
}

impl Schedule {
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
}

/// Runs of like size have the same: 0 for a table or less, 1 for eight of them, ...
fn size(entries: u64, table: u64) -> u32 {
    entries.div_ceil(table.max(1)).max(1).next_power_of_two().ilog2().div_ceil(MERGE_RUNS.ilog2())
}
