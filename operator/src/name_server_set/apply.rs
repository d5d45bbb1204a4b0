//! Writes what is made for a NameServerSet, in the one order that never starts a pod before what it needs.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use super::{
    desired::{CONFIG_KEY, Desired},
    observe::Observed,
    validate::Validated,
};
use crate::{apply::Error, config::levels_in, context::Context, identity::Role};

/// Writes what differs.
pub(super) async fn apply(
    context: &Context,
    set: &Validated,
    observed: &Observed,
    desired: &Desired,
) -> Result<(), Error> {
    let Context { applier, stores, .. } = context;
    let owner = &set.identity;
    let Desired { service_account, services, config_map, budget, stateful_set } = desired;

    applier.apply(&stores.service_accounts, owner, service_account.clone()).await?;
    for service in services {
        applier.apply(&stores.services, owner, service.clone()).await?;
    }
    applier.apply(&stores.config_maps, owner, config_map.clone()).await?;
    if let Some(budget) = budget {
        applier.apply(&stores.budgets, owner, budget.clone()).await?;
    }
    applier.apply_stateful_set(&stores.stateful_sets, owner, stateful_set.clone()).await?;

    let names: Vec<String> = services.iter().map(|service| service.name_any()).collect();
    applier.prune(&stores.services, owner, &names).await?;
    let names: Vec<String> = budget.iter().map(|budget| budget.name_any()).collect();
    applier.prune(&stores.budgets, owner, &names).await?;

    let before = observed.config_map.as_deref().map_or_else(BTreeMap::new, |map| levels_in(map, CONFIG_KEY));
    context.tell_levels(Role::NameServer, &observed.pods, &before, &set.logging.levels).await;
    Ok(())
}
