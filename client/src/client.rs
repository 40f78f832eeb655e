//! A cluster as one thing to talk to.
//!
//! Owns the connections, the metadata cache and the coordinators found. Producers, consumers and admins share a [`Client`], each
//! on lanes (sets of connections) of its own: a broker answers one connection in order, so a parked fetch must not stand before a produce.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flumen_protocol::codec::Request;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{BrokerId, TopicId};
use flumen_protocol::message::metadata_request::MetadataRequestTopic;
use flumen_protocol::message::{FindCoordinatorRequest, MetadataRequest, MetadataResponse};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::ClientConfig;
use crate::connection::Connection;
use crate::error::{ClientError, Failure, refused};
use crate::metadata::{Endpoint, Leader, Metadata};
use crate::runtime::{self, Chance};

/// Who shall answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node<'a> {
    /// Any broker.
    Any,
    /// The active controller (any broker forwards to it, but it answers first hand).
    Controller,
    /// This broker.
    Broker(BrokerId),
    /// The coordinator of this consumer group.
    GroupCoordinator(&'a str),
    /// The coordinator of this transactional id.
    TransactionCoordinator(&'a str),
}

/// A set of connections used by one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane(u32);

/// Metadata, coordinators and whatever is answered at once.
pub(crate) const SHARED: Lane = Lane(0);

/// A cluster. Cheap to clone; the clones share connections and what is known of the cluster.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ClientConfig,
    bootstrap: Vec<Endpoint>,
    metadata: Mutex<Metadata>,
    refreshing: tokio::sync::Mutex<Option<Instant>>,
    slots: Mutex<BTreeMap<(BrokerId, Lane), Arc<Slot>>>,
    coordinators: Mutex<BTreeMap<(i8, String), BrokerId>>,
    next_lane: AtomicU32,
    chance: Mutex<Chance>,
}

/// The connection of one lane to one broker.
#[derive(Debug, Default)]
struct Slot {
    /// Held while one caller connects; the others wait for the result.
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Debug, Default)]
struct SlotState {
    open: Option<(Endpoint, Arc<Connection>)>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Client {
    /// Finds a cluster: asks the bootstrap servers until one answers, for as long as the connect time-out.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: no server, or not `host:port`. [`ClientError::Unavailable`]: none answered.
    pub async fn connect(config: ClientConfig) -> Result<Client, ClientError> {
        let bootstrap = config
            .bootstrap_servers
            .iter()
            .map(|server| parse_server(server))
            .collect::<Result<Vec<Endpoint>, ClientError>>()?;
        if bootstrap.is_empty() {
            return Err(ClientError::invalid(
                "bootstrap.servers",
                "no server is named",
            ));
        }
        let chance = Mutex::new(Chance::new(config.seed.unwrap_or_else(runtime::seed)));
        let client = Client(Arc::new(Inner {
            bootstrap,
            metadata: Mutex::new(Metadata::default()),
            refreshing: tokio::sync::Mutex::new(None),
            slots: Mutex::new(BTreeMap::new()),
            coordinators: Mutex::new(BTreeMap::new()),
            next_lane: AtomicU32::new(1),
            chance,
            config,
        }));
        let mut retry = client.retry_for(client.0.config.connect_timeout);
        loop {
            match client.refresh_metadata().await {
                Ok(()) => return Ok(client),
                Err(error) if error.is_retriable() && retry.again().await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The options it was made with.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.0.config
    }

    /// The id of the cluster, as its brokers state it.
    #[must_use]
    pub fn cluster_id(&self) -> Option<String> {
        self.0.metadata.lock().cluster_id().map(str::to_owned)
    }

    /// Sends one request and returns the answer, in the newest version both sides know. Nothing is retried, and error codes inside the
    /// answer are the caller's to read.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`]: no connection, or no such coordinator now. [`ClientError::Timeout`]: no answer.
    /// [`ClientError::Unsupported`]: the broker does not know the API, or not the fields used.
    pub async fn send<R: Request>(
        &self,
        to: Node<'_>,
        request: R,
    ) -> Result<R::Response, ClientError> {
        let connection = self.connection(to, SHARED).await?;
        let version = connection.version(R::API, i16::MAX)?;
        connection.request(version, &request).await
    }

    /// The number of partitions of a topic. Asks the cluster if it is not known yet.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]: there is no such topic (and it is not created by asking).
    /// [`ClientError::Unavailable`]: not known in time.
    pub async fn partitions_of(&self, topic: &str) -> Result<i32, ClientError> {
        if let Some(count) = self.with_metadata(|metadata| metadata.partition_count(topic)) {
            return Ok(count);
        }
        self.want(topic);
        let mut retry = self.retry();
        // A topic that is being created is unknown for a moment.
        let patience = runtime::now() + UNKNOWN_TOPIC_PATIENCE;
        loop {
            let refreshed = self.refresh_metadata().await;
            let (count, code) = self.with_metadata(|metadata| {
                (metadata.partition_count(topic), metadata.topic_error(topic))
            });
            if let Some(count) = count {
                return Ok(count);
            }
            let subject = format!("topic {topic}");
            let error = match (refreshed, code) {
                (Err(error), _) => error,
                (Ok(()), Some(code)) => refused(code, subject).map(|at| at.in_api("Metadata")),
                (Ok(()), None) => {
                    let failure = Failure::new(subject, "no partitions known");
                    ClientError::Unavailable(failure.in_api("Metadata"))
                }
            };
            let patient = match &error {
                ClientError::NotFound(_) => runtime::now() < patience,
                error => error.is_retriable(),
            };
            if !patient || !retry.again().await {
                return Err(error);
            }
        }
    }

    // ---- what producers, consumers and admins use

    pub(crate) fn new_lane(&self) -> Lane {
        Lane(self.0.next_lane.fetch_add(1, Ordering::Relaxed))
    }

    /// Closes the connections of a lane.
    pub(crate) fn close_lane(&self, lane: Lane) {
        self.0.slots.lock().retain(|(_, of), _| *of != lane);
    }

    pub(crate) fn with_metadata<T>(&self, look: impl FnOnce(&mut Metadata) -> T) -> T {
        look(&mut self.0.metadata.lock())
    }

    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<Leader> {
        self.0.metadata.lock().leader(topic, partition)
    }

    /// From now on refreshes ask about this topic.
    pub(crate) fn want(&self, topic: &str) {
        self.0.metadata.lock().want(topic);
    }

    pub(crate) fn wall_ms(&self) -> i64 {
        self.0
            .config
            .wall_clock
            .map_or_else(runtime::wall_ms, |clock| clock())
    }

    pub(crate) fn seed(&self) -> u64 {
        self.0.chance.lock().next_u64()
    }

    pub(crate) fn retry(&self) -> Retry {
        self.retry_for(self.0.config.api_timeout)
    }

    pub(crate) fn retry_for(&self, timeout: Duration) -> Retry {
        Retry {
            deadline: runtime::now() + timeout,
            backoff: self.0.config.retry_backoff,
            max: self.0.config.retry_backoff_max,
            chance: Chance::new(self.seed()),
        }
    }

    /// Asks the cluster again, unless somebody else did so while this call waited for its turn.
    pub(crate) async fn refresh_metadata(&self) -> Result<(), ClientError> {
        let asked = runtime::now();
        let mut refreshed = self.0.refreshing.lock().await;
        if refreshed.is_some_and(|at| at > asked) {
            return Ok(());
        }
        let topics = self.with_metadata(|metadata| metadata.wanted());
        let started = runtime::now();
        let response = self.fetch_metadata(Some(&topics)).await?;
        self.0.metadata.lock().on_response(&response);
        *refreshed = Some(started);
        Ok(())
    }

    /// Metadata of some topics, or of all. Does not touch the cache.
    pub(crate) async fn fetch_metadata(
        &self,
        topics: Option<&[String]>,
    ) -> Result<MetadataResponse, ClientError> {
        let connection = self.connection(Node::Any, SHARED).await?;
        let version = connection.version(MetadataRequest::API, i16::MAX)?;
        let named = |name: &String| MetadataRequestTopic {
            name: Some(name.clone()),
            topic_id: TopicId::NIL,
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            allow_auto_topic_creation: version < 4 || self.0.config.allow_auto_topic_creation,
            ..MetadataRequest::default()
        };
        let response = connection.request(version, &request).await?;
        match ErrorCode::from_code(response.error_code) {
            ErrorCode::None => Ok(response),
            code => Err(refused(code, "cluster")
                .map(|failure| failure.in_api("Metadata").at_broker(connection.label()))),
        }
    }

    /// Takes over the new leader that a refusal named.
    pub(crate) fn on_leader_hint(
        &self,
        (topic, partition): (&str, i32),
        leader: Leader,
        endpoint: Option<(&str, i32)>,
    ) {
        let mut metadata = self.0.metadata.lock();
        if metadata.on_leader_hint(topic, partition, leader)
            && let Some((host, port)) = endpoint
        {
            metadata.add_broker(leader.broker, host, port);
        }
    }

    /// An open connection of a lane.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`]: none could be opened now; try again.
    pub(crate) async fn connection(
        &self,
        to: Node<'_>,
        lane: Lane,
    ) -> Result<Arc<Connection>, ClientError> {
        match to {
            Node::Any => self.any_connection(lane).await,
            Node::Broker(id) => self.broker_connection(id, lane).await,
            Node::Controller => match self.with_metadata(|metadata| metadata.controller()) {
                Some(id) => self.broker_connection(id, lane).await,
                None => self.any_connection(lane).await,
            },
            Node::GroupCoordinator(group) => {
                let id = self.coordinator(GROUP, group).await?;
                self.broker_connection(id, lane).await
            }
            Node::TransactionCoordinator(id) => {
                let id = self.coordinator(TRANSACTION, id).await?;
                self.broker_connection(id, lane).await
            }
        }
    }

    /// Known brokers first, in an order by chance; then the bootstrap servers.
    async fn any_connection(&self, lane: Lane) -> Result<Arc<Connection>, ClientError> {
        let mut candidates: Vec<BrokerId> = self.with_metadata(|known| known.brokers().collect());
        {
            let open = self.0.slots.lock();
            // A broker that has a connection answers at once.
            candidates.sort_by_key(|id| !open.contains_key(&(*id, lane)));
            if candidates
                .first()
                .is_none_or(|id| !open.contains_key(&(*id, lane)))
            {
                let turn = self.0.chance.lock().below(candidates.len());
                candidates.rotate_left(turn);
            }
        }
        candidates.extend((0..self.0.bootstrap.len()).map(bootstrap_id));
        let mut last = None;
        for id in candidates {
            match self.broker_connection(id, lane).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::invalid("bootstrap.servers", "no server is named")))
    }

    async fn broker_connection(
        &self,
        id: BrokerId,
        lane: Lane,
    ) -> Result<Arc<Connection>, ClientError> {
        let Some(endpoint) = self.endpoint(id) else {
            let failure = Failure::new(format!("broker {id}"), "not in the cluster's metadata");
            return Err(ClientError::Unavailable(failure));
        };
        let slot = Arc::clone(self.0.slots.lock().entry((id, lane)).or_default());
        let mut state = slot.state.lock().await;
        if let Some((at, connection)) = &state.open
            && *at == endpoint
            && connection.is_open()
        {
            return Ok(Arc::clone(connection));
        }
        state.open = None;
        runtime::wait_for(state.not_before).await;
        let label = match id {
            id if id < 0 => format!("{}:{}", endpoint.host, endpoint.port),
            id => format!("{id} ({}:{})", endpoint.host, endpoint.port),
        };
        match Connection::open(&self.0.config, label, &endpoint).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                state.failures = 0;
                // Should it be lost at once, the next attempt waits a little.
                state.not_before = Some(runtime::now() + self.0.config.retry_backoff);
                state.open = Some((endpoint, Arc::clone(&connection)));
                Ok(connection)
            }
            Err(error) => {
                let backoff = self.0.config.retry_backoff * 2_u32.pow(state.failures.min(6));
                let backoff = backoff.min(self.0.config.retry_backoff_max);
                let backoff = self.0.chance.lock().jitter(backoff);
                state.failures += 1;
                state.not_before = Some(runtime::now() + backoff);
                Err(error)
            }
        }
    }

    fn endpoint(&self, id: BrokerId) -> Option<Endpoint> {
        match usize::try_from(-1 - i64::from(id)) {
            Ok(index) => self.0.bootstrap.get(index).cloned(),
            Err(_) => self.0.metadata.lock().endpoint(id).cloned(),
        }
    }

    /// Forgets a coordinator that said it is none, or does not answer.
    pub(crate) fn forget_coordinator(&self, of: Node<'_>) {
        let key = match of {
            Node::GroupCoordinator(group) => (GROUP, group.to_owned()),
            Node::TransactionCoordinator(id) => (TRANSACTION, id.to_owned()),
            _ => return,
        };
        self.0.coordinators.lock().remove(&key);
    }

    async fn coordinator(&self, kind: i8, key: &str) -> Result<BrokerId, ClientError> {
        if let Some(id) = self.0.coordinators.lock().get(&(kind, key.to_owned())) {
            return Ok(*id);
        }
        let connection = self.any_connection(SHARED).await?;
        let version = connection.version(FindCoordinatorRequest::API, i16::MAX)?;
        let request = match version {
            4.. => FindCoordinatorRequest {
                key_type: kind,
                coordinator_keys: vec![key.to_owned()],
                ..FindCoordinatorRequest::default()
            },
            _ => FindCoordinatorRequest {
                key: key.to_owned(),
                key_type: kind,
                ..FindCoordinatorRequest::default()
            },
        };
        let response = connection.request(version, &request).await?;
        let (code, id, host, port) = match response.coordinators.first() {
            Some(found) => (
                found.error_code,
                found.node_id,
                found.host.clone(),
                found.port,
            ),
            None => (
                response.error_code,
                response.node_id,
                response.host.clone(),
                response.port,
            ),
        };
        let code = ErrorCode::from_code(code);
        if code != ErrorCode::None {
            let subject = match kind {
                GROUP => format!("group {key}"),
                _ => format!("transactional id {key}"),
            };
            return Err(refused(code, subject).map(|failure| {
                failure
                    .in_api("FindCoordinator")
                    .at_broker(connection.label())
            }));
        }
        self.0.metadata.lock().add_broker(id, &host, port);
        self.0
            .coordinators
            .lock()
            .insert((kind, key.to_owned()), id);
        Ok(id)
    }
}

/// `FindCoordinator.key_type`.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// How long an unknown topic may still be one that is being created.
const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(5);

/// Bootstrap servers have no id until they say so.
fn bootstrap_id(index: usize) -> BrokerId {
    -1 - BrokerId::try_from(index).unwrap_or(0)
}

fn parse_server(server: &str) -> Result<Endpoint, ClientError> {
    let wrong =
        || ClientError::invalid("bootstrap.servers", format!("`{server}` is not host:port"));
    let (host, port) = server.rsplit_once(':').ok_or_else(wrong)?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = port.parse().map_err(|_| wrong())?;
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(Endpoint { host, port })
}

/// Attempts with growing pauses until a deadline.
#[derive(Debug)]
pub(crate) struct Retry {
    deadline: Instant,
    backoff: Duration,
    max: Duration,
    chance: Chance,
}

impl Retry {
    /// Waits before the next attempt; false if there is no time for one.
    pub(crate) async fn again(&mut self) -> bool {
        let pause = self.chance.jitter(self.backoff);
        if runtime::now() + pause >= self.deadline {
            return false;
        }
        runtime::sleep(pause).await;
        self.backoff = (self.backoff * 2).min(self.max);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_host_and_port() {
        let endpoint = |host: &str, port| Endpoint {
            host: host.to_owned(),
            port,
        };
        assert_eq!(parse_server("kafka-1:9092"), Ok(endpoint("kafka-1", 9092)));
        assert_eq!(parse_server("[::1]:9092"), Ok(endpoint("::1", 9092)));
        for wrong in ["kafka-1", ":9092", "kafka-1:x", "kafka-1:70000"] {
            assert!(
                matches!(parse_server(wrong), Err(ClientError::Invalid(_))),
                "{wrong}"
            );
        }
    }
}
