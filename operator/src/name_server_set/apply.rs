//! Writes what is made for a NameServerSet, in the one order that never starts a pod before what it needs.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;

use super::{
    desired::{CONFIG_KEY, Desired},
    observe::Observed,
    validate::Validated,
};
use crate::{
    apply::Error,
    conditions::Reason,
    config::levels_in,
    context::Context,
    identity::Role,
    pods::{
        self,
        in_turn::{self, Step, Turn},
        manner::Manner,
        pinned::{self, MadeFrom, Maker},
        rollout,
    },
};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// An object that the API server would not take.
    pub refused: Option<String>,
    /// The Services as they are.
    pub services: Vec<Arc<Service>>,
    /// What the pods are made from.
    pub made_from: Option<MadeFrom>,
    /// What the pods wait for, on their way to what the spec says.
    pub waits_for: Option<(Reason, String)>,
}

/// Writes what differs, and replaces the next pod that is to be. `has_served` is whether a name server ever answered clients.
pub(super) async fn apply(
    context: &Context,
    set: &Validated,
    observed: &Observed,
    desired: Desired,
    has_served: bool,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let Context { applier, stores, .. } = context;
    let owner = &set.identity;
    let Desired { service_account, services, mut config_map, budget, mut stateful_set } = desired;
    let maker = Maker {
        version: &context.images.version,
        prefix: &context.images.prefix,
        asked: &set.asked,
        keeps: has_served && !observed.pods.iter().any(|pod| rollout::lacks_image(pod)),
    };
    let live = observed.stateful_set.as_deref();
    let made_from = pinned::settle(maker, live, &mut stateful_set, (&mut config_map, CONFIG_KEY));

    applier.apply(&stores.service_accounts, owner, service_account).await?;
    let names: Vec<String> = services.iter().map(|service| service.name_any()).collect();
    let mut there = Vec::new();
    for service in services {
        there.push(applier.apply(&stores.services, owner, service).await?);
    }
    let before = observed.config_map.as_deref().map_or_else(BTreeMap::new, |map| levels_in(map, CONFIG_KEY));
    context.tell_levels(Role::NameServer, &observed.pods, &before, &set.logging.levels).await;
    applier.apply(&stores.config_maps, owner, config_map).await?;
    let budgets: Vec<String> = budget.iter().map(|budget| budget.name_any()).collect();
    if let Some(budget) = budget {
        applier.apply(&stores.budgets, owner, budget).await?;
    }
    applier.apply_stateful_set(&stores.stateful_sets, owner, stateful_set).await?;

    applier.prune(&stores.services, owner, &names).await?;
    applier.prune(&stores.budgets, owner, &budgets).await?;

    let waits_for = take_turns(context, set, observed, now).await?;
    Ok(Outcome { refused: None, services: there, made_from: Some(made_from), waits_for })
}

/// Replaces the next pod that is to be, and says what that waits for.
async fn take_turns(
    context: &Context,
    set: &Validated,
    observed: &Observed,
    now: Timestamp,
) -> Result<Option<(Reason, String)>, Error> {
    let live = observed.stateful_set.as_deref();
    if !rollout::template_is_seen(live) {
        return Ok(None);
    }
    let pods = || observed.pods.iter().filter(|pod| pods::ordinal(pod).is_some_and(|it| it < set.replicas));
    let turns: Vec<Turn> = pods().filter_map(|pod| Turn::of(pod, live, now)).collect();
    match in_turn::next(&turns, set.replicas, &Manner::of(&set.update, now)) {
        Step::Replace(ordinal) => {
            if let Some(pod) = pods().find(|pod| pods::ordinal(pod) == Some(ordinal)) {
                context.applier.replace_pod(pod).await?;
            }
            Ok(Some((Reason::RollingUpdate, format!("pod {ordinal} is being replaced"))))
        }
        Step::Wait(what) => Ok(Some((Reason::RollingUpdate, what))),
        Step::Hold(why) => Ok(Some((Reason::RolloutPaused, why))),
        Step::Done | Step::HandOver(_) => Ok(None),
    }
}
