//! The Flumen broker: partitions, cluster metadata, coordinators, server.
//!
//! A Kafka-compatible broker as a library: [`Broker::start`] makes the parts, joins them and returns when the socket takes
//! connections.
//!
//! ```no_run
//! use flumen_broker::config::BrokerConfig;
//! use flumen_broker::{Broker, Drivers};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = BrokerConfig::from_properties([("log.dirs", "/tmp/flumen"), ("listeners", "PLAINTEXT://127.0.0.1:0")])?;
//! let broker = Broker::start(config, Drivers::os()).await?;
//! println!("point any Kafka client at {}", broker.addr());
//! broker.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//! `server` reads frames and writes responses; `dispatch` is the one match from API key to `handlers`; handlers ask a
//! [`partition`], the [`cluster`] or a coordinator. `flush` makes appended records durable in groups. State machines
//! (`partition/leader`, `partition/pending`, `cluster/controller`, `cluster/image`, `coordinator`) are plain data; clock, disk,
//! network, randomness and tasks come in through [`Drivers`].

mod cleaner;
pub mod clock;
pub mod cluster;
pub mod config;
mod coordinator;
mod dispatch;
pub mod driver;
mod error;
mod flush;
#[doc(hidden)]
pub mod fuzz;
mod handlers;
mod http;
mod metrics;
mod node;
pub mod partition;
mod replicas;
mod scrub;
mod server;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::driver::Drivers;

use crate::cluster::controller::{RegisterBroker, SetFeatures};
use crate::cluster::record::BrokerRecord;
use crate::cluster::{Cluster, MetadataLog, MetadataLogError};
use crate::config::{BrokerConfig, ConfigError, Endpoint};
use crate::coordinator::{CoordinatorParts, Coordinators};
use crate::driver::Listener;
use crate::handlers::api_versions::INITIAL_FEATURES;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::replicas::Replicas;
use crate::server::Server;

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A property is wrong: correct it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address asked for.
        addr: String,
        /// What the system says.
        source: io::Error,
    },
    /// The data directory is in use by another broker, damaged or not accessible.
    #[error("data directory: {0}")]
    Storage(#[from] flumen_log::OpenError),
    /// The cluster's metadata cannot be read.
    #[error("cluster metadata: {0}")]
    Metadata(#[from] MetadataLogError),
    /// The broker could not write its own registration.
    #[error("cluster metadata cannot be written: {0}")]
    Register(String),
}

/// A running broker. Dropping it without [`Broker::shutdown`] is a crash: what was acknowledged is kept, the next start recovers.
#[derive(Debug)]
pub struct Broker {
    addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    node: Arc<Node>,
    replicas: Arc<Replicas>,
    connections: TaskTracker,
}

impl Broker {
    /// Opens the data directory, replays the metadata, opens every partition and takes connections.
    ///
    /// # Errors
    /// [`StartError`] says which part failed and why; nothing keeps running.
    pub async fn start(config: BrokerConfig, drivers: Drivers) -> Result<Broker, StartError> {
        let config = Arc::new(config);
        let advertised = config.advertised()?;
        if !config.without_effect.is_empty() {
            tracing::info!(keys = ?config.without_effect, "configured and without effect here");
        }
        let listener = bind(&config.listener()?, &drivers).await?;
        let addr = listener.local_addr().map_err(|source| StartError::Listen {
            addr: config.listeners.clone(),
            source,
        })?;

        let http = match config.http()? {
            Some(endpoint) => Some(bind(&endpoint, &drivers).await?),
            None => None,
        };
        let replicas = Replicas::open(Arc::clone(&config), drivers.clone()).await?;
        let metadata = replicas.metadata_log();
        let (log, image) = drivers
            .blocking(move || MetadataLog::open(metadata))
            .await?;
        replicas.open_all(&image).await?;
        let cluster = Cluster::new(Arc::clone(&config), log, image, Arc::clone(&replicas));
        register(&config, &cluster, advertised.as_ref(), addr, &drivers).await?;

        let stop = CancellationToken::new();
        replicas.start(&stop);
        let partitions = replicas.partitions();
        let coordinators = Coordinators::new(CoordinatorParts {
            config: Arc::clone(&config),
            drivers: drivers.clone(),
            partitions: Arc::clone(&partitions),
            cluster: Arc::clone(&cluster),
            stop: stop.clone(),
        });
        coordinators.start().await;
        let node = Arc::new(Node {
            config,
            drivers: drivers.clone(),
            cluster_id: replicas.cluster_id(),
            partitions,
            cluster,
            replicas: Arc::clone(&replicas),
            coordinators,
            stop: stop.clone(),
            advertised,
            openings: Arc::new(Semaphore::new(drivers.tasks.processors())),
            topics_created: AtomicUsize::new(0),
            metrics: Metrics::new(),
        });
        let http_addr = match http {
            Some(listener) => Some(serve_http(listener, &node)?),
            None => None,
        };
        let connections = TaskTracker::new();
        let server = Server::new(Arc::clone(&node), stop, addr);
        drivers.spawn(
            "accept",
            connections.track_future(server.accept(listener, connections.clone())),
        );
        tracing::info!(%addr, node = node.config.node_id, cluster = node.cluster_id, "broker started");
        Ok(Broker {
            addr,
            http_addr,
            node,
            replicas,
            connections,
        })
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where metrics and health are served, with the real port; `None` without `flumen.http.listener`.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Stops in order: no new requests, begun ones answered, coordinators stopped, logs flushed and marked clean.
    pub async fn shutdown(self) {
        self.node.stop.cancel();
        self.connections.close();
        self.connections.wait().await;
        self.node.coordinators.stop().await;
        self.replicas.close().await;
        tracing::info!(addr = %self.addr, "broker stopped");
    }
}

impl Drop for Broker {
    /// Connections end and no request is answered any more; nothing is flushed or closed.
    fn drop(&mut self) {
        self.node.stop.cancel();
    }
}

async fn bind(endpoint: &Endpoint, drivers: &Drivers) -> Result<Box<dyn Listener>, StartError> {
    let addr = format!("{}:{}", endpoint.host, endpoint.port);
    let fail = |source| StartError::Listen {
        addr: addr.clone(),
        source,
    };
    let ip = match endpoint.host.as_str() {
        "localhost" => std::net::Ipv4Addr::LOCALHOST.into(),
        host => host.parse().map_err(|_| {
            fail(io::Error::new(
                io::ErrorKind::InvalidInput,
                "listeners needs an IP address",
            ))
        })?,
    };
    drivers
        .network
        .bind(SocketAddr::new(ip, endpoint.port))
        .await
        .map_err(fail)
}

/// Starts metrics and health; where they listen.
fn serve_http(listener: Box<dyn Listener>, node: &Arc<Node>) -> Result<SocketAddr, StartError> {
    let addr = listener.local_addr().map_err(|source| StartError::Listen {
        addr: node.config.http_listener.clone(),
        source,
    })?;
    node.drivers
        .spawn("http", http::serve(listener, Arc::clone(node)));
    Ok(addr)
}

async fn register(
    config: &BrokerConfig,
    cluster: &Arc<Cluster>,
    advertised: Option<&Endpoint>,
    addr: SocketAddr,
    drivers: &Drivers,
) -> Result<(), StartError> {
    let endpoint = advertised.cloned().unwrap_or(Endpoint {
        host: addr.ip().to_string(),
        port: addr.port(),
    });
    let record = BrokerRecord {
        id: config.node_id,
        incarnation: drivers.random_id(),
        host: endpoint.host,
        port: endpoint.port,
        rack: Some(config.broker_rack.clone()).filter(|rack| !rack.is_empty()),
    };
    let refused = |refused: cluster::controller::Refused| StartError::Register(refused.message);
    cluster
        .propose(RegisterBroker(record))
        .await
        .map_err(refused)?;
    let missing = INITIAL_FEATURES
        .iter()
        .filter(|(name, _)| cluster.image().feature(name) == 0);
    let features = missing
        .map(|(name, level)| ((*name).to_owned(), *level))
        .collect();
    cluster
        .propose(SetFeatures(features))
        .await
        .map_err(refused)
}
