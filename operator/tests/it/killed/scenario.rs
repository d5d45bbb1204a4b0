//! A scenario: what users do, one thing after the other, each when all that came of the one before has come.

use serde_json::{Value, json};

use crate::world::World;

/// What users do.
pub(super) struct Scenario {
    /// BrokerGroups that have a real broker.
    pub(super) brokers: &'static [&'static str],
    /// Whether name servers can be asked.
    pub(super) asks_name_server: bool,
    pub(super) steps: Vec<Step>,
}

impl Scenario {
    /// A cluster in which nothing was done yet.
    pub(super) async fn world(&self) -> World {
        let world = World::new(self.brokers).await;
        if self.asks_name_server { world.and_a_name_server() } else { world }
    }
}

/// What a user does, or what happens to a machine. Resources are named by kind and name.
pub(super) enum Step {
    /// All this at once.
    Together(Vec<Step>),
    /// A resource is made.
    Make(&'static str, &'static str, Value),
    /// A field of its spec is set, or with a null taken away.
    Set(&'static str, &'static str, &'static str, Value),
    /// An annotation is set.
    Annotate(&'static str, &'static str, &'static str, &'static str),
    /// It is deleted.
    Delete(&'static str, &'static str),
    /// These pods are lost with their machines.
    Lose(&'static [&'static str]),
    /// These machines are back.
    Heal(&'static [&'static str]),
}

impl Step {
    pub(super) fn take(&self, world: &World) {
        match self {
            Self::Together(steps) => steps.iter().for_each(|step| step.take(world)),
            Self::Make(kind, name, spec) => world.make(kind, name, spec.clone()),
            Self::Set(kind, name, field, value) => world.respecify(kind, name, |spec| {
                let fields = spec.as_object_mut().expect("a spec");
                match value {
                    Value::Null => fields.remove(*field),
                    value => fields.insert((*field).to_owned(), value.clone()),
                };
            }),
            Self::Annotate(kind, name, key, value) => {
                world.server.change(&World::path(kind, name), |resource| {
                    resource["metadata"]["annotations"][format!("mq.gantry.dev/{key}")] = json!(value);
                })
            }
            Self::Delete(kind, name) => world.delete(&World::path(kind, name)),
            Self::Lose(pods) => pods.iter().for_each(|pod| world.lose(pod)),
            Self::Heal(pods) => pods.iter().for_each(|pod| world.heal(pod)),
        }
    }
}
