//! What a request can reach: the parts of the running broker, joined once by [`Broker::start`](crate::Broker::start).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::config::{BrokerConfig, Endpoint};
use crate::coordinator::Coordinators;
use crate::dispatch::Context;
use crate::driver::Drivers;
use crate::metrics::Metrics;
use crate::partition::table::Partitions;
use crate::replicas::Replicas;

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Node {
    /// What the broker was started with.
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) drivers: Drivers,
    /// Kafka's text form of the cluster id; the same for ever.
    pub(crate) cluster_id: String,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) coordinators: Coordinators,
    pub(crate) metrics: Metrics,
    /// Cancelled when the broker stops: long polls answer with what they have.
    pub(crate) stop: CancellationToken,
    /// `advertised.listeners`, if it is set.
    pub(crate) advertised: Option<Endpoint>,
    /// Costly batches that may be opened at once, away from the tasks that serve sockets: they are large while they are open.
    pub(crate) openings: Arc<Semaphore>,
    /// Topics created so far: spreads the first partitions over the brokers.
    pub(crate) topics_created: AtomicUsize,
}

impl Node {
    /// Where the client of this request should connect to.
    ///
    /// `advertised.listeners` if it is set, else the address the client has just used, which is reachable by definition.
    pub(crate) fn endpoint(&self, context: &Context) -> Endpoint {
        self.advertised.clone().unwrap_or_else(|| Endpoint {
            host: context.peer.local.ip().to_canonical().to_string(),
            port: context.peer.local.port(),
        })
    }

    /// Why clients had better not be sent here, if there is a reason.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.stop.is_cancelled() {
            problems.push("the broker is stopping".to_owned());
        }
        if let Some(why) = self.replicas.fenced() {
            problems.push(format!(
                "the data directory takes no more writes until a restart: {why}"
            ));
        }
        let closed: usize = self
            .cluster
            .image()
            .topics()
            .map(|topic| {
                let open = self.partitions.topic_by_id(topic.id);
                let open = open.map_or(0, |open| open.partitions.iter().flatten().count());
                topic.partitions.len().saturating_sub(open)
            })
            .sum();
        if closed > 0 {
            problems.push(format!(
                "{closed} partitions have a log that cannot be opened"
            ));
        }
        problems
    }

    /// The configuration in force: [`Node::config`] with what was set at run time.
    pub(crate) fn live_config(&self) -> Arc<BrokerConfig> {
        self.replicas.live().now()
    }

    /// Where placement of the next topic starts.
    pub(crate) fn placement_start(&self) -> usize {
        self.topics_created.fetch_add(1, Ordering::Relaxed)
    }
}
