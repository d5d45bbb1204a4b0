//! NATS JetStream and Apache Kafka: how they are started, and their loads, which `bench/others` builds; they speak other protocols.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use bench::load::Outcome;
use bench::process::{bound, cpu_time};
use tokio::task::block_in_place;

use crate::Args;
use crate::noise::Watch;
use crate::rows::{Figures, Row};
use crate::servers::{Flush, Launcher, QUEUES, Running, Who, memory};

/// What is comparable: the topic, connections, and sends under way on each.
const SENDS: [(&str, u32, u32); 2] = [("closed", 4, 32), ("one", 1, 1)];
const BACKLOG: &str = "backlog";
const WARM: &str = "warm";

/// The programs that bench/others/prepare built.
#[derive(Debug, Clone)]
pub(crate) struct Others {
    dir: PathBuf,
    /// First of the ports.
    port: u16,
    load_cpu: usize,
}

impl Others {
    pub(crate) fn of(args: &Args) -> Option<Self> {
        let dir = args.others.clone()?;
        Some(Self { dir, port: args.port + 1100, load_cpu: args.load_cpu })
    }

    /// Where clients connect.
    pub(crate) fn endpoint(&self, who: Who) -> String {
        format!("127.0.0.1:{}", if who == Who::Kafka { self.port + 1 } else { self.port })
    }

    /// A node that is broker and controller, with an empty log.
    pub(crate) fn lay_out_kafka(&self, home: &Path) -> anyhow::Result<()> {
        let (broker, controller) = (self.endpoint(Who::Kafka), format!("127.0.0.1:{}", self.port + 2));
        let one = ["offsets.topic.replication.factor", "transaction.state.log.replication.factor"];
        let one: String = one.iter().map(|key| format!("{key}=1\n")).collect();
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n\
             listeners=PLAINTEXT://{broker},CONTROLLER://{controller}\nadvertised.listeners=PLAINTEXT://{broker}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\nnum.partitions={QUEUES}\n{one}",
            home.join("log").display()
        );
        std::fs::write(home.join("server.properties"), properties)?;
        let mut format = self.jvm(&["-Xmx256m"]);
        format.args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c"]);
        run(format.arg(home.join("server.properties"))).map(drop)
    }

    /// The server, with what its own start script gives it.
    pub(crate) fn server(&self, who: Who, home: &Path) -> Command {
        if who == Who::Kafka {
            let mut command =
                self.jvm(&["-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
            command.arg("kafka.Kafka").arg(home.join("server.properties"));
            command
        } else {
            let mut command = Command::new(self.dir.join("nats-server"));
            command.args(["-js", "-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"]).arg(home);
            command.arg("-l").arg(home.join("log"));
            command
        }
    }

    /// Waits for the first acknowledged send.
    pub(crate) fn first(&self, who: Who, topic: &str) -> anyhow::Result<()> {
        run(&mut self.load(who, &["first", &self.endpoint(who), topic].map(str::to_owned))).map(drop)
    }

    /// Makes the topics of its loads.
    pub(crate) fn make_topics(&self, who: Who) -> anyhow::Result<()> {
        let mut words = vec!["topics".to_owned(), self.endpoint(who), WARM.to_owned(), BACKLOG.to_owned()];
        words.extend(SENDS.map(|(topic, ..)| topic.to_owned()));
        run(&mut self.load(who, &words)).map(drop)
    }

    fn load(&self, who: Who, words: &[String]) -> Command {
        let mut command = if who == Who::Kafka {
            let mut command = self.jvm(&["-Xmx512m"]);
            command.arg("KafkaLoad");
            command
        } else {
            Command::new(self.dir.join("nats-load"))
        };
        bound(command.args(words), self.load_cpu)
    }

    fn jvm(&self, flags: &[&str]) -> Command {
        let mut command = Command::new("java");
        let path = format!("{0}/classes:{0}/kafka/*", self.dir.display());
        command.args(flags).args(["-cp", &path]);
        command
    }
}

/// One server, started, warmed, measured and stopped.
pub(crate) async fn visit(
    who: Who,
    round: usize,
    args: &Args,
    launcher: &Launcher,
) -> anyhow::Result<Vec<Row>> {
    let others = Others::of(args).context("no programs of others")?;
    let home = launcher.home(who, Flush::Async)?;
    let server = launcher.start(&home).await.with_context(|| format!("{} does not start", who.name()))?;
    let visit = Visit { who, round, args, others: &others, server: &server };
    let idle_mib = memory(&server)?;
    visit.run("send", WARM, [4, 32, args.warm_up])?;
    let mut rows = Vec::new();
    for (topic, connections, in_flight) in SENDS {
        let numbers = [connections.into(), in_flight.into(), args.seconds];
        rows.push(visit.row(topic, visit.run("send", topic, numbers)));
    }
    rows.push(visit.row(BACKLOG, visit.backlog()));
    rows.push(server.process(who, round, idle_mib)?);
    Ok(rows)
}

struct Visit<'a> {
    who: Who,
    round: usize,
    args: &'a Args,
    others: &'a Others,
    server: &'a Running,
}

impl Visit<'_> {
    /// One load, and the share of the CPUs that others had. The server's time is for all messages, those before the measuring too.
    fn run(&self, command: &str, topic: &str, numbers: [u64; 3]) -> anyhow::Result<(Outcome, f64)> {
        let words = [command.to_owned(), self.server.endpoint.clone(), topic.to_owned()];
        let words: Vec<_> = words.into_iter().chain(numbers.map(|number| number.to_string())).collect();
        let watch = Watch::begin(self.server.pid)?;
        let before = cpu_time(self.server.pid)?;
        let said = run(&mut self.others.load(self.who, &words))?;
        let cpu = cpu_time(self.server.pid)?.saturating_sub(before);
        let mut outcome: Outcome = serde_json::from_slice(&said).context("a load says what it measured")?;
        let sent = outcome.sent.as_ref().map(|sent| sent.acknowledged);
        let messages =
            sent.or(outcome.received.as_ref().map(|received| received.distinct)).unwrap_or_default();
        outcome.server_cpu_micros = (messages > 0).then(|| cpu.as_secs_f64() * 1e6 / messages as f64);
        Ok((outcome, watch.end()?))
    }

    /// Four connections again, each with as many messages under way as the polls of `gantry bench` ask for.
    fn backlog(&self) -> anyhow::Result<(Outcome, f64)> {
        let count = self.args.backlog;
        self.run("fill", BACKLOG, [4, 32, count])?;
        let drained = self.run("receive", BACKLOG, [4, 4 * 32, count])?;
        let came = drained.0.received.as_ref().map_or(0, |received| received.distinct);
        ensure!(came == count, "{came} of {count} messages came");
        Ok(drained)
    }

    fn row(&self, scenario: &'static str, measured: anyhow::Result<(Outcome, f64)>) -> Row {
        match measured {
            Ok((outcome, foreign)) => Row::new(scenario, self.who, self.round, Figures::of(&outcome, "send"))
                .judged(&outcome, foreign, self.args.noise),
            Err(error) => Row::failed(scenario, self.who, self.round, &error),
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = block_in_place(|| command.stdin(Stdio::null()).output());
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{stderr}");
    Ok(output.stdout)
}
