//! What the tests must be told by the environment. A missing thing fails the test: nothing is skipped in silence.

use std::path::PathBuf;

use anyhow::{Result, ensure};

/// The kubeconfig of the cluster that the tests may use.
pub fn kubeconfig() -> Result<PathBuf> {
    existing("GANTRY_KUBECONFIG", "the kubeconfig of a cluster, for example what `deploy/local/up` prints")
}

/// The folder of kubectl and helm.
pub fn bin() -> Result<PathBuf> {
    existing("GANTRY_BIN", "the folder of kubectl and helm, for example what `deploy/local/build` prints")
}

/// The program `gantry`.
pub fn cli() -> Result<PathBuf> {
    existing("GANTRY_CLI", "the program gantry, for example target/debug/gantry")
}

/// The folder of the official client programs.
pub fn clients() -> Result<PathBuf> {
    existing("GANTRY_CLIENTS", "the folder of the client programs, which `e2e/clients/prepare` prints")
}

/// The program around RocketMQ's own store.
pub fn java_store() -> Result<PathBuf> {
    existing(
        "GANTRY_JAVA_STORE",
        "the program around RocketMQ's store, which `e2e/java-store/prepare` prints",
    )
}

/// The project's own folder.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn existing(variable: &str, meaning: &str) -> Result<PathBuf> {
    let value = std::env::var_os(variable).unwrap_or_default();
    ensure!(!value.is_empty(), "{variable} is not set: the end-to-end tests need {meaning}");
    let path = PathBuf::from(value);
    ensure!(path.exists(), "{variable} names {}, which does not exist: {meaning}", path.display());
    Ok(path)
}
