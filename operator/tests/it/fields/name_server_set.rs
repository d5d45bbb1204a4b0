//! Fields of NameServerSets.

use serde_json::{Value, json};

use super::{Kind, field::Field, workload};
use crate::world::World;

pub(super) fn kind() -> Kind {
    let mut fields = workload::fields(false);
    fields.extend([
        Field::new("replicas", "statefulsets/a-namesrv /spec/replicas")
            .good([json!(1), json!(2), json!(3), json!(9)])
            .bad([json!(0), json!(10), json!("3"), json!(1.5)]),
        Field::new("allowedNamespaces.from", "topics/theirs /status/conditions")
            .good([json!("All")])
            .bad([json!("all"), json!("Selector"), json!("None"), json!("")]),
        Field::new("allowedNamespaces.selector", "topics/theirs /status/conditions")
            .beside(json!({"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"stage": "live"}}}}))
            .good([json!({"matchLabels": {"stage": "test"}})])
            .bad([Value::Null, json!("test"), json!({"labels": {}}), json!({"matchLabels": {"stage": 1}})]),
    ]);
    Kind {
        kind: "NameServerSet",
        spec: json!({"replicas": 4}),
        brokers: &[],
        around: a_topic_elsewhere,
        fields,
    }
}

/// Somebody in another namespace refers to it.
fn a_topic_elsewhere(world: &World) {
    let metadata = json!({"name": "team", "uid": "team", "labels": {"stage": "test"}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    world.server.put("/api/v1/namespaces/team", namespace);
    let topic = json!({
        "apiVersion": "mq.gantry.dev/v1alpha1", "kind": "Topic",
        "metadata": {"name": "theirs", "namespace": "team", "uid": "theirs", "generation": 1},
        "spec": {"nameServerRef": {"name": "a", "namespace": "shop"}},
    });
    world.server.put("/apis/mq.gantry.dev/v1alpha1/namespaces/team/topics/theirs", topic);
}
