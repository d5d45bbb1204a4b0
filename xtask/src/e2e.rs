//! The end-to-end tests and the world they run in: a cluster, the images on its nodes, the official clients.
//!
//! The tests take everything from the environment: `GANTRY_KUBECONFIG`, `GANTRY_BIN` (a folder with kubectl and helm),
//! `GANTRY_CLI`, `GANTRY_CLIENTS` and, for faults of the local cluster, `CLUSTER_DIR`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::cluster;
use crate::image::{Images, target_folder};
use crate::run::{output, run as call, step};
use crate::tools::Tools;

/// The cluster of the tests lies beside the one of the quickstart, not in it.
const STATE: &str = "gantry-test";
const NET: &str = "10.78";

/// Which cluster, and which tests.
#[derive(Args)]
#[group(id = "e2e")]
pub(crate) struct Options {
    /// Use this cluster, whose nodes have the images, instead of a local one of our own
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Leave our local cluster up at the end
    #[arg(long)]
    keep_cluster: bool,
    /// Run only the end-to-end tests whose names contain this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Builds the programs around the official clients and returns their folder.
pub(crate) fn clients(root: &Path) -> Result<PathBuf> {
    let said = output(Command::new(root.join("e2e/clients/prepare")).stderr(std::process::Stdio::inherit()))?;
    Ok(PathBuf::from(said.trim()))
}

/// Stores that go between RocketMQ's own store and `gantry dev`: its jars are needed, and no cluster.
pub(crate) fn java(root: &Path) -> Result<()> {
    let program =
        output(Command::new(root.join("e2e/java-store/prepare")).stderr(std::process::Stdio::inherit()))?;
    let cargo = || {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(root);
        cargo
    };
    call(cargo().args(["build", "--locked", "--quiet", "--package=cli", "--bin=gantry"]))?;
    call(
        cargo()
            .args(["test", "--locked", "--package=e2e", "--features=java", "--test=java"])
            .env("RUST_TEST_THREADS", "2")
            .env("GANTRY_CLI", target_folder(root)?.join("debug/gantry"))
            .env("GANTRY_JAVA_STORE", program.trim()),
    )
}

/// Runs the tests, on a cluster of their own unless one is given.
pub(crate) fn run(
    root: &Path,
    options: &Options,
    images: &Images,
    tools: &Tools,
    clients: &Path,
) -> Result<()> {
    let tests = |kubeconfig: &Path, local: Option<&Path>| {
        step("end-to-end tests", || {
            let mut command = Command::new("cargo");
            command
                .current_dir(root)
                .args(["test", "--locked", "--no-fail-fast", "--package=e2e", "--features=cluster"])
                // An error says by its context where it comes from; backtraces bury it.
                .env("RUST_LIB_BACKTRACE", "0")
                // More at a time starve each other on a small machine.
                .env("RUST_TEST_THREADS", "2")
                .env("GANTRY_KUBECONFIG", kubeconfig)
                .env("GANTRY_BIN", &tools.folder)
                .env("GANTRY_CLI", images.cli())
                .env("GANTRY_CLIENTS", clients);
            if let Some(folder) = local {
                command.env("CLUSTER_DIR", folder);
            }
            call(command.args(options.only.iter().flat_map(|name| ["--", name])))
        })
    };
    if let Some(kubeconfig) = &options.kubeconfig {
        return tests(kubeconfig, None);
    }
    let cluster = cluster::Local::new(root, STATE, NET)?;
    cluster.down()?;
    let kubeconfig = step("local cluster", || cluster.up())?;
    let result = step("images onto the nodes", || cluster.load(images))
        .and_then(|()| tests(&kubeconfig, Some(cluster.folder())));
    if options.keep_cluster {
        eprintln!("    the cluster stays: {}", kubeconfig.display());
        return result;
    }
    // What failed first is what matters.
    result.and(step("local cluster down", || cluster.down()))
}
