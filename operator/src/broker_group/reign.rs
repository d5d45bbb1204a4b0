//! What a group's Lease says: who is primary, since which epoch, and who may be next. Pure.
//!
//! Members change it by compare-and-swap (`docs/decisions/0012-replication.md`). The operator makes it, and afterwards
//! writes a wish, or what a person asked for.

use std::{collections::BTreeSet, hash::Hash};

use crds::BrokerGroupStatus;
use k8s_openapi::api::{
    coordination::v1::{Lease, LeaseSpec},
    core::v1::Pod,
};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::validate::{Validated, Volume};

/// The annotation with the members that have everything that is acknowledged: `0:5e3a…,2:77f0…`.
pub const IN_SYNC: &str = "mq.gantry.dev/in-sync";
/// The annotation with the ordinal of the primary of the epoch.
pub const PRIMARY: &str = "mq.gantry.dev/primary";
/// The annotation with the ordinal that should be primary next.
pub const WISHED_PRIMARY: &str = "mq.gantry.dev/wished-primary";

/// The annotation with the members that must not be primary: `1,2`.
pub const FENCED: &str = "mq.gantry.dev/fenced";
/// The annotation that is `held` while nobody takes the place of a primary that is lost, but the wished one.
pub const FAILOVER: &str = "mq.gantry.dev/failover";
/// The annotation with how many must be in sync: with fewer, sends are refused.
pub const MIN_IN_SYNC: &str = "mq.gantry.dev/min-in-sync";
/// The annotation that counts how often that happened. Members write it.
pub const FAILOVERS: &str = "mq.gantry.dev/failovers";
const HELD: &str = "held";
/// The annotation with the request by which a person last let a member be primary that may lack messages. It is there as soon as
/// that is done, so that an operator which is killed right then still tells of it.
pub const PROMOTED_BY: &str = "mq.gantry.dev/promoted-by";

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reign {
    /// How often a primary has been made; 0: never.
    pub epoch: i64,
    /// The primary's process; nothing once it is released.
    pub holder: Option<Process>,
    /// The primary of the epoch, as recorded.
    pub primary: Option<i32>,
    /// Members that have everything that is acknowledged.
    pub in_sync: BTreeSet<i32>,
    /// The member that should be primary next.
    pub wished: Option<i32>,
    /// What the operator bids members.
    pub bounds: Bounds,
    /// How often a member took the place of one that was.
    pub failovers: i64,
    /// The request by which one was let be primary that may lack messages.
    pub promoted_by: Option<String>,
}

/// What members obey while they run. They keep it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Members that must not be primary.
    pub fenced: BTreeSet<i32>,
    /// Whether nobody takes the place of a primary that is lost.
    pub held: bool,
    /// With fewer in sync, sends are refused. Nothing: as members have it by themselves.
    pub min_in_sync: Option<i32>,
}

/// One life of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Name of the pod.
    pub pod: String,
    /// Its uid.
    pub uid: String,
}

impl Reign {
    /// Reads a Lease. What is not as it should be counts as not said.
    pub fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let note = |key: &str| lease.annotations().get(key).map(|text| text.trim());
        let holder = spec.holder_identity.as_deref().and_then(|holder| holder.split_once('/'));
        let holder = holder.map(|(pod, uid)| Process { pod: pod.to_owned(), uid: uid.to_owned() });
        let recorded = note(PRIMARY).and_then(|text| text.parse().ok());
        let primary = recorded.or_else(|| holder.as_ref().and_then(|holder| ordinal_in(&holder.pod)));
        let members = note(IN_SYNC).unwrap_or_default().split(',');
        let fenced = note(FENCED).unwrap_or_default().split(',');
        Self {
            epoch: i64::from(spec.lease_transitions.unwrap_or_default()),
            primary,
            holder,
            in_sync: members.filter_map(|member| member.split(':').next()?.trim().parse().ok()).collect(),
            wished: note(WISHED_PRIMARY).and_then(|text| text.parse().ok()),
            bounds: Bounds {
                fenced: fenced.filter_map(|member| member.trim().parse().ok()).collect(),
                held: note(FAILOVER) == Some(HELD),
                min_in_sync: note(MIN_IN_SYNC).and_then(|text| text.parse().ok()),
            },
            failovers: note(FAILOVERS).and_then(|text| text.parse().ok()).unwrap_or_default(),
            promoted_by: note(PROMOTED_BY).map(str::to_owned),
        }
    }

    /// How many must be in sync now where `wanted` are to be. More than before only once they are there: nobody's sends are to wait for
    /// copies that are still on their way. Fewer at once: that is how a group that lost members is helped.
    pub fn min_in_sync(&self, wanted: i32) -> i32 {
        let in_sync = i32::try_from(self.in_sync.len()).unwrap_or(i32::MAX);
        self.bounds.min_in_sync.map_or(wanted, |now| wanted.min(now.max(in_sync)))
    }

    /// Whether this life of the pod is the primary.
    pub fn is_held_by(&self, pod: &Pod) -> bool {
        let uid = pod.uid().unwrap_or_default();
        self.holder.as_ref().is_some_and(|holder| holder.pod == pod.name_any() && holder.uid == uid)
    }
}

/// The number at the end of a pod's name.
fn ordinal_in(pod: &str) -> Option<i32> {
    pod.rsplit_once('-')?.1.parse().ok()
}

/// What of a Lease matters to the operator: not that it was renewed, which happens every few seconds.
pub fn look(lease: &Lease) -> impl Hash + use<> {
    let spec = lease.spec.as_ref();
    let notes = [IN_SYNC, PRIMARY, WISHED_PRIMARY, FENCED, FAILOVER, MIN_IN_SYNC, FAILOVERS]
        .map(|key| lease.annotations().get(key).cloned());
    (
        lease.uid(),
        lease.metadata.deletion_timestamp.is_some(),
        spec.and_then(|spec| spec.holder_identity.clone()),
        spec.and_then(|spec| spec.lease_transitions),
        notes,
    )
}

/// The Lease of a group that has none: a new one lets member 0 be primary, and one that is made again keeps what is known.
pub fn lease(group: &Validated, known: &BrokerGroupStatus) -> Lease {
    let epoch = known.epoch.unwrap_or_default();
    let in_sync: Vec<String> =
        known.in_sync.iter().filter_map(|pod| Some(ordinal_in(pod)?.to_string())).collect();
    let in_sync = if epoch == 0 || in_sync.is_empty() { "0".to_owned() } else { in_sync.join(",") };
    let mut metadata = group.identity.metadata(group.identity.base());
    let fenced = fence(&group.fenced).filter(|_| epoch > 0).map(|fenced| (FENCED.to_owned(), fenced));
    // Who served alone goes on with the asked durability once others have what it has.
    let served_alone = epoch == 0 && known.first_served_at.is_some();
    let min_in_sync = group.replication.as_ref().map(|it| if served_alone { 1 } else { it.min_in_sync });
    let min_in_sync = min_in_sync.map(|least| (MIN_IN_SYNC.to_owned(), least.to_string()));
    let notes = [(IN_SYNC.to_owned(), in_sync)].into_iter().chain(fenced).chain(min_in_sync);
    metadata.annotations = Some(notes.collect());
    if outlives_the_group(group) {
        metadata.owner_references = None;
    }
    Lease {
        metadata,
        spec: Some(LeaseSpec {
            lease_duration_seconds: group.replication.as_ref().map(|it| it.lease_duration_seconds),
            lease_transitions: Some(i32::try_from(epoch).unwrap_or(i32::MAX)),
            ..LeaseSpec::default()
        }),
    }
}

/// Whether the volumes stay when the group goes. Then the Lease stays with them: without it nobody could tell which of them are
/// complete when a group of the same name takes them up again.
fn outlives_the_group(group: &Validated) -> bool {
    matches!(group.volume, Volume::Claim { on_delete: crds::VolumePolicy::Retain, .. })
}

/// What must change in a live Lease so that it goes when the volumes go, and not before.
pub fn owners(group: &Validated, live: &Lease) -> Option<Value> {
    let wanted = if outlives_the_group(group) {
        None
    } else {
        group.identity.metadata(String::new()).owner_references
    };
    let present = live.metadata.owner_references.clone().filter(|owners| !owners.is_empty());
    let is_anothers = present.iter().flatten().any(|owner| owner.uid != group.identity.uid);
    (wanted != present && !is_anothers).then(|| json!({"metadata": {"ownerReferences": wanted}}))
}

/// The change that wishes a primary.
pub fn wish(ordinal: i32) -> Value {
    json!({"metadata": {"annotations": {WISHED_PRIMARY: ordinal.to_string()}}})
}

/// The change that takes back a wish which came true: another failover must not lead back there.
pub fn no_wish() -> Value {
    json!({"metadata": {"annotations": {WISHED_PRIMARY: null}}})
}

/// The change that lets this member alone be primary next, whatever its store holds, also where failover waits for a person; and by
/// which request.
pub fn only(ordinal: i32, request: &str) -> Value {
    let ordinal = ordinal.to_string();
    json!({"metadata": {"annotations": {IN_SYNC: ordinal, WISHED_PRIMARY: ordinal, PROMOTED_BY: request}}})
}

/// The change that bids members this.
pub fn bid(bounds: &Bounds) -> Value {
    let Bounds { fenced, held, min_in_sync } = bounds;
    let min_in_sync = min_in_sync.map(|least| least.to_string());
    json!({"metadata": {"annotations": {
        FENCED: fence(fenced), FAILOVER: held.then_some(HELD), MIN_IN_SYNC: min_in_sync,
    }}})
}

fn fence(fenced: &BTreeSet<i32>) -> Option<String> {
    (!fenced.is_empty()).then(|| fenced.iter().map(i32::to_string).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher as _};

    use super::*;

    fn lease(yaml: &str) -> Lease {
        serde_yaml::from_str(yaml).expect("a Lease")
    }

    const FOURTH: &str = "metadata:\n  name: a-broker\n  annotations: {mq.gantry.dev/in-sync: '0:5e3a,2:77f0', \
         mq.gantry.dev/primary: '2', mq.gantry.dev/wished-primary: '0'}\n\
         spec: {holderIdentity: a-broker-2/u2, leaseTransitions: 4, renewTime: '2026-01-01T00:00:00.000000Z'}";

    #[test]
    fn a_lease_says_who_reigns_and_who_may_be_next() {
        let reign = Reign::of(&lease(FOURTH));
        let holder = Process { pod: "a-broker-2".to_owned(), uid: "u2".to_owned() };
        let expected = Reign {
            epoch: 4,
            holder: Some(holder),
            primary: Some(2),
            in_sync: [0, 2].into(),
            wished: Some(0),
            ..Reign::default()
        };
        assert_eq!(reign, expected);
        let pod = |uid: &str| -> Pod {
            serde_yaml::from_str(&format!("metadata: {{name: a-broker-2, uid: {uid}}}")).expect("a Pod")
        };
        assert!(reign.is_held_by(&pod("u2")));
        assert!(!reign.is_held_by(&pod("u3")), "a pod that was made anew is another process");
    }

    #[test]
    fn what_members_have_to_obey_is_read_as_it_is_written() {
        let mut live = lease(FOURTH);
        let bounds = Bounds { fenced: [1, 2].into(), held: true, min_in_sync: Some(2) };
        let change = bid(&bounds);
        for (key, value) in change["metadata"]["annotations"].as_object().expect("annotations") {
            let value = value.as_str().expect("a text").to_owned();
            live.annotations_mut().insert(key.clone(), value);
        }
        live.annotations_mut().insert(FAILOVERS.to_owned(), "3".to_owned());
        let reign = Reign::of(&live);
        assert_eq!((reign.bounds, reign.failovers), (bounds, 3));
        assert_eq!(
            only(2, "2@1")["metadata"]["annotations"][WISHED_PRIMARY],
            "2",
            "it stands though failover is held"
        );
        let none = &bid(&Bounds::default())["metadata"]["annotations"];
        assert_eq!(*none, json!({FENCED: null, FAILOVER: null, MIN_IN_SYNC: null}));
    }

    #[test]
    fn more_must_be_in_sync_once_they_are_and_fewer_at_once() {
        let check = |now: Option<i32>, in_sync: i32, wanted: i32, expected: i32| {
            let bounds = Bounds { min_in_sync: now, ..Bounds::default() };
            let reign = Reign { in_sync: (0..in_sync).collect(), bounds, ..Reign::default() };
            assert_eq!(reign.min_in_sync(wanted), expected, "{now:?}, {in_sync} in sync, {wanted} wanted");
        };
        check(None, 1, 2, 2);
        check(Some(1), 1, 2, 1);
        check(Some(1), 2, 2, 2);
        check(Some(1), 2, 3, 2);
        check(Some(2), 1, 3, 2);
        check(Some(2), 1, 1, 1);
        check(Some(3), 1, 2, 2);
    }

    #[test]
    fn what_a_lease_does_not_say_is_nothing() {
        let fresh = lease(
            "metadata: {name: a, annotations: {mq.gantry.dev/in-sync: '0'}}\nspec: {leaseTransitions: 0}",
        );
        assert_eq!(Reign::of(&fresh), Reign { in_sync: [0].into(), ..Reign::default() });
        let odd = lease(
            "metadata: {name: a, annotations: {mq.gantry.dev/in-sync: 'x,,1:', mq.gantry.dev/primary: x}}\n\
             spec: {holderIdentity: ''}",
        );
        assert_eq!(Reign::of(&odd), Reign { in_sync: [1].into(), ..Reign::default() });
    }

    #[test]
    fn a_renewal_is_no_news_and_everything_else_is() {
        let hash = |text: &str| {
            let mut hasher = DefaultHasher::new();
            look(&lease(text)).hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(FOURTH), hash(&FOURTH.replace("00:00:00", "00:00:02")));
        for (old, new) in [
            ("u2", "u3"),
            ("leaseTransitions: 4", "leaseTransitions: 5"),
            (",2:77f0", ""),
            ("primary: '0'", "primary: '1'"),
            ("mq.gantry.dev/primary: '2'", "mq.gantry.dev/primary: '2', mq.gantry.dev/fenced: '1'"),
            ("mq.gantry.dev/primary: '2'", "mq.gantry.dev/primary: '2', mq.gantry.dev/failover: held"),
            ("mq.gantry.dev/primary: '2'", "mq.gantry.dev/primary: '2', mq.gantry.dev/min-in-sync: '1'"),
        ] {
            assert_ne!(hash(FOURTH), hash(&FOURTH.replace(old, new)), "{old}");
        }
    }
}
