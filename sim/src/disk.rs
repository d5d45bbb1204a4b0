//! What a member finds again when it starts: its log, and the small files beside it.

use std::collections::BTreeSet;

use replication::{Doubt, Epoch, Has, History, Start, StoreId};
use store::LogOffset;

/// A record. Offsets count records here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) epoch: Epoch,
    /// Which message.
    pub(crate) message: u64,
    /// A hash over this record and all before it: two logs with the same chain somewhere are the same up to there.
    pub(crate) chain: u64,
}

/// A log; what lies before `first` was deleted by retention.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) first: u64,
    /// The chain before the first record.
    before: u64,
    records: Vec<Record>,
}

/// The chain with one record more.
pub(crate) fn chained(before: u64, epoch: Epoch, message: u64) -> u64 {
    let mixed = (before ^ epoch.0.rotate_left(40) ^ message).wrapping_mul(0x0000_0100_0000_01b3);
    mixed ^ (mixed >> 29)
}

impl Log {
    pub(crate) fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    pub(crate) fn get(&self, offset: u64) -> Option<Record> {
        let index = offset.checked_sub(self.first)?;
        self.records.get(usize::try_from(index).ok()?).copied()
    }

    /// The records of this range that are there.
    pub(crate) fn range(&self, from: u64, to: u64) -> Vec<Record> {
        (from..to).filter_map(|offset| self.get(offset)).collect()
    }

    /// The chain up to this offset.
    pub(crate) fn chain(&self, end: u64) -> u64 {
        if end <= self.first { self.before } else { self.get(end - 1).map_or(0, |record| record.chain) }
    }

    /// A record of a primary.
    pub(crate) fn write(&mut self, epoch: Epoch, message: u64) {
        let before = self.chain(self.end());
        self.records.push(Record { epoch, message, chain: chained(before, epoch, message) });
    }

    /// A record as it came from the primary. Does it belong behind the one before it?
    pub(crate) fn copy(&mut self, record: Record) -> bool {
        let before = self.chain(self.end());
        self.records.push(record);
        chained(before, record.epoch, record.message) == record.chain
    }

    pub(crate) fn cut(&mut self, end: u64) {
        self.records.truncate(end.saturating_sub(self.first) as usize);
    }

    pub(crate) fn begin_anew(&mut self, first: u64, before: u64) {
        (self.first, self.before) = (first, before);
        self.records.clear();
    }

    pub(crate) fn retain(&mut self, first: u64) {
        let gone = first.saturating_sub(self.first).min(self.records.len() as u64);
        self.before = self.chain(self.first + gone);
        self.records.drain(..gone as usize);
        self.first += gone;
    }
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) store: StoreId,
    pub(crate) log: Log,
    /// A power cut leaves this much of the log at least.
    pub(crate) flushed: u64,
    /// The highest epoch seen.
    pub(crate) epoch: Epoch,
    pub(crate) history: History,
    pub(crate) confirmed: u64,
    pub(crate) doubt: Doubt,
    /// What there is beside the log: ids of changes.
    pub(crate) state: BTreeSet<u64>,
}

impl Disk {
    /// An empty volume.
    pub(crate) fn fresh(store: u64) -> Self {
        Self {
            store: StoreId(store),
            log: Log::default(),
            flushed: 0,
            epoch: Epoch(0),
            history: History { origin: StoreId(store), starts: Vec::new() },
            confirmed: 0,
            doubt: Doubt::None,
            state: BTreeSet::new(),
        }
    }

    /// The last reign with records in the log.
    pub(crate) fn last(&self) -> Epoch {
        let end = LogOffset(self.log.end());
        self.history.starts.iter().rev().find(|start| start.at < end).map_or(Epoch(0), |start| start.epoch)
    }

    pub(crate) fn has(&self, state: u64) -> Has {
        Has { end: LogOffset(self.log.end()), state }
    }

    /// A reign begins where the log ends.
    pub(crate) fn begin_reign(&mut self, epoch: Epoch) {
        let end = LogOffset(self.log.end());
        let mut history = std::mem::take(&mut self.history).up_to(end);
        history.starts.push(Start { epoch, at: end });
        self.history = history;
        self.epoch = epoch;
    }

    /// The primary's history, as far as this log goes.
    pub(crate) fn adopt(&mut self, theirs: &History) {
        self.history = theirs.clone().up_to(LogOffset(self.log.end()));
    }

    /// Takes what lies behind `end`.
    pub(crate) fn cut(&mut self, end: u64) {
        self.log.cut(end);
        self.flushed = self.flushed.min(self.log.end());
        self.confirmed = self.confirmed.min(self.log.end());
        self.history = std::mem::take(&mut self.history).up_to(LogOffset(self.log.end()));
    }
}
