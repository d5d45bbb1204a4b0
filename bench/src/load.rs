//! Loads, by `gantry bench`: there is one load generator, and this runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tokio::task::block_in_place;

use crate::process::bound;

/// A closed loop of sends.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Connections
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Sends under way on each connection
    #[arg(long, default_value_t = 32)]
    pub in_flight: usize,
    /// Bytes of a body
    #[arg(long, default_value_t = 1024)]
    pub bytes: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Seconds before, which are not
    #[arg(long, default_value_t = 2)]
    pub warm_up: u64,
}

impl Load {
    /// Sends to the topic of a server, whose CPU time is told; `more` is added to the arguments.
    pub fn produce(
        &self,
        generator: &Generator,
        endpoint: &str,
        pid: u32,
        topic: &str,
        more: &[String],
    ) -> anyhow::Result<Outcome> {
        self.run(generator, endpoint, pid, &["produce", topic], more)
    }

    /// The same with messages for later, which nobody receives.
    pub fn delay(
        &self,
        generator: &Generator,
        endpoint: &str,
        pid: u32,
        topic: &str,
    ) -> anyhow::Result<Outcome> {
        self.run(generator, endpoint, pid, &["delay", topic, "--send-only", "--delay", "1h"], &[])
    }

    fn run(
        &self,
        generator: &Generator,
        endpoint: &str,
        pid: u32,
        words: &[&str],
        more: &[String],
    ) -> anyhow::Result<Outcome> {
        let Self { connections, in_flight, bytes, seconds, warm_up } = self;
        let mut arguments: Vec<String> = words.iter().map(ToString::to_string).collect();
        arguments.extend([
            format!("--connections={connections}"),
            format!("--in-flight={in_flight}"),
            format!("--size={bytes}"),
            format!("--duration={seconds}s"),
            format!("--warm-up={warm_up}s"),
        ]);
        arguments.extend_from_slice(more);
        generator.run(endpoint, Some(pid), &arguments)
    }
}

/// The program that makes loads.
#[derive(Debug, Clone)]
pub struct Generator {
    /// `gantry`.
    pub gantry: PathBuf,
    /// The CPU that it is bound to, if it is.
    pub cpu: Option<usize>,
}

impl Generator {
    /// One that may use every CPU.
    pub fn unbound(gantry: &Path) -> Self {
        Self { gantry: gantry.to_owned(), cpu: None }
    }

    /// `gantry bench` with these arguments against a server, not yet started; its result is JSON.
    pub fn command(&self, endpoint: &str, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.gantry);
        command.arg("bench").args(arguments).args(["--endpoint", endpoint, "-o", "json"]);
        match self.cpu {
            Some(cpu) => bound(&command, cpu),
            None => command,
        }
    }

    /// Runs a load to its end. What it says of its progress is not shown.
    pub fn run(&self, endpoint: &str, pid: Option<u32>, arguments: &[String]) -> anyhow::Result<Outcome> {
        let mut command = self.command(endpoint, arguments);
        command.args(pid.map(|pid| format!("--pid={pid}"))).stdin(Stdio::null());
        let output = block_in_place(|| command.output()).context("cannot run gantry bench")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "gantry bench {}: {stderr}", arguments.join(" "));
        serde_json::from_slice(&output.stdout).context("gantry bench says what it measured")
    }
}

/// What `gantry bench -o json` says; rates are messages a second, latencies milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What was sent.
    pub sent: Option<Sent>,
    /// What came.
    pub received: Option<Received>,
    /// What was timed.
    pub latencies: Vec<Latency>,
    /// Calls that failed.
    pub errors: Vec<Errors>,
    /// CPU time of the server for each message, µs.
    pub server_cpu_micros: Option<f64>,
}

/// What was sent.
#[derive(Debug, Clone, Deserialize)]
pub struct Sent {
    /// Messages that the server acknowledged.
    pub acknowledged: u64,
    /// Those that were measured, a second.
    pub rate: f64,
    /// Messages that were due and never sent.
    pub unsent: u64,
}

/// What came.
#[derive(Debug, Clone, Deserialize)]
pub struct Received {
    /// Different messages.
    pub distinct: u64,
    /// Messages that had come before.
    pub duplicates: u64,
    /// Different messages a second.
    pub rate: f64,
    /// Acknowledged sends that did not come.
    pub missing: u64,
}

/// How long something took, ms.
#[derive(Debug, Clone, Deserialize)]
pub struct Latency {
    /// What.
    pub of: String,
    /// Half took no longer.
    pub p50: f64,
    /// 99 % took no longer.
    pub p99: f64,
    /// 99.9 % took no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// Errors of a code.
#[derive(Debug, Clone, Deserialize)]
pub struct Errors {
    /// The code.
    pub code: String,
    /// How often.
    pub count: u64,
    /// The first one's words.
    pub first: String,
}

impl Outcome {
    /// Acknowledged sends a second.
    pub fn rate(&self) -> f64 {
        self.sent.as_ref().map_or(0.0, |sent| sent.rate)
    }

    /// How often calls failed.
    pub fn failed(&self) -> u64 {
        self.errors.iter().map(|errors| errors.count).sum()
    }

    /// The latencies of one operation.
    pub fn latency(&self, of: &str) -> Option<&Latency> {
        self.latencies.iter().find(|latency| latency.of == of)
    }

    /// Nothing failed.
    pub fn ensure_clean(&self) -> anyhow::Result<()> {
        ensure!(self.errors.is_empty(), "calls failed: {:?}", self.errors);
        Ok(())
    }

    /// The names of the columns of [`row`](Self::row).
    pub const HEAD: &str = "   sends/s   p50 ms    p99 ms  p99.9 ms  CPU µs/send   failed";

    /// The figures of a load of sends in one line.
    pub fn row(&self) -> String {
        let cpu = self.server_cpu_micros.map_or("-".to_owned(), |us| format!("{us:.1}"));
        let latency = self.latency("send").map_or([0.0; 3], |send| [send.p50, send.p99, send.p999]);
        let [p50, p99, p999] = latency.map(|ms| format!("{ms:.3}"));
        format!("{:>10.0} {p50:>8} {p99:>9} {p999:>9} {cpu:>12} {:>8}", self.rate(), self.failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_read() {
        let outcome: Outcome = serde_json::from_str(
            r#"{"scenario": "produce", "endpoint": "e", "load": "l", "interrupted": false,
                "sent": {"acknowledged": 12, "measured": 10, "seconds": 2.0, "rate": 5.0, "unsent": 0},
                "latencies": [{"of": "send", "count": 10, "mean": 1, "p50": 1, "p90": 2, "p99": 3, "p999": 4, "p9999": 5,
                               "max": 6, "curve": [[1.0, 6.0]], "seconds": [[1.0, 10, 1, 2, 3]]}],
                "errors": [{"code": "TRANSPORT", "count": 2, "first": "gone"}], "serverCpuMicros": 31.5}"#,
        )
        .unwrap();
        assert_eq!((outcome.rate(), outcome.failed()), (5.0, 2));
        let row: Vec<_> = outcome.row().split_whitespace().map(str::to_owned).collect();
        assert_eq!(row, ["5", "1.000", "3.000", "4.000", "31.5", "2"]);
        assert!(outcome.ensure_clean().is_err());
    }
}
