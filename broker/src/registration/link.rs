//! One name server: connect, report, be acknowledged, and again when it breaks.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::control::broker_report::Report;
use proto::control::registry_client::RegistryClient;
use proto::control::{BrokerReport, FullReport, Heartbeat, ListenerEndpoints, RegistryAck};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::telling::Telling;
use super::{Identity, Shown, ShownBy};
use crate::addresses::Addresses;
use crate::topics;

/// Three of them missed, and name servers take the broker off the routes.
const HEARTBEAT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Finds a name server that is gone without a word.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Reports on their way or not yet acknowledged; changes wait, and are then told together.
const UNACKNOWLEDGED: usize = 4;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(3);
/// A link that lasted so long is tried again at once when it breaks.
const STEADY: Duration = Duration::from_secs(10);

/// The link to one address. Dropped at any point, it leaves nothing behind.
pub(super) struct Link {
    pub(super) addr: SocketAddr,
    pub(super) identity: Arc<Identity>,
    pub(super) addresses: watch::Receiver<Addresses>,
    pub(super) topics: Arc<topics::Registry>,
    pub(super) shown_by: Arc<watch::Sender<ShownBy>>,
    pub(super) wanted: watch::Receiver<HashSet<SocketAddr>>,
}

/// Takes the name server out of those that show this broker.
struct Listed<'a>(&'a Link);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.0.shown_by.send_if_modified(|shown_by| shown_by.remove(&self.0.addr).is_some());
    }
}

impl Link {
    /// Keeps the link up as long as the address is wanted.
    pub(super) async fn run(self) {
        let mut retry = FIRST_RETRY;
        loop {
            let began = Instant::now();
            match self.register().await {
                Ended::AfterAcknowledged(error) => {
                    tracing::warn!(name_server = %self.addr, error, "registration ended");
                }
                Ended::Before(error) => tracing::info!(name_server = %self.addr, error, "cannot register"),
            }
            if !self.wanted.borrow().contains(&self.addr) {
                tracing::info!(name_server = %self.addr, "name server given up: no name stands for it any more");
                return;
            }
            // Two brokers of one name displace each other: they must not do so without a pause.
            retry = if began.elapsed() >= STEADY { FIRST_RETRY } else { (retry * 2).min(LONGEST_RETRY) };
            tokio::time::sleep(retry).await;
        }
    }

    /// One connection, from the full report to its end.
    async fn register(&self) -> Ended {
        let mut session = match Session::open(self).await {
            Ok(session) => session,
            Err(error) => return Ended::Before(error),
        };
        let mut listed = None;
        loop {
            let ack = match session.next_ack(self).await {
                Ok(ack) => ack,
                Err(error) if listed.is_some() => return Ended::AfterAcknowledged(error),
                Err(error) => return Ended::Before(error),
            };
            let Some(version) = session.acknowledged(&ack) else { continue };
            if listed.is_none() {
                tracing::info!(name_server = %self.addr, "registered");
                // Its control plane takes what clients ask as well.
                let clients = endpoint(self.addr).connect_lazy();
                listed = Some(Listed(self));
                self.shown_by.send_modify(|by| drop(by.insert(self.addr, Shown { version, clients })));
            } else {
                self.shown_by.send_modify(|by| {
                    if let Some(shown) = by.get_mut(&self.addr) {
                        shown.version = version;
                    }
                });
            }
        }
    }

    fn everything(&self) -> Telling {
        let Identity { cluster_name, broker_name, broker_id, epoch, clients, control } =
            (*self.identity).clone();
        let listeners = self.addresses.borrow().clone().into_iter();
        let listeners = listeners
            .map(|(name, clients)| ListenerEndpoints { name: name.to_string(), clients: Some(clients) });
        let head = FullReport {
            cluster_name,
            broker_name,
            broker_id,
            epoch,
            clients: Some(clients),
            control: Some(control),
            topics: Vec::new(),
            groups: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat_interval_ms: HEARTBEAT.as_millis() as u64,
            more: false,
            listeners: listeners.collect(),
        };
        Telling::everything(head, self.topics.listing())
    }
}

/// How a connection ended, and why.
enum Ended {
    Before(String),
    AfterAcknowledged(String),
}

fn endpoint(addr: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{addr}"))
        .expect("an address is the authority of a URI")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
}

/// An open registration stream.
struct Session {
    reports: mpsc::Sender<BrokerReport>,
    acks: tonic::Streaming<RegistryAck>,
    changed: watch::Receiver<u64>,
    addresses: watch::Receiver<Addresses>,
    heartbeat: tokio::time::Interval,
    sequence: u64,
    /// What is being told now.
    telling: Option<Telling>,
    told_version: u64,
    /// Sequence and version of reports that are to be acknowledged, oldest first.
    unacknowledged: VecDeque<(u64, u64)>,
}

impl Session {
    async fn open(link: &Link) -> Result<Self, String> {
        let channel = endpoint(link.addr).connect().await.map_err(|error| with_sources(&error))?;
        let (reports, outbound) = mpsc::channel(UNACKNOWLEDGED * 2);
        // Watched before it is read: what changes in between is reported again.
        let changed = link.topics.watch();
        let mut addresses = link.addresses.clone();
        addresses.mark_unchanged();
        let acks = RegistryClient::new(channel).register(ReceiverStream::new(outbound)).await;
        let acks = acks.map_err(|status| said(&status))?.into_inner();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let telling = link.everything();
        let told_version = telling.version();
        let unacknowledged = VecDeque::new();
        Ok(Self {
            reports,
            acks,
            changed,
            addresses,
            heartbeat,
            sequence: 0,
            telling: Some(telling),
            told_version,
            unacknowledged,
        })
    }

    /// Reports changes and heartbeats until there is an acknowledgement; an error is the end.
    async fn next_ack(&mut self, link: &Link) -> Result<RegistryAck, String> {
        // Room is borrowed from it while the rest changes.
        let reports = self.reports.clone();
        loop {
            tokio::select! {
                ack = self.acks.message() => return answered(ack),
                room = reports.reserve(), if self.telling.is_some() => match room {
                    Ok(room) => {
                        self.sequence += 1;
                        let telling = self.telling.as_mut().expect("this branch is for when there is one");
                        let (report, more) = telling.next_report();
                        room.send(BrokerReport { sequence: self.sequence, report: Some(report) });
                        if !more {
                            self.unacknowledged.push_back((self.sequence, self.told_version));
                            self.telling = None;
                        }
                    }
                    // The stream is over, and its answer says why.
                    Err(_) => return answered(self.acks.message().await),
                },
                changed = self.changed.changed(),
                    if self.telling.is_none() && self.unacknowledged.len() < UNACKNOWLEDGED =>
                {
                    changed.map_err(|_| "the broker stops".to_owned())?;
                    self.tell_changes(link);
                }
                Ok(()) = self.addresses.changed(),
                    if self.telling.is_none() && self.unacknowledged.len() < UNACKNOWLEDGED =>
                {
                    let telling = link.everything();
                    self.told_version = telling.version();
                    self.telling = Some(telling);
                }
                _ = self.heartbeat.tick(), if self.sequence > 0 => {
                    // One that does not fit follows reports that say the same.
                    if let Ok(room) = reports.try_reserve() {
                        self.sequence += 1;
                        let report = Some(Report::Heartbeat(Heartbeat {}));
                        room.send(BrokerReport { sequence: self.sequence, report });
                    }
                }
            }
        }
    }

    /// Begins to tell what changed, if it is not told already.
    fn tell_changes(&mut self, link: &Link) {
        let telling = match link.topics.changes_since(self.told_version) {
            Some(changes) if changes.version == self.told_version => return,
            Some(changes) => Telling::changed(changes),
            None => link.everything(),
        };
        self.told_version = telling.version();
        self.telling = Some(telling);
    }

    /// The version that is shown now.
    fn acknowledged(&mut self, ack: &RegistryAck) -> Option<u64> {
        let mut shown = None;
        while let Some((_, version)) =
            self.unacknowledged.pop_front_if(|(sequence, _)| *sequence <= ack.sequence)
        {
            shown = Some(version);
        }
        shown
    }
}

fn answered(ack: Result<Option<RegistryAck>, tonic::Status>) -> Result<RegistryAck, String> {
    let ack = ack.map_err(|status| said(&status))?;
    ack.ok_or_else(|| "the name server ended the stream".to_owned())
}

fn said(status: &tonic::Status) -> String {
    format!("{}: {}", status.code(), status.message())
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
