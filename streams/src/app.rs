//! [`KafkaStreams`]: a topology running against a cluster, in this process.
//!
//! Owns what the engines of a process share (client, state folder, counters, state) and their life: checks topics, makes the
//! internal ones, starts a session per engine, stops them together. The work itself is in `session.rs`.

mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flumen_client::Client;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::assign::Plan;
use crate::commit::CommitOptions;
use crate::config::StreamsConfig;
use crate::dataflow::{BATCH_BYTES, Engine, EngineOptions};
use crate::error::StreamsError;
use crate::metrics::StreamsMetrics;
use crate::runtime::{self, Clock, LOCK_PATIENCE, StateFolder};
use crate::session;
use crate::state::Store;
use crate::state::restore::RestoreListener;
use crate::state::rocks::RocksMemory;
use crate::topology::{TaskId, Topology};

const COMMIT_EXACTLY_ONCE: Duration = Duration::from_millis(100);
const COMMIT_AT_LEAST_ONCE: Duration = Duration::from_secs(30);
/// How long outputs wait at most, whatever the commit interval.
const EPOCH_MAX: Duration = Duration::from_millis(100);
const DRAINED_AFTER: Duration = Duration::from_millis(5);
/// Below this a topic that still refuses is one that takes nothing.
const BATCH_BYTES_MIN: usize = 512;

/// What an application is doing. Kafka: `KafkaStreams.State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamsState {
    /// All tasks of this process run.
    Running,
    /// Tasks come, go or are restored.
    Rebalancing,
    /// It was told to close, and commits what it has.
    PendingShutdown,
    /// It has closed.
    NotRunning,
    /// It has stopped by itself; [`KafkaStreams::stopped`] says why.
    Error,
}

/// What a session is told.
pub(crate) enum Control {
    Close,
    Query(Box<dyn FnOnce(&mut Engine) + Send>),
}

/// What the engines of a process share.
pub(crate) struct App {
    pub(crate) config: StreamsConfig,
    pub(crate) topology: Arc<Topology>,
    pub(crate) plan: Plan,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    /// None: all state in memory.
    pub(crate) disk: Option<(StateFolder, RocksMemory)>,
    pub(crate) metrics: Arc<StreamsMetrics>,
    pub(crate) restore_listener: Option<RestoreListener>,
    /// Internal topics that are read.
    pub(crate) internal: BTreeSet<String>,
    /// By sub-topology.
    pub(crate) task_counts: Vec<i32>,
    process_id: String,
    /// Of every topic read or written.
    partitions: BTreeMap<String, i32>,
    engines: Mutex<Vec<StreamsState>>,
    state: watch::Sender<StreamsState>,
    closing: watch::Sender<bool>,
    /// Of outputs, for the next engine that is started.
    batch_bytes: AtomicUsize,
}

impl App {
    /// The producer's identity: one per process and engine, the same after a restart on the same state folder.
    pub(crate) fn transactional_id(&self, engine: usize) -> String {
        format!(
            "{}-{}-{engine}",
            self.config.application_id, self.process_id
        )
    }

    /// The name of an engine's group member. It stays the same on a state folder, so that a process that comes back after a crash
    /// is given its tasks at once, where others would wait for the dead member's session to end (Kafka: static membership).
    pub(crate) fn instance_id(&self, engine: usize) -> Option<String> {
        let kept = self.disk.is_some();
        kept.then(|| format!("{}-{engine}", self.process_id))
    }

    pub(crate) fn commit_options(&self) -> CommitOptions {
        let exactly_once = self.config.exactly_once();
        let default = if exactly_once {
            COMMIT_EXACTLY_ONCE
        } else {
            COMMIT_AT_LEAST_ONCE
        };
        let commit_interval = self.config.commit_interval.unwrap_or(default);
        CommitOptions {
            exactly_once,
            commit_interval,
            epoch_interval: if exactly_once {
                commit_interval
            } else {
                commit_interval.min(EPOCH_MAX)
            },
            epoch_bytes_max: self.config.epoch_bytes_max,
            drained_after: DRAINED_AFTER.min(commit_interval),
        }
    }

    /// A batch was refused for its size: from now on they are half as large. False if they were small already: then it is the record.
    pub(crate) fn halve_batches(&self) -> bool {
        let half = self.batch_bytes.load(Ordering::Relaxed) / 2;
        self.batch_bytes
            .store(half.max(BATCH_BYTES_MIN), Ordering::Relaxed);
        half >= BATCH_BYTES_MIN
    }

    pub(crate) fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            application_id: self.config.application_id.clone(),
            partitions: self.partitions.clone(),
            counters: Arc::clone(&self.metrics.engine),
            batch_bytes: self.batch_bytes.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds since 1970, by the client's clock.
    pub(crate) fn wall_ms(&self) -> i64 {
        let clock = self.config.client.wall_clock;
        clock.map_or_else(runtime::wall_ms, |clock| clock())
    }

    /// Whether it was told to close: what waits for the cluster gives up then.
    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits until it is told to close.
    pub(crate) async fn told_to_close(&self) {
        let mut closing = self.closing.subscribe();
        let _ = closing.wait_for(|closing| *closing).await; // or the application is gone
    }

    /// Waits before trying again, but not longer than until it is told to close.
    pub(crate) async fn pause(&self, duration: Duration) {
        tokio::select! {
            biased;
            () = self.told_to_close() => {}
            () = self.clock.sleep_until(self.clock.now() + duration) => {}
        }
    }

    /// An engine has another state: the application's is the worst of them.
    pub(crate) fn entered(&self, engine: usize, state: StreamsState) {
        let mut engines = self.engines.lock();
        engines[engine] = state;
        let worst = engines.iter().copied().max().unwrap_or(state);
        self.state.send_if_modified(|now| {
            let changed = *now != worst;
            if changed {
                tracing::info!(application = self.config.application_id, from = ?*now, to = ?worst, "state");
                *now = worst;
            }
            changed
        });
    }
}

/// A running application.
///
/// ```no_run
/// use flumen_streams::{KafkaStreams, StreamsBuilder, StreamsConfig};
///
/// # async fn run(builder: StreamsBuilder) -> Result<(), Box<dyn std::error::Error>> {
/// let streams = KafkaStreams::start(builder.build()?, StreamsConfig::new("word-count", "localhost:9092")).await?;
/// streams.running().await;
/// // ... until it is time to go:
/// streams.close().await?;
/// # Ok(())
/// # }
/// ```
/// Dropped without [`close`](Self::close) it closes in the background.
pub struct KafkaStreams {
    app: Arc<App>,
    controls: Vec<mpsc::Sender<Control>>,
    sessions: Option<JoinHandle<Result<(), StreamsError>>>,
    aborts: Vec<AbortHandle>,
    state: watch::Receiver<StreamsState>,
}

impl fmt::Debug for KafkaStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "KafkaStreams({}, {:?})",
            self.app.config.application_id,
            self.state()
        )
    }
}

impl KafkaStreams {
    /// Checks and makes the topics, joins the group and begins.
    ///
    /// # Errors
    /// [`StreamsError::Config`], [`StreamsError::StateFolder`], [`StreamsError::Topic`]: to be corrected.
    /// [`StreamsError::Client`]: the cluster cannot be reached.
    pub async fn start(topology: Topology, config: StreamsConfig) -> Result<Self, StreamsError> {
        Self::start_with(topology, config, None).await
    }

    /// [`start`](Self::start), with somebody who is told how the restoration of stores goes on.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(
        topology: Topology,
        config: StreamsConfig,
        restore_listener: Option<RestoreListener>,
    ) -> Result<Self, StreamsError> {
        if let Some(problem) = config.problem() {
            return Err(StreamsError::Config(problem.to_owned()));
        }
        let disk = open_disk(&config).await?;
        let client = Client::connect(config.client.clone()).await?;
        let topics = topics::prepare(&client, &topology, &config).await?;
        let states = vec![StreamsState::Rebalancing; config.engines];
        let (state, watched) = watch::channel(StreamsState::Rebalancing);
        let process_id = disk.as_ref().map_or_else(
            || runtime::random_uuid(config.client.seed),
            |(folder, _)| folder.process_id().to_owned(),
        );
        let app = Arc::new(App {
            plan: Plan::new(&topology, &config.application_id),
            topology: Arc::new(topology),
            client,
            clock: Clock::start(),
            disk,
            metrics: Arc::default(),
            restore_listener,
            internal: topics.internal,
            task_counts: topics.task_counts,
            process_id,
            partitions: topics.partitions,
            engines: Mutex::new(states),
            state,
            closing: watch::Sender::new(false),
            batch_bytes: AtomicUsize::new(BATCH_BYTES),
            config,
        });
        let (controls, sessions) = start_sessions(&app);
        let aborts = sessions.iter().map(JoinHandle::abort_handle).collect();
        let sessions = Some(runtime::spawn(supervise(
            Arc::clone(&app),
            controls.iter().map(mpsc::Sender::downgrade).collect(),
            sessions,
        )));
        Ok(Self {
            app,
            controls,
            sessions,
            aborts,
            state: watched,
        })
    }

    /// What it is doing.
    pub fn state(&self) -> StreamsState {
        *self.state.borrow()
    }

    /// The state as it changes.
    pub fn states(&self) -> watch::Receiver<StreamsState> {
        self.state.clone()
    }

    /// Waits until all tasks of this process run. False if it stopped instead.
    pub async fn running(&self) -> bool {
        let mut states = self.states();
        let settled = |state: &StreamsState| {
            matches!(
                state,
                StreamsState::Running | StreamsState::NotRunning | StreamsState::Error
            )
        };
        states
            .wait_for(settled)
            .await
            .is_ok_and(|state| *state == StreamsState::Running)
    }

    /// What it has done.
    pub fn metrics(&self) -> &StreamsMetrics {
        &self.app.metrics
    }

    /// Waits until it stops, by itself or because of [`close`](Self::close) elsewhere.
    ///
    /// # Errors
    /// Why it stopped by itself.
    pub async fn stopped(&mut self) -> Result<(), StreamsError> {
        match &mut self.sessions {
            Some(sessions) => {
                let result = sessions.await.unwrap_or_else(|error| {
                    Err(StreamsError::Config(format!("a session panicked: {error}")))
                });
                self.sessions = None;
                result
            }
            None => Ok(()),
        }
    }

    /// Commits everything, writes state to disk, leaves the group.
    ///
    /// # Errors
    /// Why the last commit failed, or why it had stopped before.
    pub async fn close(mut self) -> Result<(), StreamsError> {
        self.app.closing.send_replace(true);
        for (engine, control) in self.controls.iter().enumerate() {
            self.app.entered(engine, StreamsState::PendingShutdown);
            let _ = control.send(Control::Close).await; // gone already: `stopped` says why
        }
        self.stopped().await
    }

    /// Stops as after a crash: no commit, no word to the group. For tests of what comes after.
    pub async fn abort(mut self) {
        self.aborts.iter().for_each(AbortHandle::abort);
        let _ = self.stopped().await; // that it was aborted
    }

    /// Lets `query` read a store of a task that runs here, by its type. Sees the open epoch. None: not here, or not of this type.
    pub async fn with_store<S, R>(
        &self,
        task: TaskId,
        store: &str,
        query: impl FnOnce(&mut S) -> R + Clone + Send + 'static,
    ) -> Option<R>
    where
        S: Store + 'static,
        R: Send + 'static,
    {
        for control in &self.controls {
            let (answer, answered) = oneshot::channel();
            let (store, query) = (store.to_owned(), query.clone());
            let ask = Box::new(move |engine: &mut Engine| {
                let _ = answer.send(engine.with_store(task, &store, query).ok());
            });
            if control.send(Control::Query(ask)).await.is_err() {
                continue;
            }
            if let Ok(Some(found)) = answered.await {
                return Some(found);
            }
        }
        None
    }
}

type Running = JoinHandle<Result<(), StreamsError>>;

fn start_sessions(app: &Arc<App>) -> (Vec<mpsc::Sender<Control>>, Vec<Running>) {
    let sessions = (0..app.config.engines).map(|engine| {
        let (control, told) = mpsc::channel(8);
        (
            control,
            runtime::spawn(session::run(Arc::clone(app), engine, told)),
        )
    });
    sessions.unzip()
}

/// Waits for the engines. If one stops by itself, all do.
async fn supervise(
    app: Arc<App>,
    controls: Vec<mpsc::WeakSender<Control>>,
    sessions: Vec<Running>,
) -> Result<(), StreamsError> {
    let mut result = Ok(());
    let mut waiting = futures_util::stream::FuturesUnordered::new();
    waiting.extend(
        sessions
            .into_iter()
            .enumerate()
            .map(|(engine, session)| async move { (engine, session.await) }),
    );
    while let Some((engine, ended)) = futures_util::StreamExt::next(&mut waiting).await {
        let ended = ended.unwrap_or_else(|error| {
            Err(StreamsError::Config(format!(
                "engine {engine} panicked: {error}"
            )))
        });
        if let Err(error) = ended {
            tracing::error!(application = app.config.application_id, engine, %error, "stopped");
            app.entered(engine, StreamsState::Error);
            app.closing.send_replace(true);
            for control in controls.iter().filter_map(mpsc::WeakSender::upgrade) {
                let _ = control.send(Control::Close).await; // gone already
            }
            if result.is_ok() {
                result = Err(error);
            }
        } else {
            app.entered(engine, StreamsState::NotRunning);
        }
    }
    result
}

async fn open_disk(
    config: &StreamsConfig,
) -> Result<Option<(StateFolder, RocksMemory)>, StreamsError> {
    if config.in_memory {
        return Ok(None);
    }
    let (state_dir, application_id) = (config.state_dir.clone(), config.application_id.clone());
    let seed = config.client.seed;
    let open = move || StateFolder::open(&state_dir, &application_id, LOCK_PATIENCE, seed);
    let folder = config.threads.blocking(open).await;
    let folder = folder.map_err(|error| StreamsError::StateFolder {
        folder: config.state_dir.display().to_string(),
        reason: error.to_string(),
    })?;
    Ok(Some((
        folder,
        RocksMemory::new(config.block_cache_bytes, config.memtable_bytes),
    )))
}
