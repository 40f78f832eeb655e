//! Errors of connectors and of the worker, by what the caller does about them.

use std::time::Duration;

use crate::config::Finding;

/// Whatever a plugin's own library reports.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// One record of a [`SinkBatch`](crate::record::SinkBatch) that a sink can never write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Index of the batch in the slice given to `write`.
    pub batch: usize,
    /// Index of the record in the batch.
    pub record: usize,
    /// Why, naming column and value where it can.
    pub reason: String,
}

/// What went wrong in a task.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// Passing trouble (connection lost, deadlock, lock held). The worker waits `after` and calls the same again with the same batch.
    #[error("{cause}")]
    Retry {
        /// The least time to wait; the worker's backoff may be longer.
        after: Duration,
        /// What happened.
        cause: Cause,
    },
    /// These records can never be written, and nothing of the call was made durable. By `errors.tolerance` the worker stops, or
    /// dead-letters them, waits for that to be acknowledged, and calls `write` again without them.
    #[error("{} record(s) refused, the first: {}", .0.len(), .0.first().map_or("", |r| r.reason.as_str()))]
    Records(Vec<RejectedRecord>),
    /// Somebody else owns the target now. The task stops and is not restarted by itself.
    #[error("fenced: {0}")]
    Fenced(String),
    /// Anything else: the task fails, with this as its trace.
    #[error("{0}")]
    Fatal(Cause),
}

impl TaskError {
    /// A fatal error in words.
    pub fn fatal(message: impl Into<String>) -> TaskError {
        TaskError::Fatal(message.into().into())
    }

    /// Passing trouble in words, to be tried again after `after`.
    pub fn retry(after: Duration, message: impl Into<String>) -> TaskError {
        TaskError::Retry {
            after,
            cause: message.into().into(),
        }
    }
}

/// A value that a converter cannot read or write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DataError(pub String);

impl DataError {
    /// An error in words.
    pub fn new(message: impl Into<String>) -> DataError {
        DataError(message.into())
    }
}

/// What the worker answers to a request; `rest.rs` turns each into Kafka Connect's status code and body.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// 404: there is no such connector, task or plugin.
    #[error("{0}")]
    NotFound(String),
    /// 409: there is one of that name already.
    #[error("Connector {0} already exists")]
    AlreadyExists(String),
    /// 400: the configuration does not stand.
    #[error("{}", invalid_config(.0))]
    InvalidConfig(Vec<Finding>),
    /// 400: the request does not make sense as it is.
    #[error("{0}")]
    BadRequest(String),
    /// 409: not now (starting, stopping, being deleted); try again.
    #[error("{0}")]
    Conflict(String),
    /// 500: the cluster did not take the change.
    #[error("{0}")]
    Cluster(Cause),
    /// 500: a plugin refused to plan its tasks, or the worker is shutting down.
    #[error("{0}")]
    Internal(String),
}

/// The words of Kafka's `AbstractHerder.maybeAddConfigErrors`.
fn invalid_config(findings: &[Finding]) -> String {
    let errors: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.is_error())
        .collect();
    let mut message = format!(
        "Connector configuration is invalid and contains the following {} error(s):",
        errors.len()
    );
    for finding in errors {
        message.push('\n');
        message.push_str(&finding.message);
    }
    message.push_str("\nYou can also find the above list of errors at the endpoint `/connector-plugins/{connectorType}/config/validate`");
    message
}
