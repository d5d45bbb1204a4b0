//! Clients that come to a member that is not the primary are connected to it: they hold an old address, or the Service that
//! follows the primary has not followed yet.

use std::net::SocketAddr;
use std::time::Duration;

use replication::Ordinal;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Whoever comes while there is no primary waits so long for one.
const PRIMARY_WITHIN: Duration = Duration::from_secs(10);
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(10);
const BIND_AGAIN_AFTER: Duration = Duration::from_millis(2);
/// Connections at a time; more are closed at once.
const MOST_CONNECTIONS: usize = 10_000;

/// The clients' port of a member that is not the primary.
pub(super) struct Passing {
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Where the primary's clients connect: with `{ordinal}` in its host.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) primary: watch::Receiver<Option<Ordinal>>,
    /// A member's control plane, of which the host is taken.
    pub(super) member_address: String,
    pub(super) port: u16,
}

impl Passing {
    /// Begins to accept as soon as the port is free: where a reign ends, its clients come again at once, and whoever is
    /// refused waits longer.
    pub(super) fn start(listen: SocketAddr, target: Target) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (until, others) = (stop.clone(), tasks.clone());
        let accepting = async move {
            let listener = loop {
                match TcpListener::bind(listen).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(BIND_AGAIN_AFTER).await,
                }
            };
            accept(listener, target, until, others).await;
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(accepting));
        Self { stop, tasks }
    }

    /// Ends all connections and lets the port go.
    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, target: Target, stop: CancellationToken, tasks: TaskTracker) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if tasks.len() <= MOST_CONNECTIONS {
            tasks.spawn(stop.clone().run_until_cancelled_owned(pass(client, target.clone())));
        }
    }
}

/// Carries bytes both ways until an end closes, or another is the primary.
async fn pass(mut client: TcpStream, target: Target) {
    let Target { mut primary, member_address, port } = target;
    let known = tokio::time::timeout(PRIMARY_WITHIN, primary.wait_for(Option::is_some)).await;
    let Some(ordinal) = known.ok().and_then(Result::ok).and_then(|known| *known) else { return };
    let address = member_address.replace("{ordinal}", &ordinal.to_string());
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    // It refuses until it serves clients itself: so nobody passes on what was passed on.
    let connected = async {
        loop {
            if let Ok(server) = TcpStream::connect((host, port)).await {
                return server;
            }
            tokio::time::sleep(CONNECT_AGAIN_AFTER).await;
        }
    };
    let gone = primary.clone();
    let connected = tokio::select! {
        connected = tokio::time::timeout(PRIMARY_WITHIN, connected) => connected,
        () = changed(gone, ordinal) => return,
    };
    let Ok(mut server) = connected else { return };
    // Small calls must not wait for each other; an error is the connection's own.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        () = changed(primary, ordinal) => {}
    }
}

/// Waits until this member is not the primary any more.
async fn changed(mut primary: watch::Receiver<Option<Ordinal>>, from: Ordinal) {
    // An error: nobody will tell.
    let _ = primary.wait_for(|now| *now != Some(from)).await;
}
