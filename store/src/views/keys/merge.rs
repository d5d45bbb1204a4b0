//! Several runs become one, a portion at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::entry::KeyEntry;
use super::run::{Run, Writer};
use crate::disk::Disk;

/// Why a merge cannot go on.
pub(super) enum Failed {
    /// This run cannot be read.
    Input(Arc<Run>, io::Error),
    /// The new one cannot be written.
    Output(io::Error),
}

/// A merge under way.
pub(super) struct Merge {
    inputs: Vec<Input>,
    /// The next entry of each input that has one.
    next: BinaryHeap<Reverse<(KeyEntry, usize)>>,
    writer: Writer,
    /// Entries of records before it are left out: they are deleted.
    log_min: u64,
}

struct Input {
    run: Arc<Run>,
    next_block: usize,
    /// The rest of the block that is read, last first.
    rest: Vec<KeyEntry>,
}

impl Merge {
    /// Of runs that lie end to end.
    pub(super) fn new(
        disk: &dyn Disk,
        dir: &Path,
        runs: Vec<Arc<Run>>,
        log_min: u64,
    ) -> Result<Self, Failed> {
        let range = range(&runs);
        let level = runs[0].footer.level + 1;
        let writer = Writer::new(disk, dir.join("merging.temp"), level, range).map_err(Failed::Output)?;
        let inputs = runs.into_iter().map(|run| Input { run, next_block: 0, rest: Vec::new() }).collect();
        let mut merge = Self { inputs, next: BinaryHeap::new(), writer, log_min };
        for (number, input) in merge.inputs.iter_mut().enumerate() {
            merge.next.extend(input.next()?.map(|entry| Reverse((entry, number))));
        }
        Ok(merge)
    }

    /// What is merged, end to end.
    pub(super) fn range(&self) -> Range<u64> {
        self.inputs[0].run.footer.range.start..self.inputs[self.inputs.len() - 1].run.footer.range.end
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.inputs.iter().map(|input| &input.run)
    }

    /// Merges at most so many entries; true: that were the last.
    pub(super) fn step(&mut self, entries: usize) -> Result<bool, Failed> {
        for _ in 0..entries {
            let Some(mut first) = self.next.peek_mut() else { return Ok(true) };
            let Reverse((entry, number)) = *first;
            match self.inputs[number].next()? {
                Some(next) => *first = Reverse((next, number)),
                None => {
                    PeekMut::pop(first);
                }
            }
            if entry.at >= self.log_min {
                self.writer.push(entry).map_err(Failed::Output)?;
            }
        }
        Ok(self.next.is_empty())
    }

    /// Gives the new run its name. Durable when it returns.
    pub(super) fn finish(self, disk: &dyn Disk, dir: &Path) -> io::Result<Run> {
        self.writer.finish(disk, dir)
    }
}

impl Input {
    fn next(&mut self) -> Result<Option<KeyEntry>, Failed> {
        if self.rest.is_empty() && self.next_block < self.run.blocks() {
            let block = self.run.block(self.next_block);
            self.rest = block.map_err(|error| Failed::Input(Arc::clone(&self.run), error))?;
            self.rest.reverse();
            self.next_block += 1;
        }
        Ok(self.rest.pop())
    }
}

fn range(runs: &[Arc<Run>]) -> Range<u64> {
    runs[0].footer.range.start..runs[runs.len() - 1].footer.range.end
}
