//! One connector of a running worker: plans its tasks, supervises them, knows their states.
//!
//! Owns [`RunningConnector`]. Made by `start_connector`, ended by its stop token; nothing of it outlives that.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use flumen_client::{Producer, ProducerConfig};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Inner;
use crate::config::{Props, Settings};
use crate::error::TaskError;
use crate::registry::Connector;
use crate::retry::Backoff;
use crate::runtime;
use crate::source_task::transactional_id;
use crate::state::{StateRecord, TargetState};
use crate::status::{self, State, Status};
use crate::supervisor::Supervised;
use crate::task::{Control, TaskParts};

/// A connector that runs, is paused, stopped, or failed while being planned.
pub(crate) struct RunningConnector {
    pub(crate) name: String,
    /// Full name of its plugin; what was configured, where there is no such plugin.
    pub(crate) class: String,
    pub(crate) plugin: Option<Connector>,
    pub(crate) target: watch::Sender<TargetState>,
    pub(crate) statuses: Mutex<Statuses>,
    /// Topics it has written or read.
    pub(crate) topics: Arc<Mutex<BTreeSet<String>>>,
    /// Somebody asks for a restart of the connector itself: plan again.
    pub(crate) restart: Notify,
    stop: CancellationToken,
    main: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// States as REST shows them.
pub(crate) struct Statuses {
    pub(crate) connector: Status,
    pub(crate) tasks: Vec<TaskEntry>,
}

/// A task as REST shows it.
pub(crate) struct TaskEntry {
    pub(crate) status: Status,
    pub(crate) config: Props,
    pub(crate) restart: Arc<Notify>,
}

impl RunningConnector {
    pub(crate) fn stop_soon(&self) {
        self.stop.cancel();
    }

    /// Waits until all its tasks have ended.
    pub(crate) async fn stopped(&self) {
        self.stop.cancel();
        if let Some(main) = self.main.lock().await.take() {
            let _ = main.await;
        }
    }
}

impl Inner {
    /// Starts a connector as the state says. Its predecessor of that name must have stopped.
    pub(crate) fn start_connector(self: &Arc<Self>, name: &str) {
        let Some(state) = self.state.lock().get(name).cloned() else {
            return;
        };
        let planned = self.settings(&state.config);
        let class = match &planned {
            Ok((class, ..)) => class.clone(),
            Err(_) => state
                .config
                .get("connector.class")
                .cloned()
                .unwrap_or_default(),
        };
        let running = Arc::new(RunningConnector {
            name: name.to_owned(),
            class,
            plugin: planned.as_ref().ok().map(|(_, plugin, _)| plugin.clone()),
            target: watch::channel(state.target).0,
            statuses: Mutex::new(Statuses {
                connector: Status::new(State::Unassigned),
                tasks: Vec::new(),
            }),
            topics: Arc::default(),
            restart: Notify::new(),
            stop: CancellationToken::new(),
            main: tokio::sync::Mutex::new(None),
        });
        let main = main(
            Arc::downgrade(self),
            Arc::clone(&running),
            planned
                .map(|(_, plugin, settings)| (plugin, settings))
                .map_err(|e| e.to_string()),
        );
        let handle = runtime::spawn("connector", main);
        *running.main.try_lock().expect("nobody has it yet") = Some(handle);
        let _ = self.running.lock().insert(name.to_owned(), running);
    }

    /// Stops a connector and waits for its tasks.
    pub(crate) async fn stop_connector(&self, name: &str) {
        let running = self.running.lock().remove(name);
        if let Some(running) = running {
            running.stopped().await;
        }
    }

    /// Notes a state and sends its record.
    pub(crate) fn tell(&self, running: &RunningConnector, task: Option<usize>, status: Status) {
        let (key, value) = status::encode(&running.name, task, &status, &self.worker_id);
        {
            let mut statuses = running.statuses.lock();
            let slot = match task {
                None => &mut statuses.connector,
                Some(task) => match statuses.tasks.get_mut(task) {
                    Some(entry) => &mut entry.status,
                    None => return,
                },
            };
            if *slot == status {
                return;
            }
            *slot = status;
        }
        self.write_status(key, Some(value));
    }
}

/// Plans and runs until the connector shall stop. Holds the worker weakly: a dropped worker ends its connectors.
async fn main(
    worker: Weak<Inner>,
    running: Arc<RunningConnector>,
    planned: Result<(Connector, Settings), String>,
) {
    let tell = |status: Status| {
        if let Some(worker) = worker.upgrade() {
            worker.tell(&running, None, status);
        }
    };
    let (plugin, settings) = match planned {
        Ok(planned) => planned,
        // It was valid once: the plugin is not in this worker, or its rules have changed.
        Err(why) => {
            tell(Status::failed(why));
            return running.stop.cancelled().await;
        }
    };
    let mut target = running.target.subscribe();
    let mut backoff = Backoff::new(
        settings.duration("restart.backoff.ms"),
        settings.duration("restart.backoff.max.ms"),
    );
    while !running.stop.is_cancelled() {
        if *target.borrow_and_update() == TargetState::Stopped {
            running.statuses.lock().tasks.clear();
            tell(Status::new(State::Stopped));
            tokio::select! {
                biased;
                () = running.stop.cancelled() => {}
                _ = target.changed() => {}
            }
            continue;
        }
        let pause = match plan(&worker, &running, &plugin, &settings).await {
            Ok(tasks) => {
                run_tasks(&worker, &running, &plugin, tasks).await;
                continue;
            }
            Err(TaskError::Retry { after, cause }) => {
                tell(Status::failed(cause.to_string()));
                backoff.next(after)
            }
            Err(error) => {
                tracing::error!(connector = running.name, "the connector failed: {error}");
                tell(Status::failed(error.to_string()));
                backoff.next(Duration::ZERO)
            }
        };
        tokio::select! {
            biased;
            () = running.stop.cancelled() => {}
            () = running.restart.notified() => {}
            _ = target.changed() => {}
            () = runtime::sleep(pause) => {}
        }
    }
}

/// The configurations of the tasks, committed; tasks of an earlier, larger plan are fenced.
async fn plan(
    worker: &Weak<Inner>,
    running: &RunningConnector,
    plugin: &Connector,
    settings: &Settings,
) -> Result<Vec<(TaskParts, Props)>, TaskError> {
    let worker = worker
        .upgrade()
        .ok_or_else(|| TaskError::fatal("the worker ended"))?;
    let most = settings.count("tasks.max");
    let mut configs = match plugin {
        Connector::Source(source) => source.task_configs(settings, most).await?,
        Connector::Sink(sink) => sink.task_configs(settings, most).await?,
    };
    configs.truncate(most);
    for config in &mut configs {
        let _ = config.insert("task.class".to_owned(), running.class.clone());
    }
    let before = worker
        .state
        .lock()
        .get(&running.name)
        .map(|state| state.tasks.clone())
        .unwrap_or_default();
    if let Connector::Source(_) = plugin {
        for task in configs.len()..before.len() {
            let id = transactional_id(&worker.config.group_id, &running.name, task);
            let producer = Producer::new(&worker.client, ProducerConfig::transactional(id))
                .await
                .map_err(crate::task::client_error)?;
            producer
                .init_transactions()
                .await
                .map_err(crate::task::client_error)?;
        }
    }
    if before != configs {
        let tasks = configs
            .iter()
            .enumerate()
            .map(|(task, config)| StateRecord::Task(running.name.clone(), task, config.clone()));
        let records = tasks
            .chain([StateRecord::Commit(running.name.clone(), configs.len())])
            .collect();
        let commit = worker.commit(records).await;
        commit.map_err(|e| TaskError::retry(Duration::from_secs(1), e.to_string()))?;
    }
    let count = configs.len();
    let parts = configs.into_iter().enumerate().map(|(task, config)| {
        let settings = worker
            .plugin_settings(plugin, &config)
            .map_err(|e| TaskError::fatal(e.to_string()))?;
        let (key_converter, value_converter) =
            worker.converters(&config).map_err(TaskError::fatal)?;
        let parts = TaskParts {
            worker: Arc::downgrade(&worker),
            client: worker.client.clone(),
            topics: Arc::new(worker.config.topics.clone()),
            group_id: worker.config.group_id.clone(),
            worker_id: worker.worker_id.clone(),
            connector: running.name.clone(),
            class: running.class.clone(),
            task,
            tasks: count,
            settings,
            key_converter,
            value_converter,
            seen: Arc::clone(&running.topics),
        };
        Ok((parts, config))
    });
    parts.collect()
}

/// Runs the tasks until the connector shall stop, be stopped, or be planned again.
async fn run_tasks(
    worker: &Weak<Inner>,
    running: &Arc<RunningConnector>,
    plugin: &Connector,
    tasks: Vec<(TaskParts, Props)>,
) {
    let Some(inner) = worker.upgrade() else {
        return;
    };
    let stop = running.stop.child_token();
    let graceful = inner.config.graceful_timeout;
    let restarts: Vec<Arc<Notify>> = tasks.iter().map(|_| Arc::default()).collect();
    let entries = tasks
        .iter()
        .zip(&restarts)
        .map(|((_, config), restart)| TaskEntry {
            status: Status::new(State::Unassigned),
            config: config.clone(),
            restart: Arc::clone(restart),
        });
    running.statuses.lock().tasks = entries.collect();
    let mut set = JoinSet::new();
    for ((parts, _), restart) in tasks.into_iter().zip(restarts) {
        let (weak, connector, task) = (worker.clone(), Arc::downgrade(running), parts.task);
        let tell = move |status: Status| {
            if let (Some(worker), Some(connector)) = (weak.upgrade(), connector.upgrade()) {
                worker.tell(&connector, Some(task), status);
            }
        };
        let control = Control {
            stop: stop.clone(),
            target: running.target.subscribe(),
            tell: Arc::new(tell),
        };
        let supervised = Supervised {
            parts,
            plugin: plugin.clone(),
            control,
            restart,
            graceful,
        };
        let _ = set.spawn(supervised.run());
    }
    drop(inner);
    let mut target = running.target.subscribe();
    loop {
        let state = *target.borrow_and_update();
        if state == TargetState::Stopped {
            break;
        }
        if let Some(worker) = worker.upgrade() {
            worker.tell(
                running,
                None,
                Status::new(if state == TargetState::Paused {
                    State::Paused
                } else {
                    State::Running
                }),
            );
        }
        tokio::select! {
            biased;
            () = running.stop.cancelled() => break,
            () = running.restart.notified() => break,
            changed = target.changed() => if changed.is_err() { break },
        }
    }
    stop.cancel();
    while set.join_next().await.is_some() {}
}
