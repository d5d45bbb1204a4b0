//! The charts as a platform engineer uses them: installed, tested, upgraded, uninstalled, and the data kept.
//!
//! One test, because the operator is one in the cluster and each step stands on the one before.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, consume, produce};
use e2e::cluster::{OPERATOR_NAMESPACE, READY, chart_path, in_namespace};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn charts_are_installed_tested_upgraded_and_uninstalled_with_the_data_kept() -> Result<()> {
    in_namespace("charts", |space| {
        let (chart, wait) = (chart_path("gantry"), format!("{}s", READY.as_secs()));
        let helm = |words: &[&str]| {
            let all = [words, &["--namespace", &space.name]].concat();
            space.cluster.helm(&all)
        };
        let install: &[&str] = &[
            "upgrade",
            "--install",
            "mq",
            &chart,
            "--set=nameServer.replicas=1,brokerGroups.main.storage.commitLog.size=1Gi",
            "--wait",
            "--timeout",
            &wait,
        ];
        helm(install)?;
        let name_servers = space.kubectl("get nss -o jsonpath={.items[0].metadata.name}")?;
        let brokers = space.kubectl("get bg -o jsonpath={.items[0].metadata.name}")?;
        space.ready(&[&format!("nss/{name_servers}"), &format!("bg/{brokers}")])?;
        helm(&["test", "mq", "--timeout", &wait])?;

        space.topics(&name_servers, &["orders"])?;
        let access_point = space.access_point(&name_servers)?;
        produce(Language::Go, &access_point, "orders", 50)?.run(LIMIT)?.ensure_all_sent(50)?;

        helm(&[install, &["--set", "nameServer.replicas=2"]].concat())?;
        space.wait(&format!("nss/{name_servers}"), "jsonpath={.status.readyReplicas}=2")?;
        space.ensure_works(&access_point, "orders")?;

        // The operator away: everything goes on. Back again: nothing has changed.
        space.cluster.helm(&["uninstall", "gantry-operator", "--namespace", OPERATOR_NAMESPACE, "--wait"])?;
        space.ensure_works(&access_point, "orders")?;
        space.cluster.install_operator()?;
        space.ready(&[&format!("nss/{name_servers}"), &format!("bg/{brokers}")])?;

        // The messaging cluster away: its volume stays, and an install finds the messages again.
        let claims = || space.kubectl("get pvc -o jsonpath={.items[*].spec.volumeName}");
        let volumes = claims()?;
        ensure!(!volumes.is_empty(), "the broker has a volume");
        helm(&["uninstall", "mq", "--wait", "--timeout", &wait])?;
        space.wait(&format!("pod/{brokers}-broker-0"), "delete")?;
        ensure!(claims()? == volumes, "the volumes stay");
        helm(install)?;
        space.ready(&[&format!("nss/{name_servers}"), &format!("bg/{brokers}"), "mqt/orders"])?;
        let access_point = space.access_point(&name_servers)?;
        let kept =
            consume(Language::Go, Consumer::Simple, &access_point, "orders", "after")?.idle(4).run(LIMIT)?;
        let sent: Vec<_> = (0..50).map(|n| format!("m-{n}")).collect();
        kept.ensure_holds(&sent.iter().map(String::as_str).collect::<Vec<_>>())
    })
}
