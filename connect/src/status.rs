//! What runs: states of connectors and tasks, and their records in the status topic. Pure.
//!
//! Owns the JSON that REST shows and that Kafka Connect keeps under `status-connector-<c>` and `status-task-<c>-<n>`. The tasks set it, `rest.rs` reads it.

use serde::{Deserialize, Serialize};

/// State of a connector or a task. Kafka: `AbstractStatus.State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Nobody runs it yet.
    Unassigned,
    /// It runs.
    Running,
    /// It holds still.
    Paused,
    /// It shall have no tasks (connectors only).
    Stopped,
    /// It ended by an error, which is its trace. It is tried again unless it was fenced.
    Failed,
    /// It is being started again.
    Restarting,
}

/// State with its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Why it failed.
    pub trace: Option<String>,
}

impl Status {
    /// A state without a trace.
    pub fn new(state: State) -> Status {
        Status { state, trace: None }
    }

    /// Failed, and why.
    pub fn failed(trace: impl Into<String>) -> Status {
        Status {
            state: State::Failed,
            trace: Some(trace.into()),
        }
    }
}

/// The value of a status record.
#[derive(Debug, Serialize)]
struct Wire<'a> {
    state: State,
    trace: Option<&'a str>,
    worker_id: &'a str,
    generation: i32,
    version: &'a str,
}

/// Key and value of a connector's or (with a number) a task's status record.
pub fn encode(
    connector: &str,
    task: Option<usize>,
    status: &Status,
    worker_id: &str,
) -> (String, String) {
    let key = match task {
        None => format!("status-connector-{connector}"),
        Some(task) => format!("status-task-{connector}-{task}"),
    };
    let wire = Wire {
        state: status.state,
        trace: status.trace.as_deref(),
        worker_id,
        generation: 0,
        version: env!("CARGO_PKG_VERSION"),
    };
    (
        key,
        serde_json::to_string(&wire).expect("texts and numbers have a JSON form"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_records_have_kafkas_keys_and_fields() {
        let (key, value) = encode("c", Some(1), &Status::failed("disk full"), "localhost:8083");
        assert_eq!(key, "status-task-c-1");
        assert!(value.starts_with(r#"{"state":"FAILED","trace":"disk full","worker_id":"localhost:8083","generation":0"#), "{value}");
        assert_eq!(
            encode("c", None, &Status::new(State::Running), "w").0,
            "status-connector-c"
        );
    }
}
