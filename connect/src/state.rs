//! What shall run: connectors, their configurations and target states, as Kafka Connect keeps them in its config topic. Pure.
//!
//! Owns the records of that topic (same keys, same JSON) and the map they add up to. `worker.rs` turns a request into records, writes them, and applies
//! them once they are committed; at the start it applies what the topic holds. `apply` is the same line of code both times.
//!
//! Keys: `connector-<c>` → `{"properties": {…}}`; `task-<c>-<n>` → the same; `commit-<c>` → `{"tasks": n}`; `target-state-<c>` →
//! `{"state": "PAUSED", "state.v2": "STOPPED"}`. A null value deletes. Other keys (session keys, loggers, fencing) are another worker's and are left alone.
//! Source: Kafka `KafkaConfigBackingStore`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Props;

/// What a connector shall do. Kafka: `TargetState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TargetState {
    /// Run.
    #[default]
    Started,
    /// Hold its tasks, clients open, and do nothing.
    Paused,
    /// Have no tasks.
    Stopped,
}

/// A change of what shall run; one record of the config topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateRecord {
    /// The connector's configuration; none: it is deleted.
    Connector(String, Option<Props>),
    /// The configuration of one task; counts once the commit record is there.
    Task(String, usize, Props),
    /// So many task configurations belong together.
    Commit(String, usize),
    /// What the connector shall do; none: forgotten.
    Target(String, Option<TargetState>),
}

#[derive(Serialize, Deserialize)]
struct Properties {
    properties: Props,
}

#[derive(Serialize, Deserialize)]
struct Tasks {
    tasks: usize,
}

#[derive(Serialize, Deserialize)]
struct Target {
    /// What readers before Kafka 3.5 understand: they know no STOPPED.
    state: TargetState,
    #[serde(rename = "state.v2", skip_serializing_if = "Option::is_none")]
    state_v2: Option<TargetState>,
}

impl StateRecord {
    /// Key and value as they stand in the topic.
    pub fn encode(&self) -> (String, Option<String>) {
        let json = |value: Result<String, serde_json::Error>| {
            Some(value.expect("texts and numbers have a JSON form"))
        };
        match self {
            StateRecord::Connector(name, None) => (format!("connector-{name}"), None),
            StateRecord::Connector(name, Some(config)) => (
                format!("connector-{name}"),
                json(serde_json::to_string(&Properties {
                    properties: config.clone(),
                })),
            ),
            StateRecord::Task(name, task, config) => (
                format!("task-{name}-{task}"),
                json(serde_json::to_string(&Properties {
                    properties: config.clone(),
                })),
            ),
            StateRecord::Commit(name, tasks) => (
                format!("commit-{name}"),
                json(serde_json::to_string(&Tasks { tasks: *tasks })),
            ),
            StateRecord::Target(name, None) => (format!("target-state-{name}"), None),
            StateRecord::Target(name, Some(state)) => {
                let old = if *state == TargetState::Stopped {
                    TargetState::Paused
                } else {
                    *state
                };
                (
                    format!("target-state-{name}"),
                    json(serde_json::to_string(&Target {
                        state: old,
                        state_v2: Some(*state),
                    })),
                )
            }
        }
    }

    /// Reads a record of the topic; `None` for kinds that are not ours and for what cannot be read.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Option<StateRecord> {
        let key = std::str::from_utf8(key).ok()?;
        if let Some(name) = key.strip_prefix("connector-") {
            let config = value
                .map(|value| serde_json::from_slice::<Properties>(value).map(|p| p.properties))
                .transpose()
                .ok()?;
            return Some(StateRecord::Connector(name.to_owned(), config));
        }
        if let Some(name) = key.strip_prefix("target-state-") {
            let state = value
                .map(serde_json::from_slice::<Target>)
                .transpose()
                .ok()?;
            return Some(StateRecord::Target(
                name.to_owned(),
                state.map(|target| target.state_v2.unwrap_or(target.state)),
            ));
        }
        if let Some(name) = key.strip_prefix("commit-") {
            return Some(StateRecord::Commit(
                name.to_owned(),
                serde_json::from_slice::<Tasks>(value?).ok()?.tasks,
            ));
        }
        let (name, task) = key.strip_prefix("task-")?.rsplit_once('-')?;
        let config = serde_json::from_slice::<Properties>(value?)
            .ok()?
            .properties;
        Some(StateRecord::Task(
            name.to_owned(),
            task.parse().ok()?,
            config,
        ))
    }
}

/// One connector, as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectorState {
    /// Its configuration.
    pub config: Props,
    /// What it shall do.
    pub target: TargetState,
    /// The configurations of its tasks, as far as they are committed.
    pub tasks: Vec<Props>,
}

/// Everything that shall run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerState {
    connectors: BTreeMap<String, ConnectorState>,
    /// Target states may come before their connector, task configurations before their commit.
    targets: BTreeMap<String, TargetState>,
    uncommitted: BTreeMap<String, BTreeMap<usize, Props>>,
}

impl WorkerState {
    /// Takes a record that is committed.
    pub fn apply(&mut self, record: StateRecord) {
        match record {
            StateRecord::Connector(name, Some(config)) => {
                let target = self.targets.get(&name).copied().unwrap_or_default();
                let connector = self.connectors.entry(name).or_default();
                connector.config = config;
                connector.target = target;
            }
            StateRecord::Connector(name, None) => {
                let _ = (
                    self.connectors.remove(&name),
                    self.uncommitted.remove(&name),
                    self.targets.remove(&name),
                );
            }
            StateRecord::Target(name, state) => {
                if let Some(connector) = self.connectors.get_mut(&name) {
                    connector.target = state.unwrap_or_default();
                }
                let _ = match state {
                    Some(state) => self.targets.insert(name, state),
                    None => self.targets.remove(&name),
                };
            }
            StateRecord::Task(name, task, config) => {
                let _ = self
                    .uncommitted
                    .entry(name)
                    .or_default()
                    .insert(task, config);
            }
            StateRecord::Commit(name, tasks) => {
                let configs = self.uncommitted.remove(&name).unwrap_or_default();
                if let Some(connector) = self.connectors.get_mut(&name) {
                    // Compaction may have taken a task's record: then the worker plans again.
                    let whole = configs.len() >= tasks;
                    connector.tasks = if whole {
                        configs.into_values().take(tasks).collect()
                    } else {
                        Vec::new()
                    };
                }
            }
        }
    }

    /// A connector.
    pub fn get(&self, name: &str) -> Option<&ConnectorState> {
        self.connectors.get(name)
    }

    /// All connectors, by name.
    pub fn connectors(&self) -> &BTreeMap<String, ConnectorState> {
        &self.connectors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn props(value: &str) -> Props {
        [("name".to_owned(), value.to_owned())].into()
    }

    fn check(record: StateRecord, key: &str, value: Option<&str>) {
        let (k, v) = record.encode();
        assert_eq!((k.as_str(), v.as_deref()), (key, value));
        assert_eq!(
            StateRecord::decode(k.as_bytes(), v.as_deref().map(str::as_bytes)),
            Some(record)
        );
    }

    #[test]
    fn records_have_kafkas_keys_and_json() {
        let c = || "my-sink-1".to_owned();
        check(
            StateRecord::Connector(c(), Some(props("x"))),
            "connector-my-sink-1",
            Some(r#"{"properties":{"name":"x"}}"#),
        );
        check(
            StateRecord::Connector(c(), None),
            "connector-my-sink-1",
            None,
        );
        check(
            StateRecord::Task(c(), 3, props("x")),
            "task-my-sink-1-3",
            Some(r#"{"properties":{"name":"x"}}"#),
        );
        check(
            StateRecord::Commit(c(), 4),
            "commit-my-sink-1",
            Some(r#"{"tasks":4}"#),
        );
        check(
            StateRecord::Target(c(), Some(TargetState::Stopped)),
            "target-state-my-sink-1",
            Some(r#"{"state":"PAUSED","state.v2":"STOPPED"}"#),
        );
        check(
            StateRecord::Target(c(), Some(TargetState::Started)),
            "target-state-my-sink-1",
            Some(r#"{"state":"STARTED","state.v2":"STARTED"}"#),
        );
        assert_eq!(StateRecord::decode(b"session-key", Some(b"{}")), None);
        assert_eq!(
            StateRecord::decode(b"target-state-c", Some(br#"{"state":"PAUSED"}"#)),
            Some(StateRecord::Target(
                "c".to_owned(),
                Some(TargetState::Paused)
            ))
        );
    }

    #[test]
    fn task_configurations_count_once_they_are_committed() {
        let mut state = WorkerState::default();
        let c = || "c".to_owned();
        state.apply(StateRecord::Target(c(), Some(TargetState::Paused)));
        state.apply(StateRecord::Connector(c(), Some(props("x"))));
        assert_eq!(state.get("c").unwrap().target, TargetState::Paused);
        state.apply(StateRecord::Task(c(), 0, props("0")));
        assert!(state.get("c").unwrap().tasks.is_empty());
        state.apply(StateRecord::Commit(c(), 1));
        assert_eq!(state.get("c").unwrap().tasks, [props("0")]);
        state.apply(StateRecord::Commit(c(), 2));
        assert!(state.get("c").unwrap().tasks.is_empty(), "one is missing");
        state.apply(StateRecord::Connector(c(), None));
        assert!(state.get("c").is_none());
        state.apply(StateRecord::Connector(c(), Some(props("x"))));
        assert_eq!(
            state.get("c").unwrap().target,
            TargetState::Started,
            "a new connector of an old name starts anew"
        );
    }
}
