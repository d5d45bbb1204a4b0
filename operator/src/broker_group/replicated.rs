//! What the status of a group of several brokers says beside that of one: who is primary, who is in sync, and whether that is well. Pure.

use std::collections::BTreeSet;

use crds::{BrokerGroup, BrokerGroupStatus, EffectiveReplication, Failovers, LastFailover, MemberRole};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};
use kube::ResourceExt as _;

use super::{failover, observe::Observed, reign::Reign, requests::UNCLEAN_PROMOTE, validate::Validated};
use crate::{
    conditions::{self, Finding, Reason, Type},
    pods,
};

#[cfg(test)]
mod tests;

/// After so long without a primary it is said that none comes by itself.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// Puts into the status who is primary, and who may be next.
pub(super) fn fill(
    status: &mut BrokerGroupStatus,
    before: &BrokerGroupStatus,
    group: &Validated,
    reign: &Reign,
    now: Timestamp,
) {
    let pod = |ordinal: i32| group.identity.member(ordinal);
    status.epoch = Some(reign.epoch);
    status.in_sync = reign.in_sync.iter().copied().map(pod).collect();
    status.in_sync_replicas = i32::try_from(reign.in_sync.len()).ok();
    status.primary = reign.primary.filter(|_| reign.epoch > 0).map(pod);
    status.failovers = Some(failover::counted(before.failovers.as_ref(), reign, now));
    status.last_failover = before.last_failover.clone();
    let former = before.epoch.filter(|epoch| (1..reign.epoch).contains(epoch)).and(before.primary.clone());
    if let (Some(from), Some(to)) = (former, status.primary.clone()) {
        let at = now.round(jiff::Unit::Second).unwrap_or(now).to_string();
        status.last_failover = Some(LastFailover { at, from, to, epoch: reign.epoch });
    }
}

/// What a member is to the group.
pub(super) fn role(ordinal: i32, pod: Option<&Pod>, observed: &Observed) -> MemberRole {
    let reigning = observed.reigning().and_then(pods::ordinal);
    match pod {
        Some(_) if reigning == Some(ordinal) => MemberRole::Primary,
        Some(pod) if pods::is_ready(pod) => MemberRole::Replica,
        Some(_) | None => MemberRole::Unknown,
    }
}

/// What is to be said of a group that has no primary to ask; nothing where it has one.
pub(super) fn no_primary(group: &Validated, observed: &Observed) -> Option<Finding> {
    let no = |reason, message: String| Some(Finding::no(Type::Ready, reason, message));
    let Some(reign) = &observed.reign else {
        return no(Reason::Starting, format!("the Lease {} is not there yet", group.identity.base()));
    };
    if observed.reigning().is_some() {
        return None;
    }
    if reign.epoch == 0 {
        return no(Reason::Starting, "no broker has become primary yet".to_owned());
    }
    let able = names(reign.in_sync.difference(&group.fenced));
    no(
        Reason::NoPrimary,
        format!("no broker is primary: the next will be one of those in sync, which are {able}"),
    )
}

/// Why nobody takes the place of a primary that is lost, where somebody wants it so.
pub(super) fn kept_back(
    group: &Validated,
    observed: &Observed,
    failovers: Option<&Failovers>,
    now: Timestamp,
) -> Option<(Reason, String)> {
    if group.replication.is_none() || group.hibernates {
        return None;
    }
    failover::kept_back(&group.fenced, observed, held(group, failovers, now))
}

/// Stalled, where nobody takes the primary's place, or would; a person decides.
pub(super) fn failover_stalled(
    group: &Validated,
    observed: &Observed,
    failovers: Option<&Failovers>,
    now: Timestamp,
) -> Option<Finding> {
    if group.replication.is_none() || group.hibernates {
        return None;
    }
    let kept_back = kept_back(group, observed, failovers, now);
    failover::stalled(&group.failover, kept_back, held(group, failovers, now))
}

fn held(group: &Validated, failovers: Option<&Failovers>, now: Timestamp) -> Option<failover::Held> {
    failover::held(&group.failover, failovers?, now)
}

/// Whether fewer are in sync than must be.
pub(super) fn too_few(replication: &EffectiveReplication, reign: &Reign) -> Option<Finding> {
    let consequence = below_min_in_sync(replication, reign)?;
    let message = format!(
        "{} brokers are in sync and {} must be, {consequence}",
        reign.in_sync.len(),
        replication.min_in_sync
    );
    Some(Finding::no(Type::Ready, Reason::InsufficientReplicas, message))
}

/// What it means that fewer are in sync than must be; nothing where enough are.
fn below_min_in_sync(replication: &EffectiveReplication, reign: &Reign) -> Option<String> {
    let in_sync = i32::try_from(reign.in_sync.len()).unwrap_or(i32::MAX);
    let now = reign.min_in_sync(replication.min_in_sync);
    if in_sync >= replication.min_in_sync {
        None
    } else if in_sync >= now {
        Some(format!("so sends still go on with {now} of them until the others have everything"))
    } else {
        Some("so sends are refused: see status.members, or lower replication.minInSync".to_owned())
    }
}

/// The condition ReplicationHealthy; nothing before the first primary.
pub(super) fn health(group: &Validated, reign: &Reign) -> Option<Finding> {
    let replication = group.replication.as_ref()?;
    if reign.epoch == 0 {
        return None;
    }
    let out: BTreeSet<i32> = (0..group.replicas).filter(|ordinal| !reign.in_sync.contains(ordinal)).collect();
    let no = |reason, message| Some(Finding::no(Type::ReplicationHealthy, reason, message));
    let lost = format!("not in sync: broker {}", names(out.iter()));
    if let Some(consequence) = below_min_in_sync(replication, reign) {
        no(
            Reason::BelowMinInSync,
            format!("{lost}; fewer are than replication.minInSync asks, {consequence}"),
        )
    } else if out.is_empty() {
        Some(Finding::yes(
            Type::ReplicationHealthy,
            Reason::AllInSync,
            "every broker has what is acknowledged",
        ))
    } else {
        no(Reason::MemberLost, format!("{lost}; see the pods' events and logs"))
    }
}

/// Stalled, where no broker that has every acknowledged message is there to be primary. A person decides then.
pub(super) fn quorum_lost(observed: &Observed, old: &[Condition], now: Timestamp) -> Option<Finding> {
    let reign = observed.reign.as_ref().filter(|reign| reign.epoch > 0)?;
    let ready = observed.ready();
    let since =
        conditions::of(old, Type::Ready).filter(|ready| ready.status == "False")?.last_transition_time.0;
    let is_lost = reign.in_sync.is_disjoint(&ready) && now.duration_since(since) > PATIENCE;
    is_lost.then(|| {
        let message = format!(
            "no broker that has every acknowledged message is there: they are on the volume of broker {}; bring that back, or give up what it alone has by the annotation {UNCLEAN_PROMOTE}: \"<ordinal>@{}\"",
            names(reign.in_sync.iter()),
            reign.epoch
        );
        Finding::yes(Type::Stalled, Reason::QuorumLost, message)
    })
}

/// The condition DataLossPossible: from an unclean promotion on, as long as the annotation that asked for it stands.
pub(super) fn data_loss(resource: &BrokerGroup, observed: &Observed, promoted: bool) -> Option<Finding> {
    let asked = resource.annotations().get(UNCLEAN_PROMOTE)?;
    // An operator that was killed once it was granted remembers nothing of it, and the Lease does.
    let recorded = observed.reign.as_ref().is_some_and(|reign| reign.promoted_by.as_ref() == Some(asked));
    let known = resource.status.clone().unwrap_or_default();
    let granted = conditions::holds(&known.conditions, Type::DataLossPossible);
    (promoted || recorded || granted).then(|| {
        let message = format!(
            "a broker was made primary by {UNCLEAN_PROMOTE}: {asked}, and may lack messages that were acknowledged: look, and then remove the annotation"
        );
        Finding::yes(Type::DataLossPossible, Reason::UncleanPromotion, message)
    })
}

fn names<'a>(ordinals: impl Iterator<Item = &'a i32>) -> String {
    ordinals.map(i32::to_string).collect::<Vec<_>>().join(", ")
}
