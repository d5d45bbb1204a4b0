//! What the operator is told at its start, by flags or by the environment.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::selector;

/// The Gantry operator: makes NameServerSets, BrokerGroups, Topics and ConsumerGroups real.
///
/// In a cluster it uses its ServiceAccount; outside, the kubeconfig (KUBECONFIG or ~/.kube/config).
/// RUST_LOG says what is logged, for example `info,operator=debug`.
#[derive(Parser, Clone, Debug)]
#[command(name = "operator", version)]
pub struct Options {
    /// Namespaces to watch, separated by commas. Empty: all, which needs a ClusterRoleBinding.
    #[arg(long, env = "WATCH_NAMESPACES", default_value = "", value_name = "NAMES")]
    pub watch_namespaces: String,

    /// Serve the namespaces that this label selector chooses, whenever they come to have such labels; needs a ClusterRoleBinding.
    ///
    /// As Kubernetes has it, in YAML or JSON: `{matchLabels: {messaging: gantry}}`.
    #[arg(long, env = "WATCH_NAMESPACE_SELECTOR", value_name = "SELECTOR", value_parser = selector::parse, conflicts_with = "watch_namespaces")]
    pub watch_namespace_selector: Option<LabelSelector>,

    /// Watch nodes, which needs rights to them: primaries leave a node that is cordoned before it is drained.
    #[arg(long, env = "WATCH_NODES", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub watch_nodes: bool,

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
#[derive(Clone, Debug, PartialEq)]
pub enum Scope {
    /// Everything.
    All,
    /// Everything, to serve the namespaces with such labels.
    Chosen(LabelSelector),
    /// One namespace.
    Namespace(String),
}

impl Scope {
    /// The one namespace that it is about.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::All | Self::Chosen(_) => None,
            Self::Namespace(name) => Some(name),
        }
    }
}

impl Options {
    /// What to watch: each namespace by itself, or everything at once.
    pub fn scopes(&self) -> Vec<Scope> {
        if let Some(selector) = &self.watch_namespace_selector {
            return vec![Scope::Chosen(selector.clone())];
        }
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

    #[test]
    fn a_selector_is_whole_and_stands_alone() {
        let parse = |arguments: &[&str]| {
            let flags =
                arguments.chunks(2).flat_map(|pair| [format!("--watch-{}", pair[0]), pair[1].to_owned()]);
            Options::try_parse_from(std::iter::once("operator".to_owned()).chain(flags))
        };
        let selector =
            "{matchExpressions: [{key: a, operator: In, values: [b]}, {key: c, operator: Exists}]}";
        let scopes = parse(&["namespace-selector", selector]).unwrap().scopes();
        let expected = serde_yaml::from_str(selector).unwrap();
        assert_eq!(scopes, [Scope::Chosen(expected)]);
        assert!(parse(&["namespace-selector", selector, "namespaces", "a"]).is_err());
        for wrong in [
            "",
            "{}",
            "a=b",
            "{matchlabels: {a: b}}",
            "{matchLabels: {}}",
            "{matchExpressions: [{key: a, operator: Is}]}",
            "{matchExpressions: [{key: a, operator: In}]}",
            "{matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
        ] {
            assert!(parse(&["namespace-selector", wrong]).is_err(), "{wrong}");
        }
    }
}
