//! Fields of Topics.

use serde_json::{Value, json};

use super::{
    Kind,
    field::{Field, Life},
};
use crate::world::World;

/// How it meets what brokers have already: that needs somebody else.
pub(super) const OF_OTHERS: Life =
    Life::Elsewhere("tests of drift and of what is declared, and the table of decide");

pub(super) fn kind() -> Kind {
    let on_broker = "a/a : ";
    let mut fields = vec![
        Field::new("topicName", "a/a : ")
            .good([json!("b"), json!("%a|b-_")])
            .bad([json!(""), json!("a.b"), json!("rmq_sys_a"), json!("TBW102"), json!("%DLQ%a")])
            .life(Life::Fixed),
        Field::new("messageType", on_broker)
            .good([
                json!("Fifo"),
                json!("Delay"),
                json!("Transaction"),
                json!("Priority"),
                json!("Lite"),
                json!("Mixed"),
            ])
            .bad([json!("fifo"), json!(""), json!(1)])
            .life(Life::Fixed),
        Field::new("queues", on_broker).good([json!(1), json!(3), json!(1024)]).bad([
            json!(0),
            json!(1025),
            json!("8"),
            json!(1.5),
        ]),
        Field::new("permission", on_broker)
            .good([json!("ReadOnly"), json!("WriteOnly"), json!("None")])
            .bad([json!("readOnly"), json!(""), json!(4)]),
        Field::new("placement.names", "topics/a /status/groups")
            .beside(json!({"placement": {"names": ["a"]}}))
            .good([json!(["b"]), json!(["a", "b"]), json!(["a", "c"])])
            .bad([json!([]), json!(["a", "a"]), json!([""]), json!("a")]),
        Field::new("placement.selector", "topics/a /status/")
            .beside(json!({"placement": {"selector": {"matchLabels": {"tier": "fast"}}}}))
            .good([json!({"matchLabels": {"tier": "slow"}}), json!({})])
            .bad([Value::Null, json!("fast"), json!({"labels": {}})]),
        Field::new("deletionPolicy", "topics/a /metadata/finalizers").good([json!("Delete")]).bad([
            json!("delete"),
            json!(""),
            json!("Keep"),
            json!(true),
        ]),
    ];
    fields.extend(of_declared());
    Kind {
        kind: "Topic",
        spec: json!({"nameServerRef": {"name": "main"}}),
        brokers: &["a", "b"],
        around: two_groups,
        fields,
    }
}

/// Fields that Topics and ConsumerGroups have in common.
pub(super) fn of_declared() -> Vec<Field> {
    vec![
        Field::new("nameServerRef.name", "/status/conditions")
            .good([json!("other")])
            .bad([json!(""), Value::Null, json!(1), json!("a".repeat(254))])
            .life(Life::Fixed),
        Field::new("nameServerRef.namespace", "/status/conditions")
            .good([json!("elsewhere")])
            .bad([json!(""), json!(1), json!({}), json!("a".repeat(64))])
            .life(Life::Fixed),
        Field::new("adoption", "")
            .good([json!("Always"), json!("Never")])
            .bad([json!("always"), json!(""), json!(true)])
            .life(OF_OTHERS),
        Field::new("driftPolicy", "")
            .good([json!("Report")])
            .bad([json!("report"), json!(""), json!(true), json!("Ignore")])
            .life(OF_OTHERS),
        Field::new("managementPolicy", "/status/conditions")
            .good([json!("ObserveOnly")])
            .bad([json!("observeOnly"), json!(""), json!("None"), json!(true)])
            .life(Life::AtFirst),
    ]
}

/// Name servers, and two broker groups with a label each.
pub(super) fn two_groups(world: &World) {
    world.make("NameServerSet", "main", json!({"replicas": 1}));
    for (group, tier) in [("a", "fast"), ("b", "slow")] {
        let spec = json!({
            "nameServerRef": {"name": "main"}, "clusterName": "DefaultCluster", "storage": {"ephemeral": {}},
        });
        world.make("BrokerGroup", group, spec);
        world.server.change(&World::path("BrokerGroup", group), |group| {
            group["metadata"]["labels"] = json!({"tier": tier});
        });
    }
}
