//! Connections of clients: accepted up to a cap, TLS and plaintext on one port.
//!
//! The first byte of a connection tells which it is: a TLS handshake begins with 0x16, HTTP/2 with
//! `P`. Official clients differ in their defaults (Java, Go and C# speak TLS and check nothing; Python and Node
//! speak plaintext), so one port takes both, with a certificate that the process signs itself unless it is given one.
//!
//! Each connection waits for its first byte and its handshake in a task of its own, for a bounded time, within
//! the cap: a peer that says nothing holds one place for a while, and blocks nobody.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::certificate::{Certificate, Files, Shown};

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// Accepted and not yet taken over by the server.
const READY_CONNECTIONS: usize = 64;
const BACKLOG: u32 = 1024;

/// Whether a port takes TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TlsMode {
    /// TLS and plaintext, as the client begins.
    #[default]
    Permissive,
    /// TLS only: a connection that begins otherwise is closed.
    Required,
    /// Plaintext only.
    Off,
}

impl TlsMode {
    /// As they are written in configurations.
    pub const NAMES: [(&str, Self); 3] =
        [("permissive", Self::Permissive), ("required", Self::Required), ("off", Self::Off)];
}

/// What a listener allows.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections at the same time; one more is closed at once.
    pub max_connections: usize,
    /// Whether TLS is taken.
    pub tls: TlsMode,
    /// The certificate; `None`: one is made.
    pub certificate: Option<Files>,
    /// How long a peer may take to say its first byte and to finish its handshake.
    pub handshake_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            tls: TlsMode::default(),
            certificate: None,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// How TLS is spoken.
#[derive(Clone)]
struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
    required: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("required", &self.required).finish_non_exhaustive()
    }
}

impl Tls {
    fn new(options: &Options) -> io::Result<Self> {
        let certificate = Arc::new(Certificate::load(options.certificate.clone())?);
        // The provider is named: a process with two of them compiled in has no default.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as Arc<_>);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, certificate, required: options.tls == TlsMode::Required })
    }
}

/// What a listener counts. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    open: Gauge,
    refused: Counter,
    failed_handshakes: Counter,
}

impl Metrics {
    /// Shows the counts in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("gantry_connections", "Open connections of clients", self.open.clone());
        registry.register(
            "gantry_connections_refused",
            "Connections closed at once because there were too many",
            self.refused.clone(),
        );
        registry.register(
            "gantry_connection_handshakes_failed",
            "Connections that did not finish their handshake",
            self.failed_handshakes.clone(),
        );
    }

    /// Open connections now, those in their handshake included.
    pub fn open_connections(&self) -> u32 {
        self.open.get().try_into().unwrap_or(0)
    }
}

/// A connection, and who came.
pub type Arrived = (TcpStream, SocketAddr);

/// Where connections come from: a bound port, or whoever has bound it and hands them on.
#[derive(Debug)]
pub struct Port {
    source: Source,
    local_addr: SocketAddr,
}

#[derive(Debug)]
enum Source {
    Bound(TcpListener),
    Handed(mpsc::Receiver<Arrived>),
}

impl Port {
    /// Binds `addr`.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for connections of the last run to time out.
        socket.set_reuseaddr(true)?;
        // Accepted sockets inherit it; HTTP/2 pings find dead peers sooner.
        socket.set_keepalive(true)?;
        socket.bind(addr).map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {addr}: {e}")))?;
        let socket = socket.listen(BACKLOG)?;
        let local_addr = socket.local_addr()?;
        Ok(Self { source: Source::Bound(socket), local_addr })
    }

    /// What is sent there comes here; another has bound this address. A connection that is sent and not accepted is closed with the port.
    pub fn handed(local_addr: SocketAddr) -> (mpsc::Sender<Arrived>, Self) {
        let (hand, handed) = mpsc::channel(1);
        (hand, Self { source: Source::Handed(handed), local_addr })
    }

    /// The next connection. `None`: no more are handed on.
    pub async fn accept(&mut self) -> io::Result<Option<Arrived>> {
        match &mut self.source {
            Source::Bound(socket) => socket.accept().await.map(Some),
            Source::Handed(handed) => Ok(handed.recv().await),
        }
    }

    /// The bound address, its port chosen if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// A port, and what is allowed there.
#[derive(Debug)]
pub struct Listener {
    port: Port,
    tls: Option<Tls>,
    /// The certificate is another listener's, which looks after it.
    beside: bool,
    options: Options,
    places: Arc<Semaphore>,
    metrics: Metrics,
}

impl Listener {
    /// Binds `addr`.
    pub fn bind(addr: SocketAddr, options: Options) -> io::Result<Self> {
        Self::new(Port::bind(addr)?, options)
    }

    /// With TLS and no certificate, a key is made and its certificate signed here.
    pub fn new(port: Port, options: Options) -> io::Result<Self> {
        let places = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
        let tls = match options.tls {
            TlsMode::Permissive | TlsMode::Required => Some(Tls::new(&options)?),
            TlsMode::Off => None,
        };
        let metrics = Metrics::default();
        Ok(Self { port, tls, beside: false, options, places, metrics })
    }

    /// One more port, for the same clients: connections of both count together, and are shown the same certificate.
    pub fn beside(&self, port: Port, tls: TlsMode) -> io::Result<Self> {
        let options = Options { tls, ..self.options.clone() };
        let (tls, beside) = match (tls, &self.tls) {
            (TlsMode::Off, _) => (None, true),
            (TlsMode::Permissive | TlsMode::Required, Some(shared)) => {
                (Some(Tls { required: tls == TlsMode::Required, ..shared.clone() }), true)
            }
            (TlsMode::Permissive | TlsMode::Required, None) => (Some(Tls::new(&options)?), false),
        };
        let (places, metrics) = (Arc::clone(&self.places), self.metrics.clone());
        Ok(Self { port, tls, beside, options, places, metrics })
    }

    /// Where its clients come.
    pub fn local_addr(&self) -> SocketAddr {
        self.port.local_addr
    }

    /// The certificate that its clients are shown.
    pub fn certificate(&self) -> Shown {
        Shown::of(self.tls.as_ref().map(|tls| &tls.certificate))
    }

    /// What this listener counts.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Accepts until `stop`, in tasks of `tasks`. The connections are for [`serving`](crate::serving).
    pub fn accept(self, tasks: &TaskTracker, stop: CancellationToken) -> Incoming {
        let (ready, connections) = mpsc::channel(READY_CONNECTIONS);
        let handshakes = tasks.clone();
        if let Some(tls) = self.tls.as_ref().filter(|_| !self.beside) {
            tasks.spawn(Arc::clone(&tls.certificate).keep_fresh(stop.clone()));
        }
        tasks.spawn(async move {
            // Cancelled: the socket closes at once, so that peers are refused rather than left waiting.
            stop.clone().run_until_cancelled_owned(self.accept_loop(handshakes, ready, stop)).await;
        });
        Incoming { connections }
    }

    async fn accept_loop(
        mut self,
        tasks: TaskTracker,
        ready: mpsc::Sender<Connection>,
        stop: CancellationToken,
    ) {
        let local_addr = self.local_addr();
        loop {
            let (stream, peer) = match self.port.accept().await {
                Ok(Some(arrived)) => arrived,
                Ok(None) => return,
                Err(error) => {
                    // Out of file descriptors, mostly: others must close theirs first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                self.metrics.refused.inc();
                tracing::debug!(%peer, limit = self.options.max_connections, "too many connections");
                continue;
            };
            self.metrics.open.inc();
            let place = Place { _permit: place, open: self.metrics.open.clone() };
            let tls = self.tls.clone();
            let timeout = self.options.handshake_timeout;
            let failed = self.metrics.failed_handshakes.clone();
            let ready = ready.clone();
            let stop = stop.clone();
            tasks.spawn(async move {
                let shake = tokio::time::timeout(timeout, handshake(stream, tls));
                match stop.run_until_cancelled(shake).await {
                    Some(Ok(Ok(Some(io)))) => {
                        // The server is gone only when the process stops; then the connection goes too.
                        let connection =
                            Connection { io, info: connect_info(peer, local_addr), _place: place };
                        stop.run_until_cancelled(ready.send(connection)).await;
                    }
                    Some(Ok(Ok(None))) => {} // a probe: opened and closed
                    Some(Ok(Err(error))) => {
                        failed.inc();
                        tracing::debug!(%peer, %error, "handshake failed");
                    }
                    Some(Err(_)) => {
                        failed.inc();
                        tracing::debug!(%peer, "handshake took too long");
                    }
                    None => {}
                }
            });
        }
    }
}

/// Decides by the first byte. `None`: the peer closed without a word.
async fn handshake(stream: TcpStream, tls: Option<Tls>) -> io::Result<Option<Io>> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    match tls {
        Some(tls) if first[0] == TLS_HANDSHAKE => {
            Ok(Some(Io::Tls(Box::new(tls.acceptor.accept(stream).await?))))
        }
        Some(tls) if tls.required => {
            Err(io::Error::other("the client does not speak TLS, which this port requires"))
        }
        Some(_) | None => Ok(Some(Io::Plain(stream))),
    }
}

fn connect_info(peer: SocketAddr, local: SocketAddr) -> TcpConnectInfo {
    TcpConnectInfo { local_addr: Some(local), remote_addr: Some(peer) }
}

/// The accepted connections. Ends when the listener stops.
#[derive(Debug)]
pub struct Incoming {
    connections: mpsc::Receiver<Connection>,
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

/// A place within the cap; free again when dropped.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// An accepted connection, decrypted where need be.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    info: TcpConnectInfo,
    _place: Place,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self.io, Io::Tls(_))
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
