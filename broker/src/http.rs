//! `/metrics` and `/health/{live,ready,startup}` for the people who run the broker, on a listener of its own.
//!
//! Started by `lib.rs` where `flumen.http.listener` is set. It reads, and changes nothing; it knows no password, so it belongs on the
//! loopback address or a network of its own. Unknown paths are 404, other methods 405.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;
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
    let accept = Accept {
        listener,
        clock: Arc::clone(&node.drivers.clock),
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    };
    let served = axum::serve(accept, router(node))
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

/// Connections at once; whoever comes then waits in the system's queue.
const CONNECTIONS_MAX: usize = 64;
/// A connection on which nothing moves for so long is closed (slow-loris); every answer is quicker.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// After an accept that failed, usually for want of a file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener of the broker's own kind, as axum takes it, within limits.
struct Accept {
    listener: Box<dyn Listener>,
    clock: Arc<dyn Clock>,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Accept {
    type Io = Guard;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guard, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((socket, addr)) => {
                    let clock = Arc::clone(&self.clock);
                    let silence = clock.sleep(SILENCE_MAX);
                    let guard = Guard {
                        socket,
                        clock,
                        silence,
                        _place: place,
                    };
                    return (guard, addr);
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection for metrics was not accepted");
                    self.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that counts how long nothing has moved.
struct Guard {
    socket: Box<dyn Socket>,
    clock: Arc<dyn Clock>,
    silence: BoxFuture<'static, ()>,
    _place: OwnedSemaphorePermit,
}

impl Guard {
    /// What a read or write said; an error if it has been saying nothing for too long.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        said: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if said.is_ready() {
            self.silence = self.clock.sleep(SILENCE_MAX);
            return said;
        }
        let silent = self.silence.as_mut().poll(context);
        silent.map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Guard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.socket).poll_read(context, buffer);
        self.judge(context, said)
    }
}

impl AsyncWrite for Guard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.judge(context, said)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
