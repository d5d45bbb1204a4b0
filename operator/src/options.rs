//! What the operator is told at its start, by flags or by the environment.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

/// The Gantry operator: makes NameServerSets, BrokerGroups and Topics real.
///
/// In a cluster it uses its ServiceAccount; outside, the kubeconfig (KUBECONFIG or ~/.kube/config).
/// RUST_LOG says what is logged, for example `info,operator=debug`.
#[derive(Parser, Clone, Debug)]
#[command(name = "operator", version)]
pub struct Options {
    /// Namespaces to watch, separated by commas. Empty: all, which needs a ClusterRoleBinding.
    #[arg(long, env = "WATCH_NAMESPACES", default_value = "", value_name = "NAMES")]
    pub watch_namespaces: String,

    /// Namespace of the operator's own Lease. Unset: the namespace of the ServiceAccount or of the kubeconfig's context.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,

    /// The name under which this process leads. Unset: host and process number.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,

    /// What stands before the names of images, such as `registry.example.com/gantry/`.
    #[arg(long, env = "GANTRY_IMAGE_PREFIX", default_value = "localhost/", value_name = "PREFIX")]
    pub image_prefix: String,

    /// Version of brokers and name servers whose resource names none. Unset: the operator's own.
    #[arg(long, env = "GANTRY_IMAGE_VERSION", default_value = env!("CARGO_PKG_VERSION"), value_name = "VERSION")]
    pub image_version: String,

    /// Where /livez, /readyz and /metrics are answered.
    #[arg(long, env = "HTTP_LISTEN", default_value = "0.0.0.0:9090", value_name = "ADDRESS")]
    pub http_listen: SocketAddr,

    /// Form of a log line.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

/// Form of a log line.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// One namespace.
    Namespace(String),
}

impl Options {
    /// What to watch: each namespace by itself, or everything at once.
    pub fn scopes(&self) -> Vec<Scope> {
        let mut names: Vec<&str> =
            self.watch_namespaces.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return vec![Scope::All];
        }
        names.into_iter().map(|name| Scope::Namespace(name.to_owned())).collect()
    }

    /// The name under which this process leads.
    pub fn identity(&self) -> String {
        self.identity.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}-{}", host.trim(), std::process::id())
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Options::command().debug_assert();
    }

    #[test]
    fn namespaces_are_watched_each_by_itself_and_none_means_all() {
        let scopes = |names: &str| Options::parse_from(["operator", "--watch-namespaces", names]).scopes();
        assert_eq!(scopes(""), [Scope::All]);
        assert_eq!(scopes(" b, a,,b "), [Scope::Namespace("a".to_owned()), Scope::Namespace("b".to_owned())]);
    }
}
