//! `gantry dev`: a name server and a broker in this process, on one data directory. The code is that of
//! the pods; what differs is chosen here, in [`Plan`].
//!
//! ```text
//! PORT        clients        the broker; it asks its name server for routes
//! PORT+1797   control plane  the name server: where --server points
//! PORT+1798   control plane  the broker; the name server tells where it is
//! PORT+1009   HTTP           the broker: /livez, /readyz, /metrics
//! ```
//! The name server's own clients' port is on loopback, wherever there is room.

mod data_dir;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Instant;

use access::logging::{Format, Logging};
use namesrv::config::ExpectedGroup;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::DevArgs;
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};
use data_dir::DataDir;

const CONTROL_OFFSET: u16 = 1797;
const BROKER_CONTROL_OFFSET: u16 = 1798;
const CLUSTER: &str = "DefaultCluster";
const BROKER: &str = "broker-a";
const HTTP_OFFSET: u16 = 1009;

/// Where everything is; printed once, when all of it answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// For clients.
    pub endpoint: String,
    /// The control plane.
    pub server: String,
    /// `/livez`, `/readyz`, `/metrics`.
    pub http: String,
    /// The directory of the messages.
    pub data: String,
    /// From the start of the process, in milliseconds.
    pub ready_after_ms: u64,
}

impl View for Ready {
    fn text(&self, paint: Paint) -> String {
        let Self { endpoint, server, http, data, ready_after_ms } = self;
        format!(
            "{} after {ready_after_ms} ms: clients {endpoint}, control {server}, http {http}, data {data}",
            paint.good("ready")
        )
    }
}

/// Runs the command until a signal, or until a vital part dies.
pub async fn run(args: DevArgs, out: Printer, started: Instant) -> Result<(), Failure> {
    let plan = Plan::of(&args)?;
    plan.check_ports()?;
    let data = if args.ephemeral { DataDir::temporary() } else { DataDir::kept(&args.data) }?;
    let log_control = access::logging::init(&logging(args.verbose))
        .map_err(|error| Failure::failed(format!("cannot set up logging: {error}")))?;

    // Listening for signals before anything starts: an early Ctrl-C stops it in order, too.
    let failed = |error: std::io::Error| Failure::failed(format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;

    let name_server = namesrv::start(plan.name_server(log_control))
        .await
        .map_err(|error| Failure::failed(format!("the name server does not start: {error:#}")))?;
    let config = plan.broker(&data, name_server.control_addr)?;
    let broker = match broker::start(config).await {
        Ok(broker) => broker,
        Err(error) => {
            let _stopped = name_server.stop().await;
            return Err(Failure::failed(format!("the broker does not start: {error:#}")));
        }
    };

    let failure = tokio::select! {
        () = async {
            broker.ready().await;
            name_server.ready().await;
        } => None,
        why = broker.failed() => Some(format!("the broker failed: {why}")),
        why = name_server.failed() => Some(format!("the name server failed: {why}")),
        _ = interrupt.recv() => Some("interrupted before it was ready".to_owned()),
        _ = terminate.recv() => Some("terminated before it was ready".to_owned()),
    };
    let failure = match failure {
        Some(why) => Some(why),
        None => {
            out.print_next(&Ready {
                endpoint: plan.reachable(broker.client_addr),
                server: plan.reachable(name_server.control_addr),
                http: broker.http_addr.map(|at| plan.reachable(at)).unwrap_or_default(),
                data: data.path().display().to_string(),
                ready_after_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            })?;
            tokio::select! {
                _ = interrupt.recv() => None,
                _ = terminate.recv() => None,
                why = broker.failed() => Some(format!("the broker failed: {why}")),
                why = name_server.failed() => Some(format!("the name server failed: {why}")),
            }
        }
    };

    // The broker first: it says good-bye to the name server. A second Ctrl-C does not wait.
    let stopped = tokio::select! {
        stopped = async {
            let broker = broker.stop().await;
            broker.and(name_server.stop().await)
        } => stopped.map_err(|error| Failure::failed(format!("did not stop cleanly: {error:#}"))),
        _ = interrupt.recv() => Err(Failure::failed("stopped at once by a second Ctrl-C")
            .next("nothing acknowledged is lost: the next start recovers it")),
    };
    drop(data);
    match failure {
        Some(why) => Err(Failure::failed(why)),
        None => stopped,
    }
}

/// Quiet unless asked: an application's developer looks at their own log.
fn logging(verbose: u8) -> Logging {
    let ours = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let ours = ["broker", "namesrv", "store", "access"].map(|target| (target.to_owned(), ours.to_owned()));
    let others = ("default".to_owned(), "warn".to_owned());
    Logging { format: Format::Text, levels: ours.into_iter().chain([others]).collect() }
}

/// Which addresses are listened on, and which are told to others.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    clients: SocketAddr,
    control: SocketAddr,
    broker_control: SocketAddr,
    http: SocketAddr,
    host: String,
    flush: store::Flush,
    segment_size: String,
}

impl Plan {
    fn of(args: &DevArgs) -> Result<Self, Failure> {
        let port = |offset: u16| match args.port {
            // The system chooses them all.
            0 => Ok(0),
            port => port.checked_add(offset).ok_or_else(|| {
                Failure::usage(format!(
                    "--port {port} is too high: other ports are up to {BROKER_CONTROL_OFFSET} above it"
                ))
                .next(format!("choose a port up to {}", u16::MAX - BROKER_CONTROL_OFFSET))
            }),
        };
        let at = |offset| Ok::<_, Failure>(SocketAddr::new(args.listen, port(offset)?));
        let host = args.advertise.clone().unwrap_or_else(|| match args.listen {
            IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V6(ip) if ip.is_unspecified() => "::1".to_owned(),
            ip => ip.to_string(),
        });
        Ok(Self {
            clients: at(0)?,
            control: at(CONTROL_OFFSET)?,
            broker_control: at(BROKER_CONTROL_OFFSET)?,
            http: at(HTTP_OFFSET)?,
            host,
            flush: if args.sync_flush { store::Flush::Sync } else { store::Flush::Async },
            segment_size: args.segment_size.clone(),
        })
    }

    /// A port in use is told before anything is started, with what to do about it.
    fn check_ports(&self) -> Result<(), Failure> {
        let all = [
            ("clients", self.clients),
            ("the control plane", self.control),
            ("the broker's control plane", self.broker_control),
            ("HTTP", self.http),
        ];
        for (purpose, address) in all {
            let Err(error) = TcpListener::bind(address) else { continue };
            let why = match error.kind() {
                std::io::ErrorKind::AddrInUse => "is in use".to_owned(),
                _ => format!("cannot be listened on: {}", crate::control::root_cause(&error)),
            };
            return Err(Failure::failed(format!("{address}, for {purpose}, {why}"))
                .next("stop what listens there, or choose another with --port; all ports move with it"));
        }
        Ok(())
    }

    /// An address as others should write it.
    fn reachable(&self, address: SocketAddr) -> String {
        crate::control::join_host_port(&self.host, u32::from(address.port()))
    }

    fn name_server(&self, log_control: access::logging::Control) -> namesrv::Config {
        namesrv::Config {
            // Clients connect to the broker, which knows how to ask.
            client_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            control_listen: self.control,
            http_listen: None,
            // Ready means that a topic can be made, so it waits for the broker.
            expected_groups: vec![ExpectedGroup {
                cluster: CLUSTER.to_owned(),
                broker_name: BROKER.to_owned(),
            }],
            log_control: Some(log_control),
            ..namesrv::Config::default()
        }
    }

    fn broker(&self, data: &DataDir, name_server: SocketAddr) -> Result<broker::Config, Failure> {
        let yaml = serde_json::json!({
            "dataDir": data.path(),
            "segmentSize": self.segment_size,
            // A developer's disk is often nearly full of other things.
            "messageRetention": { "refusePercent": 100 },
        });
        let config = broker::Config::parse("gantry dev", &yaml.to_string());
        let config = config.map_err(|error| Failure::usage(format!("--segment-size: {error}")))?;
        let advertised = |port| Some(broker::config::Advertised { host: self.host.clone(), port });
        Ok(broker::Config {
            client_listen: self.clients,
            control_listen: self.broker_control,
            http_listen: Some(self.http),
            advertised: (self.clients.port() != 0).then(|| advertised(self.clients.port())).flatten(),
            name_servers: vec![dialable(name_server).to_string()],
            flush: self.flush,
            cluster_name: CLUSTER.to_owned(),
            broker_name: BROKER.to_owned(),
            ..config
        })
    }
}

/// Loopback, where an address stands for all of this machine.
fn dialable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port())),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use insta::assert_snapshot;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::output::{Format, render};

    fn plan(line: &str) -> Result<Plan, Failure> {
        match Cli::parse_from(line.split(' ')).command {
            Command::Dev(args) => Plan::of(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_ports_move_together() {
        let ports = |line| {
            let plan = plan(line).unwrap();
            [plan.clients, plan.control, plan.broker_control, plan.http].map(|address| address.port())
        };
        assert_eq!(ports("gantry dev"), [8081, 9878, 9879, 9090]);
        assert_eq!(ports("gantry dev --port 18081"), [18081, 19878, 19879, 19090]);
        assert_eq!(ports("gantry dev -p 0"), [0; 4]);
        assert!(plan("gantry dev -p 65000").unwrap_err().to_string().contains("up to 63737"));
    }

    #[test]
    fn others_are_told_an_address_that_they_can_dial() {
        let host = |line| plan(line).unwrap().host;
        assert_eq!(host("gantry dev"), "127.0.0.1");
        assert_eq!(host("gantry dev --listen 0.0.0.0"), "127.0.0.1");
        assert_eq!(host("gantry dev --listen 10.1.2.3"), "10.1.2.3");
        assert_eq!(host("gantry dev --listen 0.0.0.0 --advertise mybox"), "mybox");
        assert_eq!(dialable("0.0.0.0:7".parse().unwrap()), "127.0.0.1:7".parse().unwrap());
    }

    #[test]
    fn a_port_in_use_is_told_before_anything_starts() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut plan = plan("gantry dev -p 0").unwrap();
        assert_eq!(plan.check_ports(), Ok(()));
        plan.http = taken.local_addr().unwrap();
        let failure = plan.check_ports().unwrap_err().to_string();
        assert!(failure.contains("for HTTP, is in use") && failure.contains("--port"), "{failure}");
    }

    #[test]
    fn ready_is_one_line() {
        let ready = Ready {
            endpoint: "127.0.0.1:8081".to_owned(),
            server: "127.0.0.1:9878".to_owned(),
            http: "127.0.0.1:9090".to_owned(),
            data: "gantry-data".to_owned(),
            ready_after_ms: 87,
        };
        assert_snapshot!(
            render(&ready, Format::Table, Paint(false)).unwrap(),
            @"ready after 87 ms: clients 127.0.0.1:8081, control 127.0.0.1:9878, http 127.0.0.1:9090, data gantry-data"
        );
    }
}
