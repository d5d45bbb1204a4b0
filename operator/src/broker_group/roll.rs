//! Which pod of a replicated group is replaced next, or what that waits for. Pure.
//!
//! Replicas first, one at a time, each in sync again before the next; then the primary hands over to a member that is new, and
//! its pod is the last. What does not work is replaced at once: a correction never waits for what it corrects.

use std::collections::BTreeSet;

use crds::UpdateStrategy;

use super::{reign::Reign, requests::SWITCHOVER_TO};
pub use crate::pods::in_turn::{BROKEN_SECONDS, Step};
use crate::pods::manner::Manner;

/// A member of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub ordinal: i32,
    /// Its pod.
    pub pod: Option<MemberPod>,
}

/// What matters of a member's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberPod {
    /// Whether it is as the newest template says.
    pub is_new: bool,
    /// Whether it takes part in replication, which a pod from the time when the group had one member does not.
    pub replicates: bool,
    /// Whether it is Ready.
    pub is_ready: bool,
    /// How long it has been so, Ready or not.
    pub seconds: i64,
    /// Whether it is going.
    pub is_stopping: bool,
    /// Whether something stops it that does not go by itself.
    pub is_stuck: bool,
    /// Whether it is the primary's process.
    pub reigns: bool,
    /// Whether its node is about to be drained.
    pub is_leaving: bool,
}

/// A group on its way to the newest template.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// All members.
    pub members: &'a [Member],
    /// What the Lease says.
    pub reign: &'a Reign,
    /// Whether the log goes with the pod.
    pub is_ephemeral: bool,
    /// Whether the controller of StatefulSets has seen the newest template.
    pub template_is_seen: bool,
    /// When pods that work may be replaced.
    pub manner: &'a Manner,
    /// Members that must not be primary.
    pub fenced: &'a BTreeSet<i32>,
}

/// Who should be primary since the present one should not: its node is about to be drained, or it is fenced. One in sync on
/// another node, or of a fenced one nobody if there is none; and why.
pub fn refuge(group: &Group<'_>) -> Option<(Option<i32>, String)> {
    let Group { members, reign, fenced, .. } = *group;
    let pods = || members.iter().filter_map(|member| Some((member.ordinal, member.pod.as_ref()?)));
    let (primary, is_leaving) =
        pods().find(|(_, pod)| pod.reigns).map(|(ordinal, pod)| (ordinal, pod.is_leaving))?;
    let is_fenced = fenced.contains(&primary);
    if !is_leaving && !is_fenced {
        return None;
    }
    let able = |(ordinal, pod): &(i32, &MemberPod)| {
        reign.in_sync.contains(ordinal)
            && pod.is_ready
            && !pod.reigns
            && !pod.is_leaving
            && !fenced.contains(ordinal)
    };
    let wished = pods().filter(able).find(|(ordinal, _)| reign.wished == Some(*ordinal));
    let next = wished.or_else(|| pods().find(able)).map(|(ordinal, _)| ordinal);
    let why = if is_fenced {
        format!("broker {primary} is primary and fenced")
    } else {
        "the primary's node is cordoned".to_owned()
    };
    match next {
        Some(next) => Some((Some(next), format!("{why}: broker {next} is to take over"))),
        None => is_fenced.then(|| {
            let lacks =
                "no broker that is not fenced is Ready, in sync and on a node that stays, to take over";
            (None, format!("{why}, and {lacks}: it stays primary until then"))
        }),
    }
}

/// What to do next.
pub fn next(group: &Group<'_>) -> Step {
    let Group { members, reign, is_ephemeral, template_is_seen, manner, fenced } = *group;
    if !template_is_seen {
        return Step::Done;
    }
    let pods = || members.iter().filter_map(|member| Some((member.ordinal, member.pod.as_ref()?)));
    let old = || pods().filter(|(_, pod)| !pod.is_new && !pod.is_stopping);
    if old().next().is_none() {
        return Step::Done;
    }
    let in_sync = |ordinal: i32| reign.in_sync.contains(&ordinal);
    let is_last_copy =
        |ordinal: i32| is_ephemeral && reign.epoch > 0 && reign.in_sync == BTreeSet::from([ordinal]);

    if let Some(why) = manner.forbids_all() {
        return Step::Hold(why);
    }
    // These do nothing that others need. Who is behind and not Ready holds up no failover.
    let idle = old().find(|(ordinal, pod)| {
        let is_behind = !in_sync(*ordinal) && reign.holder.is_some();
        let is_broken = pod.is_stuck || (!pod.is_ready && (is_behind || pod.seconds >= BROKEN_SECONDS));
        (is_broken || !pod.replicates || reign.epoch == 0) && !is_last_copy(*ordinal)
    });
    if let Some((ordinal, _)) = idle {
        return Step::Replace(ordinal);
    }
    if let Some(why) = manner.forbids_healthy(pods().filter(|(_, pod)| pod.is_new).count()) {
        return Step::Hold(why);
    }
    if let Some(away) = members.iter().find(|member| member.pod.as_ref().is_none_or(|pod| pod.is_stopping)) {
        return Step::Wait(format!("broker {} is being replaced", away.ordinal));
    }
    for (ordinal, pod) in pods().filter(|(_, pod)| pod.is_new) {
        if !pod.is_ready {
            return Step::Wait(format!("broker {ordinal} was replaced and is not Ready yet"));
        }
        if !in_sync(ordinal) {
            return Step::Wait(format!("broker {ordinal} was replaced and is not in sync yet"));
        }
        if pod.seconds < manner.stable_seconds {
            return Step::Wait(format!(
                "broker {ordinal} was replaced and is to be Ready for update.minStableSeconds, {}",
                manner.stable_seconds
            ));
        }
    }
    let followers = || old().filter(|(_, pod)| !pod.reigns);
    if let Some((ordinal, _)) = followers().find(|(ordinal, _)| !in_sync(*ordinal)) {
        // Nothing waits for what it holds.
        return Step::Replace(ordinal);
    }
    if let Some((ordinal, _)) = old().find(|(_, pod)| !pod.is_ready) {
        return Step::Wait(format!(
            "broker {ordinal} is not Ready: it is replaced when that lasts {BROKEN_SECONDS} seconds"
        ));
    }
    if !pods().any(|(_, pod)| pod.reigns) {
        return Step::Wait(
            "there is no primary, and the next may be any of those that are in sync".to_owned(),
        );
    }
    if let Some((ordinal, _)) = followers().max_by_key(|(ordinal, _)| *ordinal) {
        return Step::Replace(ordinal);
    }
    // What is left is the primary.
    let Some((primary, _)) = old().next() else { return Step::Done };
    if members.len() == 1 {
        return if is_last_copy(primary) {
            Step::Wait(format!(
                "broker {primary} has the only copy of the log, which goes with its pod: add a replica, or delete the pod"
            ))
        } else {
            Step::Replace(primary)
        };
    }
    if manner.strategy == UpdateStrategy::Supervised {
        return Step::Hold(format!(
            "update.strategy is Supervised, and broker {primary} is primary: make another the primary by {SWITCHOVER_TO} when that suits"
        ));
    }
    let leaves = |ordinal: i32| pods().any(|(other, pod)| other == ordinal && pod.is_leaving);
    let able =
        |target: &i32| *target != primary && in_sync(*target) && !leaves(*target) && !fenced.contains(target);
    let target = reign.wished.filter(able).or_else(|| pods().map(|(ordinal, _)| ordinal).find(able));
    target.map_or_else(
        || {
            let others_leave =
                pods().any(|(other, pod)| other != primary && in_sync(other) && pod.is_leaving);
            let others_fenced =
                pods().any(|(other, _)| other != primary && in_sync(other) && fenced.contains(&other));
            let why = if others_fenced {
                "no other in sync may take over: see spec.fencedMembers"
            } else if others_leave {
                "the nodes of all others in sync are cordoned"
            } else {
                "no other is in sync to take over"
            };
            Step::Wait(format!("broker {primary} is primary, and {why}"))
        },
        Step::HandOver,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_TIME: Manner = Manner {
        strategy: UpdateStrategy::Rolling,
        paused: false,
        canary: None,
        stable_seconds: 0,
        opens: None,
    };
    const NEW: MemberPod = MemberPod {
        is_new: true,
        replicates: true,
        is_ready: true,
        seconds: 0,
        is_stopping: false,
        is_stuck: false,
        reigns: false,
        is_leaving: false,
    };
    const OLD: MemberPod = MemberPod { is_new: false, ..NEW };
    const PRIMARY: MemberPod = MemberPod { reigns: true, ..OLD };

    fn reign(epoch: i64, in_sync: &[i32]) -> Reign {
        Reign { epoch, in_sync: in_sync.iter().copied().collect(), ..Reign::default() }
    }

    fn after<const N: usize>(pods: [Option<MemberPod>; N], reign: &Reign) -> Step {
        in_manner(pods, reign, &ANY_TIME)
    }

    fn in_manner<const N: usize>(pods: [Option<MemberPod>; N], reign: &Reign, manner: &Manner) -> Step {
        let members: Vec<Member> = (0..).zip(pods).map(|(ordinal, pod)| Member { ordinal, pod }).collect();
        next_of(&members, reign, manner, &BTreeSet::new())
    }

    fn next_of(members: &[Member], reign: &Reign, manner: &Manner, fenced: &BTreeSet<i32>) -> Step {
        next(&Group { members, reign, is_ephemeral: false, template_is_seen: true, manner, fenced })
    }

    #[track_caller]
    fn waits<const N: usize>(pods: [Option<MemberPod>; N], reign: &Reign, why: &str) {
        match after(pods, reign) {
            Step::Wait(found) => assert!(found.contains(why), "{found:?}"),
            other => panic!("{other:?}, to wait for {why:?}"),
        }
    }

    #[test]
    fn a_roll_goes_over_the_replicas_and_ends_with_the_primary() {
        let all = reign(4, &[0, 1, 2]);
        let (new, old, primary) = (Some(NEW), Some(OLD), Some(PRIMARY));
        assert_eq!(after([old.clone(), primary.clone(), old.clone()], &all), Step::Replace(2));
        let going = Some(MemberPod { is_stopping: true, ..OLD });
        waits([old.clone(), primary.clone(), going], &all, "broker 2 is being replaced");
        waits([old.clone(), primary.clone(), None], &all, "broker 2 is being replaced");
        let starting = Some(MemberPod { is_ready: false, ..NEW });
        waits([old.clone(), primary.clone(), starting], &all, "broker 2 was replaced and is not Ready");
        waits([old.clone(), primary.clone(), new.clone()], &reign(4, &[0, 1]), "not in sync yet");
        assert_eq!(after([old, primary.clone(), new.clone()], &all), Step::Replace(0));
        assert_eq!(after([new.clone(), primary.clone(), new.clone()], &all), Step::HandOver(0));
        let wished = Reign { wished: Some(2), ..all.clone() };
        assert_eq!(after([new.clone(), primary, new.clone()], &wished), Step::HandOver(2));
        let reigns = Some(MemberPod { reigns: true, ..NEW });
        assert_eq!(after([reigns.clone(), Some(OLD), new.clone()], &all), Step::Replace(1));
        assert_eq!(after([reigns, new.clone(), new], &all), Step::Done);
    }

    #[test]
    fn what_does_not_work_is_replaced_at_once_the_primary_too() {
        let all = reign(4, &[0, 1, 2]);
        let stuck = Some(MemberPod { is_stuck: true, is_ready: false, ..OLD });
        let starting = Some(MemberPod { is_ready: false, ..NEW });
        assert_eq!(after([stuck, Some(PRIMARY), starting.clone()], &all), Step::Replace(0));
        let broken = MemberPod { is_ready: false, seconds: BROKEN_SECONDS, ..OLD };
        assert_eq!(after([Some(broken.clone()), Some(PRIMARY), starting.clone()], &all), Step::Replace(0));
        assert_eq!(after([Some(MemberPod { reigns: true, ..broken }), starting], &all), Step::Replace(0));
    }

    #[test]
    fn a_failover_on_the_way_replaces_nothing() {
        let shaken = Some(MemberPod { is_ready: false, seconds: 5, ..OLD });
        waits([shaken, Some(PRIMARY), Some(OLD)], &reign(4, &[0, 1, 2]), "broker 0 is not Ready");
        waits([Some(OLD), Some(OLD), Some(NEW)], &reign(4, &[0, 1, 2]), "there is no primary");
        waits([Some(PRIMARY), Some(NEW)], &reign(4, &[0]), "not in sync");
    }

    #[test]
    fn a_replica_that_is_behind_is_replaced_before_those_in_sync() {
        assert_eq!(after([Some(OLD), Some(OLD), Some(PRIMARY)], &reign(4, &[1, 2])), Step::Replace(0));
    }

    #[test]
    fn before_the_first_primary_everything_may_be_replaced() {
        assert_eq!(after([Some(OLD), Some(NEW)], &reign(0, &[0])), Step::Replace(0));
    }

    #[test]
    fn a_broker_from_before_replication_is_replaced_though_nobody_is_in_sync() {
        let alone = Some(MemberPod { replicates: false, ..OLD });
        let waiting = Some(MemberPod { is_ready: false, ..NEW });
        assert_eq!(after([alone, waiting.clone(), waiting], &reign(7, &[0])), Step::Replace(0));
    }

    #[test]
    fn one_member_is_replaced_unless_its_log_goes_with_it() {
        assert_eq!(after([Some(PRIMARY)], &reign(4, &[0])), Step::Replace(0));
        let members = [Member { ordinal: 0, pod: Some(MemberPod { is_stuck: true, ..PRIMARY }) }];
        let reign = reign(4, &[0]);
        let group = Group {
            members: &members,
            reign: &reign,
            is_ephemeral: true,
            template_is_seen: true,
            manner: &ANY_TIME,
            fenced: &BTreeSet::new(),
        };
        assert!(matches!(next(&group), Step::Wait(why) if why.contains("only copy")));
        assert_eq!(next(&Group { template_is_seen: false, ..group }), Step::Done);
    }

    #[test]
    fn a_primary_leaves_a_node_that_is_about_to_be_drained_for_one_that_is_not() {
        let refuge_of = |pods: [MemberPod; 3], in_sync: &[i32], fenced: &[i32]| {
            let pods = pods.into_iter().map(Some);
            let members: Vec<Member> =
                (0..).zip(pods).map(|(ordinal, pod)| Member { ordinal, pod }).collect();
            let reign = &reign(4, in_sync);
            let members = members.as_slice();
            super::refuge(&Group {
                members,
                reign,
                is_ephemeral: false,
                template_is_seen: true,
                manner: &ANY_TIME,
                fenced: &fenced.iter().copied().collect(),
            })
        };
        let refuge = |pods, in_sync: &[i32]| refuge_of(pods, in_sync, &[]).and_then(|(next, _)| next);
        let primary = MemberPod { reigns: true, is_leaving: true, ..NEW };
        let leaving = MemberPod { is_leaving: true, ..NEW };
        assert_eq!(refuge([primary.clone(), leaving.clone(), NEW], &[0, 1, 2]), Some(2));
        assert_eq!(
            refuge([primary.clone(), leaving.clone(), NEW], &[0, 1]),
            None,
            "nobody there has everything"
        );
        let unready = MemberPod { is_ready: false, ..NEW };
        assert_eq!(refuge([primary, unready, NEW], &[0, 1, 2]), Some(2));
        let stays = MemberPod { reigns: true, ..NEW };
        assert_eq!(refuge([stays.clone(), leaving, NEW], &[0, 1, 2]), None);
        // One that is fenced goes as well, and to nobody who is.
        let fenced = |in_sync: &[i32], fenced: &[i32]| {
            refuge_of([stays.clone(), NEW, NEW], in_sync, fenced).map(|(next, _)| next)
        };
        assert_eq!(fenced(&[0, 1, 2], &[0]), Some(Some(1)));
        assert_eq!(fenced(&[0, 1, 2], &[0, 1]), Some(Some(2)));
        assert_eq!(fenced(&[0, 1], &[0, 1]), Some(None), "it stays, and says so");
        assert_eq!(fenced(&[0, 1, 2], &[1]), None);
    }

    #[test]
    fn a_primary_does_not_hand_over_to_one_that_is_fenced() {
        let members: Vec<Member> =
            (0..).zip([PRIMARY, NEW, NEW]).map(|(ordinal, pod)| Member { ordinal, pod: Some(pod) }).collect();
        let all = reign(4, &[0, 1, 2]);
        assert_eq!(next_of(&members, &all, &ANY_TIME, &[1].into()), Step::HandOver(2));
        match next_of(&members, &all, &ANY_TIME, &[1, 2].into()) {
            Step::Wait(why) => assert!(why.contains("see spec.fencedMembers"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_primary_does_not_hand_over_to_a_node_that_is_about_to_be_drained() {
        let leaving = Some(MemberPod { is_leaving: true, ..NEW });
        waits([Some(PRIMARY), leaving.clone()], &reign(4, &[0, 1]), "others in sync are cordoned");
        assert_eq!(after([Some(PRIMARY), leaving, Some(NEW)], &reign(4, &[0, 1, 2])), Step::HandOver(2));
    }

    #[test]
    fn a_new_member_is_ready_for_a_while_before_the_next_goes() {
        let manner = Manner { stable_seconds: 15, ..ANY_TIME };
        let after = |seconds| {
            in_manner(
                [Some(OLD), Some(PRIMARY), Some(MemberPod { seconds, ..NEW })],
                &reign(4, &[0, 1, 2]),
                &manner,
            )
        };
        assert!(matches!(after(14), Step::Wait(why) if why.contains("minStableSeconds")));
        assert_eq!(after(15), Step::Replace(0));
    }

    #[test]
    fn a_person_holds_what_works_and_only_a_pause_what_does_not() {
        let all = reign(4, &[0, 1, 2]);
        let works = |manner: &Manner| in_manner([Some(PRIMARY), Some(OLD), Some(NEW)], &all, manner);
        let broken = MemberPod { is_stuck: true, is_ready: false, ..OLD };
        let heals =
            |manner: &Manner| in_manner([Some(PRIMARY), Some(OLD), Some(broken.clone())], &all, manner);
        let closed = Manner { opens: Some(jiff::Timestamp::UNIX_EPOCH), ..ANY_TIME };
        for manner in [closed, Manner { canary: Some(1), ..ANY_TIME }] {
            assert!(matches!(works(&manner), Step::Hold(_)), "{manner:?}");
            assert_eq!(heals(&manner), Step::Replace(2), "{manner:?}");
        }
        for manner in
            [Manner { paused: true, ..ANY_TIME }, Manner { strategy: UpdateStrategy::OnDelete, ..ANY_TIME }]
        {
            assert!(matches!(works(&manner), Step::Hold(_)), "{manner:?}");
            assert!(matches!(heals(&manner), Step::Hold(_)), "{manner:?}");
        }
    }

    #[test]
    fn a_supervised_primary_waits_for_a_person_who_makes_another_the_primary() {
        let manner = Manner { strategy: UpdateStrategy::Supervised, ..ANY_TIME };
        let all = reign(4, &[0, 1]);
        assert_eq!(in_manner([Some(PRIMARY), Some(OLD)], &all, &manner), Step::Replace(1));
        assert!(matches!(in_manner([Some(PRIMARY), Some(NEW)], &all, &manner), Step::Hold(_)));
        let reigns = MemberPod { reigns: true, ..NEW };
        assert_eq!(in_manner([Some(OLD), Some(reigns)], &all, &manner), Step::Replace(0));
    }

    #[test]
    fn who_is_behind_and_does_not_come_up_is_replaced_though_it_is_not_broken_for_long() {
        let starting = MemberPod { is_ready: false, seconds: 1, ..OLD };
        let reign =
            Reign { holder: Some(crate::broker_group::reign::Process::default()), ..reign(4, &[0, 1]) };
        let pods = [Some(OLD), Some(PRIMARY), Some(starting)];
        assert_eq!(after(pods, &reign), Step::Replace(2));
    }
}
