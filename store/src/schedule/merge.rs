//! Several sorted rows become one: of each thing the entry that counts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;

use super::entry::{Entry, Key};
use super::run::{BLOCK_ENTRIES, Run};

/// A row of entries, in order.
pub(super) enum Input {
    /// Of a run, from an entry on.
    Run { run: Arc<Run>, next: u64, rest: Vec<Entry> },
    /// In memory.
    Held(std::vec::IntoIter<Entry>),
}

impl Input {
    pub(super) fn of_run(run: Arc<Run>, from: u64) -> Self {
        Self::Run { run, next: from, rest: Vec::new() }
    }

    pub(super) fn held(entries: Vec<Entry>) -> Self {
        Self::Held(entries.into_iter())
    }

    fn next(&mut self) -> io::Result<Option<Entry>> {
        match self {
            Self::Held(entries) => Ok(entries.next()),
            Self::Run { run, next, rest } => {
                if rest.is_empty() && *next < run.entries {
                    let mut block = run.block(*next / BLOCK_ENTRIES)?;
                    block.drain(..(*next % BLOCK_ENTRIES) as usize);
                    // The last is taken first.
                    block.reverse();
                    *rest = block;
                }
                let entry = rest.pop();
                *next += u64::from(entry.is_some());
                Ok(entry)
            }
        }
    }
}

/// The rows together. After an error it is of no use any more.
pub(super) struct Merged {
    inputs: Vec<Input>,
    /// The next of each row that has one.
    heads: BinaryHeap<Reverse<(Key, usize)>>,
    entries: Vec<Option<Entry>>,
}

impl Merged {
    pub(super) fn new(inputs: Vec<Input>) -> io::Result<Self> {
        let count = inputs.len();
        let mut merged = Self { inputs, heads: BinaryHeap::with_capacity(count), entries: vec![None; count] };
        (0..count).try_for_each(|number| merged.advance(number))?;
        Ok(merged)
    }

    /// The next thing's entry that counts.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut found: Option<Entry> = None;
        while let Some(Reverse((key, number))) = self.heads.peek().copied() {
            if found.is_some_and(|found| found.key != key) {
                break;
            }
            self.heads.pop();
            let entry = self.entries[number].take().expect("a head has an entry");
            self.advance(number)?;
            found = Some(found.map_or(entry, |found| found.or(entry)));
        }
        Ok(found)
    }

    fn advance(&mut self, number: usize) -> io::Result<()> {
        if let Some(entry) = self.inputs[number].next()? {
            self.heads.push(Reverse((entry.key, number)));
            self.entries[number] = Some(entry);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogOffset;
    use crate::schedule::Scheduled;

    fn entry(due_ms: i64, id: u64, at: u64) -> Entry {
        Entry::of(Scheduled { due_ms, id: LogOffset(id), at: LogOffset(at), size: 1, kind: 1 })
    }

    #[test]
    fn rows_become_one_in_order_with_one_entry_of_each_thing() {
        let rows = [
            vec![entry(1, 1, 1), entry(3, 3, 3), entry(5, 5, 5)],
            vec![],
            vec![entry(1, 0, 0), Entry::cancelled((3, 3)), entry(5, 5, 50), entry(9, 9, 9)],
            vec![entry(3, 4, 4), entry(5, 5, 7), Entry::cancelled((7, 7))],
        ];
        let mut merged = Merged::new(rows.into_iter().map(Input::held).collect()).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| merged.next().unwrap()).collect();
        let expected = [
            entry(1, 0, 0),
            entry(1, 1, 1),
            Entry::cancelled((3, 3)),
            entry(3, 4, 4),
            entry(5, 5, 50),
            Entry::cancelled((7, 7)),
            entry(9, 9, 9),
        ];
        assert_eq!(all, expected);
    }
}
