//! Fields of ConsumerGroups.

use serde_json::json;

use super::{
    Kind,
    field::{Field, Life},
    topic::{of_declared, two_groups},
};

pub(super) fn kind() -> Kind {
    let on_broker = "a/a : ";
    let exponential =
        json!({"retry": {"backoff": {"exponential": {"initial": "5s", "max": "1h", "multiplier": 3}}}});
    let backoff = |path| Field::new(path, on_broker).beside(exponential.clone());
    let mut fields =
        vec![
            Field::new("groupName", "a/a : ")
                .good([json!("b"), json!("%a|b-_"), json!("b".repeat(120))])
                .bad([json!(""), json!("a.b"), json!("CID_RMQ_SYS_a"), json!("a".repeat(121))])
                .life(Life::Fixed),
            Field::new("consumeEnabled", on_broker).good([json!(false)]).bad([
                json!("false"),
                json!(0),
                json!({}),
                json!([]),
            ]),
            Field::new("ordered", on_broker).good([json!(true)]).bad([
                json!("true"),
                json!(1),
                json!({}),
                json!([]),
            ]),
            Field::new("retry.maxAttempts", on_broker).good([json!(1), json!(1000)]).bad([
                json!(0),
                json!(1001),
                json!("3"),
            ]),
            Field::new("retry.backoff.custom", on_broker)
                .good([json!(["10s"]), json!(["500ms", "1d"]), json!(["9999999d"]), json!(vec!["1s"; 64])])
                .bad([json!([]), json!(["10"]), json!(["0s"]), json!("10s")]),
            backoff("retry.backoff.exponential.initial").good([json!("1s"), json!("500ms")]).bad([
                json!("5"),
                json!("0s"),
                json!(5),
            ]),
            backoff("retry.backoff.exponential.max").good([json!("30m"), json!("1d")]).bad([
                json!("1"),
                json!("0h"),
                json!(1),
            ]),
            backoff("retry.backoff.exponential.multiplier").good([json!(1), json!(100)]).bad([
                json!(0),
                json!(101),
                json!("2"),
            ]),
            Field::new("deletionPolicy", "consumergroups/a /metadata/finalizers")
                .good([json!("Delete")])
                .bad([json!("delete"), json!(""), json!("Keep"), json!(true)]),
        ];
    fields.extend(of_declared());
    Kind {
        kind: "ConsumerGroup",
        spec: json!({"nameServerRef": {"name": "main"}}),
        brokers: &["a", "b"],
        around: two_groups,
        fields,
    }
}
