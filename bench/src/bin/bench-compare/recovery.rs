//! A server that is killed with a full log, and started again on it.

use anyhow::{Context as _, ensure};
use bench::load::Generator;

use crate::Args;
use crate::noise::Watch;
use crate::rows::{Figures, Row};
use crate::servers::{Flush, Launcher, Running, Who};

pub(crate) const TOPIC: &str = "recovery";
/// Larger than elsewhere: the log must be long, and filling it takes the Java broker minutes as it is.
const BODY: u64 = 4 << 10;

/// Exec to the first acknowledged send; of Gantry also how fast all of it is received then, and that nothing is missing.
pub(crate) async fn measure(
    who: Who,
    args: &Args,
    launcher: &Launcher,
    generator: &Generator,
) -> anyhow::Result<Vec<Row>> {
    let home = launcher.home(who, Flush::Async)?;
    let server = launcher.start(&home).await?;
    let count = (args.recovery_gib << 30) / BODY;
    let amount = [format!("--size={BODY}"), format!("--count={count}")];
    let words =
        ["produce", TOPIC, "--batch=32", "--in-flight=8"].map(str::to_owned).into_iter().chain(amount);
    let filled = generator.run(&server.endpoint, None, &words.collect::<Vec<_>>())?;
    let acknowledged = filled.sent.as_ref().map_or(0, |sent| sent.acknowledged);
    // A broker that refuses some while its disk is busy has a full log all the same.
    ensure!(acknowledged >= count / 10 * 9, "took {acknowledged} of {count}: {:?}", filled.errors);
    server.kill()?;

    let server = launcher.start(&home).await.context("after kill -9")?;
    let start_ms = Some(server.start.as_secs_f64() * 1e3);
    let mut rows = vec![Row::new("recovery", who, 1, Figures { start_ms, ..Figures::default() })];
    if who == Who::Gantry {
        let row = drain(&server, acknowledged, args, generator);
        rows.push(row.unwrap_or_else(|error| Row::failed("drain", who, 1, &error)));
    }
    Ok(rows)
}

fn drain(server: &Running, acknowledged: u64, args: &Args, generator: &Generator) -> anyhow::Result<Row> {
    let watch = Watch::begin(server.pid)?;
    let words = ["consume", TOPIC, &format!("--count={acknowledged}")].map(str::to_owned);
    let drained = generator.run(&server.endpoint, Some(server.pid), &words)?;
    let foreign = watch.end()?;
    let received = drained.received.as_ref().context("a load that receives says what")?;
    ensure!(received.distinct == acknowledged, "{} of {acknowledged} messages came", received.distinct);
    let megabytes = Some(received.rate * BODY as f64 / 1e6);
    let figures = Figures { megabytes, ..Figures::of(&drained, "receive") };
    Ok(Row::new("drain", Who::Gantry, 1, figures).judged(&drained, foreign, args.noise))
}
