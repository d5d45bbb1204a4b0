//! The programs of the local cluster that are of use elsewhere too: kubectl and helm.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::run::output;

/// Programs that `deploy/local/build` has built, or builds now.
pub(crate) struct Tools {
    /// The folder of all of them.
    pub(crate) folder: PathBuf,
}

impl Tools {
    /// Builds the programs unless they are there.
    pub(crate) fn get(root: &Path) -> Result<Self> {
        let folder = output(&mut Command::new(root.join("deploy/local/build")))?;
        Ok(Self { folder: PathBuf::from(folder.trim()) })
    }

    /// kubectl, speaking to the given cluster.
    pub(crate) fn kubectl(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(self.folder.join("kubectl"));
        command.arg("--kubeconfig").arg(kubeconfig);
        command
    }

    /// helm without a cluster.
    pub(crate) fn helm(&self) -> Command {
        Command::new(self.folder.join("helm"))
    }

    /// helm, speaking to the given cluster.
    pub(crate) fn helm_in(&self, kubeconfig: &Path) -> Command {
        let mut command = self.helm();
        command.arg("--kubeconfig").arg(kubeconfig);
        command
    }
}
