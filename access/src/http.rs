//! The pages for Kubernetes and Prometheus: `/livez`, `/readyz` with the reasons when not, `/metrics`.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const MAX_CONNECTIONS: usize = 64;
/// For a request's header, and between two requests of a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Says why the process is not ready; nothing when it is.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// The metrics that are shown: none at first, for a process can take a while to start.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    now: Arc<RwLock<Registry>>,
    always: Arc<RwLock<Registry>>,
}

impl Shown {
    /// Shows these from now on, and what was set before no more.
    pub fn set(&self, registry: Registry) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = registry;
    }

    /// Shows these beside, whatever is set.
    pub fn set_always(&self, registry: Registry) {
        *self.always.write().unwrap_or_else(PoisonError::into_inner) = registry;
    }

    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        for registry in [&self.now, &self.always] {
            let registry = registry.read().unwrap_or_else(PoisonError::into_inner);
            encode_registry(&mut text, &registry)?;
        }
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// The metrics.
    pub registry: Shown,
    /// Asked at each `/readyz`; must answer at once.
    pub readiness: Readiness,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// The bound port of the pages.
#[derive(Debug)]
pub struct Server {
    socket: TcpListener,
    local_addr: SocketAddr,
}

impl Server {
    /// Binds `addr`.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(addr)
            .await
            .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {addr}: {e}")))?;
        let local_addr = socket.local_addr()?;
        Ok(Self { socket, local_addr })
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop`. Open requests are dropped then: they hold nothing.
    pub async fn serve(self, pages: Pages, stop: CancellationToken) {
        let router = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(pages);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let connections = TaskTracker::new();
        let accept = async {
            loop {
                let Ok((stream, _)) = self.socket.accept().await else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                // Beyond the cap it is closed at once.
                let Ok(place) = places.clone().try_acquire_owned() else { continue };
                let connection = serve_connection(stream, router.clone());
                let stop = stop.clone();
                connections.spawn(async move {
                    stop.run_until_cancelled(connection).await;
                    drop(place);
                });
            }
        };
        let _: Option<()> = stop.run_until_cancelled(accept).await;
        connections.close();
        connections.wait().await;
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await
    {
        tracing::debug!(error, "an http connection broke");
    }
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    let reasons = (pages.readiness)();
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.into_iter().map(|reason| reason + "\n").collect())
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    match pages.registry.text() {
        Ok(text) => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        ),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            error.to_string(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(addr: SocketAddr, page: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_pages_say_how_the_process_is() {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = server.local_addr();
        let is_ready = Arc::new(AtomicBool::new(false));
        let seen = is_ready.clone();
        let mut registry = Registry::default();
        let routes = Counter::<u64>::default();
        routes.inc();
        registry.register("gantry_routes", "Routes", routes);
        let shown = Shown::default();
        let pages = Pages {
            registry: shown.clone(),
            readiness: Arc::new(move || match seen.load(Ordering::SeqCst) {
                true => vec![],
                false => vec!["waiting for group a".to_owned(), "waiting for group b".to_owned()],
            }),
        };
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(server.serve(pages, stop.clone()));

        assert!(ask(addr, "/livez").await.starts_with("HTTP/1.1 200"));
        let not_ready = ask(addr, "/readyz").await;
        assert!(not_ready.starts_with("HTTP/1.1 503"), "{not_ready}");
        assert!(not_ready.ends_with("waiting for group a\nwaiting for group b\n"), "{not_ready}");
        is_ready.store(true, Ordering::SeqCst);
        assert!(ask(addr, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(addr, "/metrics").await.ends_with("# EOF\n"), "nothing is shown yet");
        shown.set(registry);
        assert!(ask(addr, "/metrics").await.contains("gantry_routes_total 1"));
        assert!(ask(addr, "/nothing").await.starts_with("HTTP/1.1 404"));

        // A connection that never asks does not keep the server from stopping.
        let _silent = TcpStream::connect(addr).await.unwrap();
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
