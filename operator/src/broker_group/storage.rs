//! The condition StorageHealthy: room on the volumes, how their growth goes, and whether the logs are whole. Pure.

use k8s_openapi::{api::core::v1::PersistentVolumeClaim, apimachinery::pkg::apis::meta::v1::Condition};
use kube::ResourceExt as _;
use proto::control::GetStateResponse;

use super::{
    apply::Outcome,
    observe::{Brokers, Observed},
    validate::{Validated, Volume},
};
use crate::{
    conditions::{Finding, Reason, Type},
    pods,
    quantity::millis,
    refusals,
};

/// From here on there is little room.
const NEAR_FULL_PERCENT: u64 = 85;
/// Below this there is room again: a level between the two changes nothing, so a broker at the edge makes no noise.
const ROOM_AGAIN_PERCENT: u64 = 80;
/// From here on there is no room.
const FULL_PERCENT: u64 = 95;

/// Nothing where no broker could be asked.
pub(super) fn finding(
    group: &Validated,
    observed: &Observed,
    brokers: &Brokers,
    outcome: &Outcome,
    old: Option<&Condition>,
) -> Option<Finding> {
    let no = |reason, message: String| Some(Finding::no(Type::StorageHealthy, reason, message));
    if let Some(refused) = &outcome.resize_refused {
        let minutes = refusals::AGAIN.as_secs() / 60;
        let advice = format!(
            "let the storage class, or the quota, allow it: it is tried again every {minutes} minutes"
        );
        let or = match group.volume {
            Volume::Claim { auto_grow: Some(_), .. } => "; or remove storage.autoGrow",
            Volume::Claim { auto_grow: None, .. } | Volume::Ephemeral { .. } => "",
        };
        return no(Reason::ResizeUnsupported, format!("the volume cannot grow: {refused}; {advice}{or}"));
    }
    if let Some(claim) = observed.claims_of(group.replicas).find(|claim| grows(claim, &group.volume)) {
        return no(Reason::ResizePending, format!("the volume of claim {} is growing", claim.name_any()));
    }
    let states = || brokers.values().filter_map(|state| state.as_ref().ok());
    let primary = observed.reigning().and_then(pods::ordinal);
    let fullest = states().filter_map(used_percent).max()?;
    // A replica takes no messages, however much room it has.
    let takes_none = |ordinal: i32| group.replication.is_some() && primary != Some(ordinal);
    let refuses = brokers
        .iter()
        .filter_map(|(ordinal, state)| Some((*ordinal, state.as_ref().ok()?)))
        .any(|(ordinal, state)| !takes_none(ordinal) && !state.accepts_writes && is_full(state));
    let was_near_full =
        old.is_some_and(|old| old.status == "False" && old.reason != Reason::Damaged.as_str());
    let advice = "raise storage.commitLog.size, or lower messageRetention.time or messageRetention.size";
    if refuses || fullest >= FULL_PERCENT {
        no(Reason::Full, format!("the volume has no room: {advice}"))
    } else if let Some(damage) = damage(brokers) {
        no(Reason::Damaged, damage)
    } else if fullest >= NEAR_FULL_PERCENT || (was_near_full && fullest >= ROOM_AGAIN_PERCENT) {
        no(Reason::NearFull, format!("the volume is more than {ROOM_AGAIN_PERCENT} percent full: {advice}"))
    } else {
        Some(Finding::yes(Type::StorageHealthy, Reason::Normal, "the volume has room"))
    }
}

/// What is damaged in the logs, and the next step.
fn damage(brokers: &Brokers) -> Option<String> {
    let damaged = brokers.iter().filter_map(|(ordinal, state)| Some((ordinal, state.as_ref().ok()?)));
    let damaged = damaged.filter(|(_, state)| state.damaged_places > 0);
    let told: Vec<_> = damaged
        .map(|(ordinal, state)| {
            let GetStateResponse { damaged_places, damaged_bytes, damaged, .. } = state;
            let first = damaged
                .first()
                .map(|first| format!(", the first at log offset {}: {}", first.log_offset, first.reason));
            let places = if *damaged_places == 1 { "place" } else { "places" };
            let first = first.unwrap_or_default();
            format!("broker {ordinal} has {damaged_places} damaged {places} of {damaged_bytes} bytes{first}")
        })
        .collect();
    let next = "messages there are skipped, all others are served; what to do: docs/damaged-logs.md";
    (!told.is_empty()).then(|| format!("{}; {next}", told.join("; ")))
}

/// Whether the disk is so full that it explains a refusal.
pub(super) fn is_full(state: &GetStateResponse) -> bool {
    used_percent(state).is_some_and(|used| used >= NEAR_FULL_PERCENT)
}

pub(super) fn used_percent(state: &GetStateResponse) -> Option<u64> {
    let used = state.disk_total_bytes.saturating_sub(state.disk_free_bytes);
    (u128::from(used) * 100)
        .checked_div(u128::from(state.disk_total_bytes))
        .and_then(|percent| u64::try_from(percent).ok())
}

/// Whether a claim's volume is smaller than what the spec asks.
fn grows(claim: &PersistentVolumeClaim, volume: &Volume) -> bool {
    let Volume::Claim { size, .. } = volume else { return false };
    let capacity =
        claim.status.as_ref().and_then(|status| status.capacity.as_ref()).and_then(|all| all.get("storage"));
    capacity.is_some_and(|capacity| millis(&capacity.0) < millis(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(total: u64, free: u64) -> GetStateResponse {
        GetStateResponse { disk_total_bytes: total, disk_free_bytes: free, ..GetStateResponse::default() }
    }

    #[test]
    fn the_share_in_use_is_exact_and_a_disk_without_size_has_none() {
        assert_eq!(used_percent(&state(100, 10)), Some(90));
        assert_eq!(used_percent(&state(u64::MAX, 0)), Some(100));
        assert_eq!(used_percent(&state(0, 0)), None);
        assert!(is_full(&state(100, 15)));
        assert!(!is_full(&state(100, 16)));
    }
}
