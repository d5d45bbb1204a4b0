//! What is measured of a server, scenario by scenario.

use anyhow::{Context as _, ensure};
use bench::load::{Generator, Outcome};

use crate::Args;
use crate::noise::Watch;
use crate::results::{Figures, Row};
use crate::servers::{Launcher, Running, Who, memory};

/// One server, started, warmed, measured and stopped.
pub(crate) async fn visit(
    who: Who,
    round: usize,
    args: &Args,
    launcher: &Launcher,
    generator: &Generator,
) -> anyhow::Result<Vec<Row>> {
    let server = launcher.start(who).await.with_context(|| format!("{} does not start", who.name()))?;
    let visit = Visit { who, round, args, generator, server: &server };
    let idle_mib = memory(&server)?;
    visit.warm()?;
    let mut rows = vec![
        visit.sending("closed", &["produce"], "send"),
        visit.sending("paced", &["produce", "--rate=5000"], "send"),
        visit.sending("batched", &["produce", "--batch=32", "--in-flight=8"], "send"),
    ];
    if who != Who::Echo {
        rows.push(visit.row("backlog", visit.backlog(), "receive"));
        rows.push(visit.sending("flow", &["end-to-end", "--rate=1000"], "end to end"));
    }
    let figures = Figures {
        start_ms: Some(server.start.as_secs_f64() * 1e3),
        idle_mib: Some(idle_mib),
        loaded_mib: Some(memory(&server)?),
        ..Figures::default()
    };
    rows.push(Row { scenario: "process", who, round, figures, void: None });
    Ok(rows)
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
    fn warm(&self) -> anyhow::Result<()> {
        let seconds = format!("--duration={}s", self.args.warm_up);
        let words: &[&str] = match self.who {
            Who::Echo => &["produce", "warm"],
            Who::Gantry | Who::Java => &["end-to-end", "warm", "--in-flight=8", "--patience=60s"],
        };
        let words = words.iter().copied().chain([seconds.as_str()]).map(str::to_owned).collect::<Vec<_>>();
        // What fails while it warms up is no figure.
        let _outcome = self.generator.run(&self.server.endpoint, None, &words);
        Ok(())
    }

    /// A scenario that sends to the topic of its name, and what of it is told.
    fn sending(&self, scenario: &'static str, words: &[&str], of: &str) -> Row {
        let lengths =
            [scenario.to_owned(), format!("--duration={}s", self.args.seconds), "--warm-up=2s".to_owned()];
        let words: Vec<_> = words.iter().map(ToString::to_string).chain(lengths).collect();
        self.row(scenario, self.run(&words), of)
    }

    fn run(&self, words: &[String]) -> anyhow::Result<(Outcome, f64)> {
        let watch = Watch::begin(self.server.pid)?;
        let outcome = self.generator.run(&self.server.endpoint, Some(self.server.pid), words)?;
        Ok((outcome, watch.end()?))
    }

    /// Messages first, then all of them are received: every acknowledged one must come.
    fn backlog(&self) -> anyhow::Result<(Outcome, f64)> {
        let count = self.args.backlog;
        let fill = ["produce", "backlog", &format!("--count={count}")];
        let fill = fill.map(str::to_owned);
        let filled = self.generator.run(&self.server.endpoint, None, &fill)?;
        filled.ensure_clean()?;
        let drain = ["consume", "backlog", &format!("--count={count}")].map(str::to_owned);
        let (outcome, foreign) = self.run(&drain)?;
        let received = outcome.received.as_ref().context("a load that receives says what")?;
        let acknowledged = filled.sent.as_ref().map_or(0, |sent| sent.acknowledged);
        ensure!(received.distinct == acknowledged, "{} of {acknowledged} messages came", received.distinct);
        Ok((outcome, foreign))
    }

    /// What fails is void, and the next scenario is measured all the same.
    fn row(&self, scenario: &'static str, measured: anyhow::Result<(Outcome, f64)>, of: &str) -> Row {
        let (who, round) = (self.who, self.round);
        let (outcome, foreign) = match measured {
            Ok(measured) => measured,
            Err(error) => {
                let void = Some(format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" "));
                return Row { scenario, who, round, figures: Figures::default(), void };
            }
        };
        let latency = outcome.latency(of);
        // A flow is as fast as it is sent; what is sent beforehand, as it is received.
        let received = outcome.received.as_ref().map(|received| received.rate);
        let figures = Figures {
            rate: outcome.sent.as_ref().map(|sent| sent.rate).or(received),
            cpu_us: outcome.server_cpu_micros,
            p50: latency.map(|latency| latency.p50),
            p99: latency.map(|latency| latency.p99),
            p999: latency.map(|latency| latency.p999),
            max: latency.map(|latency| latency.max),
            ..Figures::default()
        };
        let unsent = outcome.sent.as_ref().map_or(0, |sent| sent.unsent);
        let void = match () {
            () if foreign > self.args.noise => {
                Some(format!("others had {:.0} % of the CPUs", foreign * 100.0))
            }
            () if !outcome.errors.is_empty() => Some(format!("calls failed: {:?}", outcome.errors)),
            () if unsent > 0 => {
                Some(format!("{unsent} messages were due and not sent: too slow for this rate"))
            }
            () => None,
        };
        Row { scenario, who, round, figures, void }
    }
}
