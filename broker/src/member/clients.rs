//! The clients' ports of a member. They are open as long as it lives, whatever it is at: whoever is refused waits longer than one
//! whose connection is taken and led to the primary a moment later.
//!
//! ```text
//!   accept ──► led ──► here: to the reign that serves
//!                 ├──► to the primary: bytes both ways. They hold an old address, or the Service that follows the
//!                 │    primary has not followed yet
//!                 ├──► nowhere: waits until there is a primary
//!                 └──► away: this member cannot reach the primary, and closes the connection
//! ```
//!
//! Nobody goes in a circle: a member leads to the one that it follows, and leads nowhere before it asks to be the primary of a
//! later reign.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use access::listener::{Arrived, Port};
use replication::Ordinal;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Whoever comes while there is no primary waits so long for one.
const PRIMARY_WITHIN: Duration = Duration::from_secs(10);
/// A primary that does not even refuse is on the other side of a cut. A packet may be lost once.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// Where a connection is passed on no more, so long is left for answers that are on their way.
const FAREWELL: Duration = Duration::from_secs(1);
/// Connections that wait or are passed on; more are closed at once.
const MOST_CONNECTIONS: usize = 10_000;

/// The ports.
pub(super) struct ClientDoor {
    /// As they are bound.
    addresses: Vec<SocketAddr>,
    leads: watch::Sender<Leads>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Where clients are led.
#[derive(Clone, Debug)]
enum Leads {
    Nowhere,
    /// Whoever comes again may be led past this member.
    Away,
    /// To the same port of this member: it tells by it how they came.
    To(Ordinal),
    /// A sender for each port.
    Here(Arc<[mpsc::Sender<Arrived>]>),
}

impl Leads {
    fn is_to(&self, member: Ordinal) -> bool {
        matches!(self, Self::To(to) if *to == member)
    }
}

impl ClientDoor {
    /// Binds these addresses. Where `member_address` has `{ordinal}`, a member's own is put; its host counts.
    pub(super) fn open(
        addresses: impl Iterator<Item = SocketAddr>,
        member_address: &str,
    ) -> std::io::Result<Self> {
        let ports: Vec<_> =
            addresses.map(|asked| Ok((asked, Port::bind(asked)?))).collect::<std::io::Result<_>>()?;
        let door = Self {
            addresses: ports.iter().map(|(_, port)| port.local_addr()).collect(),
            leads: watch::Sender::new(Leads::Nowhere),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        for (place, (asked, port)) in ports.into_iter().enumerate() {
            let led = Led {
                place,
                port: asked.port(),
                leads: door.leads.subscribe(),
                member_address: member_address.to_owned(),
                stop: door.stop.clone(),
            };
            let accepting = accept(port, led, door.tasks.clone());
            door.tasks.spawn(door.stop.clone().run_until_cancelled_owned(accepting));
        }
        Ok(door)
    }

    /// Who was led elsewhere is let go; who comes waits.
    pub(super) fn lead_nowhere(&self) {
        self.leads.send_replace(Leads::Nowhere);
    }

    /// Of who is led to nobody: as long as this member is cut off from the primary, who waits and who comes is let go.
    pub(super) fn cut_off(&self, is_cut_off: bool) {
        self.leads.send_if_modified(|leads| {
            let is_new = is_cut_off != matches!(leads, Leads::Away);
            if is_new {
                *leads = if is_cut_off { Leads::Away } else { Leads::Nowhere };
            }
            is_new
        });
    }

    /// To this member.
    pub(super) fn lead_to(&self, member: Ordinal) {
        self.leads.send_if_modified(|leads| {
            let is_new = !leads.is_to(member);
            *leads = Leads::To(member);
            is_new
        });
    }

    /// To whoever accepts from these ports. They are in the order of the addresses.
    pub(super) fn lead_here(&self) -> Vec<Port> {
        let (senders, ports): (Vec<_>, _) =
            self.addresses.iter().map(|address| Port::handed(*address)).unzip();
        self.leads.send_replace(Leads::Here(senders.into()));
        ports
    }

    /// Ends all connections, and closes the ports.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for ClientDoor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(mut port: Port, led: Led, tasks: TaskTracker) {
    loop {
        let client = match port.accept().await {
            Ok(Some(client)) => client,
            // A bound port has no end.
            Ok(None) => return,
            Err(error) => {
                // Out of file descriptors, mostly: others must close theirs first.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if tasks.len() <= MOST_CONNECTIONS {
            tasks.spawn(led.clone().lead(client));
        }
    }
}

/// A client on its way.
#[derive(Clone)]
struct Led {
    /// Which of the ports it came to.
    place: usize,
    port: u16,
    leads: watch::Receiver<Leads>,
    member_address: String,
    stop: CancellationToken,
}

impl Led {
    async fn lead(mut self, client: Arrived) {
        let stop = self.stop.clone();
        if let Some(Some((client, primary, member))) = stop.run_until_cancelled(self.find(client)).await {
            self.pass(client, primary, member).await;
        }
    }

    /// Where to pass it on. `None`: it is served here, or nobody is found.
    async fn find(&mut self, mut client: Arrived) -> Option<(TcpStream, TcpStream, Ordinal)> {
        let end = Instant::now() + PRIMARY_WITHIN;
        loop {
            let somewhere = self.leads.wait_for(|leads| !matches!(leads, Leads::Nowhere));
            let Ok(Ok(leads)) =
                tokio::time::timeout_at(end, somewhere).await.map(|led| led.map(|led| led.clone()))
            else {
                return None;
            };
            match leads {
                Leads::Nowhere => {}
                Leads::Away => return None,
                Leads::To(member) => {
                    tokio::select! {
                        primary = tokio::time::timeout_at(end, self.connect(member)) => {
                            return Some((client.0, primary.ok()??, member));
                        }
                        () = self.leads_elsewhere(member) => {}
                    }
                }
                Leads::Here(ports) => match ports[self.place].send(client).await {
                    Ok(()) => return None,
                    Err(mpsc::error::SendError(back)) => {
                        client = back;
                        // That reign is over, which is told at once.
                        tokio::time::timeout_at(end, self.leads.changed()).await.ok()?.ok()?;
                    }
                },
            }
        }
    }

    /// A connection to the same port of a member, as soon as it takes one. `None`: it does not answer.
    async fn connect(&self, member: Ordinal) -> Option<TcpStream> {
        let address = self.member_address.replace("{ordinal}", &member.to_string());
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        loop {
            let connecting = TcpStream::connect((host, self.port));
            if let Ok(primary) = tokio::time::timeout(ANSWER_WITHIN, connecting).await.ok()? {
                return Some(primary);
            }
            tokio::time::sleep(CONNECT_AGAIN_AFTER).await;
        }
    }

    /// Carries bytes both ways until an end closes, or clients are led elsewhere. Then the primary is told that nothing more comes,
    /// and what it has answered reaches the client: what is delivered and does not arrive would stay away for long.
    async fn pass(&self, mut client: TcpStream, mut primary: TcpStream, member: Ordinal) {
        // Small calls must not wait for each other; an error is the connection's own.
        let _ = (client.set_nodelay(true), primary.set_nodelay(true));
        let (mut from_client, mut to_client) = client.split();
        let (mut from_primary, mut to_primary) = primary.split();
        let mut answers = pin!(tokio::io::copy(&mut from_primary, &mut to_client));
        tokio::select! {
            _ = &mut answers => return,
            _ = tokio::io::copy(&mut from_client, &mut to_primary) => {}
            () = self.leads_elsewhere(member) => {}
            () = self.stop.cancelled() => {}
        }
        let _ = to_primary.shutdown().await;
        let _: Result<_, _> = tokio::time::timeout(FAREWELL, answers).await;
    }

    async fn leads_elsewhere(&self, than: Ordinal) {
        // An error: nobody will tell.
        let _ = self.leads.clone().wait_for(|leads| !leads.is_to(than)).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_on_its_way_arrives_though_another_is_the_primary() {
        let primary = TcpListener::bind("127.0.1.1:0").await.expect("a port");
        let port = primary.local_addr().expect("it is bound").port();
        let own = SocketAddr::from(([127, 0, 0, 1], port));
        let door =
            ClientDoor::open([own].into_iter(), "127.0.{ordinal}.1:9").expect("the port is free there");
        door.lead_to(Ordinal(1));
        let mut client = TcpStream::connect(own).await.expect("it is open");
        let (mut served, _) = primary.accept().await.expect("it is passed on");
        client.write_all(b"?").await.expect("it is taken");
        let mut asked = [0];
        served.read_exact(&mut asked).await.expect("it comes");

        door.lead_nowhere();
        assert_eq!(served.read(&mut asked).await.expect("an end"), 0, "nothing more comes");
        served.write_all(b"!").await.expect("it is taken");
        drop(served);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an end");
        assert_eq!(answer, "!");
        door.close().await;
    }

    #[tokio::test]
    async fn a_client_that_waits_is_let_go_by_a_member_that_is_cut_off() {
        let own =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let door = ClientDoor::open([own].into_iter(), "127.0.{ordinal}.1:9").expect("the port is free");
        let mut client = TcpStream::connect(own).await.expect("it is open");
        door.cut_off(true);
        let end = tokio::time::timeout(PRIMARY_WITHIN / 2, client.read(&mut [0])).await;
        assert_eq!(end.expect("long before nobody would be found").expect("an end"), 0);
        door.close().await;
    }

    #[tokio::test]
    async fn a_client_is_let_go_where_the_primary_does_not_even_refuse() {
        // Linux answers nobody whose connection does not fit into the queue.
        let full = tokio::net::TcpSocket::new_v4().expect("a socket");
        full.bind(SocketAddr::from(([127, 0, 2, 1], 0))).expect("a port");
        let full = full.listen(1).expect("it listens");
        let address = full.local_addr().expect("it is bound");
        let mut queued = Vec::new();
        while let Ok(Ok(connection)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            queued.push(connection);
        }
        let own = SocketAddr::from(([127, 0, 0, 1], address.port()));
        let door =
            ClientDoor::open([own].into_iter(), "127.0.{ordinal}.1:9").expect("the port is free there");
        door.lead_to(Ordinal(2));
        let mut client = TcpStream::connect(own).await.expect("it is open");
        let end = tokio::time::timeout(PRIMARY_WITHIN / 2, client.read(&mut [0])).await;
        assert_eq!(end.expect("long before nobody would be found").expect("an end"), 0);
        door.close().await;
    }
}
