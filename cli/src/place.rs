//! Where a command acts: on the control plane of a running cluster, or on custom resources.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::args::ClientArgs;
use crate::client::{Dialer, Tls};
use crate::control::Control;
use crate::failure::Failure;
use crate::kubernetes::Kubernetes;

const DEFAULT_SERVER: &str = "127.0.0.1:9878";
const DEFAULT_ENDPOINT: &str = "127.0.0.1:8081";

/// The name that the program was called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// As `gantry`.
    User,
    /// As `kubectl gantry`: kubectl runs `kubectl-gantry`.
    Kubectl,
}

impl Caller {
    /// Told by the first argument of a process.
    pub fn of(arguments: &[OsString]) -> Self {
        let name = arguments.first().and_then(|path| Path::new(path).file_name());
        match name.and_then(|name| name.to_str()) {
            Some(name) if name.starts_with("kubectl-") || name.starts_with("kubectl_") => Self::Kubectl,
            _ => Self::User,
        }
    }
}

/// Arguments that choose the place.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where")]
pub struct PlaceArgs {
    /// Control plane of a name server, or of `gantry dev` [default: 127.0.0.1:9878]
    #[arg(long, global = true, env = "GANTRY_SERVER", value_name = "HOST:PORT")]
    pub server: Option<String>,
    /// Act on custom resources in Kubernetes; the default as `kubectl gantry`
    #[arg(long, global = true)]
    pub kube: bool,
    /// Context of the kubeconfig; means --kube
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig; means --kube
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace; means --kube
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The NameServerSet, where a namespace has several; means --kube
    #[arg(long, global = true, value_name = "NAME")]
    pub name_server_set: Option<String>,
}

/// Where a command acts.
pub enum Place {
    /// The control plane at this address.
    Direct(String),
    /// Custom resources.
    Kubernetes(Box<Kubernetes>),
}

impl PlaceArgs {
    /// Whether the resources are meant: by a flag; else, if no server is named, by the caller.
    fn means_kubernetes(&self, caller: Caller) -> bool {
        let flagged = self.kube
            || self.context.is_some()
            || self.kubeconfig.is_some()
            || self.namespace.is_some()
            || self.name_server_set.is_some();
        flagged || (caller == Caller::Kubectl && self.server.is_none())
    }

    /// Finds the place; in Kubernetes mode this reads the kubeconfig.
    pub async fn resolve(&self, caller: Caller) -> Result<Place, Failure> {
        if self.means_kubernetes(caller) {
            return Ok(Place::Kubernetes(Box::new(Kubernetes::open(self).await?)));
        }
        Ok(Place::Direct(self.server.clone().unwrap_or_else(|| DEFAULT_SERVER.to_owned())))
    }

    /// Finds the clients' access point, and how to dial it.
    pub async fn access_point(
        &self,
        caller: Caller,
        client: &ClientArgs,
    ) -> Result<(String, Dialer), Failure> {
        let endpoint = match &client.endpoint {
            Some(endpoint) => endpoint.clone(),
            None if self.means_kubernetes(caller) => Kubernetes::open(self).await?.client_address().await?,
            None => DEFAULT_ENDPOINT.to_owned(),
        };
        let tls = match &client.tls_ca {
            Some(file) => Tls::Verified {
                ca_pem: std::fs::read(file)
                    .map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))?,
            },
            None if client.tls => Tls::Unverified,
            None => Tls::Off,
        };
        Ok((endpoint, Dialer::new(tls)))
    }
}

impl Place {
    /// The control plane of this place.
    pub async fn control(self) -> Result<Control, Failure> {
        match self {
            Self::Direct(server) => Control::connect(&server).await,
            Self::Kubernetes(kubernetes) => Control::connect(&kubernetes.control_address().await?).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_chooses_kubernetes() {
        let check = |name: &str, caller| assert_eq!(Caller::of(&[OsString::from(name)]), caller);
        check("gantry", Caller::User);
        check("/usr/bin/gantry", Caller::User);
        check("/usr/bin/kubectl-gantry", Caller::Kubectl);
        check("/kubectl-links/gantry", Caller::User);
    }

    #[test]
    fn a_flag_wins_over_a_server_and_a_server_over_the_name() {
        let server = Some("host:9878".to_owned());
        let namespace = Some("shop".to_owned());
        let check = |place: PlaceArgs, caller, kubernetes| {
            assert_eq!(place.means_kubernetes(caller), kubernetes, "{place:?}");
        };
        check(PlaceArgs::default(), Caller::User, false);
        check(PlaceArgs::default(), Caller::Kubectl, true);
        check(PlaceArgs { server: server.clone(), ..Default::default() }, Caller::Kubectl, false);
        check(PlaceArgs { namespace: namespace.clone(), ..Default::default() }, Caller::User, true);
        check(PlaceArgs { server, namespace, ..Default::default() }, Caller::User, true);
        check(PlaceArgs { kube: true, ..Default::default() }, Caller::User, true);
    }
}
