//! `cargo xtask chaos`: everything that the program `chaos` of e2e needs, and then the program; see `e2e/chaos/README.md`.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::cluster::Local;
use crate::e2e;
use crate::image::{self, target_folder};
use crate::run::{run as call, step};
use crate::tools::Tools;

/// What the program is told.
#[derive(Args)]
pub(crate) struct Options {
    /// --faults N, --nightly (1,000 faults), --seed N, --only TEXT (faults with this in their description), --lasting SECONDS, --rate N (messages
    /// a second), --report FILE, --evidence FOLDER (ledgers and logs of the clients); more in e2e/chaos/README.md
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Brings up the local cluster with images of these sources, and runs the program on it.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let mut build = Command::new("cargo");
    build.current_dir(root).args(["build", "--locked", "--quiet", "--package=e2e", "--bin=chaos"]);
    call(&mut build)?;
    let images = step("images", || image::build(root))?;
    let cluster = Local::everyday(root)?;
    let kubeconfig = step("local cluster", || cluster.up())?;
    step("images onto the nodes", || cluster.load(&images))?;
    let clients = step("official clients", || e2e::clients(root))?;
    let mut command = Command::new(target_folder(root)?.join("debug/chaos"));
    command
        .args(&options.arguments)
        .env("CLUSTER_DIR", cluster.folder())
        .env("GANTRY_KUBECONFIG", kubeconfig)
        .env("GANTRY_BIN", Tools::get(root)?.folder)
        .env("GANTRY_CLI", images.cli())
        .env("GANTRY_CLIENTS", clients);
    call(&mut command)
}
