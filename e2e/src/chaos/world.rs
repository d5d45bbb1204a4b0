//! The cluster under the group: its pods as processes of this machine, its nodes, its API server; and what must be mended again.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::stop::Stop;
use crate::cluster::{Cluster, OPERATOR_NAMESPACE};
use crate::{process, settings};

/// How long one script may take.
const SCRIPT: Duration = Duration::from_secs(90);
/// How long the API server may take to start.
const API_WITHIN: Duration = Duration::from_secs(90);
/// Pods of a node with this taint are gone for good, and their volumes can go elsewhere.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A pod of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    /// Its name.
    pub(super) name: String,
    /// Its node.
    pub(super) node: String,
    container: String,
}

/// Something that is broken and must be mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undo {
    /// Cuts and slow cables.
    Cables,
    /// A frozen process goes on, if it is there still.
    Go(i32),
    /// A daemon of a machine goes on.
    Daemon(String, String),
    /// The daemons of a machine that do not run are started.
    Daemons(String),
    /// A node gets its power back.
    Power(String),
    /// A node takes pods again.
    Taint(String),
    /// The operator comes back.
    Operator,
}

/// The cluster, as far as faults need it.
pub(super) struct World<'a> {
    /// kubectl.
    pub(super) cluster: Cluster,
    /// The group's.
    pub(super) namespace: String,
    /// The group.
    pub(super) group: &'a str,
    /// Asked to stop?
    pub(super) stop: &'a Stop,
    /// The folder of the local cluster, if it is one.
    folder: Option<PathBuf>,
    undo: Mutex<Vec<Undo>>,
}

impl<'a> World<'a> {
    /// That of a group in a namespace.
    pub(super) fn new(
        cluster: Cluster,
        namespace: &str,
        group: &'a str,
        stop: &'a Stop,
        folder: Option<PathBuf>,
    ) -> Self {
        let namespace = namespace.to_owned();
        Self { cluster, namespace, group, stop, folder, undo: Mutex::default() }
    }

    /// kubectl in the namespace.
    pub(super) fn kubectl(&self, words: &str) -> Result<String> {
        self.cluster.kubectl(&format!("-n {} {words}", self.namespace))
    }

    /// The pods of the group, by ordinal.
    pub(super) fn pods(&self, members: usize) -> Result<Vec<Pod>> {
        let said = self.kubectl(&format!(
            "get pods -l mq.gantry.dev/broker-group={} --sort-by=.metadata.name -o \
             jsonpath={{range.items[*]}}{{.metadata.name}}|{{.spec.nodeName}}|{{.status.containerStatuses[0].containerID}}{{\"\\n\"}}{{end}}",
            self.group
        ))?;
        let pods: Vec<_> = said
            .lines()
            .filter_map(|line| {
                let [name, node, container] = line.split('|').collect::<Vec<_>>()[..] else { return None };
                let container = container.rsplit('/').next()?.to_owned();
                Some(Pod { name: name.to_owned(), node: node.to_owned(), container })
            })
            .collect();
        ensure!(pods.len() == members, "{} pods of {members}: {said}", pods.len());
        Ok(pods)
    }

    /// The process of a pod, as seen from here.
    fn process(&self, pod: &Pod) -> Result<Pid> {
        ensure!(!pod.container.is_empty(), "{} has no container", pod.name);
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            // A process that has just ended has none.
            let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            if cgroup.contains(&pod.container) {
                return Pid::from_raw(pid).context("a process has a number");
            }
        }
        bail!("{} runs on another machine, or not at all", pod.name)
    }

    /// The processes of these pods, to be signalled all at once.
    pub(super) fn processes(&self, pods: &[&Pod]) -> Result<Vec<Pid>> {
        pods.iter().map(|pod| self.process(pod)).collect()
    }

    /// kill -9.
    pub(super) fn kill(&self, pid: Pid) -> Result<()> {
        kill_process(pid, Signal::KILL).context("kill -9")
    }

    /// SIGSTOP; mended by SIGCONT.
    pub(super) fn freeze(&self, pid: Pid) -> Result<()> {
        self.later(Undo::Go(pid.as_raw_nonzero().get()));
        kill_process(pid, Signal::STOP).context("SIGSTOP")
    }

    /// Waits until a process is gone, at most so long.
    pub(super) fn gone_within(&self, pid: Pid, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while fs::exists(format!("/proc/{}", pid.as_raw_nonzero())).unwrap_or(false) && Instant::now() < end {
            self.stop.pass(Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// `deploy/local/node`, to be undone like this.
    pub(super) fn node(&self, words: &str, undo: Undo) -> Result<()> {
        self.later(undo);
        self.script(words)
    }

    fn script(&self, words: &str) -> Result<()> {
        let folder =
            self.folder.as_ref().context("this fault needs a local cluster: CLUSTER_DIR names none")?;
        let mut command = Command::new(settings::root().join("deploy/local/node"));
        process::output(command.args(words.split_whitespace()).env("CLUSTER_DIR", folder), SCRIPT)?;
        Ok(())
    }

    /// Takes the operator away.
    pub(super) fn stop_operator(&self) -> Result<()> {
        self.later(Undo::Operator);
        self.operator(0)
    }

    fn operator(&self, replicas: usize) -> Result<()> {
        let deployment = "deployment -l app.kubernetes.io/name=gantry-operator";
        self.cluster.kubectl(&format!("-n {OPERATOR_NAMESPACE} scale {deployment} --replicas={replicas}"))?;
        let wait = match replicas {
            0 => "wait pod -l app.kubernetes.io/name=gantry-operator --for=delete --timeout=60s".to_owned(),
            _ => format!("rollout status {deployment} --timeout=120s"),
        };
        self.cluster.kubectl_within(&format!("-n {OPERATOR_NAMESPACE} {wait}"), Duration::from_secs(150))?;
        Ok(())
    }

    /// The node will not come back as it was: its pods go.
    pub(super) fn taint(&self, node: &str) -> Result<()> {
        self.later(Undo::Taint(node.to_owned()));
        self.cluster.kubectl(&format!("taint node {node} {OUT_OF_SERVICE}=lost:NoExecute --overwrite"))?;
        Ok(())
    }

    fn later(&self, undo: Undo) {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner).push(undo);
    }

    /// Mends everything that is broken, the last first.
    pub(super) fn heal(&self) -> Result<()> {
        let mut first = Ok(());
        loop {
            let undo = self.undo.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(undo) = undo else { return first };
            let outcome = self.mend(&undo).with_context(|| format!("{undo:?}"));
            if let Err(error) = &outcome {
                eprintln!("chaos: could not mend: {error:#}");
            }
            first = first.and(outcome);
        }
    }

    fn mend(&self, undo: &Undo) -> Result<()> {
        match undo {
            Undo::Cables => self.script("mend"),
            Undo::Go(pid) => {
                // It may have been killed meanwhile.
                let _ = Pid::from_raw(*pid).map(|pid| kill_process(pid, Signal::CONT));
                Ok(())
            }
            Undo::Daemon(machine, name) => self.script(&format!("stop-daemon {machine} {name} CONT")),
            Undo::Daemons(machine) => {
                self.script(&format!("start-daemons {machine}"))?;
                self.api_answers()
            }
            Undo::Power(node) => self.script(&format!("start {node}")),
            Undo::Taint(node) => {
                self.cluster.kubectl(&format!("taint node {node} {OUT_OF_SERVICE}-")).map(drop)
            }
            Undo::Operator => self.operator(1),
        }
    }

    fn api_answers(&self) -> Result<()> {
        let end = Instant::now() + API_WITHIN;
        loop {
            let asked = self.cluster.kubectl("get --raw /readyz --request-timeout=2s");
            match asked {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error.context("the API server is not back")),
                Err(_) => std::thread::sleep(Duration::from_millis(300)),
            }
        }
    }

    /// Waits until the nodes and the pods of the group and of its name servers are Ready.
    pub(super) fn ready(&self, members: usize, limit: Duration) -> Result<()> {
        let pods: String =
            (0..members).map(|n| format!(" pod/{0}-broker-{n} pod/{0}-namesrv-{n}", self.group)).collect();
        let waits = [
            "wait nodes --all --for=condition=Ready".to_owned(),
            format!("-n {} wait{pods} --for=create", self.namespace),
            format!("-n {} wait{pods} --for=condition=Ready", self.namespace),
        ];
        let end = Instant::now() + limit;
        loop {
            self.stop.check()?;
            let left = end.saturating_duration_since(Instant::now());
            let wait = |words: &String| {
                let words = format!("{words} --timeout={}s", left.as_secs());
                self.cluster.kubectl_within(&words, left + SCRIPT)
            };
            match waits.iter().try_for_each(|words| wait(words).map(drop)) {
                // A pod was replaced while it was waited for.
                Err(_) if Instant::now() < end => {}
                outcome => return outcome,
            }
        }
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        // It has said what it could not mend.
        let _ = self.heal();
    }
}
