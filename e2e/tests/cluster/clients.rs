//! The official clients, every one of 1,000 messages exactly once.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::clients::{Consumer, Language, consume, produce};
use e2e::cluster::in_namespace;

const COUNT: usize = 1000;
const LIMIT: Duration = Duration::from_secs(180);

/// A thousand messages from a client to each of its consumers.
fn exchange(language: Language) -> Result<()> {
    in_namespace(&format!("{language}"), |space| {
        let access_point = space.messaging("main", "")?;
        space.topics("main", &["orders"])?;
        let sent = produce(language, &access_point, "orders", COUNT)?.prefix("order-").run(LIMIT)?;
        sent.ensure_all_sent(COUNT)?;
        for consumer in [Consumer::Simple, Consumer::Push] {
            // It goes on until nothing comes any more, so it would see a message that comes twice.
            let group = format!("{language}-{consumer:?}");
            let received =
                consume(language, consumer, &access_point, "orders", &group)?.idle(4).run(LIMIT)?;
            received.ensure_each_once("order-", COUNT).with_context(|| group)?;
        }
        Ok(())
    })
}

#[test]
fn a_thousand_messages_of_java_arrive_exactly_once() -> Result<()> {
    exchange(Language::Java)
}

#[test]
fn a_thousand_messages_of_python_arrive_exactly_once() -> Result<()> {
    exchange(Language::Python)
}

#[test]
fn a_thousand_messages_of_go_arrive_exactly_once() -> Result<()> {
    exchange(Language::Go)
}
