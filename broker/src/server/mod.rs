//! The listening socket: accepts connections within limits, and lets them go at the end.
//!
//! Owns the counts of connections and of request bytes held in memory. Knows nothing of requests: each connection runs
//! `connection.rs` as its own task.

pub(crate) mod connection;
pub(crate) mod vigil;
pub(crate) mod writer;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Instant;
use crate::driver::{Listener, Socket};
use crate::node::Node;
use connection::Connection;

/// Request memory is counted in units of this many bytes.
pub(crate) const MEMORY_UNIT: usize = 1024;
/// After the listener failed (usually: no file descriptors left), wait this long before the next accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A failure so long after the last one is told again.
const ACCEPT_QUIET: Duration = Duration::from_secs(60);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) node: Arc<Node>,
    /// Request bytes that may be in memory, in [`MEMORY_UNIT`]s.
    pub(crate) request_memory: Arc<Semaphore>,
    /// How many units there are in all: a single request takes at most this.
    pub(crate) request_memory_units: usize,
    /// Bytes of answers that wait for their peers to read them.
    pub(crate) answer_bytes: AtomicUsize,
    /// Cancelled when the broker stops.
    pub(crate) stop: CancellationToken,
    /// Where the listener is, for sockets that do not know their own address.
    pub(crate) local_addr: SocketAddr,
    connections: Mutex<Connections>,
    refusals: Mutex<Refusals>,
}

/// Lines in the log about connections that were closed for what they sent: whoever sends garbage must not fill the disk with them.
#[derive(Debug, Default)]
struct Refusals {
    since: Option<Instant>,
    count: u64,
}

/// Lines about closed connections in each [`REFUSALS_EACH`].
const REFUSALS_MAX: u64 = 20;
const REFUSALS_EACH: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Connections {
    all: usize,
    by_ip: BTreeMap<IpAddr, usize>,
    /// Whether the present refusals have been logged.
    refusing: bool,
}

impl Server {
    pub(crate) fn new(
        node: Arc<Node>,
        stop: CancellationToken,
        local_addr: SocketAddr,
    ) -> Arc<Server> {
        let configured =
            usize::try_from(node.config.queued_max_request_bytes).unwrap_or(DEFAULT_REQUEST_MEMORY);
        let units =
            (configured / MEMORY_UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Arc::new(Server {
            node,
            request_memory: Arc::new(Semaphore::new(units)),
            request_memory_units: units,
            answer_bytes: AtomicUsize::new(0),
            stop,
            local_addr,
            connections: Mutex::new(Connections::default()),
            refusals: Mutex::new(Refusals::default()),
        })
    }

    /// Accepts until the broker stops; `tracker` counts the connections that are still open.
    pub(crate) async fn accept(self: Arc<Self>, listener: Box<dyn Listener>, tracker: TaskTracker) {
        let mut failed_at: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.welcome(socket, peer, &tracker),
                // The peer was gone before it was welcomed: no reason to keep the next one waiting.
                Err(error) if is_of_one_peer(&error) => {}
                Err(error) => {
                    // Near the limit every connection that ends lets one more in: that is the same trouble still.
                    let now = self.node.drivers.clock.now();
                    if failed_at.is_none_or(|at| now.duration_since(at) > ACCEPT_QUIET) {
                        tracing::error!(%error, "cannot accept connections; trying again until it works");
                    }
                    failed_at = Some(now);
                    self.node.drivers.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn welcome(self: &Arc<Self>, socket: Box<dyn Socket>, peer: SocketAddr, tracker: &TaskTracker) {
        let Some(place) = self.take_place(peer.ip()) else {
            return;
        };
        let server = Arc::clone(self);
        let task = async move {
            let open = &server.node.metrics.connections;
            open.fetch_add(1, Ordering::Relaxed);
            Connection::new(&server, socket, peer).run().await;
            open.fetch_sub(1, Ordering::Relaxed);
            drop(place);
        };
        self.node
            .drivers
            .spawn("connection", tracker.track_future(task));
    }

    /// Says in the log why a connection was closed, so often and no more.
    fn refused(&self, now: Instant, peer: SocketAddr, why: &str) {
        let mut refusals = self.refusals.lock();
        if refusals
            .since
            .is_none_or(|since| since + REFUSALS_EACH <= now)
        {
            let untold = refusals.count.saturating_sub(REFUSALS_MAX);
            if untold > 0 {
                tracing::info!(untold, "more connections were closed for what they sent");
            }
            (refusals.since, refusals.count) = (Some(now), 0);
        }
        refusals.count += 1;
        if refusals.count <= REFUSALS_MAX {
            tracing::info!(%peer, %why, "connection closed");
        }
    }

    fn take_place(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let config = self.node.live_config();
        let limit = |n: i32| usize::try_from(n).unwrap_or(0);
        let mut connections = self.connections.lock();
        let of_ip = connections.by_ip.get(&ip).copied().unwrap_or(0);
        if connections.all >= limit(config.max_connections)
            || of_ip >= limit(config.max_connections_per_ip)
        {
            if !std::mem::replace(&mut connections.refusing, true) {
                tracing::warn!(
                    %ip, all = connections.all, from_this_address = of_ip,
                    "too many connections: refusing more (max.connections, max.connections.per.ip)"
                );
            }
            return None;
        }
        connections.all += 1;
        *connections.by_ip.entry(ip).or_default() += 1;
        Some(Place {
            server: Arc::clone(self),
            ip,
        })
    }
}

/// What `queued.max.request.bytes` is where it is not set: room for five of the largest requests.
const DEFAULT_REQUEST_MEMORY: usize = 512 << 20;

/// One connection's place among the allowed ones.
struct Place {
    server: Arc<Server>,
    ip: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.server.connections.lock();
        connections.all -= 1;
        let limit =
            usize::try_from(self.server.node.live_config().max_connections_per_ip).unwrap_or(0);
        // Said again only after it has become quiet: a place that comes and goes is no news.
        if connections.all <= limit / 2 {
            connections.refusing = false;
        }
        if let Some(count) = connections.by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                connections.by_ip.remove(&self.ip);
            }
        }
    }
}

/// Whether accepting failed for one peer only (Linux hands out what the network said about it); else the listener has a problem.
fn is_of_one_peer(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, InvalidInput,
        NetworkUnreachable, NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | InvalidInput
            | NetworkUnreachable
            | NotConnected
    )
}
