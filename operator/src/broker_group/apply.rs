//! Writes what is made for a BrokerGroup, in the one order that never starts a pod before what it needs.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use super::{
    desired::{self, CONFIG_KEY},
    observe::{Observed, cluster_ip},
    validate::{Validated, Volume, requested},
};
use crate::{
    apply::Error,
    config::levels_in,
    context::Context,
    identity::Role,
    quantity::{ByteCount, millis},
};

/// What the API server gave, and what it would not take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The address of each member's Service that has one, by ordinal.
    pub addresses: BTreeMap<i32, String>,
    /// An object.
    pub refused: Option<String>,
    /// A larger volume.
    pub resize_refused: Option<String>,
}

/// Writes what differs.
pub(super) async fn apply(
    context: &Context,
    group: &Validated,
    observed: &Observed,
) -> Result<Outcome, Error> {
    let Context { applier, stores, .. } = context;
    let owner = &group.identity;

    let desired::Network { service_account, services } = desired::network(group);
    applier.apply(&stores.service_accounts, owner, service_account).await?;
    let names: Vec<String> = services.iter().map(|service| service.name_any()).collect();
    let mut addresses = BTreeMap::new();
    for service in services {
        let ordinal = (0..group.replicas).find(|ordinal| owner.member(*ordinal) == service.name_any());
        let applied = applier.apply(&stores.services, owner, service).await?;
        if let (Some(ordinal), Some(address)) = (ordinal, cluster_ip(&applied)) {
            addresses.insert(ordinal, address);
        }
    }
    applier.prune(&stores.services, owner, &names).await?;

    // An address that is still to come brings another reconcile.
    let Some(workload) = desired::workload(group, &addresses) else {
        return Ok(Outcome { addresses, ..Outcome::default() });
    };
    let desired::Workload { config_map, budget, stateful_set } = workload;
    applier.apply(&stores.config_maps, owner, config_map).await?;
    let names: Vec<String> = budget.iter().map(|budget| budget.name_any()).collect();
    if let Some(budget) = budget {
        applier.apply(&stores.budgets, owner, budget).await?;
    }
    applier.prune(&stores.budgets, owner, &names).await?;
    applier.apply_stateful_set(&stores.stateful_sets, owner, stateful_set).await?;

    let resize_refused = grow(context, group, observed).await?;
    let before = observed.config_map.as_deref().map_or_else(BTreeMap::new, |map| levels_in(map, CONFIG_KEY));
    context.tell_levels(Role::Broker, &observed.pods, &before, &group.logging.levels).await;
    Ok(Outcome { addresses, refused: None, resize_refused })
}

/// Asks for larger volumes where they are smaller than the spec says. A class that cannot grow them is no
/// obstacle to the rest.
async fn grow(context: &Context, group: &Validated, observed: &Observed) -> Result<Option<String>, Error> {
    let Volume::Claim { size, .. } = &group.volume else { return Ok(None) };
    for claim in observed.claims.iter().filter(|claim| claim.metadata.deletion_timestamp.is_none()) {
        let smaller = requested(claim).is_some_and(|has| millis(&has) < millis(size));
        if smaller && ByteCount::parse(size).is_some() {
            match context.applier.grow(claim, size).await {
                Ok(()) => {}
                Err(error @ Error::Refused { .. }) => return Ok(Some(error.to_string())),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(None)
}
