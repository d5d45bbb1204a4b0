//! Topics: created, changed, refused, and deleted under each policy.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, consume, produce};
use e2e::cluster::{Namespace, in_namespace};
use e2e::messaging::topic;
use e2e::wire::{self, Wire};
use proto::v2::Code;

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_topic_is_created_grown_and_shrunk() -> Result<()> {
    in_namespace("topic-change", |space| {
        let access_point = space.messaging("main", "")?;
        let queues = |count| topic("orders", "main", &format!("queues: {count}"));
        for count in [4, 16] {
            space.apply(&queues(count))?;
            space.wait("mqt/orders", &format!("jsonpath={{.status.groups[0].writeQueues}}={count}"))?;
            space.ready(&["mqt/orders"])?;
        }
        space.ensure_works(&access_point, "orders")?;
        // Write queues go first; read queues stay until they are drained, so nothing in them is out of reach.
        produce(Language::Go, &access_point, "orders", 64)?
            .prefix("wide-")
            .run(LIMIT)?
            .ensure_all_sent(64)?;
        space.apply(&queues(2))?;
        space.wait("mqt/orders", "jsonpath={.status.groups[0].writeQueues}=2")?;
        let all =
            consume(Language::Go, Consumer::Simple, &access_point, "orders", "late")?.idle(4).run(LIMIT)?;
        let sent: Vec<_> = (0..64).map(|n| format!("wide-{n}")).collect();
        all.ensure_holds(&sent.iter().map(String::as_str).collect::<Vec<_>>())
    })
}

#[test]
fn a_topic_that_cannot_be_is_refused_with_a_sentence() -> Result<()> {
    in_namespace("topic-refused", |space| {
        for (name, spec, word) in [
            ("bad-name", "topicName: \"no spaces\"", "topicName"),
            ("reserved", "topicName: \"%RETRY%billing\"", "topicName"),
            ("dead-letters", "topicName: \"%DLQ%billing\"", "topicName"),
            ("system", "topicName: SCHEDULE_TOPIC_XXXX", "topicName"),
            ("no-queues", "queues: 0", "queues"),
            ("too-many", "queues: 5000", "queues"),
            ("what-type", "messageType: Surprising", "messageType"),
        ] {
            let said = space.refused(&topic(name, "main", spec))?;
            ensure!(said.contains(word), "{name}: the refusal does not name {word}: {said}");
        }
        Ok(())
    })
}

#[test]
fn what_never_changes_cannot_be_changed() -> Result<()> {
    in_namespace("topic-fixed", |space| {
        space.apply(&topic("orders", "main", ""))?;
        for change in ["messageType: Fifo", "topicName: other"] {
            let said = space.refused(&topic("orders", "main", change))?;
            let field = change.split(':').next().unwrap_or_default();
            ensure!(said.contains(field), "the refusal does not name {field}: {said}");
        }
        let said = space.refused(&topic("orders", "other", ""))?;
        ensure!(said.contains("nameServerRef"), "the refusal does not name nameServerRef: {said}");
        Ok(())
    })
}

#[test]
fn a_topic_of_an_unknown_cluster_says_so_and_works_once_the_cluster_is_there() -> Result<()> {
    in_namespace("topic-unknown", |space| {
        space.apply(&topic("orders", "main", ""))?;
        let said = space.reason("mqt/orders", "Ready", "ClusterNotFound")?;
        ensure!(said.contains("main"), "the message does not name the NameServerSet: {said}");
        let access_point = space.messaging("main", "")?;
        space.ready(&["mqt/orders"])?;
        space.ensure_works(&access_point, "orders")
    })
}

#[test]
fn a_deleted_topic_stays_goes_or_waits_as_its_policy_says() -> Result<()> {
    in_namespace("topic-deleted", |space| {
        let access_point = space.messaging("main", "")?;
        for (name, policy) in [("kept", "Retain"), ("gone", "Delete"), ("drained", "DeleteWhenDrained")] {
            space.apply(&topic(name, "main", &format!("deletionPolicy: {policy}")))?;
            space.ready(&[&format!("mqt/{name}")])?;
            produce(Language::Go, &access_point, name, 10)?.run(LIMIT)?.ensure_all_sent(10)?;
        }
        // A group that has begun is one that still has something to consume.
        let begun = consume(Language::Go, Consumer::Simple, &access_point, "drained", "group")?.count(1);
        begun.with("--invisible", "10").without_ack().run(LIMIT)?;
        let broker = broker(space)?;

        space.kubectl("delete mqt/kept mqt/gone --timeout=60s")?;
        space.kubectl("delete mqt/drained --wait=false")?;
        wire::block_on(async {
            let mut wire = Wire::new(&broker, "topics")?;
            let kept = wire.send("kept", "1", b"x".to_vec()).await;
            ensure!(kept.is_ok(), "Retain keeps the topic: {kept:?}");
            let gone = wire.send("gone", "2", b"x".to_vec()).await;
            wire::ensure_refused(&gone, Code::TopicNotFound)
        })?;
        let waiting = space.get("mqt/drained", "{.metadata.deletionTimestamp}")?;
        ensure!(!waiting.is_empty(), "DeleteWhenDrained waits while a group has messages to consume");
        let drained =
            consume(Language::Go, Consumer::Simple, &access_point, "drained", "group")?.count(10).idle(30);
        ensure!(
            drained.run(LIMIT)?.received().len() == 10,
            "a topic that waits for its deletion is consumed"
        );
        space.wait("mqt/drained", "delete")?;
        wire::block_on(async {
            let answer = Wire::new(&broker, "topics")?.send("drained", "3", b"x".to_vec()).await;
            wire::ensure_refused(&answer, Code::TopicNotFound)
        })
    })
}

/// Where the broker itself listens, to be asked about topics that no route names any more.
fn broker(space: &Namespace) -> Result<String> {
    Ok(format!("{}:8081", space.get("service/main-broker-0", "{.spec.clusterIP}")?))
}
