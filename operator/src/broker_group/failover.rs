//! Who may be primary when the present one is lost: whom the spec fences, and whether members settle it by themselves. Pure.
//!
//! The operator writes both into the Lease, where members read it and obey (`docs/decisions/0012-replication.md`).

use std::collections::BTreeSet;

use crds::Failovers;
use jiff::{SignedDuration, Timestamp};

use super::{observe::Observed, reign::Reign, requests::SWITCHOVER_TO, roll::Group};
use crate::{
    conditions::{Finding, Reason, Type},
    pods,
};

/// How long a failover counts.
const COUNTS_FOR: SignedDuration = SignedDuration::from_hours(1);
/// After too many of them each keeps the next waiting for so long: what falls again and again gets time to be looked at, and no fault leaves the
/// group without a primary until a person comes.
const RESTS_FOR: SignedDuration = SignedDuration::from_secs(30);
/// No more are remembered: as many as `failover.maxPerHour` may be.
const MOST: usize = 60;

/// What the spec says of failovers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whether members settle by themselves who is next.
    pub enabled: bool,
    /// How often within an hour without a rest in between.
    pub max_per_hour: usize,
}

/// Why members do not settle it by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The spec says so.
    Disabled,
    /// It happened too often. They do again from then on.
    Backoff(Timestamp),
}

/// The failovers of the last hour: those known before, and those that the Lease has counted since. It says how many and not
/// when, so these count as of now.
pub fn counted(before: Option<&Failovers>, reign: &Reign, now: Timestamp) -> Failovers {
    let known = before.map_or(reign.failovers, |before| before.counted);
    let new = usize::try_from(reign.failovers - known).unwrap_or_default().min(MOST);
    let now = now.round(jiff::Unit::Second).unwrap_or(now);
    let counts = |at: &&String| at.parse().is_ok_and(|at: Timestamp| now.duration_since(at) < COUNTS_FOR);
    let old = before.into_iter().flat_map(|before| before.recent.iter().filter(counts).cloned());
    let mut recent: Vec<String> = old.chain(std::iter::repeat_n(now.to_string(), new)).collect();
    recent.drain(..recent.len().saturating_sub(MOST));
    Failovers { counted: reign.failovers, recent }
}

/// Whether the next failover waits for a person, or for its time `now`.
pub fn held(limits: &Limits, failovers: &Failovers, now: Timestamp) -> Option<Held> {
    if !limits.enabled {
        return Some(Held::Disabled);
    }
    let last: Timestamp = failovers.recent.last()?.parse().ok()?;
    let until = last + RESTS_FOR;
    (failovers.recent.len() >= limits.max_per_hour && now < until).then_some(Held::Backoff(until))
}

/// Why nobody takes the place of a primary that is lost, where somebody wants it so: the reason, and what to do.
pub fn kept_back(
    fenced: &BTreeSet<i32>,
    observed: &Observed,
    held: Option<Held>,
) -> Option<(Reason, String)> {
    let reign = observed.reign.as_ref().filter(|reign| reign.epoch > 0)?;
    if observed.reigning().is_some_and(pods::is_ready) {
        return None;
    }
    let lost = reign.primary.filter(|_| reign.holder.is_some());
    let is_there = |ordinal: &i32| {
        observed
            .pods
            .iter()
            .any(|pod| pods::ordinal(pod) == Some(*ordinal) && pod.metadata.deletion_timestamp.is_none())
    };
    let next: BTreeSet<i32> = reign.in_sync.iter().copied().filter(|it| Some(*it) != lost).collect();
    let (barred, able): (BTreeSet<i32>, BTreeSet<i32>) =
        next.into_iter().filter(is_there).partition(|ordinal| fenced.contains(ordinal));
    let bring_back = lost.map_or_else(String::new, |lost| format!(", or bring broker {lost} back"));
    if let (Some(first), true) = (barred.first(), able.is_empty()) {
        let message = format!(
            "no primary serves: broker {first} has every acknowledged message and is fenced; take it out of spec.fencedMembers{bring_back}"
        );
        return Some((Reason::Fenced, message));
    }
    // Whoever may be next takes a Lease that was released.
    lost?;
    let (held, first) = (held?, able.first()?);
    let name = format!("name the next by the annotation {SWITCHOVER_TO}: \"{first}@<any id>\"{bring_back}");
    Some(match held {
        Held::Disabled => {
            let message = format!("no primary serves, and failover.enabled is false: {name}");
            (Reason::FailoverDisabled, message)
        }
        Held::Backoff(until) => (
            Reason::FailoverBackoff,
            format!(
                "no primary serves, and after too many failovers within an hour the next is elected from {until} on: {name}"
            ),
        ),
    })
}

/// Stalled, where nobody takes the place of the primary, or would if it were lost now.
pub fn stalled(limits: &Limits, kept_back: Option<(Reason, String)>, held: Option<Held>) -> Option<Finding> {
    if let Some((reason, message)) = kept_back {
        return Some(Finding::yes(Type::Stalled, reason, message));
    }
    let Some(Held::Backoff(until)) = held else { return None };
    let message = format!(
        "{} failovers within an hour, which is failover.maxPerHour: should the primary be lost, nobody takes its place before {until}; see the Events and logs of the brokers for why they fall, or raise failover.maxPerHour",
        limits.max_per_hour
    );
    Some(Finding::yes(Type::Stalled, Reason::FailoverBackoff, message))
}

/// What matters for the preferred primary's turn.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// For so many seconds the group has served, with every broker in sync.
    pub settled: i64,
    /// The failovers of the last hour.
    pub failovers: usize,
    /// The primary that a person asked for last.
    pub asked: Option<i32>,
}

/// Whether it is time for the primary that the spec prefers. After failovers it waits longer, so that one that fails again and
/// again does not drag the group along; and a person's choice stays until that one is lost.
pub fn is_its_turn(group: &Group<'_>, preferred: i32, turn: Turn) -> bool {
    let Group { members, reign, manner, fenced, .. } = *group;
    let wait = manner.stable_seconds.saturating_mul(1 << turn.failovers.min(10));
    let is_well = members.iter().all(|member| {
        let pod = member.pod.as_ref();
        reign.in_sync.contains(&member.ordinal)
            && pod.is_some_and(|pod| pod.is_ready && !pod.is_stopping && pod.seconds >= wait)
    });
    let primary = members.iter().find(|member| member.pod.as_ref().is_some_and(|pod| pod.reigns));
    let is_fit = members.iter().any(|member| {
        member.ordinal == preferred && member.pod.as_ref().is_some_and(|pod| !pod.reigns && !pod.is_leaving)
    });
    is_well
        && is_fit
        && turn.settled >= wait
        && !fenced.contains(&preferred)
        && primary.is_some_and(|primary| turn.asked != Some(primary.ordinal))
        && reign.wished.is_none_or(|wished| wished == preferred)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker_group::roll::{Member, MemberPod},
        pods::manner::Manner,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number is a time")
    }

    fn reign(failovers: i64) -> Reign {
        Reign { epoch: 4, primary: Some(0), in_sync: [0, 1, 2].into(), failovers, ..Reign::default() }
    }

    #[test]
    fn failovers_count_for_an_hour_and_keep_the_next_waiting_when_they_are_too_many() {
        let limits = Limits { enabled: true, max_per_hour: 2 };
        let first = counted(None, &reign(7), at(0));
        assert_eq!(
            first,
            Failovers { counted: 7, recent: Vec::new() },
            "what was before is not of this hour"
        );
        let one = counted(Some(&first), &reign(8), at(100));
        assert_eq!((one.recent.len(), held(&limits, &one, at(100))), (1, None));
        assert_eq!(counted(Some(&one), &reign(8), at(200)), one, "it is counted once");
        let three = counted(Some(&one), &reign(10), at(300));
        assert_eq!(three.recent.len(), 3);
        assert_eq!(held(&limits, &three, at(300)), Some(Held::Backoff(at(330))));
        assert_eq!(held(&limits, &three, at(329)), Some(Held::Backoff(at(330))));
        assert_eq!(held(&limits, &three, at(330)), None, "it had its rest");
        let later = counted(Some(&three), &reign(11), at(3890));
        assert_eq!(held(&limits, &later, at(3890)), Some(Held::Backoff(at(3920))));
        let alone = counted(Some(&three), &reign(11), at(3900));
        assert_eq!(
            (alone.recent.len(), held(&limits, &alone, at(3900))),
            (1, None),
            "the others are an hour ago"
        );
        let anew = counted(Some(&three), &reign(0), at(400));
        assert_eq!((anew.counted, anew.recent.len()), (0, 3), "the Lease was made again");
        assert_eq!(held(&Limits { enabled: false, ..limits }, &first, at(400)), Some(Held::Disabled));
        assert_eq!(counted(Some(&first), &reign(10_000), at(100)).recent.len(), MOST);
    }

    /// Three brokers, of which 2 is preferred and 0 reigns.
    fn turn(change: impl FnOnce(&mut [MemberPod; 3], &mut Reign, &mut Turn, &mut BTreeSet<i32>)) -> bool {
        let pod = MemberPod { is_ready: true, seconds: 15, is_new: true, ..MemberPod::default() };
        let mut pods = [MemberPod { reigns: true, ..pod.clone() }, pod.clone(), pod];
        let (mut reign, mut fenced) = (reign(0), BTreeSet::new());
        let mut turn = Turn { settled: 15, failovers: 0, asked: None };
        change(&mut pods, &mut reign, &mut turn, &mut fenced);
        let members = (0..).zip(pods).map(|(ordinal, pod)| Member { ordinal, pod: Some(pod) });
        let members: Vec<Member> = members.collect();
        let manner = Manner { stable_seconds: 15, ..Manner::default() };
        let group = Group {
            members: &members,
            reign: &reign,
            is_ephemeral: false,
            template_is_seen: true,
            manner: &manner,
            fenced: &fenced,
        };
        is_its_turn(&group, 2, turn)
    }

    #[test]
    fn the_preferred_primary_has_its_turn_when_all_is_well_for_a_while() {
        assert!(turn(|_, _, _, _| {}));
        assert!(!turn(|_, _, turn, _| turn.settled = 14), "it served for too short");
        assert!(!turn(|pods, _, _, _| pods[1].seconds = 14));
        assert!(!turn(|pods, _, _, _| pods[1].is_ready = false));
        assert!(!turn(|pods, _, _, _| pods[1].is_stopping = true));
        assert!(!turn(|_, reign, _, _| reign.in_sync = [0, 2].into()));
        assert!(!turn(|pods, _, _, _| pods[0].reigns = false), "nobody hands over");
        assert!(!turn(|pods, _, _, _| pods[2].is_leaving = true), "its node is cordoned");
        assert!(!turn(|_, _, _, fenced| *fenced = [2].into()));
        assert!(turn(|_, _, _, fenced| *fenced = [1].into()));
    }

    #[test]
    fn the_preferred_primary_does_not_take_what_a_person_gave_to_another() {
        assert!(!turn(|_, _, turn, _| turn.asked = Some(0)));
        assert!(turn(|_, _, turn, _| turn.asked = Some(1)), "which is primary no more");
        assert!(!turn(|_, reign, _, _| reign.wished = Some(1)), "which is to be primary");
        assert!(turn(|_, reign, _, _| reign.wished = Some(2)), "it is on the way");
    }

    #[test]
    fn a_preferred_primary_that_falls_again_and_again_waits_longer_each_time() {
        let after = |failovers, seconds: i64| {
            turn(|pods, _, turn, _| {
                (turn.failovers, turn.settled) = (failovers, seconds);
                pods.iter_mut().for_each(|pod| pod.seconds = seconds);
            })
        };
        assert!(!after(3, 119));
        assert!(after(3, 120));
    }
}
