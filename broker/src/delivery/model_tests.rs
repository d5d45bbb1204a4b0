//! Random polls, acknowledgements, refusals, waits, crashes: what [`Consumption`] does, against a model that is too
//! simple to be wrong. And the rules of dead letters, renewal and giving back, one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proptest::prelude::*;

use super::consumption::{Consumption, GIVEN_BACK_AFTER, Invalid, RESTORED_FOR, Standing, Strictness};
use super::handle::Handle;
use super::kept;
use super::pop::{
    Away, BURIAL_HOLD, Delivered, Look, Popped, RENEWAL_LIMIT, RENEWAL_STEP, Rules, Seen, Skip, Source, Wish,
};
use super::queue::Millis;

const QUEUES: u32 = 2;

/// A log in memory: for each queue the lanes of its messages.
#[derive(Clone, Debug, Default)]
struct Log {
    lanes: Vec<Vec<u64>>,
    starts: Vec<u64>,
    /// Of a log on a disk: what was fetched since the last look, and what the looks so far need.
    shelf: Option<BTreeSet<(u32, u64)>>,
    needs: Vec<(u32, u64)>,
}

impl Log {
    fn new(queues: u32) -> Self {
        let (lanes, starts) = (vec![Vec::new(); queues as usize], vec![0; queues as usize]);
        Self { lanes, starts, shelf: None, needs: Vec::new() }
    }

    fn fetch(&mut self) {
        assert!(!self.needs.is_empty(), "a poll that is away needs something");
        let shelf = self.shelf.as_mut().unwrap();
        shelf.clear();
        shelf.extend(self.needs.drain(..).flat_map(|(queue, from)| [(queue, from), (queue, from + 1)]));
    }

    fn bounds_of(&self, queue: u32) -> Range<u64> {
        self.starts[queue as usize]..self.lanes[queue as usize].len() as u64
    }
}

impl Source for Log {
    type Item = ();

    fn bounds(&mut self, queue: u32) -> Range<u64> {
        self.bounds_of(queue)
    }

    fn look(&mut self, queue: u32, from: u64, max: usize) -> Look<()> {
        let Range { start, end } = self.bounds_of(queue);
        if from < start {
            return Look::Gone { start };
        }
        let mut offsets = from..end;
        if let Some(shelf) = self.shelf.as_ref().filter(|_| !offsets.is_empty()) {
            let fetched =
                offsets.clone().take_while(|offset| shelf.contains(&(queue, *offset))).count() as u64;
            if fetched == 0 {
                self.needs.push((queue, from));
                return Look::Away;
            }
            offsets.end = from + fetched;
        }
        let lanes = &self.lanes[queue as usize];
        let see = |offset: u64| Seen { offset, takes: true, lane: lanes[offset as usize], item: () };
        Look::Seen(offsets.take(max).map(see).collect())
    }
}

fn online(_: &str) -> bool {
    true
}

fn offline(_: &str) -> bool {
    false
}

fn rules(ordered: bool) -> Rules<'static> {
    Rules {
        ordered,
        max_attempts: u32::MAX,
        max_in_flight: 1000,
        queues: QUEUES,
        by_priority: false,
        online: &online,
    }
}

fn wish(max: usize, away: Millis) -> Wish {
    Wish { max, away: Away::For(away), poll: 0, one_of_a_lane: false, sifts: false, effort: 1 }
}

#[derive(Clone, Debug)]
enum Step {
    Append {
        queue: u32,
        lane: u64,
    },
    Pop {
        max: usize,
        away: Millis,
    },
    /// Of all handles ever seen, old ones too.
    Ack {
        nth: usize,
    },
    Change {
        nth: usize,
        away: Millis,
    },
    GiveBack {
        nth: usize,
    },
    Wait {
        time: Millis,
    },
    Persist,
    /// Everything since the last `Persist` is forgotten.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..QUEUES, 0..3_u64).prop_map(|(queue, lane)| Step::Append { queue, lane }),
        4 => (1..5_usize, 1..100_i64).prop_map(|(max, away)| Step::Pop { max, away }),
        4 => any::<usize>().prop_map(|nth| Step::Ack { nth }),
        2 => (any::<usize>(), 0..100_i64).prop_map(|(nth, away)| Step::Change { nth, away }),
        1 => any::<usize>().prop_map(|nth| Step::GiveBack { nth }),
        3 => (0..80_i64).prop_map(|time| Step::Wait { time }),
        1 => Just(Step::Persist),
        1 => Just(Step::Crash),
    ]
}

/// What is known of a message.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    attempt: u32,
    visible_at: Millis,
    acked: bool,
}

/// What clients have seen.
#[derive(Clone, Debug, Default)]
struct Model {
    messages: BTreeMap<(u32, u64), Known>,
}

struct World {
    ordered: bool,
    now: Millis,
    log: Log,
    state: Consumption,
    model: Model,
    handles: Vec<Handle>,
    kept: (Vec<(u32, Vec<u8>)>, Model),
}

impl World {
    fn new(ordered: bool) -> Self {
        let now = 1_000_000;
        Self {
            ordered,
            now,
            log: Log::new(QUEUES),
            state: Consumption::new(now),
            model: Model::default(),
            handles: Vec::new(),
            kept: (Vec::new(), Model::default()),
        }
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Append { queue, lane } => self.log.lanes[queue as usize].push(lane),
            Step::Pop { max, away } => {
                self.pop(max, away);
            }
            Step::Ack { nth } => {
                if let Some(handle) = self.handle(nth) {
                    self.ack(&handle);
                }
            }
            Step::Change { nth, away } => {
                let Some(handle) = self.handle(nth) else { return };
                let changed = self.state.change(self.now, &handle, away, false, Strictness::Latest, &online);
                if let Ok(changed) = changed {
                    let visible_at = self.now + away;
                    let known = self.known(&handle);
                    assert!(!known.acked, "what is acknowledged does not come back");
                    known.visible_at = visible_at;
                    known.attempt = handle.attempt;
                    self.handles.push(changed);
                }
            }
            Step::GiveBack { nth } => {
                let Some(handle) = self.handle(nth) else { return };
                self.state.give_back(self.now, &handle);
                // Whether it counted depends on the handle; visible it is no later than this.
                let at = self.now + GIVEN_BACK_AFTER;
                let known = self.known(&handle);
                known.visible_at = known.visible_at.min(at);
            }
            Step::Wait { time } => self.now += time,
            Step::Persist => {
                let rows = self.state.queues().map(|(id, queue)| (id, kept::encode(queue))).collect();
                self.kept = (rows, self.model.clone());
            }
            Step::Crash => self.crash(),
        }
    }

    fn handle(&self, nth: usize) -> Option<Handle> {
        (!self.handles.is_empty()).then(|| self.handles[nth % self.handles.len()])
    }

    fn known(&mut self, handle: &Handle) -> &mut Known {
        self.model.messages.entry((handle.queue, handle.offset)).or_default()
    }

    fn pop(&mut self, max: usize, away: Millis) -> usize {
        let popped =
            pop_patiently(&mut self.state, self.now, &wish(max, away), &rules(self.ordered), &mut self.log);
        let Popped { deliveries, dead, more: _, capped, away: _, skipped } = popped;
        assert!(deliveries.len() <= max && dead.is_empty() && !capped && skipped.is_empty());
        let mut batch: Vec<(u32, u64)> = Vec::new();
        for Delivered { handle, item: () } in &deliveries {
            let (at, now) = ((handle.queue, handle.offset), self.now);
            if self.ordered {
                self.check_order(handle, &batch);
            }
            let known = self.known(handle);
            assert!(!known.acked, "{at:?} was acknowledged");
            assert!(known.visible_at <= now, "{at:?} is invisible until {}, it is {now}", known.visible_at);
            assert_eq!(handle.attempt, known.attempt + 1, "{at:?}");
            *known = Known { attempt: handle.attempt, visible_at: now + away, acked: false };
            assert!(!batch.contains(&at), "{at:?} twice in a batch");
            batch.push(at);
            self.handles.push(*handle);
        }
        deliveries.len()
    }

    /// Everything before it in its lane is done, or comes before it in the same batch.
    fn check_order(&self, handle: &Handle, batch: &[(u32, u64)]) {
        let lanes = &self.log.lanes[handle.queue as usize];
        let lane = lanes[handle.offset as usize];
        for before in (0..handle.offset).filter(|offset| lanes[*offset as usize] == lane) {
            let at = (handle.queue, before);
            let acked = self.model.messages.get(&at).is_some_and(|known| known.acked);
            assert!(acked || batch.contains(&at), "{at:?} was overtaken by offset {}", handle.offset);
        }
    }

    fn ack(&mut self, handle: &Handle) {
        match self.state.ack(self.now, handle, Strictness::Latest, &online) {
            Ok(Standing::Finished) => {
                assert!(self.known(handle).acked, "{handle:?} was not acknowledged before")
            }
            Ok(Standing::Live | Standing::Forgotten) => self.known(handle).acked = true,
            Err(Invalid::Expired | Invalid::Superseded | Invalid::Unknown) => {}
        }
    }

    fn crash(&mut self) {
        self.now += 1;
        let (rows, model) = self.kept.clone();
        self.model = model;
        self.state = Consumption::new(self.now);
        for (id, row) in rows {
            let bounds = self.log.bounds_of(id);
            self.state.restore(self.now, id, kept::decode(&row, &bounds, self.ordered).unwrap());
        }
        // As the first use of a handle does.
        for id in 0..QUEUES {
            self.state.ensure(id, &self.log.bounds_of(id), self.ordered);
        }
    }

    /// Time passes and a client acknowledges all that it gets: then everything was acknowledged.
    fn drain(mut self) {
        for _ in 0..10_000 {
            self.now += 1_000_000;
            let first_new = self.handles.len();
            if self.pop(4, 1000) == 0 {
                let all = self.log.lanes.iter().enumerate();
                for (queue, offset) in
                    all.flat_map(|(queue, lanes)| (0..lanes.len()).map(move |o| (queue, o)))
                {
                    let known = self.model.messages.get(&(queue as u32, offset as u64));
                    assert!(known.is_some_and(|known| known.acked), "queue {queue} offset {offset} is lost");
                }
                return;
            }
            for handle in self.handles.split_off(first_new) {
                self.ack(&handle);
            }
        }
        panic!("it does not come to an end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_is_lost_nothing_comes_early_and_attempts_only_grow(
        steps in proptest::collection::vec(step(), 0..120),
        ordered: bool,
        on_disk: bool,
    ) {
        let mut world = World::new(ordered);
        world.log.shelf = on_disk.then(BTreeSet::new);
        for step in steps {
            world.act(step);
        }
        world.drain();
    }
}

fn one_message() -> Log {
    let mut log = Log::new(QUEUES);
    log.lanes[0].push(0);
    log
}

/// As a poll does: where it must ask the disk before it can take anything, it asks and begins anew.
fn pop_patiently(
    state: &mut Consumption,
    now: Millis,
    wish: &Wish,
    rules: &Rules<'_>,
    log: &mut Log,
) -> Popped<()> {
    if let Some(shelf) = &mut log.shelf {
        shelf.clear();
    }
    loop {
        let popped = state.pop(now, wish, rules, log);
        if !(popped.away && popped.deliveries.is_empty()) {
            return popped;
        }
        log.fetch();
    }
}

fn pop(state: &mut Consumption, now: Millis, wish: &Wish, rules: &Rules<'_>, log: &mut Log) -> Vec<Handle> {
    state.pop(now, wish, rules, log).deliveries.into_iter().map(|delivered| delivered.handle).collect()
}

#[test]
fn a_message_is_a_dead_letter_after_its_last_attempt_and_tried_again_until_it_is_buried() {
    let (mut log, mut state) = (one_message(), Consumption::new(0));
    let rules = Rules { max_attempts: 2, ..rules(false) };
    assert_eq!(pop(&mut state, 0, &wish(1, 10), &rules, &mut log)[0].attempt, 1);
    assert_eq!(pop(&mut state, 10, &wish(1, 10), &rules, &mut log)[0].attempt, 2);
    for now in [20, 20 + BURIAL_HOLD] {
        let popped = state.pop(now, &wish(1, 10), &rules, &mut log);
        assert!(popped.deliveries.is_empty());
        assert_eq!(popped.dead.len(), 1, "{now}");
        assert!(
            state.pop(now + 1, &wish(1, 10), &rules, &mut log).dead.is_empty(),
            "its burial is under way"
        );
    }
    state.finish(0, 0);
    assert!(state.pop(1_000_000, &wish(1, 10), &rules, &mut log).dead.is_empty());
}

#[test]
fn a_suspended_delivery_repeats_its_attempt() {
    let (mut log, mut state) = (one_message(), Consumption::new(0));
    let first = pop(&mut state, 0, &wish(1, 100), &rules(false), &mut log)[0];
    state.change(1, &first, 0, true, Strictness::Latest, &online).unwrap();
    let second = pop(&mut state, 2, &wish(1, 100), &rules(false), &mut log)[0];
    assert_eq!(second.attempt, 1);
    state.change(3, &second, 0, false, Strictness::Latest, &online).unwrap();
    assert_eq!(pop(&mut state, 4, &wish(1, 100), &rules(false), &mut log)[0].attempt, 2);
}

#[test]
fn a_client_keeps_its_messages_by_being_online_and_no_longer_than_three_hours() {
    let (mut log, mut state) = (one_message(), Consumption::new(0));
    let keep = Wish { away: Away::While("c".into()), ..wish(1, 0) };
    let handle = pop(&mut state, 0, &keep, &rules(false), &mut log)[0];
    for now in (0..RENEWAL_LIMIT).step_by(RENEWAL_STEP as usize / 2) {
        assert!(pop(&mut state, now, &wish(1, 10), &rules(false), &mut log).is_empty(), "{now}");
        assert_eq!(state.standing(now, &handle, Strictness::Latest, &online), Ok(Standing::Live));
    }
    assert_eq!(pop(&mut state, RENEWAL_LIMIT, &wish(1, 10), &rules(false), &mut log)[0].attempt, 2);
}

#[test]
fn what_a_client_kept_is_delivered_soon_after_it_is_gone() {
    let (mut log, mut state) = (one_message(), Consumption::new(0));
    let keep = Wish { away: Away::While("c".into()), ..wish(1, 0) };
    pop(&mut state, 0, &keep, &rules(false), &mut log);
    assert!(!state.client_gone(5, "other"));
    assert!(state.client_gone(5, "c"));
    let soon = 5 + GIVEN_BACK_AFTER;
    assert_eq!(state.next_due(QUEUES), Some(soon));
    assert!(pop(&mut state, soon - 1, &wish(1, 10), &rules(false), &mut log).is_empty());
    assert_eq!(pop(&mut state, soon, &wish(1, 10), &rules(false), &mut log)[0].attempt, 2);
}

#[test]
fn what_a_client_kept_comes_again_when_its_acknowledgement_was_lost_with_the_broker() {
    for ordered in [false, true] {
        let (mut log, mut state) = (one_message(), Consumption::new(0));
        let keep = Wish { away: Away::While("c".into()), ..wish(1, 0) };
        let handle = pop(&mut state, 0, &keep, &rules(ordered), &mut log)[0];
        let kept = kept::encode(state.queue(0).unwrap());
        let mut again = Consumption::new(10);
        again.restore(10, 0, kept::decode(&kept, &log.bounds_of(0), ordered).unwrap());
        let soon = 10 + RESTORED_FOR;
        assert_eq!(again.standing(soon - 1, &handle, Strictness::Latest, &online), Ok(Standing::Live));
        assert!(pop(&mut again, soon - 1, &keep, &rules(ordered), &mut log).is_empty());
        assert_eq!(pop(&mut again, soon, &keep, &rules(ordered), &mut log)[0].attempt, 2, "it is online");
    }
}

#[test]
fn a_client_that_went_without_a_word_keeps_nothing_after_its_step() {
    let (mut log, mut state) = (one_message(), Consumption::new(0));
    let keep = Wish { away: Away::While("c".into()), ..wish(1, 0) };
    let handle = pop(&mut state, 0, &keep, &rules(false), &mut log)[0];
    assert_eq!(state.standing(RENEWAL_STEP, &handle, Strictness::Latest, &offline), Err(Invalid::Expired));
    let rules = Rules { online: &offline, ..rules(false) };
    assert_eq!(pop(&mut state, RENEWAL_STEP, &wish(1, 10), &rules, &mut log)[0].attempt, 2);
}

#[test]
fn the_cap_on_messages_in_flight_stops_new_ones_and_not_those_that_fall_due() {
    let mut log = Log::new(QUEUES);
    log.lanes[0] = vec![0; 10];
    let mut state = Consumption::new(0);
    let rules = Rules { max_in_flight: 3, ..rules(false) };
    let handles = pop(&mut state, 0, &wish(32, 10), &rules, &mut log);
    assert_eq!(handles.len(), 3);
    let full = state.pop(1, &wish(32, 10), &rules, &mut log);
    assert!(full.capped && full.deliveries.is_empty());
    let again = pop(&mut state, 10, &wish(32, 10), &rules, &mut log);
    assert_eq!(again.len(), 3);
    state.ack(11, &again[0], Strictness::Latest, &online).unwrap();
    assert_eq!(pop(&mut state, 11, &wish(32, 10), &rules, &mut log).len(), 1);
}

#[test]
fn what_retention_deleted_is_skipped_and_told() {
    let mut log = Log::new(QUEUES);
    log.lanes[0] = vec![0; 10];
    let mut state = Consumption::new(0);
    let first = pop(&mut state, 0, &wish(4, 10), &rules(false), &mut log);
    state.ack(1, &first[1], Strictness::Latest, &online).unwrap();
    log.starts[0] = 6;
    let popped = state.pop(10, &wish(32, 10), &rules(false), &mut log);
    let offsets: Vec<u64> = popped.deliveries.iter().map(|delivered| delivered.handle.offset).collect();
    assert_eq!(offsets, [6, 7, 8, 9]);
    assert_eq!(popped.skipped, [Skip { queue: 0, offsets: 0..6, messages: 5 }], "one of them was done");
    assert!(state.pop(20, &wish(32, 10), &rules(false), &mut log).skipped.is_empty(), "once");
}

#[test]
fn what_retention_deletes_between_two_looks_is_told_too() {
    /// Its bounds are older than what a look finds.
    struct Late(Log);
    impl Source for Late {
        type Item = ();
        fn bounds(&mut self, queue: u32) -> Range<u64> {
            0..self.0.bounds_of(queue).end
        }
        fn look(&mut self, queue: u32, from: u64, max: usize) -> Look<()> {
            self.0.look(queue, from, max)
        }
    }
    for ordered in [false, true] {
        let mut late = Late(Log::new(QUEUES));
        late.0.lanes[0] = vec![0; 10];
        let mut state = Consumption::new(0);
        assert_eq!(state.pop(0, &wish(3, 10), &rules(ordered), &mut late).deliveries.len(), 3);
        late.0.starts[0] = 6;
        let popped = state.pop(10, &wish(32, 10), &rules(ordered), &mut late);
        let offsets: Vec<u64> = popped.deliveries.iter().map(|delivered| delivered.handle.offset).collect();
        assert_eq!(offsets, [6, 7, 8, 9]);
        assert_eq!(popped.skipped, [Skip { queue: 0, offsets: 0..6, messages: 6 }]);
    }
}

#[test]
fn what_is_deleted_while_the_broker_is_down_is_told_by_the_next_poll() {
    let mut log = Log::new(QUEUES);
    log.lanes[0] = vec![0; 10];
    log.starts[0] = 6;
    let mut state = Consumption::new(0);
    state.restore(0, 0, super::queue::Queue::load(2, [(1, Default::default())], [], &(6..10), false));
    let popped = state.pop(0, &wish(32, 10), &rules(false), &mut log);
    assert_eq!(popped.deliveries.len(), 4);
    assert_eq!(popped.skipped, [Skip { queue: 0, offsets: 1..6, messages: 5 }]);
}

#[test]
fn a_poll_that_must_ask_the_disk_takes_nothing_and_a_queue_in_memory_is_not_preferred() {
    /// Queue 0 is on the disk, queue 1 in memory.
    struct Half(Log);
    impl Source for Half {
        type Item = ();
        fn bounds(&mut self, queue: u32) -> Range<u64> {
            self.0.bounds_of(queue)
        }
        fn look(&mut self, queue: u32, from: u64, max: usize) -> Look<()> {
            let shelf = self.0.shelf.take_if(|_| queue == 1);
            let look = self.0.look(queue, from, max);
            self.0.shelf = self.0.shelf.take().or(shelf);
            look
        }
    }
    let mut log = Log::new(QUEUES);
    log.lanes = vec![vec![0; 100], vec![0; 100]];
    log.shelf = Some(BTreeSet::new());
    let mut half = Half(log);
    let mut state = Consumption::new(0);
    let mut from = [0; 2];
    for _ in 0..20 {
        let popped = state.pop(0, &wish(2, 10), &rules(false), &mut half);
        if popped.away && popped.deliveries.is_empty() {
            assert!(
                state.queue(0).is_none_or(|queue| queue.cursor() == from[0] && queue.len() as u64 == from[0])
            );
            half.0.fetch();
        }
        popped.deliveries.iter().for_each(|delivered| from[delivered.handle.queue as usize] += 1);
    }
    assert!(from[0] >= 10 && from[1] >= 10, "{from:?}");
}

#[test]
fn a_lenient_client_may_use_an_older_handle_of_the_same_delivery() {
    let (mut log, mut state) = (one_message(), Consumption::new(0));
    let old = pop(&mut state, 0, &wish(1, 100), &rules(false), &mut log)[0];
    state.change(1, &old, 100, false, Strictness::Latest, &online).unwrap();
    assert_eq!(state.standing(2, &old, Strictness::Latest, &online), Err(Invalid::Superseded));
    assert_eq!(state.standing(2, &old, Strictness::SameDelivery, &online), Ok(Standing::Live));
    pop(&mut state, 101, &wish(1, 100), &rules(false), &mut log);
    let after = state.standing(102, &old, Strictness::SameDelivery, &online);
    assert_eq!(after, Err(Invalid::Superseded), "another delivery");
}

#[test]
fn a_poll_ends_when_it_has_looked_at_enough() {
    /// Takes nothing.
    struct Picky(Log);
    impl Source for Picky {
        type Item = ();
        fn bounds(&mut self, queue: u32) -> Range<u64> {
            self.0.bounds_of(queue)
        }
        fn look(&mut self, queue: u32, from: u64, max: usize) -> Look<()> {
            let Look::Seen(seen) = self.0.look(queue, from, max) else { panic!("all is in memory") };
            Look::Seen(seen.into_iter().map(|seen| Seen { takes: false, ..seen }).collect())
        }
    }
    let mut log = Log::new(QUEUES);
    log.lanes[0] = vec![0; 100_000];
    let mut picky = Picky(log);
    let mut state = Consumption::new(0);
    let sift = Wish { sifts: true, ..wish(1, 10) };
    let mut polls = 0;
    while state.pop(0, &sift, &rules(false), &mut picky).more {
        polls += 1;
    }
    assert!(polls > 10, "others get their turn in between");
    assert_eq!(state.queue(0).unwrap().progress(), 100_000);
}

#[test]
fn attempt_ids_hold_only_what_is_still_in_flight() {
    let mut log = Log::new(QUEUES);
    log.lanes[0] = vec![1, 2, 3];
    let mut state = Consumption::new(0);
    let named = Wish { poll: 7, ..wish(32, 100) };
    let first = pop(&mut state, 0, &named, &rules(true), &mut log);
    assert_eq!(first.len(), 3);
    for handle in &first[..2] {
        state.ack(1, handle, Strictness::Latest, &online).unwrap();
    }
    let again = pop(&mut state, 2, &named, &rules(true), &mut log);
    assert_eq!(again.iter().map(|handle| (handle.offset, handle.attempt)).collect::<Vec<_>>(), [(2, 1)]);
    state.ack(3, &again[0], Strictness::Latest, &online).unwrap();
    assert!(pop(&mut state, 4, &named, &rules(true), &mut log).is_empty());
}

#[test]
fn a_client_that_cannot_keep_a_batch_in_order_gets_one_message_of_a_lane_at_a_time() {
    let mut log = Log::new(QUEUES);
    log.lanes[0] = vec![1, 1, 2, 1];
    let mut state = Consumption::new(0);
    let one = Wish { one_of_a_lane: true, ..wish(32, 100) };
    let mut offsets = |state: &mut Consumption, now| {
        let popped = pop(state, now, &one, &rules(true), &mut log);
        (popped.iter().map(|handle| handle.offset).collect::<Vec<_>>(), popped)
    };
    let (first, handles) = offsets(&mut state, 0);
    assert_eq!(first, [0, 2]);
    assert_eq!(offsets(&mut state, 1).0, [] as [u64; 0], "the lanes are away");
    state.ack(2, &handles[0], Strictness::Latest, &online).unwrap();
    assert_eq!(offsets(&mut state, 3).0, [1]);
    let mut again = offsets(&mut state, 200).0;
    again.sort_unstable();
    assert_eq!(again, [1, 2], "and still one of each");
}
