//! Apache RocketMQ's broker with its proxy, and its name server, with the flags of its own start scripts but for the size of the heap.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::servers::{Flush, QUEUES};

/// The jars that bench/java/prepare fetched, and how they are run.
pub(crate) struct Java<'a> {
    pub(crate) jars: &'a Path,
    pub(crate) heap: &'a str,
    /// First of the ports.
    pub(crate) port: u16,
}

impl Java<'_> {
    /// Where clients connect.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Writes configuration, and a store with the topics.
    pub(crate) fn lay_out(&self, home: &Path, flush: Flush, topics: &[&str]) -> anyhow::Result<()> {
        let [remoting, broker] = [1, 30].map(|more| self.port + more);
        let flush = match flush {
            Flush::Async => "ASYNC_FLUSH",
            Flush::Sync => "SYNC_FLUSH",
        };
        let store = home.join("store");
        std::fs::create_dir_all(store.join("config"))?;
        let topics: serde_json::Map<_, _> = topics
            .iter()
            .map(|topic| {
                let config = json!({"topicName": topic, "perm": 6, "readQueueNums": QUEUES, "writeQueueNums": QUEUES,
                    "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": false, "attributes": {}});
                ((*topic).to_owned(), config)
            })
            .collect();
        let table = json!({"topicConfigTable": topics, "dataVersion": {"counter": 1, "stateVersion": 0, "timestamp": 1}});
        std::fs::write(store.join("config/topics.json"), table.to_string())?;
        std::fs::write(home.join("name-server.conf"), format!("listenPort={}\n", self.name_server_port()))?;
        let conf = format!(
            "brokerClusterName=DefaultCluster\nbrokerName=broker-a\nbrokerId=0\nbrokerIP1=127.0.0.1\nlistenPort={broker}\n\
             flushDiskType={flush}\ndiskMaxUsedSpaceRatio=95\nstorePathRootDir={0}\nstorePathCommitLog={0}/commitlog\n",
            store.display()
        );
        std::fs::write(home.join("broker.conf"), conf)?;
        let proxy = json!({"rocketMQClusterName": "DefaultCluster", "proxyMode": "LOCAL", "grpcServerPort": self.port,
            "remotingListenPort": remoting, "namesrvAddr": self.name_server_address(), "enableBatchAck": true});
        Ok(std::fs::write(home.join("proxy.json"), proxy.to_string())?)
    }

    /// The name server.
    pub(crate) fn name_server(&self, home: &Path) -> Command {
        let mut command = self.jvm(home, "256m");
        command.arg("org.apache.rocketmq.namesrv.NamesrvStartup").args(["-c", "name-server.conf"]);
        command
    }

    /// The broker with its proxy.
    pub(crate) fn broker(&self, home: &Path) -> Command {
        let mut command = self.jvm(home, self.heap);
        command.args(["org.apache.rocketmq.proxy.ProxyStartup", "-pm", "local"]);
        command.args(["-bc", "broker.conf", "-pc", "proxy.json", "-n", &self.name_server_address()]);
        command
    }

    fn name_server_port(&self) -> u16 {
        self.port + 60
    }

    fn name_server_address(&self) -> String {
        format!("127.0.0.1:{}", self.name_server_port())
    }

    /// Without touching all of the heap at first.
    fn jvm(&self, home: &Path, heap: &str) -> Command {
        let mut command = Command::new("java");
        command.args(["-server", &format!("-Xms{heap}"), &format!("-Xmx{heap}")]);
        command.args(["-XX:+UseG1GC", "-XX:G1HeapRegionSize=16m", "-XX:G1ReservePercent=25"]);
        command.args(["-XX:InitiatingHeapOccupancyPercent=30", "-XX:SoftRefLRUPolicyMSPerMB=0"]);
        command.args(["-XX:-OmitStackTraceInFastThrow", "-XX:-UseLargePages"]);
        for exported in ["jdk.internal.ref", "sun.nio.ch"] {
            command.arg(format!("--add-exports=java.base/{exported}=ALL-UNNAMED"));
        }
        command.arg(format!("-Duser.home={}", home.display())).arg("-cp").arg(self.jars.join("*"));
        command.env("ROCKETMQ_HOME", home).current_dir(home);
        command
    }
}
