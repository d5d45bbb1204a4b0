use super::*;
use crate::identity::Role;

fn listener(spec: &str) -> Listener {
    let spec: crds::Listener =
        serde_yaml::from_str(&format!("{{name: external, port: 8082, {spec}}}")).expect("a listener");
    let listeners = Listeners::settle(&[spec], None, &BTreeMap::new());
    listeners.others.into_iter().next().expect("it is not internal")
}

fn identity() -> Identity {
    Identity {
        role: Role::Broker,
        name: "main".to_owned(),
        namespace: "shop".to_owned(),
        uid: "u".to_owned(),
    }
}

fn service(yaml: &str) -> Service {
    serde_yaml::from_str(yaml).expect("a Service")
}

fn pod(ordinal: i32, status: &str) -> Pod {
    let yaml = format!("metadata: {{name: main-broker-{ordinal}}}\nstatus: {{{status}}}");
    serde_yaml::from_str(&yaml).expect("a Pod")
}

const NODE_PORT: &str = "spec: {clusterIP: 10.96.0.7, ports: [{port: 8082, nodePort: 31234}]}";

#[test]
fn clients_are_told_what_the_type_says_or_what_the_spec_puts_in_its_place() {
    let check = |spec: &str, there: Option<&str>, expected: Option<&str>| {
        let there = there.map(service);
        let told = listener(spec).address(&identity(), 2, there.as_ref());
        assert_eq!(told.as_deref(), expected, "{spec}");
    };
    check("type: NodePort", Some(NODE_PORT), Some("{node}:31234"));
    check("type: NodePort", None, None);
    check(
        "type: NodePort, advertised: {host: 'mq-{ordinal}.example.com'}",
        Some(NODE_PORT),
        Some("mq-2.example.com:31234"),
    );
    check("type: NodePort, advertised: {port: '9000+{ordinal}'}", None, Some("{node}:9002"));
    check("type: HostPort", None, Some("{node}:8082"));
    check(
        "type: HostPort, advertised: {host: '{pod}.{group}.{namespace}'}",
        None,
        Some("main-broker-2.main.shop:8082"),
    );
    check("type: ClusterIP", Some(NODE_PORT), Some("10.96.0.7:8082"));
    check("type: ClusterIP", Some("spec: {clusterIP: 'fd00::7'}"), Some("[fd00::7]:8082"));
    check(
        "type: ClusterIP, advertised: {host: gate.example.com, port: '443'}",
        None,
        Some("gate.example.com:443"),
    );
    check("type: LoadBalancer", Some(NODE_PORT), None);
    check(
        "type: LoadBalancer",
        Some("status: {loadBalancer: {ingress: [{ip: 203.0.113.9}]}}"),
        Some("203.0.113.9:8082"),
    );
    check(
        "type: LoadBalancer",
        Some("status: {loadBalancer: {ingress: [{hostname: lb.example.com, ip: 203.0.113.9}]}}"),
        Some("lb.example.com:8082"),
    );
}

#[test]
fn a_service_leads_to_one_broker_and_its_annotations_name_it() {
    let listener = listener(
        "type: NodePort, nodePort: 30100, annotations: {'dns/name': '{ordinal}.{group}.example.com'}",
    );
    let service = listener.service(&identity(), Place::Member(2)).expect("a Service");
    assert_eq!(service.metadata.name.as_deref(), Some("main-broker-2-external"));
    assert_eq!(service.metadata.annotations.expect("one")["dns/name"], "2.main.example.com");
    let spec = service.spec.expect("a spec");
    assert_eq!(spec.selector.expect("one")["statefulset.kubernetes.io/pod-name"], "main-broker-2");
    assert_eq!(spec.ports.expect("one")[0].node_port, Some(30_102));
    assert_eq!(spec.publish_not_ready_addresses, Some(true));

    let shared = listener.service(&identity(), Place::All).expect("a Service").spec.expect("a spec");
    assert!(!shared.selector.expect("one").contains_key("statefulset.kubernetes.io/pod-name"));
    assert_eq!(shared.publish_not_ready_addresses, None, "only those that are ready");
    assert_eq!(self::listener("type: HostPort").service(&identity(), Place::All), None);
}

#[test]
fn tls_is_said_by_the_listener_or_for_all_or_by_the_knob() {
    let check = |listeners: &str, tls: Option<&str>, knob: Option<&str>, expected: (Option<&str>, &str)| {
        let listeners: Vec<crds::Listener> = serde_yaml::from_str(listeners).expect("listeners");
        let tls: Option<Tls> = tls.map(|tls| serde_yaml::from_str(tls).expect("tls"));
        let config = knob.map(|knob| ("tls".to_owned(), knob.to_owned())).into_iter().collect();
        let settled = Listeners::settle(&listeners, tls.as_ref(), &config);
        let knob = settled.knobs(&config).get("tls").cloned();
        assert_eq!((knob.as_deref(), settled.others[0].tls.as_str()), expected);
    };
    let one = "[{name: a, type: HostPort, port: 8082}]";
    let own = "[{name: a, type: HostPort, port: 8082, tls: Disabled}, {name: internal, type: Internal, port: 8081, tls: Required}]";
    check(one, None, None, (None, "permissive"));
    check(one, None, Some("off"), (Some("off"), "off"));
    check(one, Some("{mode: Required}"), None, (Some("required"), "required"));
    check(own, Some("{mode: Permissive}"), None, (Some("required"), "off"));
    check(own, None, Some("off"), (Some("required"), "off"));
}

#[test]
fn endpoints_have_the_address_of_the_machine_that_the_pod_is_on() {
    let pods = [pod(0, "hostIP: 10.0.0.1"), pod(1, "hostIP: 'fd00::1'"), pod(2, "")];
    let pods: Vec<&Pod> = pods.iter().collect();
    let told = Told::from([(
        "external".to_owned(),
        ["{node}:1", "{node}:2", "{node}:3", ""].map(str::to_owned).to_vec(),
    )]);
    let [endpoint] = &member_endpoints(&told, &pods)[..] else { panic!("one listener") };
    assert_eq!(endpoint.members, ["10.0.0.1:1", "[fd00::1]:2", "", ""]);
    assert_eq!(endpoint.bootstrap.as_deref(), Some("10.0.0.1:1;[fd00::1]:2"));

    let shared = |spec: &str| {
        let listeners = Listeners { others: vec![listener(spec)], ..Listeners::default() };
        let service = service(NODE_PORT);
        let endpoints = listeners.shared_endpoints(&identity(), &pods, |_| Some(&service));
        endpoints.into_iter().next().and_then(|endpoint| endpoint.bootstrap)
    };
    assert_eq!(shared("type: NodePort").as_deref(), Some("10.0.0.1:31234;[fd00::1]:31234"));
    assert_eq!(shared("type: ClusterIP").as_deref(), Some("10.96.0.7:8082"), "once, for all");
    assert_eq!(shared("type: LoadBalancer"), None);
}
