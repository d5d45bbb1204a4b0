//! A primary's book of its followers: what is confirmed, who belongs to the in-sync set.

use std::collections::BTreeMap;
use std::time::Duration;

use store::LogOffset;

use crate::planted::{Bug, is_planted};
use crate::{Has, InSync, MemberId, Mode, Now, Ordinal, Settings, StoreId};

/// Why sends are refused. All may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another is, or nobody yet.
    #[error("this member is not the primary of its broker group")]
    NotPrimary,
    /// Too few could acknowledge.
    #[error("{have} of the {want} members that a message must be on are in sync and connected")]
    TooFew {
        /// So many.
        have: usize,
        /// So many are wanted (`minInSync`).
        want: usize,
    },
    /// Another is about to be primary.
    #[error("this member hands over to another")]
    HandingOver,
}

/// How a follower stands, as its primary sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Who it is.
    pub member: MemberId,
    /// How much it has.
    pub has: Has,
    /// Whether it is connected.
    pub connected: bool,
    /// Whether it is in the recorded set.
    pub in_sync: bool,
    /// So much of the log it lacks.
    pub lag_bytes: u64,
    /// It had all that there was so long ago.
    pub lag: Duration,
}

/// A follower, as its primary knows it in this reign.
#[derive(Clone, Copy, Debug)]
struct Follower {
    store: StoreId,
    has: Has,
    connected: bool,
    /// When it last acknowledged anything.
    heard_at: Now,
    /// When it last had all that there was at that time.
    level_at: Now,
    /// It is level again once it has this, which was all at that time.
    mark: (Now, LogOffset),
    /// It was level since it connected.
    was_level: bool,
    /// It is about to be in the set: it is waited for.
    joining: bool,
    /// It is about to stop.
    leaving: bool,
}

/// The book.
#[derive(Clone, Debug)]
pub(crate) struct Reign {
    began: Now,
    me: MemberId,
    own: Has,
    followers: BTreeMap<Ordinal, Follower>,
    /// As the Lease has it.
    recorded: InSync,
    /// What was asked for and may be recorded by now, or yet.
    asked: Vec<InSync>,
    /// Never goes back.
    confirmed: Has,
}

impl Reign {
    /// `confirmed`: what was known to be when it began.
    pub(crate) fn new(me: MemberId, began: Now, recorded: InSync, own: Has, confirmed: LogOffset) -> Self {
        Self {
            began,
            me,
            own,
            followers: BTreeMap::new(),
            recorded,
            asked: Vec::new(),
            // Whoever joins has to have what the reign began with, whatever came to be confirmed since.
            confirmed: Has { end: confirmed, state: u64::from(!is_planted(Bug::BeginsWithoutState)) },
        }
    }

    pub(crate) fn recorded(&self) -> &InSync {
        &self.recorded
    }

    /// The Lease has this set, at a version that no earlier wish can change any more.
    pub(crate) fn record(&mut self, set: InSync) {
        self.recorded = set;
        self.asked.clear();
        for (ordinal, follower) in &mut self.followers {
            if self.recorded.holds(MemberId { ordinal: *ordinal, store: follower.store }) {
                follower.joining = false;
            }
        }
    }

    /// This set is asked for: it may be recorded from now on.
    pub(crate) fn ask(&mut self, set: InSync) {
        if !self.asked.contains(&set) {
            self.asked.push(set);
        }
    }

    pub(crate) fn own(&mut self, has: Has) {
        self.own = Has { end: self.own.end.max(has.end), state: self.own.state.max(has.state) };
    }

    pub(crate) fn connected(&mut self, now: Now, member: MemberId, has: Has) {
        let before = self.followers.get(&member.ordinal).filter(|before| before.store == member.store);
        let follower = Follower {
            store: member.store,
            has,
            connected: true,
            heard_at: now,
            // Who comes and goes does not count as level for that.
            level_at: before.map_or(now, |before| before.level_at),
            mark: (now, self.own.end),
            was_level: false,
            joining: before.is_some_and(|before| before.joining),
            leaving: false,
        };
        self.followers.insert(member.ordinal, follower);
    }

    pub(crate) fn has(&mut self, now: Now, ordinal: Ordinal, has: Has) {
        let end = self.own.end;
        let Some(follower) = self.followers.get_mut(&ordinal) else { return };
        follower.has = Has { end: follower.has.end.max(has.end), state: follower.has.state.max(has.state) };
        follower.heard_at = now;
        if follower.has.end >= follower.mark.1 {
            follower.level_at = follower.mark.0;
            follower.was_level = true;
            follower.mark = (now, end);
        }
    }

    /// It is to be out of the set before it goes, so that nobody waits for it.
    pub(crate) fn leaves(&mut self, ordinal: Ordinal) {
        if let Some(follower) = self.followers.get_mut(&ordinal) {
            follower.leaving = true;
        }
    }

    pub(crate) fn disconnected(&mut self, ordinal: Ordinal) {
        if let Some(follower) = self.followers.get_mut(&ordinal)
            && follower.connected
        {
            follower.connected = false;
            // No swap that asked for it is under way: nobody can have recorded it.
            if is_planted(Bug::LeaverNotWaitedFor) {
                self.recorded = self.recorded.clone().without(ordinal);
            }
            follower.joining &= self.asked.iter().any(|set| set.ordinals().any(|in_set| in_set == ordinal));
        }
    }

    /// What those have for whom an acknowledgement waits besides this member. A member of a set whose place has another
    /// store by now has nothing.
    fn waited_for(&self) -> impl Iterator<Item = Has> + '_ {
        let asked = if is_planted(Bug::AskedNotWaitedFor) { &[][..] } else { &self.asked };
        let sets = std::iter::once(&self.recorded).chain(asked);
        let in_sets = sets.flat_map(|set| set.ordinals().map(move |ordinal| (set, ordinal)));
        let others = in_sets.filter(|(_, ordinal)| *ordinal != self.me.ordinal).map(|(set, ordinal)| {
            let there = self.followers.get(&ordinal);
            let same = there.filter(|follower| set.holds(MemberId { ordinal, store: follower.store }));
            same.map_or(Has::default(), |follower| follower.has)
        });
        let joining = self
            .followers
            .values()
            .filter(|follower| follower.joining && !is_planted(Bug::AskedNotWaitedFor));
        others.chain(joining.map(|follower| follower.has))
    }

    /// Everything below is on all members that it must be on.
    pub(crate) fn confirm(&mut self, settings: &Settings) -> Has {
        let least = match settings.mode {
            Mode::Async => self.own,
            Mode::Sync if is_planted(Bug::AckBeforeAll) => self.own,
            Mode::Sync if is_planted(Bug::AckByMost) && self.waited_for().next().is_some() => {
                let most = self.waited_for().max_by_key(|has| has.end).unwrap_or_default();
                self.own.least(most)
            }
            Mode::Sync if is_planted(Bug::StateNotConfirmed) => {
                Has { state: self.own.state, ..self.waited_for().fold(self.own, Has::least) }
            }
            Mode::Sync => self.waited_for().fold(self.own, Has::least),
        };
        self.confirmed.end = self.confirmed.end.max(least.end);
        self.confirmed.state = self.confirmed.state.max(least.state);
        self.confirmed
    }

    /// Everything that this member has is.
    pub(crate) fn is_confirmed(&mut self, settings: &Settings) -> bool {
        self.confirm(settings).end >= self.own.end
    }

    /// Members of the set that could acknowledge now, this one included.
    fn live(&self) -> usize {
        self.count(|follower| follower.connected)
    }

    /// This member, and as many of the set as are like that.
    fn count(&self, is_like_that: impl Fn(&Follower) -> bool) -> usize {
        let counts = |ordinal: &Ordinal| {
            self.followers.get(ordinal).is_some_and(|follower| {
                is_like_that(follower)
                    && self.recorded.holds(MemberId { ordinal: *ordinal, store: follower.store })
            })
        };
        1 + self.recorded.ordinals().filter(|ordinal| *ordinal != self.me.ordinal).filter(counts).count()
    }

    /// At first the others are on their way here.
    fn is_settling(&self, now: Now, settings: &Settings) -> bool {
        now.since(self.began) < settings.max_absence && self.recorded.len() >= settings.min_in_sync
    }

    pub(crate) fn may_send(&self, now: Now, settings: &Settings) -> Result<(), Refusal> {
        let (have, want) = (self.live(), settings.min_in_sync);
        if have >= want || self.is_settling(now, settings) || is_planted(Bug::LeastIgnored) {
            Ok(())
        } else {
            Err(Refusal::TooFew { have, want })
        }
    }

    /// Whether enough were heard of lately to acknowledge what comes. They say something four times in a retry period, so this is known
    /// long before a silent connection counts as gone.
    pub(crate) fn is_heard(&self, now: Now, settings: &Settings) -> bool {
        let lately =
            |follower: &Follower| follower.connected && now.since(follower.heard_at) <= settings.retry / 2;
        self.count(lately) >= settings.min_in_sync || self.is_settling(now, settings)
    }

    /// The set as it should be now: those who are level join, those who are away or behind for too long leave. Whoever
    /// is about to join is waited for from now on.
    pub(crate) fn wish(&mut self, now: Now, settings: &Settings) -> InSync {
        let mut set = self.recorded.clone().without(self.me.ordinal).with(self.me);
        let enough = self.live() >= settings.min_in_sync;
        for ordinal in self.recorded.ordinals().filter(|ordinal| *ordinal != self.me.ordinal) {
            let gone = match self.followers.get(&ordinal) {
                None => now.since(self.began) > settings.max_absence,
                Some(follower) => {
                    let member = MemberId { ordinal, store: follower.store };
                    let silent = now.since(follower.heard_at) > settings.max_absence;
                    let away = !follower.connected && silent;
                    let behind = now.since(follower.level_at) > settings.max_lag;
                    away || behind || follower.leaving || !self.recorded.holds(member)
                }
            };
            // Below the least there are no acknowledgements anyway, and whoever stays in the set may be elected. One that is
            // cut off from too many takes nobody out: they are to go on without it.
            let able = set.len() > settings.min_in_sync && enough;
            let may_shrink = able || is_planted(Bug::ShrinkBelowLeast);
            if gone && may_shrink && !is_planted(Bug::SetNotShrunk) {
                set = set.without(ordinal);
            }
        }
        let confirmed = self.confirmed;
        for (&ordinal, follower) in &mut self.followers {
            let member = MemberId { ordinal, store: follower.store };
            if set.holds(member) {
                // A place without a store was this one all along.
                set = set.with(member);
                continue;
            }
            let level = follower.has.end >= confirmed.end && follower.has.state >= confirmed.state;
            let level = level || is_planted(Bug::JoinBeforeLevel);
            let level = level || is_planted(Bug::LevelWithoutState) && follower.has.end >= confirmed.end;
            let close = now.since(follower.level_at) <= (settings.max_lag / 2).min(settings.retry * 2);
            let able = follower.connected && follower.was_level && close && !follower.leaving;
            // Waited for before it is level: while messages come in without a pause it would never have all of them.
            follower.joining = able && (level || !is_planted(Bug::JoinerNotHeldFor));
            if able && (level || settings.mode == Mode::Async) {
                set = set.with(member);
            }
        }
        set
    }

    /// A member of the set that has everything.
    pub(crate) fn is_level(&self, ordinal: Ordinal) -> bool {
        self.is_connected_in_set(ordinal)
            && self.followers.get(&ordinal).is_some_and(|follower| follower.has == self.own)
    }

    /// A member of the set that follows now.
    pub(crate) fn is_connected_in_set(&self, ordinal: Ordinal) -> bool {
        self.followers.get(&ordinal).is_some_and(|follower| {
            follower.connected && self.recorded.holds(MemberId { ordinal, store: follower.store })
        })
    }

    /// Connected members of the set that stay; the last has most.
    pub(crate) fn heirs(&self) -> impl Iterator<Item = Ordinal> + use<> {
        let able = |(ordinal, follower): &(&Ordinal, &Follower)| {
            self.is_connected_in_set(**ordinal) && !follower.leaving
        };
        let able = self.followers.iter().filter(able);
        let mut able: Vec<_> =
            able.map(|(&ordinal, follower)| (follower.has.end, std::cmp::Reverse(ordinal))).collect();
        able.sort_unstable();
        able.into_iter().map(|(_, std::cmp::Reverse(ordinal))| ordinal)
    }

    /// How each follower stands.
    pub(crate) fn followers(&self, now: Now) -> impl Iterator<Item = Standing> + '_ {
        self.followers.iter().map(move |(&ordinal, follower)| {
            let member = MemberId { ordinal, store: follower.store };
            let bytes = self.own.end.0.saturating_sub(follower.has.end.0);
            Standing {
                member,
                has: follower.has,
                connected: follower.connected,
                in_sync: self.recorded.holds(member),
                lag_bytes: bytes,
                lag: if bytes == 0 { Duration::ZERO } else { now.since(follower.level_at) },
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: MemberId = MemberId { ordinal: Ordinal(0), store: StoreId(10) };
    const OTHER: MemberId = MemberId { ordinal: Ordinal(1), store: StoreId(11) };

    fn at(ms: u64) -> Now {
        Now(Duration::from_millis(ms))
    }

    fn has(end: u64, state: u64) -> Has {
        Has { end: LogOffset(end), state }
    }

    #[test]
    fn a_follower_that_is_always_a_little_behind_joins() {
        let settings = Settings::default();
        let mut reign = Reign::new(ME, at(0), InSync::only(ME), has(100, 1), LogOffset(100));
        reign.connected(at(0), OTHER, has(100, 0));
        for step in 1..20 {
            // Each acknowledgement comes when the next records are there already.
            reign.own(has(100 + 10 * step, 1));
            reign.has(at(10 * step), OTHER.ordinal, has(100 + 10 * (step - 1), 1));
            reign.confirm(&settings);
            if reign.wish(at(10 * step), &settings).holds(OTHER) {
                return;
            }
        }
        panic!("it is never level");
    }

    #[test]
    fn a_follower_is_behind_since_it_last_had_everything() {
        let mut reign = Reign::new(ME, at(0), InSync::only(ME), has(100, 1), LogOffset(100));
        reign.connected(at(0), OTHER, has(100, 0));
        reign.has(at(10), OTHER.ordinal, has(100, 1));
        let lag = |reign: &Reign, now| {
            reign.followers(at(now)).map(|follower| (follower.lag_bytes, follower.lag)).collect::<Vec<_>>()
        };
        assert_eq!(lag(&reign, 500), [(0, Duration::ZERO)], "whatever the time, it has everything");
        // It says so from time to time.
        reign.has(at(590), OTHER.ordinal, has(100, 1));
        reign.own(has(130, 1));
        reign.has(at(600), OTHER.ordinal, has(110, 1));
        assert_eq!(lag(&reign, 700), [(20, Duration::from_millis(110))]);
    }

    #[test]
    fn who_says_goodbye_leaves_the_set_at_once_and_does_not_join_again_before_it_came_back() {
        let settings = Settings { members: 3, min_in_sync: 2, ..Settings::default() };
        let third = MemberId { ordinal: Ordinal(2), store: StoreId(12) };
        let all = InSync::only(ME).with(OTHER).with(third);
        let mut reign = Reign::new(ME, at(0), all.clone(), has(100, 1), LogOffset(100));
        reign.connected(at(0), OTHER, has(100, 1));
        reign.connected(at(0), third, has(100, 1));
        reign.leaves(third.ordinal);
        let rest = InSync::only(ME).with(OTHER);
        assert_eq!(reign.wish(at(1), &settings), rest);
        assert_eq!(reign.heirs().collect::<Vec<_>>(), [OTHER.ordinal]);
        reign.record(rest.clone());
        reign.has(at(2), third.ordinal, has(100, 1));
        assert_eq!(reign.wish(at(2), &settings), rest);
        reign.leaves(OTHER.ordinal);
        assert_eq!(reign.wish(at(3), &settings), rest, "below the least nobody is let go");
        reign.connected(at(4), third, has(100, 1));
        reign.has(at(5), third.ordinal, has(100, 1));
        assert_eq!(reign.wish(at(5), &settings), all);
        reign.record(all);
        assert_eq!(reign.wish(at(6), &settings), InSync::only(ME).with(third), "one for the other");
    }

    #[test]
    fn who_was_silent_before_its_connection_counted_as_gone_leaves_at_once() {
        let settings = Settings { members: 3, min_in_sync: 2, ..Settings::default() };
        let third = MemberId { ordinal: Ordinal(2), store: StoreId(12) };
        let all = InSync::only(ME).with(OTHER).with(third);
        let mut reign = Reign::new(ME, at(0), all.clone(), has(100, 1), LogOffset(100));
        for member in [OTHER, third] {
            reign.connected(at(0), member, has(100, 1));
        }
        reign.has(at(2100), OTHER.ordinal, has(100, 1));
        assert_eq!(reign.wish(at(2100), &settings), all, "it is connected, as far as anybody knows");
        reign.disconnected(third.ordinal);
        assert_eq!(reign.wish(at(2100), &settings), InSync::only(ME).with(OTHER));
        // A process that fell just now may come again.
        reign.record(all.clone());
        reign.connected(at(2200), third, has(100, 1));
        reign.disconnected(third.ordinal);
        assert_eq!(reign.wish(at(2300), &settings), all);
    }

    #[test]
    fn who_is_cut_off_from_too_many_takes_nobody_out_of_the_set() {
        let settings = Settings { members: 3, min_in_sync: 2, ..Settings::default() };
        let third = MemberId { ordinal: Ordinal(2), store: StoreId(12) };
        let all = InSync::only(ME).with(OTHER).with(third);
        let mut reign = Reign::new(ME, at(0), all.clone(), has(100, 1), LogOffset(100));
        reign.connected(at(0), OTHER, has(100, 1));
        assert_eq!(reign.wish(at(5000), &settings), InSync::only(ME).with(OTHER), "one never came");
        reign.disconnected(OTHER.ordinal);
        assert_eq!(reign.wish(at(60_000), &settings), all);
    }

    #[test]
    fn nobody_joins_without_the_state_with_which_the_reign_began() {
        let settings = Settings::default();
        let mut reign = Reign::new(ME, at(0), InSync::only(ME), has(100, 1), LogOffset(100));
        reign.connected(at(0), OTHER, has(100, 0));
        reign.has(at(10), OTHER.ordinal, has(100, 0));
        assert!(!reign.wish(at(20), &settings).holds(OTHER));
        reign.has(at(30), OTHER.ordinal, has(100, 1));
        assert!(reign.wish(at(40), &settings).holds(OTHER));
    }
}
