//! One group on one topic: which messages a poll gets, what acknowledgements do. Pure: time, the log and
//! who is online come in as parameters.
//!
//! Promises, kept by the property test in `model_tests.rs`:
//! - a message is delivered again only when its invisible time is over, or it was given back;
//! - the attempt of a message never goes back, and grows by one with each delivery (unless suspended);
//! - nothing is lost: what is below the cursor is done, or it is in flight and falls due;
//! - in an ordered group nothing is delivered while an earlier message of its lane is away.

use std::collections::HashMap;
use std::ops::Range;

use super::handle::Handle;
use super::pop::{Delivered, Look, Pop, Popped, Rules, Source, Wish};
use super::queue::{Flight, Millis, Queue};

/// How soon a delivery is visible again whose client is gone or never got it.
pub(super) const GIVEN_BACK_AFTER: Millis = 1000;

/// How long what a client kept by being online stays away in the next life of the queue: its acknowledgement may have come and
/// been lost with the former life, and then nobody is left who would give it back.
pub(super) const RESTORED_FOR: Millis = 30_000;

/// Why a handle is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// It never belonged to a delivery that this broker knows of.
    Unknown,
    /// Its invisible time is over.
    Expired,
    /// There is a newer handle.
    Superseded,
}

/// What is expected of a handle of a delivery whose handle was exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// Only the latest counts.
    Latest,
    /// Each handle of the delivery counts, for clients that keep the first.
    SameDelivery,
}

/// What a valid handle points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// In flight under this handle.
    Live,
    /// Of the time before a crash, and not delivered again since.
    Forgotten,
    /// Acknowledged already.
    Finished,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// How many of `at` are still held.
    live: usize,
    at: Vec<(u32, u64)>,
}

/// The state of one group on one topic.
#[derive(Clone, Debug)]
pub(super) struct Consumption {
    queues: HashMap<u32, Queue>,
    /// Which poll (attempt id) holds what, of ordered groups.
    held: HashMap<u64, Held>,
    first_stamp: u64,
    next_stamp: u64,
    /// The queue at which the next poll begins.
    turn: u32,
}

impl Consumption {
    /// A group that has consumed nothing; `now` seeds the stamps of this life.
    pub(super) fn new(now: Millis) -> Self {
        let first_stamp = u64::try_from(now).unwrap_or(0) << 16;
        Self { queues: HashMap::new(), held: HashMap::new(), first_stamp, next_stamp: first_stamp, turn: 0 }
    }

    /// Adds a queue as it was kept, before the first poll.
    pub(super) fn restore(&mut self, now: Millis, id: u32, mut queue: Queue) {
        let is_renewed = |flight: &Flight| flight.renewal.is_some();
        let renewed: Vec<u64> =
            queue.flights().filter(|(_, flight)| is_renewed(flight)).map(|(offset, _)| offset).collect();
        for offset in renewed {
            queue.update(offset, |flight| {
                let soon = now + RESTORED_FOR;
                flight.visible_at = flight.visible_at.min(soon);
                if let Some(renewal) = &mut flight.renewal {
                    renewal.until = renewal.until.min(soon);
                }
            });
        }
        for (offset, flight) in queue.flights() {
            // A clock that was set back must not make stamps of this life look old.
            self.first_stamp = self.first_stamp.max(flight.stamp + 1);
            if flight.poll != 0 {
                let held = self.held.entry(flight.poll).or_default();
                held.live += 1;
                held.at.push((id, offset));
            }
        }
        self.next_stamp = self.first_stamp;
        self.queues.insert(id, queue);
    }

    /// The state of a queue, if the group ever looked at it.
    pub(super) fn queue(&self, id: u32) -> Option<&Queue> {
        self.queues.get(&id)
    }

    /// The queues that changed since the last call.
    pub(super) fn take_touched(&mut self) -> impl Iterator<Item = (u32, &Queue)> {
        self.queues.iter_mut().filter_map(|(id, queue)| queue.take_touched().then_some((*id, &*queue)))
    }

    /// The queues that changed since they were last noted.
    pub(super) fn take_unnoted(&mut self) -> impl Iterator<Item = (u32, &Queue)> {
        self.queues.iter_mut().filter_map(|(id, queue)| queue.take_unnoted().then_some((*id, &*queue)))
    }

    /// The queues that changed since they were last taken to be written.
    pub(super) fn touched(&self) -> impl Iterator<Item = (u32, &Queue)> {
        self.queues().filter(|(_, queue)| queue.is_touched())
    }

    /// What was taken could not be written.
    pub(super) fn touch(&mut self) {
        self.queues.values_mut().for_each(Queue::touch);
    }

    /// Every queue that the group ever looked at.
    pub(super) fn queues(&self) -> impl Iterator<Item = (u32, &Queue)> {
        self.queues.iter().map(|(id, queue)| (*id, queue))
    }

    /// When the first delivery of the first `queues` queues falls due.
    pub(super) fn next_due(&self, queues: u32) -> Option<Millis> {
        let queues = self.queues.iter().filter(|(id, _)| **id < queues);
        queues.filter_map(|(_, queue)| queue.first_due().map(|(at, _)| at)).min()
    }

    /// Makes sure that there is a state of this queue: handles from before a crash may name a queue of which
    /// nothing was kept.
    pub(super) fn ensure(&mut self, id: u32, bounds: &Range<u64>, ordered: bool) {
        entry(&mut self.queues, id, bounds, ordered);
    }

    /// Takes messages for a poll: first what falls due again, then what is new.
    pub(super) fn pop<S: Source>(
        &mut self,
        now: Millis,
        wish: &Wish,
        rules: &Rules<'_>,
        source: &mut S,
    ) -> Popped<S::Item> {
        let mut pop = Pop::new(now, wish, rules, self.next_stamp);
        if rules.ordered && wish.poll != 0 && self.replay(&mut pop, source) {
            return pop.popped;
        }
        self.next_stamp += 1;
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        let ids = (0..rules.queues).map(|n| match rules.by_priority {
            true => rules.queues - 1 - n,
            false => turn.wrapping_add(n) % rules.queues.max(1),
        });
        for id in ids.clone() {
            let bounds = source.bounds(id);
            let queue = entry(&mut self.queues, id, &bounds, rules.ordered);
            pop.align(id, queue, &mut self.held, bounds.start);
            queue.set_ordered(rules.ordered);
            pop.due(id, queue, &mut self.held, source);
            if pop.popped.away {
                break;
            }
        }
        for id in ids.clone() {
            // At the disk it ends, so that no queue in memory is always preferred.
            if pop.is_full() || pop.popped.away {
                break;
            }
            let queue = self.queues.get_mut(&id).expect("every queue was looked at");
            pop.fresh(id, queue, &mut self.held, source);
        }
        if pop.is_away_with_nothing() {
            // The next poll begins at the same queue.
            self.turn = self.turn.wrapping_sub(1);
            pop.survey(ids.filter_map(|id| Some((id, self.queues.get(&id)?))), source);
            return pop.popped;
        }
        if rules.ordered && wish.poll != 0 {
            let at: Vec<_> = pop
                .popped
                .deliveries
                .iter()
                .map(|delivered| (delivered.handle.queue, delivered.handle.offset))
                .collect();
            if !at.is_empty() {
                self.held.insert(wish.poll, Held { live: at.len(), at });
            }
        }
        pop.popped.more |= pop.is_full() || pop.popped.away;
        pop.popped
    }

    /// Gives a poll with a known attempt id what it holds once more: the response was lost. False: it holds nothing.
    fn replay<S: Source>(&mut self, pop: &mut Pop<'_, S::Item>, source: &mut S) -> bool {
        let Some(held) = self.held.get(&pop.wish.poll) else { return false };
        let (visible_at, renewal) = pop.away();
        for (id, offset) in held.at.clone() {
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            let is_held = |flight: &Flight| {
                flight.poll == pop.wish.poll && flight.attempt > 0 && flight.visible_at > pop.now
            };
            if !queue.flight(offset).is_some_and(is_held) {
                continue;
            }
            let seen = match source.look(id, offset, 1) {
                Look::Seen(mut seen) => seen.pop(),
                Look::Away => {
                    // What comes before it goes now; all of a lane that follows is away until its time is over.
                    pop.popped.away = true;
                    break;
                }
                Look::Gone { .. } | Look::Failed => None,
            };
            let Some(seen) = seen.filter(|seen| seen.offset == offset) else { continue };
            queue.update(offset, |flight| {
                flight.visible_at = visible_at;
                flight.renewal = renewal.clone();
            });
            let flight = queue.flight(offset).expect("it was there just now");
            let handle = handle_of(id, offset, flight);
            pop.popped.deliveries.push(Delivered { handle, item: seen.item });
        }
        !pop.popped.deliveries.is_empty() || pop.popped.away
    }

    /// What the handle points at, if it may still be used.
    pub(super) fn standing(
        &self,
        now: Millis,
        handle: &Handle,
        strictness: Strictness,
        online: &dyn Fn(&str) -> bool,
    ) -> Result<Standing, Invalid> {
        let unexpired = |standing| if now < handle.expires { Ok(standing) } else { Err(Invalid::Expired) };
        let is_of_former_life = handle.stamp < self.first_stamp;
        let Some(queue) = self.queues.get(&handle.queue) else { return Err(Invalid::Unknown) };
        match queue.flight(handle.offset) {
            Some(flight) if flight.attempt > 0 && flight.stamp == handle.stamp => {
                // A newer change than the one kept was made just before a crash.
                let is_latest =
                    flight.change == handle.change || (is_of_former_life && flight.change < handle.change);
                if strictness == Strictness::Latest && !is_latest {
                    return Err(Invalid::Superseded);
                }
                let is_renewed = flight
                    .renewal
                    .as_ref()
                    .is_some_and(|renewal| now < renewal.until && online(&renewal.client));
                if now < flight.visible_at || is_renewed { Ok(Standing::Live) } else { Err(Invalid::Expired) }
            }
            // The delivery under this handle was not kept before the crash, an earlier one was.
            Some(flight)
                if is_of_former_life
                    && flight.stamp < self.first_stamp
                    && handle.attempt > flight.attempt =>
            {
                unexpired(Standing::Forgotten)
            }
            Some(_) => Err(Invalid::Superseded),
            None if handle.offset < queue.cursor() || queue.is_ahead(handle.offset) => {
                if strictness == Strictness::Latest
                    && handle.change == 0
                    && queue.was_changed(handle.offset, handle.stamp)
                {
                    return Err(Invalid::Superseded);
                }
                unexpired(Standing::Finished)
            }
            None if is_of_former_life && queue.existed_at_load(handle.offset) => {
                unexpired(Standing::Forgotten)
            }
            None => Err(Invalid::Unknown),
        }
    }

    /// The message was consumed. Acknowledging again is no mistake.
    pub(super) fn ack(
        &mut self,
        now: Millis,
        handle: &Handle,
        strictness: Strictness,
        online: &dyn Fn(&str) -> bool,
    ) -> Result<Standing, Invalid> {
        let standing = self.standing(now, handle, strictness, online)?;
        if standing != Standing::Finished {
            self.finish(handle.queue, handle.offset);
        }
        Ok(standing)
    }

    /// The message is done, whoever holds it.
    pub(super) fn finish(&mut self, id: u32, offset: u64) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        match queue.acknowledge(offset) {
            Some(flight) => let_go(&mut self.held, flight.poll),
            None if offset >= queue.cursor() => queue.done_ahead(offset),
            None => {}
        }
    }

    /// The message stays away for `away` from now on; 0: it may be delivered at once. Answers the new handle.
    pub(super) fn change(
        &mut self,
        now: Millis,
        handle: &Handle,
        away: Millis,
        suspend: bool,
        strictness: Strictness,
        online: &dyn Fn(&str) -> bool,
    ) -> Result<Handle, Invalid> {
        let standing = self.standing(now, handle, strictness, online)?;
        let queue = self.queues.get_mut(&handle.queue).expect("a handle with a standing has a queue");
        let visible_at = now + away;
        match standing {
            Standing::Finished => return Err(Invalid::Unknown),
            Standing::Live => {}
            // Its lane is not known here: in an ordered group it is delivered anew, in order.
            Standing::Forgotten if queue.is_ordered() => return Err(Invalid::Unknown),
            Standing::Forgotten => {
                let flight = Flight {
                    attempt: handle.attempt,
                    stamp: handle.stamp,
                    change: handle.change,
                    ..Flight::default()
                };
                if handle.offset < queue.cursor() {
                    queue.insert(handle.offset, flight);
                } else {
                    queue.insert_ahead(handle.offset, flight);
                }
            }
        }
        queue.update(handle.offset, |flight| {
            flight.visible_at = visible_at;
            flight.change = flight.change.saturating_add(1);
            flight.renewal = None;
            flight.suspended |= suspend;
        });
        let flight = queue.flight(handle.offset).expect("it is in flight");
        let (changed, poll) = (handle_of(handle.queue, handle.offset, flight), flight.poll);
        if poll != 0 {
            // Given back by its holder: a poll with the same attempt id is a new one for it.
            queue.update(handle.offset, |flight| flight.poll = 0);
            let_go(&mut self.held, poll);
        }
        Ok(changed)
    }

    /// The latest handle of a delivery.
    pub(super) fn current_handle(&self, id: u32, offset: u64) -> Option<Handle> {
        let flight = self.queues.get(&id)?.flight(offset)?;
        (flight.attempt > 0).then(|| handle_of(id, offset, flight))
    }

    /// The delivery did not reach its client: it is visible again soon.
    pub(super) fn give_back(&mut self, now: Millis, handle: &Handle) {
        let Some(queue) = self.queues.get_mut(&handle.queue) else { return };
        let is_same = |flight: &Flight| flight.stamp == handle.stamp && flight.change == handle.change;
        if queue.flight(handle.offset).is_some_and(is_same) {
            queue.update(handle.offset, |flight| {
                flight.visible_at = flight.visible_at.min(now + GIVEN_BACK_AFTER);
                flight.renewal = None;
            });
        }
    }

    /// The client is gone: what it kept by being online is visible again soon. True: there was something.
    pub(super) fn client_gone(&mut self, now: Millis, client: &str) -> bool {
        let mut found = false;
        for queue in self.queues.values_mut() {
            let of_client =
                |flight: &Flight| flight.renewal.as_ref().is_some_and(|renewal| *renewal.client == *client);
            let offsets: Vec<u64> =
                queue.flights().filter(|(_, flight)| of_client(flight)).map(|(offset, _)| offset).collect();
            for offset in offsets {
                found = true;
                queue.update(offset, |flight| {
                    flight.visible_at = flight.visible_at.min(now + GIVEN_BACK_AFTER);
                    flight.renewal = None;
                });
            }
        }
        found
    }

    /// The group goes on at `offset`; what it holds of the queue is forgotten.
    pub(super) fn reset(&mut self, id: u32, offset: u64, ordered: bool) {
        let queue = entry(&mut self.queues, id, &(offset..offset), ordered);
        let polls: Vec<u64> = queue.flights().map(|(_, flight)| flight.poll).collect();
        queue.reset(offset);
        for poll in polls {
            let_go(&mut self.held, poll);
        }
    }
}

/// The state of a queue; a group that never saw it begins at its first message.
fn entry<'a>(
    queues: &'a mut HashMap<u32, Queue>,
    id: u32,
    bounds: &Range<u64>,
    ordered: bool,
) -> &'a mut Queue {
    queues.entry(id).or_insert_with(|| Queue::load(bounds.start, [], [], bounds, ordered))
}

pub(super) fn handle_of(queue: u32, offset: u64, flight: &Flight) -> Handle {
    let Flight { attempt, stamp, change, visible_at, lane: _, poll: _, renewal, suspended: _ } = flight;
    let expires = renewal.as_ref().map_or(*visible_at, |renewal| renewal.until);
    Handle { queue, offset, attempt: *attempt, stamp: *stamp, change: *change, expires }
}

pub(super) fn let_go(held: &mut HashMap<u64, Held>, poll: u64) {
    if poll == 0 {
        return;
    }
    if let Some(holder) = held.get_mut(&poll) {
        holder.live = holder.live.saturating_sub(1);
        if holder.live == 0 {
            held.remove(&poll);
        }
    }
}
