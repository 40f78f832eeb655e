//! What a user can ask of a worker: create, change, pause, resume, stop, restart, delete, look.
//!
//! Owns the rules of each request and Kafka's words for their errors. `rest.rs` and the binary call it. Every change: check, commit to the config topic, act.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::connector::RunningConnector;
use super::{Inner, Worker};
use crate::config::{Finding, Props};
use crate::error::WorkerError;
use crate::registry::Connector;
use crate::state::{StateRecord, TargetState};
use crate::status::{State, Status};

/// A connector as REST shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorInfo {
    /// Its name.
    pub name: String,
    /// Its configuration, secrets hidden.
    pub config: Props,
    /// How many tasks it has.
    pub tasks: usize,
    /// `source`, `sink` or `unknown`.
    pub direction: &'static str,
}

/// A task as REST shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// Its number.
    pub task: usize,
    /// Its configuration, secrets hidden.
    pub config: Props,
}

/// The states of a connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorStatus {
    /// Its name.
    pub name: String,
    /// Its own state.
    pub connector: Status,
    /// Those of its tasks.
    pub tasks: Vec<Status>,
    /// Who runs it.
    pub worker_id: String,
    /// `source`, `sink` or `unknown`.
    pub direction: &'static str,
    /// Version of the plugin, where there is one.
    pub version: Option<&'static str>,
}

/// A position, of a source or a sink, in Kafka's form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offset {
    /// Of a sink: `kafka_topic` and `kafka_partition`.
    pub partition: BTreeMap<String, serde_json::Value>,
    /// Of a sink: `kafka_offset`. `None` forgets it.
    pub offset: Option<BTreeMap<String, serde_json::Value>>,
}

fn direction(plugin: Option<&Connector>) -> &'static str {
    plugin.map_or("unknown", Connector::direction)
}

impl Worker {
    /// Names of all connectors.
    pub fn connectors(&self) -> Vec<String> {
        self.0.state.lock().connectors().keys().cloned().collect()
    }

    /// Creates a connector.
    ///
    /// # Errors
    /// [`WorkerError::AlreadyExists`], [`WorkerError::InvalidConfig`], [`WorkerError::BadRequest`], [`WorkerError::Cluster`].
    pub async fn create(&self, name: &str, config: Props) -> Result<ConnectorInfo, WorkerError> {
        self.create_in(name, config, TargetState::Started).await
    }

    /// Creates a connector in a state of its own (KIP-980).
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn create_in(
        &self,
        name: &str,
        config: Props,
        target: TargetState,
    ) -> Result<ConnectorInfo, WorkerError> {
        let _changing = self.0.changing.lock().await;
        if self.0.state.lock().get(name).is_some() {
            return Err(WorkerError::AlreadyExists(name.to_owned()));
        }
        self.put(name, config, Some(target)).await?;
        self.info(name)
    }

    /// Creates a connector or changes its configuration; `true`: it is new. The configuration it has already changes nothing.
    ///
    /// # Errors
    /// As [`create`](Self::create), without the first.
    pub async fn put_config(
        &self,
        name: &str,
        config: Props,
    ) -> Result<(ConnectorInfo, bool), WorkerError> {
        let _changing = self.0.changing.lock().await;
        let old = self
            .0
            .state
            .lock()
            .get(name)
            .map(|state| state.config.clone());
        let mut config = match &old {
            Some(old) => self.0.unredacted(config, old),
            None => config,
        };
        let _ = config
            .entry("name".to_owned())
            .or_insert_with(|| name.to_owned());
        if old.as_ref() == Some(&config) {
            return Ok((self.info(name)?, false));
        }
        self.put(name, config, None).await?;
        Ok((self.info(name)?, old.is_none()))
    }

    /// Sets single keys; `None` removes one (KIP-477).
    ///
    /// # Errors
    /// As [`put_config`](Self::put_config); [`WorkerError::NotFound`].
    pub async fn patch_config(
        &self,
        name: &str,
        patch: BTreeMap<String, Option<String>>,
    ) -> Result<ConnectorInfo, WorkerError> {
        let mut config = self.0.state(name)?.config;
        for (key, value) in patch {
            match value {
                Some(value) => drop(config.insert(key, value)),
                None => drop(config.remove(&key)),
            }
        }
        self.put_config(name, config).await.map(|(info, _)| info)
    }

    async fn put(
        &self,
        name: &str,
        mut config: Props,
        target: Option<TargetState>,
    ) -> Result<(), WorkerError> {
        if config.get("name").is_some_and(|own| own != name) {
            return Err(WorkerError::BadRequest(format!(
                "Connector name configuration ({}) doesn't match connector name in the URL ({name})",
                config["name"]
            )));
        }
        let _ = config.insert("name".to_owned(), name.to_owned());
        let validated = self.validate(&config).await?;
        for finding in validated
            .findings
            .iter()
            .filter(|finding| !finding.is_error())
        {
            tracing::warn!(connector = name, "{}", finding.message);
        }
        if validated.error_count > 0 {
            return Err(WorkerError::InvalidConfig(
                validated
                    .findings
                    .into_iter()
                    .filter(Finding::is_error)
                    .collect(),
            ));
        }
        let mut records = Vec::new();
        if let Some(target) = target {
            records.push(StateRecord::Target(name.to_owned(), Some(target)));
        }
        records.push(StateRecord::Connector(name.to_owned(), Some(config)));
        self.0.commit(records).await?;
        self.0.stop_connector(name).await;
        self.0.start_connector(name);
        Ok(())
    }

    /// Deletes a connector. Its positions are kept.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`], [`WorkerError::Cluster`].
    pub async fn delete(&self, name: &str) -> Result<(), WorkerError> {
        let _changing = self.0.changing.lock().await;
        let state = self.0.state(name)?;
        self.0
            .commit(vec![
                StateRecord::Connector(name.to_owned(), None),
                StateRecord::Target(name.to_owned(), None),
            ])
            .await?;
        self.0.stop_connector(name).await;
        if let Ok((_, plugin, settings)) = self.0.settings(&state.config) {
            match plugin {
                Connector::Source(source) => source.on_delete(&settings).await,
                Connector::Sink(sink) => sink.on_delete(&settings).await,
            }
        }
        self.0
            .write_status(format!("status-connector-{name}"), None);
        for task in 0..state.tasks.len() {
            self.0
                .write_status(format!("status-task-{name}-{task}"), None);
        }
        Ok(())
    }

    /// Sets what a connector shall do.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`], [`WorkerError::Cluster`].
    pub async fn set_target(&self, name: &str, target: TargetState) -> Result<(), WorkerError> {
        let _changing = self.0.changing.lock().await;
        let _ = self
            .0
            .state(name)
            .map_err(|_| WorkerError::NotFound(format!("Unknown connector {name}")))?;
        if self.0.target(name) != target {
            self.0
                .commit(vec![StateRecord::Target(name.to_owned(), Some(target))])
                .await?;
        }
        // Whatever state it is in, FAILED too, it obeys.
        let _ = self.0.running(name)?.target.send_replace(target);
        Ok(())
    }

    /// Plans and starts a connector again, with its tasks.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`].
    pub async fn restart(
        &self,
        name: &str,
        include_tasks: bool,
        only_failed: bool,
    ) -> Result<ConnectorStatus, WorkerError> {
        let _changing = self.0.changing.lock().await;
        let running = self
            .0
            .running(name)
            .map_err(|_| WorkerError::NotFound(format!("Unknown connector: {name}")))?;
        let failed = |status: &Status| status.state == State::Failed;
        let (connector, tasks): (bool, Vec<usize>) = {
            let statuses = running.statuses.lock();
            let tasks = statuses
                .tasks
                .iter()
                .enumerate()
                .filter(|(_, task)| include_tasks && (!only_failed || failed(&task.status)));
            (
                !only_failed || failed(&statuses.connector),
                tasks.map(|(task, _)| task).collect(),
            )
        };
        if connector && (include_tasks || failed(&running.statuses.lock().connector)) {
            running.restart.notify_one();
        } else {
            for task in &tasks {
                let restart = running
                    .statuses
                    .lock()
                    .tasks
                    .get(*task)
                    .map(|entry| Arc::clone(&entry.restart));
                restart.inspect(|restart| restart.notify_one());
            }
        }
        let mut status = self.status(name)?;
        if connector {
            status.connector = Status::new(State::Restarting);
        }
        for task in tasks {
            if let Some(status) = status.tasks.get_mut(task) {
                *status = Status::new(State::Restarting);
            }
        }
        Ok(status)
    }

    /// Starts one task again.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`].
    pub fn restart_task(&self, name: &str, task: usize) -> Result<(), WorkerError> {
        let running = self.0.running(name)?;
        let restart = running
            .statuses
            .lock()
            .tasks
            .get(task)
            .map(|entry| Arc::clone(&entry.restart));
        let restart =
            restart.ok_or_else(|| WorkerError::NotFound(format!("Unknown task: {name}-{task}")))?;
        restart.notify_one();
        Ok(())
    }

    /// A connector.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`].
    pub fn info(&self, name: &str) -> Result<ConnectorInfo, WorkerError> {
        let state = self.0.state(name)?;
        let running = self.0.running(name).ok();
        let plugin = running.as_ref().and_then(|running| running.plugin.as_ref());
        let tasks = running
            .as_ref()
            .map_or(0, |running| running.statuses.lock().tasks.len());
        Ok(ConnectorInfo {
            name: name.to_owned(),
            config: self.0.redacted(&state.config),
            tasks,
            direction: direction(plugin),
        })
    }

    /// The states of a connector.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`].
    pub fn status(&self, name: &str) -> Result<ConnectorStatus, WorkerError> {
        let running = self
            .0
            .running(name)
            .map_err(|_| WorkerError::NotFound(format!("No status found for connector {name}")))?;
        let statuses = running.statuses.lock();
        Ok(ConnectorStatus {
            name: name.to_owned(),
            connector: statuses.connector.clone(),
            tasks: statuses
                .tasks
                .iter()
                .map(|task| task.status.clone())
                .collect(),
            worker_id: self.0.worker_id.clone(),
            direction: direction(running.plugin.as_ref()),
            version: running.plugin.as_ref().map(Connector::version),
        })
    }

    /// The tasks of a connector.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`].
    pub fn tasks(&self, name: &str) -> Result<Vec<TaskInfo>, WorkerError> {
        let running = self.0.running(name)?;
        let statuses = running.statuses.lock();
        let tasks = statuses
            .tasks
            .iter()
            .enumerate()
            .map(|(task, entry)| TaskInfo {
                task,
                config: self.0.redacted(&entry.config),
            });
        Ok(tasks.collect())
    }

    /// The topics a connector has used since it was started.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`].
    pub fn topics(&self, name: &str) -> Result<Vec<String>, WorkerError> {
        Ok(self
            .0
            .running(name)?
            .topics
            .lock()
            .iter()
            .cloned()
            .collect())
    }

    /// Forgets them.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`].
    pub fn reset_topics(&self, name: &str) -> Result<(), WorkerError> {
        self.0.running(name)?.topics.lock().clear();
        Ok(())
    }
}

impl Inner {
    pub(super) fn state(&self, name: &str) -> Result<crate::state::ConnectorState, WorkerError> {
        let state = self.state.lock().get(name).cloned();
        state.ok_or_else(|| WorkerError::NotFound(format!("Connector {name} not found")))
    }

    pub(super) fn running(&self, name: &str) -> Result<Arc<RunningConnector>, WorkerError> {
        let running = self.running.lock().get(name).cloned();
        running.ok_or_else(|| WorkerError::NotFound(format!("Connector {name} not found")))
    }
}
