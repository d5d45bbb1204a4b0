//! Writes what is made for a BrokerGroup, in the one order that never starts a pod before what it needs.

use std::collections::BTreeMap;

use crds::BrokerGroupStatus;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};

use super::{
    desired::{self, Advertised, CONFIG_KEY},
    observe::{Observed, cluster_ip},
    reign,
    steer::Steered,
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
    /// The addresses that brokers tell clients, once all are known.
    pub advertised: Option<Advertised>,
    /// What came of steering.
    pub steered: Steered,
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
    known: &BrokerGroupStatus,
) -> Result<Outcome, Error> {
    let Context { applier, stores, .. } = context;
    let owner = &group.identity;

    let desired::Network { service_account, services, agreement } = desired::network(group);
    applier.apply(&stores.service_accounts, owner, service_account).await?;
    let service_names: Vec<String> = services.iter().map(|service| service.name_any()).collect();
    let mut by_name = BTreeMap::new();
    for service in services {
        let name = service.name_any();
        let applied = applier.apply(&stores.services, owner, service).await?;
        by_name.extend(cluster_ip(&applied).map(|address| (name, address)));
    }
    let address = |name: &str| by_name.get(name).cloned();
    let members = (0..group.replicas).filter_map(|ordinal| Some((ordinal, address(&owner.member(ordinal))?)));
    let addresses = members.collect();
    let advertised = desired::advertised(group).each(address);
    let agree = agreement.is_some();
    if let Some(desired::Agreement { role, role_binding, endpoints }) = agreement {
        applier.apply(&stores.roles, owner, role).await?;
        applier.apply(&stores.role_bindings, owner, role_binding).await?;
        for slice in endpoints {
            applier.create_if_absent(&stores.endpoints, owner, slice).await?;
        }
    }
    lease(context, group, known).await?;

    // An address that is still to come brings another reconcile.
    let Some(hosts) = &advertised else {
        applier.prune(&stores.services, owner, &service_names).await?;
        return Ok(Outcome { addresses, ..Outcome::default() });
    };
    let desired::Workload { config_map, budget, stateful_set } = desired::workload(group, hosts);
    applier.apply(&stores.config_maps, owner, config_map).await?;
    let names: Vec<String> = budget.iter().map(|budget| budget.name_any()).collect();
    if let Some(budget) = budget {
        applier.apply(&stores.budgets, owner, budget).await?;
    }
    applier.prune(&stores.budgets, owner, &names).await?;
    applier.apply_stateful_set(&stores.stateful_sets, owner, stateful_set).await?;
    // What running brokers use goes when their successors are asked for.
    applier.prune(&stores.services, owner, &service_names).await?;
    if !agree {
        applier.prune(&stores.endpoints, owner, &[]).await?;
        applier.prune(&stores.role_bindings, owner, &[]).await?;
        applier.prune(&stores.roles, owner, &[]).await?;
    }

    let resize_refused = grow(context, group, observed).await?;
    let before = observed.config_map.as_deref().map_or_else(BTreeMap::new, |map| levels_in(map, CONFIG_KEY));
    context.tell_levels(Role::Broker, &observed.pods, &before, &group.logging.levels).await;
    Ok(Outcome { addresses, advertised, refused: None, resize_refused, steered: Steered::default() })
}

/// Sees to the Lease: it is made once, and stays when a group goes back to one broker, since it says which volumes are complete.
async fn lease(context: &Context, group: &Validated, known: &BrokerGroupStatus) -> Result<(), Error> {
    let Context { applier, stores, .. } = context;
    let owner = &group.identity;
    let name = owner.base();
    let live = if group.replication.is_some() {
        Some(applier.create_if_absent(&stores.leases, owner, reign::lease(group, known)).await?)
    } else {
        stores.leases.get(&ObjectRef::new(&name).within(&owner.namespace))
    };
    if live.is_some_and(|live| reign::owners(group, &live).is_some()) {
        applier.swap_lease(&owner.namespace, &name, |live| reign::owners(group, live)).await?;
    }
    Ok(())
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
