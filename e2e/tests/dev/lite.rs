//! Lite topics of the official clients: each gets what lies in those that it subscribes, before and while it waits.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::clients::{Language, consume_lite, produce};
use e2e::dev::Dev;
use tempfile::TempDir;

/// How long a client may take for everything it does in a test.
const LIMIT: Duration = Duration::from_secs(120);
const PARENT: &str = "sessions";

/// The names have one letter: the client in Python subscribes each letter of a name by itself at first.
pub(crate) fn subscribes(language: Language) -> Result<()> {
    // With one of them the group keeps the order of each lite topic.
    let ordered = language == Language::Go;
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", PARENT, "--type", "lite"])?;
    if ordered {
        dev.gantry(&["group", "update", "g", "--ordered", "true"])?;
    }
    let endpoint = dev.endpoint();
    let send = |lite: &str, prefix: &str| -> Result<()> {
        let program = produce(language, &endpoint, PARENT, 5)?.prefix(prefix).with("--lite", lite);
        program.run(LIMIT)?.ensure_all_sent(5)
    };
    for lite in ["a", "b", "c"] {
        send(lite, &format!("{lite}-early-"))?;
    }
    let consumer = consume_lite(language, &endpoint, PARENT, "g", "a,b")?.count(15).idle(30).start()?;
    consumer.until_lines(10, LIMIT)?;
    send("c", "c-late-")?;
    send("b", "b-late-")?;
    let report = consumer.finish(LIMIT)?;
    let received = report.received();
    let expected: Vec<String> = ["a-early-", "b-early-", "b-late-"]
        .into_iter()
        .flat_map(|prefix| (0..5).map(move |n| format!("{prefix}{n}")))
        .collect();
    let bodies: Vec<&str> = received.keys().copied().collect();
    ensure!(bodies == expected, "{bodies:?} came");
    ensure!(received.values().all(|times| *times == 1), "{received:?}");
    if ordered {
        for prefix in ["a-early-", "b-early-", "b-late-"] {
            let came: Vec<&str> = report.bodies().filter(|body| body.starts_with(prefix)).collect();
            ensure!(came.is_sorted(), "{came:?} is not the order of the lite topic");
        }
    }

    // What was received is acknowledged: another consumer of the group gets what the first did not subscribe.
    let heir = consume_lite(language, &endpoint, PARENT, "g", "a,b,c")?.count(10).idle(30).run(LIMIT)?;
    let bodies: Vec<&str> = heir.received().keys().copied().collect();
    ensure!(bodies.iter().all(|body| body.starts_with("c-")) && bodies.len() == 10, "{bodies:?} came");
    let described = dev.gantry(&["topic", "describe", PARENT])?;
    ensure!(described.contains("3 lite topics"), "{described}");
    dev.stop()
}
