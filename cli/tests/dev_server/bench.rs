//! `gantry bench` against `gantry dev`: each scenario with a few messages. What it measures is not looked at.

use serde_json::Value;

use super::{Dev, bad, good, json};

/// The result of a load that must succeed.
#[track_caller]
fn load(dev: &Dev, arguments: &str) -> Value {
    json(&good(dev.run(&format!("bench {arguments} --connections 2 -o json"))))
}

/// How often something was timed.
fn timed(result: &Value, of: &str) -> u64 {
    let latencies = result["latencies"].as_array().unwrap().iter();
    latencies.filter(|latency| latency["of"] == of).map(|latency| latency["count"].as_u64().unwrap()).sum()
}

#[test]
fn a_backlog_is_produced_and_consumed_to_the_last_message() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create bench --queues 3"));
    let report = data.path().join("report.html");
    let produced =
        load(&dev, &format!("produce bench --count 500 --batch 7 --size 100 --report {}", report.display()));
    assert_eq!((&produced["sent"]["acknowledged"], &produced["sent"]["unsent"]), (&500.into(), &0.into()));
    assert_eq!(timed(&produced, "send"), 500_u64.div_ceil(7));
    assert!(
        produced["received"].is_null() && produced["errors"].as_array().unwrap().is_empty(),
        "{produced}"
    );
    assert!(std::fs::read_to_string(report).unwrap().contains("<svg"));
    good(dev.run("produce bench --body stranger"));

    let consumed = load(&dev, "consume bench --group g --count 500");
    let received = &consumed["received"];
    // The stranger may come before the last one.
    assert_eq!((&received["distinct"], &received["duplicates"]), (&500.into(), &0.into()), "{consumed}");
    assert!(timed(&consumed, "acknowledge") > 0);
}

#[test]
fn a_flow_is_received_whole_in_open_and_closed_loop() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create flow-{n} --count 3"));
    for pace in ["", "--rate 2000 --batch 4"] {
        let result = load(&dev, &format!("end-to-end flow --topics 3 --count 400 {pace}"));
        assert_eq!(result["received"]["missing"], 0, "{result}");
        assert_eq!(timed(&result, "end to end"), 400, "{result}");
    }
}

#[test]
fn fifo_messages_are_checked_for_order() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create fifo --type fifo --queues 2"));
    let unordered = bad(dev.run("bench fifo fifo --group g --count 100"), 1);
    assert!(unordered.contains("gantry group update g --ordered true"), "{unordered}");
    good(dev.run("group update g --ordered true"));
    let result = load(&dev, "fifo fifo --group g --count 300 --in-flight 4");
    assert_eq!(timed(&result, "end to end"), 300, "{result}");
    assert_eq!((&result["received"]["outOfOrder"], &result["received"]["missing"]), (&0.into(), &0.into()));
}

#[test]
fn delayed_messages_come_and_not_too_early() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create later --type delay"));
    let result = load(&dev, "delay later --count 100 --delay 500ms");
    assert_eq!((timed(&result, "end to end"), &result["received"]["early"]), (100, &0.into()), "{result}");
    let sent = load(&dev, "delay later --count 100 --delay 1h --send-only");
    assert!(sent["received"].is_null() && sent["sent"]["acknowledged"] == 100, "{sent}");
}

#[test]
fn transactions_are_committed() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create paid --type transaction"));
    let result = load(&dev, "transaction paid --count 100 --in-flight 4");
    assert_eq!((timed(&result, "commit"), timed(&result, "end to end")), (100, 100), "{result}");
}

#[test]
fn idle_clients_are_held_and_let_go() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create quiet"));
    let parked = json(&good(dev.run("bench idle quiet --clients 30 --duration 1s --poll 5s -o json")));
    assert_eq!(parked["clients"], 30);
}

#[test]
fn what_cannot_be_measured_is_said_before_anything_is_sent() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    let missing = bad(dev.run("bench fifo nowhere --count 1"), 3);
    assert!(missing.contains("topic nowhere does not exist"), "{missing}");
    assert!(missing.contains("gantry topic create nowhere --type fifo"), "{missing}");
    good(dev.run("topic create plain"));
    let other = bad(dev.run("bench delay plain --count 1"), 1);
    assert!(other.contains("topic plain takes normal messages, and delay ones are sent"), "{other}");
    bad(dev.run("bench produce plain --count 1 --duration 5s"), 2);
    let small = bad(dev.run("bench produce plain --size 8"), 2);
    assert!(small.contains("stamp of 32 bytes"), "{small}");
}
