//! Local clusters, by the scripts in `deploy/local/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;
use clap::Subcommand;

use crate::files;
use crate::image::{self, Images};
use crate::run::{output, run};

/// Nodes of a cluster unless `CLUSTER_NODES` says otherwise: enough for spreading, draining and losing one.
const NODES: &str = "3";

/// What to do with the local cluster.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Brings it up (three nodes, or CLUSTER_NODES) and prints the path of its kubeconfig
    Up,
    /// Stops it and removes everything that it left on the machine
    Down,
    /// Builds the images and gives them to every node
    Load,
}

/// Carries it out on the cluster that the quickstart uses too.
pub(crate) fn act(root: &Path, action: &Action) -> Result<()> {
    let cluster = Local::everyday(root)?;
    match action {
        Action::Up => println!("{}", cluster.up()?.display()),
        Action::Down => cluster.down()?,
        Action::Load => cluster.load(&image::build(root)?)?,
    }
    Ok(())
}

/// One local cluster: a folder for its state and a network.
pub(crate) struct Local {
    scripts: PathBuf,
    folder: PathBuf,
    net: Option<&'static str>,
}

impl Local {
    /// The one that people use: where the scripts have it when nothing is said, or `CLUSTER_DIR`.
    pub(crate) fn everyday(root: &Path) -> Result<Self> {
        let folder = match std::env::var_os("CLUSTER_DIR").filter(|d| !d.is_empty()) {
            Some(set) => PathBuf::from(set),
            None => files::base("XDG_STATE_HOME", ".local/state")?.join("kube-cluster"),
        };
        Ok(Self { scripts: root.join("deploy/local"), folder, net: None })
    }

    /// One beside it.
    pub(crate) fn new(root: &Path, name: &str, net: &'static str) -> Result<Self> {
        let folder = files::base("XDG_STATE_HOME", ".local/state")?.join(name);
        Ok(Self { scripts: root.join("deploy/local"), folder, net: Some(net) })
    }

    /// Holds all of its state.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Brings it up unless it is, and returns its kubeconfig.
    pub(crate) fn up(&self) -> Result<PathBuf> {
        let mut command = self.script("up");
        if std::env::var_os("CLUSTER_NODES").is_none() && !self.folder.join("settings").exists() {
            command.env("CLUSTER_NODES", NODES);
        }
        if let Some(net) = self.net {
            command.env("CLUSTER_NET", net);
        }
        let said = output(command.stderr(Stdio::inherit()))?;
        Ok(PathBuf::from(said.trim()))
    }

    /// Takes it down; there may be none.
    pub(crate) fn down(&self) -> Result<()> {
        run(&mut self.script("down"))
    }

    /// Gives the images to every node.
    pub(crate) fn load(&self, images: &Images) -> Result<()> {
        run(self.script("load-image").args(images.archives()))
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.scripts.join(name));
        command.env("CLUSTER_DIR", &self.folder);
        command
    }
}
