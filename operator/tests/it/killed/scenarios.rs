//! What is done to clusters.

use serde_json::{Value, json};

use super::scenario::{
    Scenario,
    Step::{self, Annotate, Delete, Heal, Lose, Make, Set, Together},
};

const SET: &str = "NameServerSet";
const GROUP: &str = "BrokerGroup";
const TOPIC: &str = "Topic";
const CONSUMERS: &str = "ConsumerGroup";

fn group(mut spec: Value) -> Value {
    spec["nameServerRef"] = json!({"name": "main"});
    spec["clusterName"] = json!("DefaultCluster");
    if spec["storage"].is_null() {
        spec["storage"] = json!({"commitLog": {"size": "1Gi"}});
    }
    spec
}

/// Without brokers that can be asked.
fn alone(steps: Vec<Step>) -> Scenario {
    Scenario { brokers: &[], asks_name_server: false, steps }
}

/// Name servers, these broker groups, each with a broker that can be asked, and what is made with them.
fn with_brokers(
    brokers: &'static [&'static str],
    made: Vec<Step>,
    steps: impl IntoIterator<Item = Step>,
) -> Scenario {
    let mut first = vec![Make(SET, "main", json!({"replicas": 1}))];
    first.extend(brokers.iter().map(|name| Make(GROUP, name, group(json!({})))));
    first.extend(made);
    Scenario {
        brokers,
        asks_name_server: false,
        steps: std::iter::once(Together(first)).chain(steps).collect(),
    }
}

fn three(steps: impl IntoIterator<Item = Step>) -> Scenario {
    let first = Make(GROUP, "a", group(json!({"replicas": 3})));
    alone(std::iter::once(first).chain(steps).collect())
}

pub(super) fn name_servers() -> Scenario {
    alone(vec![
        Make(SET, "main", json!({"replicas": 3})),
        Set(SET, "main", "config", json!({"maxConnections": "5"})),
        Set(SET, "main", "replicas", json!(1)),
        Make(GROUP, "a", group(json!({}))),
        Delete(SET, "main"),
        Delete(GROUP, "a"),
    ])
}

pub(super) fn one_broker() -> Scenario {
    alone(vec![
        Make(GROUP, "a", group(json!({}))),
        Set(GROUP, "a", "flush", json!("Sync")),
        Set(GROUP, "a", "storage", json!({"commitLog": {"size": "2Gi"}})),
        Set(GROUP, "a", "hibernate", json!(true)),
        Set(GROUP, "a", "config", json!({"maxConnections": "5"})),
        Set(GROUP, "a", "hibernate", Value::Null),
        Set(GROUP, "a", "listeners", json!([{"name": "outside", "type": "NodePort", "port": 8082}])),
        Set(GROUP, "a", "listeners", Value::Null),
        Set(
            GROUP,
            "a",
            "storage",
            json!({"commitLog": {"size": "2Gi"}, "retention": {"onDelete": "Delete"}}),
        ),
        Delete(GROUP, "a"),
    ])
}

pub(super) fn scaled() -> Scenario {
    alone(vec![
        Make(GROUP, "a", group(json!({"replicas": 1}))),
        Set(GROUP, "a", "replicas", json!(3)),
        Annotate(GROUP, "a", "switchover-to", "2@up"),
        Set(GROUP, "a", "replicas", json!(2)),
        Set(GROUP, "a", "replicas", json!(1)),
    ])
}

pub(super) fn rolled() -> Scenario {
    three([
        Set(GROUP, "a", "flush", json!("Sync")),
        Annotate(GROUP, "a", "restarted-at", "monday"),
        Set(GROUP, "a", "flush", Value::Null),
    ])
}

pub(super) fn asleep() -> Scenario {
    three([
        Set(GROUP, "a", "storage", json!({"commitLog": {"size": "2Gi"}})),
        Set(GROUP, "a", "hibernate", json!(true)),
        Set(GROUP, "a", "hibernate", Value::Null),
        Delete(GROUP, "a"),
        Make(GROUP, "a", group(json!({"replicas": 3}))),
    ])
}

pub(super) fn handed_over() -> Scenario {
    three([
        Annotate(GROUP, "a", "switchover-to", "1@one"),
        Annotate(GROUP, "a", "switchover-to", "2@two"),
        Set(GROUP, "a", "fencedMembers", json!([2])),
        Set(GROUP, "a", "failover", json!({"enabled": false})),
        Annotate(GROUP, "a", "switchover-to", "2@three"),
        Set(GROUP, "a", "fencedMembers", Value::Null),
        Annotate(GROUP, "a", "switchover-to", "2@four"),
        Set(GROUP, "a", "failover", Value::Null),
    ])
}

pub(super) fn promoted() -> Scenario {
    three([
        Lose(&["a-broker-1", "a-broker-2"]),
        Lose(&["a-broker-0"]),
        Heal(&["a-broker-1", "a-broker-2"]),
        Annotate(GROUP, "a", "unclean-promote", "2@1"),
        Heal(&["a-broker-0"]),
    ])
}

pub(super) fn declared() -> Scenario {
    let topic = json!({"nameServerRef": {"name": "main"}, "queues": 4, "deletionPolicy": "Delete"});
    let consumers = json!({"nameServerRef": {"name": "main"}, "deletionPolicy": "Delete"});
    let made = vec![Make(TOPIC, "orders", topic), Make(CONSUMERS, "billing", consumers)];
    with_brokers(
        &["a"],
        made,
        [
            Set(TOPIC, "orders", "queues", json!(8)),
            Together(vec![
                Set(TOPIC, "orders", "queues", json!(2)),
                Set(TOPIC, "orders", "permission", json!("ReadOnly")),
                Set(CONSUMERS, "billing", "ordered", json!(true)),
            ]),
            Together(vec![Delete(TOPIC, "orders"), Delete(CONSUMERS, "billing")]),
        ],
    )
}

pub(super) fn moved() -> Scenario {
    let topic = json!({"nameServerRef": {"name": "main"}, "queues": 1, "placement": {"names": ["a"]}});
    with_brokers(
        &["a", "b"],
        vec![Make(TOPIC, "orders", topic)],
        [
            Set(TOPIC, "orders", "placement", json!({"names": ["b"]})),
            Set(TOPIC, "orders", "placement", Value::Null),
        ],
    )
}

pub(super) fn drained() -> Scenario {
    let everywhere = json!({"nameServerRef": {"name": "main"}, "queues": 1});
    with_brokers(
        &["a", "b"],
        vec![Make(TOPIC, "bills", everywhere)],
        [Annotate(GROUP, "a", "drain", "1"), Delete(GROUP, "a")],
    )
}

pub(super) fn ended() -> Scenario {
    let declared = json!({"nameServerRef": {"name": "main"}, "deletionPolicy": "Delete"});
    let namespace = Make("Namespace", "shop", Value::Null);
    let made = vec![namespace, Make(TOPIC, "orders", declared.clone()), Make(CONSUMERS, "billing", declared)];
    with_brokers(&["a"], made, [Delete("Namespace", "shop")])
}

pub(super) fn told_what_to_log() -> Scenario {
    let levels = |levels: Value| Set(SET, "main", "logging", json!({"levels": levels}));
    let steps = vec![
        Make(SET, "main", json!({"replicas": 1})),
        levels(json!({"namesrv": "debug"})),
        levels(json!({"access": "trace"})),
        Set(SET, "main", "logging", Value::Null),
    ];
    Scenario { brokers: &[], asks_name_server: true, steps }
}
