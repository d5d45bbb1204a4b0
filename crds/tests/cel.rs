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
    fn brokers_that_are_named_exist_and_one_may_be_primary() {
        made("replicas: 3, fencedMembers: [1, 2], preferredPrimary: 0", None);
        made("replicas: 3, fencedMembers: [3]", Some("fencedMembers names a broker that does not exist"));
        made("fencedMembers: [0]", Some("fencedMembers names every broker"));
        made("replicas: 2, fencedMembers: [0, 1]", Some("leave one out"));
        changed(
            "replicas: 3, fencedMembers: [2]",
            "replicas: 2, fencedMembers: [2]",
            Some("fencedMembers names a broker that does not exist"),
        );
        made("preferredPrimary: 0", None);
        made("replicas: 2, preferredPrimary: 2", Some("preferredPrimary is a broker that does not exist"));
    }

    #[test]
    fn a_size_is_one_that_a_volume_can_have_since_it_never_shrinks() {
        made("storage: {commitLog: {size: 1Ei}}", None);
        made("storage: {commitLog: {size: 20Ei}}", Some("one that is too large could never be lowered"));
        made("storage: {ephemeral: {sizeLimit: 20Ei}}", Some("storage.ephemeral.sizeLimit is at most 1Ei"));
        made("messageRetention: {size: 20Ei}", Some("messageRetention.size is at most 1Ei"));
        let grows = "storage: {commitLog: {size: 1Gi}, autoGrow: {increment: 1Gi, max: 20Ei}}";
        made(grows, Some("storage.autoGrow.max is at most 1Ei"));
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
    fn listeners_have_a_name_a_type_and_a_port_of_their_own() {
        let one = |fields: &str| format!("listeners: [{{name: external, port: 8082, {fields}}}]");
        made(&one("type: NodePort"), None);
        made(&one("type: NodePort, nodePort: 30100, tls: Required, annotations: {a: b}"), None);
        made(&one("type: HostPort, nodePort: 30100"), Some("nodePort is for the type NodePort"));
        made(&one("type: HostPort, annotations: {a: b}"), Some("a HostPort has none"));
        made(&one("type: Internal"), Some("the listener named internal"));
        let internal = "listeners: [{name: internal, type: Internal, port: 8081, tls: Disabled}]";
        made(internal, None);
        made(&internal.replace("8081", "8082"), Some("set its port to 8081"));
        made(&internal.replace("type: Internal", "type: NodePort"), Some("the listener named internal"));
        made(&internal.replace("tls: Disabled", "annotations: {a: b}"), Some("takes only tls"));
        for port in [8081, 9090, 9878] {
            let listener = one("type: NodePort").replace("8082", &port.to_string());
            made(&listener, Some("cannot be 8081, 9090 or 9878"));
        }
        for name in ["client", "control", "http", "headless"] {
            made(&one("type: NodePort").replace("external", name), Some("cannot be client"));
        }
        for name in ["Ext", "a--b", "a-", "-a", "1a"] {
            made(&one("type: NodePort").replace("external", name), Some("begins with a letter"));
        }
        made(&one("type: NodePort").replace("external", "a-b-1"), None);
        let two = "listeners: [{name: a, type: NodePort, port: 8082}, {name: b, type: HostPort, port: 8083}]";
        made(two, None);
        made(&two.replace("8083", "8082"), Some("the same port"));
        changed(two, &one("type: ClusterIP"), None);
    }

    #[test]
    fn advertised_addresses_are_a_host_and_a_port_with_known_parts() {
        let check = |advertised: &str, expected: Option<&str>| {
            made(
                &format!("listeners: [{{name: a, type: NodePort, port: 8082, advertised: {advertised}}}]"),
                expected,
            );
        };
        check("{host: 'b-{ordinal}.{group}.{namespace}.example.com', port: '30100+{ordinal}'}", None);
        check("{host: 192.0.2.1}", None);
        check("{host: '{node}'}", None);
        check("{port: '443'}", None);
        check("{}", Some("needs host or port"));
        check("{host: 'a.example.com:443'}", Some("goes into advertised.port"));
        check("{host: '{ordnal}.example.com'}", Some("goes into advertised.port"));
        check("{port: '0'}", Some("is a port"));
        check("{port: '70000'}", Some("is a port"));
        check("{port: '{ordinal}+30100'}", Some("is a port"));
        check("{port: '30100+{ordinal}1'}", Some("is a port"));
    }

    #[test]
    fn tls_is_said_once_and_a_certificate_is_shown_to_somebody() {
        made("tls: {mode: Required, secretName: s}", None);
        made("tls: {secretName: s}, config: {tls: 'off'}", None);
        made("tls: {mode: Required}, config: {tls: 'off'}", Some("remove config.tls"));
        let internal = "listeners: [{name: internal, type: Internal, port: 8081, tls: Required}]";
        made(&format!("{internal}, config: {{tls: 'off'}}"), Some("remove config.tls"));
        made(&format!("{internal}, tls: {{mode: Disabled}}"), None);
        made("tls: {mode: Disabled, secretName: s}", Some("shown to nobody"));
        let listeners = "listeners: [{name: a, type: NodePort, port: 8082, tls: Permissive}]";
        made(&format!("tls: {{mode: Disabled, secretName: s}}, {listeners}"), None);
    }

    #[test]
    fn a_log_that_goes_with_the_pods_does_not_sleep() {
        made("hibernate: true", None);
        made("storage: {ephemeral: {}}, hibernate: false", None);
        changed(
            "storage: {ephemeral: {}}",
            "storage: {ephemeral: {}}, hibernate: true",
            Some("hibernate would lose every message"),
        );
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
    fn volumes_grow_by_themselves_to_a_bound() {
        let grows = |more: &str| format!("storage: {{commitLog: {{size: 2Gi}}, autoGrow: {{{more}}}}}");
        made(&grows("increment: 1Gi, max: 2Gi"), None);
        made(
            &grows("increment: 1Gi, max: 1Gi"),
            Some("storage.autoGrow.max is at least storage.commitLog.size"),
        );
        made(&grows("increment: 1Mi, max: 4Gi"), Some("increment is at least 64Mi"));
        made(&grows("increment: much, max: 4Gi"), Some("increment is a quantity"));
        made(
            "storage: {ephemeral: {}, autoGrow: {increment: 1Gi, max: 2Gi}}",
            Some("storage.autoGrow is about volumes"),
        );
    }

    #[test]
    fn an_update_has_its_strategy_and_its_times() {
        made("update: {strategy: Supervised, canary: 1, minStableSeconds: 0, paused: true}", None);
        made(
            "update: {windows: [{days: [Monday, Sunday], from: '22:30', hours: 4}], profileVersion: '2'}",
            None,
        );
        for from in ["24:00", "1:000", "12:60", "noon!"] {
            let expected = Some("a time in UTC from 00:00 to 23:59");
            made(&format!("update: {{windows: [{{from: '{from}', hours: 1}}]}}"), expected);
        }
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
    fn a_placement_is_by_names_or_by_labels() {
        made("x", "placement: {names: [a]}", None);
        made("x", "placement: {selector: {matchLabels: {tier: fast}}}", None);
        made("x", "placement: {}", Some("exactly one of names and selector"));
        made("x", "placement: {names: [a], selector: {}}", Some("exactly one of names and selector"));
        changed("placement: {names: [a]}", "placement: {names: [b]}", None);
        changed("placement: {names: [a]}", "", None);
    }

    #[test]
    fn every_kind_of_message_has_its_topics() {
        for kind in ["Normal", "Fifo", "Delay", "Transaction", "Priority", "Lite", "Mixed"] {
            made("x", &format!("messageType: {kind}"), None);
        }
    }
}

mod consumer_group {
    use crds::ConsumerGroup;

    #[track_caller]
    fn made(name: &str, spec: &str, expected: Option<&str>) {
        super::check::<ConsumerGroup>(name, None, &complete(spec), expected);
    }

    #[track_caller]
    fn changed(old: &str, new: &str, expected: Option<&str>) {
        super::check::<ConsumerGroup>("billing", Some(&complete(old)), &complete(new), expected);
    }

    fn complete(spec: &str) -> String {
        let reference = if spec.contains("nameServerRef") { "" } else { "nameServerRef: {name: x}, " };
        format!("{{{reference}{spec}}}")
    }

    #[test]
    fn its_name_is_one_that_rocketmq_takes() {
        made("billing", "", None);
        made("billing.v1", "groupName: billing_v1", None);
        made("x", "groupName: 'ns%Billing|1-2_3'", None);
        made("billing.v1", "", Some("set spec.groupName, or choose a metadata.name without a dot"));
        made(&"a".repeat(121), "", Some("at most 120 characters"));
        made("x", "groupName: 'a b'", Some("groupName has letters"));
        made("x", "groupName: CID_RMQ_SYS_TRANS", Some("such groups belong to the system"));
    }

    #[test]
    fn what_a_group_is_cannot_change_and_how_it_consumes_can() {
        changed("nameServerRef: {name: x}", "nameServerRef: {name: y}", Some("nameServerRef cannot change"));
        changed("groupName: a", "groupName: b", Some("groupName cannot change"));
        changed("", "groupName: billing", None);
        changed("", "consumeEnabled: false, ordered: true, deletionPolicy: Delete", None);
        changed("retry: {maxAttempts: 3}", "retry: {backoff: {custom: [1s]}}", None);
    }

    #[test]
    fn a_backoff_is_one_of_two_kinds_and_says_durations() {
        made("x", "retry: {backoff: {exponential: {initial: 1s, max: 10m, multiplier: 3}}}", None);
        made("x", "retry: {backoff: {custom: [500ms, 1s, 10m, 2h, 1d]}}", None);
        made("x", "retry: {backoff: {}}", Some("exactly one of exponential and custom"));
        let both = "retry: {backoff: {exponential: {initial: 1s, max: 10m}, custom: [1s]}}";
        made("x", both, Some("exactly one of exponential and custom"));
        for bad in ["1", "s", "0s", "1w", "1m30s"] {
            let custom = format!("retry: {{backoff: {{custom: [1s, '{bad}']}}}}");
            made("x", &custom, Some("a duration is a whole number"));
            let initial = format!("retry: {{backoff: {{exponential: {{initial: '{bad}', max: 1h}}}}}}");
            made("x", &initial, Some("a duration is a whole number"));
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
    fn it_has_no_primary_to_supervise() {
        let made = |update: &str, expected| {
            super::check::<NameServerSet>(
                "shop",
                None,
                &format!("{{replicas: 3, update: {update}}}"),
                expected,
            );
        };
        made("{strategy: OnDelete, minStableSeconds: 5}", None);
        made("{strategy: Supervised}", Some("update.strategy Supervised is about primaries"));
    }

    #[test]
    fn other_namespaces_are_allowed_all_or_by_labels() {
        let check = |allowed: &str, expected| {
            let spec = format!("{{replicas: 1, allowedNamespaces: {allowed}}}");
            super::check::<NameServerSet>("shop", None, &spec, expected);
        };
        check("{from: Same}", None);
        check("{from: All}", None);
        check("{from: Selector, selector: {matchLabels: {team: x}}}", None);
        let expected = Some("selector goes with from: Selector");
        check("{from: Selector}", expected);
        check("{from: All, selector: {}}", expected);
    }

    #[test]
    fn everything_may_change() {
        let new = "{replicas: 1, version: '2', config: {tls: 'off'}}";
        super::check::<NameServerSet>("shop", Some("{replicas: 3}"), new, None);
    }

    #[test]
    fn listeners_and_tls_have_the_rules_of_broker_groups() {
        let check = |spec: &str, expected| super::check::<NameServerSet>("shop", None, spec, expected);
        check("{replicas: 1, listeners: [{name: a, type: NodePort, port: 8082}]}", None);
        check(
            "{replicas: 1, listeners: [{name: a, type: NodePort, port: 8081}]}",
            Some("8081, 9090 or 9878"),
        );
        check("{replicas: 1, tls: {mode: Required}, config: {tls: 'off'}}", Some("remove config.tls"));
        let internal = "listeners: [{name: internal, type: Internal, port: 8081, tls: Required}]";
        check(&format!("{{replicas: 1, {internal}, config: {{tls: 'off'}}}}"), Some("remove config.tls"));
        check("{replicas: 1, tls: {mode: Disabled, secretName: s}}", Some("shown to nobody"));
    }
}

mod protection {
    use kube_cel::{AdmissionRequest, VapEvaluator, VapExpression};
    use serde_json::{Value, json};

    /// Whether this user may delete what has this spec, as the policy of `protection.yaml` says.
    fn may_delete(username: &str, spec: Value) -> bool {
        let policy = include_str!("../protection.yaml").split("---").next().expect("a document");
        let policy: Value = serde_yaml::from_str(policy).expect("YAML");
        let holds = |expressions: &Value| {
            let request = AdmissionRequest { username: username.to_owned(), ..AdmissionRequest::default() };
            let evaluator =
                VapEvaluator::builder().request(request).old_object(json!({"spec": spec.clone()})).build();
            let expressions = expressions.as_array().expect("a list").iter().map(|it| VapExpression {
                expression: it["expression"].as_str().expect("a text").to_owned(),
                message: Some("x".to_owned()),
                message_expression: None,
            });
            let results = evaluator.evaluate(&expressions.collect::<Vec<_>>());
            // The API server takes an error for a refusal, and so would these tests take one for an answer.
            assert!(results.iter().all(|it| it.passed || it.message.as_deref() == Some("x")), "{results:?}");
            results.iter().all(|it| it.passed)
        };
        !holds(&policy["spec"]["matchConditions"]) || holds(&policy["spec"]["validations"])
    }

    #[test]
    fn what_is_protected_is_deleted_with_its_namespace_only() {
        let protected = || json!({"deletionProtection": true});
        assert!(!may_delete("admin", protected()));
        assert!(!may_delete("system:serviceaccount:kube-system:generic-garbage-collector", protected()));
        assert!(may_delete("admin", json!({"deletionProtection": false})));
        assert!(may_delete("admin", json!({})));
        // Its own account, or the one of all controllers.
        assert!(may_delete("system:serviceaccount:kube-system:namespace-controller", protected()));
        assert!(may_delete("system:kube-controller-manager", protected()));
    }
}
