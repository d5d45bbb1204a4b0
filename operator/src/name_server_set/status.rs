//! What the status of a NameServerSet says, from what was seen. Pure.

use std::collections::BTreeSet;

use crds::{NameServerSet, NameServerSetEffective, NameServerSetStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{
    observe::{Observed, Routes},
    validate::Validated,
};
use crate::{
    conditions::{self, Finding, Reason, Type},
    identity::CLIENT_PORT,
    pods::rollout::Rollout,
    progress,
};

/// The status.
pub fn status(
    set: &NameServerSet,
    validated: &Validated,
    observed: &Observed,
    routes: &Routes,
    refused: Option<&str>,
    now: Timestamp,
) -> NameServerSetStatus {
    let identity = &validated.identity;
    let old = set.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let pods: Vec<&Pod> = observed.pods.iter().map(|pod| &**pod).collect();
    let rollout = Rollout::of(validated.replicas, observed.stateful_set.as_deref(), &pods);

    let mut findings = vec![ready(&rollout, routes, conditions::holds(old, Type::Ready))];
    findings.extend(progress::findings(&rollout, None, old, refused, now));
    if set.metadata.deletion_timestamp.is_some() {
        findings.retain(|finding| finding.type_ != Type::Stalled);
        findings.push(blocked(observed));
    }
    findings.push(validated.knobs.finding());
    findings.extend(consistent(&rollout, routes));

    let registered: BTreeSet<&String> = routes.registered.values().flatten().collect();
    NameServerSetStatus {
        observed_generation: set.metadata.generation,
        replicas: rollout.existing,
        ready_replicas: rollout.ready,
        selector: Some(identity.selector_text()),
        address: Some(format!("{}.{}.svc:{CLIENT_PORT}", identity.base(), identity.namespace)),
        registered_groups: i32::try_from(registered.len()).unwrap_or(i32::MAX),
        effective: Some(NameServerSetEffective { image: validated.image.reference.clone() }),
        conditions: conditions::conditions(old, findings, set.metadata.generation, now),
    }
}

/// Whether nothing is under way that would not tell of itself.
pub fn is_settled(status: &NameServerSetStatus) -> bool {
    conditions::holds(&status.conditions, Type::Ready)
        && conditions::holds(&status.conditions, Type::RoutesConsistent)
        && !conditions::holds(&status.conditions, Type::Reconciling)
}

/// All must answer at first. Later one may be away: that is how a roll and a lost node look, and clients feel neither.
fn ready(rollout: &Rollout, routes: &Routes, was_ready: bool) -> Finding {
    let Rollout { wanted, ready, .. } = rollout;
    let enough = if was_ready { (wanted - 1).max(1) } else { *wanted };
    if *ready >= enough {
        return Finding::yes(
            Type::Ready,
            Reason::Serving,
            format!("{ready} of {wanted} name servers answer"),
        );
    }
    if !routes.missing.is_empty() {
        let missing: Vec<&str> = routes.missing.iter().map(String::as_str).collect();
        let message = format!("waiting for broker groups to register: {}", missing.join(", "));
        return Finding::no(Type::Ready, Reason::Warming, message);
    }
    Finding::no(Type::Ready, Reason::NotEnoughReady, format!("{ready} of {wanted} name servers answer"))
}

fn blocked(observed: &Observed) -> Finding {
    let names: Vec<&str> = observed.groups.iter().map(|group| group.name.as_str()).collect();
    let message = format!(
        "deletion waits for the BrokerGroups that refer to this NameServerSet: delete {} first",
        names.join(", ")
    );
    Finding::yes(Type::Stalled, Reason::DeletionBlocked, message)
}

/// Nothing where no name server could be asked.
fn consistent(rollout: &Rollout, routes: &Routes) -> Option<Finding> {
    let mut all = routes.registered.values();
    let first = all.next()?;
    if all.all(|other| other == first) {
        let message = format!(
            "{} of {} name servers asked give the same routes",
            routes.registered.len(),
            rollout.wanted
        );
        return Some(Finding::yes(Type::RoutesConsistent, Reason::Consistent, message));
    }
    let union: BTreeSet<&String> = routes.registered.values().flatten().collect();
    let lacking = routes.registered.iter().filter_map(|(pod, has)| {
        let lacks: Vec<&str> =
            union.iter().filter(|path| !has.contains(**path)).map(|path| path.as_str()).collect();
        (!lacks.is_empty()).then(|| format!("{pod} lacks {}", lacks.join(", ")))
    });
    let message = format!(
        "name servers differ: {}; if it stays so, see whether these brokers reach that pod's port 9878",
        lacking.collect::<Vec<_>>().join("; ")
    );
    Some(Finding::no(Type::RoutesConsistent, Reason::Differing, message))
}
