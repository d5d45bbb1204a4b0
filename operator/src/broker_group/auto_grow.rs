//! When volumes grow by themselves, and to which size: `spec.storage.autoGrow`. Pure.
//!
//! The size that they grew to is what their claims ask for; the spec stays as it is.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use proto::control::GetStateResponse;

use super::{
    observe::{Brokers, Observed},
    storage::used_percent,
    validate::{AutoGrow, Validated, Volume, requested},
};
use crate::quantity::ByteCount;

/// A file system has a part of its volume for itself. One that is smaller than this has not grown yet.
const FILE_SYSTEM_PERCENT: u64 = 85;

/// The size that all volumes are to have now, where that is more than they have.
pub(super) fn next(group: &Validated, observed: &Observed, brokers: &Brokers) -> Option<ByteCount> {
    let Volume::Claim { size, auto_grow: Some(AutoGrow { threshold_percent, increment, max }), .. } =
        &group.volume
    else {
        return None;
    };
    let size = ByteCount::parse(size)?;
    let target = ByteCount(size.0.saturating_add(increment.0)).min(*max);
    let has_grown =
        observed.claims_of(group.replicas).all(|claim| capacity(claim).is_some_and(|it| it >= size));
    let states: Vec<&GetStateResponse> = brokers.values().filter_map(|state| state.as_ref().ok()).collect();
    let is_seen = |state: &&GetStateResponse| {
        u128::from(state.disk_total_bytes) * 100 >= u128::from(size.0) * u128::from(FILE_SYSTEM_PERCENT)
    };
    let fullest = states.iter().filter_map(|state| used_percent(state)).max()?;
    let is_due = has_grown && states.iter().all(is_seen) && fullest >= *threshold_percent;
    (is_due && target > size).then_some(target)
}

/// The largest size that a claim of this many members asks for.
pub(super) fn largest(observed: &Observed, members: i32) -> Option<ByteCount> {
    observed.claims_of(members).filter_map(|claim| ByteCount::parse(&requested(claim)?)).max()
}

fn capacity(claim: &PersistentVolumeClaim) -> Option<ByteCount> {
    ByteCount::parse(&claim.status.as_ref()?.capacity.as_ref()?.get("storage")?.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crds::BrokerGroup;

    use super::*;
    use crate::{broker_group::validate::validate, pods::template::Images};

    const GIB: u64 = 1 << 30;

    /// A volume of the spec's `size`, whose claim asks for `asks` and has `has`, and whose file system of `total` GiB is so full.
    #[track_caller]
    fn check(size: &str, claim: (&str, &str), volume: (u64, u64), expected: Option<&str>) {
        check_claims(size, &[claim], volume, expected);
    }

    /// The same, where there are also claims of brokers that were scaled away.
    #[track_caller]
    fn check_claims(
        size: &str,
        claims: &[(&str, &str)],
        (total, percent): (u64, u64),
        expected: Option<&str>,
    ) {
        let group: BrokerGroup = serde_yaml::from_str(&format!(
            "metadata: {{name: a, namespace: x, uid: u}}\nspec: {{nameServerRef: {{name: x}}, clusterName: c, storage: \
             {{commitLog: {{size: {size}}}, autoGrow: {{increment: 2Gi, max: 5Gi}}}}}}"
        ))
        .expect("a BrokerGroup");
        let claim = |(ordinal, (asks, has)): (usize, &(&str, &str))| {
            let claim = format!(
                "metadata: {{name: data-a-broker-{ordinal}}}\n\
                 spec: {{resources: {{requests: {{storage: {asks}}}}}}}\n\
                 status: {{capacity: {{storage: {has}}}}}"
            );
            Arc::new(serde_yaml::from_str(&claim).expect("a claim"))
        };
        let observed =
            Observed { claims: claims.iter().enumerate().map(claim).collect(), ..Observed::default() };
        let images = Images { prefix: String::new(), version: String::new() };
        let group = validate(&group, &observed, &images).expect("a sound BrokerGroup");
        let state = GetStateResponse {
            disk_total_bytes: total * GIB,
            disk_free_bytes: total * GIB / 100 * (100 - percent),
            ..GetStateResponse::default()
        };
        let found = next(&group, &observed, &Brokers::from([(0, Ok(state))])).map(|size| size.to_string());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn a_volume_grows_step_by_step_when_it_is_nearly_full_and_never_beyond_the_bound() {
        check("1Gi", ("1Gi", "1Gi"), (1, 79), None);
        check("1Gi", ("1Gi", "1Gi"), (1, 80), Some("3Gi"));
        check("1Gi", ("3Gi", "3Gi"), (3, 90), Some("5Gi"));
        check("4Gi", ("4Gi", "4Gi"), (4, 100), Some("5Gi"));
        check("1Gi", ("5Gi", "5Gi"), (5, 100), None);
        check("5Gi", ("5Gi", "5Gi"), (5, 100), None);
    }

    #[test]
    fn a_step_waits_for_the_one_before_it() {
        check("1Gi", ("3Gi", "1Gi"), (1, 90), None);
        check("1Gi", ("3Gi", "3Gi"), (1, 90), None);
    }

    #[test]
    fn the_volume_of_a_broker_that_was_scaled_away_holds_up_nothing() {
        check_claims("1Gi", &[("3Gi", "3Gi"), ("3Gi", "1Gi")], (3, 90), Some("5Gi"));
        check_claims("1Gi", &[("1Gi", "1Gi"), ("3Gi", "1Gi")], (1, 90), Some("3Gi"));
    }
}
