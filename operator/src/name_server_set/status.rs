//! What the status of a NameServerSet says, from what was seen. Pure.

use std::collections::BTreeSet;

use crds::{Endpoint, INTERNAL, NameServerSet, NameServerSetEffective, NameServerSetStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::{
    apply::Outcome,
    observe::{Observed, Routes},
    validate::Validated,
};
use crate::{
    certificates,
    conditions::{self, Finding, Reason, Type},
    identity::CLIENT_PORT,
    pods::{pinned::MadeFrom, rollout::Rollout},
    progress,
};

/// The status.
pub fn status(
    set: &NameServerSet,
    validated: &Validated,
    observed: &Observed,
    routes: &Routes,
    outcome: &Outcome,
    now: Timestamp,
) -> NameServerSetStatus {
    let identity = &validated.identity;
    let old = set.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let pods: Vec<&Pod> = observed.pods.iter().map(|pod| &**pod).collect();
    let rollout =
        Rollout::of(validated.replicas, observed.stateful_set.as_deref(), &pods, observed.lacking_for);

    let mut findings = vec![ready(&rollout, routes, conditions::holds(old, Type::Ready))];
    findings.extend(progress::findings(
        &rollout,
        outcome.waits_for.clone(),
        &validated.update,
        old,
        outcome.refused.as_deref(),
        now,
    ));
    if set.metadata.deletion_timestamp.is_some() {
        findings.retain(|finding| finding.type_ != Type::Stalled);
        findings.push(blocked(observed));
    }
    findings.push(validated.knobs.finding());
    let secret = validated.listeners.secret.as_deref();
    let silent = routes.answers < usize::try_from(validated.replicas).unwrap_or_default();
    let said = set.status.as_ref().map(|status| status.certificates.as_slice()).unwrap_or_default();
    let said = certificates::Before { certificates: said, conditions: old };
    let (certificates, valid) = certificates::judge(secret, routes.certificates.iter(), silent, said, now);
    findings.extend(valid);
    findings.extend(consistent(&rollout, routes));

    let made_from = outcome.made_from.as_ref();
    let image = made_from.and_then(MadeFrom::image).unwrap_or(&validated.image.reference);
    let profile_version = made_from.map(|made| made.profile.clone()).unwrap_or_default();
    let waits_for = outcome.waits_for.clone().map(|(_, what)| what);
    let before = set.status.as_ref().and_then(|status| status.rollout.clone());
    let address = format!("{}.{}.svc:{CLIENT_PORT}", identity.base(), identity.namespace);
    let internal =
        Endpoint { listener: INTERNAL.to_owned(), bootstrap: Some(address.clone()), members: Vec::new() };
    let service = |name: &str| outcome.services.iter().map(|it| &**it).find(|it| it.name_any() == name);
    let mut endpoints = vec![internal];
    endpoints.extend(validated.listeners.shared_endpoints(identity, &pods, service));
    if outcome.services.is_empty() {
        // Nothing was written, so it is as it was.
        endpoints = set.status.as_ref().map(|status| status.endpoints.clone()).unwrap_or_default();
    }
    let former = set.status.as_ref().and_then(|status| status.first_served_at.clone());
    let first_served_at = former
        .or_else(|| (rollout.ready > 0).then(|| now.round(jiff::Unit::Second).unwrap_or(now).to_string()));
    let registered: BTreeSet<&String> = routes.registered.values().flatten().collect();
    NameServerSetStatus {
        observed_generation: set.metadata.generation,
        replicas: rollout.existing,
        ready_replicas: rollout.ready,
        selector: Some(identity.selector_text()),
        address: Some(address),
        first_served_at,
        registered_groups: i32::try_from(registered.len()).unwrap_or(i32::MAX),
        rollout: progress::rollout(&rollout, observed.stateful_set.as_deref(), waits_for).or(before),
        endpoints,
        certificates,
        effective: Some(NameServerSetEffective { image: image.to_owned(), profile_version }),
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
