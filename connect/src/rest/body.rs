//! Bodies of Kafka Connect's REST API, field by field in its order. Pure.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::config::{ConfigKey, Kind, Props};
use crate::state::TargetState;
use crate::status::Status;
use crate::worker::{ConnectorInfo, ConnectorStatus, Offset, Validated};

/// `POST /connectors`. Kafka: `CreateConnectorRequest`. A field it does not have is refused: it may be a misspelt one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    pub(super) name: String,
    #[serde(deserialize_with = "props")]
    pub(super) config: Props,
    initial_state: Option<String>,
    pub(super) initial_offsets: Option<Vec<Offset>>,
}

impl Create {
    pub(super) fn target(&self) -> Result<TargetState, String> {
        match self
            .initial_state
            .as_deref()
            .map(str::to_ascii_uppercase)
            .as_deref()
        {
            None | Some("RUNNING") => Ok(TargetState::Started),
            Some("PAUSED") => Ok(TargetState::Paused),
            Some("STOPPED") => Ok(TargetState::Stopped),
            Some(other) => Err(format!(
                "initial_state {other} is none of RUNNING, PAUSED, STOPPED"
            )),
        }
    }
}

/// A configuration that stands alone.
#[derive(Debug, Deserialize)]
pub(super) struct Config(#[serde(deserialize_with = "props")] pub(super) Props);

/// Values of a configuration are texts; numbers and booleans are taken as theirs, as Jackson does. Null is refused, as by Kafka.
fn props<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Props, D::Error> {
    let given = patch(Map::deserialize(deserializer)?).into_iter();
    let text = |(name, value): (String, Option<String>)| match value {
        Some(value) => Ok((name, value)),
        None => Err(D::Error::custom(format_args!(
            "Null value can not be supplied as the configuration value of {name}"
        ))),
    };
    given.map(text).collect()
}

/// The same, with null for "remove".
pub(super) fn patch(map: Map<String, Value>) -> BTreeMap<String, Option<String>> {
    let text = |value: Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    map.into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect()
}

/// Kafka: `ConnectorInfo`.
pub(super) fn info(info: &ConnectorInfo) -> Value {
    let tasks: Vec<Value> = (0..info.tasks)
        .map(|task| json!({"connector": info.name, "task": task}))
        .collect();
    json!({"name": info.name, "config": info.config, "tasks": tasks, "type": info.direction})
}

/// Kafka: `ConnectorStateInfo`.
pub(super) fn status(status: &ConnectorStatus) -> Value {
    let tasks: Vec<Value> = (0..status.tasks.len())
        .filter_map(|task| self::task(status, task))
        .collect();
    json!({"name": status.name, "connector": state(status, &status.connector, None), "tasks": tasks, "type": status.direction})
}

/// Kafka: `ConnectorStateInfo.TaskState`.
pub(super) fn task(status: &ConnectorStatus, task: usize) -> Option<Value> {
    status
        .tasks
        .get(task)
        .map(|one| state(status, one, Some(task)))
}

/// `trace` and `version` only where there is one.
fn state(of: &ConnectorStatus, one: &Status, task: Option<usize>) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    if let Some(task) = task {
        put("id", json!(task));
    }
    put("state", json!(one.state));
    put("worker_id", json!(of.worker_id));
    if let Some(trace) = &one.trace {
        put("trace", json!(trace));
    }
    if let Some(version) = of.version {
        put("version", json!(version));
    }
    body.into()
}

/// Kafka: `ConfigKeyInfo`.
pub(super) fn definition(key: &ConfigKey, name: &str, order: usize) -> Value {
    let width = if matches!(key.kind, Kind::List | Kind::Class) {
        "LONG"
    } else {
        "MEDIUM"
    };
    json!({
        "name": name,
        "type": key.kind.name(),
        "required": key.required,
        "default_value": key.default,
        "importance": key.importance.name(),
        "documentation": key.documentation,
        "group": key.group,
        "width": width,
        "display_name": name,
        "dependents": [],
        "order": order,
    })
}

/// Kafka: `ConfigInfos`.
pub(super) fn validated(validated: &Validated) -> Value {
    let configs = validated.keys.iter().enumerate().map(|(order, key)| {
        let value = json!({"name": key.name, "value": key.value, "recommended_values": key.recommended, "errors": key.errors, "visible": true});
        json!({"definition": definition(&key.key, &key.name, order), "value": value})
    });
    json!({"name": validated.class, "error_count": validated.error_count, "groups": validated.groups, "configs": configs.collect::<Vec<_>>()})
}
