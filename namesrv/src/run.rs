//! From a configuration to a running name server, and to its end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use access::filter::Filters;
use access::http::{self, Pages};
use access::listener::{Listener, Options, Port, TlsMode};
use access::serving::{self, AFTER_DRAIN, Bounds};
use access::{ListenerName, logging, vital};
use anyhow::Context;
use prometheus_client::registry::Registry;
use proto::control::registry_server::RegistryServer;
use proto::v2::messaging_service_server::MessagingServiceServer;
use tonic::service::Routes;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::route::Via;
use crate::{registry, route};

/// Brokers and whoever looks at the cluster.
const MAX_CONTROL_CONNECTIONS: usize = 1024;
/// A full report of 100,000 topics has about 8 MiB.
const LARGEST_REPORT_BYTES: usize = 64 << 20;
/// The largest message that brokers take unless configured, and what is around it.
const REQUEST_BYTES: usize = 8 << 20;
/// SQL filters of consumers that are compiled once, however many consumers have them.
const REMEMBERED_FILTERS: usize = 256;

/// A running name server.
#[derive(Debug)]
pub struct Running {
    /// Where clients ask.
    pub client_addr: SocketAddr,
    /// Where clients ask that come by another listener than `internal`.
    pub listeners: BTreeMap<ListenerName, SocketAddr>,
    /// Where brokers register.
    pub control_addr: SocketAddr,
    /// Where the pages are.
    pub http_addr: Option<SocketAddr>,
    cluster: Arc<Cluster>,
    tasks: vital::Tasks,
    stop_grace: Duration,
}

/// Binds its ports and begins to serve. Ready follows when it is warm.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let tasks = vital::Tasks::default();
    let stop = tasks.stop_token();
    let metrics = Metrics::default();

    let options = Options {
        max_connections: config.max_connections,
        tls: config.tls,
        certificate: config.certificate.clone(),
        ..Options::default()
    };
    let clients = Listener::bind(config.client_listen, options).context("clientListen")?;
    let mut certificate = clients.certificate();
    let mut doors = Vec::new();
    for port in &config.listeners {
        let bound = Port::bind(port.listen);
        let listener = bound.and_then(|bound| clients.beside(bound, port.tls.unwrap_or(config.tls)));
        let listener = listener.with_context(|| format!("listener {}", port.name))?;
        certificate = certificate.or(listener.certificate());
        doors.push((Some(port.name.clone()), listener));
    }
    let listeners =
        doors.iter().filter_map(|(name, door)| Some((name.clone()?, door.local_addr()))).collect();
    let options =
        Options { max_connections: MAX_CONTROL_CONNECTIONS, tls: TlsMode::Off, ..Options::default() };
    let control = Listener::bind(config.control_listen, options).context("controlListen")?;
    let pages = match config.http_listen {
        Some(addr) => Some(http::Server::bind(addr).await.context("httpListen")?),
        None => None,
    };
    let (client_addr, control_addr) = (clients.local_addr(), control.local_addr());
    let http_addr = pages.as_ref().map(http::Server::local_addr);

    let mut shown = Registry::default();
    metrics.register(&mut shown);
    clients.metrics().register(&mut shown);

    let cluster =
        Arc::new(Cluster::new(config.expected_groups, config.warm_up_timeout, stop.clone(), metrics.clone()));
    let brokers = Arc::default();
    let filters = Filters::new(REMEMBERED_FILTERS);
    let turn = Arc::default();
    let door = |via| route::Door {
        cluster: cluster.clone(),
        brokers: Arc::clone(&brokers),
        filters: filters.clone(),
        metrics: metrics.clone(),
        via,
        turn: Arc::clone(&turn),
        stop: stop.clone(),
    };
    let control_door = registry::Door {
        cluster: cluster.clone(),
        certificate,
        log_control: config.log_control,
        stop: stop.clone(),
    };

    let stop_grace = config.stop_grace;
    let bounds = Bounds { drain: stop_grace, ..Bounds::default() };
    doors.insert(0, (None, clients));
    for (name, listener) in doors {
        let incoming = listener.accept(tasks.tracker(), stop.clone());
        // A message that is sent here by mistake fits, so that its sender is told so.
        let service = MessagingServiceServer::new(door(Via::Listener(name)));
        let service = service.max_decoding_message_size(REQUEST_BYTES);
        tasks.spawn("the server for clients", serving::serve(service, incoming, bounds, stop.clone()));
    }

    let incoming = control.accept(tasks.tracker(), stop.clone());
    let service = RegistryServer::new(control_door).max_decoding_message_size(LARGEST_REPORT_BYTES);
    let routes = Routes::new(service)
        // What brokers ask for their clients, whose port may require what only clients have.
        .add_service(MessagingServiceServer::new(door(Via::Hop)));
    tasks.spawn("the server for brokers", serving::serve(routes.prepare(), incoming, bounds, stop.clone()));

    let watching = cluster.clone();
    tasks.spawn("the watch for silent brokers", async move {
        watching.watch_for_silence().await;
        Ok::<(), std::convert::Infallible>(())
    });

    if let Some(pages) = pages {
        let asked = cluster.clone();
        let registry = http::Shown::default();
        registry.set(shown);
        let shown = Pages { registry, readiness: Arc::new(move || asked.not_ready()) };
        tasks.spawn("the server for health and metrics", async move {
            pages.serve(shown, stop).await;
            Ok::<(), std::convert::Infallible>(())
        });
    }
    tracing::info!(%client_addr, %control_addr, version = env!("CARGO_PKG_VERSION"), "name server started");
    Ok(Running { client_addr, listeners, control_addr, http_addr, cluster, tasks, stop_grace })
}

impl Running {
    /// Waits until every expected broker group has registered, or the warm-up time is over.
    pub async fn ready(&self) {
        self.cluster.warm().await;
    }

    /// Waits until a task dies without which this name server is useless, and says which and why.
    pub async fn failed(&self) -> String {
        self.tasks.failed().await
    }

    /// Stops gracefully: no new connections, streams ended, calls under way answered.
    pub async fn stop(self) -> anyhow::Result<()> {
        let limit = self.stop_grace + AFTER_DRAIN;
        anyhow::ensure!(self.tasks.stop(limit).await, "some tasks did not end within {limit:?}");
        tracing::info!("name server stopped");
        Ok(())
    }
}

/// The process `namesrv --config FILE`, from its arguments to its end.
pub async fn main(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Some(file) = config_file(arguments)? else { return Ok(()) };
    let mut config = Config::load(&file)?;
    config.log_control = Some(logging::init(&config.logging)?);
    let running = start(config).await?;
    tokio::select! {
        asked = vital::asked_to_stop() => asked.context("cannot listen for signals")?,
        reason = running.failed() => anyhow::bail!(reason),
    }
    tracing::info!("asked to stop");
    if let Err(error) = running.stop().await {
        tracing::warn!(%error, "stopped");
    }
    Ok(())
}

/// The file that the arguments name. `None`: they asked for something that is printed.
fn config_file(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<PathBuf>> {
    const USAGE: &str = "usage: namesrv --config FILE | --version";
    match (arguments.nth(1).as_deref(), arguments.next(), arguments.next()) {
        (Some("--config"), Some(file), None) => Ok(Some(file.into())),
        (Some("--version"), None, None) => {
            println!("namesrv {}", env!("CARGO_PKG_VERSION"));
            Ok(None)
        }
        _ => anyhow::bail!(USAGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_name_one_file() {
        let parse = |line: &str| config_file(line.split(' ').map(str::to_owned));
        assert_eq!(parse("namesrv --config a.yaml").unwrap(), Some(PathBuf::from("a.yaml")));
        assert_eq!(parse("namesrv --version").unwrap(), None);
        for line in
            ["namesrv", "namesrv --config", "namesrv --config a b", "namesrv a.yaml", "namesrv --version x"]
        {
            assert!(parse(line).unwrap_err().to_string().contains("usage"), "{line}");
        }
    }
}
