//! The pages for probes and for Prometheus: `/livez`, `/readyz`, `/metrics`.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use axum::{Router, extract::State, http::StatusCode, http::header, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// What the process waits for before it can do its work; `None` when it waits for nothing.
pub type WaitsFor = Option<String>;

#[derive(Clone)]
struct Pages {
    metrics: Arc<Metrics>,
    waits_for: watch::Receiver<WaitsFor>,
}

/// Takes the port. A port that is taken is told at once, not by a task that dies later.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: stop what listens there, or give another --http-listen")
    })
}

/// Answers until `stop`.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    waits_for: watch::Receiver<WaitsFor>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .with_state(Pages { metrics, waits_for });
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("the health pages ended")
}

async fn readyz(State(pages): State<Pages>) -> (StatusCode, String) {
    match &*pages.waits_for.borrow() {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason.clone()),
    }
}

async fn metrics_page(State(pages): State<Pages>) -> impl IntoResponse {
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], pages.metrics.text())
}
