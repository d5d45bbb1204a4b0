//! Which half messages wait for their end, and when their producers are asked. Pure: time and offsets are parameters.
//!
//! ```text
//!   begun ──► waiting ──► ending ──► finished         begun: on its way into the log
//!               ▲  │ due    │                         ending: its end is on its way into the log
//!               └──┘        └──► waiting again, if the log refuses
//! ```
//!
//! All is in the log as well: the half messages in one queue, the offsets of those that ended in another. [`Replay`] is where
//! to begin reading both after a restart: at the first half message that has not ended, and at where the ends were
//! when it was stored.

use std::collections::{BTreeMap, BTreeSet};

use access::TopicName;

/// Unix milliseconds.
pub(super) type Millis = i64;

/// A half message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Half {
    /// Where the message goes when its transaction commits.
    pub(super) topic: TopicName,
    /// When its producer is asked next.
    pub(super) due: Millis,
    /// How often a producer was asked.
    pub(super) checks: u32,
    /// The end of the queue of ends when it was stored, or before.
    ends_before: u64,
    ending: bool,
}

/// Where reading begins after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Replay {
    /// In the queue of half messages.
    pub(super) halves: u64,
    /// In the queue of ends.
    pub(super) ends: u64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Pending {
    halves: BTreeMap<u64, Half>,
    due: BTreeSet<(Millis, u64)>,
    /// Where the queues ended when those that are on their way into the log began.
    begun: BTreeMap<u64, Replay>,
    next_ticket: u64,
    /// Whose count of questions is not what was written down last.
    recounted: BTreeSet<u64>,
}

impl Pending {
    /// A half message sets out for the log, whose queues end here. The ticket is for [`Pending::arrived`] or
    /// [`Pending::lost`].
    pub(super) fn begin(&mut self, ends: Replay) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.begun.insert(ticket, ends);
        ticket
    }

    /// It lies in the log.
    pub(super) fn arrived(&mut self, ticket: u64, offset: u64, topic: TopicName, due: Millis) {
        let begun = self.begun.remove(&ticket).expect("a ticket is used once");
        self.insert(offset, topic, due, begun.ends);
    }

    /// It does not.
    pub(super) fn lost(&mut self, ticket: u64) {
        self.begun.remove(&ticket);
    }

    /// One that was there before the restart; `ends_before` as in the replay.
    pub(super) fn insert(&mut self, offset: u64, topic: TopicName, due: Millis, ends_before: u64) {
        self.due.insert((due, offset));
        self.halves.insert(offset, Half { topic, due, checks: 0, ends_before, ending: false });
    }

    /// How many wait or are on their way.
    pub(super) fn len(&self) -> usize {
        self.halves.len() + self.begun.len()
    }

    /// Begins to end a transaction: nobody else can meanwhile. `None`: it has ended, or is about to.
    pub(super) fn end(&mut self, offset: u64) -> Option<Half> {
        let half = self.halves.get_mut(&offset).filter(|half| !half.ending)?;
        half.ending = true;
        self.due.remove(&(half.due, offset));
        Some(half.clone())
    }

    /// Its end lies in the log.
    pub(super) fn finished(&mut self, offset: u64) {
        let half = self.halves.remove(&offset);
        if half.as_ref().is_some_and(|half| half.checks > 0) {
            self.recounted.insert(offset);
        }
        debug_assert!(half.is_some_and(|half| half.ending), "it was begun to be ended");
    }

    /// Its end could not be written: it waits on, and its producer is asked at `due`.
    pub(super) fn not_finished(&mut self, offset: u64, due: Millis) {
        if let Some(half) = self.halves.get_mut(&offset) {
            (half.ending, half.due) = (false, due);
            self.due.insert((due, offset));
        }
    }

    /// A producer was asked, or nobody is there to be: the next time is `due`.
    pub(super) fn asked(&mut self, offset: u64, counts: bool, due: Millis) {
        let Some(half) = self.halves.get_mut(&offset).filter(|half| !half.ending) else { return };
        self.due.remove(&(half.due, offset));
        half.due = due;
        half.checks += u32::from(counts);
        if counts {
            self.recounted.insert(offset);
        }
        self.due.insert((due, offset));
    }

    /// How often producers were asked before the restart. What is not there any more is to be struck out.
    pub(super) fn had_checks(&mut self, counted: impl IntoIterator<Item = (u64, u32)>) {
        for (offset, checks) in counted {
            match self.halves.get_mut(&offset) {
                Some(half) => half.checks = checks,
                None => {
                    self.recounted.insert(offset);
                }
            }
        }
    }

    /// The counts of questions to be written down: 0 where the half message waits no more.
    pub(super) fn take_checks(&mut self) -> Vec<(u64, u32)> {
        let recounted = std::mem::take(&mut self.recounted);
        let count = |offset| (offset, self.halves.get(&offset).map_or(0, |half| half.checks));
        recounted.into_iter().map(count).collect()
    }

    /// They could not be written.
    pub(super) fn not_kept(&mut self, checks: &[(u64, u32)]) {
        self.recounted.extend(checks.iter().map(|(offset, _)| offset));
    }

    /// At most `max` whose producers are to be asked now, the longest overdue first.
    pub(super) fn due(&self, now: Millis, max: usize) -> Vec<(u64, Half)> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now).take(max);
        due.map(|(_, offset)| (*offset, self.halves[offset].clone())).collect()
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Where reading begins after a restart, given where the queues end now.
    pub(super) fn replay(&self, ends: Replay) -> Replay {
        let waiting = self.halves.first_key_value();
        let waiting = waiting.map(|(offset, half)| Replay { halves: *offset, ends: half.ends_before });
        // Offsets of the two queues grow together, so the least of each belongs to the same half message or an older one.
        self.begun.values().copied().chain(waiting).fold(ends, |least, replay| Replay {
            halves: least.halves.min(replay.halves),
            ends: least.ends.min(replay.ends),
        })
    }

    /// How many wait, by the topic that they are for.
    pub(super) fn by_topic(&self) -> BTreeMap<&TopicName, u64> {
        let mut counts = BTreeMap::new();
        for half in self.halves.values() {
            *counts.entry(&half.topic).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn topic() -> TopicName {
        TopicName::parse("orders").unwrap()
    }

    #[test]
    fn a_transaction_ends_once() {
        let mut pending = Pending::default();
        pending.insert(5, topic(), 100, 0);
        assert!(pending.end(5).is_some());
        assert_eq!(pending.end(5), None, "somebody is at it");
        assert_eq!(pending.next_due(), None, "nobody is asked meanwhile");
        pending.not_finished(5, 200);
        assert_eq!(pending.next_due(), Some(200));
        assert!(pending.end(5).is_some());
        pending.finished(5);
        assert_eq!((pending.end(5), pending.len()), (None, 0));
    }

    #[test]
    fn checks_count_only_where_somebody_was_asked() {
        let mut pending = Pending::default();
        pending.insert(1, topic(), 100, 0);
        pending.insert(2, topic(), 50, 0);
        assert_eq!(pending.due(99, 9).len(), 1);
        let due: Vec<u64> = pending.due(100, 9).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(due, [2, 1]);
        pending.asked(2, true, 150);
        pending.asked(1, false, 160);
        let checks: Vec<_> =
            pending.due(200, 9).into_iter().map(|(offset, half)| (offset, half.checks)).collect();
        assert_eq!(checks, [(2, 1), (1, 0)]);
        assert_eq!(pending.due(200, 1).len(), 1);
    }

    #[test]
    fn counts_of_questions_are_written_once_and_struck_out_at_the_end() {
        let mut pending = Pending::default();
        pending.insert(1, topic(), 100, 0);
        pending.insert(2, topic(), 100, 0);
        pending.had_checks([(1, 3), (7, 2)]);
        assert_eq!(pending.take_checks(), [(7, 0)], "it ended after it was counted last");
        pending.asked(1, true, 200);
        pending.asked(2, false, 200);
        let kept = pending.take_checks();
        assert_eq!(kept, [(1, 4)]);
        assert!(pending.take_checks().is_empty());
        pending.not_kept(&kept);
        assert!(pending.end(1).is_some() && pending.end(2).is_some());
        pending.finished(1);
        pending.finished(2);
        assert_eq!(pending.take_checks(), [(1, 0)], "nobody was asked about the other");
    }

    /// What happens to a broker with transactions.
    #[derive(Clone, Debug)]
    enum Step {
        Begin,
        Arrive(usize),
        Lose(usize),
        End(usize),
        Finish(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Begin),
            3 => any::<usize>().prop_map(Step::Arrive),
            1 => any::<usize>().prop_map(Step::Lose),
            2 => any::<usize>().prop_map(Step::End),
            2 => any::<usize>().prop_map(Step::Finish),
        ]
    }

    proptest! {
        /// Reading from the replay on finds every half message that has not ended, and the end of each that has.
        #[test]
        fn the_replay_finds_what_waits_and_no_more(steps in prop::collection::vec(step(), 0..60)) {
            let mut pending = Pending::default();
            let (mut halves, mut ends) = (Vec::<bool>::new(), Vec::<u64>::new());
            let (mut begun, mut ending) = (Vec::new(), Vec::new());
            let place = |list: &Vec<u64>, n: usize| (!list.is_empty()).then(|| n % list.len());
            for step in steps {
                let now = Replay { halves: halves.len() as u64, ends: ends.len() as u64 };
                match step {
                    Step::Begin => begun.push(pending.begin(now)),
                    Step::Arrive(n) => if let Some(at) = place(&begun, n) {
                        halves.push(true);
                        pending.arrived(begun.remove(at), halves.len() as u64 - 1, topic(), 0);
                    },
                    Step::Lose(n) => if let Some(at) = place(&begun, n) {
                        pending.lost(begun.remove(at));
                    },
                    Step::End(n) if !halves.is_empty() => {
                        let offset = (n % halves.len()) as u64;
                        let may = halves[offset as usize] && !ending.contains(&offset);
                        prop_assert_eq!(pending.end(offset).is_some(), may);
                        if may {
                            ending.push(offset);
                        }
                    }
                    Step::End(_) => {}
                    Step::Finish(n) => if let Some(at) = place(&ending, n) {
                        let offset = ending.remove(at);
                        ends.push(offset);
                        halves[offset as usize] = false;
                        pending.finished(offset);
                    },
                }
                let replay = pending.replay(Replay { halves: halves.len() as u64, ends: ends.len() as u64 });
                let ended: BTreeSet<u64> = ends[replay.ends as usize..].iter().copied().collect();
                let found: Vec<u64> = (replay.halves..halves.len() as u64).filter(|half| !ended.contains(half)).collect();
                let waiting: Vec<u64> = (0..halves.len() as u64).filter(|half| halves[*half as usize]).collect();
                prop_assert_eq!(found, waiting);
            }
        }
    }
}
