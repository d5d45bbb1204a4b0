use std::sync::Arc;

use proto::control::GetStateResponse;

use super::*;
use crate::broker_group::reign;
use crate::broker_group::{
    apply::Outcome, desired::Advertised, observe::Brokers, status, steer::Steered, validate::validate,
};
use crate::pods::template::Images;

fn group() -> BrokerGroup {
    let yaml = "metadata: {name: a, namespace: shop, uid: u, generation: 7}\n\
                spec: {nameServerRef: {name: shop}, clusterName: c, replicas: 3, storage: {commitLog: {size: 1Gi}}}";
    serde_yaml::from_str(yaml).expect("a BrokerGroup")
}

/// Three pods of the newest revision, of which these are Ready, under a Lease of this epoch, primary and set.
fn observed(ready: &[i32], epoch: i64, primary: Option<i32>, in_sync: &str) -> Observed {
    let set = "metadata: {generation: 1}\n\
               spec: {replicas: 3, selector: {}, template: {}, updateStrategy: {type: OnDelete}}\n\
               status: {replicas: 3, observedGeneration: 1, updateRevision: r}";
    let pod = |ordinal: i32| {
        let is_ready = if ready.contains(&ordinal) { "True" } else { "False" };
        let yaml = format!(
            "metadata: {{name: a-broker-{ordinal}, uid: u{ordinal}, labels: {{controller-revision-hash: r}}}}\n\
             status: {{conditions: [{{type: Ready, status: '{is_ready}'}}]}}"
        );
        Arc::new(serde_yaml::from_str(&yaml).expect("a Pod"))
    };
    let holder = primary.map(|ordinal| format!("a-broker-{ordinal}/u{ordinal}")).unwrap_or_default();
    let recorded = primary.map(|ordinal| format!(", mq.gantry.dev/primary: '{ordinal}'")).unwrap_or_default();
    let lease = format!(
        "metadata: {{name: a-broker, annotations: {{mq.gantry.dev/in-sync: '{in_sync}'{recorded}}}}}\n\
         spec: {{holderIdentity: '{holder}', leaseTransitions: {epoch}}}"
    );
    Observed {
        stateful_set: Some(Arc::new(serde_yaml::from_str(set).expect("a StatefulSet"))),
        pods: (0..3).map(pod).collect(),
        reign: Some(Reign::of(&serde_yaml::from_str(&lease).expect("a Lease"))),
        has_name_servers: true,
        ..Observed::default()
    }
}

/// What brokers say where this one is primary and registered.
fn brokers(primary: i32, accepts_writes: bool) -> Brokers {
    let state = |ordinal| GetStateResponse {
        accepts_writes: ordinal == primary && accepts_writes,
        disk_total_bytes: 100,
        disk_free_bytes: 50,
        name_servers: vec!["n".to_owned()],
        ..GetStateResponse::default()
    };
    (0..3).map(|ordinal| (ordinal, Ok(state(ordinal)))).collect()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a small number is a time")
}

fn status_of(
    group: &BrokerGroup,
    observed: &Observed,
    brokers: &Brokers,
    steered: Steered,
    now: Timestamp,
) -> BrokerGroupStatus {
    let images = Images { prefix: "localhost/".to_owned(), version: "0.1.0".to_owned() };
    let validated = validate(group, observed, &images);
    let advertised = Advertised::Primary(["10.96.0.8".to_owned(), "10.96.0.9".to_owned()]);
    let outcome = Outcome { advertised: Some(advertised), steered, ..Outcome::default() };
    status::status(group, validated.as_ref(), observed, brokers, &outcome, now)
}

fn plain(observed: &Observed, brokers: &Brokers) -> BrokerGroupStatus {
    status_of(&group(), observed, brokers, Steered::default(), at(0))
}

fn read(conditions: &[Condition]) -> Vec<String> {
    conditions.iter().map(|it| format!("{}={}/{}", it.type_, it.status, it.reason)).collect()
}

#[track_caller]
fn check(status: &BrokerGroupStatus, expected: &[&str]) {
    let conditions = read(&status.conditions);
    for expected in expected {
        assert!(conditions.iter().any(|it| it == expected), "{expected} is not in {conditions:?}");
    }
}

#[test]
fn a_group_that_is_well_tells_who_is_what() {
    let status = plain(&observed(&[0, 1, 2], 4, Some(1), "0:a,1:b,2:c"), &brokers(1, true));
    check(
        &status,
        &[
            "Ready=True/Serving",
            "ReplicationHealthy=True/AllInSync",
            "Reconciling=False/UpToDate",
            "StorageHealthy=True/Normal",
        ],
    );
    assert_eq!((status.epoch, status.primary.as_deref()), (Some(4), Some("a-broker-1")));
    assert_eq!(status.in_sync, ["a-broker-0", "a-broker-1", "a-broker-2"]);
    assert_eq!(status.in_sync_replicas, Some(3));
    let members: Vec<_> =
        status.members.iter().map(|it| (it.role, it.state.as_str(), it.address.as_deref())).collect();
    let follows = (Some(MemberRole::Replica), "Following", None);
    assert_eq!(members, [follows, (Some(MemberRole::Primary), "Serving", Some("10.96.0.8:8081")), follows]);
    assert_eq!(status.last_failover, None);
}

#[test]
fn the_next_primary_has_another_address() {
    let address = |epoch, primary: i32| {
        let status =
            plain(&observed(&[0, 1, 2], epoch, Some(primary), "0:a,1:b,2:c"), &brokers(primary, true));
        status.members.into_iter().find_map(|member| member.address)
    };
    let seen = [(4, 1), (5, 2), (6, 2), (7, 0)].map(|(epoch, primary)| address(epoch, primary));
    let [even, odd] = ["10.96.0.8:8081", "10.96.0.9:8081"].map(|address| Some(address.to_owned()));
    assert_eq!(seen, [even.clone(), odd.clone(), even, odd]);
}

#[test]
fn a_member_that_is_out_is_named() {
    let status = plain(&observed(&[0, 1], 4, Some(1), "0:a,1:b"), &brokers(1, true));
    check(
        &status,
        &["Ready=True/Serving", "ReplicationHealthy=False/MemberLost", "Reconciling=True/Starting"],
    );
    let health = status.conditions.iter().find(|it| it.type_ == "ReplicationHealthy").expect("it is told");
    assert!(health.message.starts_with("not in sync: broker 2"), "{}", health.message);
    assert_eq!(status.members[2].role, Some(MemberRole::Unknown));
    let behind = plain(&observed(&[0, 1, 2], 4, Some(1), "0:a,1:b"), &brokers(1, true));
    assert_eq!(behind.members[2].state, "CatchingUp");
}

#[test]
fn below_the_least_number_in_sync_it_does_not_serve() {
    let status = plain(&observed(&[0, 1, 2], 4, Some(1), "1:b"), &brokers(1, false));
    check(&status, &["Ready=False/InsufficientReplicas", "ReplicationHealthy=False/BelowMinInSync"]);
}

#[test]
fn without_a_primary_it_does_not_serve_and_is_stuck_when_nobody_can_be() {
    let status = plain(&observed(&[1, 2], 0, None, "0"), &brokers(9, false));
    check(&status, &["Ready=False/Starting"]);
    assert!(
        !read(&status.conditions).iter().any(|it| it.starts_with("ReplicationHealthy")),
        "there was no primary yet"
    );

    let mut group = group();
    let lost = observed(&[1, 2], 4, Some(9), "0:a");
    group.status = Some(status_of(&group, &lost, &brokers(9, false), Steered::default(), at(0)));
    check(
        group.status.as_ref().expect("it was set"),
        &["Ready=False/NoPrimary", "Stalled=False/Progressing"],
    );
    let later = status_of(&group, &lost, &brokers(9, false), Steered::default(), at(61));
    check(&later, &["Ready=False/NoPrimary", "Stalled=True/QuorumLost"]);
    let can_be = observed(&[0, 2], 4, Some(9), "0:a");
    let later = status_of(&group, &can_be, &brokers(9, false), Steered::default(), at(61));
    check(&later, &["Ready=False/NoPrimary", "Stalled=False/Progressing"]);
}

#[test]
fn another_primary_is_a_failover_and_the_first_is_none() {
    let mut group = group();
    let mut seen = Vec::new();
    for (second, epoch, primary) in [(1, 1, 0), (2, 1, 0), (3, 2, 2), (4, 2, 2), (5, 3, 2)] {
        let observed = observed(&[0, 1, 2], epoch, Some(primary), "0:a,1:b,2:c");
        let status = status_of(&group, &observed, &brokers(primary, true), Steered::default(), at(second));
        seen.push(status.last_failover.clone().map(|it| (it.at, it.from, it.to, it.epoch)));
        group.status = Some(status);
    }
    let told = |second: u32, from: &str, epoch| {
        Some((format!("1970-01-01T00:00:0{second}Z"), from.to_owned(), "a-broker-2".to_owned(), epoch))
    };
    let (first, second) = (told(3, "a-broker-0", 2), told(5, "a-broker-2", 3));
    assert_eq!(seen, [None, None, first.clone(), first, second]);
}

#[test]
fn a_replica_with_a_full_disk_does_not_look_like_a_primary_that_refuses() {
    let mut full = brokers(1, true);
    full.insert(
        0,
        Ok(GetStateResponse { disk_total_bytes: 100, disk_free_bytes: 13, ..GetStateResponse::default() }),
    );
    let status = plain(&observed(&[0, 1, 2], 4, Some(1), "0:a,1:b,2:c"), &full);
    check(&status, &["Ready=True/Serving", "StorageHealthy=False/NearFull"]);
}

#[test]
fn what_a_roll_waits_for_is_said_and_after_a_time_too_long() {
    let waits_for = Some((Reason::Switchover, "the primary is to hand over to broker 0".to_owned()));
    let steered = Steered { waits_for, ..Steered::default() };
    let observed = observed(&[0, 1, 2], 4, Some(1), "0:a,1:b,2:c");
    let mut group = group();
    group.status = Some(status_of(&group, &observed, &brokers(1, true), steered.clone(), at(0)));
    check(group.status.as_ref().expect("it was set"), &["Ready=True/Serving", "Reconciling=True/Switchover"]);
    let later = status_of(&group, &observed, &brokers(1, true), steered, at(616));
    check(&later, &["Stalled=True/RolloutDeadline"]);
    let stalled = later.conditions.iter().find(|it| it.type_ == "Stalled").expect("it is told");
    assert!(stalled.message.contains("hand over to broker 0"), "{}", stalled.message);
}

#[test]
fn possible_loss_is_told_until_the_annotation_goes() {
    let mut group = group();
    let observed = observed(&[0, 1, 2], 4, Some(1), "1:b");
    let annotation = ("mq.gantry.dev/unclean-promote".to_owned(), "2@4".to_owned());
    group.metadata.annotations = Some([annotation].into());
    let steered = Steered { promoted: true, ..Steered::default() };
    let status = status_of(&group, &observed, &brokers(1, true), steered, at(0));
    check(&status, &["DataLossPossible=True/UncleanPromotion"]);
    group.status = Some(status);
    check(
        &status_of(&group, &observed, &brokers(1, true), Steered::default(), at(1)),
        &["DataLossPossible=True/UncleanPromotion"],
    );
    group.metadata.annotations = None;
    let status = status_of(&group, &observed, &brokers(1, true), Steered::default(), at(2));
    assert!(!read(&status.conditions).iter().any(|it| it.starts_with("DataLossPossible")));
}

#[test]
fn a_group_that_begins_again_with_fewer_needs_those_who_have_everything_first() {
    let mut group = group();
    group.spec.replicas = Some(1);
    let left = Observed { stateful_set: None, pods: Vec::new(), ..observed(&[], 4, Some(1), "1:b") };
    let images = Images { prefix: "localhost/".to_owned(), version: "0.1.0".to_owned() };
    let validated = validate(&group, &left, &images).expect("a sound group");
    assert_eq!((validated.replicas, validated.replication.is_some()), (2, true));
    let alone = Observed { reign: observed(&[], 4, Some(0), "0:a").reign, ..left };
    let validated = validate(&group, &alone, &images).expect("a sound group");
    assert_eq!((validated.replicas, validated.replication.is_some()), (1, true), "epochs go on");
}

/// What is told of a primary that is lost, in a group of this spec and with so many failovers just now.
fn told_of_a_lost_primary(spec: &str, failovers: i64, second: i64) -> BrokerGroupStatus {
    let mut group = group();
    let spec: serde_json::Value = serde_yaml::from_str(spec).expect("a part of a spec");
    let mut whole = serde_json::to_value(&group.spec).expect("JSON");
    let fields = spec.as_object().expect("fields").clone();
    whole.as_object_mut().expect("fields").extend(fields);
    group.spec = serde_json::from_value(whole).expect("a spec");
    let mut lost = observed(&[], 4, Some(0), "0:a,1:b");
    let served = observed(&[0, 1, 2], 4, Some(0), "0:a,1:b");
    group.status = Some(status_of(&group, &served, &brokers(0, true), Steered::default(), at(0)));
    lost.reign.as_mut().expect("a reign").failovers = failovers;
    group.status = Some(status_of(&group, &lost, &brokers(9, false), Steered::default(), at(1)));
    status_of(&group, &lost, &brokers(9, false), Steered::default(), at(second))
}

fn message<'a>(status: &'a BrokerGroupStatus, type_: &str) -> &'a str {
    &status.conditions.iter().find(|it| it.type_ == type_).expect("it is told").message
}

#[test]
fn a_primary_that_is_lost_while_the_others_are_kept_back_is_told_with_the_way_out() {
    let status = told_of_a_lost_primary("fencedMembers: [1]", 0, 2);
    check(&status, &["Ready=False/Fenced", "Stalled=True/Fenced"]);
    assert!(message(&status, "Ready").contains("take it out of spec.fencedMembers, or bring broker 0 back"));
    check(&told_of_a_lost_primary("fencedMembers: [2]", 0, 2), &["Stalled=False/Progressing"]);

    // However long that lasts, those that are not Ready have everything: nothing need be given up.
    for second in [2, 100] {
        let status = told_of_a_lost_primary("failover: {enabled: false}", 0, second);
        check(&status, &["Ready=False/NoPrimary", "Stalled=True/FailoverDisabled"]);
        let way_out = r#"mq.gantry.dev/switchover-to: "1@<any id>", or bring broker 0 back"#;
        assert!(message(&status, "Stalled").contains(way_out), "{}", message(&status, "Stalled"));
    }

    let often = "failover: {maxPerHour: 2}";
    check(&told_of_a_lost_primary(often, 1, 2), &["Stalled=False/Progressing"]);
    let status = told_of_a_lost_primary(often, 2, 20);
    check(&status, &["Ready=False/NoPrimary", "Stalled=True/FailoverBackoff"]);
    assert!(message(&status, "Stalled").contains("from 1970-01-01T00:00:31Z on"));
    check(&told_of_a_lost_primary(often, 2, 31), &["Stalled=False/Progressing"]);
}

#[test]
fn too_many_failovers_are_told_while_the_group_serves() {
    let mut group = group();
    let mut observed = observed(&[0, 1, 2], 4, Some(1), "0:a,1:b,2:c");
    group.status = Some(plain(&observed, &brokers(1, true)));
    let reign = observed.reign.as_mut().expect("a reign");
    (reign.failovers, reign.bounds.fenced) = (6, [2].into());
    let status = status_of(&group, &observed, &brokers(1, true), Steered::default(), at(5));
    check(&status, &["Ready=True/Serving", "Stalled=True/FailoverBackoff"]);
    assert!(message(&status, "Stalled").contains("before 1970-01-01T00:00:35Z"));
    let failovers = status.failovers.as_ref().expect("they are counted");
    assert_eq!((failovers.counted, failovers.recent.len()), (6, 6));
    assert_eq!(status.members.iter().map(|it| it.fenced).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn a_group_that_served_alone_serves_on_until_others_have_its_log() {
    let images = Images { prefix: "localhost/".to_owned(), version: "0.1.0".to_owned() };
    let validated = validate(&group(), &observed(&[0], 0, None, "0"), &images).expect("a sound group");
    let least = |known: &BrokerGroupStatus| {
        let lease = reign::lease(&validated, known);
        lease.annotations().get(reign::MIN_IN_SYNC).cloned()
    };
    assert_eq!(least(&BrokerGroupStatus::default()).as_deref(), Some("2"), "nobody has anything yet");
    let alone = BrokerGroupStatus {
        first_served_at: Some("2026-01-01T00:00:00Z".to_owned()),
        ..BrokerGroupStatus::default()
    };
    assert_eq!(least(&alone).as_deref(), Some("1"));

    let replication = validated.replication.as_ref().expect("there are three");
    let said = |min_in_sync, in_sync: &[i32]| {
        let bounds = reign::Bounds { min_in_sync, ..reign::Bounds::default() };
        let reign = Reign { in_sync: in_sync.iter().copied().collect(), bounds, ..Reign::default() };
        too_few(replication, &reign).map(|finding| finding.message)
    };
    assert!(said(Some(1), &[0]).is_some_and(|text| text.contains("sends still go on with 1 of them")));
    assert!(said(Some(2), &[0]).is_some_and(|text| text.contains("so sends are refused")));
    assert_eq!(said(Some(1), &[0, 1]), None, "the operator raises it now");
}
