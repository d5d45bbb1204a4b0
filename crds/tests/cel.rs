//! The rules in the schemas, run: what is refused, with a message that says what to change.

use kube::CustomResourceExt;
use kube_cel::Validator;
use serde_json::Value;

/// A resource with `spec`, after one with `old`, is refused with a message that has `expected` in it, or accepted.
#[track_caller]
fn check<K: CustomResourceExt>(name: &str, old: Option<&str>, spec: &str, expected: Option<&str>) {
    let crd = K::crd();
    let schema = crd.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let schema = serde_json::to_value(schema.expect("a schema")).expect("JSON");
    let object = |spec: &str| -> Value {
        let spec: Value = serde_yaml::from_str(spec).expect("YAML");
        serde_json::json!({"metadata": {"name": name}, "spec": spec})
    };
    let result = Validator::new().validate(&schema, &object(spec), old.map(object).as_ref());
    match (result, expected) {
        (Ok(()), None) => {}
        (Ok(()), Some(expected)) => panic!("accepted, to be refused with {expected:?}: {name} {spec}"),
        (Err(errors), None) => panic!("refused: {name} {spec}: {errors}"),
        (Err(errors), Some(expected)) => {
            assert!(errors.to_string().contains(expected), "{errors}\nto be refused with {expected:?}");
        }
    }
}

mod broker_group {
    use crds::BrokerGroup;

    #[track_caller]
    fn made(spec: &str, expected: Option<&str>) {
        super::check::<BrokerGroup>("a", None, &complete(spec), expected);
    }

    #[track_caller]
    fn changed(old: &str, new: &str, expected: Option<&str>) {
        super::check::<BrokerGroup>("a", Some(&complete(old)), &complete(new), expected);
    }

    fn complete(spec: &str) -> String {
        let mut all = String::from("{");
        if !spec.contains("nameServerRef") {
            all += "nameServerRef: {name: x}, ";
        }
        if !spec.contains("clusterName") {
            all += "clusterName: DefaultCluster, ";
        }
        if !spec.contains("storage") {
            all += "storage: {commitLog: {size: 10Gi}}, ";
        }
        all + spec + "}"
    }

    #[test]
    fn a_minimal_one_is_accepted_and_may_change() {
        made("", None);
        changed("", "replicas: 1, flush: Sync, config: {maxConnections: '5'}", None);
        made("storage: {ephemeral: {}}", None);
        made("storage: {commitLog: {size: 64Mi}, retention: {onDelete: Delete}}", None);
    }

    #[test]
    fn names_become_parts_of_names() {
        for name in ["A", "1a", "a.b", "a-", &"a".repeat(41)] {
            let expected = Some("metadata.name begins with a letter");
            super::check::<BrokerGroup>(name, None, &complete(""), expected);
        }
        super::check::<BrokerGroup>(&"a".repeat(40), None, &complete(""), None);
        made("brokerName: a b", Some("brokerName has letters"));
        made("clusterName: a/b", Some("clusterName has letters"));
    }

    #[test]
    fn what_a_group_is_cannot_change() {
        changed("nameServerRef: {name: x}", "nameServerRef: {name: y}", Some("nameServerRef cannot change"));
        changed("clusterName: c", "clusterName: d", Some("clusterName cannot change"));
        changed("brokerName: b", "brokerName: c", Some("brokerName cannot change"));
        changed("", "brokerName: c", Some("brokerName cannot change"));
        changed("brokerName: b", "", Some("brokerName cannot change"));
        // The name of the resource is the default: to say it changes nothing.
        changed("", "brokerName: a", None);
    }

    #[test]
    fn several_brokers_replicate_and_never_wait_for_more_than_there_are() {
        made("replicas: 9", None);
        changed("replicas: 1", "replicas: 3, replication: {mode: Sync, minInSync: 3}", None);
        changed(
            "replicas: 3",
            "replicas: 3, replication: {mode: Async, minInSync: 1, maxLagSeconds: 5}",
            None,
        );
        made("replicas: 2, replication: {minInSync: 3}", Some("replication.minInSync is at most replicas"));
        made("replication: {minInSync: 2}", Some("replication.minInSync is at most replicas"));
        changed(
            "replicas: 3, replication: {minInSync: 2}",
            "replicas: 1, replication: {minInSync: 2}",
            Some("lower minInSync, or raise replicas"),
        );
    }

    #[test]
    fn a_primary_gives_up_before_another_takes_its_place() {
        made("failover: {leaseDurationSeconds: 15, renewDeadlineSeconds: 10, retryPeriodMillis: 2000}", None);
        made("failover: {leaseDurationSeconds: 6}", None);
        for bad in ["leaseDurationSeconds: 5", "renewDeadlineSeconds: 8", "renewDeadlineSeconds: 20"] {
            let expected = Some("failover.leaseDurationSeconds (8 unless set) is above renewDeadlineSeconds");
            made(&format!("failover: {{{bad}}}"), expected);
        }
        for bad in ["renewDeadlineSeconds: 1", "retryPeriodMillis: 5000"] {
            let expected = Some("failover.renewDeadlineSeconds (5 unless set) is above retryPeriodMillis");
            made(&format!("failover: {{{bad}}}"), expected);
        }
    }

    #[test]
    fn storage_is_one_thing_and_stays_it() {
        made("storage: {}", Some("exactly one of commitLog"));
        made("storage: {commitLog: {size: 1Gi}, ephemeral: {}}", Some("exactly one of commitLog"));
        made(
            "storage: {ephemeral: {}, retention: {onDelete: Delete}}",
            Some("storage.retention is about volumes"),
        );
        changed(
            "storage: {ephemeral: {}}",
            "storage: {commitLog: {size: 1Gi}}",
            Some("cannot change between"),
        );
        changed(
            "storage: {commitLog: {size: 1Gi}}",
            "storage: {commitLog: {size: 1Gi, storageClassName: fast}}",
            Some("storageClassName cannot change"),
        );
    }

    #[test]
    fn volumes_only_grow() {
        made("storage: {commitLog: {size: much}}", Some("is a quantity such as 100Gi"));
        made("storage: {commitLog: {size: 63Mi}}", Some("at least 64Mi"));
        made("storage: {ephemeral: {sizeLimit: 1Mi}}", Some("at least 64Mi"));
        changed(
            "storage: {commitLog: {size: 2Gi}}",
            "storage: {commitLog: {size: 1500Mi}}",
            Some("cannot shrink"),
        );
        changed("storage: {commitLog: {size: 2Gi}}", "storage: {commitLog: {size: 2048Mi}}", None);
        changed("storage: {commitLog: {size: 2Gi}}", "storage: {commitLog: {size: 1Ti}}", None);
    }

    #[test]
    fn retention_is_a_time_and_an_hour() {
        for time in ["72h", "3d", "90m", "1s"] {
            made(&format!("messageRetention: {{time: {time}}}"), None);
        }
        for time in ["72", "h", "0h", "-1h", "1h30m", "1w"] {
            made(&format!("messageRetention: {{time: '{time}'}}"), Some("such as 72h"));
        }
        made("messageRetention: {deleteAt: '23:00'}", None);
        for hour in ["24:00", "4:00", "04:30"] {
            made(&format!("messageRetention: {{deleteAt: '{hour}'}}"), Some("a full hour in UTC"));
        }
        made("messageRetention: {deleteEarlyPercent: 85}", None);
        made("messageRetention: {deleteEarlyPercent: 95, refusePercent: 98}", None);
        made("messageRetention: {deleteEarlyPercent: 90}", Some("is below refusePercent"));
        made("messageRetention: {deleteEarlyPercent: 85, refusePercent: 80}", Some("is below refusePercent"));
        made("messageRetention: {size: 50Gi}", None);
        made("messageRetention: {size: many}", Some("a quantity such as 50Gi"));
        made("messageRetention: {size: 1Mi}", Some("at least 16Mi"));
    }

    #[test]
    fn images_are_named_in_parts() {
        made("image: {repository: 'registry.example.com:5000/x/gantry-broker', tag: '1.0'}", None);
        for repository in ["x/y:1.0", "x@sha256:0", "bad name"] {
            made(&format!("image: {{repository: '{repository}'}}"), Some("image.repository is a name"));
        }
        made("image: {digest: 'sha256:12'}", Some("64 lower-case hexadecimal digits"));
        made("image: {tag: 'a b'}", Some("image.tag has letters"));
        made("version: 'a b'", Some("version is the tag of an image"));
    }

    #[test]
    fn the_operators_labels_are_its_own() {
        made("pod: {labels: {team: x}, annotations: {example.com/y: z}}", None);
        made("pod: {labels: {mq.gantry.dev/broker-group: x}}", Some("use another prefix"));
        made("pod: {labels: {app.kubernetes.io/name: x}}", Some("use another prefix"));
        made("pod: {annotations: {mq.gantry.dev/config-hash: x}}", Some("use another prefix"));
        made("logging: {levels: {'broker::front': debug, default: warn}}", None);
        made("logging: {levels: {'broker front': debug}}", Some("is a module path"));
    }
}

mod topic {
    use crds::Topic;

    #[track_caller]
    fn made(name: &str, spec: &str, expected: Option<&str>) {
        super::check::<Topic>(name, None, &complete(spec), expected);
    }

    #[track_caller]
    fn changed(old: &str, new: &str, expected: Option<&str>) {
        super::check::<Topic>("orders", Some(&complete(old)), &complete(new), expected);
    }

    fn complete(spec: &str) -> String {
        let reference = if spec.contains("nameServerRef") { "" } else { "nameServerRef: {name: x}, " };
        let type_ = if spec.contains("messageType") { "" } else { "messageType: Normal, " };
        format!("{{{reference}{type_}{spec}}}")
    }

    #[test]
    fn its_name_is_one_that_rocketmq_takes() {
        made("orders", "", None);
        made("orders.v1", "topicName: orders_v1", None);
        made("x", "topicName: 'ns%Orders|1-2_3'", None);
        made("orders.v1", "", Some("set spec.topicName, or choose a metadata.name without a dot"));
        made(&"a".repeat(128), "", Some("at most 127 characters"));
        made("x", "topicName: 'a b'", Some("topicName has letters"));
        made("x", "topicName: 'a.b'", Some("topicName has letters"));
    }

    #[test]
    fn reserved_names_are_refused() {
        for name in ["%RETRY%g", "%DLQ%g"] {
            made("x", &format!("topicName: '{name}'"), Some("brokers make these topics for consumer groups"));
        }
        for name in ["rmq_sys_x", "RMQ_SYS_TRACE_TOPIC"] {
            made("x", &format!("topicName: {name}"), Some("such topics belong to the system"));
        }
        for name in
            ["TBW102", "SCHEDULE_TOPIC_XXXX", "BenchmarkTest", "SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT"]
        {
            made("x", &format!("topicName: {name}"), Some("this topicName belongs to the system"));
        }
    }

    #[test]
    fn what_a_topic_is_cannot_change() {
        changed("nameServerRef: {name: x}", "nameServerRef: {name: y}", Some("nameServerRef cannot change"));
        changed("topicName: a", "topicName: b", Some("topicName cannot change"));
        changed("", "topicName: b", Some("topicName cannot change"));
        changed("", "topicName: orders", None);
        changed("messageType: Normal", "messageType: Fifo", Some("messageType cannot change"));
        changed("queues: 8", "queues: 4, permission: ReadOnly, deletionPolicy: Delete", None);
    }

    #[test]
    fn every_kind_of_message_has_its_topics() {
        for kind in ["Normal", "Fifo", "Delay", "Transaction", "Priority", "Lite", "Mixed"] {
            made("x", &format!("messageType: {kind}"), None);
        }
    }
}

mod name_server_set {
    use crds::NameServerSet;

    #[test]
    fn its_name_becomes_a_part_of_names() {
        super::check::<NameServerSet>("shop", None, "{replicas: 3}", None);
        super::check::<NameServerSet>(
            "shop.x",
            None,
            "{replicas: 3}",
            Some("metadata.name begins with a letter"),
        );
    }

    #[test]
    fn everything_may_change() {
        let new = "{replicas: 1, version: '2', config: {tls: 'off'}}";
        super::check::<NameServerSet>("shop", Some("{replicas: 3}"), new, None);
    }
}
