//! Broker groups and name servers as resources: what is refused, what a condition says, what a change does.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, consume, produce};
use e2e::cluster::in_namespace;
use e2e::messaging::{brokers, name_servers};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn contradictions_in_a_broker_group_are_refused_with_a_sentence() -> Result<()> {
    in_namespace("bg-refused", |space| {
        let both = "storage: {commitLog: {size: 1Gi}, ephemeral: {sizeLimit: 1Gi}}";
        for (spec, word) in [
            (both, "ephemeral"),
            ("replicas: 10", "replicas"),
            ("flush: Sometimes", "flush"),
            ("storage: {commitLog: {size: 1Gi}, retention: {onDelete: Perhaps}}", "onDelete"),
            ("messageRetention: {diskPercent: 130}", "diskPercent"),
        ] {
            let said = space.refused(&brokers("main", "main", spec))?;
            ensure!(said.contains(word), "{spec}: the refusal does not name {word}: {said}");
        }
        space.apply(&brokers("main", "main", "storage: {commitLog: {size: 2Gi}}"))?;
        for (spec, word) in [
            ("storage: {commitLog: {size: 1Gi}}", "size"),
            ("storage: {commitLog: {size: 2Gi}}\nclusterName: Other", "clusterName"),
            ("storage: {commitLog: {size: 2Gi}}\nbrokerName: other", "brokerName"),
        ] {
            let said = space.refused(&brokers("main", "main", spec))?;
            ensure!(said.contains(word), "{spec}: the refusal does not name {word}: {said}");
        }
        Ok(())
    })
}

#[test]
fn a_config_key_that_nobody_knows_is_named_by_a_condition_and_a_fix_heals_it() -> Result<()> {
    in_namespace("bg-config", |space| {
        space.messaging("main", "")?;
        space.apply(&brokers("main", "main", "config: {maxBodyBytse: \"1000\"}"))?;
        let said = space.reason("bg/main", "ConfigApplied", "UnknownKey")?;
        ensure!(said.contains("maxBodyBytse"), "the condition does not name the key: {said}");
        space.apply(&brokers("main", "main", "config: {maxBodyBytes: \"1000\"}"))?;
        space.wait("bg/main", "condition=ConfigApplied")?;
        space.ready(&["bg/main"])
    })
}

#[test]
fn a_broker_group_without_its_name_servers_says_what_it_waits_for() -> Result<()> {
    in_namespace("bg-waits", |space| {
        space.apply(&brokers("main", "main", ""))?;
        let said = space.reason("bg/main", "Ready", "WaitingForNameServer")?;
        ensure!(said.contains("main"), "the message does not name the NameServerSet: {said}");
        space.apply(&name_servers("main", 1))?;
        space.ready(&["nss/main", "bg/main"])
    })
}

#[test]
fn name_servers_are_scaled_while_messages_flow() -> Result<()> {
    in_namespace("nss-scale", |space| {
        let access_point = space.messaging("main", "")?;
        space.topics("main", &["orders"])?;
        for replicas in [3, 1] {
            space.kubectl(&format!("scale nss/main --replicas={replicas}"))?;
            space.wait("nss/main", &format!("jsonpath={{.status.readyReplicas}}={replicas}"))?;
            space.ready(&["nss/main"])?;
            space.ensure_works(&access_point, "orders")?;
        }
        Ok(())
    })
}

#[test]
fn volumes_stay_when_a_broker_group_is_deleted_and_are_found_again() -> Result<()> {
    in_namespace("bg-deleted", |space| {
        let access_point = space.messaging("main", "")?;
        space.topics("main", &["orders"])?;
        space.ensure_works(&access_point, "orders")?;
        let volume = space.get("pvc/data-main-broker-0", "{.spec.volumeName}")?;
        space.kubectl("delete bg/main --timeout=90s")?;
        space.wait("pod/main-broker-0", "delete")?;
        space.apply(&brokers("main", "main", ""))?;
        space.ready(&["bg/main"])?;
        ensure!(
            space.get("pvc/data-main-broker-0", "{.spec.volumeName}")? == volume,
            "the volume is another one"
        );
        space.ready(&["mqt/orders"])?;
        // The group of the first exchange has consumed everything, so only new messages come.
        space.ensure_works(&access_point, "orders")
    })
}

#[test]
fn a_broker_group_is_taken_away_when_all_of_it_is_consumed() -> Result<()> {
    in_namespace("bg-drained", |space| {
        let access_point = space.messaging("main", "")?;
        space.apply(&brokers("next", "main", ""))?;
        space.ready(&["bg/next"])?;
        space.topics("main", &["orders"])?;
        let send = |prefix: &str| {
            let sent = produce(Language::Go, &access_point, "orders", 40)?.prefix(prefix).run(LIMIT)?;
            sent.ensure_all_sent(40).map(|()| sent)
        };
        let before = send("before-")?;
        space.kubectl("annotate bg/main mq.gantry.dev/drain=1")?;
        let said = space.reason("bg/main", "Drained", "Draining")?;
        ensure!(said.contains("orders"), "what is still on it is not named: {said}");
        space.wait("mqt/orders", "jsonpath={.status.groups[0].permission}=ReadOnly")?;
        let after = send("after-")?;
        let all =
            consume(Language::Go, Consumer::Simple, &access_point, "orders", "late")?.idle(5).run(LIMIT)?;
        all.ensure_holds(&[before.sent(), after.sent()].concat())?;
        space.wait("bg/main", "condition=Drained")?;
        space.kubectl("delete bg/main --timeout=90s")?;
        space.wait("pod/main-broker-0", "delete")?;
        space.ensure_works(&access_point, "orders")
    })
}
