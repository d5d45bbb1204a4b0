//! Which queues housekeeping looks at, and when: those with a full block at once, the others when they are idle.
//!
//! ```text
//!   late  ◄── wheel:   │ next round │ the one after │ …               │ IDLE_ROUNDS later │
//!     │ some each round   ▲ all of it, by every round    a queue in use goes in here ▲
//!     ▼
//!   written out
//! ```
//!
//! A queue that was pushed to since it was put in is put in again when its turn comes. So a round costs what it has to
//! do, and a million queues in use that are not idle cost nothing. Nor is there a hurry with the idle ones: while there
//! is room in memory, a round writes out some of them, and who has a message every few minutes gathers a few before.

use std::collections::VecDeque;
use std::sync::Arc;

use super::consume_queue::ConsumeQueue;

/// After so many rounds of housekeeping without a push a queue is idle.
pub(super) const IDLE_ROUNDS: u32 = 60;

/// So many idle queues are written out by a round; a few microseconds each.
const LATE_A_ROUND: usize = 2048;

/// Queues of any topics.
pub(super) type Queues = Vec<Arc<ConsumeQueue>>;

/// The queues that have something in memory.
#[derive(Default)]
pub(super) struct InUse {
    full: Queues,
    /// Those whose turn has come, the first in front.
    late: VecDeque<Arc<ConsumeQueue>>,
    wheel: VecDeque<Queues>,
    /// The last round.
    round: u32,
}

impl InUse {
    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.late.is_empty() && self.wheel.iter().all(Vec::is_empty)
    }

    /// This queue has a full block.
    pub(super) fn add_full(&mut self, queue: Arc<ConsumeQueue>) {
        self.full.push(queue);
    }

    /// This queue was pushed to in round `pushed_in`, and is in here no more.
    pub(super) fn add(&mut self, queue: Arc<ConsumeQueue>, pushed_in: u32) {
        let slot = slot_of(pushed_in, self.round);
        if self.wheel.len() <= slot {
            self.wheel.resize_with(slot + 1, Vec::new);
        }
        self.wheel[slot].push(queue);
    }

    /// Begins this round: those with full blocks, and some of those that may be idle.
    pub(super) fn begin(&mut self, round: u32) -> (Queues, Queues) {
        self.round = round;
        self.late.extend(self.wheel.pop_front().unwrap_or_default());
        (std::mem::take(&mut self.full), self.take_late(LATE_A_ROUND))
    }

    /// Those that wait longest.
    pub(super) fn take_late(&mut self, most: usize) -> Queues {
        let count = self.late.len().min(most);
        let taken = self.late.drain(..count).collect();
        if self.late.is_empty() {
            self.late = VecDeque::new();
        }
        taken
    }

    /// Those of a slot, before their time; the lower the slot, the longer ago they were put in.
    pub(super) fn take(&mut self, slot: usize) -> Queues {
        self.wheel.get_mut(slot).map(std::mem::take).unwrap_or_default()
    }
}

/// Where a queue belongs that was pushed to in round `pushed_in`, after the round `last`: 0 is the next one.
pub(super) fn slot_of(pushed_in: u32, last: u32) -> usize {
    // A round may begin between the push and this.
    (pushed_in + IDLE_ROUNDS).saturating_sub(last).min(IDLE_ROUNDS) as usize
}
