use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use proto::control::GetStateResponse;

use super::{apply::Outcome, observe::Observed, validate::validate, *};
use crate::{
    conditions::{self, Type},
    pods::template::Images,
};

const MINIMAL: &str = "nameServerRef: {name: shop}, clusterName: c, storage: {commitLog: {size: 1Gi}}";

fn group(spec: &str) -> BrokerGroup {
    let yaml = format!("metadata: {{name: a, namespace: shop, uid: u, generation: 7}}\nspec: {{{spec}}}");
    serde_yaml::from_str(&yaml).expect("a BrokerGroup")
}

fn images() -> Images {
    Images { prefix: "localhost/".to_owned(), version: "0.1.0".to_owned() }
}

/// One pod of the newest revision, with this status.
fn observed(pod_status: &str) -> Observed {
    let pod = format!(
        "metadata: {{name: a-broker-0, labels: {{controller-revision-hash: r}}}}\nstatus: {{{pod_status}}}"
    );
    let set = "metadata: {generation: 1}\nspec: {selector: {}, template: {}}\n\
               status: {replicas: 1, observedGeneration: 1, updateRevision: r}";
    Observed {
        stateful_set: Some(Arc::new(serde_yaml::from_str(set).expect("a StatefulSet"))),
        pods: vec![Arc::new(serde_yaml::from_str(&pod).expect("a Pod"))],
        has_name_servers: true,
        ..Observed::default()
    }
}

const READY: &str = "conditions: [{type: Ready, status: 'True'}]";
const NOT_READY: &str = "conditions: [{type: Ready, status: 'False'}]";

fn broker(accepts_writes: bool, disk_free_bytes: u64, name_servers: &[&str]) -> GetStateResponse {
    GetStateResponse {
        accepts_writes,
        disk_total_bytes: 100,
        disk_free_bytes,
        name_servers: name_servers.iter().map(|name| (*name).to_owned()).collect(),
        ..GetStateResponse::default()
    }
}

fn status_of(
    group: &BrokerGroup,
    observed: &Observed,
    broker: Option<GetStateResponse>,
    outcome: &Outcome,
) -> crds::BrokerGroupStatus {
    let brokers = broker.into_iter().map(|state| (0, Ok(state))).collect();
    let validated = validate(group, observed, &images());
    status::status(group, validated.as_ref(), observed, &brokers, outcome, Timestamp::UNIX_EPOCH)
}

fn read(conditions: &[Condition]) -> Vec<String> {
    conditions.iter().map(|it| format!("{}={}/{}", it.type_, it.status, it.reason)).collect()
}

#[track_caller]
fn check(observed: &Observed, broker: Option<GetStateResponse>, expected: &[&str]) {
    let status = status_of(&group(MINIMAL), observed, broker, &Outcome::default());
    let conditions = read(&status.conditions);
    for expected in expected {
        assert!(conditions.iter().any(|it| it == expected), "{expected} is not in {conditions:?}");
    }
    assert_eq!(status.observed_generation, Some(7));
}

#[test]
fn ready_tells_whether_messages_are_taken_and_if_not_why() {
    let all_well = &["Ready=True/Serving", "Reconciling=False/UpToDate", "Stalled=False/Progressing"];
    check(&observed(READY), Some(broker(true, 50, &["n"])), all_well);
    // Kubelet reaches the broker where the operator does not.
    check(&observed(READY), None, all_well);
    check(&observed(NOT_READY), None, &["Ready=False/Starting", "Reconciling=True/Starting"]);
    check(&observed(NOT_READY), Some(broker(true, 50, &[])), &["Ready=False/WaitingForNameServer"]);
    check(&observed(READY), Some(broker(false, 50, &["n"])), &["Ready=False/NoPrimary"]);
    check(
        &observed(READY),
        Some(broker(false, 3, &["n"])),
        &["Ready=False/StorageFull", "StorageHealthy=False/Full"],
    );
    check(&Observed::default(), None, &["Ready=False/Starting", "Reconciling=True/ScalingUp"]);
}

/// Should this change, then every cluster's brokers are replaced by the upgrade that brings it.
#[test]
fn what_was_asked_of_a_group_has_the_same_fingerprint_in_every_version() {
    let group = validate(&group(MINIMAL), &Observed::default(), &images()).expect("a sound BrokerGroup");
    let alone = desired::Advertised::Member("10.96.0.10".to_owned());
    assert_eq!(desired::asked(&group, &alone), "27bd7f4e793b5aca");
    let several = desired::Advertised::Primary(["10.96.0.20".to_owned(), "10.96.0.21".to_owned()]);
    assert_eq!(desired::asked(&group, &several), "fee6985ad58bf86c");
}

#[test]
fn a_group_is_first_ready_when_every_name_server_knows_it() {
    let two = Observed { name_servers: 2, ..observed(READY) };
    let known_to = |names: &[&str]| Some(broker(true, 50, names));
    check(&two, known_to(&["n"]), &["Ready=False/WaitingForNameServer"]);
    check(&two, known_to(&["n", "m"]), &["Ready=True/Serving"]);
    let mut before = group(MINIMAL);
    before.status = Some(status_of(&before, &two, known_to(&["n", "m"]), &Outcome::default()));
    let third = Observed { name_servers: 3, ..two };
    let status = status_of(&before, &third, known_to(&["n", "m"]), &Outcome::default());
    assert!(conditions::holds(&status.conditions, Type::Ready), "a new name server takes nothing away");
}

#[test]
fn name_servers_that_start_with_the_group_are_waited_for_and_not_for_ever() {
    let set = |made: &str, ready: i32| {
        let yaml = format!(
            "metadata: {{name: shop, creationTimestamp: '{made}'}}\nspec: {{replicas: 3}}\n\
             status: {{readyReplicas: {ready}}}"
        );
        serde_yaml::from_str(&yaml).expect("a NameServerSet")
    };
    let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
    let expected = |set| observe::name_servers(&set, now);
    assert_eq!(expected(set("2026-01-01T00:00:30Z", 0)), 3);
    assert_eq!(
        expected(set("2026-01-01T00:00:30Z", 2)),
        3,
        "the last of them is asked as soon as it is ready"
    );
    assert_eq!(expected(set("2025-12-31T23:59:00Z", 2)), 2, "the third has no place to run");
    assert_eq!(expected(set("2025-12-31T23:59:00Z", 4)), 4, "one goes");
}

#[test]
fn a_missing_name_server_set_is_named() {
    let alone = Observed { has_name_servers: false, ..observed(NOT_READY) };
    let status = status_of(&group(MINIMAL), &alone, Some(broker(true, 50, &[])), &Outcome::default());
    assert_eq!(status.conditions[0].message, "there is no NameServerSet shop in this namespace: create it");
}

#[test]
fn what_cannot_be_stalls_with_its_reason() {
    let other = MINIMAL.replace("name: shop", "name: shop, namespace: elsewhere");
    let rival = Observed { rival: Some("older".to_owned()), ..Observed::default() };
    let odd = MINIMAL.replace("1Gi", "much");
    for (spec, observed, reason) in [
        (other.as_str(), Observed::default(), "NamespaceNotAllowed"),
        (MINIMAL, rival, "NameConflict"),
        (odd.as_str(), Observed::default(), "InvalidSpec"),
        ("nameServerRef: {name: shop}, storage: {}", Observed::default(), "InvalidSpec"),
    ] {
        let status = status_of(&group(spec), &observed, None, &Outcome::default());
        let expected = [
            format!("Ready=False/{reason}"),
            format!("Stalled=True/{reason}"),
            "Reconciling=False/UpToDate".to_owned(),
        ];
        assert_eq!(read(&status.conditions), expected, "{spec}");
    }
}

#[test]
fn a_volume_that_grows_or_cannot_is_told() {
    let claim = |capacity: &str| {
        let yaml = format!(
            "metadata: {{name: data-a-broker-0}}\nspec: {{}}\nstatus: {{capacity: {{storage: {capacity}}}}}"
        );
        Arc::new(serde_yaml::from_str(&yaml).expect("a claim"))
    };
    let small = Observed { claims: vec![claim("512Mi")], ..observed(READY) };
    check(
        &small,
        Some(broker(true, 50, &["n"])),
        &["StorageHealthy=False/ResizePending", "Reconciling=True/Resizing"],
    );
    let large = Observed { claims: vec![claim("1Gi")], ..observed(READY) };
    check(
        &large,
        Some(broker(true, 50, &["n"])),
        &["StorageHealthy=True/Normal", "Reconciling=False/UpToDate"],
    );
    let refused = Outcome { resize_refused: Some("forbidden".to_owned()), ..Outcome::default() };
    let status = status_of(&group(MINIMAL), &small, None, &refused);
    assert!(read(&status.conditions).contains(&"StorageHealthy=False/ResizeUnsupported".to_owned()));
}

#[test]
fn a_disk_at_the_edge_makes_no_noise() {
    let mut group = group(MINIMAL);
    let mut seen = Vec::new();
    for free in [21, 15, 18, 19, 21] {
        let status =
            status_of(&group, &observed(READY), Some(broker(true, free, &["n"])), &Outcome::default());
        let storage = status.conditions.iter().find(|it| it.type_ == "StorageHealthy").expect("it was asked");
        seen.push(storage.reason.clone());
        group.status = Some(status);
    }
    assert_eq!(seen, ["Normal", "NearFull", "NearFull", "NearFull", "Normal"]);
}

#[test]
fn a_damaged_log_is_told_with_its_place_and_the_next_step() {
    let place = |log_offset| proto::control::DamagedPlace {
        log_offset,
        bytes: 130,
        reason: "the checksum of its bytes does not match".to_owned(),
        found_at_ms: 1,
    };
    let damaged = |free| GetStateResponse {
        damaged_places: 2,
        damaged_bytes: 260,
        damaged: vec![place(1070), place(5000)],
        ..broker(true, free, &["n"])
    };
    let mut group = group(MINIMAL);
    let mut seen = Vec::new();
    // Room is a matter of its own: a log that was damaged leaves no trace in how it is judged.
    for state in [damaged(50), damaged(3), damaged(50), broker(true, 18, &["n"])] {
        let status = status_of(&group, &observed(READY), Some(state), &Outcome::default());
        assert!(conditions::holds(&status.conditions, Type::Ready), "it serves");
        let storage = status.conditions.iter().find(|it| it.type_ == "StorageHealthy").expect("it was asked");
        seen.push(format!("{} {}", storage.status, storage.reason));
        if storage.reason == "Damaged" {
            assert_eq!(
                storage.message,
                "broker 0 has 2 damaged places of 260 bytes, the first at log offset 1070: the checksum of its bytes does not match; \
                 messages there are skipped, all others are served; what to do: docs/damaged-logs.md"
            );
        }
        group.status = Some(status);
    }
    assert_eq!(seen, ["False Damaged", "False Full", "False Damaged", "True Normal"]);
}

#[test]
fn the_first_time_it_serves_is_kept() {
    let mut group = group(MINIMAL);
    assert_eq!(status_of(&group, &observed(NOT_READY), None, &Outcome::default()).first_served_at, None);
    let served = status_of(&group, &observed(READY), None, &Outcome::default());
    assert_eq!(served.first_served_at.as_deref(), Some("1970-01-01T00:00:00Z"));
    group.status = Some(served);
    assert!(status_of(&group, &observed(NOT_READY), None, &Outcome::default()).first_served_at.is_some());
}
