//! Java's own store, by the program that `e2e/clients/prepare store` builds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

/// The program.
#[derive(Debug)]
pub(crate) struct Java(pub(crate) PathBuf);

#[derive(Deserialize)]
struct Said {
    nanos: u64,
}

impl Java {
    /// Appends one after the other; how long that took.
    pub(crate) fn append(&self, store: &Path, count: u64, body: usize) -> anyhow::Result<Duration> {
        self.run(&["append"], store, count, body)
    }

    /// The same, and the process ends as by kill -9.
    pub(crate) fn append_and_be_killed(&self, store: &Path, count: u64, body: usize) -> anyhow::Result<()> {
        self.run(&["append", "--kill"], store, count, body).map(|_| ())
    }

    /// Opens it; how long loading and recovery took.
    pub(crate) fn open(&self, store: &Path) -> anyhow::Result<Duration> {
        self.run(&["open", "--kill"], store, 0, 0)
    }

    fn run(&self, words: &[&str], store: &Path, count: u64, body: usize) -> anyhow::Result<Duration> {
        let output = Command::new(&self.0)
            // As a broker runs it, not as tests do.
            .env("JAVA_STORE_OPTIONS", "-Xmx2g -XX:+UseG1GC")
            .arg("bench")
            .arg(store)
            .args(words)
            .args(["--count", &count.to_string(), "--body", &body.to_string(), "--segment", "1073741824"])
            .output()
            .with_context(|| format!("cannot run {}", self.0.display()))?;
        anyhow::ensure!(
            output.status.success(),
            "Java's store failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let said: Said =
            serde_json::from_slice(&output.stdout).context("Java's store says how long it took")?;
        Ok(Duration::from_nanos(said.nanos))
    }
}
