//! What people ask for by annotation, once each: another primary, or one that may lack messages. Pure.

use std::collections::BTreeSet;

use crds::{BrokerGroup, LastHandled};
use kube::ResourceExt as _;

use super::reign::Reign;

/// The annotation that asks for another primary: `<ordinal>@<any id>`.
pub const SWITCHOVER_TO: &str = "mq.gantry.dev/switchover-to";
/// The annotation that makes a member primary that may lack acknowledged messages: `<ordinal>@<present epoch>`.
pub const UNCLEAN_PROMOTE: &str = "mq.gantry.dev/unclean-promote";

/// What is to be done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This member should be primary.
    HandOver(i32),
    /// This member alone counts as in sync, by this request.
    Promote(i32, String),
    /// Not so.
    Refused(String),
    /// It is so already.
    AlreadySo,
}

/// The requests that were not seen to yet, and what becomes of each. `there` are the members that could be primary: their pods
/// are Ready, or would be if nothing kept them back.
pub fn answers(
    group: &BrokerGroup,
    members: i32,
    reign: &Reign,
    there: &BTreeSet<i32>,
) -> (Vec<Answer>, Option<LastHandled>) {
    let fenced: BTreeSet<i32> = group.spec.fenced_members.iter().copied().collect();
    let before = group.status.as_ref().and_then(|status| status.last_handled.clone());
    let mut handled = before.clone().unwrap_or_default();
    let mut answers = Vec::new();
    let asked = |key: &str, done: &Option<String>| {
        group.annotations().get(key).filter(|value| done.as_ref() != Some(*value)).cloned()
    };
    if let Some(value) = asked(SWITCHOVER_TO, &handled.switchover_to) {
        answers.push(switchover(&value, members, reign, &fenced));
        handled.switchover_to = Some(value);
    }
    if let Some(value) = asked(UNCLEAN_PROMOTE, &handled.unclean_promote) {
        answers.push(promote(&value, members, reign, there, &fenced));
        handled.unclean_promote = Some(value);
    }
    (answers, Some(handled).filter(|handled| before.is_some() || *handled != LastHandled::default()))
}

/// The member that a switchover asks for, seen to or not.
pub fn asked_for(group: &BrokerGroup) -> Option<i32> {
    let value = group.annotations().get(SWITCHOVER_TO)?;
    member(value, i32::MAX).map(|(ordinal, _)| ordinal)
}

fn refused_as_fenced(key: &str, value: &str, ordinal: i32) -> Answer {
    Answer::Refused(format!(
        "{key} is {value:?}: broker {ordinal} is fenced; take it out of spec.fencedMembers, and ask again with another id"
    ))
}

fn member(value: &str, members: i32) -> Option<(i32, &str)> {
    let (ordinal, id) = value.split_once('@')?;
    let ordinal: i32 = ordinal.parse().ok()?;
    ((0..members).contains(&ordinal) && !id.is_empty()).then_some((ordinal, id))
}

fn switchover(value: &str, members: i32, reign: &Reign, fenced: &BTreeSet<i32>) -> Answer {
    let Some((ordinal, _)) = member(value, members) else {
        return Answer::Refused(format!(
            "{SWITCHOVER_TO} is {value:?}: set <ordinal>@<id>, an ordinal below {members} and any id that was not used before"
        ));
    };
    if reign.primary == Some(ordinal) && reign.holder.is_some() {
        return Answer::AlreadySo;
    }
    if fenced.contains(&ordinal) {
        return refused_as_fenced(SWITCHOVER_TO, value, ordinal);
    }
    if !reign.in_sync.contains(&ordinal) {
        return Answer::Refused(format!(
            "{SWITCHOVER_TO} is {value:?}: broker {ordinal} is not in sync, see status.inSync; ask again with another id when it is"
        ));
    }
    Answer::HandOver(ordinal)
}

fn promote(
    value: &str,
    members: i32,
    reign: &Reign,
    there: &BTreeSet<i32>,
    fenced: &BTreeSet<i32>,
) -> Answer {
    let asked =
        member(value, members).and_then(|(ordinal, epoch)| Some((ordinal, epoch.parse::<i64>().ok()?)));
    let Some((ordinal, epoch)) = asked else {
        return Answer::Refused(format!(
            "{UNCLEAN_PROMOTE} is {value:?}: set <ordinal>@<epoch>, an ordinal below {members} and the present epoch, {}",
            reign.epoch
        ));
    };
    if reign.promoted_by.as_deref() == Some(value) {
        return Answer::AlreadySo;
    }
    if epoch != reign.epoch {
        return Answer::Refused(format!(
            "{UNCLEAN_PROMOTE} is {value:?}, and the present epoch is {}: look again whether it is needed still",
            reign.epoch
        ));
    }
    if let Some(able) = reign.in_sync.intersection(there).next() {
        return Answer::Refused(format!(
            "{UNCLEAN_PROMOTE} is {value:?}, and broker {able} is there and has every acknowledged message: nothing need be lost"
        ));
    }
    if fenced.contains(&ordinal) {
        return refused_as_fenced(UNCLEAN_PROMOTE, value, ordinal);
    }
    Answer::Promote(ordinal, value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reign() -> Reign {
        let holder = super::super::reign::Process { pod: "a-broker-0".to_owned(), uid: "u".to_owned() };
        Reign { epoch: 4, holder: Some(holder), primary: Some(0), in_sync: [0, 1].into(), ..Reign::default() }
    }

    fn group(key: &str, value: &str) -> BrokerGroup {
        let yaml = format!(
            "metadata: {{name: a, annotations: {{{key}: '{value}'}}}}\n\
             spec: {{nameServerRef: {{name: x}}, storage: {{ephemeral: {{}}}}, fencedMembers: [3]}}"
        );
        serde_yaml::from_str(&yaml).expect("a BrokerGroup")
    }

    fn answer(key: &str, value: &str, ready: &[i32]) -> Answer {
        let ready = ready.iter().copied().collect();
        let (answers, handled) = answers(&group(key, value), 3, &reign(), &ready);
        let handled = handled.expect("something was handled");
        assert!([handled.switchover_to, handled.unclean_promote].contains(&Some(value.to_owned())));
        answers.into_iter().next().expect("an answer")
    }

    #[track_caller]
    fn refused(key: &str, value: &str, ready: &[i32], why: &str) {
        match answer(key, value, ready) {
            Answer::Refused(found) => assert!(found.contains(why), "{found}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_switchover_goes_to_a_member_in_sync() {
        assert_eq!(answer(SWITCHOVER_TO, "1@monday", &[]), Answer::HandOver(1));
        assert_eq!(answer(SWITCHOVER_TO, "0@monday", &[]), Answer::AlreadySo);
        refused(SWITCHOVER_TO, "2@monday", &[2], "broker 2 is not in sync");
        for odd in ["3@x", "1", "1@", "one@x"] {
            refused(SWITCHOVER_TO, odd, &[], "set <ordinal>@<id>");
        }
    }

    #[test]
    fn an_unclean_promotion_needs_the_present_epoch_and_nobody_who_has_everything() {
        assert_eq!(answer(UNCLEAN_PROMOTE, "2@4", &[2]), Answer::Promote(2, "2@4".to_owned()));
        refused(UNCLEAN_PROMOTE, "2@3", &[2], "the present epoch is 4");
        refused(UNCLEAN_PROMOTE, "2@4", &[1, 2], "broker 1 is there and has every acknowledged message");
        refused(UNCLEAN_PROMOTE, "2@now", &[2], "set <ordinal>@<epoch>");

        let promoted = Reign { in_sync: [2].into(), promoted_by: Some("2@4".to_owned()), ..reign() };
        let (answers, _) = answers(&group(UNCLEAN_PROMOTE, "2@4"), 3, &promoted, &BTreeSet::from([2]));
        assert_eq!(answers, [Answer::AlreadySo], "an operator that was killed asks again");
    }

    #[test]
    fn who_is_fenced_is_not_made_primary() {
        for key in [SWITCHOVER_TO, UNCLEAN_PROMOTE] {
            let (answers, _) = answers(&group(key, "3@4"), 4, &reign(), &BTreeSet::new());
            assert!(matches!(&answers[..], [Answer::Refused(why)] if why.contains("broker 3 is fenced")));
        }
    }

    #[test]
    fn what_was_seen_to_is_not_done_again() {
        let mut group = group(SWITCHOVER_TO, "1@monday");
        let (_, handled) = answers(&group, 3, &reign(), &BTreeSet::new());
        group.status.get_or_insert_default().last_handled = handled.clone();
        assert_eq!(answers(&group, 3, &reign(), &BTreeSet::new()), (Vec::new(), handled));
        group.metadata.annotations = None;
        assert_eq!(answers(&group, 3, &reign(), &BTreeSet::new()).0, Vec::new());
    }
}
