//! What the status of a BrokerGroup says, from what was seen. Pure.

use crds::{
    BrokerGroup, BrokerGroupEffective, BrokerGroupMember, BrokerGroupStatus, CertificateStatus, Endpoint,
    Failovers, INTERNAL, MemberRole,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use proto::control::GetStateResponse;

use super::{
    apply::Outcome,
    desired::Advertised,
    drain,
    observe::{Brokers, Observed},
    replicated, storage,
    validate::{Invalid, Validated, Volume},
};
use crate::{
    certificates,
    conditions::{self, Finding, Reason, Type},
    identity::CLIENT_PORT,
    listeners,
    pods::{self, pinned::MadeFrom, rollout::Rollout},
    progress,
};

/// The status.
pub fn status(
    group: &BrokerGroup,
    validated: Result<&Validated, &Invalid>,
    observed: &Observed,
    brokers: &Brokers,
    outcome: &Outcome,
    now: Timestamp,
) -> BrokerGroupStatus {
    let before = group.status.clone().unwrap_or_default();
    let old = before.conditions.as_slice();
    let pods: Vec<&Pod> = observed.pods.iter().map(|pod| &**pod).collect();
    let wanted = validated.map_or_else(|_| 0, Validated::pods);
    let rollout = Rollout::of(wanted, observed.stateful_set.as_deref(), &pods, observed.lacking_for);

    let generation = group.metadata.generation;
    let mut status = BrokerGroupStatus {
        observed_generation: generation,
        replicas: rollout.existing,
        ready_replicas: rollout.ready,
        updated_replicas: rollout.updated,
        broker_name: Some(super::broker_name(group)),
        first_served_at: before.first_served_at.clone(),
        last_handled: before.last_handled.clone(),
        ..BrokerGroupStatus::default()
    };
    let findings = match validated {
        Err(invalid) => vec![
            Finding::no(Type::Ready, invalid.reason(), invalid.to_string()),
            Finding::up_to_date(),
            Finding::yes(Type::Stalled, invalid.reason(), invalid.to_string()),
        ],
        Ok(validated) => {
            let served = before.first_served_at.is_some();
            let serving = primaries(validated, observed)
                .find(|pod| serves(pod, brokers) && (served || is_known(pod, observed, brokers)));
            status.selector = Some(validated.identity.selector_text());
            status.primary = serving.map(ResourceExt::name_any);
            match observed.reign.as_ref().filter(|_| validated.replication.is_some()) {
                Some(reign) => {
                    let handled = outcome.steered.handled.clone();
                    status.last_handled = handled.or_else(|| before.last_handled.clone());
                    replicated::fill(&mut status, &before, validated, reign, now);
                }
                // Should the Lease have to be made again, it begins where it ended.
                None if validated.replication.is_some() => {
                    status.epoch = before.epoch;
                    status.in_sync = before.in_sync.clone();
                    status.in_sync_replicas = before.in_sync_replicas;
                    status.last_failover = before.last_failover.clone();
                    status.failovers = before.failovers.clone();
                }
                None => {}
            }
            status.members = members(validated, observed, brokers, outcome);
            status.endpoints = match outcome.advertised {
                Some(_) => endpoints(outcome, &pods),
                // Nothing was written, so it is as it was.
                None => before.endpoints.clone(),
            };
            status.certificates = certificate_of(validated, brokers, &before, now).0;
            status.effective = Some(effective(validated, outcome.made_from.as_ref()));
            let waits_for = outcome.steered.waits_for.clone().map(|(_, what)| what);
            let set = observed.stateful_set.as_deref().filter(|_| !validated.hibernates);
            status.rollout = progress::rollout(&rollout, set, waits_for).or(before.rollout.clone());
            if serving.is_some() && status.first_served_at.is_none() {
                status.first_served_at = Some(now.round(jiff::Unit::Second).unwrap_or(now).to_string());
            }
            let failovers = status.failovers.as_ref();
            let mut findings =
                findings(validated, observed, brokers, outcome, &rollout, (&before, failovers), now);
            findings.extend(replicated::data_loss(group, observed, outcome.steered.promoted));
            findings
        }
    };
    status.conditions = conditions::conditions(old, findings, generation, now);
    status
}

/// Whether nothing is under way that would not tell of itself.
pub fn is_settled(status: &BrokerGroupStatus) -> bool {
    let is_as_asked = conditions::of(&status.conditions, Type::Ready)
        .is_some_and(|ready| ready.status == "True" || ready.reason == Reason::Hibernated.as_str());
    is_as_asked && !conditions::holds(&status.conditions, Type::Reconciling)
}

fn findings(
    group: &Validated,
    observed: &Observed,
    brokers: &Brokers,
    outcome: &Outcome,
    rollout: &Rollout,
    (before, failovers): (&BrokerGroupStatus, Option<&Failovers>),
    now: Timestamp,
) -> Vec<Finding> {
    let old = before.conditions.as_slice();
    let waits_for = outcome.steered.waits_for.clone();
    let [mut reconciling, mut stalled] =
        progress::findings(rollout, waits_for, &group.update, old, outcome.refused.as_deref(), now);
    if let Some(lost) = replicated::quorum_lost(observed, old, now)
        .filter(|_| group.replication.is_some() && !group.hibernates)
    {
        stalled = lost;
    }
    // Who is kept back has everything that is acknowledged, however long that lasts.
    let kept_back = replicated::kept_back(group, observed, failovers, now);
    let fails_over = replicated::failover_stalled(group, observed, failovers, now);
    if let Some(waits) = fails_over.filter(|_| kept_back.is_some() || !stalled.holds) {
        stalled = waits;
    }
    let storage =
        storage::finding(group, observed, brokers, outcome, conditions::of(old, Type::StorageHealthy));
    if let Some(resizing) = storage.as_ref().filter(|storage| storage.reason == Reason::ResizePending)
        && !reconciling.holds
    {
        reconciling = Finding::yes(Type::Reconciling, Reason::Resizing, resizing.message.clone());
    }
    let drains = outcome.left.as_ref().map(drain::findings);
    if let Some([_, draining]) = &drains
        && !reconciling.holds
    {
        reconciling = draining.clone();
    }
    let ready = ready(group, observed, brokers, before);
    // What is known better than that the primary does not answer.
    let ready = match kept_back {
        Some((reason, message)) if !ready.holds => {
            let reason = if reason == Reason::Fenced { reason } else { Reason::NoPrimary };
            Finding::no(Type::Ready, reason, message)
        }
        _ => ready,
    };
    let mut findings = vec![ready, reconciling, stalled, group.knobs.finding()];
    findings.extend(storage);
    findings.extend(drains.map(|[drained, _]| drained));
    findings.extend(certificate_of(group, brokers, before, now).1);
    let reign = observed.reign.as_ref().filter(|_| !group.hibernates);
    findings.extend(reign.and_then(|reign| replicated::health(group, reign)));
    findings
}

/// The pods that may take messages: any, or of several only the one that is primary.
fn primaries<'a>(group: &Validated, observed: &'a Observed) -> impl Iterator<Item = &'a Pod> + use<'a> {
    let replicates = group.replication.is_some();
    let reigning = observed.reigning().filter(|_| replicates);
    let any = observed.pods.iter().map(|pod| &**pod).filter(move |_| !replicates);
    reigning.into_iter().chain(any)
}

/// Whether the broker takes messages. A broker that kubelet finds ready and that cannot be asked counts as one that does.
fn serves(pod: &Pod, brokers: &Brokers) -> bool {
    let state = pods::ordinal(pod).and_then(|ordinal| brokers.get(&ordinal));
    pods::is_ready(pod) && !matches!(state, Some(Ok(state)) if !state.accepts_writes)
}

/// Whether every name server that clients are led to has heard of the broker. It takes seconds until a broker sees a name
/// server that is new, and a client that asks that one would be told that there is no such topic.
fn is_known(pod: &Pod, observed: &Observed, brokers: &Brokers) -> bool {
    let state = pods::ordinal(pod).and_then(|ordinal| brokers.get(&ordinal));
    !matches!(state, Some(Ok(state)) if state.name_servers.len() < observed.name_servers)
}

fn ready(group: &Validated, observed: &Observed, brokers: &Brokers, before: &BrokerGroupStatus) -> Finding {
    let no = |reason, message: String| Finding::no(Type::Ready, reason, message);
    if group.hibernates {
        let message = "it sleeps and its volumes stay: set spec.hibernate to false to wake it";
        return no(Reason::Hibernated, message.to_owned());
    }
    if let Some(none) = replicated::no_primary(group, observed).filter(|_| group.replication.is_some()) {
        return none;
    }
    let too_few = || replicated::too_few(group.replication.as_ref()?, observed.reign.as_ref()?);
    if let Some(pod) = primaries(group, observed).find(|pod| serves(pod, brokers)) {
        // A name server that comes later takes nothing away from a group that serves.
        if before.first_served_at.is_none() && !is_known(pod, observed, brokers) {
            let message = format!("not all {} name servers know the broker yet", observed.name_servers);
            return no(Reason::WaitingForNameServer, message);
        }
        if let Some(too_few) = too_few() {
            return too_few;
        }
        return Finding::yes(Type::Ready, Reason::Serving, format!("{} takes messages", pod.name_any()));
    }
    let Some(pod) = primaries(group, observed).next() else {
        return no(Reason::Starting, "the pod is not there yet".to_owned());
    };
    let state = pods::ordinal(pod).and_then(|ordinal| brokers.get(&ordinal));
    if let Some(Ok(state)) = state {
        if !state.accepts_writes && storage::is_full(state) {
            return no(Reason::StorageFull, format!("the broker refuses messages: {}", said(state)));
        }
        if state.name_servers.is_empty() {
            let what = if observed.has_name_servers {
                format!("the broker runs and is registered with no name server of {} yet", group.name_servers)
            } else {
                format!("there is no NameServerSet {} in this namespace: create it", group.name_servers)
            };
            return no(Reason::WaitingForNameServer, what);
        }
        if let Some(too_few) = too_few() {
            return too_few;
        }
        if !state.accepts_writes {
            return no(Reason::NoPrimary, format!("the broker refuses messages: {}", said(state)));
        }
    }
    no(Reason::Starting, format!("pod {} is not ready yet", pod.name_any()))
}

fn said(state: &GetStateResponse) -> &str {
    if state.reason.is_empty() { "it does not say why, see its log" } else { &state.reason }
}

fn members(
    group: &Validated,
    observed: &Observed,
    brokers: &Brokers,
    outcome: &Outcome,
) -> Vec<BrokerGroupMember> {
    let replicates = group.replication.is_some();
    let in_sync = |ordinal| observed.reign.as_ref().is_some_and(|reign| reign.in_sync.contains(&ordinal));
    (0..group.replicas)
        .map(|ordinal| {
            let pod = observed.pods.iter().find(|pod| pods::ordinal(pod) == Some(ordinal));
            let role = replicates.then(|| replicated::role(ordinal, pod.map(|pod| &**pod), observed));
            let state = match pod {
                None if group.hibernates => "Hibernated",
                None => "Missing",
                Some(_) if role == Some(MemberRole::Replica) && in_sync(ordinal) => "Following",
                Some(_) if role == Some(MemberRole::Replica) => "CatchingUp",
                Some(pod) if serves(pod, brokers) => "Serving",
                Some(pod) if pod.metadata.deletion_timestamp.is_some() => "Stopping",
                Some(pod) if pods::is_ready(pod) => "Refusing",
                Some(_) => "Starting",
            };
            let version = brokers
                .get(&ordinal)
                .and_then(|state| state.as_ref().ok())
                .map(|state| state.version.clone());
            BrokerGroupMember {
                ordinal,
                pod: group.identity.member(ordinal),
                state: state.to_owned(),
                role,
                fenced: replicates
                    && observed.reign.as_ref().is_some_and(|reign| reign.bounds.fenced.contains(&ordinal)),
                address: address(ordinal, role, observed, outcome),
                version: version.filter(|version| !version.is_empty()),
            }
        })
        .collect()
}

/// Where clients reach the member: only the primary, where there are several.
fn address(ordinal: i32, role: Option<MemberRole>, observed: &Observed, outcome: &Outcome) -> Option<String> {
    let epoch = observed.reign.as_ref().map_or(0, |reign| reign.epoch);
    let host = match role {
        None => outcome.addresses.get(&ordinal).map(String::as_str),
        Some(MemberRole::Primary) => outcome.advertised.as_ref().map(|hosts| hosts.of(epoch)),
        Some(MemberRole::Replica | MemberRole::Unknown) => None,
    };
    host.map(|host| format!("{host}:{CLIENT_PORT}"))
}

fn certificate_of(
    group: &Validated,
    brokers: &Brokers,
    before: &BrokerGroupStatus,
    now: Timestamp,
) -> (Vec<CertificateStatus>, Option<Finding>) {
    let answers = || brokers.values().filter_map(|state| state.as_ref().ok());
    let silent = answers().count() < usize::try_from(group.pods()).unwrap_or_default();
    let shown = answers().filter_map(|state| state.certificate.as_ref());
    let before = certificates::Before { certificates: &before.certificates, conditions: &before.conditions };
    certificates::judge(group.listeners.secret.as_deref(), shown, silent, before, now)
}

/// Where clients reach each listener.
fn endpoints(outcome: &Outcome, pods: &[&Pod]) -> Vec<Endpoint> {
    let at = |host: &String| format!("{host}:{CLIENT_PORT}");
    let internal = outcome.advertised.as_ref().map(|hosts| match hosts {
        Advertised::Member(only) => (at(only), vec![at(only)]),
        // Which of them routes name changes with each reign; both lead to whoever is primary.
        Advertised::Primary(both) => (both.each_ref().map(at).join(";"), Vec::new()),
    });
    let internal = internal.map(|(bootstrap, members)| Endpoint {
        listener: INTERNAL.to_owned(),
        bootstrap: Some(bootstrap),
        members,
    });
    internal.into_iter().chain(listeners::member_endpoints(&outcome.told, pods)).collect()
}

fn effective(group: &Validated, made_from: Option<&MadeFrom>) -> BrokerGroupEffective {
    let image = made_from.and_then(MadeFrom::image).unwrap_or(&group.image.reference);
    BrokerGroupEffective {
        replicas: group.replicas,
        image: image.to_owned(),
        profile_version: made_from.map(|made| made.profile.clone()).unwrap_or_default(),
        flush: group.flush,
        volume_size: match &group.volume {
            Volume::Claim { size, .. } => Some(size.clone()),
            Volume::Ephemeral { .. } => None,
        },
        segment_size: group.segment_size.to_string(),
        retention_time: group.retention.time.clone(),
        retention_disk_percent: group.retention.disk_percent,
        retention_delete_at: group.retention.delete_at.clone(),
        retention_delete_early_percent: group.retention.delete_early_percent,
        retention_refuse_percent: group.retention.refuse_percent,
        retention_size: group.retention.size.map(|size| size.to_string()),
        replication: group.replication.clone(),
    }
}
