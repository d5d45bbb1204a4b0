//! How a broker tells name servers what it has.
//!
//! ```text
//!   names ──resolved every few seconds──► addresses ──► one link each: connect, full report, changes, heartbeats
//!                                                            │ acknowledged: clients see it
//!                                                            ▼
//!                               who shows which version ──► shown_everywhere, name_servers, where to ask for routes
//! ```
//!
//! A name stands for all name servers behind it (a headless Service), so scaling them restarts no broker. An address
//! that DNS does not list any more is given up when its link breaks, not before: an outage of DNS
//! takes nobody off the routes.

mod link;
pub(crate) mod telling;
pub(crate) mod wire;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::{ListenerName, vital};
use proto::control;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::addresses::Addresses;
use crate::topics;

/// How often names are resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(3);
/// How long one resolution may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A bound on name servers; one link each.
const MAX_NAME_SERVERS: usize = 64;

/// Who registers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Identity {
    /// The cluster.
    pub(crate) cluster_name: String,
    /// The broker group.
    pub(crate) broker_name: String,
    /// 0: the primary.
    pub(crate) broker_id: u32,
    /// Of the primary's reign.
    pub(crate) epoch: u64,
    /// Where clients reach this broker.
    pub(crate) clients: control::Endpoints,
    /// Where its Admin service is reached.
    pub(crate) control: control::Address,
}

/// A name server that has acknowledged this broker.
#[derive(Debug, Clone)]
struct Shown {
    /// Topics and groups as of this version are shown to clients.
    version: u64,
    /// For asking it what clients ask.
    clients: Channel,
}

type ShownBy = BTreeMap<SocketAddr, Shown>;

/// The registration with all name servers. Clones are the same registration.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    shown_by: Arc<watch::Sender<ShownBy>>,
    addresses: watch::Receiver<Addresses>,
}

impl Registration {
    /// Registers with the name servers that `names` (`host:port`) stand for, until `tasks` stop. Name servers are told `addresses`
    /// again when they change.
    pub(crate) fn start(
        identity: Identity,
        addresses: watch::Receiver<Addresses>,
        names: Vec<String>,
        topics: Arc<topics::Registry>,
        tasks: &vital::Tasks,
    ) -> Self {
        let shown_by = Arc::new(watch::Sender::new(ShownBy::new()));
        let stop = tasks.stop_token();
        let keeper = Keeper {
            identity: Arc::new(identity),
            addresses: addresses.clone(),
            names,
            topics,
            shown_by: shown_by.clone(),
            stop,
        };
        tasks.spawn("the registration with name servers", async move {
            keeper.run().await;
            Ok::<(), std::convert::Infallible>(())
        });
        Self { shown_by, addresses }
    }

    /// A registration that stands still, for tests of whoever asks name servers.
    #[cfg(test)]
    pub(crate) fn shown_by(channels: Vec<Channel>) -> Self {
        let shown = |clients| Shown { version: 0, clients };
        let addresses = (1..).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let shown_by = addresses.zip(channels.into_iter().map(shown)).collect();
        let addresses = watch::Sender::new(Addresses::new()).subscribe();
        Self { shown_by: Arc::new(watch::Sender::new(shown_by)), addresses }
    }

    /// Where clients reach this broker that come by this listener.
    pub(crate) fn address_at(&self, listener: &ListenerName) -> Option<control::Endpoints> {
        self.addresses.borrow().get(listener).cloned()
    }

    /// The name servers that show this broker now.
    #[must_use]
    pub(crate) fn name_servers(&self) -> Vec<SocketAddr> {
        self.shown_by.borrow().keys().copied().collect()
    }

    /// Whether any name server shows this broker.
    #[must_use]
    pub(crate) fn is_registered(&self) -> bool {
        !self.shown_by.borrow().is_empty()
    }

    /// Waits until a name server shows this broker.
    pub(crate) async fn registered(&self) {
        // The sender lives as long as `self`.
        self.shown_by.subscribe().wait_for(|shown_by| !shown_by.is_empty()).await.ok();
    }

    /// Waits until every connected name server shows topics and groups as of `version`, at most for `limit`.
    /// False: some do not yet, and will as soon as they can.
    pub(crate) async fn shown_everywhere(&self, version: u64, limit: Duration) -> bool {
        let mut shown_by = self.shown_by.subscribe();
        let all = shown_by.wait_for(|shown_by| shown_by.values().all(|shown| shown.version >= version));
        tokio::time::timeout(limit, all).await.is_ok()
    }

    /// Channels to the client ports of the name servers that show this broker.
    #[must_use]
    pub(crate) fn channels(&self) -> Vec<Channel> {
        self.shown_by.borrow().values().map(|shown| shown.clients.clone()).collect()
    }
}

/// Keeps one link to each address.
struct Keeper {
    identity: Arc<Identity>,
    addresses: watch::Receiver<Addresses>,
    names: Vec<String>,
    topics: Arc<topics::Registry>,
    shown_by: Arc<watch::Sender<ShownBy>>,
    stop: CancellationToken,
}

impl Keeper {
    async fn run(self) {
        let mut resolved: HashMap<&str, Vec<SocketAddr>> = HashMap::new();
        let wanted = watch::Sender::new(HashSet::new());
        let mut linked = HashSet::new();
        let mut links = JoinSet::new();
        let mut resolve = tokio::time::interval(RESOLVE_EVERY);
        resolve.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = resolve.tick() => {
                    if self.stop.run_until_cancelled(self.resolve(&mut resolved)).await.is_none() {
                        break;
                    }
                    wanted.send_replace(resolved.values().flatten().copied().take(MAX_NAME_SERVERS).collect());
                    for addr in wanted.borrow().iter().filter(|addr| linked.insert(**addr)) {
                        links.spawn(self.link(*addr, wanted.subscribe()));
                    }
                }
                Some(ended) = links.join_next() => match ended {
                    Ok(addr) => { linked.remove(&addr); }
                    // Its address is not known any more: all are looked at again.
                    Err(error) => panic!("a link to a name server died: {error}"),
                },
            }
        }
        while links.join_next().await.is_some() {}
    }

    /// Resolves all names; one that cannot be resolved keeps its addresses.
    async fn resolve<'a>(&'a self, resolved: &mut HashMap<&'a str, Vec<SocketAddr>>) {
        for name in &self.names {
            match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(name)).await {
                Ok(Ok(addresses)) => {
                    resolved.insert(name, addresses.collect());
                }
                Ok(Err(error)) => tracing::warn!(name, %error, "cannot resolve a name server"),
                Err(_) => tracing::warn!(name, "resolving a name server takes too long"),
            }
        }
    }

    fn link(
        &self,
        addr: SocketAddr,
        wanted: watch::Receiver<HashSet<SocketAddr>>,
    ) -> impl Future<Output = SocketAddr> + use<> {
        let link = link::Link {
            addr,
            identity: self.identity.clone(),
            addresses: self.addresses.clone(),
            topics: self.topics.clone(),
            shown_by: self.shown_by.clone(),
            wanted,
        };
        let stop = self.stop.clone();
        async move {
            stop.run_until_cancelled(link.run()).await;
            addr
        }
    }
}

#[cfg(test)]
mod tests;
