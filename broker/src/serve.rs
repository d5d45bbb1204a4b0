//! From an opened store to a broker that serves, and to its end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::client::ClientIdentity;
use access::filter::Filters;
use access::listener::{Listener, Options, Port, TlsMode};
use access::serving::{self, AFTER_DRAIN, Bounds};
use access::{GroupName, ListenerName, http, logging, vital};
use anyhow::Context;
use proto::control::admin_server::AdminServer;
use proto::control::replication_server::ReplicationServer;
use proto::v2::messaging_service_server::MessagingServiceServer;
use proto::{control, v2};
use store::{Arrivals, QueueId, QueueOffset};
use tokio::sync::{Semaphore, watch};
use tonic::service::Routes;

use crate::addresses::{AddressFile, Addresses};
use crate::admin::{AdminDoor, MOST_FOLLOWERS};
use crate::config::Config;
use crate::delivery::{self, Delivery, Notes, now_ms};
use crate::front::Front;
use crate::front::connections::{Clients, Gone};
use crate::front::route::Routes as AskedRoutes;
use crate::front::telemetry::Telemetry;
use crate::health::{Health, Standing};
use crate::local::Local;
use crate::log::{Acknowledge, Log};
use crate::member::{Late, ReplicationDoor};
use crate::metrics::{Delayed, Metrics, TransactionMetrics, register_state};
use crate::registration::{self, Registration};
use crate::schedule::{self, Timers};
use crate::takeover;
use crate::topics::Registry;
use crate::transactions::{self, Transactions};

/// Operator, command line and console; few of each.
const MAX_CONTROL_CONNECTIONS: usize = 1024;
/// Of a request beside the body: properties, names, framing.
const REQUEST_HEADROOM_BYTES: usize = 4 << 20;
/// How many clients are remembered, by the cap on connections.
const CLIENTS_PER_CONNECTION: usize = 4;
/// SQL filters that are compiled once for all who write them.
const REMEMBERED_FILTERS: usize = 1024;
const LOOK_FOR_SILENCE_EVERY: Duration = Duration::from_secs(5);
/// Of a stretch of log: the largest body and what goes with it, twice.
const LARGEST_STRETCH_BYTES: usize = 160 << 20;

/// A running broker.
pub struct Running {
    /// Where clients call.
    pub client_addr: SocketAddr,
    /// Where clients call that come by another listener than `internal`.
    pub listeners: BTreeMap<ListenerName, SocketAddr>,
    /// Where the Admin service is.
    pub control_addr: SocketAddr,
    /// Where the pages are.
    pub http_addr: Option<SocketAddr>,
    tasks: vital::Tasks,
    delivery: Arc<Delivery>,
    transactions: Arc<Transactions>,
    log: Arc<Log>,
    health: Arc<Health>,
    stop_grace: Duration,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { client_addr, listeners, control_addr, http_addr, .. } = self;
        f.debug_struct("Running")
            .field("client_addr", client_addr)
            .field("listeners", listeners)
            .field("control_addr", control_addr)
            .field("http_addr", http_addr)
            .finish_non_exhaustive()
    }
}

/// What outlives a reign: the process has it once.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) config: Arc<Config>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) shown: http::Shown,
    pub(crate) log_levels: Option<logging::Control>,
    pub(crate) started_at_ms: i64,
}

/// The ports, bound.
pub(crate) struct Ports {
    pub(crate) clients: ClientPorts,
    pub(crate) control: Control,
}

/// Where clients call.
pub(crate) struct ClientPorts {
    internal: Listener,
    others: Vec<(ListenerName, Listener)>,
}

/// Where the control plane is served.
pub(crate) enum Control {
    /// At a port of its own.
    Alone(Listener),
    /// At the port that a member of a group has anyway.
    Within(Late, SocketAddr),
}

impl Control {
    fn local_addr(&self) -> SocketAddr {
        match self {
            Self::Alone(listener) => listener.local_addr(),
            Self::Within(_, addr) => *addr,
        }
    }
}

impl Ports {
    pub(crate) fn bind(config: &Config) -> anyhow::Result<Self> {
        let bound = ClientPorts::addresses(config).map(Port::bind).collect::<Result<_, _>>()?;
        let clients = ClientPorts::new(config, bound)?;
        Ok(Self { clients, control: Control::Alone(Self::bind_control_plane(config)?) })
    }

    pub(crate) fn bind_control_plane(config: &Config) -> anyhow::Result<Listener> {
        let options =
            Options { max_connections: MAX_CONTROL_CONNECTIONS, tls: TlsMode::Off, ..Options::default() };
        Listener::bind(config.control_listen, options).context("controlListen")
    }
}

impl ClientPorts {
    /// `clientListen`, then those of the listeners.
    pub(crate) fn addresses(config: &Config) -> impl Iterator<Item = SocketAddr> {
        std::iter::once(config.client_listen).chain(config.listeners.iter().map(|port| port.listen))
    }

    /// Over ports in the order of [`Self::addresses`].
    pub(crate) fn new(config: &Config, ports: Vec<Port>) -> anyhow::Result<Self> {
        let options = Options {
            max_connections: config.limits.max_connections,
            tls: config.limits.tls,
            certificate: config.certificate.clone(),
            ..Options::default()
        };
        let mut ports = ports.into_iter();
        let internal = Listener::new(ports.next().context("a port for clients")?, options)?;
        let others = config.listeners.iter().zip(ports).map(|(settings, port)| {
            Ok((settings.name.clone(), internal.beside(port, settings.tls.unwrap_or(config.limits.tls))?))
        });
        let others = others.collect::<anyhow::Result<_>>()?;
        Ok(Self { internal, others })
    }
}

/// As the primary of several: in which reign, and how.
pub(crate) struct Primary {
    pub(crate) ordinal: u32,
    pub(crate) epoch: u64,
    pub(crate) acknowledge: Acknowledge,
    /// What it knew of delayed messages as a replica.
    pub(crate) foreseen: Option<schedule::Foreseen>,
    /// For calls under way when the reign ends.
    pub(crate) stop_grace: Duration,
}

/// Opens what is above the log, and begins to serve. `primary`: this broker is one of several.
pub(crate) async fn serve(
    process: &Process,
    local: Local,
    ports: Ports,
    tasks: vital::Tasks,
    primary: Option<Primary>,
) -> anyhow::Result<Running> {
    let Process { config, standing, shown: pages, log_levels, started_at_ms } = process.clone();
    let config = Arc::new(config.in_reign(primary.as_ref().map_or(0, |primary| primary.epoch)));
    let Ports { clients: ClientPorts { internal: clients, others }, control } = ports;
    let (client_addr, control_addr) = (clients.local_addr(), control.local_addr());
    let stop = tasks.stop_token();
    let metrics = Metrics::default();
    let delayed = Delayed::default();
    let is_alone = primary.is_none();
    let Primary { ordinal, epoch, acknowledge, foreseen, stop_grace } = primary.unwrap_or_else(|| Primary {
        ordinal: 0,
        epoch: 0,
        acknowledge: Acknowledge::when(config.flush),
        foreseen: None,
        stop_grace: config.limits.stop_grace,
    });
    let bounds = Bounds { drain: stop_grace, ..Bounds::default() };

    // Consumers and producers share connections, but a connection rarely holds more than a few clients.
    let known = Clients::new(config.limits.max_connections.saturating_mul(CLIENTS_PER_CONNECTION));
    let needs = Needs {
        config: Arc::clone(&config),
        local,
        acknowledge,
        store_host: store_host(&config, client_addr),
        tasks: tasks.clone(),
        clients: known.clone(),
        delayed: delayed.clone(),
        foreseen,
        is_alone,
    };
    let opened =
        tokio::task::spawn_blocking(move || open(needs)).await.context("opening what is above the log");
    let opened = match opened.and_then(|opened| opened) {
        Ok(opened) => opened,
        Err(error) => {
            tasks.stop(Duration::ZERO).await;
            return Err(error);
        }
    };
    let Opened { topics, delivery, transactions, log, waiting } = opened;
    let timers = Arc::clone(&waiting.timers);
    let identity = registration::Identity {
        cluster_name: config.cluster_name.clone(),
        broker_name: config.broker_name.clone(),
        broker_id: config.broker_id,
        epoch,
        clients: config.client_address(client_addr).endpoints(),
        control: config.control_address(control_addr).address(),
    };
    let own = own_address(&identity);
    let addresses = addresses(&config, ordinal, &tasks);
    let names = config.name_servers.clone();
    let registration = Registration::start(identity, addresses, names, Arc::clone(&topics), &tasks);
    let health = Arc::new(Health {
        log: Arc::clone(&log),
        connections: clients.metrics(),
        clients: known.clone(),
        registration: registration.clone(),
        must_register: !config.name_servers.is_empty(),
    });

    let mut shown = prometheus_client::registry::Registry::default();
    metrics.register(&mut shown);
    clients.metrics().register(&mut shown);
    register_state(&mut shown, &known, &delivery, Arc::clone(&transactions), Arc::clone(&log));
    delayed.register(&mut shown, Arc::clone(&timers));

    // They are there until they are silent for too long, as before the start; then what they held goes with them.
    for (client, group) in delivery.lite_clients() {
        let identity = ClientIdentity { id: client, ..ClientIdentity::default() };
        known.heard_of_group(Instant::now(), &identity, group);
        if !known.is_online(&identity.id) {
            delivery.lite_client_gone(&identity.id);
        }
    }

    let filters = Filters::new(REMEMBERED_FILTERS);
    let front = Front {
        topics: Arc::clone(&topics),
        delivery: Arc::clone(&delivery),
        transactions: Arc::clone(&transactions),
        log: Arc::clone(&log),
        filters: filters.clone(),
        timers: Arc::clone(&timers),
        broker_name: config.broker_name.clone(),
        metrics,
        routes: AskedRoutes::new(registration, Arc::clone(&topics), own),
        telemetry: Telemetry {
            clients: known.clone(),
            topics: Arc::clone(&topics),
            filters,
            max_body_bytes: u32::try_from(config.limits.max_body_bytes).unwrap_or(u32::MAX),
            stop: stop.clone(),
        },
        max_body_bytes: config.limits.max_body_bytes,
        longest_delay: config.limits.timer_max_delay,
    };
    let certificate =
        others.iter().fold(clients.certificate(), |shown, (_, other)| shown.or(other.certificate()));
    let admin = AdminDoor {
        certificate,
        config: Arc::clone(&config),
        topics,
        delivery: Arc::clone(&delivery),
        log: Arc::clone(&log),
        timers,
        transactions: Arc::clone(&transactions),
        health: Arc::clone(&health),
        log_levels,
        started_at_ms,
        epoch,
        followers: Arc::new(Semaphore::new(MOST_FOLLOWERS)),
        stop: stop.clone(),
    };

    pages.set(shown);
    standing.serves(Arc::clone(&health));

    let mut listeners = BTreeMap::new();
    let mut doors = Vec::new();
    for (name, listener) in others {
        listeners.insert(name.clone(), listener.local_addr());
        doors.push((Front { routes: front.routes.seen_from(name), ..front.clone() }, listener));
    }
    doors.push((front.clone(), clients));
    for (front, listener) in doors {
        let incoming = listener.accept(tasks.tracker(), stop.clone());
        let service = MessagingServiceServer::from_arc(Arc::new(front))
            .max_decoding_message_size(config.limits.max_body_bytes + REQUEST_HEADROOM_BYTES);
        tasks.spawn("the server for clients", serving::serve(service, incoming, bounds, stop.clone()));
    }

    let routes = Routes::new(AdminServer::new(admin))
        // What name servers pass on: clients' ports may require what only clients have.
        .add_service(MessagingServiceServer::new(front));
    match control {
        Control::Alone(listener) => {
            let incoming = listener.accept(tasks.tracker(), stop.clone());
            let serve = serving::serve(routes.prepare(), incoming, bounds, stop.clone());
            tasks.spawn("the control plane", serve);
        }
        Control::Within(late, _) => late.set(Some(routes)),
    }

    waiting.start(&tasks);
    let (persisting, interval) = (Arc::clone(&delivery), config.limits.persist_interval);
    tasks.spawn("the writer of delivery state", async move {
        persisting.keep_persisting(interval).await;
        Ok::<(), Infallible>(())
    });
    let asking = Arc::clone(&transactions);
    tasks.spawn("the questions about transactions", async move {
        asking.keep_asking().await;
        Ok::<(), Infallible>(())
    });
    let ringing = Arc::clone(&delivery);
    tasks.spawn("the alarms of delivery", async move {
        ringing.keep_ringing().await;
        Ok::<(), Infallible>(())
    });
    let sweeping = Arc::clone(&delivery);
    tasks.spawn("the removal of idle lite topics", async move {
        sweeping.keep_sweeping().await;
        Ok::<(), Infallible>(())
    });
    let (releasing, asked_to_stop) = (Arc::clone(&delivery), stop.clone());
    tasks.spawn("the watch for silent clients", async move {
        asked_to_stop.run_until_cancelled(watch_for_silence(known, releasing)).await;
        Ok::<(), Infallible>(())
    });
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(broker = config.broker_name, %client_addr, %control_addr, version, "broker started");
    Ok(Running {
        client_addr,
        listeners,
        control_addr,
        http_addr: None,
        tasks,
        delivery,
        transactions,
        log,
        health,
        stop_grace,
    })
}

/// Where other listeners are reached, as the file says: at once what it says now, then what changes.
fn addresses(config: &Config, ordinal: u32, tasks: &vital::Tasks) -> watch::Receiver<Addresses> {
    let Some(path) = config.listener_addresses.clone() else {
        return watch::Sender::new(Addresses::new()).subscribe();
    };
    let file = AddressFile { path, ordinal, node: config.node_address.clone() };
    // What is wrong with it is told at the next look.
    let told = watch::Sender::new(file.read().unwrap_or_default().addresses);
    let receiver = told.subscribe();
    let stop = tasks.stop_token();
    tasks.spawn("the watch over addresses of listeners", async move {
        file.keep_fresh(told, stop).await;
        Ok::<(), Infallible>(())
    });
    receiver
}

/// The service of the members of a group to each other.
pub(crate) fn replication_service(door: ReplicationDoor) -> ReplicationServer<ReplicationDoor> {
    // A stretch of the log, and the largest message in one piece.
    ReplicationServer::new(door)
        .max_decoding_message_size(LARGEST_STRETCH_BYTES)
        .max_encoding_message_size(LARGEST_STRETCH_BYTES)
}

/// Releases what clients kept by being online, once they are silent for too long.
async fn watch_for_silence(clients: Clients, delivery: Arc<Delivery>) {
    let mut ticks = tokio::time::interval(LOOK_FOR_SILENCE_EVERY);
    loop {
        ticks.tick().await;
        for Gone { client, group } in clients.expire(Instant::now()) {
            tracing::info!(
                client,
                group = group.as_ref().map(GroupName::as_str),
                "a client went without a word"
            );
            delivery.lite_client_gone(&client);
            if let Some(group) = group {
                delivery.client_gone(group.as_str(), &client);
            }
        }
    }
}

/// This broker as clients see it in routes.
fn own_address(identity: &registration::Identity) -> v2::Broker {
    let address = |address: &control::Address| v2::Address {
        host: address.host.clone(),
        port: i32::try_from(address.port).unwrap_or(0),
    };
    let endpoints = v2::Endpoints {
        // The numbers of the two protocols are the same.
        scheme: identity.clients.scheme,
        addresses: identity.clients.addresses.iter().map(address).collect(),
    };
    v2::Broker {
        name: identity.broker_name.clone(),
        id: i32::try_from(identity.broker_id).unwrap_or(i32::MAX),
        endpoints: Some(endpoints),
    }
}

struct Needs {
    config: Arc<Config>,
    local: Local,
    acknowledge: Acknowledge,
    store_host: SocketAddr,
    tasks: vital::Tasks,
    clients: Clients,
    delayed: Delayed,
    foreseen: Option<schedule::Foreseen>,
    /// No member of a broker group.
    is_alone: bool,
}

struct Opened {
    topics: Arc<Registry>,
    delivery: Arc<Delivery>,
    transactions: Arc<Transactions>,
    log: Arc<Log>,
    /// The messages that wait for their time.
    waiting: schedule::Opened,
}

/// Hear of what arrives.
struct Listeners {
    delivery: Arc<Delivery>,
    timers: Arc<Timers>,
}

impl Arrivals for Listeners {
    fn arrived(&self, topic: &str, queue_id: QueueId, next: QueueOffset, tags_code: i64) {
        if topic == schedule::TOPIC {
            self.timers.ring();
        } else {
            self.delivery.arrived(topic, queue_id, next, tags_code);
        }
    }
}

/// Everything above the log. Blocks.
fn open(needs: Needs) -> anyhow::Result<Opened> {
    let Needs { config, local, acknowledge, store_host, tasks, clients, delayed, foreseen, is_alone } = needs;
    let Local { disk, clock, store, recovered, meta } = local;
    let folder = config.data_dir.join("config");
    let notes = match is_alone {
        true => Notes::open(&folder, &meta)?,
        false => Notes::none(&folder).context("removing notes of what consumers did")?,
    };
    takeover::take_over(&folder, &meta, &store, config.limits.max_attempts, now_ms())?;
    let topics = Arc::new(Registry::open(Arc::clone(&meta), config.limits.max_attempts)?);
    let log = Arc::new(Log::new(store.clone(), acknowledge, store_host));
    let transactions = Arc::new(Transactions::open(transactions::Needs {
        broker_name: config.broker_name.clone(),
        log: Arc::clone(&log),
        meta: Arc::clone(&meta),
        producers: Arc::new(clients.clone()) as Arc<dyn transactions::Producers>,
        schedule: config.limits.transactions,
        metrics: TransactionMetrics::default(),
        tasks: tasks.tracker().clone(),
        stopping: tasks.stop_token(),
    })?);
    let online = clients.clone();
    let delivery = Arc::new(Delivery::open(delivery::Needs {
        broker_name: config.broker_name.clone(),
        log: Arc::clone(&log),
        topics: Arc::clone(&topics),
        meta,
        notes,
        online: Arc::new(move |client| online.is_online(client)),
        unsubscribed: Arc::new(move |client, lite| clients.unsubscribed(client, lite)),
        lite: config.limits.lite,
        max_in_flight_per_queue: config.limits.max_in_flight_per_queue,
        max_parked_polls: config.limits.max_parked_polls,
        tasks: tasks.tracker().clone(),
        stopping: tasks.stop_token(),
    })?);
    let needs = schedule::Needs {
        log: Arc::clone(&log),
        topics: Arc::clone(&topics),
        disk,
        counts: delayed,
        clock,
        limits: schedule::Limits::default(),
        foreseen,
    };
    let waiting = schedule::Opened::open(needs, &config.data_dir, &recovered)
        .context("opening the schedule of delayed messages")?;
    store.on_arrival(Arc::new(Listeners {
        delivery: Arc::clone(&delivery),
        timers: Arc::clone(&waiting.timers),
    }));
    Ok(Opened { topics, delivery, transactions, log, waiting })
}

/// What records say about where they were stored: an IP address, as the format wants it.
fn store_host(config: &Config, bound: SocketAddr) -> SocketAddr {
    let told = config.client_address(bound);
    let ip = told.host.parse().unwrap_or_else(|_| match bound.ip() {
        ip if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    });
    SocketAddr::new(ip, told.port)
}

impl Running {
    /// Waits until clients can be served.
    pub async fn ready(&self) {
        // The store is open and the ports are bound since `start` has returned.
        self.health.registered().await;
    }

    /// Waits until a task dies without which this broker is useless, and says which and why.
    pub async fn failed(&self) -> String {
        self.tasks.failed().await
    }

    /// How it stands.
    pub(crate) fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Writes how far consumers are.
    pub(crate) async fn persist(&self) -> anyhow::Result<()> {
        let delivery = Arc::clone(&self.delivery);
        Ok(tokio::task::spawn_blocking(move || delivery.persist()).await??)
    }

    /// Lets everybody go, and waits for nobody.
    pub(crate) fn abandon(&self) {
        self.tasks.stop_token().cancel();
    }

    /// Stops gracefully: no new connections, polls and streams ended, calls under way answered, everything written.
    pub async fn stop(self) -> anyhow::Result<()> {
        let limit = self.stop_grace + AFTER_DRAIN;
        let in_time = self.tasks.stop(limit).await;
        let (delivery, transactions, log) = (self.delivery, self.transactions, self.log);
        let close = move || -> anyhow::Result<()> {
            if let Err(error) = transactions.close() {
                tracing::warn!(%error, "the next start reads more of the transactions than it must");
            }
            let persisted = delivery.close().context("writing the progress of consumers");
            log.store().close().context("closing the log")?;
            persisted
        };
        tokio::task::spawn_blocking(close).await.context("closing the data directory")??;
        anyhow::ensure!(in_time, "some tasks did not end within {limit:?}");
        tracing::info!("broker stopped");
        Ok(())
    }
}
