//! A door for `tests/fuzz` to the REST API without a socket. The product does not call it.

use std::sync::Arc;

use flumen_client::Client;

use crate::registry::Registry;
use crate::worker::{Worker, WorkerConfig};

/// A worker that knows of no connector and runs none, and all its routes. The routes answer as long as the worker lives.
pub fn idle_worker(client: Client, registry: Registry) -> (Worker, axum::Router) {
    let worker = Worker::idle(client, WorkerConfig::new("nowhere:9092"), registry, None);
    let routes = crate::rest::router(Arc::downgrade(worker.inner()));
    (worker, routes)
}
