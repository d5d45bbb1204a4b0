//! One poll: what it takes from the queues of a topic. Pure, as `consumption`, which calls it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::consumption::{GIVEN_BACK_AFTER, Held, handle_of, let_go};
use super::handle::Handle;
use super::queue::{Aligned, Flight, Millis, Queue, Renewal};

/// How far one renewal reaches (RocketMQ's proxy: 60 s, looked at as time passes).
pub(super) const RENEWAL_STEP: Millis = 60_000;
/// How long one delivery can be renewed.
pub(super) const RENEWAL_LIMIT: Millis = 3 * 3600 * 1000;
/// How long a dead letter stays away, to be tried again if it could not be stored.
pub(super) const BURIAL_HOLD: Millis = 30_000;
/// Entries of usual effort looked at in one poll before others get their turn.
const SCAN_BUDGET: usize = 2048;
/// Entries asked for at a time when many are expected not to match.
const SCAN_CHUNK: usize = 64;

/// What a look at the log shows.
#[derive(Clone, Debug)]
pub(super) struct Seen<T> {
    pub(super) offset: u64,
    /// Whether the poll's filter takes it.
    pub(super) takes: bool,
    /// Its message group, for ordered groups.
    pub(super) lane: u64,
    pub(super) item: T,
}

/// The outcome of a look.
#[derive(Clone, Debug)]
pub(super) enum Look<T> {
    /// In order. Nothing: the queue ends here.
    Seen(Vec<Seen<T>>),
    /// The disk must be asked first; the source remembers for what.
    Away,
    /// Retention has deleted it; the queue starts here now.
    Gone { start: u64 },
    /// It cannot be read now.
    Failed,
}

/// The queues of the topic, as they are now.
pub(super) trait Source {
    /// What comes with an offset: enough to read the message.
    type Item;
    /// From the first offset that is left to the end (exclusive).
    fn bounds(&mut self, queue: u32) -> Range<u64>;
    /// At most `max` entries from `from` on. Waits for nothing.
    fn look(&mut self, queue: u32, from: u64, max: usize) -> Look<Self::Item>;
}

/// What one poll wants.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) max: usize,
    /// How long its messages stay away.
    pub(super) away: Away,
    /// The poll's attempt id, digested; 0: none.
    pub(super) poll: u64,
    /// Whether it wants one message of a lane (message group) at a time, of ordered groups.
    pub(super) one_of_a_lane: bool,
    /// Whether it takes some messages only, so that more must be looked at than is delivered.
    pub(super) sifts: bool,
    /// What a look at one entry costs; 1 is usual.
    pub(super) effort: usize,
}

/// How long messages stay away.
#[derive(Clone, Debug)]
pub(super) enum Away {
    For(Millis),
    /// While the client is online.
    While(Arc<str>),
}

/// The rules of the group and the broker, as they are now.
pub(super) struct Rules<'a> {
    pub(super) ordered: bool,
    pub(super) max_attempts: u32,
    pub(super) max_in_flight: usize,
    pub(super) queues: u32,
    /// The higher its id, the more urgent are a queue's messages.
    pub(super) by_priority: bool,
    pub(super) online: &'a dyn Fn(&str) -> bool,
}

/// A message for the poll, or for the dead letter topic.
#[derive(Clone, Debug)]
pub(super) struct Delivered<T> {
    pub(super) handle: Handle,
    pub(super) item: T,
}

/// The outcome of a poll.
#[derive(Clone, Debug)]
pub(super) struct Popped<T> {
    pub(super) deliveries: Vec<Delivered<T>>,
    /// Delivered often enough: to be stored as dead letters, then acknowledged.
    pub(super) dead: Vec<Delivered<T>>,
    /// There may be more to deliver now.
    pub(super) more: bool,
    /// A queue has as much in flight as it may.
    pub(super) capped: bool,
    /// It ended where the disk must be asked. If it brings nothing it is to be made again once that was done.
    pub(super) away: bool,
    /// What retention deleted before the group was done with it.
    pub(super) skipped: Vec<Skip>,
}

/// Messages of a queue that the group will never be done with: retention has deleted them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Skip {
    pub(super) queue: u32,
    /// Where the group stood, and where the queue starts now.
    pub(super) offsets: Range<u64>,
    /// How many of them it was not done with.
    pub(super) messages: u64,
}

/// One poll under way.
pub(super) struct Pop<'a, T> {
    pub(super) now: Millis,
    pub(super) wish: &'a Wish,
    rules: &'a Rules<'a>,
    stamp: u64,
    budget: usize,
    pub(super) popped: Popped<T>,
}

impl<'a, T> Pop<'a, T> {
    pub(super) fn new(now: Millis, wish: &'a Wish, rules: &'a Rules<'a>, stamp: u64) -> Self {
        let popped = Popped {
            deliveries: Vec::new(),
            dead: Vec::new(),
            more: false,
            capped: false,
            away: false,
            skipped: Vec::new(),
        };
        Self { now, wish, rules, stamp, budget: SCAN_BUDGET / wish.effort, popped }
    }

    pub(super) fn is_full(&self) -> bool {
        self.popped.deliveries.len() >= self.wish.max
    }

    fn room(&self) -> usize {
        self.wish.max - self.popped.deliveries.len()
    }

    /// How long a delivery of this poll stays away.
    pub(super) fn away(&self) -> (Millis, Option<Renewal>) {
        match &self.wish.away {
            Away::For(time) => (self.now + (*time).max(1), None),
            Away::While(client) => {
                let until = self.now + RENEWAL_LIMIT;
                (self.now + RENEWAL_STEP, Some(Renewal { client: client.clone(), until }))
            }
        }
    }

    /// The queue starts at `start` now: what lies before it is nobody's any more.
    pub(super) fn align(&mut self, id: u32, queue: &mut Queue, held: &mut HashMap<u64, Held>, start: u64) {
        let from = queue.progress();
        let Aligned { messages, polls } = queue.align(start);
        polls.into_iter().for_each(|poll| let_go(held, poll));
        if messages > 0 {
            self.popped.skipped.push(Skip { queue: id, offsets: from..start, messages });
        }
    }

    /// Whether it took nothing, and must ask the disk before it can.
    pub(super) fn is_away_with_nothing(&self) -> bool {
        self.popped.away && self.popped.deliveries.is_empty() && self.popped.dead.is_empty()
    }

    /// Looks at what would come next, so that the source hears at once of all that the disk must be asked for: a batch may
    /// be of many queues.
    pub(super) fn survey<'q, S: Source<Item = T>>(
        &self,
        queues: impl Iterator<Item = (u32, &'q Queue)>,
        source: &mut S,
    ) {
        let mut room = self.wish.max;
        for (id, queue) in queues.filter(|(_, queue)| queue.len() < self.rules.max_in_flight) {
            let left = source.bounds(id).end.saturating_sub(queue.cursor());
            if left > 0 {
                // Nothing is taken: the source remembers what it needs.
                let _seen = source.look(id, queue.cursor(), room);
                room = room.saturating_sub(usize::try_from(left).unwrap_or(usize::MAX));
            }
            if room == 0 {
                return;
            }
        }
    }

    /// Delivers again what falls due in this queue.
    pub(super) fn due<S: Source<Item = T>>(
        &mut self,
        id: u32,
        queue: &mut Queue,
        held: &mut HashMap<u64, Held>,
        source: &mut S,
    ) {
        while !self.is_full() && self.budget > 0 {
            let Some((_, first)) = queue.first_due().filter(|(at, _)| *at <= self.now) else { return };
            let room = if self.wish.one_of_a_lane { 1 } else { self.room() };
            for offset in queue.run(first, self.now, room) {
                self.budget = self.budget.saturating_sub(1);
                if !self.deliver_again(id, offset, queue, held, source) {
                    break;
                }
            }
            if self.popped.away {
                return;
            }
        }
        // Full or out of budget: what is due now waits for the next poll.
        self.popped.more |= queue.first_due().is_some_and(|(at, _)| at <= self.now);
    }

    /// True: what follows in its lane may be delivered too.
    fn deliver_again<S: Source<Item = T>>(
        &mut self,
        id: u32,
        offset: u64,
        queue: &mut Queue,
        held: &mut HashMap<u64, Held>,
        source: &mut S,
    ) -> bool {
        let now = self.now;
        let flight = queue.flight(offset).expect("what is due is in flight");
        let renewed = flight
            .renewal
            .as_ref()
            .filter(|renewal| now < renewal.until && (self.rules.online)(&renewal.client));
        if let Some(renewal) = renewed {
            let visible_at = (now + RENEWAL_STEP).min(renewal.until);
            queue.update(offset, |flight| flight.visible_at = visible_at);
            return false;
        }
        let seen = match source.look(id, offset, 1) {
            Look::Seen(mut seen) => seen.pop(),
            Look::Away => {
                self.popped.away = true;
                return false;
            }
            Look::Gone { start } => {
                self.align(id, queue, held, start);
                return false;
            }
            Look::Failed => {
                queue.update(offset, |flight| flight.visible_at = now + GIVEN_BACK_AFTER);
                return false;
            }
        };
        let Some(seen) = seen.filter(|seen| seen.offset == offset && seen.takes) else {
            // Damaged and found so by recovery, or the subscription has changed: RocketMQ skips both.
            if let Some(flight) = queue.remove(offset) {
                let_go(held, flight.poll);
            }
            return true;
        };
        let is_dead = flight.attempt >= self.rules.max_attempts && !flight.suspended;
        let (visible_at, renewal) = if is_dead { (now + BURIAL_HOLD, None) } else { self.away() };
        let old_poll = flight.poll;
        let poll = if is_dead { 0 } else { self.poll() };
        let stamp = self.stamp;
        queue.update(offset, |flight| {
            let repeats = is_dead || (flight.suspended && flight.attempt > 0);
            if !repeats {
                flight.attempt += 1;
            }
            *flight = Flight {
                attempt: flight.attempt,
                lane: flight.lane,
                stamp,
                change: 0,
                visible_at,
                poll,
                renewal,
                suspended: false,
            };
        });
        let_go(held, old_poll);
        let flight = queue.flight(offset).expect("it is in flight");
        let delivered = Delivered { handle: handle_of(id, offset, flight), item: seen.item };
        if is_dead {
            self.popped.dead.push(delivered);
        } else {
            self.popped.deliveries.push(delivered);
        }
        !is_dead
    }

    /// Delivers what is new in this queue.
    pub(super) fn fresh<S: Source<Item = T>>(
        &mut self,
        id: u32,
        queue: &mut Queue,
        held: &mut HashMap<u64, Held>,
        source: &mut S,
    ) {
        while !self.is_full() {
            if queue.len() >= self.rules.max_in_flight {
                self.popped.capped = true;
                return;
            }
            if self.budget == 0 {
                self.popped.more = true;
                return;
            }
            let sifts = self.wish.sifts || self.rules.ordered;
            let wanted = if sifts { self.room().max(SCAN_CHUNK) } else { self.room() };
            let max = wanted.min(self.budget).min(self.rules.max_in_flight - queue.len());
            let seen = match source.look(id, queue.cursor(), max) {
                Look::Seen(seen) if !seen.is_empty() => seen,
                Look::Seen(_) | Look::Failed => return,
                Look::Away => {
                    self.popped.away = true;
                    return;
                }
                Look::Gone { start } => {
                    self.align(id, queue, held, start);
                    continue;
                }
            };
            for seen in seen {
                if self.is_full() {
                    return;
                }
                self.budget = self.budget.saturating_sub(1);
                if queue.advance_over(seen.offset) && seen.takes {
                    self.deliver_first(id, queue, seen);
                }
            }
        }
    }

    fn deliver_first(&mut self, id: u32, queue: &mut Queue, seen: Seen<T>) {
        let Seen { offset, takes: _, lane, item } = seen;
        // Of no poll: also what this one took blocks its lane.
        let stamp = if self.wish.one_of_a_lane { u64::MAX } else { self.stamp };
        if queue.lane_is_blocked(lane, stamp) {
            // Due at once, but for what lies before it.
            queue.insert(offset, Flight { lane, ..Flight::default() });
            return;
        }
        let (visible_at, renewal) = self.away();
        let flight = Flight {
            attempt: 1,
            stamp: self.stamp,
            visible_at,
            lane,
            poll: self.poll(),
            renewal,
            ..Flight::default()
        };
        let handle = handle_of(id, offset, &flight);
        queue.insert(offset, flight);
        self.popped.deliveries.push(Delivered { handle, item });
    }

    fn poll(&self) -> u64 {
        if self.rules.ordered { self.wish.poll } else { 0 }
    }
}
