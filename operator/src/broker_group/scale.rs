//! How many members a group may have now, on its way to how many it shall have. Pure.
//!
//! Members go from the highest ordinal down. None goes that is primary, and none before those that stay have what was
//! acknowledged.

use std::collections::BTreeSet;

use super::reign::Reign;

/// What is known of a group that shall have another number of members.
#[derive(Clone, Copy, Debug)]
pub struct Size<'a> {
    /// Members that shall be.
    pub wanted: i32,
    /// Members that the StatefulSet keeps up; nothing before there is one.
    pub present: Option<i32>,
    /// Whether these replicate.
    pub replicates: bool,
    /// So many must be in sync.
    pub min_in_sync: i32,
    /// What the Lease says.
    pub reign: Option<&'a Reign>,
    /// The primary, if its process is there.
    pub reigning: Option<i32>,
    /// Members whose pods are Ready.
    pub ready: &'a BTreeSet<i32>,
    /// Members that must not be primary.
    pub fenced: &'a BTreeSet<i32>,
}

/// How many members a group may have now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Members.
    pub pods: i32,
    /// Whether they replicate.
    pub replicates: bool,
    /// Who should be primary, so that it can go on.
    pub hand_over_to: Option<i32>,
    /// What it waits for.
    pub waits_for: Option<String>,
}

/// How many members the group may have now.
pub fn scale(size: Size<'_>) -> Scale {
    let Size { wanted, present, replicates, min_in_sync, reign, reigning, ready, fenced } = size;
    let present = present.unwrap_or_default();
    let now = |replicates| Scale { pods: wanted, replicates, hand_over_to: None, waits_for: None };
    if wanted > 1 && (present <= wanted || !replicates) {
        return now(true);
    }
    if !replicates {
        // It never had another.
        return now(false);
    }
    let stay = |hand_over_to, waits_for: String| Scale {
        pods: present.max(wanted),
        replicates: true,
        hand_over_to,
        waits_for: Some(waits_for),
    };
    let Some(reign) = reign else {
        return stay(None, "no member is removed before the group's Lease is there".to_owned());
    };
    if reign.epoch == 0 {
        // Nobody has ever taken a message.
        return now(wanted > 1);
    }
    if present <= wanted {
        // One is left, and keeps its Lease: epochs go on, and so do the addresses that clients were told.
        return now(true);
    }
    let Some(primary) = reigning else {
        return stay(
            None,
            format!("no primary serves, so members from {wanted} on are kept: one of them may be the next"),
        );
    };
    let staying: BTreeSet<i32> = reign.in_sync.iter().copied().filter(|ordinal| *ordinal < wanted).collect();
    if primary >= wanted {
        let able =
            |ordinal: &i32| staying.contains(ordinal) && ready.contains(ordinal) && !fenced.contains(ordinal);
        let target = reign.wished.filter(able).or_else(|| staying.iter().copied().find(able));
        return match target {
            Some(target) => stay(
                Some(target),
                format!("broker {primary} is primary and would go: it hands over to broker {target} first"),
            ),
            None => stay(
                None,
                format!(
                    "broker {primary} is primary and would go, and no broker below {wanted} is Ready, in sync and not fenced, to take over: wait, or set replicas to {} again",
                    present
                ),
            ),
        };
    }
    let needed = min_in_sync.min(wanted);
    if i32::try_from(staying.len()).unwrap_or(i32::MAX) < needed {
        return stay(
            None,
            format!(
                "of the brokers that stay {} are in sync and {needed} must be: wait, or set replicas to {present} again",
                staying.len()
            ),
        );
    }
    now(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    static NOBODY: BTreeSet<i32> = BTreeSet::new();

    fn reign(epoch: i64, primary: i32, in_sync: &[i32]) -> Reign {
        Reign {
            epoch,
            primary: Some(primary),
            in_sync: in_sync.iter().copied().collect(),
            ..Reign::default()
        }
    }

    /// From `present` members to `wanted`, all of them Ready: pods, whether they replicate, who is to be primary.
    #[track_caller]
    fn check(present: i32, wanted: i32, reign: &Reign, expected: (i32, bool, Option<i32>, &str)) {
        let ready = (0..present).collect();
        let size = Size {
            wanted,
            present: Some(present),
            replicates: present > 1,
            min_in_sync: 2,
            reign: Some(reign),
            reigning: reign.primary.filter(|_| reign.epoch > 0),
            ready: &ready,
            fenced: &NOBODY,
        };
        let found = scale(size);
        let why = found.waits_for.clone().unwrap_or_default();
        assert_eq!(
            (found.pods, found.replicates, found.hand_over_to),
            (expected.0, expected.1, expected.2),
            "{why}"
        );
        assert!(why.contains(expected.3) && why.is_empty() == expected.3.is_empty(), "{why:?}");
    }

    #[test]
    fn members_are_added_at_once() {
        check(1, 3, &reign(0, 0, &[0]), (3, true, None, ""));
        check(3, 5, &reign(4, 2, &[2]), (5, true, None, ""));
    }

    #[test]
    fn members_go_when_those_that_stay_have_everything() {
        check(3, 2, &reign(4, 0, &[0, 1, 2]), (2, true, None, ""));
        check(5, 3, &reign(4, 2, &[0, 2]), (3, true, None, ""));
        check(3, 2, &reign(4, 0, &[0, 2]), (3, true, None, "1 are in sync and 2 must be"));
    }

    #[test]
    fn a_primary_that_would_go_hands_over_first() {
        check(3, 2, &reign(4, 2, &[0, 1, 2]), (3, true, Some(0), "hands over to broker 0 first"));
        check(3, 2, &reign(4, 2, &[1, 2]), (3, true, Some(1), "hands over to broker 1 first"));
        check(
            3,
            2,
            &reign(4, 2, &[2]),
            (3, true, None, "no broker below 2 is Ready, in sync and not fenced"),
        );
        let wished = Reign { wished: Some(1), ..reign(4, 2, &[0, 1, 2]) };
        check(3, 2, &wished, (3, true, Some(1), "hands over to broker 1"));
    }

    #[test]
    fn a_primary_that_would_go_hands_over_to_one_that_is_not_fenced() {
        let (left, ready, fenced) = (reign(4, 2, &[0, 1, 2]), BTreeSet::from([0, 1, 2]), BTreeSet::from([0]));
        let found = scale(Size {
            wanted: 2,
            present: Some(3),
            replicates: true,
            min_in_sync: 2,
            reign: Some(&left),
            reigning: Some(2),
            ready: &ready,
            fenced: &fenced,
        });
        assert_eq!(found.hand_over_to, Some(1));
    }

    #[test]
    fn nothing_goes_while_nobody_reigns() {
        let ready = BTreeSet::from([0, 1, 2]);
        let left = reign(4, 0, &[0, 1]);
        let size = |reign| Size {
            wanted: 2,
            present: Some(3),
            replicates: true,
            min_in_sync: 2,
            reign,
            reigning: None,
            ready: &ready,
            fenced: &NOBODY,
        };
        assert_eq!(scale(size(Some(&left))).pods, 3);
        assert_eq!(scale(size(None)).pods, 3);
    }

    #[test]
    fn the_last_one_keeps_its_lease() {
        check(3, 1, &reign(4, 0, &[0, 1, 2]), (1, true, None, ""));
        let ready = BTreeSet::from([0]);
        for left in [reign(4, 0, &[0, 1]), reign(4, 0, &[0])] {
            let size = Size {
                wanted: 1,
                present: Some(1),
                replicates: true,
                min_in_sync: 1,
                reign: Some(&left),
                reigning: Some(0),
                ready: &ready,
                fenced: &NOBODY,
            };
            let expected = Scale { pods: 1, replicates: true, hand_over_to: None, waits_for: None };
            assert_eq!(scale(size), expected);
        }
        // What never had a primary has nothing to lose.
        check(3, 1, &reign(0, 0, &[0]), (1, false, None, ""));
    }

    #[test]
    fn one_broker_alone_needs_no_lease_whatever_somebody_did_to_its_stateful_set() {
        let ready = BTreeSet::new();
        let size = Size {
            wanted: 1,
            present: Some(5),
            replicates: false,
            min_in_sync: 1,
            reign: None,
            reigning: None,
            ready: &ready,
            fenced: &NOBODY,
        };
        assert_eq!(scale(size), Scale { pods: 1, replicates: false, hand_over_to: None, waits_for: None });
    }
}
