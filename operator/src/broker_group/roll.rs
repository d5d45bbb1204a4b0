//! Which pod of a replicated group is replaced next, or what that waits for. Pure.
//!
//! Replicas first, one at a time, each in sync again before the next; then the primary hands over to a member that is new, and
//! its pod is the last. What does not work is replaced at once: a correction never waits for what it corrects.

use std::collections::BTreeSet;

use super::reign::Reign;

/// So long a pod may be not Ready before it counts as broken: a failover takes less.
pub const BROKEN_SECONDS: i64 = 60;

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
    /// How long it has not been.
    pub unready_seconds: i64,
    /// Whether it is going.
    pub is_stopping: bool,
    /// Whether something stops it that does not go by itself.
    pub is_stuck: bool,
    /// Whether it is the primary's process.
    pub reigns: bool,
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
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every pod is new, or will be made so.
    Done,
    /// This member's pod goes, and comes back new.
    Replace(i32),
    /// This member should be primary.
    HandOver(i32),
    /// Nothing yet.
    Wait(String),
}

/// What to do next.
pub fn next(group: &Group<'_>) -> Step {
    let Group { members, reign, is_ephemeral, template_is_seen } = *group;
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

    // These do nothing that others need.
    let idle = old().find(|(ordinal, pod)| {
        let is_broken = pod.is_stuck || (!pod.is_ready && pod.unready_seconds >= BROKEN_SECONDS);
        (is_broken || !pod.replicates || reign.epoch == 0) && !is_last_copy(*ordinal)
    });
    if let Some((ordinal, _)) = idle {
        return Step::Replace(ordinal);
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
    let able = |target: &i32| *target != primary && in_sync(*target);
    let target = reign.wished.filter(able).or_else(|| pods().map(|(ordinal, _)| ordinal).find(able));
    target.map_or_else(
        || Step::Wait(format!("broker {primary} is primary, and no other is in sync to take over")),
        Step::HandOver,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: MemberPod = MemberPod {
        is_new: true,
        replicates: true,
        is_ready: true,
        unready_seconds: 0,
        is_stopping: false,
        is_stuck: false,
        reigns: false,
    };
    const OLD: MemberPod = MemberPod { is_new: false, ..NEW };
    const PRIMARY: MemberPod = MemberPod { reigns: true, ..OLD };

    fn reign(epoch: i64, in_sync: &[i32]) -> Reign {
        Reign { epoch, in_sync: in_sync.iter().copied().collect(), ..Reign::default() }
    }

    fn after<const N: usize>(pods: [Option<MemberPod>; N], reign: &Reign) -> Step {
        let members: Vec<Member> = (0..).zip(pods).map(|(ordinal, pod)| Member { ordinal, pod }).collect();
        next(&Group { members: &members, reign, is_ephemeral: false, template_is_seen: true })
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
        let broken = MemberPod { is_ready: false, unready_seconds: BROKEN_SECONDS, ..OLD };
        assert_eq!(after([Some(broken.clone()), Some(PRIMARY), starting.clone()], &all), Step::Replace(0));
        assert_eq!(after([Some(MemberPod { reigns: true, ..broken }), starting], &all), Step::Replace(0));
    }

    #[test]
    fn a_failover_on_the_way_replaces_nothing() {
        let shaken = Some(MemberPod { is_ready: false, unready_seconds: 5, ..OLD });
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
        let group = Group { members: &members, reign: &reign, is_ephemeral: true, template_is_seen: true };
        assert!(matches!(next(&group), Step::Wait(why) if why.contains("only copy")));
        assert_eq!(next(&Group { template_is_seen: false, ..group }), Step::Done);
    }
}
