//! What is where now: the table that grows, the one being written, the runs, and how far each is done.
//!
//! ```text
//!   table    sorted, changes        ┐
//!   frozen   sorted, being written  ├ the first of all heads is due next; those of one thing go together
//!   runs     sorted, on the disk    ┘
//! ```
//!
//! What is taken goes from the table, and passes the others by: they never change.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::catalog::Listed;
use super::entry::{Entry, Key, Scheduled};
use super::merge::{Input, Merged};
use super::run::{BLOCK_ENTRIES, Run};
use super::{Job, Standing};

/// A run and how far it is done.
pub(super) struct Cursor {
    pub(super) run: Arc<Run>,
    pub(super) next: u64,
    /// The block that was read last.
    block: Option<(u64, Vec<Entry>)>,
}

/// A table that is being written.
pub(super) struct Frozen {
    entries: Arc<Vec<Entry>>,
    next: usize,
}

/// Runs that are being merged, and the last that was taken from any of them since that began.
pub(super) struct Merging {
    pub(super) numbers: Vec<u64>,
    pub(super) taken_to: Option<Key>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) table: BTreeMap<Key, Entry>,
    pub(super) frozen: Option<Frozen>,
    pub(super) runs: Vec<Cursor>,
    pub(super) merging: Option<Merging>,
    /// What is to be written.
    pub(super) job: Option<Arc<Job>>,
    /// Runs that are of no use any more, but that the catalog on the disk may name.
    pub(super) garbage: Vec<Arc<Run>>,
    pub(super) next_number: u64,
    /// What the catalog on the disk is complete to.
    pub(super) complete_to: u64,
    /// A merge was installed, of which no catalog knows.
    pub(super) merged: bool,
    /// A run cannot be read.
    pub(super) damaged: bool,
    /// The disk refused the last note.
    pub(super) stuck: bool,
}

impl Cursor {
    pub(super) fn new(run: Arc<Run>, next: u64) -> Self {
        Self { run, next, block: None }
    }

    fn load(&mut self) -> io::Result<()> {
        let wanted = self.next / BLOCK_ENTRIES;
        if self.next < self.run.entries && self.block.as_ref().is_none_or(|(number, _)| *number != wanted) {
            self.block = Some((wanted, self.run.block(wanted)?));
        }
        Ok(())
    }

    /// The next, if its block is loaded.
    fn head(&self) -> Option<Entry> {
        let (number, entries) = self.block.as_ref()?;
        let within = self.next.checked_sub(number * BLOCK_ENTRIES)?;
        entries.get(within as usize).copied()
    }

    /// The entry of this key, unless it is done.
    fn find(&self, key: Key) -> io::Result<Option<Entry>> {
        let of = |first: u64, entries: &[Entry]| {
            let within = entries.binary_search_by_key(&key, |entry| entry.key).ok()?;
            (first + within as u64 >= self.next).then(|| entries[within])
        };
        if let Some((number, entries)) = &self.block
            && entries.first().is_some_and(|first| first.key <= key)
            && entries.last().is_some_and(|last| key <= last.key)
        {
            return Ok(of(number * BLOCK_ENTRIES, entries));
        }
        let (before, entries) = self.run.position(key)?;
        Ok(of(before / BLOCK_ENTRIES * BLOCK_ENTRIES, &entries))
    }
}

impl Frozen {
    fn find(&self, key: Key) -> Option<Entry> {
        let left = &self.entries[self.next..];
        left.binary_search_by_key(&key, |entry| entry.key).ok().map(|at| left[at])
    }
}

impl State {
    pub(super) fn put(&mut self, entry: Entry) {
        self.table.entry(entry.key).and_modify(|other| *other = other.or(entry)).or_insert(entry);
    }

    /// What the frozen table and the runs say of a thing.
    fn written(&self, key: Key) -> io::Result<Option<Entry>> {
        let mut found = self.frozen.as_ref().and_then(|frozen| frozen.find(key));
        for cursor in &self.runs {
            if let Some(entry) = cursor.find(key)? {
                found = Some(found.map_or(entry, |found| found.or(entry)));
            }
        }
        Ok(found)
    }

    pub(super) fn standing(&self, key: Key) -> io::Result<Standing> {
        let found = match (self.table.get(&key).copied(), self.written(key)?) {
            (Some(held), Some(written)) => Some(held.or(written)),
            (held, written) => held.or(written),
        };
        Ok(match found.map(Entry::scheduled) {
            None => Standing::Unknown,
            Some(None) => Standing::Cancelled,
            Some(Some(scheduled)) => Standing::Waiting(scheduled),
        })
    }

    /// It happened.
    pub(super) fn forget(&mut self, key: Key) -> io::Result<()> {
        if self.written(key)?.is_some() {
            self.put(Entry::cancelled(key));
        } else {
            self.table.remove(&key);
        }
        Ok(())
    }

    /// The key that is due first. May read a block of each run.
    pub(super) fn first(&mut self) -> io::Result<Option<Key>> {
        let mut first = self.table.first_key_value().map(|(key, _)| *key);
        let mut see = |entry: Option<Entry>| {
            let earlier = entry.filter(|entry| first.is_none_or(|first| entry.key < first));
            first = earlier.map(|entry| entry.key).or(first);
        };
        see(self.frozen.as_ref().and_then(|frozen| frozen.entries.get(frozen.next).copied()));
        for cursor in &mut self.runs {
            cursor.load()?;
            see(cursor.head());
        }
        Ok(first)
    }

    /// Takes out the first, which has this key, if it was cancelled. Whether it did.
    pub(super) fn pass_cancelled(&mut self, key: Key) -> bool {
        let table = self.table.get(&key).copied();
        let frozen = self.frozen.as_ref().and_then(|frozen| frozen.entries.get(frozen.next).copied());
        let heads = self.runs.iter().filter_map(Cursor::head);
        let of_key = table.into_iter().chain(frozen).chain(heads).filter(|entry| entry.key == key);
        let is_cancelled = of_key.reduce(Entry::or).is_some_and(|entry| entry.scheduled().is_none());
        is_cancelled && self.take(key).is_none()
    }

    /// Takes out the first, which has this key. `None`: it was cancelled.
    pub(super) fn take(&mut self, key: Key) -> Option<Scheduled> {
        let mut found = self.table.remove(&key);
        let mut see = |entry: Entry| found = Some(found.map_or(entry, |found| found.or(entry)));
        if let Some(frozen) = &mut self.frozen
            && let Some(entry) = frozen.entries.get(frozen.next).filter(|entry| entry.key == key)
        {
            see(*entry);
            frozen.next += 1;
        }
        for cursor in &mut self.runs {
            let Some(entry) = cursor.head().filter(|entry| entry.key == key) else { continue };
            see(entry);
            cursor.next += 1;
            if let Some(merging) = &mut self.merging
                && merging.numbers.contains(&cursor.run.number)
            {
                merging.taken_to = Some(key);
            }
        }
        found.and_then(Entry::scheduled)
    }

    /// The table is to be written. Only while none is.
    pub(super) fn freeze(&mut self) -> Option<Arc<Vec<Entry>>> {
        assert!(self.frozen.is_none(), "one table is written at a time");
        let entries: Vec<Entry> = std::mem::take(&mut self.table).into_values().collect();
        if entries.is_empty() {
            return None;
        }
        let entries = Arc::new(entries);
        self.frozen = Some(Frozen { entries: Arc::clone(&entries), next: 0 });
        Some(entries)
    }

    /// The frozen table is in this run.
    pub(super) fn thaw(&mut self, run: Option<Arc<Run>>) {
        if let (Some(frozen), Some(run)) = (self.frozen.take(), run) {
            self.runs.push(Cursor::new(run, frozen.next as u64));
        }
    }

    /// The runs that are not done yet, for a catalog; those that are become garbage.
    pub(super) fn list(&mut self) -> Vec<Listed> {
        let merging = self.merging.as_ref().map_or(&[][..], |merging| &merging.numbers);
        let is_done =
            |cursor: &Cursor| cursor.next == cursor.run.entries && !merging.contains(&cursor.run.number);
        self.garbage
            .extend(self.runs.iter().filter(|cursor| is_done(cursor)).map(|cursor| Arc::clone(&cursor.run)));
        self.runs.retain(|cursor| !is_done(cursor));
        let of = |cursor: &Cursor| Listed {
            number: cursor.run.number,
            entries: cursor.run.entries,
            done: cursor.next,
        };
        self.runs.iter().map(of).collect()
    }

    /// All that is not done, behind this key: of each part that is in memory at most so many. The runs are left out if none
    /// has an entry whose record lies before `below` in the log.
    pub(super) fn rest(&self, after: Option<Key>, held: usize, below: u64) -> io::Result<Merged> {
        // No id is as high.
        let from = after.map_or((i64::MIN, 0), |(due_ms, id)| (due_ms, id + 1));
        let table = self.table.range(from..).map(|(_, entry)| *entry).take(held).collect();
        let mut inputs = vec![Input::held(table)];
        if let Some(frozen) = &self.frozen {
            let left = &frozen.entries[frozen.next..];
            let behind = &left[left.partition_point(|entry| entry.key < from)..];
            inputs.push(Input::held(behind.iter().take(held).copied().collect()));
        }
        if self.runs.iter().any(|cursor| cursor.run.least_at < below) {
            // Also those that have none: they know what was cancelled, or went elsewhere.
            for cursor in &self.runs {
                let start = cursor.run.position(from)?.0.max(cursor.next);
                inputs.push(Input::of_run(Arc::clone(&cursor.run), start));
            }
        }
        Merged::new(inputs)
    }
}
