//! Every knob of a name server: its unit, its default, its reason. The comments here are the reference.
//!
//! A file is YAML with camelCase keys. All its mistakes are reported at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use access::listener::TlsMode;
use access::logging::{self, Logging};
use access::ports::Port;
use access::{certificate, yaml};

const KEYS: [&str; 9] = [
    "clientListen",
    "controlListen",
    "httpListen",
    "expectedGroupsFile",
    "warmUpTimeout",
    "logging",
    "certificate",
    "listeners",
    "config",
];
/// The names that the section `config` may hold.
pub const KNOBS: [&str; 2] = ["maxConnections", "tls"];

/// How a name server is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// For clients, plaintext and TLS. Default 0.0.0.0:8081.
    pub client_listen: SocketAddr,
    /// For brokers, operator and command line. Default 0.0.0.0:9878.
    pub control_listen: SocketAddr,
    /// `/livez`, `/readyz`, `/metrics`. Default 0.0.0.0:9090; null turns it off.
    pub http_listen: Option<SocketAddr>,
    /// Broker groups that must register before this name server is ready. In the file,
    /// `expectedGroupsFile` names a YAML list of "cluster/brokerName". Default: none.
    pub expected_groups: Vec<ExpectedGroup>,
    /// How long to wait for them. Default 30s; then the name server is ready without them.
    pub warm_up_timeout: Duration,
    /// What is logged, and how.
    pub logging: Logging,
    /// `config.maxConnections`: of clients, at the same time. Default 10,000.
    pub max_connections: usize,
    /// `config.tls`: `permissive` takes TLS and plaintext on the port of clients, `required` TLS only, `off` plaintext only.
    /// Default permissive, because official clients differ in what they begin with.
    pub tls: TlsMode,
    /// `certificate`: `file` and `keyFile` in PEM, read again when they change. Default: one that is made at each start.
    pub certificate: Option<certificate::Files>,
    /// `listeners`: more ports for clients, each with `name`, `listen` and its own `tls`. Who asks there is told the addresses that
    /// brokers have at their listener of the same name. Default: none.
    pub listeners: Vec<Port>,
    /// How long a stop waits for calls under way. 5 s.
    pub stop_grace: Duration,
    /// Changes levels while running, if whoever started the process set up logging here.
    pub log_control: Option<logging::Control>,
}

/// A broker group that must register before the name server is ready.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpectedGroup {
    /// Its cluster.
    pub cluster: String,
    /// Its name, RocketMQ's brokerName.
    pub broker_name: String,
}

impl std::fmt::Display for ExpectedGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.cluster, self.broker_name)
    }
}

impl Default for Config {
    fn default() -> Self {
        let all = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
        Self {
            client_listen: all(8081),
            control_listen: all(9878),
            http_listen: Some(all(9090)),
            expected_groups: Vec::new(),
            warm_up_timeout: Duration::from_secs(30),
            logging: Logging::default(),
            max_connections: 10_000,
            tls: TlsMode::Permissive,
            certificate: None,
            listeners: Vec::new(),
            stop_grace: Duration::from_secs(5),
            log_control: None,
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration {} cannot be used:{}", file.display(), problems.iter().map(|p| format!("\n  - {p}")).collect::<String>())]
pub struct Error {
    file: PathBuf,
    /// One sentence each.
    pub problems: Vec<String>,
}

impl Config {
    /// Reads a file, and the list of expected groups if it names one.
    pub fn load(file: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(file).map_err(|error| vec![error.to_string()]);
        let read = text.and_then(|text| {
            Self::parse(&text, |groups| {
                std::fs::read_to_string(groups).map_err(|error| format!("{}: {error}", groups.display()))
            })
        });
        read.map_err(|problems| Error { file: file.to_owned(), problems })
    }

    fn parse(text: &str, open: impl Fn(&Path) -> Result<String, String>) -> Result<Self, Vec<String>> {
        let mut config = Self::default();
        yaml::read(text, &KEYS, |root| {
            root.address("clientListen", |address| config.client_listen = address);
            root.address("controlListen", |address| config.control_listen = address);
            root.optional_address("httpListen", |address| config.http_listen = address);
            root.parsed(
                "expectedGroupsFile",
                |file| open(Path::new(file)).and_then(|text| parse_groups(&text)),
                |groups| config.expected_groups = groups,
            );
            root.parsed("warmUpTimeout", yaml::parse_duration, |timeout| config.warm_up_timeout = timeout);
            root.logging(|logging| config.logging = logging);
            root.section("certificate", &["file", "keyFile"], |section| {
                config.certificate = certificate::Files::read_from(section);
            });
            Port::read_from(root, |listeners| config.listeners = listeners);
            root.section("config", &KNOBS, |knobs| {
                knobs.number("maxConnections", 1, 1 << 20, |n| {
                    config.max_connections = usize::try_from(n).expect("the range was checked");
                });
                knobs.choice("tls", &TlsMode::NAMES, |mode| config.tls = mode);
            });
        })?;
        Ok(config)
    }
}

fn parse_groups(text: &str) -> Result<Vec<ExpectedGroup>, String> {
    let list: Option<Vec<String>> = serde_yaml::from_str(text)
        .map_err(|error| format!("the file must be a YAML list of texts: {error}"))?;
    let groups = list.unwrap_or_default().into_iter().map(|line| match line.split_once('/') {
        Some((cluster, name)) if !cluster.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ExpectedGroup { cluster: cluster.to_owned(), broker_name: name.to_owned() })
        }
        _ => Err(format!("the entry {line:?} must be cluster/brokerName")),
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(text, |file| match file.to_str() {
            Some("groups.yaml") => Ok("[c/a, c/b]".to_owned()),
            Some("empty.yaml") => Ok(String::new()),
            Some("wrong.yaml") => Ok("[c/a, b]".to_owned()),
            _ => Err("no such file".to_owned()),
        })
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = parse("").unwrap();
        assert_eq!(config.client_listen.to_string(), "0.0.0.0:8081");
        assert_eq!(config.control_listen.to_string(), "0.0.0.0:9878");
        assert_eq!(config.http_listen.unwrap().to_string(), "0.0.0.0:9090");
        assert!(config.expected_groups.is_empty());
    }

    #[test]
    fn every_key_has_its_effect() {
        let config = parse(
            "clientListen: 127.0.0.1:1\ncontrolListen: '[::1]:2'\nhttpListen: null\nexpectedGroupsFile: groups.yaml\n\
             warmUpTimeout: 5s\nlogging: {format: json, levels: {namesrv: debug}}\n\
             certificate: {file: /tls/tls.crt, keyFile: /tls/tls.key}\n\
             listeners: [{name: external, listen: '0.0.0.0:8082', tls: required}]\nconfig: {maxConnections: 7, tls: 'off'}",
        )
        .unwrap();
        assert_eq!(config.client_listen.port(), 1);
        assert_eq!(config.control_listen.to_string(), "[::1]:2");
        assert_eq!(config.http_listen, None);
        let groups: Vec<String> = config.expected_groups.iter().map(ExpectedGroup::to_string).collect();
        assert_eq!(groups, ["c/a", "c/b"]);
        assert_eq!(config.warm_up_timeout, Duration::from_secs(5));
        assert_eq!(config.logging.levels["namesrv"], "debug");
        assert_eq!((config.max_connections, config.tls), (7, TlsMode::Off));
        assert_eq!(config.certificate.unwrap().certificate, Path::new("/tls/tls.crt"));
        assert_eq!(config.listeners[0].tls, Some(TlsMode::Required));
        assert!(parse("expectedGroupsFile: empty.yaml").unwrap().expected_groups.is_empty());
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let problems = parse(
            "clientListn: x\ncontrolListen: 99\nwarmUpTimeout: long\nconfig: {tls: maybe}\nexpectedGroupsFile: wrong.yaml",
        )
        .unwrap_err();
        for part in [
            "did you mean clientListen?",
            "controlListen",
            "warmUpTimeout",
            "config.tls",
            "cluster/brokerName",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
        }
        assert_eq!(problems.len(), 5);
        let missing = parse("expectedGroupsFile: nowhere.yaml").unwrap_err();
        assert!(missing[0].contains("no such file"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::load(Path::new("/nowhere/namesrv.yaml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/namesrv.yaml"), "{error}");
    }
}
