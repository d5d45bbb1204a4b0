//! Fields of BrokerGroups.

use serde_json::{Value, json};

use super::{
    Kind,
    field::{Field, Life},
    workload,
};

/// What a group keeps that had more brokers, or larger volumes: the record of who has everything, and their volumes.
const MEMBERS: &[&str] = &["leases/", "persistentvolumeclaims/"];

/// Three brokers, of which the first is primary again when all is well.
fn three(spec: Value) -> Value {
    let three = json!({"replicas": 3, "preferredPrimary": 0, "update": {"minStableSeconds": 0}});
    super::field::over(&three, &spec)
}

pub(super) fn kind() -> Kind {
    let mut fields = workload::fields(true);
    fields.extend(identity());
    fields.extend(storage());
    fields.extend(messages());
    fields.extend(members());
    Kind {
        kind: "BrokerGroup",
        spec: json!({
            "nameServerRef": {"name": "main"}, "clusterName": "Orders", "storage": {"commitLog": {"size": "1Gi"}},
        }),
        brokers: &[],
        around: |_| {},
        fields,
    }
}

fn identity() -> Vec<Field> {
    let file = "configmaps/a-broker-config /data/broker.yaml/";
    vec![
        Field::new("nameServerRef.name", file)
            .good([json!("other"), json!("another")])
            .bad([json!(""), Value::Null, json!(1)])
            .life(Life::Fixed),
        Field::new("nameServerRef.namespace", "/status/conditions")
            .good([json!("elsewhere")])
            .bad([json!(""), json!(1), json!("a".repeat(64)), json!({})])
            .life(Life::Fixed),
        Field::new("clusterName", file)
            .good([json!("a"), json!("Big_1")])
            .bad([json!(""), json!("a/b"), json!("a".repeat(65)), json!(1)])
            .life(Life::Fixed),
        Field::new("brokerName", file)
            .good([json!("b"), json!("Big_1")])
            .bad([json!(""), json!("a b"), json!("a".repeat(65)), json!(1)])
            .life(Life::Fixed),
    ]
}

fn storage() -> Vec<Field> {
    let claim = "persistentvolumeclaims/data-a-broker-0 /spec/";
    let ephemeral = json!({"storage": {"commitLog": null, "ephemeral": {"sizeLimit": "1Gi"}}});
    let grows = json!({"storage": {"autoGrow": {"increment": "1Gi", "max": "5Gi"}}});
    let elsewhere = Life::Elsewhere("auto_grow, which is pure: how full volumes are only brokers say");
    vec![
        Field::new("storage.commitLog.size", claim)
            .good([json!("1.5Gi"), json!("2Gi"), json!("1Ti"), json!("+5Gi"), json!("5e9"), json!("5G")])
            .bad([json!("512Mi"), json!("0"), json!("much"), Value::Null, json!("-2Gi"), json!("20Ei")])
            .life(Life::Grows),
        Field::new("storage.commitLog.storageClassName", claim)
            .good([json!("fast"), json!("slow")])
            .bad([json!(""), json!("a".repeat(254)), json!(1)])
            .life(Life::Fixed),
        Field::new("storage.ephemeral.sizeLimit", "/volumes/")
            .beside(ephemeral)
            .good([json!("2Gi"), json!("64Mi"), json!("+5Gi"), Value::Null])
            .bad([json!("63Mi"), json!("much"), json!(""), json!(1), json!("20Ei")]),
        Field::new("storage.retention.onDelete", "RetentionPolicy/whenDeleted")
            .good([json!("Delete")])
            .bad([json!("delete"), json!(""), json!(true), json!("Keep")]),
        Field::new("storage.retention.onScaleDown", "RetentionPolicy/whenScaled")
            .good([json!("Delete")])
            .bad([json!("delete"), json!(""), json!(true), json!("Keep")]),
        Field::new("storage.autoGrow.thresholdPercent", "")
            .beside(grows.clone())
            .good([json!(50), json!(95)])
            .bad([json!(49), json!(96), json!("80")])
            .life(elsewhere),
        Field::new("storage.autoGrow.increment", "")
            .beside(grows.clone())
            .good([json!("64Mi"), json!("2Gi")])
            .bad([json!("63Mi"), json!("much"), Value::Null, json!("20Ei")])
            .life(elsewhere),
        Field::new("storage.autoGrow.max", "")
            .beside(grows)
            .good([json!("1Gi"), json!("10Gi")])
            .bad([json!("512Mi"), json!("much"), Value::Null, json!("20Ei")])
            .life(elsewhere),
    ]
}

fn messages() -> Vec<Field> {
    let retention = "/data/broker.yaml/messageRetention/";
    vec![
        Field::new("flush", "/data/broker.yaml/flush").good([json!("Sync")]).bad([
            json!("sync"),
            json!(""),
            json!(true),
            json!("Never"),
        ]),
        Field::new("messageRetention.time", retention)
            .good([json!("24h"), json!("3d"), json!("90m"), json!("1s"), json!("999999999d")])
            .bad([json!("0h"), json!("24"), json!("1w"), json!(24)]),
        Field::new("messageRetention.diskPercent", retention).good([json!(10), json!(95)]).bad([
            json!(9),
            json!(96),
            json!("75"),
        ]),
        Field::new("messageRetention.deleteAt", retention).good([json!("00:00"), json!("23:00")]).bad([
            json!("24:00"),
            json!("4:00"),
            json!("04:30"),
        ]),
        Field::new("messageRetention.deleteEarlyPercent", retention).good([json!(10), json!(89)]).bad([
            json!(9),
            json!(90),
            json!(100),
            json!("80"),
        ]),
        Field::new("messageRetention.refusePercent", retention).good([json!(50), json!(100)]).bad([
            json!(49),
            json!(101),
            json!("90"),
        ]),
        Field::new("messageRetention.size", retention).good([json!("16Mi"), json!("+5Gi")]).bad([
            json!("20Ei"),
            json!("15Mi"),
            json!("much"),
            json!(""),
            json!(1),
        ]),
    ]
}

fn members() -> Vec<Field> {
    let replication = "/data/broker.yaml/replication/";
    let lease = "/data/broker.yaml/replication/lease/";
    let of_three = |path, shows| Field::new(path, shows).beside(three(Value::Null));
    vec![
        // One broker that had others keeps its Lease, so one that never had any is no place to come back to.
        of_three("replicas", "statefulsets/a-broker /spec/replicas")
            .good([json!(1), json!(2), json!(9)])
            .bad([json!(0), json!(10), json!("3"), json!(1.5)])
            .leaves(MEMBERS),
        of_three("replication.mode", replication).good([json!("Async")]).bad([
            json!("async"),
            json!(""),
            json!(true),
            json!("None"),
        ]),
        of_three("replication.minInSync", "leases/a-broker /metadata/annotations/")
            .good([json!(1), json!(3)])
            .bad([json!(0), json!(4), json!(10), json!("2")]),
        of_three("replication.maxLagSeconds", replication).good([json!(1), json!(3600)]).bad([
            json!(0),
            json!(3601),
            json!("10"),
        ]),
        of_three("failover.enabled", "leases/a-broker /metadata/annotations/").good([json!(false)]).bad([
            json!("false"),
            json!(0),
            json!([]),
            json!({}),
        ]),
        of_three("failover.maxPerHour", "/status/effective/").good([json!(1), json!(60)]).bad([
            json!(0),
            json!(61),
            json!("6"),
        ]),
        of_three("failover.leaseDurationSeconds", lease).good([json!(6), json!(300)]).bad([
            json!(5),
            json!(301),
            json!("8"),
        ]),
        of_three("failover.renewDeadlineSeconds", lease).good([json!(2), json!(7)]).bad([
            json!(1),
            json!(8),
            json!("5"),
        ]),
        of_three("failover.retryPeriodMillis", lease).good([json!(100), json!(4999)]).bad([
            json!(99),
            json!(5000),
            json!("1000"),
        ]),
        of_three("preferredPrimary", "/status/primary").good([json!(1), json!(2)]).bad([
            json!(-1),
            json!(3),
            json!("1"),
        ]),
        of_three("fencedMembers", "leases/a-broker /metadata/annotations/")
            .good([json!([1]), json!([2]), json!([1, 2])])
            .bad([json!([0, 1, 2]), json!([3]), json!([1, 1]), json!(1)]),
        of_three("hibernate", "statefulsets/a-broker /spec/replicas").good([json!(true)]).bad([
            json!("true"),
            json!(1),
            json!([]),
            json!({}),
        ]),
    ]
}
