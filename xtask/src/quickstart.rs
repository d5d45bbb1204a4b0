//! What `./quickstart` does once the machine is prepared: a cluster, the operator, three resources, one message there
//! and back, and what to type next.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use crate::cluster::Local;
use crate::image::{self, Images};
use crate::run::output;
use crate::tools::Tools;

/// Where the operator lives.
const SYSTEM: &str = "gantry-system";
/// The example, where it is applied, and the names in it.
const EXAMPLE: &str = "deploy/examples/minimal.yaml";
const NAMESPACE: &str = "default";
const NAME_SERVERS: &str = "gantry";
const BROKERS: &str = "main";
const TOPIC: &str = "orders";

/// After so long without news a line says that it goes on.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the quickstart is asked for.
#[derive(Args)]
pub(crate) struct Options {
    /// Use this cluster instead of a local one; its nodes must have the images or be able to pull them
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Where the nodes pull the images from, for example registry.example.com/gantry/
    #[arg(long, value_name = "PREFIX", default_value = image::PREFIX)]
    image_prefix: String,
    /// Clean up: take the local cluster down, or remove what was put on the cluster of --kubeconfig
    #[arg(long)]
    down: bool,
}

/// Does it, and says what it does and when.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let clock = Clock(Instant::now());
    let given = options
        .kubeconfig
        .as_ref()
        .map(|file| file.canonicalize().with_context(|| format!("the kubeconfig {}", file.display())));
    match (given.transpose()?, options.down) {
        (None, true) => {
            clock.say("taking the local cluster down");
            Local::everyday(root)?.down()?;
            clock.say("everything is as it was (programs and images stay in the caches)");
            Ok(())
        }
        (Some(kubeconfig), true) => remove(root, &clock, &kubeconfig),
        (None, false) => {
            let (images, kubeconfig) = local(root, &clock)?;
            Place { root, clock: &clock, tools: Tools::get(root)?, kubeconfig, images, prefix: image::PREFIX }
                .install(true)
        }
        (Some(kubeconfig), false) => {
            let images = image::build(root)?;
            if options.image_prefix == image::PREFIX {
                clock.say(&format!("the nodes must have the images of {} already", images.folder.display()));
            } else {
                clock.say(&format!("the nodes pull {}gantry-*:{}", options.image_prefix, images.version));
            }
            let prefix = &options.image_prefix;
            Place { root, clock: &clock, tools: Tools::get(root)?, kubeconfig, images, prefix }.install(false)
        }
    }
}

/// The local cluster with the images on its nodes; both are made at the same time.
fn local(root: &Path, clock: &Clock) -> Result<(Images, PathBuf)> {
    let cluster = &Local::everyday(root)?;
    clock.say("images and a Kubernetes cluster of three nodes (on a new machine this is the long part)");
    let (images, kubeconfig) = thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let images = scope.spawn({
            let tell = tell.clone();
            move || {
                let images = image::build(root)?;
                tell.send("the images are built").ok();
                anyhow::Ok(images)
            }
        });
        let up = scope.spawn(move || {
            let kubeconfig = cluster.up()?;
            tell.send("the cluster is up").ok();
            anyhow::Ok(kubeconfig)
        });
        loop {
            match told.recv_timeout(PATIENCE) {
                Ok(done) => clock.say(done),
                Err(mpsc::RecvTimeoutError::Timeout) => clock.say("still building"),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        let images = images.join().map_err(|_| anyhow!("building the images panicked"))??;
        let kubeconfig = up.join().map_err(|_| anyhow!("bringing the cluster up panicked"))??;
        anyhow::Ok((images, kubeconfig))
    })?;
    cluster.load(&images)?;
    clock.say("the images are on its nodes");
    Ok((images, kubeconfig))
}

/// A cluster to install on.
struct Place<'a> {
    root: &'a Path,
    clock: &'a Clock,
    tools: Tools,
    kubeconfig: PathBuf,
    images: Images,
    prefix: &'a str,
}

impl Place<'_> {
    fn install(&self, services_can_be_reached: bool) -> Result<()> {
        // Definitions that were applied by hand become the chart's.
        self.chart("gantry-crds", &["--take-ownership".to_owned()])?;
        self.chart(
            "gantry-operator",
            &[
                "--set=watch.allNamespaces=true".to_owned(),
                format!("--set=image.prefix={}", self.prefix),
                // Another build of the same version replaces the operator that runs.
                format!("--set-string=pod.annotations.mq\\.gantry\\.dev/build={}", self.images.key),
            ],
        )?;
        self.clock.say("the operator runs");
        self.kubectl(&["apply", "--filename", EXAMPLE])?;
        self.clock.say(&format!("applied {EXAMPLE}; waiting for Ready"));
        let resources = [
            format!("nameserverset/{NAME_SERVERS}"),
            format!("brokergroup/{BROKERS}"),
            format!("topic/{TOPIC}"),
        ];
        let mut wait = vec!["wait", "--for=condition=Ready", "--timeout=180s"];
        wait.extend(resources.iter().map(String::as_str));
        if let Err(e) = self.kubectl(&wait) {
            eprintln!("{}", self.kubectl(&["get", "gantry,pods,events"]).unwrap_or_default());
            return Err(e);
        }
        self.clock.say("name servers, brokers and the topic are Ready");
        let service = format!("service/{NAME_SERVERS}-namesrv");
        let address = self.kubectl(&["get", &service, "--output=jsonpath={.spec.clusterIP}"])?;
        let endpoint = format!("{address}:8081");
        if services_can_be_reached {
            self.send_and_receive(&endpoint)?;
        } else {
            self.check_from_a_pod()?;
        }
        self.what_next(&endpoint);
        Ok(())
    }

    fn chart(&self, chart: &str, values: &[String]) -> Result<()> {
        output(
            self.tools
                .helm_in(&self.kubeconfig)
                .current_dir(self.root)
                .args([
                    "upgrade",
                    "--install",
                    "--wait",
                    "--timeout=180s",
                    "--create-namespace",
                    "--namespace",
                    SYSTEM,
                ])
                .arg(chart)
                .arg(format!("charts/{chart}"))
                .args(values),
        )?;
        self.clock.say(&format!("installed the chart {chart}"));
        Ok(())
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.tools.kubectl(&self.kubeconfig);
        output(command.current_dir(self.root).args(["--namespace", NAMESPACE]).args(arguments))
    }

    fn send_and_receive(&self, endpoint: &str) -> Result<()> {
        let body = format!("hello at {} s", self.clock.0.elapsed().as_secs());
        let gantry = || {
            let mut command = Command::new(self.images.cli());
            command.env("GANTRY_ENDPOINT", endpoint);
            command
        };
        output(gantry().args(["produce", TOPIC, "--tag=quickstart", "--body", &body]))?;
        self.clock.say(&format!("sent      {body:?}"));
        let received = output(gantry().args([
            "consume",
            TOPIC,
            "--group=quickstart",
            "--filter=quickstart",
            "--count=1",
            "--timeout=30s",
            "--raw",
        ]))?;
        self.clock.say(&format!("received  {:?}", received.trim_end()));
        ensure!(received.trim_end() == body, "another message came than the one that was sent");
        Ok(())
    }

    fn check_from_a_pod(&self) -> Result<()> {
        let image = format!("{}gantry-cli:{}", self.prefix, self.images.version);
        let said = self.kubectl(&[
            "run",
            "gantry-quickstart",
            "--restart=Never",
            "--rm",
            "--attach",
            "--quiet",
            "--image",
            &image,
            "--",
            "check",
            "--topic",
            TOPIC,
            "--endpoint",
            &format!("{NAME_SERVERS}-namesrv:8081"),
        ])?;
        self.clock.say(&format!("sent and received from a pod: {}", said.trim()));
        Ok(())
    }

    fn what_next(&self, endpoint: &str) {
        let kubeconfig = self.kubeconfig.display();
        let programs = self.tools.folder.display();
        let cli = self.images.cli();
        let cli = cli.display();
        println!(
            r#"
It works. What to type next:

  export KUBECONFIG={kubeconfig}
  export PATH={programs}:$PATH
  kubectl get gantry                          # all resources of Gantry
  kubectl describe brokergroup {BROKERS}             # conditions, each with its reason
  kubectl delete pod {BROKERS}-broker-0              # the messages are still there when it is back
  kubectl apply -f deploy/examples/           # more to begin from

  export GANTRY_ENDPOINT={endpoint}
  alias gantry={cli}
  gantry produce {TOPIC} --body 'hello'
  gantry consume {TOPIC} --group mine --count 1

Connect an application (from a pod: {NAME_SERVERS}-namesrv.{NAMESPACE}.svc:8081):

  Java, org.apache.rocketmq:rocketmq-client-java

    ClientServiceProvider provider = ClientServiceProvider.loadService();
    ClientConfiguration configuration = ClientConfiguration.newBuilder()
        .setEndpoints("{endpoint}").enableSsl(false).build();
    Producer producer = provider.newProducerBuilder()
        .setClientConfiguration(configuration).setTopics("{TOPIC}").build();
    producer.send(provider.newMessageBuilder()
        .setTopic("{TOPIC}").setBody("hello".getBytes()).build());

  Python, rocketmq-python-client

    from rocketmq import ClientConfiguration, Credentials, Message, Producer
    producer = Producer(ClientConfiguration("{endpoint}", Credentials()), ("{TOPIC}",))
    producer.startup()
    message = Message()
    message.topic, message.body = "{TOPIC}", b"hello"
    print(producer.send(message).message_id)
    producer.shutdown()

Clean up with ./quickstart --down"#
        );
        self.clock.say("done");
    }
}

/// Takes what the quickstart put on a cluster of somebody else, its messages included. The CRDs stay: other
/// resources may be of their kinds.
fn remove(root: &Path, clock: &Clock, kubeconfig: &Path) -> Result<()> {
    let tools = Tools::get(root)?;
    let kubectl = |arguments: &[&str]| {
        output(tools.kubectl(kubeconfig).current_dir(root).args(["--namespace", NAMESPACE]).args(arguments))
    };
    kubectl(&["delete", "--ignore-not-found", "--timeout=120s", "--filename", EXAMPLE])?;
    kubectl(&[
        "delete",
        "pvc",
        "--ignore-not-found",
        "--selector",
        &format!("mq.gantry.dev/broker-group={BROKERS}"),
    ])?;
    clock.say("the example and its messages are gone");
    for chart in ["gantry-operator", "gantry-crds"] {
        output(
            tools
                .helm_in(kubeconfig)
                .args(["uninstall", "--ignore-not-found", "--wait", "--namespace", SYSTEM])
                .arg(chart),
        )?;
    }
    kubectl(&["delete", "namespace", "--ignore-not-found", SYSTEM])?;
    clock.say("the operator is gone; the CRDs stay, see charts/gantry-crds/README.md");
    Ok(())
}

/// Since when, for lines that say how long it took so far.
struct Clock(Instant);

impl Clock {
    fn say(&self, text: &str) {
        println!("[{:6.1} s] {text}", self.0.elapsed().as_secs_f64());
    }
}
