//! The servers, each started on its CPU with an empty store and its topics.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bench::process::{Process, admin_of, dev_command, sibling};
use bench::wire;
use serde_json::json;

use crate::Args;

/// Where the scenarios send.
pub(crate) const TOPICS: [&str; 7] = ["first", "warm", "closed", "paced", "batched", "backlog", "flow"];
const QUEUES: u32 = 8;
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
}

impl Who {
    /// As it is printed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Gantry => "Gantry",
            Self::Java => "RocketMQ (Java)",
        }
    }
}

/// A server that runs.
pub(crate) struct Running {
    /// Where clients connect.
    pub(crate) endpoint: String,
    /// The process whose CPU time and memory count.
    pub(crate) pid: u32,
    /// From exec to the first acknowledged send.
    pub(crate) start: Duration,
    // In the order in which they end.
    _processes: Vec<Process>,
    _data: tempfile::TempDir,
}

/// Starts servers.
pub(crate) struct Launcher {
    gantry: PathBuf,
    java: Option<PathBuf>,
    heap: String,
    cpu: usize,
    port: u16,
    dir: PathBuf,
}

impl Launcher {
    pub(crate) fn new(args: &Args) -> Self {
        let Args { gantry, java, java_heap, server_cpu, port, dir, .. } = args.clone();
        Self { gantry, java, heap: java_heap, cpu: server_cpu, port, dir }
    }

    /// Starts one and waits until it has acknowledged a send.
    pub(crate) async fn start(&self, who: Who) -> anyhow::Result<Running> {
        let data = tempfile::Builder::new().prefix("bench-compare-").tempdir_in(&self.dir)?;
        match who {
            Who::Echo => {
                let started = Instant::now();
                let mut process = Process::spawn(&mut self.bound(&Command::new(sibling("bench-echo")?)))?;
                let endpoint = process.first_line().context("bench-echo did not say where it listens")?;
                self.ready(endpoint.trim().to_owned(), vec![process], data, started).await
            }
            Who::Gantry => self.gantry(data).await,
            Who::Java => self.java(data).await,
        }
    }

    async fn gantry(&self, data: tempfile::TempDir) -> anyhow::Result<Running> {
        let started = Instant::now();
        let process = Process::spawn(&mut self.bound(&dev_command(&self.gantry, data.path(), self.port)))?;
        for topic in TOPICS {
            while wire::create_topic(&admin_of(self.port), topic, QUEUES).await.is_err() {
                ensure!(started.elapsed() < LIMIT, "gantry dev takes no topic after {LIMIT:?}");
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
        self.ready(format!("127.0.0.1:{}", self.port), vec![process], data, started).await
    }

    /// Name server and broker, with the flags of RocketMQ's own start scripts but for the size of the heap.
    async fn java(&self, data: tempfile::TempDir) -> anyhow::Result<Running> {
        let jars = self.java.as_deref().context("no jars of the Java broker")?;
        let [grpc, remoting, broker, name_server] = [0, 1, 30, 60].map(|more| self.port + 1000 + more);
        let home = data.path();
        let store = home.join("store");
        std::fs::create_dir_all(store.join("config"))?;
        let topics: serde_json::Map<_, _> = TOPICS
            .into_iter()
            .map(|topic| {
                let config = json!({"topicName": topic, "perm": 6, "readQueueNums": QUEUES, "writeQueueNums": QUEUES,
                    "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": false, "attributes": {}});
                (topic.to_owned(), config)
            })
            .collect();
        let table = json!({"topicConfigTable": topics, "dataVersion": {"counter": 1, "stateVersion": 0, "timestamp": 1}});
        std::fs::write(store.join("config/topics.json"), table.to_string())?;
        std::fs::write(home.join("name-server.conf"), format!("listenPort={name_server}\n"))?;
        let conf = format!(
            "brokerClusterName=DefaultCluster\nbrokerName=broker-a\nbrokerId=0\nbrokerIP1=127.0.0.1\nlistenPort={broker}\n\
             flushDiskType=ASYNC_FLUSH\ndiskMaxUsedSpaceRatio=95\nstorePathRootDir={0}\nstorePathCommitLog={0}/commitlog\n",
            store.display()
        );
        std::fs::write(home.join("broker.conf"), conf)?;
        let proxy = json!({"rocketMQClusterName": "DefaultCluster", "proxyMode": "LOCAL", "grpcServerPort": grpc,
            "remotingListenPort": remoting, "namesrvAddr": format!("127.0.0.1:{name_server}"), "enableBatchAck": true});
        std::fs::write(home.join("proxy.json"), proxy.to_string())?;

        let started = Instant::now();
        // Not bound: it idles, and is not measured.
        let mut command = java(jars, home, "256m");
        command.arg("org.apache.rocketmq.namesrv.NamesrvStartup").args(["-c", "name-server.conf"]);
        let name_server_process = Process::spawn(&mut command)?;
        let mut command = java(jars, home, &self.heap);
        command.arg("org.apache.rocketmq.proxy.ProxyStartup").args([
            "-pm",
            "local",
            "-bc",
            "broker.conf",
            "-pc",
            "proxy.json",
        ]);
        command.args(["-n", &format!("127.0.0.1:{name_server}")]);
        let mut bound = self.bound(&command);
        bound.current_dir(home);
        let process = Process::spawn(&mut bound)?;
        self.ready(format!("127.0.0.1:{grpc}"), vec![process, name_server_process], data, started).await
    }

    /// The same command on the server's CPU. `taskset` becomes the program, so the process id is the server's.
    fn bound(&self, command: &Command) -> Command {
        let mut bound = Command::new("taskset");
        bound.args(["-c", &self.cpu.to_string()]).arg(command.get_program()).args(command.get_args());
        bound.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bound
    }

    /// Waits for the first acknowledged send.
    async fn ready(
        &self,
        endpoint: String,
        processes: Vec<Process>,
        data: tempfile::TempDir,
        started: Instant,
    ) -> anyhow::Result<Running> {
        let pid = processes.first().context("a server is a process")?.id();
        let message = || wire::message(TOPICS[0], "01".repeat(17), 0, "first".into());
        loop {
            let sent = async { wire::send(&mut wire::connect(&endpoint, 0).await?, message()).await };
            let Err(error) = sent.await else { break };
            if started.elapsed() > LIMIT {
                bail!("no send after {LIMIT:?}: {error:#}");
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(Running { endpoint, pid, start: started.elapsed(), _processes: processes, _data: data })
    }
}

/// A JVM with the flags of RocketMQ's start scripts for its version, but for the heap, and without touching all of it at first.
fn java(jars: &Path, home: &Path, heap: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-server", &format!("-Xms{heap}"), &format!("-Xmx{heap}")]);
    command.args(["-XX:+UseG1GC", "-XX:G1HeapRegionSize=16m", "-XX:G1ReservePercent=25"]);
    command.args(["-XX:InitiatingHeapOccupancyPercent=30", "-XX:SoftRefLRUPolicyMSPerMB=0"]);
    command.args(["-XX:-OmitStackTraceInFastThrow", "-XX:-UseLargePages"]);
    for exported in ["jdk.internal.ref", "sun.nio.ch"] {
        command.arg(format!("--add-exports=java.base/{exported}=ALL-UNNAMED"));
    }
    command.arg(format!("-Duser.home={}", home.display())).arg("-cp").arg(jars.join("*"));
    command.env("ROCKETMQ_HOME", home).current_dir(home);
    command
}

/// What a server that runs for its own sake is: `gantry dev` for idle clients.
pub(crate) fn memory(server: &Running) -> anyhow::Result<f64> {
    Ok(bench::process::own_bytes(server.pid)? as f64 / f64::from(1 << 20))
}
