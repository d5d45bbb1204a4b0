//! What the status of a BrokerGroup says, from what was seen. Pure.

use crds::{BrokerGroup, BrokerGroupEffective, BrokerGroupMember, BrokerGroupStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use proto::control::GetStateResponse;

use super::{
    apply::Outcome,
    observe::{Brokers, Observed},
    storage,
    validate::{Invalid, Validated},
};
use crate::{
    conditions::{self, Finding, Reason, Type},
    identity::CLIENT_PORT,
    pods::{self, rollout::Rollout},
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
    let wanted = validated.map_or_else(|_| 0, |validated| validated.replicas);
    let rollout = Rollout::of(wanted, observed.stateful_set.as_deref(), &pods);

    let generation = group.metadata.generation;
    let mut status = BrokerGroupStatus {
        observed_generation: generation,
        replicas: rollout.existing,
        ready_replicas: rollout.ready,
        updated_replicas: rollout.updated,
        broker_name: Some(super::broker_name(group)),
        first_served_at: before.first_served_at.clone(),
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
            let serving =
                pods.iter().find(|pod| serves(pod, brokers) && (served || is_known(pod, observed, brokers)));
            status.selector = Some(validated.identity.selector_text());
            status.primary = serving.map(|pod| pod.name_any());
            status.members = members(validated, observed, brokers, outcome);
            status.effective = Some(effective(validated));
            if serving.is_some() && status.first_served_at.is_none() {
                status.first_served_at = Some(now.round(jiff::Unit::Second).unwrap_or(now).to_string());
            }
            findings(validated, observed, brokers, outcome, &rollout, &before, now)
        }
    };
    status.conditions = conditions::conditions(old, findings, generation, now);
    status
}

/// Whether nothing is under way that would not tell of itself.
pub fn is_settled(status: &BrokerGroupStatus) -> bool {
    conditions::holds(&status.conditions, Type::Ready)
        && !conditions::holds(&status.conditions, Type::Reconciling)
}

fn findings(
    group: &Validated,
    observed: &Observed,
    brokers: &Brokers,
    outcome: &Outcome,
    rollout: &Rollout,
    before: &BrokerGroupStatus,
    now: Timestamp,
) -> Vec<Finding> {
    let old = before.conditions.as_slice();
    let [mut reconciling, stalled] = progress::findings(rollout, old, outcome.refused.as_deref(), now);
    let storage =
        storage::finding(group, observed, brokers, outcome, conditions::of(old, Type::StorageHealthy));
    if let Some(resizing) = storage.as_ref().filter(|storage| storage.reason == Reason::ResizePending)
        && !reconciling.holds
    {
        reconciling = Finding::yes(Type::Reconciling, Reason::Resizing, resizing.message.clone());
    }
    let mut findings =
        vec![ready(group, observed, brokers, before), reconciling, stalled, group.knobs.finding()];
    findings.extend(storage);
    findings
}

/// Whether the broker takes messages. A broker that kubelet finds ready and that cannot be asked counts as one that does.
fn serves(pod: &Pod, brokers: &Brokers) -> bool {
    let state = pods::ordinal(pod).and_then(|ordinal| brokers.get(&ordinal));
    pods::is_ready(pod) && !matches!(state, Some(Ok(state)) if !state.accepts_writes)
}

/// Whether every name server that answers clients has heard of the broker. It takes seconds until a broker sees a name
/// server that is new, and a client that asks that one would be told that there is no such topic.
fn is_known(pod: &Pod, observed: &Observed, brokers: &Brokers) -> bool {
    let state = pods::ordinal(pod).and_then(|ordinal| brokers.get(&ordinal));
    !matches!(state, Some(Ok(state)) if state.name_servers.len() < observed.ready_name_servers)
}

fn ready(group: &Validated, observed: &Observed, brokers: &Brokers, before: &BrokerGroupStatus) -> Finding {
    let no = |reason, message: String| Finding::no(Type::Ready, reason, message);
    if let Some(pod) = observed.pods.iter().find(|pod| serves(pod, brokers)) {
        // A name server that comes later takes nothing away from a group that serves.
        if before.first_served_at.is_none() && !is_known(pod, observed, brokers) {
            let message = format!("not all {} name servers know the broker yet", observed.ready_name_servers);
            return no(Reason::WaitingForNameServer, message);
        }
        return Finding::yes(Type::Ready, Reason::Serving, format!("{} takes messages", pod.name_any()));
    }
    let Some(pod) = observed.pods.first() else {
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
    (0..group.replicas)
        .map(|ordinal| {
            let pod = observed.pods.iter().find(|pod| pods::ordinal(pod) == Some(ordinal));
            let state = match pod {
                None => "Missing",
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
                address: outcome.addresses.get(&ordinal).map(|host| format!("{host}:{CLIENT_PORT}")),
                version: version.filter(|version| !version.is_empty()),
            }
        })
        .collect()
}

fn effective(group: &Validated) -> BrokerGroupEffective {
    BrokerGroupEffective {
        replicas: group.replicas,
        image: group.image.reference.clone(),
        flush: group.flush,
        segment_size: group.segment_size.to_string(),
        retention_time: group.retention.time.clone(),
        retention_disk_percent: group.retention.disk_percent,
        retention_delete_at: group.retention.delete_at.clone(),
        retention_delete_early_percent: group.retention.delete_early_percent,
        retention_refuse_percent: group.retention.refuse_percent,
        retention_size: group.retention.size.map(|size| size.to_string()),
    }
}
