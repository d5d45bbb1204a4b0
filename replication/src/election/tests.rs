//! One rule at a time; the simulation tries them together.

use std::time::Duration;

use super::*;
use crate::{InSync, StoreId};

fn at(ms: u64) -> Now {
    Now(Duration::from_millis(ms))
}

fn id(ordinal: u32) -> MemberId {
    MemberId { ordinal: Ordinal(ordinal), store: StoreId(u64::from(ordinal) + 10) }
}

fn found(end: u64) -> Found {
    let has = Has { end: LogOffset(end), state: 0 };
    Found { epoch: Epoch(1), doubt: Doubt::None, last: Epoch(1), has, confirmed: LogOffset(0) }
}

fn member(ordinal: u32, found: Found) -> Member {
    Member::new(id(ordinal), format!("broker-{ordinal}/a"), Settings::default(), found, at(0))
}

/// Epoch, primary (who holds it), the set.
fn lease(epoch: u64, primary: u32, set: &[u32]) -> Lease {
    Lease {
        holder: Some(format!("broker-{primary}/a")),
        epoch: Epoch(epoch),
        primary: Some(Ordinal(primary)),
        in_sync: set.iter().fold(InSync::default(), |set, ordinal| set.with(id(*ordinal))),
        ..Lease::default()
    }
}

fn sees(member: &mut Member, ms: u64, lease: &Lease, version: Version) {
    member.lease_seen(at(ms), Seen { lease: lease.clone(), version });
}

fn stands(member: &mut Member) -> bool {
    std::iter::from_fn(|| member.order()).any(|order| matches!(order, Order::Swap { .. }))
}

#[test]
fn who_fell_as_primary_stands_though_another_goes_first() {
    let mut fallen = member(1, found(5));
    sees(&mut fallen, 0, &lease(1, 1, &[0, 1]), 3);
    assert!(!stands(&mut fallen), "the other goes first");
    fallen.tick(at(1000));
    assert!(stands(&mut fallen), "and did not");
}

/// Whether it releases the Lease now.
fn releases(member: &mut Member) -> bool {
    std::iter::from_fn(|| member.order())
        .any(|order| matches!(order, Order::Swap { lease, .. } if lease.holder.is_none()))
}

#[test]
fn who_hands_over_waits_for_all_that_are_in_sync_and_not_for_long() {
    let mut primary = member(1, found(5));
    sees(&mut primary, 0, &lease(1, 1, &[0, 1, 2]), 5);
    primary.tick(at(1000));
    assert!(stands(&mut primary));
    primary.swapped(at(1000), SwapOutcome::Done(6));
    let epoch = primary.epoch();
    for (ordinal, end) in [(0, 9), (2, 5)] {
        primary.follower_connected(at(1010), id(ordinal), Has { end: LogOffset(end), state: 1 });
    }
    primary.own(at(1020), epoch, Has { end: LogOffset(9), state: 1 });
    assert_eq!(primary.hand_over(at(1020), Some(Ordinal(0))), Some(Ordinal(0)));
    primary.prepared(at(1020));
    let mut lagging = primary.clone();
    assert!(!releases(&mut primary), "2 lacks what a sender waits for");
    primary.follower_has(at(1030), Ordinal(2), Has { end: LogOffset(9), state: 1 });
    assert!(releases(&mut primary));
    lagging.tick(at(1519));
    assert!(!releases(&mut lagging));
    lagging.tick(at(1520));
    assert!(releases(&mut lagging), "it may never have it");
}

#[test]
fn a_primary_that_can_acknowledge_nothing_lets_its_lease_expire_until_it_can() {
    for (members, lets_go) in [(3, true), (2, false)] {
        let settings = Settings { members, min_in_sync: 2, ..Settings::default() };
        assert_eq!(renews_again_and_again(settings), !lets_go, "{members} members");
    }
}

/// A primary of epoch 2 since 1,000 ms, with one other in the set that followed 100 ms later.
fn followed(settings: Settings) -> Member {
    let mut primary = Member::new(id(1), "broker-1/a".to_owned(), settings, found(5), at(0));
    sees(&mut primary, 0, &lease(1, 1, &[0, 1]), 5);
    primary.tick(at(1000));
    assert!(stands(&mut primary));
    primary.swapped(at(1000), SwapOutcome::Done(6));
    primary.follower_connected(at(1100), id(0), Has { end: LogOffset(5), state: 1 });
    primary
}

#[test]
fn who_just_took_the_lease_is_waited_for_and_who_follows_another_is_not() {
    let mut next = member(1, found(5));
    assert!(next.may_yet_reign(Epoch(2)), "it has not read of it");
    sees(&mut next, 0, &lease(1, 0, &[0, 1]), 3);
    assert!(!next.may_yet_reign(Epoch(1)));
    next.stream(at(10), Stream::Refused);
    next.tick(at(1000));
    assert!(stands(&mut next));
    assert!(next.may_yet_reign(Epoch(1)), "it may have been elected");
    next.swapped(at(1001), SwapOutcome::Done(4));
    assert!(next.may_yet_reign(Epoch(2)), "it opens its reign");
    sees(&mut next, 1100, &lease(3, 0, &[0, 1]), 5);
    assert!(!next.may_yet_reign(Epoch(3)));
}

#[test]
fn who_does_not_reach_a_primary_that_renews_is_cut_off() {
    let mut replica = member(1, found(5));
    sees(&mut replica, 0, &lease(2, 0, &[0, 1, 2]), 3);
    replica.stream(at(500), Stream::Lost);
    assert!(!replica.is_cut_off(at(2000)), "it answers, and may open its reign");
    replica.stream(at(2000), Stream::Silent);
    assert!(replica.is_cut_off(at(2000)));
    replica.stream(at(2100), Stream::Up);
    assert!(!replica.is_cut_off(at(2100)));
    replica.stream(at(2500), Stream::Silent);
    assert!(!replica.is_cut_off(at(3000)), "the primary renews as little as it is heard");
    sees(&mut replica, 3600, &lease(2, 0, &[0, 1, 2]), 4);
    assert!(replica.is_cut_off(at(3600)));
    replica.stream(at(3700), Stream::Refused);
    assert!(!replica.is_cut_off(at(5000)), "its process is gone, and may come again");
}

#[test]
fn nobody_waits_for_a_fallen_primary_that_has_more() {
    let mut next = member(1, found(5));
    sees(&mut next, 0, &lease(1, 0, &[0, 1, 2]), 3);
    next.heard(at(0), id(0), Epoch(1), Epoch(1), LogOffset(9));
    next.stream(at(10), Stream::Refused);
    next.tick(at(310));
    assert!(stands(&mut next));
}

#[test]
fn a_primary_that_hears_nobody_does_not_renew_though_no_connection_broke() {
    let settings = Settings { members: 3, min_in_sync: 2, ..Settings::default() };
    let mut primary = followed(settings);
    let has = Has { end: LogOffset(5), state: 1 };
    primary.follower_has(at(3000), Ordinal(0), has);
    primary.tick(at(3500));
    assert!(stands(&mut primary), "it was heard of half a retry period ago");
    primary.swapped(at(3500), SwapOutcome::Done(7));
    primary.tick(at(6000));
    assert!(!stands(&mut primary), "no connection broke, and nothing came");
    primary.follower_has(at(6100), Ordinal(0), has);
    primary.tick(at(6101));
    assert!(stands(&mut primary), "it is there");
}

/// A primary with one other in the set, which goes and comes: does it renew while it is away?
fn renews_again_and_again(settings: Settings) -> bool {
    let mut primary = followed(settings);
    let mut version = 6;
    let mut renews = |primary: &mut Member, from: u64| {
        (from..from + 5000).step_by(100).any(|ms| {
            // Which is nothing where it does not follow.
            primary.follower_has(at(ms), Ordinal(0), Has { end: LogOffset(5), state: 1 });
            primary.tick(at(ms));
            let asks = stands(primary);
            if asks {
                version += 1;
                primary.swapped(at(ms), SwapOutcome::Done(version));
            }
            asks
        })
    };
    assert!(renews(&mut primary, 1200));
    primary.follower_gone(at(6200), Ordinal(0));
    let alone = renews(&mut primary, 8000);
    assert!(matches!(primary.role(), Role::Primary(_)), "nobody else was elected");
    primary.follower_connected(at(13_000), id(0), Has { end: LogOffset(5), state: 1 });
    assert!(renews(&mut primary, 13_000));
    alone
}

#[test]
fn what_refused_as_an_earlier_primary_is_nothing_against_the_next() {
    for next in [0, 2] {
        let mut replica = member(1, found(5));
        sees(&mut replica, 0, &lease(1, 0, &[0, 1, 2]), 3);
        replica.stream(at(10), Stream::Refused);
        sees(&mut replica, 600, &lease(2, next, &[0, 1, 2]), 4);
        assert!(!stands(&mut replica), "{next} only just began");
        replica.stream(at(610), Stream::Refused);
        replica.tick(at(1100));
        assert!(stands(&mut replica), "{next} refuses too");
    }
}

#[test]
fn who_cannot_read_the_lease_does_not_stand_in_the_way_of_a_primary_that_goes_on() {
    let mut replica = member(1, found(5));
    sees(&mut replica, 0, &lease(1, 0, &[0, 1]), 3);
    replica.stream(at(10), Stream::Up);
    replica.stream(at(20_000), Stream::Lost);
    replica.tick(at(21_000));
    assert!(!stands(&mut replica), "it knows nothing of renewals");
    sees(&mut replica, 21_100, &lease(1, 0, &[0, 1]), 3);
    assert!(stands(&mut replica), "there were none");
}

#[test]
fn doubt_lasts_until_there_is_all_with_which_the_reign_began() {
    let mut replica = member(1, Found { doubt: Doubt::LostTail, ..found(90) });
    replica.told(LogOffset(80), LogOffset(100), LogOffset(90));
    assert_eq!(
        replica.doubt(),
        Doubt::LostTail,
        "up to 100 may be confirmed, which a new primary does not know"
    );
    replica.told(LogOffset(80), LogOffset(100), LogOffset(100));
    assert_eq!(replica.doubt(), Doubt::None);
}

#[test]
fn what_was_heard_in_an_earlier_reign_does_not_end_doubt() {
    let mut doubtful = member(1, Found { doubt: Doubt::LostTail, ..found(95) });
    doubtful.heard(at(0), id(2), Epoch(1), Epoch(1), LogOffset(90));
    sees(&mut doubtful, 0, &lease(2, 2, &[1, 2]), 5);
    sees(&mut doubtful, 9000, &lease(2, 2, &[1, 2]), 5);
    assert!(!stands(&mut doubtful), "the other had less before it reigned");
    doubtful.heard(at(9100), id(2), Epoch(2), Epoch(1), LogOffset(95));
    assert!(stands(&mut doubtful));
}

#[test]
fn who_hears_of_a_later_reign_while_it_asks_does_not_begin_one() {
    let mut asks = member(1, found(5));
    sees(&mut asks, 0, &lease(1, 1, &[1]), 5);
    asks.tick(at(10));
    assert!(stands(&mut asks));
    sees(&mut asks, 20, &lease(5, 2, &[1, 2]), 9);
    asks.swapped(at(30), SwapOutcome::Done(6));
    assert_eq!(asks.role(), Role::Replica(Ordinal(2)), "it was overtaken");
}

#[test]
fn an_epoch_that_the_lease_does_not_confirm_changes_nothing() {
    let mut primary = member(1, found(5));
    sees(&mut primary, 0, &lease(1, 1, &[1]), 5);
    primary.swapped(at(10), SwapOutcome::Done(6));
    while primary.order().is_some() {}
    primary.heard_epoch(at(20), Epoch(u64::MAX));
    primary.heard_epoch(at(30), Epoch(u64::MAX));
    let orders: Vec<_> = std::iter::from_fn(|| primary.order()).collect();
    assert_eq!(orders, [Order::ReadLease], "once, whoever says it how often");
    assert_eq!((primary.role(), primary.epoch()), (Role::Primary(Epoch(2)), Epoch(2)));
    let own = Lease { holder: Some("broker-1/a".to_owned()), ..lease(2, 1, &[1]) };
    sees(&mut primary, 40, &own, 6);
    assert_eq!(primary.role(), Role::Primary(Epoch(2)));
    // And one that is there: the Lease says so.
    primary.heard_epoch(at(1000), Epoch(3));
    assert_eq!(primary.order(), Some(Order::ReadLease));
    sees(&mut primary, 1010, &lease(3, 2, &[1, 2]), 7);
    assert_eq!(primary.role(), Role::Replica(Ordinal(2)));
}

#[test]
fn who_stands_while_the_api_server_goes_away_follows_again() {
    let mut replica = member(1, found(5));
    sees(&mut replica, 0, &lease(1, 0, &[0, 1]), 3);
    sees(&mut replica, 9000, &lease(1, 0, &[0, 1]), 3);
    assert!(stands(&mut replica), "it expired");
    replica.swapped(at(9500), SwapOutcome::Unknown);
    assert_eq!(replica.role(), Role::Standing, "it may be done any moment");
    replica.tick(at(10_000));
    assert_eq!(replica.order(), Some(Order::Follow(Ordinal(0))));
    replica.tick(at(11_500));
    assert!(!stands(&mut replica), "it knows no more than before");
    replica.stream(at(11_600), Stream::Up);
    // It was done after all: another reign than it thought of, and nobody's.
    let own = Lease { holder: Some("broker-1/a".to_owned()), ..lease(2, 1, &[1]) };
    replica.swapped(at(11_700), SwapOutcome::Done(4));
    assert_eq!(replica.role(), Role::Replica(Ordinal(0)), "the answer comes too late");
    sees(&mut replica, 20_000, &own, 4);
    let orders: Vec<_> = std::iter::from_fn(|| replica.order()).collect();
    let [.., Order::Freeze, Order::Swap { lease, version: 4 }] = &orders[..] else {
        panic!("it stands again, of epoch 2: {orders:?}")
    };
    assert_eq!(lease.epoch, Epoch(3));
}

#[test]
fn where_the_lease_is_read_and_never_written_the_primary_goes_on_between_attempts() {
    let mut replica = member(1, found(5));
    sees(&mut replica, 0, &lease(1, 0, &[0, 1]), 3);
    sees(&mut replica, 9000, &lease(1, 0, &[0, 1]), 3);
    assert!(stands(&mut replica));
    replica.swapped(at(9010), SwapOutcome::Conflict);
    sees(&mut replica, 9020, &lease(1, 0, &[0, 1]), 3);
    assert_eq!(replica.role(), Role::Standing, "what it read may be older than the conflict");
    replica.tick(at(10_000));
    sees(&mut replica, 10_100, &lease(1, 0, &[0, 1]), 3);
    assert_eq!(replica.role(), Role::Replica(Ordinal(0)));
    replica.tick(at(11_000));
    assert!(stands(&mut replica), "and it tries again");
}

#[test]
fn a_reign_ends_doubt() {
    let mut doubtful = member(1, Found { doubt: Doubt::LostTail, ..found(95) });
    sees(&mut doubtful, 0, &lease(1, 1, &[1]), 5);
    doubtful.swapped(at(10), SwapOutcome::Done(6));
    assert_eq!(doubtful.role(), Role::Primary(Epoch(2)));
    assert_eq!(doubtful.doubt(), Doubt::None);
}

#[test]
fn a_fenced_member_stands_for_no_lease_and_the_others_do_not_wait_for_it() {
    let fence = |lease: Lease| Lease { fenced: [Ordinal(1)].into(), ..lease };
    let released = |wished| Lease { holder: None, wished, ..lease(1, 0, &[0, 1, 2]) };
    let expired = lease(1, 0, &[0, 1, 2]);
    let own = lease(1, 1, &[0, 1, 2]);
    for left in [released(None), released(Some(Ordinal(1))), expired.clone(), own] {
        let mut fenced = member(1, found(5));
        sees(&mut fenced, 0, &fence(left.clone()), 3);
        sees(&mut fenced, 60_000, &fence(left.clone()), 3);
        assert!(!stands(&mut fenced), "{left:?}");
        sees(&mut fenced, 60_000, &left, 4);
        sees(&mut fenced, 70_000, &left, 4);
        assert!(stands(&mut fenced), "the fence is gone");
    }
    // Of 0, 1 and 2 the last has its turn behind one other, whatever is wished for the one that may not.
    let mut last = member(2, found(5));
    sees(&mut last, 0, &fence(released(Some(Ordinal(1)))), 3);
    last.tick(at(125));
    assert!(stands(&mut last));
}

#[test]
fn a_primary_hands_over_to_nobody_who_is_fenced() {
    let mut primary = reigning(&[0, 1, 2]);
    for other in [1, 2] {
        primary.follower_connected(at(100), id(other), Has { end: LogOffset(5), state: 1 });
    }
    let own = primary.lease().cloned().expect("it was seen");
    let fenced = Lease { fenced: [Ordinal(1)].into(), ..own };
    sees(&mut primary, 200, &Lease { wished: Some(Ordinal(1)), ..fenced.clone() }, 7);
    assert!(!primary.is_handing_over(), "though it is wished for");
    assert_eq!(primary.hand_over(at(300), Some(Ordinal(1))), None);
    assert_eq!(primary.hand_over(at(300), None), Some(Ordinal(2)), "1 would be first");
    // The heir is fenced in the meantime.
    sees(&mut primary, 400, &Lease { fenced: [Ordinal(1), Ordinal(2)].into(), ..fenced }, 8);
    assert!(!primary.is_handing_over());
    assert!(matches!(primary.role(), Role::Primary(_)), "there is nobody else");
}

#[test]
fn a_held_failover_waits_for_a_wish_and_a_hand_over_does_not() {
    let held = |lease: Lease| Lease { held: true, ..lease };
    let lost = lease(1, 0, &[0, 1]);
    let mut replica = member(1, found(5));
    sees(&mut replica, 0, &held(lost.clone()), 3);
    replica.stream(at(10), Stream::Refused);
    sees(&mut replica, 60_000, &held(lost.clone()), 3);
    assert!(!stands(&mut replica));
    let mut by_wish = replica.clone();
    sees(&mut by_wish, 60_100, &held(Lease { wished: Some(Ordinal(1)), ..lost.clone() }), 4);
    by_wish.tick(at(61_000));
    assert!(stands(&mut by_wish), "somebody named it");
    let mut by_release = replica.clone();
    sees(&mut by_release, 60_100, &held(Lease { holder: None, ..lost }), 4);
    by_release.tick(at(61_000));
    assert!(stands(&mut by_release), "the primary handed over");
    // Nobody's place is taken.
    let mut back = member(0, found(5));
    sees(&mut back, 0, &held(lease(1, 0, &[0, 1])), 3);
    assert!(stands(&mut back));
}

#[test]
fn who_takes_the_lease_keeps_what_it_does_not_decide_and_counts_who_fell() {
    let bound = |lease| Lease { fenced: [Ordinal(2)].into(), held: true, failovers: 6, ..lease };
    let wished = Some(Ordinal(1));
    for (left, failovers) in [
        (Lease { wished, ..lease(1, 0, &[0, 1]) }, 7),
        (Lease { holder: None, wished, ..lease(1, 0, &[0, 1]) }, 6),
        (lease(1, 1, &[0, 1]), 6),
    ] {
        let mut next = member(1, found(5));
        sees(&mut next, 0, &bound(left.clone()), 3);
        sees(&mut next, 9000, &bound(left), 3);
        let asked = std::iter::from_fn(|| next.order()).find_map(|order| match order {
            Order::Swap { lease, .. } => Some(lease),
            _ => None,
        });
        let asked = asked.expect("it stands");
        assert_eq!((asked.failovers, asked.held), (failovers, true));
        assert_eq!(asked.fenced, [Ordinal(2)].into());
    }
}

/// Member 0, which reigns in epoch 2 over this set.
fn reigning(set: &[u32]) -> Member {
    let mut primary = member(0, found(5));
    sees(&mut primary, 0, &lease(1, 0, set), 5);
    assert!(stands(&mut primary));
    primary.swapped(at(10), SwapOutcome::Done(6));
    while primary.order().is_some() {}
    primary
}

#[test]
fn nothing_is_confirmed_beyond_where_the_log_was_cut() {
    let mut replica = member(1, Found { confirmed: LogOffset(90), ..found(95) });
    replica.own(at(0), Epoch(1), Has { end: LogOffset(70), state: 0 });
    assert_eq!(replica.confirmed().end, LogOffset(70));
}
