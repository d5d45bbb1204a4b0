//! Answers the calls on accepted connections: of one gRPC service, or of several behind tonic's router.
//!
//! Nothing lies between HTTP/2 and the service. tonic's own server has layers and boxes there, for services that
//! need them, and a timer for the deadline of each call: here a call ends when its client goes, which is what clients do at
//! their deadline. Measured in `bench/README.md`.
//!
//! A connection is closed when its peer is gone (it answers no ping), when it never calls, and at a stop: then it is told
//! goodbye, its calls are answered, and whoever does not answer the goodbye is not waited for.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use hyper::body::Incoming as Inbound;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::server::{Connected as _, TcpConnectInfo};

use crate::listener::{Connection, Incoming};

/// For the last bytes and the answer to the goodbye, once no call is under way: a round trip.
const FAREWELL: Duration = Duration::from_secs(1);
/// What ends only after the last connection is over by this long after [`Bounds::drain`].
pub const AFTER_DRAIN: Duration = Duration::from_secs(1);

/// What a client may have under way on a connection, and when it is taken for gone.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes that it may send on a stream before they are read.
    pub stream_window_bytes: u32,
    /// The same on all streams together.
    pub connection_window_bytes: u32,
    /// Calls at a time.
    pub concurrent_streams: u32,
    /// Of a call's headers.
    pub header_bytes: u32,
    /// A connection that is silent for so long is asked for a sign of life.
    pub ping_every: Duration,
    /// And closed when none comes within this.
    pub ping_timeout: Duration,
    /// A connection without any call within this is closed; one that has called may be idle.
    pub first_call_within: Duration,
    /// For calls that are under way at a stop. Then their connections are closed.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            // A window must hold the largest message, or each takes a round trip more.
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 4 << 20,
            concurrent_streams: 1024,
            header_bytes: 16 << 10,
            // Pings find peers that are gone without a word.
            ping_every: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
            first_call_within: Duration::from_secs(60),
            drain: Duration::from_secs(5),
        }
    }
}

/// Serves until `stop`, then until the last call is answered or [`Bounds::drain`] is over. Ends before that only when
/// `incoming` does.
pub async fn serve<S>(
    service: S,
    mut incoming: Incoming,
    bounds: Bounds,
    stop: CancellationToken,
) -> Result<(), Infallible>
where
    S: Service<http::Request<Inbound>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let connections = TaskTracker::new();
    while let Some(Some(connection)) = stop.run_until_cancelled(incoming.next()).await {
        let Ok(connection) = connection else { continue };
        let (service, stop) = (service.clone(), stop.clone());
        connections.spawn(async move {
            let under_way = UnderWay::new();
            attend(connection, service, bounds, &under_way, stop).await;
            // They see that their client is gone.
            under_way.calls.wait().await;
        });
    }
    drop(incoming);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Serves a connection until its end.
async fn attend<S>(
    connection: Connection,
    service: S,
    bounds: Bounds,
    under_way: &UnderWay,
    stop: CancellationToken,
) where
    S: Service<http::Request<Inbound>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let calls = Calls { service, peer: connection.connect_info() };
    let http2 = http2_of(bounds, under_way.clone());
    let mut serving = pin!(http2.serve_connection(TokioIo::new(connection), calls));
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        outcome = &mut serving => Some(outcome),
        () = under_way.nothing_within(bounds.first_call_within) => None,
    };
    let outcome = match ended {
        Some(outcome) => outcome,
        None => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = &mut serving => outcome,
                () = under_way.over_within(bounds.drain) => Ok(()),
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection broke");
    }
}

fn http2_of(bounds: Bounds, calls: UnderWay) -> http2::Builder<UnderWay> {
    let mut http2 = http2::Builder::new(calls);
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(bounds.stream_window_bytes)
        .initial_connection_window_size(bounds.connection_window_bytes)
        .max_concurrent_streams(bounds.concurrent_streams)
        .max_header_list_size(bounds.header_bytes)
        .keep_alive_interval(bounds.ping_every)
        .keep_alive_timeout(bounds.ping_timeout)
        // gRPC has no use for it.
        .auto_date_header(false);
    http2
}

/// The calls of one connection, a task each.
#[derive(Clone, Debug)]
struct UnderWay {
    calls: TaskTracker,
    /// There was one.
    any: Arc<AtomicBool>,
}

impl UnderWay {
    fn new() -> Self {
        let calls = TaskTracker::new();
        // Tasks may come all the same; from now on it can be waited for that there is none.
        calls.close();
        Self { calls, any: Arc::default() }
    }

    /// Ends after `limit`, unless there was a call by then.
    async fn nothing_within(&self, limit: Duration) {
        tokio::time::sleep(limit).await;
        if self.any.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }

    /// Ends when the calls are answered and the peer had time for its goodbye, or after `limit`.
    async fn over_within(&self, limit: Duration) {
        let over = async {
            loop {
                self.calls.wait().await;
                tokio::time::sleep(FAREWELL).await;
                // What was sent before the goodbye came there is answered too.
                if self.calls.is_empty() {
                    return;
                }
            }
        };
        // Whoever is not through by now is let go.
        let _: Result<(), _> = tokio::time::timeout(limit, over).await;
    }
}

impl<F> Executor<F> for UnderWay
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.any.store(true, Ordering::Relaxed);
        self.calls.spawn(call);
    }
}

/// Answers the calls of one connection.
struct Calls<S> {
    service: S,
    peer: TcpConnectInfo,
}

impl<S> hyper::service::Service<http::Request<Inbound>> for Calls<S>
where
    S: Service<http::Request<Inbound>, Response = http::Response<Body>, Error = Infallible> + Clone,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn call(&self, mut request: http::Request<Inbound>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        // What tonic generates is always ready.
        self.service.clone().call(request)
    }
}
