//! The servers: each has a home with its data, is started on its CPU, and may be killed and started again on the same data.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bench::process::{Process, admin_of, bound, dev_command, own_bytes, sibling};
use bench::wire;

use crate::java::Java;
use crate::others::Others;
use crate::rows::{Figures, Row};
use crate::{Args, loads, recovery};

/// Queues of each topic.
pub(crate) const QUEUES: u32 = 8;
const FIRST: &str = "first";
/// The loop below asks again this often.
const ASK_EVERY: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(120);

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// A bare tonic server that acknowledges sends.
    Echo,
    /// `gantry dev`.
    Gantry,
    /// Apache RocketMQ's broker with its proxy in one JVM, beside its name server.
    Java,
    /// NATS with JetStream.
    Nats,
    /// Apache Kafka.
    Kafka,
}

impl Who {
    /// As it is printed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Gantry => "Gantry",
            Self::Java => "RocketMQ (Java)",
            Self::Nats => "NATS JetStream",
            Self::Kafka => "Kafka",
        }
    }
}

/// When a send is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// When it is in the log.
    Async,
    /// When it is on the disk.
    Sync,
}

/// What a server keeps; it is removed with this value.
pub(crate) struct Home {
    who: Who,
    flush: Flush,
    data: tempfile::TempDir,
}

/// A server that runs.
pub(crate) struct Running {
    /// Where clients connect.
    pub(crate) endpoint: String,
    /// Where it tells how often it has flushed, if it is Gantry and that matters.
    pub(crate) http: Option<String>,
    /// The process whose CPU time and memory count.
    pub(crate) pid: u32,
    /// From exec to the first acknowledged send.
    pub(crate) start: Duration,
    // In the order in which they end.
    processes: Vec<Process>,
}

impl Running {
    /// One that has just acknowledged its first send; the first process is the one that is measured.
    fn since(started: Instant, endpoint: String, processes: Vec<Process>) -> anyhow::Result<Self> {
        let start = started.elapsed();
        let pid = processes.first().context("a server is a process")?.id();
        Ok(Self { endpoint, http: None, pid, start, processes })
    }

    /// Ends it as a crash would: kill -9.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.processes.iter_mut().try_for_each(Process::kill)
    }

    /// The row of its start and its memory, then and now.
    pub(crate) fn process(&self, who: Who, round: usize, idle_mib: f64) -> anyhow::Result<Row> {
        let figures = Figures {
            start_ms: Some(self.start.as_secs_f64() * 1e3),
            idle_mib: Some(idle_mib),
            loaded_mib: Some(memory(self)?),
            ..Figures::default()
        };
        Ok(Row::new("process", who, round, figures))
    }
}

/// Memory of its own, MiB.
pub(crate) fn memory(server: &Running) -> anyhow::Result<f64> {
    Ok(own_bytes(server.pid)? as f64 / f64::from(1 << 20))
}

/// Starts servers.
pub(crate) struct Launcher {
    gantry: PathBuf,
    java: Option<PathBuf>,
    heap: String,
    others: Option<Others>,
    cpu: usize,
    port: u16,
    dir: PathBuf,
}

impl Launcher {
    pub(crate) fn new(args: &Args) -> Self {
        let Args { gantry, java, java_heap, server_cpu, port, dir, .. } = args.clone();
        Self { gantry, java, heap: java_heap, others: Others::of(args), cpu: server_cpu, port, dir }
    }

    /// An empty store for a server, with its topics if they are not made through the server.
    pub(crate) fn home(&self, who: Who, flush: Flush) -> anyhow::Result<Home> {
        let data = tempfile::Builder::new().prefix("bench-compare-").tempdir_in(&self.dir)?;
        match who {
            Who::Echo | Who::Gantry | Who::Nats => {}
            Who::Java => self.java()?.lay_out(data.path(), flush, &topics())?,
            Who::Kafka => self.others()?.lay_out_kafka(data.path())?,
        }
        Ok(Home { who, flush, data })
    }

    /// Starts one on what it has, and waits until it has acknowledged a send, and has all topics.
    pub(crate) async fn start(&self, home: &Home) -> anyhow::Result<Running> {
        let data = home.data.path();
        let started = Instant::now();
        match home.who {
            Who::Echo => {
                let mut process = Process::spawn(&mut self.bound(&Command::new(sibling("bench-echo")?)))?;
                let endpoint = process.first_line().context("bench-echo did not say where it listens")?;
                let endpoint = endpoint.trim().to_owned();
                first_send(&endpoint, None, started).await?;
                Running::since(started, endpoint, vec![process])
            }
            Who::Gantry => {
                let mut command = dev_command(&self.gantry, data, self.port);
                command.args((home.flush == Flush::Sync).then_some("--sync-flush"));
                let process = Process::spawn(&mut self.bound(&command))?;
                let (endpoint, admin) = (format!("127.0.0.1:{}", self.port), admin_of(self.port));
                first_send(&endpoint, Some(&admin), started).await?;
                let running = Running::since(started, endpoint, vec![process])?;
                for topic in topics() {
                    wire::create_topic(&admin, topic, QUEUES).await?;
                }
                let http = format!("127.0.0.1:{}", self.port + 1009);
                Ok(Running { http: (home.flush == Flush::Sync).then_some(http), ..running })
            }
            Who::Java => {
                let java = self.java()?;
                // Not bound: it idles, and is not measured.
                let name_server = Process::spawn(&mut java.name_server(data))?;
                let process = Process::spawn(&mut self.bound(&java.broker(data)))?;
                first_send(&java.endpoint(), None, started).await?;
                Running::since(started, java.endpoint(), vec![process, name_server])
            }
            who @ (Who::Nats | Who::Kafka) => {
                let others = self.others()?;
                let process = Process::spawn(&mut self.bound(&others.server(who, data)))?;
                others.first(who, FIRST)?;
                let running = Running::since(started, others.endpoint(who), vec![process])?;
                others.make_topics(who)?;
                Ok(running)
            }
        }
    }

    fn java(&self) -> anyhow::Result<Java<'_>> {
        let jars = self.java.as_deref().context("no jars of the Java broker")?;
        Ok(Java { jars, heap: &self.heap, port: self.port + 1000 })
    }

    fn others(&self) -> anyhow::Result<&Others> {
        self.others.as_ref().context("no programs of others")
    }

    fn bound(&self, command: &Command) -> Command {
        bound(command, self.cpu)
    }
}

/// All that is sent to.
fn topics() -> Vec<&'static str> {
    let loads = loads::ASYNC.iter().chain(&loads::SYNC).map(|load| load.name);
    [FIRST, "warm", "backlog", recovery::TOPIC].into_iter().chain(loads).collect()
}

/// Waits for it; the topic is made at the broker's Admin service, if there is one.
async fn first_send(endpoint: &str, admin: Option<&str>, started: Instant) -> anyhow::Result<()> {
    loop {
        let sent = async {
            if let Some(admin) = admin {
                wire::create_topic(admin, FIRST, QUEUES).await?;
            }
            let message = wire::message(FIRST, "01".repeat(17), 0, FIRST.into());
            wire::send(&mut wire::connect(endpoint, 0).await?, message).await
        };
        let Err(error) = sent.await else { return Ok(()) };
        if started.elapsed() > LIMIT {
            bail!("no send after {LIMIT:?}: {error:#}");
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
