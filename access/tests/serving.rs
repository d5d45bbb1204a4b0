//! Calls over real connections: how messages are framed, and who is let go when.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use access::listener::{Listener, Metrics, Options};
use access::serving::{self, Bounds};
use prost_types::Any;
use proto::codec::SmallBuffers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::{Body as _, BoxFuture, Service, StdError, http};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

const LIMIT: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(30);
/// What a client begins with: the preface of HTTP/2, and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Answers with what it is told, and with the address of whoever tells it. The call `/wait` takes until it may end.
#[derive(Clone)]
struct Echo {
    entered: Arc<Semaphore>,
    may_end: Arc<Semaphore>,
}

impl<B> Service<http::Request<B>> for Echo
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            if request.uri().path() == "/wait" {
                echo.entered.add_permits(1);
                echo.may_end.acquire().await.unwrap().forget();
            }
            let codec = SmallBuffers::<Any, Any>::default();
            let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(LIMIT);
            Ok(grpc.unary(Answers, request).await)
        })
    }
}

struct Answers;

impl tonic::server::UnaryService<Any> for Answers {
    type Response = Any;
    type Future = std::future::Ready<Result<Response<Any>, Status>>;

    fn call(&mut self, request: Request<Any>) -> Self::Future {
        let type_url = request.remote_addr().unwrap().to_string();
        std::future::ready(Ok(Response::new(Any { type_url, ..request.into_inner() })))
    }
}

struct Server {
    addr: SocketAddr,
    metrics: Metrics,
    stop: CancellationToken,
    tasks: TaskTracker,
    serving: JoinSet<Result<(), Infallible>>,
    echo: Echo,
}

impl Server {
    fn start(bounds: Bounds) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Options::default()).unwrap();
        let (addr, metrics) = (listener.local_addr(), listener.metrics());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let incoming = listener.accept(&tasks, stop.clone());
        let echo = Echo { entered: Arc::new(Semaphore::new(0)), may_end: Arc::new(Semaphore::new(0)) };
        let mut serving = JoinSet::new();
        serving.spawn(serving::serve(echo.clone(), incoming, bounds, stop.clone()));
        Self { addr, metrics, stop, tasks, serving, echo }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.addr)).unwrap().connect().await.unwrap()
    }

    /// A peer that says this, and then nothing.
    async fn peer(&self, says: &[u8]) -> TcpStream {
        let mut peer = TcpStream::connect(self.addr).await.unwrap();
        peer.write_all(says).await.unwrap();
        peer
    }

    /// Calls `/wait`, and goes on when that is under way.
    async fn call_under_way(&self, channel: &Channel) -> JoinSet<Result<Any, Status>> {
        let mut calls = JoinSet::new();
        let channel = channel.clone();
        calls.spawn(async move { call(&channel, "/wait", b"slow").await });
        within(self.echo.entered.acquire()).await.unwrap().forget();
        calls
    }

    async fn ended(mut self) {
        within(self.serving.join_next()).await.unwrap().unwrap().unwrap();
        self.tasks.close();
        within(self.tasks.wait()).await;
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes in time")
}

async fn call(channel: &Channel, path: &'static str, value: &[u8]) -> Result<Any, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let request = Request::new(Any { value: value.to_vec(), type_url: String::new() });
    let codec = SmallBuffers::<Any, Any>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    grpc.unary(request, path, codec).await.map(Response::into_inner)
}

/// An answer as it comes.
#[derive(Debug, Default)]
struct Raw {
    /// The status, where there is nothing but headers.
    headers: Option<String>,
    bytes: Vec<u8>,
    /// The status behind the answer.
    trailers: Option<String>,
}

/// Sends these pieces, a frame of HTTP/2 each.
async fn send_pieces(channel: &Channel, encoding: Option<&str>, pieces: Vec<Vec<u8>>) -> Raw {
    let pieces = pieces.into_iter().map(Ok::<_, Infallible>);
    let body = Body::new(axum::body::Body::from_stream(futures::stream::iter(pieces)));
    let mut request = http::Request::post("/echo").header("content-type", "application/grpc");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let mut channel = channel.clone();
    poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let response = channel.call(request.body(body).unwrap()).await.unwrap();
    let status = |of: &http::HeaderMap| of.get("grpc-status").map(|value| value.to_str().unwrap().to_owned());
    let mut raw = Raw { headers: status(response.headers()), ..Raw::default() };
    let mut body = response.into_body();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.unwrap().into_data() {
            Ok(bytes) => raw.bytes.extend_from_slice(&bytes),
            Err(frame) => raw.trailers = status(frame.trailers_ref().unwrap()),
        }
    }
    raw
}

/// A message as gRPC frames it.
fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flag], &length.to_be_bytes()[..], message].concat()
}

fn encoded(bytes: usize) -> Vec<u8> {
    let value = (0..bytes).map(|n| n as u8).collect();
    prost::Message::encode_to_vec(&Any { value, type_url: String::new() })
}

#[tokio::test]
async fn a_message_is_understood_however_its_bytes_are_cut_and_its_status_comes_behind_it() {
    let server = Server::start(Bounds::default());
    let channel = server.channel().await;
    // Small, beyond what is copied into a buffer, beyond what a buffer holds before it goes on its way.
    for bytes in [0, 1, 300, 9 << 10, 40 << 10] {
        let message = framed(0, &encoded(bytes));
        for piece in [1, 4, 5, 6, 7, 1000, message.len()] {
            // A frame for each byte of a large message takes long, and tells nothing new.
            let piece = piece.max(message.len() / 200);
            let pieces = message.chunks(piece).map(<[u8]>::to_vec).collect();
            let raw = within(send_pieces(&channel, None, pieces)).await;
            assert_eq!((raw.headers, raw.trailers.as_deref()), (None, Some("0")), "{bytes} in {piece}");
            let length = u32::from_be_bytes(raw.bytes[1..5].try_into().unwrap()) as usize;
            assert_eq!((raw.bytes[0], length), (0, raw.bytes.len() - 5), "one message, not compressed");
            let answer: Any = prost::Message::decode(&raw.bytes[5..]).unwrap();
            assert_eq!(answer.value, (0..bytes).map(|n| n as u8).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_the_connection_goes_on() {
    let server = Server::start(Bounds::default());
    let channel = server.channel().await;
    let first = call(&channel, "/echo", b"a").await.unwrap();
    let too_large = framed(0, &encoded(LIMIT));
    let cases: [(&str, Option<&str>, Vec<u8>, Code); 8] = [
        ("too large", None, too_large.clone(), Code::OutOfRange),
        ("said to be too large", None, too_large[..5].to_vec(), Code::OutOfRange),
        ("compressed, with no word how", None, framed(1, &encoded(3)), Code::Internal),
        ("compressed", Some("gzip"), framed(1, &encoded(3)), Code::Unimplemented),
        ("an unknown flag", None, framed(2, &encoded(3)), Code::Internal),
        ("cut off", None, framed(0, &encoded(3))[..6].to_vec(), Code::Internal),
        ("not of this type", None, framed(0, b"\xff\xff"), Code::Internal),
        ("nothing", None, Vec::new(), Code::Internal),
    ];
    for (case, encoding, bytes, code) in cases {
        let pieces = if bytes.is_empty() { Vec::new() } else { vec![bytes] };
        let raw = within(send_pieces(&channel, encoding, pieces)).await;
        let status = raw.headers.or(raw.trailers);
        assert_eq!(status, Some((code as i32).to_string()), "{case}");
        assert_eq!(raw.bytes, b"", "{case}");
        let next = call(&channel, "/echo", b"b").await.unwrap();
        assert_eq!(next.type_url, first.type_url, "{case}: over the same connection");
    }
}

#[tokio::test]
async fn a_peer_that_never_calls_is_let_go_and_one_that_called_may_be_idle() {
    let bounds = Bounds { first_call_within: Duration::from_millis(300), ..Bounds::default() };
    let server = Server::start(bounds);
    let channel = server.channel().await;
    let before = call(&channel, "/echo", b"").await.unwrap().type_url;
    let mut end = Vec::new();
    for says in [&b"P"[..], PREFACE] {
        let mut silent = server.peer(says).await;
        // An end, or a reset.
        within(silent.read_to_end(&mut end)).await.ok();
    }
    assert_eq!(server.metrics.open_connections(), 1);
    assert_eq!(call(&channel, "/echo", b"").await.unwrap().type_url, before, "the same connection");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_idle_peers_that_are_gone() {
    let server = Server::start(Bounds { drain: PATIENCE * 2, ..Bounds::default() });
    let channel = server.channel().await;
    call(&channel, "/echo", b"").await.unwrap();
    let mut gone = server.peer(PREFACE).await;
    // What a server begins with: it has heard the preface. No more is read.
    within(gone.read_exact(&mut [0; 9])).await.unwrap();
    let silent = server.peer(b"P").await;
    while server.metrics.open_connections() < 3 {
        tokio::task::yield_now().await;
    }
    server.stop.cancel();
    server.ended().await;
    drop((gone, silent));
}

#[tokio::test]
async fn a_call_that_is_under_way_at_a_stop_is_answered() {
    let mut server = Server::start(Bounds { drain: PATIENCE, ..Bounds::default() });
    let channel = server.channel().await;
    let mut calls = server.call_under_way(&channel).await;
    server.stop.cancel();
    // Longer than whoever has no call under way is waited for.
    let early = tokio::time::timeout(Duration::from_secs(2), server.serving.join_next()).await;
    assert!(early.is_err(), "a call is under way");
    server.echo.may_end.add_permits(1);
    assert_eq!(within(calls.join_next()).await.unwrap().unwrap().unwrap().value, b"slow");
    server.ended().await;
}

#[tokio::test]
async fn a_call_that_outlasts_the_drain_is_cut() {
    let server = Server::start(Bounds { drain: Duration::from_millis(100), ..Bounds::default() });
    let channel = server.channel().await;
    let mut calls = server.call_under_way(&channel).await;
    server.stop.cancel();
    within(calls.join_next()).await.unwrap().unwrap().unwrap_err();
    server.ended().await;
}
