//! `/metrics` and `/health/{live,ready,startup}` for the people who run the broker, on a listener of its own.
//!
//! Started by `lib.rs` where `flumen.http.listener` is set. It reads, and changes nothing; it knows no password, so it belongs on the
//! loopback address or a network of its own. Unknown paths are 404, other methods 405.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::driver::{Listener, Socket};
use crate::metrics;
use crate::node::Node;

/// Prometheus' text format of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All routes.
pub(crate) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/startup", get(live))
        .with_state(node)
}

/// Serves until the broker stops.
pub(crate) async fn serve(listener: Box<dyn Listener>, node: Arc<Node>) {
    let stop = node.stop.clone();
    let served = axum::serve(Accept(listener), router(node))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics and health are not served any more");
    }
}

/// What health says: a word, and what is wrong.
#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    problems: Vec<String>,
}

/// It answers, so it lives; the listener opens when the start is over, so it has started.
async fn live() -> Json<Health> {
    Json(Health {
        status: "live",
        problems: Vec::new(),
    })
}

/// Whether clients can be sent here: every reason against it is named.
async fn ready(State(node): State<Arc<Node>>) -> Response {
    let problems = node.problems();
    let (code, status) = if problems.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    (code, Json(Health { status, problems })).into_response()
}

async fn metrics(State(node): State<Arc<Node>>) -> Response {
    match metrics::render(&node).await {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A listener of the broker's own kind, as axum takes it.
struct Accept(Box<dyn Listener>);

impl axum::serve::Listener for Accept {
    type Io = Box<dyn Socket>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Box<dyn Socket>, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                // Out of file descriptors, or a peer that has gone already: the next one may fare better.
                Err(error) => {
                    tracing::debug!(%error, "a connection for metrics was not accepted");
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
