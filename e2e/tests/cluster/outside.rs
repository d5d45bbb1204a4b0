//! Clients outside of the pod network, over listeners: set up with one address, they are told others that lead to the brokers the
//! same way.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::clients::{Consumer, Language, consume, produce};
use e2e::cluster::{Namespace, in_namespace};
use e2e::messaging;
use e2e::wire::{Wire, block_on, resource};
use proto::v2::QueryRouteRequest;

const LIMIT: Duration = Duration::from_secs(240);
/// Clients ask for routes so often.
const MOVED_WITHIN: Duration = Duration::from_secs(30);
const NODE_PORT: &str = "listeners: [{name: external, type: NodePort, port: 8082}]";

/// Name servers and a group of so many brokers, each with these lines of spec.
fn with_listener(space: &Namespace, brokers: usize, spec: &str) -> Result<()> {
    let name_servers = messaging::resource("NameServerSet", "main", &format!("replicas: 2\n{spec}"));
    let brokers = messaging::brokers("main", "main", &format!("replicas: {brokers}\n{spec}"));
    space.apply(&(name_servers + &brokers))?;
    space.ready(&["nss/main", "bg/main"])?;
    space.topics("main", &["orders"])
}

/// What the status says of the listener `external`.
fn endpoint(space: &Namespace, of: &str, field: &str) -> Result<String> {
    let value = space.get(of, &format!("{{.status.endpoints[?(@.listener==\"external\")].{field}}}"))?;
    ensure!(!value.is_empty(), "{of} has no {field} of the listener external");
    Ok(value)
}

/// The brokers' addresses that a client is told which asks here.
fn told(access_point: &str) -> Result<BTreeSet<String>> {
    block_on(async {
        let mut wire = Wire::new(access_point, "who-asks")?;
        let query = QueryRouteRequest { topic: Some(resource("orders")), endpoints: None };
        let request = wire.request(query, Duration::from_secs(5));
        let answer = wire.client().query_route(request).await?.into_inner();
        let brokers = answer.message_queues.into_iter().filter_map(|queue| queue.broker?.endpoints);
        let addresses = brokers.flat_map(|endpoints| endpoints.addresses);
        Ok(addresses.map(|address| format!("{}:{}", address.host, address.port)).collect())
    })
}

/// Whoever asks here is told so, once Kubelet has brought brokers the addresses that the status tells already.
fn until_told(access_point: &str, expected: &BTreeSet<String>) -> Result<()> {
    let began = std::time::Instant::now();
    while told(access_point)? != *expected {
        ensure!(began.elapsed() < LIMIT, "{:?} is told, and {expected:?} is right", told(access_point)?);
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Name servers hear of the new primary when it serves, a moment after the Lease names it. Until then clients are led to the former one,
/// which passes them on, and at no time nowhere.
fn until_moved(access_point: &str, from: &BTreeSet<String>, to: &BTreeSet<String>) -> Result<()> {
    let began = std::time::Instant::now();
    loop {
        let now = told(access_point)?;
        if now == *to {
            return Ok(());
        }
        ensure!(now == *from, "clients are told {now:?}, between {from:?} and {to:?}");
        ensure!(began.elapsed() < MOVED_WITHIN, "clients are still told {from:?}, and {to:?} is right");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn set(text: &str) -> BTreeSet<String> {
    text.split(';').map(str::to_owned).collect()
}

#[test]
fn one_broker_is_reached_over_the_nodes() -> Result<()> {
    in_namespace("outside-one", |space| {
        with_listener(space, 1, NODE_PORT)?;
        let access_point = endpoint(space, "nss/main", "bootstrap")?;
        let brokers = set(&endpoint(space, "bg/main", "bootstrap")?);
        let first = access_point.split(';').next().context("an address")?;
        until_told(first, &brokers)?;
        let inside = told(&space.access_point("main")?)?;
        ensure!(inside.is_disjoint(&brokers), "clients inside are told {inside:?}");
        for language in [Language::Java, Language::Go, Language::Python] {
            let prefix = format!("{language}-");
            // Java takes several addresses.
            let access_point = if language == Language::Java { &access_point } else { first };
            let sent = produce(language, access_point, "orders", 50)?.prefix(&prefix).run(LIMIT)?;
            sent.ensure_all_sent(50)?;
            let group = format!("group-{language}");
            let received = consume(language, Consumer::Simple, access_point, "orders", &group)?;
            received.idle(5).run(LIMIT)?.ensure_holds(&sent.sent())?;
        }
        Ok(())
    })
}

#[test]
fn three_brokers_are_followed_over_the_nodes_when_another_is_primary() -> Result<()> {
    in_namespace("outside-three", |space| {
        with_listener(space, 3, NODE_PORT)?;
        space.reason("bg/main", "ReplicationHealthy", "AllInSync")?;
        // A broker may be in sync before the API server hears which node it is on.
        space.wait("bg/main", "jsonpath={.status.readyReplicas}=3")?;
        let access_point = endpoint(space, "nss/main", "bootstrap")?;
        let first = access_point.split(';').next().context("an address")?.to_owned();
        let member = |ordinal: usize| endpoint(space, "bg/main", &format!("members[{ordinal}]"));
        until_told(&first, &set(&member(0)?))?;
        // Whoever is asked, also one that is not the primary.
        until_told(&member(2)?, &set(&member(0)?))?;

        let count = 1500;
        let producer = produce(Language::Java, &access_point, "orders", count)?.rate(50).start()?;
        for (index, (from, to)) in [(0, 1), (1, 2)].into_iter().enumerate() {
            producer.until_lines(300 * (index + 1), LIMIT)?;
            space
                .kubectl(&format!("annotate bg/main --overwrite mq.gantry.dev/switchover-to={to}@{index}"))?;
            space.wait("bg/main", &format!("jsonpath={{.status.primary}}=main-broker-{to}"))?;
            until_moved(&first, &set(&member(from)?), &set(&member(to)?))?;
        }
        producer.finish(LIMIT)?.ensure_all_sent(count)?;
        let received =
            consume(Language::Go, Consumer::Simple, &first, "orders", "later")?.idle(8).run(LIMIT)?;
        received.ensure_each_once("m-", count)
    })
}

#[test]
fn a_load_balancer_and_a_gateway_are_told_once_they_are_known() -> Result<()> {
    in_namespace("outside-other", |space| {
        let spec = "listeners:\n- {name: external, type: LoadBalancer, port: 8082}\n\
                    - {name: gateway, type: ClusterIP, port: 8083, tls: Required}";
        with_listener(space, 1, spec)?;
        let service = |service: &str| space.get(&format!("service/{service}"), "{.spec.clusterIP}");
        let name_servers = service("main-namesrv-external")?;
        ensure!(told(&format!("{name_servers}:8082"))?.is_empty(), "there is no load balancer yet");
        let status = r#"{"status":{"loadBalancer":{"ingress":[{"hostname":"lb.example.com"}]}}}"#;
        space.kubectl(&format!("patch service/main-broker-0-external --subresource=status -p {status}"))?;
        space.wait(
            "bg/main",
            "jsonpath={.status.endpoints[?(@.listener==\"external\")].bootstrap}=lb.example.com:8082",
        )?;
        // Kubelet brings the address, and no pod begins anew.
        until_told(&format!("{name_servers}:8082"), &set("lb.example.com:8082"))?;
        let restarts = space.get("pod/main-broker-0", "{.status.containerStatuses[0].restartCount}")?;
        ensure!(restarts == "0", "the broker was restarted {restarts} times");

        // The gateway takes TLS only, which Go speaks.
        let gateway = service("main-namesrv-gateway")?;
        ensure!(told(&format!("{gateway}:8083")).is_err(), "plaintext is taken");
        let access_point = format!("{gateway}:8083");
        let sent = produce(Language::Go, &access_point, "orders", 20)?.with_tls().run(LIMIT)?;
        sent.ensure_all_sent(20)
    })
}
