//! Which messages were acknowledged, which came, how often and in which order. Pure.

use std::collections::BTreeMap;

/// Numbers above this belong to no load: `--count` is far below.
const MAX_NUMBER: u64 = 1 << 34;
/// Loads whose messages are told apart; a backlog of more is counted without looking for duplicates.
const MAX_LOADS: usize = 64;

/// A set of numbers, a bit each up to the largest.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Adds a number; false if it was there.
    fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    /// How many are here and not there.
    fn missing_in(&self, other: &Self) -> u64 {
        let others = other.0.iter().chain(std::iter::repeat(&0));
        self.0.iter().zip(others).map(|(mine, theirs)| u64::from((mine & !theirs).count_ones())).sum()
    }
}

/// What was sent and what came.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    acknowledged: Bits,
    received: BTreeMap<u64, Bits>,
    last_of_lane: BTreeMap<u32, u64>,
    /// Messages of this load that were acknowledged.
    pub(crate) acknowledged_count: u64,
    /// Different messages that came, of whatever load.
    pub(crate) distinct: u64,
    /// Messages that had come before.
    pub(crate) duplicates: u64,
    /// Messages that no load of this command sent.
    pub(crate) foreign: u64,
    /// Messages that came for the first time after a later one of their lane.
    pub(crate) out_of_order: u64,
}

impl Ledger {
    /// The server acknowledged these messages of this load.
    pub(crate) fn acknowledge(&mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.acknowledged_count += u64::from(self.acknowledged.insert(number));
        }
    }

    /// A message came. Whether it is new.
    pub(crate) fn receive(&mut self, load: u64, lane: u32, number: u64) -> bool {
        if number > MAX_NUMBER || (self.received.len() >= MAX_LOADS && !self.received.contains_key(&load)) {
            self.foreign += 1;
            return false;
        }
        let new = self.received.entry(load).or_default().insert(number);
        if !new {
            self.duplicates += 1;
            return false;
        }
        self.distinct += 1;
        let last = self.last_of_lane.entry(lane).or_insert(number);
        if number < *last {
            self.out_of_order += 1;
        }
        *last = number.max(*last);
        true
    }

    /// Messages of this load that were acknowledged and have not come.
    pub(crate) fn missing(&self, load: u64) -> u64 {
        let nothing = Bits::default();
        self.acknowledged.missing_in(self.received.get(&load).unwrap_or(&nothing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_and_did_not_come_is_missing() {
        let mut ledger = Ledger::default();
        ledger.acknowledge(0..200);
        for number in (0..200).filter(|number| ![0, 63, 64, 199].contains(number)) {
            assert!(ledger.receive(1, 0, number));
        }
        // The same numbers of another load are other messages.
        assert!(ledger.receive(2, 0, 63));
        assert_eq!(ledger.missing(1), 4);
        assert_eq!((ledger.acknowledged_count, ledger.distinct), (200, 197));
    }

    #[test]
    fn order_is_that_of_first_deliveries_within_a_lane() {
        let mut ledger = Ledger::default();
        for (lane, number) in [(0, 1), (1, 0), (0, 3), (0, 1), (0, 2), (1, 4)] {
            ledger.receive(1, lane, number);
        }
        assert_eq!((ledger.out_of_order, ledger.duplicates), (1, 1));
    }

    #[test]
    fn numbers_of_strangers_take_no_memory() {
        let mut ledger = Ledger::default();
        assert!(!ledger.receive(1, 0, u64::MAX));
        for load in 0..2 * MAX_LOADS as u64 {
            ledger.receive(load, 0, 0);
        }
        assert_eq!((ledger.foreign, ledger.received.len()), (1 + MAX_LOADS as u64, MAX_LOADS));
    }
}
