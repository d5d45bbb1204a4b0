//! The cluster: kubectl, helm, the operator that all tests share, and a namespace a test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::process::{self, Finished, Process};
use crate::{clients, messaging, settings};

/// How long one command may take that waits for nothing.
const COMMAND: Duration = Duration::from_secs(60);
/// What a waiting command gets beyond the time that it waits.
const RESERVE: Duration = Duration::from_secs(20);
/// How long anything may take to become ready. Far more than it should, for a machine that does much else.
pub const READY: Duration = Duration::from_secs(180);

/// The namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "gantry-system";

/// A cluster that the tests may use.
#[derive(Clone)]
pub struct Cluster {
    kubeconfig: PathBuf,
    bin: PathBuf,
}

impl Cluster {
    /// The cluster that the environment names.
    pub fn from_environment() -> Result<Self> {
        Ok(Self { kubeconfig: settings::kubeconfig()?, bin: settings::bin()? })
    }

    /// The same with the operator running, of these sources. The first test of a process installs it.
    pub fn with_operator() -> Result<Self> {
        static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
        let cluster = Self::from_environment()?;
        let installed =
            INSTALLED.get_or_init(|| cluster.install_operator().map_err(|error| format!("{error:#}")));
        installed.clone().map_err(|error| anyhow!("the operator cannot be installed: {error}"))?;
        Ok(cluster)
    }

    /// Installs or upgrades CRDs and operator from the charts, and waits until it is ready.
    pub fn install_operator(&self) -> Result<()> {
        self.install("gantry-crds", &[])?;
        // The tag stays the same while one develops: an operator that already runs may be of an older build.
        let restart = format!("pod.annotations.restarted-by=e2e-{}", std::process::id());
        self.install("gantry-operator", &["--set=watch.allNamespaces=true", "--set-string", &restart])
    }

    /// Installs or upgrades a chart beside the operator.
    fn install(&self, chart: &str, more: &[&str]) -> Result<()> {
        let (path, limit) = (chart_path(chart), seconds(READY));
        let words: &[&str] = &["upgrade", "--install", chart, &path, "--namespace", OPERATOR_NAMESPACE];
        let wait: &[&str] = &["--create-namespace", "--wait", "--timeout", &limit];
        self.helm(&[words, wait, more].concat())?;
        Ok(())
    }

    /// Runs kubectl with words that are split at spaces.
    pub fn kubectl(&self, words: &str) -> Result<String> {
        self.kubectl_within(words, COMMAND)
    }

    /// The same for a command that waits.
    pub fn kubectl_within(&self, words: &str, limit: Duration) -> Result<String> {
        process::output(self.kubectl_command().args(words.split_whitespace()), limit)
    }

    /// Runs helm.
    pub fn helm(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(self.bin.join("helm"));
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(words);
        process::output(&mut command, READY + RESERVE)
    }

    /// kubectl, to be given more words.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.bin.join("kubectl"));
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command
    }

    /// The kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

/// A chart of this checkout.
pub fn chart_path(chart: &str) -> String {
    settings::root().join("charts").join(chart).display().to_string()
}

/// A namespace of one test. Dropped, it is deleted; if the test did not pass, it first tells what happened in it.
pub struct Namespace {
    /// The cluster that it is in.
    pub cluster: Cluster,
    /// Its name.
    pub name: String,
    passed: bool,
}

/// Runs a test in a namespace of its own.
pub fn in_namespace(name: &str, test: impl FnOnce(&Namespace) -> Result<()>) -> Result<()> {
    let cluster = Cluster::with_operator()?;
    let name = format!("e2e-{name}-{}", std::process::id());
    cluster.kubectl(&format!("create namespace {name}"))?;
    let mut namespace = Namespace { cluster, name, passed: false };
    // What the operator makes must pass the strictest rules that a platform team may have.
    namespace.cluster.kubectl(&format!(
        "label namespace {} pod-security.kubernetes.io/enforce=restricted",
        namespace.name
    ))?;
    test(&namespace)?;
    namespace.passed = true;
    Ok(())
}

impl Namespace {
    /// Runs kubectl in the namespace.
    pub fn kubectl(&self, words: &str) -> Result<String> {
        self.cluster.kubectl(&format!("-n {} {words}", self.name))
    }

    /// Applies YAML.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        self.try_apply(yaml)?.ensure_success().with_context(|| yaml.to_owned())
    }

    /// Applies YAML that the API server must refuse, and returns what it says.
    pub fn refused(&self, yaml: &str) -> Result<String> {
        let finished = self.try_apply(yaml)?;
        if finished.status.success() {
            bail!("this was accepted and should not have been:\n{yaml}");
        }
        Ok(finished.err.join("\n"))
    }

    fn try_apply(&self, yaml: &str) -> Result<Finished> {
        let mut command = self.cluster.kubectl_command();
        command.args(["-n", &self.name, "apply", "-f", "-"]);
        Process::start_with(&mut command, yaml)?.finish(COMMAND)
    }

    /// Waits as `kubectl wait TARGET --for=CONDITION` does.
    pub fn wait(&self, target: &str, condition: &str) -> Result<()> {
        let words = format!("-n {} wait {target} --for={condition} --timeout={}", self.name, seconds(READY));
        self.cluster.kubectl_within(&words, READY + RESERVE)?;
        Ok(())
    }

    /// Waits until each of them is Ready.
    pub fn ready(&self, targets: &[&str]) -> Result<()> {
        targets.iter().try_for_each(|target| self.wait(target, "condition=Ready"))
    }

    /// Waits until a condition of a resource has this reason, and returns its message.
    pub fn reason(&self, target: &str, condition: &str, reason: &str) -> Result<String> {
        let at = |field: &str| format!("{{.status.conditions[?(@.type==\"{condition}\")].{field}}}");
        self.wait(target, &format!("jsonpath={}={reason}", at("reason")))?;
        self.get(target, &at("message"))
    }

    /// A part of a resource.
    pub fn get(&self, target: &str, path: &str) -> Result<String> {
        self.kubectl(&format!("get {target} -o jsonpath={path}"))
    }

    /// A set of name servers and a broker group, both ready, and where clients connect.
    pub fn messaging(&self, name: &str, brokers: &str) -> Result<String> {
        self.apply(&(messaging::name_servers(name, 1) + &messaging::brokers(name, name, brokers)))?;
        self.ready(&[&format!("nss/{name}"), &format!("bg/{name}")])?;
        self.access_point(name)
    }

    /// Where clients of a NameServerSet connect, from this machine as from a pod.
    pub fn access_point(&self, name: &str) -> Result<String> {
        let address = self.get(&format!("service/{name}-namesrv"), "{.spec.clusterIP}")?;
        Ok(format!("{address}:8081"))
    }

    /// Topics of a NameServerSet, ready.
    pub fn topics(&self, name_servers: &str, names: &[&str]) -> Result<()> {
        let yaml: String = names.iter().map(|name| messaging::topic(name, name_servers, "")).collect();
        self.apply(&yaml)?;
        names.iter().try_for_each(|name| self.ready(&[&format!("mqt/{name}")]))
    }

    /// Sends and receives a few messages: does this place work?
    pub fn ensure_works(&self, access_point: &str, topic: &str) -> Result<()> {
        let group = format!("works-{topic}");
        let language = clients::Language::Go;
        let sent = clients::produce(language, access_point, topic, 5)?.prefix(&group).run(COMMAND)?;
        sent.ensure_all_sent(5)?;
        let consumer = clients::Consumer::Simple;
        clients::consume(language, consumer, access_point, topic, &group)?
            .idle(3)
            .run(COMMAND)?
            .ensure_holds(&sent.sent())
    }

    /// What there is to see, in a file; how it stands, at once.
    fn tell(&self) {
        let everything = [
            "get nss,bg,mqt,statefulset,pod,pvc,service -o wide",
            "describe nss,bg,mqt",
            "get events --sort-by=.lastTimestamp",
            "logs -l app.kubernetes.io/managed-by=gantry-operator --all-containers --prefix --tail=400",
            &format!("-n {OPERATOR_NAMESPACE} logs -l app.kubernetes.io/name=gantry-operator --tail=400"),
        ];
        let said = everything.map(|words| format!("$ kubectl {words}\n{}\n", self.said(words)));
        let file = std::env::temp_dir().join(format!("gantry-{}.txt", self.name));
        let told = match std::fs::write(&file, said.concat()) {
            Ok(()) => format!("its objects, events and logs are in {}", file.display()),
            Err(error) => format!("{}: {error}\n{}", file.display(), said.concat()),
        };
        eprintln!("\n---- {}: {told} ----\n{}", self.name, self.said("get nss,bg,mqt,pod"));
    }

    fn said(&self, words: &str) -> String {
        self.kubectl(words).unwrap_or_else(|error| format!("{error:#}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.passed {
            self.tell();
        }
        if let Err(error) = self.cluster.kubectl(&format!("delete namespace {} --wait=false", self.name)) {
            eprintln!("{} stays: {error:#}", self.name);
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}
