//! The real broker as a process, on a volume of the trial's choice: started, asked, killed, and started again.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use proto::control::admin_client::AdminClient;
use proto::control::{GetStateRequest, GetStateResponse, MessageType, TopicConfig, UpsertTopicRequest};
use tonic::transport::{Channel, Endpoint};

use crate::process::Process;
use crate::wire::Wire;

/// How long a start may take, recovery included.
const START: Duration = Duration::from_secs(60);
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(60);
/// Between two looks at a page.
const LOOK: Duration = Duration::from_millis(10);
/// How long an answer of the control plane or of a page may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A broker that runs.
pub struct Broker {
    program: PathBuf,
    config: PathBuf,
    ports: [u16; 3],
    process: Process,
}

/// What `/readyz` says.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Messages are taken.
    pub ready: bool,
    /// Why not.
    pub why: String,
}

impl Broker {
    /// Starts one with its data in `data` and its configuration in `dir`, which has these lines more.
    pub fn start(program: &Path, data: &Path, dir: &Path, more: &str) -> Result<Self> {
        let ports = free_ports()?;
        let [clients, control, http] = ports.map(|port| format!("127.0.0.1:{port}"));
        let config = dir.join("broker.yaml");
        let text = format!(
            "dataDir: {}\nclientListen: {clients}\ncontrolListen: {control}\nhttpListen: {http}\n{more}",
            data.display()
        );
        std::fs::write(&config, text)?;
        let process = run(program, &config)?;
        let mut broker = Self { program: program.to_owned(), config, ports, process };
        broker.until_open()?;
        Ok(broker)
    }

    /// Starts it again, on the same data and ports.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = run(&self.program, &self.config)?;
        self.until_open()
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Stops it as Kubernetes does; it must end well.
    pub fn stop(&mut self) -> Result<()> {
        self.process.terminate()?;
        self.process.ended(STOP)?.ensure_success()
    }

    /// An error that quotes it, if it has ended.
    pub fn ensure_running(&mut self) -> Result<()> {
        self.process.ensure_running()
    }

    /// The last lines that it said.
    #[must_use]
    pub fn tail(&self) -> String {
        self.process.tail()
    }

    /// A client of it.
    pub fn wire(&self, id: &str) -> Result<Wire> {
        Wire::new(&format!("127.0.0.1:{}", self.ports[0]), id)
    }

    /// Makes a topic.
    pub async fn make_topic(&self, name: &str, queues: u32) -> Result<()> {
        let topic = TopicConfig {
            name: name.to_owned(),
            read_queues: queues,
            write_queues: queues,
            readable: true,
            writable: true,
            message_type: MessageType::Normal.into(),
            owner: String::new(),
        };
        let request = UpsertTopicRequest { topic: Some(topic), only_if_unowned: false };
        self.admin()?.upsert_topic(request).await.with_context(|| format!("cannot make topic {name}"))?;
        Ok(())
    }

    /// How it says that it stands.
    pub async fn state(&self) -> Result<GetStateResponse> {
        Ok(self
            .admin()?
            .get_state(GetStateRequest {})
            .await
            .context("it does not tell its state")?
            .into_inner())
    }

    fn admin(&self) -> Result<AdminClient<Channel>> {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.ports[1]))?.timeout(ANSWER);
        Ok(AdminClient::new(endpoint.connect_lazy()))
    }

    /// What `/readyz` says now.
    pub fn readiness(&self) -> Result<Readiness> {
        let mut page = TcpStream::connect(("127.0.0.1", self.ports[2]))?;
        page.set_read_timeout(Some(ANSWER))?;
        page.write_all(b"GET /readyz HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        page.read_to_string(&mut text)?;
        let why = text.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned()).unwrap_or_default();
        Ok(Readiness { ready: text.starts_with("HTTP/1.1 200"), why })
    }

    /// Waits until `/readyz` says what is wanted, and returns after how long.
    pub fn until(
        &mut self,
        what: &str,
        limit: Duration,
        is: impl Fn(&Readiness) -> bool,
    ) -> Result<Duration> {
        let start = Instant::now();
        let mut last = None;
        while start.elapsed() < limit {
            self.ensure_running()?;
            if let Ok(readiness) = self.readiness() {
                if is(&readiness) {
                    return Ok(start.elapsed());
                }
                last = Some(readiness);
            }
            std::thread::sleep(LOOK);
        }
        bail!("{what}: not within {limit:?}; /readyz says {last:?}\n{}", self.tail())
    }

    /// Until the log is open, whether or not it takes messages.
    fn until_open(&mut self) -> Result<()> {
        let is_open = |readiness: &Readiness| readiness.ready || !readiness.why.contains("being opened");
        self.until("the broker opens its log", START, is_open).map(drop)
    }
}

fn run(program: &Path, config: &Path) -> Result<Process> {
    Process::start(Command::new(program).arg("--config").arg(config))
}

/// Ports that nobody uses: of clients, of the control plane, of the pages.
fn free_ports() -> Result<[u16; 3]> {
    let bind = || TcpListener::bind("127.0.0.1:0");
    // All at once, so that they differ.
    let listeners = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
