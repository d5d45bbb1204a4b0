//! Every knob of a broker: its unit, its default, its reason. The comments here are the reference.
//!
//! A file is YAML with camelCase keys. All its mistakes are reported at once, and a key that does not
//! exist is answered with the nearest that does.

mod reader;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use access::certificate;
use access::listener::TlsMode;
use access::logging::Logging;
use access::ports::Port;
use proto::control;

use crate::delivery::lite::Limits as LiteLimits;
use crate::topics::DEFAULT_MAX_ATTEMPTS;
use crate::transactions::Schedule as TransactionSchedule;

/// The names that `config:` may hold; a `BrokerGroup` passes its `spec.config` through.
pub const KNOBS: [&str; 19] = [
    "maxBodyBytes",
    "maxConnections",
    "maxParkedPolls",
    "maxInFlightPerQueue",
    "maxAttempts",
    "persistIntervalMs",
    "stopGraceMs",
    "workerThreads",
    "logWarmUp",
    "messageIndexEnable",
    "scrubIntervalHours",
    "transactionTimeoutMs",
    "transactionCheckIntervalMs",
    "transactionCheckMax",
    "maxPendingTransactions",
    "timerMaxDelaySec",
    "tls",
    "maxLiteTopics",
    "liteTopicIdleMinutes",
];

/// A host and a port that others are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// An IP address or a DNS name.
    pub host: String,
    /// The port there.
    pub port: u16,
}

impl Advertised {
    pub(crate) fn address(&self) -> control::Address {
        control::Address { host: self.host.clone(), port: u32::from(self.port) }
    }

    pub(crate) fn endpoints(&self) -> control::Endpoints {
        let scheme = match self.host.parse() {
            Ok(IpAddr::V4(_)) => control::AddressScheme::Ipv4,
            Ok(IpAddr::V6(_)) => control::AddressScheme::Ipv6,
            Err(_) => control::AddressScheme::DomainName,
        };
        control::Endpoints { scheme: scheme as i32, addresses: vec![self.address()] }
    }
}

/// How a broker is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster that it says it belongs to. Default `DefaultCluster`.
    pub cluster_name: String,
    /// The broker group (RocketMQ: brokerName). Clients see it in routes.
    pub broker_name: String,
    /// 0: primary. Others come with replication.
    pub broker_id: u32,
    /// Where everything lies: `commitlog/` and its views, `config/meta.redb`. Required.
    pub data_dir: PathBuf,
    /// For clients, plaintext and TLS. Default 0.0.0.0:8081.
    pub client_listen: SocketAddr,
    /// For operator, command line and console. Default 0.0.0.0:9878.
    pub control_listen: SocketAddr,
    /// `/livez`, `/readyz`, `/metrics`. Default 0.0.0.0:9090; null turns it off.
    pub http_listen: Option<SocketAddr>,
    /// Where clients reach `client_listen`. Default: the listening address, or 127.0.0.1 if that is
    /// all addresses.
    pub advertised: Option<Advertised>,
    /// Where `control_listen` is reached. Default: the host of `advertised`, the port of `control_listen`.
    pub advertised_control: Option<Advertised>,
    /// Name servers as `host:port` of their control plane. Each DNS name is resolved to all its addresses.
    pub name_servers: Vec<String>,
    /// When a send is acknowledged: `Async` in the page cache, `Sync` on the disk.
    pub flush: store::Flush,
    /// Bytes of one CommitLog file, a multiple of 4096. Default 1Gi, RocketMQ's.
    pub segment_bytes: u64,
    /// When old messages go.
    pub retention: Retention,
    /// What is logged, and how.
    pub logging: Logging,
    /// `certificate`: what clients are shown, `file` and `keyFile` in PEM, read again when they change. Default: one that is
    /// made at each start; official clients check none unless they are told to.
    pub certificate: Option<certificate::Files>,
    /// `listeners`: more ports for clients, each with `name`, `listen` and its own `tls`. Who asks for a route there is told the
    /// addresses that brokers have at their listener of the same name. Default: none.
    pub listeners: Vec<Port>,
    /// `listenerAddresses`: a file that says where these listeners are reached, read again when it changes; see `addresses.rs`.
    /// Default: nowhere, so no client is told of this broker there.
    pub listener_addresses: Option<PathBuf>,
    /// The address of the machine: in the process `broker` the variable NODE_IP.
    pub node_address: Option<String>,
    /// `replication`: this broker is one of several that keep the same log. Default: it is alone.
    pub replication: Option<Replication>,
    /// The section `config`.
    pub limits: Limits,
}

/// The members of a broker group, and how they agree. Every member has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// `mode`: `Sync`, a send is acknowledged once every in-sync member has it; `Async`, once the primary has. Default Sync.
    pub mode: replication::Mode,
    /// `maxLagSeconds`: who is so long behind leaves the in-sync set. Default 10 s.
    pub max_lag: Duration,
    /// `members`: how many there are, by ordinals from 0. Required.
    pub members: u32,
    /// `memberAddress`: where the control plane of each is, with `{ordinal}` in it. Required.
    pub member_address: String,
    /// `lease`: what they agree over.
    pub lease: Lease,
    /// `advertised`: hosts under which the primary is reached, at the ports of `advertised` and `advertisedControl`. Each reign uses
    /// the next of them: clients that hang on a machine that died connect anew when they ask for routes. Default: as
    /// `advertised`.
    pub advertised: Vec<String>,
    /// `endpointSlices`: the primary writes its address there, in the namespace of the Lease. Default: nowhere.
    pub endpoint_slices: Vec<String>,
}

/// The record that the members agree over, a Kubernetes Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// `namespace`. Required.
    pub namespace: String,
    /// `name`. Required.
    pub name: String,
    /// `durationSeconds`: how long it holds from its last renewal. Default 8 s.
    pub duration: Duration,
    /// `renewDeadlineSeconds`: how long one attempt to change it may take. Default 5 s.
    pub renew_deadline: Duration,
    /// `retryPeriodMillis`: from one attempt to the next. Default 1,000 ms.
    pub retry: Duration,
}

impl Replication {
    /// The control plane of a member.
    #[must_use]
    pub fn address_of(&self, ordinal: u32) -> String {
        self.member_address.replace("{ordinal}", &ordinal.to_string())
    }
}

/// When old messages go, a whole CommitLog file at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older ones may go. Default 72h, RocketMQ's.
    pub time: Duration,
    /// `diskPercent`: above this share of the disk old ones go at any hour. Default 75 %, RocketMQ's.
    pub disk_percent: u8,
    /// `deleteAt`: the hour, UTC, at which they go. Default 4, when few are awake; `None`: as soon as they are old.
    pub delete_at_hour: Option<u8>,
    /// `deleteEarlyPercent`: above this share of the disk the oldest go however young. Default: never, what was
    /// acknowledged stays.
    pub delete_early_percent: Option<u8>,
    /// `refusePercent`: above this share of the disk sends are refused. Default 90 %, RocketMQ's: the rest is for the
    /// progress of consumers and the views of the log.
    pub refuse_percent: u8,
    /// `size`: bytes of log at most; then the oldest go, however young. Default: as much as the disk holds.
    pub max_log_bytes: Option<u64>,
}

/// The section `config`: what bounds the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `maxBodyBytes`: the largest body. Default 4 MiB, at most 64 MiB; clients learn it from their settings.
    pub max_body_bytes: usize,
    /// `maxConnections`: client connections at a time. Default 10,000: about 55 KiB each.
    pub max_connections: usize,
    /// `maxParkedPolls`: long polls that wait for messages. Default 100,000, RocketMQ's; each costs about 2 KiB.
    pub max_parked_polls: usize,
    /// `maxInFlightPerQueue`: messages delivered and not acknowledged, for each group and queue. Default
    /// 20,000, RocketMQ's; beyond it nothing new is delivered from that queue.
    pub max_in_flight_per_queue: usize,
    /// `maxAttempts`: deliveries before the dead letter topic, for groups that nobody configured. Default 17.
    pub max_attempts: u32,
    /// `persistIntervalMs`: how often the progress of consumers is written, if it changed. Default 500 ms: this much may be
    /// delivered again after a power cut, and after a kill of a broker that has much to do.
    pub persist_interval: Duration,
    /// `stopGraceMs`: how long a stop waits for calls under way. Default 10,000 ms, within the 30 s that Kubernetes gives.
    pub stop_grace: Duration,
    /// `logWarmUp`: how much of the log is made ready ahead of its end. `window`: as much as the pace needs, megabytes; `segment`:
    /// whole files of the log; `locked`: and they stay in memory while they are written to, where the process may
    /// lock so much (in a pod: the capability IPC_LOCK). Default `window`: the rest costs memory.
    pub log_warm_up: store::WarmUp,
    /// `messageIndexEnable`: keep an index of keys and unique ids, so that messages can be found by them. Default true,
    /// RocketMQ's: it costs 20 bytes of disk a key, and some of another processor. What was stored while it was off is
    /// indexed when it is turned on.
    pub message_index_enable: bool,
    /// `scrubIntervalHours`: how often all that is durable in the log is read through, to find rot while there is a good
    /// copy somewhere. Default 24 h, 0 is never; at no more than 32 MiB a second.
    pub scrub_interval: Option<Duration>,
    /// When producers are asked what became of their transactions. `transactionTimeoutMs`: how long one may take before it is
    /// asked, unless its message says; default 6,000 ms. `transactionCheckIntervalMs`: from one question to the next;
    /// default 30,000 ms. `transactionCheckMax`: then the message is given up; default 15. All RocketMQ's.
    /// `maxPendingTransactions`: more are refused; default 100,000, about 150 bytes each.
    pub transactions: TransactionSchedule,
    /// `timerMaxDelaySec`: how far ahead a message may be told to be delivered. Default 3,456,000 s, 40 days (RocketMQ's is 3
    /// days). What waits beyond the retention is appended anew each time that its file of the log goes.
    pub timer_max_delay: Duration,
    /// `tls`: `permissive` takes TLS and plaintext on the port of clients, `required` TLS only, `off` plaintext only. Default
    /// permissive, because official clients differ in what they begin with.
    pub tls: TlsMode,
    /// Lite topics. `maxLiteTopics`: of one topic of type LITE; more are refused; default 100,000, about 1 KiB each with a group
    /// that consumes it. `liteTopicIdleMinutes`: one that nothing is sent to for so long, and with which all groups are done, is
    /// removed; default 4,320, which is 72 h as with messages.
    pub lite: LiteLimits,
    /// `workerThreads`: threads of the async runtime, at most one a core. Default: one a core.
    pub worker_threads: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 4 << 20,
            max_connections: 10_000,
            max_parked_polls: 100_000,
            max_in_flight_per_queue: 20_000,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            persist_interval: Duration::from_millis(500),
            stop_grace: Duration::from_secs(10),
            log_warm_up: store::WarmUp::Window,
            message_index_enable: true,
            scrub_interval: Some(Duration::from_secs(24 * 3600)),
            transactions: TransactionSchedule {
                first_check_after: Duration::from_secs(6),
                check_interval: Duration::from_secs(30),
                max_checks: 15,
                max_pending: 100_000,
            },
            timer_max_delay: Duration::from_secs(40 * 24 * 3600),
            tls: TlsMode::Permissive,
            lite: LiteLimits { max_topics: 100_000, idle: Duration::from_secs(72 * 3600) },
            worker_threads: None,
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration {file} has {} mistake(s):{}", problems.len(), problems.iter().map(|p| format!("\n  - {p}")).collect::<String>())]
pub struct Error {
    file: String,
    /// One sentence each.
    pub problems: Vec<String>,
}

impl Config {
    /// Defaults, with the data in this directory and nobody to register with.
    #[must_use]
    pub fn new(data_dir: impl AsRef<Path>) -> Self {
        Self {
            cluster_name: "DefaultCluster".to_owned(),
            broker_name: "broker-a".to_owned(),
            broker_id: 0,
            data_dir: data_dir.as_ref().to_path_buf(),
            client_listen: SocketAddr::from(([0, 0, 0, 0], 8081)),
            control_listen: SocketAddr::from(([0, 0, 0, 0], 9878)),
            http_listen: Some(SocketAddr::from(([0, 0, 0, 0], 9090))),
            advertised: None,
            advertised_control: None,
            name_servers: Vec::new(),
            flush: store::Flush::Async,
            segment_bytes: 1 << 30,
            retention: Retention {
                time: Duration::from_secs(72 * 3600),
                disk_percent: 75,
                delete_at_hour: Some(4),
                delete_early_percent: None,
                refuse_percent: 90,
                max_log_bytes: None,
            },
            logging: Logging::default(),
            certificate: None,
            listeners: Vec::new(),
            listener_addresses: None,
            node_address: None,
            replication: None,
            limits: Limits::default(),
        }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Error {
            file: file.clone(),
            problems: vec![format!("cannot be read: {error}")],
        })?;
        Self::parse(&file, &text)
    }

    /// Reads the text of a file called `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self, Error> {
        reader::parse(text).map_err(|problems| Error { file: file.to_owned(), problems })
    }

    /// The store below `data_dir` as configured.
    #[must_use]
    pub fn store(&self) -> store::Config {
        store::Config {
            segment_bytes: self.segment_bytes,
            flush: self.flush,
            warm_up: self.limits.log_warm_up,
            retention: self.retention.time,
            delete_at_hour: self.retention.delete_at_hour,
            disk_percent: self.retention.disk_percent,
            delete_early_percent: self.retention.delete_early_percent,
            refuse_percent: self.retention.refuse_percent,
            max_log_bytes: self.retention.max_log_bytes,
            await_keeper: true,
            confirm: if self.replication.is_some() { store::Confirm::Told } else { store::Confirm::Alone },
            index_keys: self.limits.message_index_enable,
            max_body_bytes: self.limits.max_body_bytes,
            scrub: store::Scrub { interval: self.limits.scrub_interval, ..store::Scrub::default() },
            ..store::Config::new(&self.data_dir)
        }
    }

    /// The same configuration in this reign.
    pub(crate) fn in_reign(&self, epoch: u64) -> Self {
        let mut config = self.clone();
        let hosts = self.replication.as_ref().map_or(&[][..], |replication| &replication.advertised);
        if let Some(host) =
            usize::try_from(epoch).ok().and_then(|epoch| hosts.get(epoch % hosts.len().max(1)))
        {
            for advertised in [&mut config.advertised, &mut config.advertised_control].into_iter().flatten() {
                advertised.host.clone_from(host);
            }
        }
        config
    }

    /// Where clients are told to find this broker, which listens at `bound`.
    #[must_use]
    pub fn client_address(&self, bound: SocketAddr) -> Advertised {
        self.advertised.clone().unwrap_or_else(|| reachable(bound))
    }

    /// Where the control plane is said to be, which listens at `bound`.
    #[must_use]
    pub fn control_address(&self, bound: SocketAddr) -> Advertised {
        match (&self.advertised_control, &self.advertised) {
            (Some(control), _) => control.clone(),
            (None, Some(clients)) => Advertised { host: clients.host.clone(), port: bound.port() },
            (None, None) => reachable(bound),
        }
    }
}

/// All addresses are no address to dial: this machine is.
fn reachable(bound: SocketAddr) -> Advertised {
    let host = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) if ip.is_unspecified() => "::1".to_owned(),
        ip => ip.to_string(),
    };
    Advertised { host, port: bound.port() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
clusterName: prod
brokerName: broker-b
brokerId: 0
dataDir: /var/lib/gantry
clientListen: 0.0.0.0:8081
controlListen: "[::]:9878"
httpListen: null
advertised: { host: 10.0.0.7, port: 8081 }
nameServers: ["names.ns.svc:9878"]
flush: Sync
segmentSize: 256Mi
messageRetention: { time: 48h, diskPercent: 80, deleteAt: "03:00", deleteEarlyPercent: 85, refusePercent: 95, size: 500Gi }
logging: { format: json, levels: { broker: debug } }
certificate: { file: /tls/tls.crt, keyFile: /tls/tls.key }
listeners: [{ name: external, listen: "0.0.0.0:8082", tls: permissive }]
listenerAddresses: /etc/gantry/listeners.yaml
config:
  maxBodyBytes: "1048576"
  maxAttempts: 5
  workerThreads: "1"
  messageIndexEnable: false
  scrubIntervalHours: 0
  tls: required
"#;

    fn problems(text: &str) -> Vec<String> {
        Config::parse("broker.yaml", text).unwrap_err().problems
    }

    #[test]
    fn members_of_a_group_read_how_they_agree_and_each_reign_has_its_address() {
        let text = "
dataDir: /d
advertised: {host: 10.0.0.1, port: 8081}
replication:
  mode: Async
  members: 2
  memberAddress: 'b-{ordinal}.b:9878'
  lease: {namespace: ns, name: b}
  advertised: [10.0.0.1, 10.0.0.2]
  endpointSlices: [b-0, b-1]
";
        let config = Config::parse("f", text).unwrap();
        let replication = config.replication.clone().unwrap();
        assert_eq!(replication.address_of(1), "b-1.b:9878");
        assert_eq!(config.in_reign(3).advertised.unwrap().host, "10.0.0.2");
        assert_eq!(config.in_reign(4).advertised.unwrap().host, "10.0.0.1");
        assert_eq!(config.store().confirm, store::Confirm::Told);
        let wrong = text.replace("{ordinal}", "0").replace("name: b}", "name: b, durationSeconds: 4}");
        let problems = Config::parse("f", &wrong).unwrap_err().problems;
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn a_full_file_is_understood() {
        let config = Config::parse("broker.yaml", FULL).unwrap();
        assert_eq!(config.cluster_name, "prod");
        assert_eq!(config.broker_name, "broker-b");
        assert_eq!(config.control_listen, "[::]:9878".parse().unwrap());
        assert_eq!(config.http_listen, None);
        assert_eq!(config.flush, store::Flush::Sync);
        assert_eq!(config.segment_bytes, 256 << 20);
        assert_eq!(
            config.retention,
            Retention {
                time: Duration::from_secs(48 * 3600),
                disk_percent: 80,
                delete_at_hour: Some(3),
                delete_early_percent: Some(85),
                refuse_percent: 95,
                max_log_bytes: Some(500 << 30),
            }
        );
        assert_eq!(config.limits.max_body_bytes, 1 << 20);
        assert_eq!(config.limits.max_attempts, 5);
        assert_eq!(config.limits.worker_threads, Some(1));
        assert_eq!(
            (config.limits.tls, config.certificate.clone().unwrap().key),
            (TlsMode::Required, "/tls/tls.key".into())
        );
        assert_eq!(config.listeners[0].listen.port(), 8082);
        assert_eq!(config.listener_addresses, Some("/etc/gantry/listeners.yaml".into()));
        assert!(!config.store().index_keys);
        assert_eq!(config.store().scrub.interval, None);
        assert_eq!(config.limits.max_connections, 10_000, "what is not said keeps its default");
        let address = config.control_address("0.0.0.0:1234".parse().unwrap());
        assert_eq!(address, Advertised { host: "10.0.0.7".to_owned(), port: 1234 });
    }

    #[test]
    fn the_data_directory_is_enough() {
        let config = Config::parse("broker.yaml", "dataDir: /data").unwrap();
        assert_eq!(config.client_listen.port(), 8081);
        assert_eq!(config.client_address(config.client_listen).host, "127.0.0.1");
        assert_eq!(config.store().scrub.interval, Some(Duration::from_secs(24 * 3600)));
        assert!(config.store().index_keys, "messages can be found unless somebody does not want it");
    }

    #[test]
    fn every_mistake_is_told_at_once_and_says_what_to_change() {
        let found = problems(
            "brokerNam: b\nclientListen: here\nsegmentSize: 100\nflush: Always\nmessageRetention: { time: soon, diskPercent: 200 }\nconfig: { maxBodyByte: 1, maxAttempts: 0, maxConnections: many }\n",
        );
        let expected = [
            "unknown key brokerNam: did you mean brokerName?",
            "dataDir is missing",
            "clientListen",
            "segmentSize",
            "flush",
            "messageRetention.time",
            "messageRetention.diskPercent",
            "unknown key config.maxBodyByte: did you mean maxBodyBytes?",
            "config.maxAttempts",
            "config.maxConnections",
        ];
        for part in expected {
            assert!(found.iter().any(|problem| problem.contains(part)), "{part} not in {found:#?}");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_place() {
        assert!(problems("a: [")[0].contains("YAML"));
        assert!(problems("- a")[0].contains("keys"));
    }

    #[test]
    fn a_knob_that_is_listed_works() {
        for knob in KNOBS {
            let works = |value: &str| {
                let text = format!("dataDir: /data\nconfig: {{ {knob}: \"{value}\" }}");
                Config::parse("broker.yaml", &text)
            };
            let outcome = works("1000")
                .or_else(|_| works("segment"))
                .or_else(|_| works("false"))
                .or_else(|_| works("off"));
            outcome.unwrap_or_else(|error| panic!("{knob}: {error}"));
        }
    }
}
