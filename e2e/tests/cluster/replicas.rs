//! Broker groups of several members: faults under official clients, and not one acknowledged message lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, consume, produce};
use e2e::cluster::{Namespace, in_namespace};

const LIMIT: Duration = Duration::from_secs(240);
const THREE: &str = "replicas: 3";

/// The Lease of the group `main`.
fn lease(space: &Namespace, path: &str) -> Result<String> {
    space.get("lease/main-broker", path)
}

/// The pod that is the primary now.
fn primary(space: &Namespace) -> Result<String> {
    let ordinal = lease(space, r"{.metadata.annotations.mq\.gantry\.dev/primary}")?;
    Ok(format!("main-broker-{ordinal}"))
}

/// Waits until all three members are in sync.
fn all_in_sync(space: &Namespace) -> Result<()> {
    space.reason("bg/main", "ReplicationHealthy", "AllInSync").map(drop)
}

/// A fault in the middle of sending; what was acknowledged is there afterwards, each message once or more.
fn survives(name: &str, language: Language, fault: impl Fn(&Namespace, &str) -> Result<()>) -> Result<()> {
    in_namespace(name, |space| {
        let access_point = space.messaging("main", THREE)?;
        all_in_sync(space)?;
        space.topics("main", &["orders"])?;
        let count = 2000;
        let producer =
            produce(language, &access_point, "orders", count)?.prefix("order-").rate(50).start()?;
        producer.until_lines(300, LIMIT)?;
        let (before, process) = (primary(space)?, lease(space, "{.spec.holderIdentity}")?);
        fault(space, &before)?;
        let sent = producer.finish(LIMIT)?;
        // A pod that is back within half a second may be primary again, in a new reign.
        ensure!(lease(space, "{.spec.holderIdentity}")? != process, "the primary is still {process}");
        let acknowledged = sent.sent();
        ensure!(acknowledged.len() > count / 2, "only {} sends succeeded", acknowledged.len());
        let received =
            consume(Language::Go, Consumer::Simple, &access_point, "orders", "later")?.idle(8).run(LIMIT)?;
        received.ensure_holds(&acknowledged)?;
        space.ready(&["bg/main"])?;
        all_in_sync(space)
    })
}

#[test]
fn nothing_is_lost_when_the_primary_is_deleted_by_force() -> Result<()> {
    survives("replicas-forced", Language::Java, |space, primary| {
        space.kubectl(&format!("delete pod {primary} --grace-period=0 --force --wait=false")).map(drop)
    })
}

#[test]
fn a_switchover_loses_nothing_and_every_send_succeeds() -> Result<()> {
    in_namespace("replicas-switch", |space| {
        let access_point = space.messaging("main", THREE)?;
        all_in_sync(space)?;
        space.topics("main", &["orders"])?;
        let count = 1500;
        let producer = produce(Language::Java, &access_point, "orders", count)?.rate(50).start()?;
        for (index, to) in ["1", "2", "0"].into_iter().enumerate() {
            producer.until_lines(200 * (index + 1), LIMIT)?;
            space
                .kubectl(&format!("annotate bg/main --overwrite mq.gantry.dev/switchover-to={to}@{index}"))?;
            space.wait("bg/main", &format!("jsonpath={{.status.primary}}=main-broker-{to}"))?;
        }
        producer.finish(LIMIT)?.ensure_all_sent(count)?;
        let received = consume(Language::Python, Consumer::Simple, &access_point, "orders", "later")?
            .idle(8)
            .run(LIMIT)?;
        received.ensure_each_once("m-", count)
    })
}

#[test]
fn a_changed_setting_of_pods_rolls_the_members_with_the_primary_last() -> Result<()> {
    in_namespace("replicas-roll", |space| {
        let access_point = space.messaging("main", THREE)?;
        all_in_sync(space)?;
        space.topics("main", &["orders"])?;
        let count = 2500;
        let producer = produce(Language::Go, &access_point, "orders", count)?.rate(50).start()?;
        producer.until_lines(100, LIMIT)?;
        let before = primary(space)?;
        space.kubectl(r#"patch bg/main --type merge -p {"spec":{"pod":{"labels":{"rolled":"yes"}}}}"#)?;
        space.reason("bg/main", "Reconciling", "RollingUpdate")?;
        space.reason("bg/main", "Reconciling", "UpToDate")?;
        ensure!(primary(space)? != before, "the primary was rolled without a switchover");
        let sent = producer.finish(LIMIT)?;
        let received =
            consume(Language::Go, Consumer::Simple, &access_point, "orders", "later")?.idle(8).run(LIMIT)?;
        received.ensure_holds(&sent.sent())?;
        all_in_sync(space)
    })
}

#[test]
fn members_come_and_go_while_clients_send() -> Result<()> {
    in_namespace("replicas-scale", |space| {
        let access_point = space.messaging("main", "replicas: 1")?;
        space.topics("main", &["orders", "works"])?;
        let count = 5000;
        let producer = produce(Language::Java, &access_point, "orders", count)?.rate(50).start()?;
        producer.until_lines(100, LIMIT)?;
        space.kubectl("scale bg/main --replicas=3")?;
        space.wait("bg/main", "jsonpath={.status.readyReplicas}=3")?;
        all_in_sync(space)?;
        // It served alone as before until the others had everything.
        space.wait("lease/main-broker", r"jsonpath={.metadata.annotations.mq\.gantry\.dev/min-in-sync}=2")?;
        // The last is the first to go: it hands over before.
        space.kubectl("annotate bg/main mq.gantry.dev/switchover-to=2@scale")?;
        space.wait("bg/main", "jsonpath={.status.primary}=main-broker-2")?;
        space.kubectl("scale bg/main --replicas=1")?;
        space.wait("bg/main", "jsonpath={.status.primary}=main-broker-0")?;
        space.wait("pod/main-broker-1", "delete")?;
        let sent = producer.finish(LIMIT)?;
        // Broker 0 has begun again by then, as the only one.
        space.reason("bg/main", "Reconciling", "UpToDate")?;
        space.ready(&["bg/main"])?;
        space.ensure_works(&access_point, "works")?;
        // Broker 0 starts again twice, alone: nobody takes its sends meanwhile. They go on as soon as it is back.
        let failures = sent.failures();
        ensure!(failures.len() < count / 4, "{} sends failed, the first: {}", failures.len(), failures[0]);
        let received =
            consume(Language::Go, Consumer::Simple, &access_point, "orders", "later")?.idle(8).run(LIMIT)?;
        received.ensure_holds(&sent.sent())
    })
}

#[test]
fn an_async_group_goes_on_without_its_primary() -> Result<()> {
    in_namespace("replicas-async", |space| {
        let access_point = space.messaging("main", "replicas: 3\nreplication: {mode: Async}")?;
        all_in_sync(space)?;
        space.topics("main", &["orders"])?;
        let producer = produce(Language::Go, &access_point, "orders", 1500)?.rate(50).start()?;
        producer.until_lines(200, LIMIT)?;
        let before = primary(space)?;
        let process = lease(space, "{.spec.holderIdentity}")?;
        space.kubectl(&format!("delete pod {before} --grace-period=0 --force --wait=false"))?;
        let sent = producer.finish(LIMIT)?;
        ensure!(lease(space, "{.spec.holderIdentity}")? != process, "the primary is still {process}");
        let received =
            consume(Language::Go, Consumer::Simple, &access_point, "orders", "later")?.idle(8).run(LIMIT)?;
        // What the others had not yet when it died may be lost: the last moments before that, and nothing after.
        let lost = received.missing(&sent.sent());
        ensure!(lost.len() <= 50, "{} acknowledged messages are lost: {lost:?}", lost.len());
        all_in_sync(space)
    })
}

#[test]
fn a_group_that_slept_has_everything_and_its_clients_go_on() -> Result<()> {
    in_namespace("replicas-sleep", |space| {
        let access_point = space.messaging("main", THREE)?;
        all_in_sync(space)?;
        space.topics("main", &["orders"])?;
        let sent = produce(Language::Go, &access_point, "orders", 500)?.run(LIMIT)?;
        sent.ensure_all_sent(500)?;
        space.kubectl(r#"patch bg/main --type merge -p {"spec":{"hibernate":true}}"#)?;
        space.reason("bg/main", "Ready", "Hibernated")?;
        for ordinal in 0..3 {
            space.wait(&format!("pod/main-broker-{ordinal}"), "delete")?;
        }
        space.kubectl(r#"patch bg/main --type merge -p {"spec":{"hibernate":false}}"#)?;
        space.ready(&["bg/main"])?;
        all_in_sync(space)?;
        space.ensure_works(&access_point, "orders")?;
        let received =
            consume(Language::Go, Consumer::Simple, &access_point, "orders", "later")?.idle(8).run(LIMIT)?;
        received.ensure_holds(&sent.sent())
    })
}

#[test]
fn a_member_that_lost_its_volume_is_filled_again() -> Result<()> {
    in_namespace("replicas-volume", |space| {
        let access_point = space.messaging("main", THREE)?;
        all_in_sync(space)?;
        space.topics("main", &["orders"])?;
        let count = 500;
        produce(Language::Go, &access_point, "orders", count)?.run(LIMIT)?.ensure_all_sent(count)?;
        let primary = primary(space)?;
        let victim = if primary == "main-broker-2" { "main-broker-1" } else { "main-broker-2" };
        let before = lease(space, r"{.metadata.annotations.mq\.gantry\.dev/in-sync}")?;
        space.kubectl(&format!("delete pvc data-{victim} --wait=false"))?;
        space.kubectl(&format!("delete pod {victim} --grace-period=0 --force"))?;
        space.kubectl(&format!("wait --for=create pod/{victim} --timeout=60s"))?;
        space.ready(&[&format!("pod/{victim}")])?;
        all_in_sync(space)?;
        let after = lease(space, r"{.metadata.annotations.mq\.gantry\.dev/in-sync}")?;
        ensure!(after != before, "a member with another store is another member: {after}");
        let ordinal = victim.rsplit('-').next().unwrap_or_default();
        space.kubectl(&format!("annotate bg/main --overwrite mq.gantry.dev/switchover-to={ordinal}@lost"))?;
        space.wait("bg/main", &format!("jsonpath={{.status.primary}}={victim}"))?;
        let received =
            consume(Language::Go, Consumer::Simple, &access_point, "orders", "later")?.idle(8).run(LIMIT)?;
        received.ensure_each_once("m-", count)
    })
}
