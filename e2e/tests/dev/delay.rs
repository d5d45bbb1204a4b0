//! Messages that official clients send to be delivered later, and those that they take back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::clients::{Consumer, Language, consume, produce};
use e2e::dev::Dev;
use tempfile::TempDir;

/// How long a client may take for everything it does in a test.
const LIMIT: Duration = Duration::from_secs(120);
const DELAY: Duration = Duration::from_secs(3);

/// What is delayed comes later and once, and what is taken back does not.
pub(crate) fn delays(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", "later", "--type", "delay"])?;
    let endpoint = dev.endpoint();
    let delay_ms = DELAY.as_millis().to_string();
    let started = Instant::now();
    let sent =
        produce(language, &endpoint, "later", 10)?.prefix("x").with("--delay-ms", &delay_ms).run(LIMIT)?;
    sent.ensure_all_sent(10)?;
    let received = consume(language, Consumer::Simple, &endpoint, "later", "g")?.count(10).run(LIMIT)?;
    ensure!(started.elapsed() >= DELAY, "they came after {:?}", started.elapsed());
    received.ensure_each_once("x", 10)?;

    let long_ms = (10 * DELAY).as_millis().to_string();
    let sent = produce(language, &endpoint, "later", 4)?.prefix("y").with("--delay-ms", &long_ms);
    let sent = sent.flag("--recall").run(LIMIT)?;
    sent.ensure_all_sent(4)?;
    let recalled = sent.recalled();
    ensure!(recalled.len() == 2 && recalled.iter().all(|(id, sent)| id == sent), "{recalled:?}");
    let described = dev.gantry(&["topic", "describe", "later"])?;
    ensure!(described.contains("2 waiting"), "{described}");
    dev.stop()
}
