//! The key index: which records have a key, by topic and key.
//!
//! ```text
//!   log ── read behind the confirmed end ─► live ── full: sorted ─► waiting ── written ─► run ┐ 16 of a level
//!    └──── read again where a gap is ─────────────────────────────────┘                   run ┘ become one of the next
//!
//!   a look-up:  catch up with what is confirmed ─► live, waiting, runs, newest first ─► look at each record
//! ```
//!
//! Appending pays nothing: a thread of its own reads what was just written, while it is still in the processor's cache. The
//! index is complete up to where each of its parts says; a part that is damaged is thrown away and its stretch of the log
//! is read again. A run is written only when its stretch of the log is durable, so it never knows more than the log.
//!
//! Memory, however many messages there are: the live stretch and at most [`MOST_WAITING`] that wait, of 24 bytes an entry
//! ([`Config::key_buffer_entries`](crate::Config::key_buffer_entries), 131,072: 3 MiB each), as much again while a gap is
//! read or a merge runs, and ten bytes for a thousand entries on disk. That is below 16 MiB for 100 million messages of
//! three keys; a store without keys has none of it.
//!
//! Two locks, in this order: the work, which one does at a time; the catalog, held for moments. No lock of others is taken
//! under them.

mod catalog;
mod check;
mod entry;
mod follow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod merge;
mod run;
mod search;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use catalog::{Catalog, Part, Waiting};
pub(crate) use check::Checking;
pub(crate) use entry::{Hash, has_id, has_key, hash};
use follow::Follow;
use merge::{Failed, Merge};
use run::{Run, Writer};

use crate::LogOffset;
use crate::commit_log::CommitLog;
use crate::config::Config;
use crate::disk::Disk;
use crate::milestone::Milestone;

/// Stretches that may wait in memory to be written. When there are as many, the index does not read on.
const MOST_WAITING: usize = 2;
/// So many runs of a level become one.
const MERGE_RUNS: usize = 16;
/// Runs of this level are not merged: they cover tens of gigabytes of log, and retention frees them whole.
const HIGHEST_LEVEL: u32 = 2;
/// Entries that a merge moves in one go.
const MERGE_STEP: usize = 16 << 10;
/// The thread wants to hear when the log has grown by so much.
const CALL_BYTES: u64 = 4 << 20;
/// A look-up reads so much of the log before it answers; what is left it reports as not searched.
const CATCH_UP_BYTES: u64 = 64 << 20;
/// Before the thread tries again what failed.
const RETRY: Duration = Duration::from_secs(1);

/// Removes the runs of a stopped store that tell of anything behind `to`, durably.
pub(crate) fn remove_beyond(disk: &dyn Disk, root: &std::path::Path, to: LogOffset) -> io::Result<()> {
    let dir = root.join("views/keys");
    disk.create_dir(&dir)?;
    for file in disk.list(&dir)? {
        if run::range_of(&file.name).is_some_and(|range| range.end > to.0) {
            disk.remove(&dir.join(&file.name))?;
        }
    }
    disk.sync_dir(&dir)
}

/// The index of a store.
pub(crate) struct Keys {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    log: Arc<CommitLog>,
    hash: Hash,
    buffer_entries: usize,
    written_before: LogOffset,
    work: Mutex<Work>,
    catalog: Mutex<Catalog>,
    /// The thread wants to hear when the log ends here or later.
    call_at: Milestone,
    called: Mutex<Called>,
    bell: Condvar,
}

#[derive(Default)]
struct Called {
    called: bool,
    stop: bool,
}

/// What is under way.
#[derive(Default)]
struct Work {
    /// Entries read for a gap; the gap begins where they do.
    gap: Option<Waiting>,
    merge: Option<Merge>,
}

/// What a piece of work came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// Go on.
    Followed,
    /// Go on, but leave room for others.
    Background,
    /// There is nothing to do.
    Idle,
    /// Something is to be done, but the disk refuses, or the log is not durable yet.
    Stuck,
}

impl Keys {
    /// Opens the index of a log that is confirmed up to the start of `open`, and ends at its end. Reads the directory and the
    /// end of each run.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        config: &Config,
        log: Arc<CommitLog>,
        open: Range<LogOffset>,
        hash: Hash,
    ) -> io::Result<Self> {
        let Range { start: confirmed, end: written_before } = open;
        let dir = config.root.join("views/keys");
        disk.create_dir(&dir)?;
        let mut runs = Vec::new();
        let mut removed = false;
        for file in disk.list(&dir)? {
            let path = dir.join(&file.name);
            let Some(range) = run::range_of(&file.name) else {
                if file.name.ends_with(".temp") {
                    disk.remove(&path)?;
                }
                continue;
            };
            let opened = if range.end > written_before.0 {
                Err(io::Error::other("the log ends before it"))
            } else {
                Run::open(disk.as_ref(), &path, &range, file.bytes)
            };
            match opened {
                Ok(run) => runs.push(run),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a file of the key index is no good, it is made anew");
                    disk.remove(&path)?;
                    removed = true;
                }
            }
        }
        // A run tells of confirmed records, also of such as are not known for that after a crash.
        let live_from = runs.iter().map(|run| run.footer.range.end).fold(confirmed.0, u64::max);
        let (catalog, needless) = Catalog::new(runs, live_from);
        for run in &needless {
            disk.remove(&run.path)?;
            removed = true;
        }
        if removed {
            // Before the log grows over what such a file speaks of.
            disk.sync_dir(&dir)?;
        }
        Ok(Self {
            disk,
            dir,
            log,
            hash,
            buffer_entries: config.key_buffer_entries.max(1),
            written_before,
            work: Mutex::default(),
            catalog: Mutex::new(catalog),
            call_at: Milestone::default(),
            called: Mutex::default(),
            bell: Condvar::new(),
        })
    }

    /// Was this place of the log written before this opening, so that it may have changed on the disk?
    pub(crate) fn came_from_disk(&self, at: LogOffset) -> bool {
        at < self.written_before
    }

    /// The log now ends at `end`.
    pub(crate) fn appended(&self, end: LogOffset) {
        if self.call_at.is_reached(end) {
            self.call();
        }
    }

    /// There may be something to do: segments were removed.
    pub(crate) fn call(&self) {
        self.called.lock().called = true;
        self.bell.notify_one();
    }

    /// Ends [`Keys::run`] soon.
    pub(crate) fn stop(&self) {
        self.called.lock().stop = true;
        self.bell.notify_one();
    }

    /// The thread; `confirmed` says up to where the log may be read.
    pub(crate) fn run(&self, confirmed: &dyn Fn() -> LogOffset) {
        loop {
            let started = Instant::now();
            let pause = match self.work(confirmed().0) {
                Done::Followed => Some(Duration::ZERO),
                // As long as it took: no more than half a processor, and half the disk.
                Done::Background => Some(started.elapsed()),
                Done::Stuck => Some(RETRY),
                Done::Idle => None,
            };
            if pause.is_none() {
                let read_to = self.catalog.lock().live.range.end;
                let next = self.log.appended().0.max(read_to) + CALL_BYTES;
                self.call_at.set(next);
            }
            if self.sleeps_until_stopped(pause) {
                return;
            }
        }
    }

    /// Waits for the pause, or for a call; true: stop.
    fn sleeps_until_stopped(&self, pause: Option<Duration>) -> bool {
        let mut state = self.called.lock();
        match pause {
            Some(pause) => {
                let until = Instant::now() + pause;
                while !state.stop && !pause.is_zero() && !self.bell.wait_until(&mut state, until).timed_out()
                {
                }
            }
            None => self.bell.wait_while(&mut state, |state| !state.called && !state.stop),
        }
        state.called = false;
        state.stop
    }

    /// Does all that is to be done now. For a store without threads.
    pub(crate) fn work_through(&self, confirmed: LogOffset) {
        while matches!(self.work(confirmed.0), Done::Followed | Done::Background) {}
    }

    /// Writes down what is in memory, so that the next opening need not read it again. Everything must be flushed, and the
    /// thread stopped.
    pub(crate) fn close(&self, confirmed: LogOffset) {
        let mut work = self.work.lock();
        if work.merge.take().is_some() {
            self.remove(&self.dir.join("merging.temp"));
        }
        self.read_missing(&mut work, confirmed.0);
        self.catalog.lock().seal();
        while self.write_waiting() == Done::Followed {}
    }

    /// One piece of work, the most urgent first.
    fn work(&self, confirmed: u64) -> Done {
        let mut work = self.work.lock();
        self.forget_deleted();
        let works: [&mut dyn FnMut() -> Done; 3] =
            [&mut || self.write_waiting(), &mut || self.follow(confirmed), &mut || self.fill_gap(&mut work)];
        let first = works.into_iter().map(|work| work()).find(|done| *done != Done::Idle);
        first.unwrap_or_else(|| self.merge(&mut work))
    }

    /// Where the segment starts that holds this place.
    fn segment_base(&self, at: u64) -> u64 {
        at - at % self.log.segment_bytes()
    }

    fn follower(&self) -> Follow<'_> {
        Follow { log: &self.log, hash: self.hash, written_before: self.written_before }
    }

    /// Reads a portion of what was appended.
    fn follow(&self, confirmed: u64) -> Done {
        let from = {
            let catalog = self.catalog.lock();
            if catalog.live.range.end >= confirmed {
                return Done::Idle;
            }
            if catalog.live.entries.len() >= self.buffer_entries && catalog.waiting().1 >= MOST_WAITING {
                return Done::Stuck;
            }
            catalog.live.range.end
        };
        let mut entries = Vec::new();
        let end = self.follower().portion(from, confirmed, &mut entries);
        let mut catalog = self.catalog.lock();
        catalog.live.entries.append(&mut entries);
        catalog.live.range.end = end;
        if catalog.live.entries.len() >= self.buffer_entries && catalog.waiting().1 < MOST_WAITING {
            catalog.seal();
        }
        Done::Followed
    }

    /// Reads a portion of a gap: the newest, and of it the newest segment first.
    fn fill_gap(&self, work: &mut Work) -> Done {
        let min = self.log.min().0;
        let (newest, waiting) = {
            let catalog = self.catalog.lock();
            (catalog.gaps(min).pop(), catalog.waiting().1)
        };
        let Some(newest) = newest else {
            work.gap = None;
            return Done::Idle;
        };
        if waiting >= MOST_WAITING {
            return Done::Stuck;
        }
        // A newer gap, or retention, may have come in between.
        let gap = match &mut work.gap {
            Some(gap) if newest.start <= gap.range.start && gap.range.end <= newest.end => gap,
            other => {
                let start = newest.start.max(self.segment_base(newest.end - 1));
                other.insert(Waiting { range: start..start, entries: Vec::new() })
            }
        };
        let to = newest.end.min(self.segment_base(gap.range.end) + self.log.segment_bytes());
        gap.range.end = self.follower().portion(gap.range.end, to, &mut gap.entries).min(to);
        if gap.range.end == to || gap.entries.len() >= self.buffer_entries {
            let mut read = work.gap.take().expect("it was just read into");
            read.sort();
            self.catalog.lock().insert(Part::Waiting(Arc::new(read)));
        }
        Done::Background
    }

    /// Writes the oldest stretch that waits, if the log is durable there.
    fn write_waiting(&self) -> Done {
        let (Some(waiting), count) = self.catalog.lock().waiting() else { return Done::Idle };
        if self.log.flushed().0 < waiting.range.end {
            return if count >= MOST_WAITING { Done::Stuck } else { Done::Idle };
        }
        match self.write(&waiting) {
            Ok(run) => {
                self.catalog.lock().replace(&waiting.range, Some(Arc::new(run)));
                Done::Followed
            }
            Err(error) => {
                tracing::warn!(%error, "cannot write a part of the key index, it stays in memory");
                self.remove(&self.dir.join("writing.temp"));
                Done::Stuck
            }
        }
    }

    fn write(&self, waiting: &Waiting) -> io::Result<Run> {
        let temp = self.dir.join("writing.temp");
        let mut writer = Writer::new(self.disk.as_ref(), temp, 0, waiting.range.clone())?;
        waiting.entries.iter().try_for_each(|entry| writer.push(*entry))?;
        writer.finish(self.disk.as_ref(), &self.dir)
    }

    /// Removes what speaks only of records that are deleted.
    fn forget_deleted(&self) {
        for part in self.catalog.lock().forget_before(self.log.min().0) {
            if let Part::Run(run) = part {
                self.remove(&run.path);
            }
        }
    }

    /// Merges a portion.
    fn merge(&self, work: &mut Work) -> Done {
        if work.merge.as_ref().is_some_and(|merge| {
            let catalog = self.catalog.lock();
            !merge.runs().all(|run| catalog.has(run))
        }) {
            // One of its runs is deleted, or damaged.
            work.merge = None;
        }
        let outcome = match work.merge.take() {
            Some(mut merge) => merge.step(MERGE_STEP).and_then(|last| {
                if last {
                    return self.end_merge(merge).map_err(Failed::Output);
                }
                work.merge = Some(merge);
                Ok(())
            }),
            None => match self.catalog.lock().mergeable(MERGE_RUNS, HIGHEST_LEVEL) {
                Some(runs) if self.has_room(&runs) => {
                    Merge::new(self.disk.as_ref(), &self.dir, runs, self.log.min().0)
                        .map(|merge| work.merge = Some(merge))
                }
                Some(_) | None => return Done::Idle,
            },
        };
        match outcome {
            Ok(()) => Done::Background,
            Err(Failed::Input(run, error)) => {
                self.discard(&run, &error);
                Done::Background
            }
            Err(Failed::Output(error)) => {
                tracing::warn!(%error, "cannot merge files of the key index");
                self.remove(&self.dir.join("merging.temp"));
                Done::Stuck
            }
        }
    }

    /// The merged run would take no more than half of what is free.
    fn has_room(&self, runs: &[Arc<Run>]) -> bool {
        let needed: u64 = runs.iter().map(|run| run.bytes()).sum();
        self.disk.space(&self.dir).is_ok_and(|space| needed < space.free_bytes / 2)
    }

    fn end_merge(&self, merge: Merge) -> io::Result<()> {
        let range = merge.range();
        let inputs: Vec<_> = merge.runs().cloned().collect();
        let run = merge.finish(self.disk.as_ref(), &self.dir)?;
        tracing::debug!(
            entries = run.footer.entries,
            level = run.footer.level,
            "files of the key index merged"
        );
        self.catalog.lock().replace(&range, Some(Arc::new(run)));
        inputs.iter().for_each(|run| self.remove(&run.path));
        Ok(())
    }

    /// A run that cannot be read goes; its stretch of the log will be read again.
    fn discard(&self, run: &Arc<Run>, error: &io::Error) {
        tracing::error!(path = %run.path.display(), %error, "a file of the key index is no good, it is made anew");
        let mut catalog = self.catalog.lock();
        // Whoever else found it out was quicker.
        if catalog.has(run) {
            catalog.replace(&run.footer.range, None);
            self.remove(&run.path);
        }
        drop(catalog);
        self.call();
    }

    fn remove(&self, path: &std::path::Path) {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot remove a file of the key index");
            }
            _ => {}
        }
    }

    /// Indexes what is confirmed and not indexed yet, if that is not too much. `flush` is called if that is what it waits for.
    pub(crate) fn catch_up(&self, confirmed: LogOffset, flush: &dyn Fn()) {
        self.read_missing(&mut self.work.lock(), confirmed.0);
        let waits = {
            let (waiting, count) = self.catalog.lock().waiting();
            count >= MOST_WAITING && waiting.is_some_and(|oldest| self.log.flushed().0 < oldest.range.end)
        };
        if waits {
            flush();
            self.read_missing(&mut self.work.lock(), confirmed.0);
        }
    }

    fn read_missing(&self, work: &mut Work, confirmed: u64) {
        let min = self.log.min().0;
        let missing = |catalog: &Catalog| {
            let behind = confirmed.saturating_sub(catalog.live.range.end.max(min));
            let gaps: u64 = catalog.gaps(min).iter().map(|gap| gap.end - gap.start).sum();
            (behind, gaps)
        };
        let (behind, gaps) = missing(&self.catalog.lock());
        let writes = |done: Done| done == Done::Stuck && self.write_waiting() == Done::Followed;
        if behind <= CATCH_UP_BYTES {
            loop {
                let done = self.follow(confirmed);
                if done != Done::Followed && !writes(done) {
                    break;
                }
            }
        }
        if gaps <= CATCH_UP_BYTES {
            loop {
                let done = self.fill_gap(work);
                if done != Done::Background && !writes(done) {
                    break;
                }
            }
        }
    }

    /// Bytes between the log's start and `confirmed` that are not indexed now.
    pub(crate) fn missing_bytes(&self, confirmed: LogOffset) -> u64 {
        let min = self.log.min().0;
        let catalog = self.catalog.lock();
        let gaps = catalog.gaps(min).iter().map(|Range { start, end }| end - start).sum::<u64>();
        gaps + confirmed.0.saturating_sub(catalog.live.range.end.max(min))
    }
}
