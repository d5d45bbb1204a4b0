//! What is measured of a server that speaks Gantry's protocol, scenario by scenario.

use anyhow::{Context as _, ensure};
use bench::load::{Generator, Outcome};

use crate::Args;
use crate::noise::Watch;
use crate::rows::{Figures, Row};
use crate::servers::{Flush, Launcher, Running, Who, memory};
use crate::{flushes, loads};

/// One server, started, warmed, measured and stopped.
pub(crate) async fn visit(
    who: Who,
    flush: Flush,
    round: usize,
    args: &Args,
    launcher: &Launcher,
    generator: &Generator,
) -> anyhow::Result<Vec<Row>> {
    let home = launcher.home(who, flush)?;
    let server = launcher.start(&home).await.with_context(|| format!("{} does not start", who.name()))?;
    let visit = Visit { who, round, args, generator, server: &server };
    let idle_mib = memory(&server)?;
    visit.warm();
    match flush {
        Flush::Sync => Ok(loads::SYNC.iter().map(|load| visit.load(load)).collect()),
        Flush::Async => {
            let loads = loads::ASYNC.iter().filter(|load| who != Who::Echo || !load.receives());
            let mut rows: Vec<_> = loads.map(|load| visit.load(load)).collect();
            if who != Who::Echo {
                rows.push(visit.backlog());
            }
            rows.push(server.process(who, round, idle_mib)?);
            Ok(rows)
        }
    }
}

struct Visit<'a> {
    who: Who,
    round: usize,
    args: &'a Args,
    generator: &'a Generator,
    server: &'a Running,
}

impl Visit<'_> {
    /// All calls that are measured, as fast as they go: a JVM has compiled them then.
    fn warm(&self) {
        let seconds = format!("--duration={}s", self.args.warm_up);
        let words: &[&str] = match self.who {
            Who::Echo => &["produce", "warm"],
            _ => &["end-to-end", "warm", "--in-flight=8", "--patience=60s"],
        };
        let words = words.iter().copied().chain([seconds.as_str()]).map(str::to_owned).collect::<Vec<_>>();
        // What fails while it warms up is no figure.
        let _outcome = self.generator.run(&self.server.endpoint, None, &words);
    }

    /// What fails is void, and the next scenario is measured all the same.
    fn load(&self, load: &loads::Load) -> Row {
        self.try_load(load).unwrap_or_else(|error| Row::failed(load.name, self.who, self.round, &error))
    }

    fn try_load(&self, load: &loads::Load) -> anyhow::Result<Row> {
        let open_loop = self.args.open_loop_seconds.unwrap_or(self.args.seconds);
        let flushes = || self.server.http.as_deref().map(flushes::count).transpose();
        let before = flushes()?;
        let (outcome, foreign) = self.run(&load.arguments(self.args.seconds, open_loop))?;
        let mut figures = Figures::of(&outcome, load.latency());
        if let Some(((before, after), sent)) = before.zip(flushes()?).zip(outcome.sent.as_ref()) {
            figures.per_flush = (after > before).then(|| sent.acknowledged as f64 / (after - before));
        }
        let row = Row::new(load.name, self.who, self.round, figures);
        Ok(row.judged(&outcome, foreign, self.args.noise))
    }

    fn run(&self, words: &[String]) -> anyhow::Result<(Outcome, f64)> {
        let watch = Watch::begin(self.server.pid)?;
        let outcome = self.generator.run(&self.server.endpoint, Some(self.server.pid), words)?;
        Ok((outcome, watch.end()?))
    }

    fn backlog(&self) -> Row {
        self.try_backlog().unwrap_or_else(|error| Row::failed("backlog", self.who, self.round, &error))
    }

    /// Messages first, then all of them are received: every acknowledged one must come.
    fn try_backlog(&self) -> anyhow::Result<Row> {
        let count = format!("--count={}", self.args.backlog);
        let fill = ["produce", "backlog", &count].map(str::to_owned);
        let filled = self.generator.run(&self.server.endpoint, None, &fill)?;
        filled.ensure_clean()?;
        let (outcome, foreign) = self.run(&["consume", "backlog", &count].map(str::to_owned))?;
        let received = outcome.received.as_ref().context("a load that receives says what")?;
        let acknowledged = filled.sent.as_ref().map_or(0, |sent| sent.acknowledged);
        ensure!(received.distinct == acknowledged, "{} of {acknowledged} messages came", received.distinct);
        let row = Row::new("backlog", self.who, self.round, Figures::of(&outcome, "receive"));
        Ok(row.judged(&outcome, foreign, self.args.noise))
    }
}
