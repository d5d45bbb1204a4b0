//! Every field of every resource is taken through values that work and such that do not, removed, and given back: none is without
//! effect, and from none there is no way back.
//!
//! A field that the schema has and no table fails a test: whoever adds a field says here what it does. After Acto,
//! <https://github.com/xlab-uiuc/acto>.

use std::collections::BTreeSet;

use field::{Field, Life, over};
use schema::Schema;
use serde_json::Value;

use crate::{
    server::Objects,
    world::{World, normal::differences, operator::Operator},
};

mod broker_group;
mod consumer_group;
mod field;
mod name_server_set;
mod schema;
mod topic;
mod workload;

/// A kind of resource.
pub(super) struct Kind {
    kind: &'static str,
    /// A spec that works.
    spec: Value,
    /// BrokerGroups that have a real broker.
    brokers: &'static [&'static str],
    /// What there is beside the resource.
    around: fn(&World),
    fields: Vec<Field>,
}

/// A cluster with one resource of the kind.
struct Try<'a> {
    kind: &'a Kind,
    world: World,
    operator: Operator,
}

impl<'a> Try<'a> {
    async fn of(kind: &'a Kind, spec: &Value) -> Self {
        let world = World::new(kind.brokers).await;
        (kind.around)(&world);
        world.make(kind.kind, "a", spec.clone());
        let mut this = Self { kind, world, operator: Operator::default() };
        this.operator.settle(&this.world).await;
        this
    }

    async fn change(&mut self, spec: &Value) -> Objects {
        self.world.respecify(self.kind.kind, "a", |live| *live = spec.clone());
        self.operator.settle(&self.world).await;
        self.contents().await
    }

    /// What there is, without what tells of the past, and without the spec itself.
    async fn contents(&self) -> Objects {
        let mut contents = self.world.contents().await;
        for object in contents.values_mut().filter(|object| object.is_object()) {
            forget(object);
        }
        let own = contents.get_mut(&World::path(self.kind.kind, "a")).expect("the resource");
        own["spec"] = Value::Null;
        contents
    }

    /// What the conditions say, all together.
    fn conditions(&self) -> String {
        let resource = self.world.objects()[&World::path(self.kind.kind, "a")].clone();
        resource["status"]["conditions"].to_string()
    }
}

/// Takes away what is there only since something else was before.
fn forget(object: &mut Value) {
    let take = |value: &mut Value, field: &str| {
        if let Some(fields) = value.as_object_mut() {
            fields.remove(field);
        }
    };
    take(&mut object["metadata"], "generation");
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove("mq.gantry.dev/applied");
        if let Some(made_from) = annotations.get_mut("mq.gantry.dev/made-from") {
            *made_from = serde_json::from_str(made_from.as_str().unwrap_or_default()).unwrap_or_default();
            take(made_from, "reason");
        }
    }
    // The API server keeps no empty list.
    if object["metadata"]["finalizers"].as_array().is_some_and(Vec::is_empty) {
        take(&mut object["metadata"], "finalizers");
    }
    for field in ["rollout", "epoch", "lastFailover", "failovers", "lastHandled", "observedGeneration"] {
        take(&mut object["status"], field);
    }
    for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
        take(condition, "observedGeneration");
    }
    take(&mut object["spec"], "leaseTransitions");
}

impl Kind {
    fn schema(&self) -> Schema {
        Schema::of(self.kind)
    }

    /// Tries all fields; what is wrong with them.
    async fn wrong(&self, is_tried: impl Fn(&Field) -> bool) -> Vec<String> {
        let mut wrong = Vec::new();
        for field in self.fields.iter().filter(|field| is_tried(field)) {
            let found = self.wrong_with(field).await;
            wrong.extend(found.into_iter().map(|what| format!("{} {}: {what}", self.kind, field.path)));
        }
        wrong
    }

    async fn wrong_with(&self, field: &Field) -> Vec<String> {
        let schema = self.schema();
        let mut wrong = Vec::new();
        let first = schema.completed(&over(&self.spec, &field.beside));
        let base = schema.completed(&over(&first, &field.together));
        for bad in &field.bad {
            if schema.check(Some(&base), &schema.completed(&field.set(&base, bad))).is_ok() {
                wrong.push(format!("{bad} is accepted"));
            }
        }
        if let Life::Elsewhere(_) = field.life {
            for good in &field.good {
                let refused = schema.check(Some(&base), &schema.completed(&field.set(&base, good))).err();
                wrong.extend(refused.map(|why| format!("{good} is refused: {why}")));
            }
            return wrong;
        }
        let mut begun = Try::of(self, &first).await;
        let expected =
            if field.together.is_null() { begun.contents().await } else { begun.change(&base).await };
        // It goes on from where all values before it left it, where they leave nothing.
        let goes_on = field.life == Life::Free && field.together.is_null() && field.leaves.is_empty();
        let mut kept = Some(begun).filter(|_| goes_on);
        let mut outcomes = vec![expected.clone()];
        for value in field.good.iter().chain(&field.told).chain(&field.stuck) {
            let spec = schema.completed(&field.set(&base, value));
            let refused = schema.check(Some(&base), &spec).err();
            let is_fixed = field.life == Life::Fixed;
            let is_new = schema.check(None, &spec);
            match (refused, is_new) {
                (_, Err(why)) => {
                    wrong.push(format!("{value} is refused: {why}"));
                    continue;
                }
                (Some(why), Ok(())) if !is_fixed => wrong.push(format!("{value} is refused: {why}")),
                (None, Ok(())) if is_fixed => wrong.push(format!("{value} may be changed to")),
                _ => {}
            }
            let is_first = matches!(field.life, Life::Fixed | Life::AtFirst);
            let mut tried = match kept.take() {
                Some(kept) => kept,
                None => Try::of(self, if is_first { &spec } else { &first }).await,
            };
            let found = if is_first { tried.contents().await } else { tried.change(&spec).await };
            wrong.extend(self.judge(field, value, (&expected, &found), &tried));
            if outcomes.contains(&found) && field.good.contains(value) {
                wrong.push(format!("{value} comes to the same as another value"));
            }
            outcomes.push(found);
            let back = schema.check(Some(&spec), &base);
            match field.life {
                Life::Free => {
                    wrong.extend(back.err().map(|why| format!("there is no way back from {value}: {why}")));
                    let now = tried.change(&base).await;
                    let mut stuck = differences(&expected, &now);
                    stuck.retain(|line| !field.leaves.iter().any(|part| line.contains(part)));
                    if !stuck.is_empty() {
                        wrong.push(format!(
                            "after {value} it is not as before:\n    {}",
                            stuck.join("\n    ")
                        ));
                    }
                    kept = Some(tried).filter(|_| goes_on);
                }
                Life::Grows if back.is_ok() => wrong.push(format!("it may go back from {value}")),
                Life::Grows | Life::Fixed | Life::AtFirst | Life::Elsewhere(_) => {}
            }
        }
        wrong
    }

    /// Whether the value shows where it should, and nothing is stuck by it.
    fn judge(
        &self,
        field: &Field,
        value: &Value,
        (before, after): (&Objects, &Objects),
        tried: &Try<'_>,
    ) -> Option<String> {
        let lines = differences(before, after);
        let conditions = tried.conditions();
        let is_named = field.path.split(['.', '[']).any(|part| conditions.contains(part));
        let stalls = conditions.contains(r#""status":"True","type":"Stalled""#);
        if field.told.contains(value) || field.stuck.contains(value) {
            let is_told = is_named && stalls == field.stuck.contains(value);
            return (!is_told).then(|| format!("no condition tells of {value}: {conditions}"));
        }
        if stalls && !matches!(field.life, Life::Fixed | Life::AtFirst) {
            return Some(format!("{value} stalls it: {conditions}"));
        }
        let shows = lines.iter().any(|line| line.contains(field.shows));
        (!shows).then(|| {
            format!("{value} does not show in {:?}, but in:\n    {}", field.shows, lines.join("\n    "))
        })
    }
}

fn kinds() -> [Kind; 4] {
    [name_server_set::kind(), broker_group::kind(), topic::kind(), consumer_group::kind()]
}

#[test]
fn every_field_of_the_schemas_is_in_a_table_with_five_values_and_one_that_is_wrong() {
    let mut wrong = Vec::new();
    for kind in kinds() {
        let in_table: BTreeSet<String> = kind.fields.iter().map(|field| field.path.to_owned()).collect();
        let in_schema = kind.schema().fields();
        wrong
            .extend(in_schema.difference(&in_table).map(|path| format!("{} {path}: in no table", kind.kind)));
        wrong.extend(in_table.difference(&in_schema).map(|path| format!("{} {path}: no field", kind.kind)));
        for Field { path, good, bad, told, .. } in &kind.fields {
            if good.is_empty() || bad.is_empty() || good.len() + bad.len() + told.len() < 5 {
                wrong.push(format!("{} {path}: too few values", kind.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn check(kind: Kind, is_tried: impl Fn(&Field) -> bool) {
    let wrong = kind.wrong(is_tried).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_of_pods(field: &Field) -> bool {
    workload::fields(true).iter().any(|other| other.path == field.path)
}

#[tokio::test]
async fn fields_of_name_servers() {
    check(name_server_set::kind(), |_| true).await;
}

#[tokio::test]
async fn fields_of_broker_groups() {
    check(broker_group::kind(), |field| !is_of_pods(field)).await;
}

#[tokio::test]
async fn fields_of_the_pods_of_broker_groups() {
    check(broker_group::kind(), is_of_pods).await;
}

#[tokio::test]
async fn fields_of_topics() {
    check(topic::kind(), |_| true).await;
}

#[tokio::test]
async fn fields_of_consumer_groups() {
    check(consumer_group::kind(), |_| true).await;
}
