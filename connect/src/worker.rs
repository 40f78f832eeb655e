//! The worker: holds the connectors that shall run, makes them run, and writes down both.
//!
//! Owns the config topic's state (`state.rs`), the running connectors and their statuses. `rest.rs` and the binary call it; the operations that a user
//! asks for are in `worker/requests.rs`. One change at a time; each is committed to the config topic before it has an effect.
//!
//! One worker per `group.id`: it writes its topic under one transactional id, so a second one fences it.

mod connector;
mod offsets;
mod requests;
mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flumen_client::{Client, ClientConfig, ClientError, Producer, ProducerConfig, ProducerRecord};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::config::Props;
use crate::error::{TaskError, WorkerError};
use crate::registry::Registry;
use crate::runtime;
use crate::state::{StateRecord, TargetState, WorkerState};
use crate::task::client_error;
use crate::topics::{InternalTopics, ensure, read_to_end};
use connector::RunningConnector;
pub use requests::{ConnectorInfo, ConnectorStatus, Offset, TaskInfo};
pub use validate::{Validated, ValidatedKey};

/// How a worker runs.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The cluster.
    pub client: ClientConfig,
    /// Name of the group: part of every transactional id. Kafka: `group.id`.
    pub group_id: String,
    /// Where REST listens; `None`: nowhere. Bind it to the loopback unless the network is trusted: REST has no authentication.
    pub rest: Option<SocketAddr>,
    /// The internal topics.
    pub topics: InternalTopics,
    /// Converters of connectors that name none: `key.converter`, `value.converter`, and their options.
    pub converters: Props,
    /// How long a task may take to stop. Kafka: `task.shutdown.graceful.timeout.ms`.
    pub graceful_timeout: Duration,
}

impl WorkerConfig {
    /// The defaults of Kafka Connect, for the cluster at `bootstrap_servers`: JSON without schemas, REST nowhere.
    #[must_use]
    pub fn new(bootstrap_servers: &str) -> WorkerConfig {
        let json = "org.apache.kafka.connect.json.JsonConverter";
        let converters = [
            (
                "key.converter",
                "org.apache.kafka.connect.storage.StringConverter",
            ),
            ("value.converter", json),
            ("value.converter.schemas.enable", "false"),
        ];
        WorkerConfig {
            client: ClientConfig {
                client_id: "flumen-connect".to_owned(),
                ..ClientConfig::new(bootstrap_servers)
            },
            group_id: "connect-cluster".to_owned(),
            rest: None,
            topics: InternalTopics::default(),
            converters: converters
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            graceful_timeout: Duration::from_secs(5),
        }
    }

    /// From a worker's properties, by Kafka's names: `bootstrap.servers`, `group.id`, `listeners`, the converters, the three storage topics,
    /// `task.shutdown.graceful.timeout.ms`. Other keys are passed over.
    ///
    /// # Errors
    /// A sentence naming the key that is missing or cannot be read.
    pub fn from_props(props: &Props) -> Result<WorkerConfig, String> {
        let servers = props.get("bootstrap.servers").ok_or(
            "Missing required configuration \"bootstrap.servers\" which has no default value.",
        )?;
        let mut config = WorkerConfig::new(servers);
        let number = |name: &str, default: i64| match props.get(name) {
            None => Ok(default),
            Some(value) => value.trim().parse::<i64>().map_err(|_| {
                format!("Invalid value {value} for configuration {name}: Not a number")
            }),
        };
        let text = |name: &str, default: &str| {
            props
                .get(name)
                .map_or(default, |value| value.trim())
                .to_owned()
        };
        config.group_id = text("group.id", &config.group_id);
        config.topics.config = text("config.storage.topic", &config.topics.config);
        config.topics.offsets = text("offset.storage.topic", &config.topics.offsets);
        config.topics.status = text("status.storage.topic", &config.topics.status);
        config.topics.offsets_partitions =
            i32::try_from(number("offset.storage.partitions", 25)?).map_err(|e| e.to_string())?;
        config.topics.status_partitions =
            i32::try_from(number("status.storage.partitions", 5)?).map_err(|e| e.to_string())?;
        config.topics.replication_factor =
            i16::try_from(number("config.storage.replication.factor", -1)?)
                .map_err(|e| e.to_string())?;
        let graceful = number("task.shutdown.graceful.timeout.ms", 5000)?;
        config.graceful_timeout = Duration::from_millis(u64::try_from(graceful).unwrap_or(0));
        let converter =
            |name: &str| name.starts_with("key.converter") || name.starts_with("value.converter");
        let converters: Props = props
            .iter()
            .filter(|(name, _)| converter(name))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if !converters.is_empty() {
            config.converters = converters;
        }
        config.rest = props
            .get("listeners")
            .map(|listeners| listener(listeners))
            .transpose()?;
        Ok(config)
    }
}

/// `http://host:port`; no host is the loopback, not every interface.
fn listener(listeners: &str) -> Result<SocketAddr, String> {
    let wrong = || {
        format!(
            "Invalid value {listeners} for configuration listeners: one http://<address>:<port> is expected"
        )
    };
    let address = listeners.trim().strip_prefix("http://").ok_or_else(wrong)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = if host.is_empty() || host == "localhost" {
        "127.0.0.1"
    } else {
        host
    };
    format!("{host}:{port}").parse().map_err(|_| wrong())
}

/// A running worker. Cheap to clone; [`Worker::shutdown`] ends it, dropping the last clone ends it without a word.
#[derive(Debug, Clone)]
pub struct Worker(Arc<Inner>);

pub(crate) struct Inner {
    config: WorkerConfig,
    registry: Registry,
    client: Client,
    /// Host and port under which tasks report: `worker_id` in Kafka's bodies.
    worker_id: String,
    rest_address: Option<SocketAddr>,
    pub(crate) state: Mutex<WorkerState>,
    running: Mutex<BTreeMap<String, Arc<RunningConnector>>>,
    /// Held by whoever changes what shall run.
    changing: tokio::sync::Mutex<()>,
    /// Writes the config topic; `None` after trouble, until the next write.
    writer: tokio::sync::Mutex<Option<Producer>>,
    /// The producer id and epoch that the writer had last: whoever has a later one has taken this worker's place.
    place: Mutex<Option<(i64, i16)>>,
    statuses: mpsc::UnboundedSender<(String, Option<String>)>,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("worker_id", &self.worker_id)
            .field("group_id", &self.config.group_id)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for connector in self.running.get_mut().values() {
            connector.stop_soon();
        }
        for task in self.tasks.get_mut() {
            task.abort();
        }
    }
}

impl Worker {
    /// Connects, makes the internal topics, fences an earlier worker of the group, reads what shall run, and starts it.
    ///
    /// # Errors
    /// [`WorkerError::Cluster`]: the cluster cannot be reached, or refuses. [`WorkerError::Internal`]: the REST address is taken.
    pub async fn start(config: WorkerConfig, registry: Registry) -> Result<Worker, WorkerError> {
        let client = Client::connect(config.client.clone())
            .await
            .map_err(cluster)?;
        ensure(&client, &config.topics).await.map_err(cluster)?;
        let listener = match config.rest {
            Some(address) => Some(crate::rest::bind(address).await?),
            None => None,
        };
        let rest_address = listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok());
        let worker = Worker::idle(client, config, registry, rest_address);
        let inner = &worker.0;
        *inner.writer.lock().await = Some(inner.new_writer().await.map_err(cluster)?);
        inner.read_state().await?;
        worker.start_all().await;
        if let Some(listener) = listener {
            inner
                .tasks
                .lock()
                .push(crate::rest::serve(listener, Arc::downgrade(inner)));
        }
        Ok(worker)
    }

    /// A worker that knows of nothing yet.
    pub(crate) fn idle(
        client: Client,
        config: WorkerConfig,
        registry: Registry,
        rest_address: Option<SocketAddr>,
    ) -> Worker {
        let worker_id = rest_address.map_or_else(
            || format!("embedded:{}", std::process::id()),
            |address| address.to_string(),
        );
        let (statuses, queue) = mpsc::unbounded_channel();
        let status_writer = write_statuses(client.clone(), config.topics.status.clone(), queue);
        let inner = Inner {
            client,
            worker_id,
            rest_address,
            registry,
            state: Mutex::default(),
            running: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            writer: tokio::sync::Mutex::default(),
            place: Mutex::default(),
            statuses,
            tasks: Mutex::new(vec![runtime::spawn("connect status writer", status_writer)]),
            config,
        };
        Worker(Arc::new(inner))
    }

    /// Where REST listens.
    pub fn rest_address(&self) -> Option<SocketAddr> {
        self.0.rest_address
    }

    /// The id of the cluster.
    pub fn cluster_id(&self) -> Option<String> {
        self.0.client.cluster_id()
    }

    /// The plugins it knows.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Worker {
        Worker(inner)
    }

    async fn start_all(&self) {
        let _changing = self.0.changing.lock().await;
        let names: Vec<String> = self.0.state.lock().connectors().keys().cloned().collect();
        for name in names {
            self.0.start_connector(&name);
        }
    }

    /// Stops all tasks, each after a last commit, and ends.
    pub async fn shutdown(&self) {
        let _changing = self.0.changing.lock().await;
        let running = std::mem::take(&mut *self.0.running.lock());
        for connector in running.values() {
            connector.stop_soon();
        }
        for connector in running.into_values() {
            connector.stopped().await;
        }
        for task in self.0.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

impl Inner {
    /// Kafka's name for the id under which one worker of a group writes: `connect-cluster-<group>`. The first one of this worker takes the place of an
    /// earlier worker; the later ones only go on for it, and are fenced if another worker came.
    async fn new_writer(&self) -> Result<Producer, ClientError> {
        let id = format!("connect-cluster-{}", self.config.group_id);
        let producer = Producer::new(&self.client, ProducerConfig::transactional(id)).await?;
        let earlier = *self.place.lock();
        match earlier {
            None => producer.init_transactions().await?,
            Some(earlier) => producer.init_transactions_after(earlier).await?,
        }
        *self.place.lock() = producer.producer_id();
        Ok(producer)
    }

    /// Makes sure that no other worker has taken this one's place: a process that stood still does not know. Asked before a task claims anything, since a
    /// claim would fence the successor's task.
    ///
    /// # Errors
    /// [`TaskError::Fenced`]: one has. [`TaskError::Retry`]: nobody can tell now.
    pub(crate) async fn confirm_place(&self) -> Result<(), TaskError> {
        let mut writer = self.writer.lock().await;
        match self.new_writer().await {
            Ok(producer) => *writer = Some(producer),
            Err(error) if error.is_fenced() => {
                return Err(TaskError::Fenced(format!(
                    "another worker of group {} has taken the place of this one ({error})",
                    self.config.group_id
                )));
            }
            Err(error) => return Err(client_error(error)),
        }
        Ok(())
    }

    async fn read_state(&self) -> Result<(), WorkerError> {
        let mut state = WorkerState::default();
        let read = read_to_end(&self.client, &self.config.topics.config, |key, value| {
            if let Some(record) = StateRecord::decode(key, value) {
                state.apply(record);
            }
        });
        read.await.map_err(cluster)?;
        *self.state.lock() = state;
        Ok(())
    }

    /// Commits records to the config topic, all or none, and applies them.
    pub(crate) async fn commit(&self, records: Vec<StateRecord>) -> Result<(), WorkerError> {
        let mut writer = self.writer.lock().await;
        let producer = match writer.take() {
            Some(producer) => producer,
            None => self.new_writer().await.map_err(cluster)?,
        };
        let written = async {
            producer.begin_transaction()?;
            for record in &records {
                let (key, value) = record.encode();
                let record = ProducerRecord {
                    value: value.map(Into::into),
                    ..ProducerRecord::new(self.config.topics.config.as_str(), "")
                };
                drop(producer.send(record.key(key).partition(0)).await?);
            }
            producer.commit_transaction().await
        };
        match written.await {
            Ok(()) => {
                *self.place.lock() = producer.producer_id();
                *writer = Some(producer);
                let mut state = self.state.lock();
                records.into_iter().for_each(|record| state.apply(record));
                Ok(())
            }
            Err(error) => {
                // Whether a commit without an answer took place is read, not guessed: a fence settles it first.
                if !error.is_fenced() {
                    *writer = Some(self.new_writer().await.map_err(cluster)?);
                    self.read_state().await?;
                } else {
                    *writer = Some(producer);
                }
                Err(cluster(error))
            }
        }
    }

    /// Sends a status record, some time. `None` deletes.
    pub(crate) fn write_status(&self, key: String, value: Option<String>) {
        // The receiver ends with the worker only.
        let _ = self.statuses.send((key, value));
    }

    fn target(&self, name: &str) -> TargetState {
        self.state
            .lock()
            .get(name)
            .map(|connector| connector.target)
            .unwrap_or_default()
    }
}

/// Statuses are for other readers of the topic: nobody waits for them, and what fails is said once.
async fn write_statuses(
    client: Client,
    topic: String,
    mut queue: mpsc::UnboundedReceiver<(String, Option<String>)>,
) {
    let producer = match Producer::new(&client, ProducerConfig::default()).await {
        Ok(producer) => producer,
        Err(e) => return tracing::warn!("statuses are not written to {topic}: {e}"),
    };
    let mut failing = false;
    while let Some((key, value)) = queue.recv().await {
        let record = ProducerRecord {
            value: value.map(Into::into),
            ..ProducerRecord::new(topic.as_str(), "")
        };
        let sent = producer.send(record.key(key)).await;
        match sent {
            Ok(_) => failing = false,
            Err(e) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!("a status was not written to {topic}: {e}")
            }
            Err(_) => {}
        }
    }
}

fn cluster(error: ClientError) -> WorkerError {
    WorkerError::Cluster(Box::new(error))
}
