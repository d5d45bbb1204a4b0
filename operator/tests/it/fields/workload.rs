//! Fields that NameServerSets and BrokerGroups have in common.

use serde_json::{Value, json};

use super::field::{Field, Life};

const TEMPLATE: &str = "/spec/template/spec/";
const LABELS: &str = "/spec/template/metadata/labels/";

/// A listener beside which a field of listeners matters.
fn outside(type_: &str) -> Value {
    json!({"listeners": [{"name": "outside", "type": type_, "port": 8082}]})
}

fn text(length: usize) -> Value {
    json!("a".repeat(length))
}

/// The fields that both have.
pub(super) fn fields(of_brokers: bool) -> Vec<Field> {
    let mut all = image();
    all.extend(listeners());
    all.extend(pods());
    all.extend(update(of_brokers));
    all.extend([
        Field::new("disruption.pdb", "poddisruptionbudgets/")
            .beside(json!({"replicas": 3}))
            .good([json!("Disabled")])
            .bad([json!("disabled"), json!(""), json!(true), json!("None")]),
        Field::new("deletionProtection", "")
            .good([json!(true)])
            .bad([json!("true"), json!(1), json!([]), json!({})])
            .life(Life::Elsewhere("the policy of admission in the chart of the CRDs")),
        Field::new("config", "/config")
            .good([json!({"maxConnections": "5"}), json!({"maxConnections": "6"}), json!({"tls": "off"})])
            .bad([json!({"maxConnections": 5}), json!("maxConnections"), json!({"tls": "x".repeat(257)})])
            .told([
                json!({"maxConnection": "5"}),
                json!({"maxConnections": "0"}),
                json!({"tls": "Required"}),
            ]),
        Field::new("logging.format", "/logging/format").good([json!("text")]).bad([
            json!("Text"),
            json!("xml"),
            json!(""),
            json!(1),
        ]),
        Field::new("logging.levels", "/logging/levels")
            .good([
                json!({"default": "warn"}),
                json!({"broker": "debug"}),
                json!({"a::b": "off", "c": "trace"}),
            ])
            .bad([json!({"broker": "loud"}), json!({"a b": "info"}), json!({"broker": 1}), json!("debug")]),
        Field::new("resources", "/resources")
            .good([
                json!({"limits": {"memory": "2Gi"}}),
                json!({"requests": {"cpu": "1"}}),
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
            ])
            .bad([json!("2Gi"), json!({"limits": "2Gi"}), json!({"limit": {"memory": "1Gi"}})]),
        Field::new("tls.mode", "/config/tls")
            .good([json!("Disabled"), json!("Permissive"), json!("Required")])
            .bad([json!("off"), json!("required"), json!(true)]),
        Field::new("tls.secretName", TEMPLATE).good([json!("mq-tls"), json!("mq-tls-2")]).bad([
            json!(""),
            text(254),
            json!(1),
            json!(["a"]),
        ]),
    ]);
    all
}

fn image() -> Vec<Field> {
    let image = "/containers/0/image:";
    let digest = |digit: char| json!(format!("sha256:{}", digit.to_string().repeat(64)));
    vec![
        Field::new("version", image).good([json!("0.2.0"), json!("0.2.0-rc.1"), json!("_x")]).bad([
            json!(""),
            json!("a/b"),
            json!(".x"),
            text(129),
            json!(1),
        ]),
        Field::new("image.repository", image)
            .good([json!("registry.example.com/gantry"), json!("localhost:5000/gantry"), json!("gantry")])
            .bad([json!("gantry:1"), json!("gantry@sha256:00"), json!(""), json!("/gantry")]),
        Field::new("image.tag", image).good([json!("0.2.0"), json!("latest")]).bad([
            json!(""),
            json!("a:b"),
            json!("-a"),
            json!(1),
        ]),
        Field::new("image.digest", image).good([digest('a'), digest('0')]).bad([
            json!("sha256:00"),
            json!("a"),
            digest('g'),
            json!(""),
        ]),
        Field::new("image.pullPolicy", "/imagePullPolicy")
            .good([json!("Always"), json!("IfNotPresent"), json!("Never")])
            .bad([json!("always"), json!("")]),
        Field::new("image.pullSecrets[].name", "/imagePullSecrets").good([json!("one"), json!("two")]).bad([
            json!(""),
            text(254),
            json!(1),
            json!({}),
        ]),
    ]
}

fn listeners() -> Vec<Field> {
    let listener = |path, shows| Field::new(path, shows).beside(outside("NodePort"));
    vec![
        listener("listeners[].name", "/spec/containers/0/ports/3/name")
            .good([json!("out"), json!("a-b"), json!("z9")])
            .bad([json!("Outside"), json!("client"), json!("internal"), json!("")]),
        listener("listeners[].type", "-outside ")
            .good([json!("LoadBalancer"), json!("ClusterIP"), json!("HostPort")])
            .bad([json!("Internal"), json!("nodePort"), json!("")]),
        listener("listeners[].port", "/spec/ports/0/port")
            .good([json!(1024), json!(8083), json!(65535)])
            .bad([json!(8081), json!(9090), json!(80), json!(65536), json!("8083")]),
        listener("listeners[].nodePort", "/spec/ports/0/nodePort").good([json!(30100), json!(32767)]).bad([
            json!(0),
            json!(65536),
            json!("30100"),
            json!(1.5),
        ]),
        listener("listeners[].tls", "/listeners/0/tls").good([json!("Disabled"), json!("Required")]).bad([
            json!("off"),
            json!(""),
            json!(true),
        ]),
        listener("listeners[].annotations", "/metadata/annotations/")
            .good([json!({"a": "b"}), json!({"example.com/name": "{pod}.{group}.{namespace}.{ordinal}"})])
            .bad([json!({"a": 1}), json!("a"), json!(["a"])]),
        listener("listeners[].advertised.host", "/endpoints/1/bootstrap")
            .good([json!("mq.example.com"), json!("{pod}.{group}.{namespace}"), json!("192.0.2.{ordinal}")])
            .bad([json!("mq:80"), json!("{zone}"), json!(""), json!("a b")]),
        listener("listeners[].advertised.port", "/endpoints/1/bootstrap")
            .beside(json!({"listeners": [{
                "name": "outside", "type": "NodePort", "port": 8082, "advertised": {"host": "mq.example.com"},
            }]}))
            .good([json!("443"), json!("30100+{ordinal}"), json!("65500")])
            .bad([json!("0"), json!("65501"), json!("{ordinal}"), json!(443)]),
    ]
}

fn pods() -> Vec<Field> {
    let term = |key: &str| json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
    let required = |key: &str| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term(key)]}}});
    let spread =
        |skew: i32| json!([{"maxSkew": skew, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]);
    vec![
        Field::new("pod.labels", LABELS)
            .good([json!({"team": "x"}), json!({"team": "y", "example.com/a": "b"})])
            .bad([json!({"mq.gantry.dev/a": "b"}), json!({"app.kubernetes.io/name": "b"}), json!({"a": 1})])
            .stuck([json!({"team": "a b"})]),
        Field::new("pod.annotations", "/spec/template/metadata/annotations/")
            .good([json!({"a": "b"}), json!({"example.com/a": ""})])
            .bad([json!({"mq.gantry.dev/restarted-at": "b"}), json!({"a": 1}), json!("a")]),
        Field::new("pod.nodeSelector", "/nodeSelector")
            .good([json!({"disk": "fast"}), json!({"disk": "fast", "zone": "a"})])
            .bad([json!({"disk": 1}), json!({"disk": "a".repeat(64)}), json!(["disk"])])
            .stuck([json!({"disk": "nowhere"})]),
        Field::new("pod.affinity", "/affinity")
            .good([required("disk"), required("gpu"), json!({"podAntiAffinity": {}})])
            .bad([json!("disk"), json!({"nodes": {}}), json!([])]),
        Field::new("pod.tolerations", "/tolerations")
            .good([
                json!([{"operator": "Exists"}]),
                json!([{"key": "a", "value": "b", "effect": "NoSchedule"}]),
            ])
            .bad([json!({"operator": "Exists"}), json!([{"keys": "a"}]), json!(["a"])]),
        Field::new("pod.topologySpreadConstraints", "/topologySpreadConstraints")
            .good([spread(1), spread(2)])
            .bad([json!([{"maxSkew": 1}]), json!({}), json!(["zone"])]),
        Field::new("pod.priorityClassName", "/priorityClassName").good([json!("high"), json!("low")]).bad([
            json!(""),
            text(254),
            json!(1),
        ]),
        Field::new("pod.terminationGracePeriodSeconds", "/terminationGracePeriodSeconds")
            .good([json!(1), json!(30), json!(3600)])
            .bad([json!(0), json!(3601), json!("30")]),
    ]
}

/// They show while pods are replaced.
fn update(of_brokers: bool) -> Vec<Field> {
    let rolls = |path, shows| {
        Field::new(path, shows)
            .beside(json!({"replicas": 3}))
            .together(json!({"logging": {"format": "text"}}))
    };
    let window = |from: &str| json!({"update": {"windows": [{"days": [away()], "from": from, "hours": 1}]}});
    let conditions = "/status/conditions/";
    let mut strategy = vec![json!("OnDelete")];
    strategy.extend(of_brokers.then(|| json!("Supervised")));
    let mut bad = vec![json!("rolling"), json!("Never"), json!(""), json!(1)];
    bad.extend((!of_brokers).then(|| json!("Supervised")));
    vec![
        Field { good: strategy, bad, ..rolls("update.strategy", conditions) },
        rolls("update.paused", conditions).good([json!(true)]).bad([
            json!("true"),
            json!(1),
            json!({}),
            json!([]),
        ]),
        rolls("update.canary", conditions).good([json!(1), json!(2)]).bad([
            json!(0),
            json!(10),
            json!(-1),
            json!("1"),
        ]),
        Field::new("update.minStableSeconds", "")
            .good([json!(0), json!(30), json!(3600)])
            .bad([json!(-1), json!(3601), json!("15")])
            .life(Life::Elsewhere("tables of in_turn, roll and manner: here no pod is new for long")),
        Field::new("update.profileVersion", "/made-from").good([json!("0.2.0"), json!("x")]).bad([
            json!(""),
            text(65),
            json!(1),
        ]),
        rolls("update.windows[].days", conditions)
            .beside(json!({"replicas": 3, "update": {"windows": [{"from": "00:00", "hours": 24}]}}))
            .good([json!([away()])])
            .bad([json!(["monday"]), json!("Monday"), json!([1]), json!(["Mon"])]),
        rolls("update.windows[].from", conditions)
            .beside(super::field::over(&json!({"replicas": 3}), &window("03:00")))
            .good([json!("04:00"), json!("23:59")])
            .bad([json!("24:00"), json!("4:00"), json!("04:60"), json!(4)]),
        rolls("update.windows[].hours", conditions)
            .beside(super::field::over(&json!({"replicas": 3}), &window("03:00")))
            .good([json!(24)])
            .bad([json!(0), json!(25), json!("1"), json!(1.5)])
            .life(Life::Elsewhere("the table of manner: how long a window is open tells a clock")),
    ]
}

/// A day of the week that is neither today nor a neighbour of it.
fn away() -> &'static str {
    let days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).weekday();
    let today = usize::try_from(today.to_monday_zero_offset()).unwrap();
    days[(today + 3) % 7]
}
