//! The offset that belongs to a moment: exact at the edges, whatever is deleted or damaged.

use proptest::prelude::*;
use store::disk::Crash;
use store::{Flush, QueueId, QueueOffset, Store};

use crate::support::{House, append, message};

const START_MS: i64 = 1_000_000;

fn at_or_after(store: &Store, at_ms: i64) -> u64 {
    store.offset_at_time("t", QueueId(0), at_ms).unwrap().0
}

fn at_or_before(store: &Store, at_ms: i64) -> Option<u64> {
    store.last_offset_at_time("t", QueueId(0), at_ms).unwrap().map(|offset| offset.0)
}

/// Appends messages to `t`, so long after one another; returns when each was stored.
fn fill(house: &House, store: &Store, steps: &[i64]) -> Vec<i64> {
    let mut times = Vec::new();
    for step in steps {
        house.clock.advance_ms(*step);
        let appended = append(store, &message("t", 0, [b'x'; 200]));
        append(store, &message("other", 0, "y"));
        times.push(appended.stored_at_ms);
    }
    times
}

#[test]
fn an_offset_is_found_at_before_between_and_behind_the_stored_times() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let times = fill(&house, &store, &[10, 10, 0, 0, 50]);
    assert_eq!(times, [10, 20, 20, 20, 70].map(|ms| START_MS + ms));
    let table = [
        (i64::MIN, 0, None),
        (START_MS, 0, None),
        (START_MS + 10, 0, Some(0)),
        (START_MS + 11, 1, Some(0)),
        (START_MS + 20, 1, Some(3)),
        (START_MS + 21, 4, Some(3)),
        (START_MS + 70, 4, Some(4)),
        (START_MS + 71, 5, Some(4)),
        (i64::MAX, 5, Some(4)),
    ];
    for (at_ms, after, before) in table {
        assert_eq!((at_or_after(&store, at_ms), at_or_before(&store, at_ms)), (after, before), "at {at_ms}");
    }
    assert_eq!(store.offset_at_time("none", QueueId(0), 5).unwrap(), QueueOffset(0));
    assert_eq!(store.last_offset_at_time("none", QueueId(0), i64::MAX).unwrap(), None);
}

#[test]
fn a_record_that_lies_about_its_time_leads_nobody_astray() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let times = fill(&house, &store, &[1; 40]);
    let entries = store.entries("t", QueueId(0), QueueOffset(0), 40).unwrap();
    store.close().unwrap();
    for entry in &entries {
        for lie in [0, i64::MAX] {
            let house = house.crash(Crash::Kill);
            let base = entry.log_offset.0 / 4096 * 4096;
            let stored_at = (entry.log_offset.0 - base) as usize + 56;
            house.disk.edit(&house.segment(base), |bytes| {
                bytes[stored_at..stored_at + 8].copy_from_slice(&lie.to_be_bytes());
            });
            let (store, _) = house.open();
            for (n, at_ms) in times.iter().enumerate() {
                let liar = entry.queue_offset.0;
                let expected = if n as u64 == liar { liar + 1 } else { n as u64 };
                assert_eq!(at_or_after(&store, *at_ms), expected, "{liar} says {lie}");
            }
        }
    }
}

/// What happens to the record of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Kept,
    /// Damaged after it was in its queue.
    DamagedAtRest {
        at: usize,
    },
    /// Damaged before the store knew it, so that its queue has a hole.
    Hole,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Kept),
        1 => (8..200usize).prop_map(|at| Fate::DamagedAtRest { at }),
        1 => Just(Fate::Hole),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn offsets_by_time_are_those_of_a_list(
        messages in prop::collection::vec((prop_oneof![Just(0i64), 1..5i64], fate()), 1..120),
        deleted_to in prop::option::of(0..200i64),
    ) {
        let house = House::new(Flush::Async);
        let (store, _) = house.open();
        let steps: Vec<_> = messages.iter().map(|message| message.0).collect();
        let times = fill(&house, &store, &steps);
        store.flush().unwrap();
        let entries = store.entries("t", QueueId(0), QueueOffset(0), usize::MAX).unwrap();
        let damage = |house: &House, wanted: &dyn Fn(Fate) -> Option<usize>| {
            for (entry, (_, fate)) in entries.iter().zip(&messages) {
                let base = entry.log_offset.0 / 4096 * 4096;
                let path = house.segment(base);
                if let Some(at) = wanted(*fate) && house.disk.paths().contains(&path) {
                    house.disk.edit(&path, |bytes| bytes[(entry.log_offset.0 - base) as usize + at] ^= 0x20);
                }
            }
        };
        let house = house.crash(Crash::LoseUnsynced);
        damage(&house, &|fate| (fate == Fate::Hole).then_some(150));
        let (store, _) = house.open();
        if let Some(ms) = deleted_to {
            house.clock.advance_ms(72 * 3600 * 1000 + ms - 150);
            store.housekeep();
        }
        store.close().unwrap();
        damage(&house, &|fate| if let Fate::DamagedAtRest { at } = fate { Some(at) } else { None });
        let (store, _) = house.open();
        let bounds = store.queue_bounds("t", QueueId(0));
        let readable: Vec<_> = times
            .iter()
            .zip(&messages)
            .enumerate()
            .filter(|(n, (_, (_, fate)))| *fate == Fate::Kept && (bounds.start.0..bounds.end.0).contains(&(*n as u64)))
            .map(|(n, (time, _))| (n as u64, *time))
            .collect();
        for at_ms in START_MS - 1..=times.last().unwrap() + 1 {
            let after = readable.iter().find(|(_, time)| *time >= at_ms).map_or(bounds.end.0, |found| found.0);
            prop_assert_eq!(at_or_after(&store, at_ms), after, "at or after {} in {:?}", at_ms, readable);
            let before = readable.iter().rfind(|(_, time)| *time <= at_ms).map(|found| found.0);
            prop_assert_eq!(at_or_before(&store, at_ms), before, "at or before {} in {:?}", at_ms, readable);
        }
    }
}
