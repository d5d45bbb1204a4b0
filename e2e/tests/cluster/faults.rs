//! Pods deleted at the worst moment.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, consume, produce};
use e2e::cluster::{Namespace, OPERATOR_NAMESPACE, in_namespace};
use e2e::messaging;

const LIMIT: Duration = Duration::from_secs(240);

/// The volume behind the only broker's claim.
fn volume(space: &Namespace) -> Result<String> {
    space.get("pvc/data-main-broker-0", "{.spec.volumeName}")
}

#[test]
fn what_was_acknowledged_is_received_after_the_broker_pod_was_deleted() -> Result<()> {
    in_namespace("broker-pod", |space| {
        let access_point = space.messaging("main", "")?;
        space.topics("main", &["orders"])?;
        let before = volume(space)?;
        let count = 2000;
        let producer =
            produce(Language::Java, &access_point, "orders", count)?.prefix("order-").rate(50).start()?;
        let consumer =
            consume(Language::Go, Consumer::Push, &access_point, "orders", "live")?.idle(30).start()?;
        producer.until_lines(300, LIMIT)?;
        space.kubectl("delete pod main-broker-0 --wait=false")?;
        producer.until_lines(900, LIMIT)?;
        space.kubectl("delete pod main-broker-0 --grace-period=0 --force --wait=false")?;
        let sent = producer.finish(LIMIT)?;
        space.ready(&["bg/main", "pod/main-broker-0"])?;
        ensure!(volume(space)? == before, "the broker came back on another volume");
        let acknowledged = sent.sent();
        ensure!(acknowledged.len() > count / 3, "only {} sends succeeded", acknowledged.len());
        consumer.finish(LIMIT)?.ensure_holds(&acknowledged)?;
        let later = consume(Language::Python, Consumer::Simple, &access_point, "orders", "later")?
            .idle(6)
            .run(LIMIT)?;
        later.ensure_holds(&acknowledged)
    })
}

#[test]
fn nothing_fails_when_every_name_server_pod_is_deleted() -> Result<()> {
    in_namespace("name-servers", |space| {
        space.apply(&(messaging::name_servers("main", 2) + &messaging::brokers("main", "main", "")))?;
        space.ready(&["nss/main", "bg/main"])?;
        space.topics("main", &["orders"])?;
        let access_point = space.access_point("main")?;
        let count = 600;
        let producer = produce(Language::Java, &access_point, "orders", count)?.rate(50).start()?;
        let consumer =
            consume(Language::Go, Consumer::Simple, &access_point, "orders", "live")?.count(count).start()?;
        producer.until_lines(100, LIMIT)?;
        space.kubectl("delete pod main-namesrv-0 main-namesrv-1 --wait=false")?;
        producer.finish(LIMIT)?.ensure_all_sent(count)?;
        consumer.finish(LIMIT)?.ensure_each_once("m-", count)?;
        space.ready(&["nss/main", "pod/main-namesrv-0", "pod/main-namesrv-1"])?;
        space.ensure_works(&access_point, "orders")
    })
}

#[test]
fn an_operator_that_is_killed_in_the_middle_of_creation_ends_with_the_same_result() -> Result<()> {
    in_namespace("operator-pod", |space| {
        let yaml = messaging::name_servers("main", 1) + &messaging::brokers("main", "main", "");
        let yaml = yaml + &messaging::topic("orders", "main", "");
        space.apply(&yaml)?;
        // As soon as the first object is there, the operator is in the middle of it.
        space.wait("service/main-namesrv", "create")?;
        space.cluster.kubectl(&format!(
            "-n {OPERATOR_NAMESPACE} delete pod -l app.kubernetes.io/name=gantry-operator --grace-period=0 --force"
        ))?;
        space.ready(&["nss/main", "bg/main", "mqt/orders"])?;
        let disturbed = objects(space)?;
        space.ensure_works(&space.access_point("main")?, "orders")?;
        in_namespace("operator-calm", |calm| {
            calm.apply(&yaml)?;
            calm.ready(&["nss/main", "bg/main", "mqt/orders"])?;
            let calm = objects(calm)?;
            ensure!(disturbed == calm, "with the operator killed:\n{disturbed}\nundisturbed:\n{calm}");
            Ok(())
        })
    })
}

/// What the operator made: each object, and what the pods are made of.
fn objects(space: &Namespace) -> Result<String> {
    let names = space.kubectl(
        "get statefulset,service,configmap,poddisruptionbudget,serviceaccount,pvc \
         -l app.kubernetes.io/managed-by=gantry-operator --sort-by=.metadata.name -o name",
    )?;
    let templates = space
        .kubectl("get statefulset --sort-by=.metadata.name -o jsonpath={.items[*].spec.template.spec}")?;
    // The namespace's name differs; nothing else may.
    Ok(format!("{names}\n{templates}").replace(&space.name, "NAMESPACE"))
}
