//! One process of the operator: what it has in memory, and what it knows of the cluster.

use std::{sync::Arc, time::Duration};

use kube::runtime::controller::Action;
use operator::{broker_group, context::Context, context::Error, declared, name_server_set};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::{World, normal::differences};
use crate::server::{Missed, Objects, stores_of};

/// So often everything is looked at before it counts as never done.
const MOST_ROUNDS: usize = 200;
/// Nothing here waits for anything but brokers that are there.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is looked at, in this order.
const KINDS: [&str; 4] = ["NameServerSet", "BrokerGroup", "Topic", "ConsumerGroup"];

/// One process of the operator.
#[derive(Default)]
pub(crate) struct Operator {
    /// What it remembers; nothing before it has looked at anything.
    memory: Option<Context>,
    /// A change that it did not hear of.
    missed: Option<Missed>,
}

/// It was killed.
#[derive(Debug)]
struct Killed;

impl Operator {
    /// Goes on, with whoever else is there, until nothing changes any more. One that is killed is started again.
    pub(crate) async fn settle(&mut self, world: &World) {
        // What a broker does without a word shows in the next round.
        let mut quiet = 0;
        let mut before = world.contents().await;
        for _ in 0..MOST_ROUNDS {
            let changes = world.server.trap.counted();
            if self.look_at_everything(world).await.is_err() {
                *self = Self::default();
                continue;
            }
            world.go_on();
            let is_quiet = !world.is_asked() && world.server.trap.counted() == changes;
            if !is_quiet {
                let now = world.contents().await;
                if std::mem::replace(&mut before, now) != before {
                    quiet = 0;
                    continue;
                }
            }
            quiet += 1;
            if is_quiet || quiet > 1 {
                // The watch begins anew, and brings what was missed.
                if self.missed.take().is_none() {
                    return;
                }
                quiet = 0;
            }
        }
        self.look_at_everything(world).await.ok();
        world.go_on();
        panic!("it never ends: {:#?}", differences(&before, &world.contents().await));
    }

    async fn look_at_everything(&mut self, world: &World) -> Result<(), Killed> {
        for kind in KINDS {
            for path in world.of_kind(kind).into_iter().map(|(path, _)| path) {
                let known = self.known(world);
                // It may not know yet that there is one.
                if let Some(resource) = known.get(&path).cloned() {
                    self.reconcile(world, &known, kind, resource).await?;
                }
            }
        }
        Ok(())
    }

    /// What it knows of the cluster.
    fn known(&mut self, world: &World) -> Objects {
        if let Some(old) = world.server.trap.snapshot() {
            return old;
        }
        if let Some(missed) = world.server.trap.missed() {
            self.missed = Some(missed);
        }
        let mut known = world.objects();
        let Some(Missed { path, before, version }) = &self.missed else { return known };
        let now = known.get(path).map_or(Value::Null, |it| it["metadata"]["resourceVersion"].clone());
        if now != *version {
            self.missed = None;
        } else {
            match before {
                Some(before) => known.insert(path.clone(), before.clone()),
                None => known.remove(path),
            };
        }
        known
    }

    async fn reconcile(
        &mut self,
        world: &World,
        known: &Objects,
        kind: &str,
        resource: Value,
    ) -> Result<(), Killed> {
        let stores = stores_of(known);
        let context = match self.memory.take() {
            Some(memory) => Context { stores, ..memory },
            None => Context { stores, ..world.server.new_context(&world.client) },
        };
        let context = Arc::new(context);
        let work = async {
            let context = Arc::clone(&context);
            match kind {
                "NameServerSet" => name_server_set::reconcile(read(resource), context).await,
                "BrokerGroup" => broker_group::reconcile(read(resource), context).await,
                "Topic" => declared::reconcile(read::<crds::Topic>(resource), context).await,
                "ConsumerGroup" => declared::reconcile(read::<crds::ConsumerGroup>(resource), context).await,
                other => panic!("nobody reconciles a {other}"),
            }
        };
        let outcome: Option<Result<Action, Error>> = tokio::select! {
            biased;
            outcome = timeout(PATIENCE, work) => Some(outcome.expect("an answer")),
            () = world.server.trap.kills() => None,
        };
        match outcome {
            // What could not be done is done in the next round.
            Some(_) => {
                self.memory = Arc::into_inner(context);
                Ok(())
            }
            None => Err(Killed),
        }
    }
}

fn read<K: DeserializeOwned>(resource: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(resource).expect("a resource of its kind"))
}
