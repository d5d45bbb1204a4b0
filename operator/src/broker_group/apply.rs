//! Writes what is made for a BrokerGroup, in the one order that never starts a pod before what it needs.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use crds::BrokerGroupStatus;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
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
    listeners::Told,
    pods::{
        pinned::{self, MadeFrom, Maker},
        rollout,
    },
    quantity::{ByteCount, millis},
};

/// What the API server gave, and what it would not take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The address of each member's Service that has one, by ordinal.
    pub addresses: BTreeMap<i32, String>,
    /// The addresses that brokers tell clients, once all are known.
    pub advertised: Option<Advertised>,
    /// What clients are told that come by other listeners than `internal`.
    pub told: Told,
    /// What came of steering.
    pub steered: Steered,
    /// An object.
    pub refused: Option<String>,
    /// A larger volume.
    pub resize_refused: Option<String>,
    /// What the pods are made from.
    pub made_from: Option<MadeFrom>,
    /// Of a group that is to be emptied: what is still on it, or why that is not known.
    pub left: Option<Result<Vec<String>, String>>,
}

impl Outcome {
    /// What the Services of the group say, by their names.
    pub(super) fn of(group: &Validated, services: &BTreeMap<String, Arc<Service>>) -> Self {
        let owner = &group.identity;
        let service = |name: &str| services.get(name).map(|service| &**service);
        let address = |name: &str| service(name).and_then(cluster_ip);
        let member = |ordinal| Some((ordinal, address(&owner.member(ordinal))?));
        Self {
            addresses: (0..group.replicas).filter_map(member).collect(),
            advertised: desired::advertised(group).each(address),
            told: group.listeners.told(owner, group.replicas, service),
            ..Self::default()
        }
    }
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
        by_name.insert(name, applied);
    }
    let outcome = Outcome::of(group, &by_name);
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
    let Some(hosts) = &outcome.advertised else {
        applier.prune(&stores.services, owner, &service_names).await?;
        return Ok(outcome);
    };
    let desired::Workload { mut config_map, budget, mut stateful_set } =
        desired::workload(group, hosts, &outcome.told);
    let maker = Maker {
        version: &context.images.version,
        prefix: &context.images.prefix,
        asked: &desired::asked(group, hosts),
        keeps: known.first_served_at.is_some() && !observed.pods.iter().any(|pod| rollout::lacks_image(pod)),
    };
    let live = observed.stateful_set.as_deref();
    let made_from = pinned::settle(maker, live, &mut stateful_set, (&mut config_map, CONFIG_KEY));
    let before = observed.config_map.as_deref().map_or_else(BTreeMap::new, |map| levels_in(map, CONFIG_KEY));
    context.tell_levels(Role::Broker, &observed.pods, &before, &group.logging.levels).await;
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

    let resize_refused = match &group.volume {
        Volume::Claim { size, .. } => grow(context, group, observed, size).await?,
        Volume::Ephemeral { .. } => None,
    };
    Ok(Outcome { resize_refused, made_from: Some(made_from), ..outcome })
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

/// Asks for larger volumes where they are smaller than this. Returns why that was refused, now or lately: a class that cannot grow
/// them is no obstacle to the rest.
pub(super) async fn grow(
    context: &Context,
    group: &Validated,
    observed: &Observed,
    size: &str,
) -> Result<Option<String>, Error> {
    if ByteCount::parse(size).is_none() {
        return Ok(None);
    }
    let is_smaller =
        |claim: &&PersistentVolumeClaim| requested(claim).is_some_and(|has| millis(&has) < millis(size));
    for claim in observed.claims_of(group.replicas).filter(is_smaller) {
        let what = format!("{} {size}", claim.uid().unwrap_or_default());
        if let Some(why) = context.growth_refused.lately(&what, Instant::now()) {
            return Ok(Some(why));
        }
        match context.applier.grow(claim, size).await {
            Ok(()) => {}
            Err(error @ Error::Refused { .. }) => {
                context.growth_refused.remember(what, error.to_string(), Instant::now());
                return Ok(Some(error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
