//! `gantry dev` as a process of its own: started, asked, killed, and started again on the same data and ports.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{self, Process};
use crate::settings;

/// How long a start may take, recovery included.
const START: Duration = Duration::from_secs(60);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(30);

/// The control plane's port is this far from the clients'.
const CONTROL: u16 = 1797;
/// The ports that belong to a clients' port, by their distance.
const DISTANCES: [u16; 4] = [0, 1009, CONTROL, 1798];

/// A dev server on a data directory.
pub struct Dev {
    cli: PathBuf,
    data: PathBuf,
    port: u16,
    process: Process,
}

impl Dev {
    /// Starts one on free ports and waits until it is ready.
    pub fn start(data: &Path) -> Result<Self> {
        Self::start_at(data, free_port()?)
    }

    /// Starts one where clients expect it.
    fn start_at(data: &Path, port: u16) -> Result<Self> {
        let cli = settings::cli()?;
        let mut command = Command::new(&cli);
        command.arg("dev").arg("--data").arg(data).args(["--port", &port.to_string()]);
        let process = Process::start(&mut command)?;
        process.until("its line that says it is ready", START, |lines| lines.first().map(|_| ()))?;
        Ok(Self { cli, data: data.to_owned(), port, process })
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs `gantry` against its control plane and returns what it printed.
    pub fn gantry(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.cli);
        command.args(words).env("GANTRY_SERVER", format!("127.0.0.1:{}", self.port + CONTROL));
        command.env("GANTRY_ENDPOINT", self.endpoint());
        process::output(&mut command, COMMAND)
    }

    /// kill -9, and nothing else.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Stops it as Ctrl-C does, to be started again.
    pub fn terminate(&mut self) -> Result<()> {
        self.process.terminate()?;
        self.process.ended(COMMAND)?.ensure_success()
    }

    /// Starts it again on the same data and the same ports.
    pub fn start_again(&mut self) -> Result<()> {
        let again = Self::start_at(&self.data, self.port).context("after it was killed")?;
        *self = again;
        Ok(())
    }

    /// Stops it as Ctrl-C does; it must end well.
    pub fn stop(mut self) -> Result<()> {
        self.terminate()
    }
}

/// A port for clients whose companions are free too.
fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let free = |distance: &u16| {
            port.checked_add(*distance).is_some_and(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        };
        if DISTANCES.iter().all(free) {
            return Ok(port);
        }
    }
    bail!("no four free ports on 127.0.0.1")
}
