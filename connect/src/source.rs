//! The contract of a source: how it is planned, opened, polled and told that its records are safe.
//!
//! Owns the traits that source plugins implement; `source_task.rs` is the only caller. Life of a task:
//!
//! 1. the worker fences every earlier instance of the task (`InitProducerId`), then reads the committed positions;
//! 2. [`SourceTask::open`] gets them;
//! 3. [`SourceTask::poll`] hands over a batch: records, and the position after them; both enter the open transaction;
//! 4. the worker commits the transaction at a boundary, by bytes or by time;
//! 5. [`SourceTask::committed`] says so: now the source may acknowledge upstream, move or delete what was read;
//! 6. 3 to 5 repeat; a crash anywhere resumes at 1 with the last committed positions; [`SourceTask::close`] ends it.

use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{ConfigDef, Finding, Props, Settings};
use crate::error::TaskError;
use crate::record::{SourceBatch, SourcePosition};

/// What a connector promises with a given configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guarantee {
    /// Every input once, whatever is killed.
    ExactlyOnce,
    /// Every input at least once, and why not exactly once.
    AtLeastOnce(String),
}

/// A kind of source: knows its options, plans tasks and makes them.
///
/// One instance serves all connectors of its kind: it holds no state of a connector.
/// Source: Kafka `SourceConnector`; `guarantees` is KIP-618's `exactlyOnceSupport`.
#[async_trait]
pub trait SourceConnector: Send + Sync {
    /// The options of this kind, without those that every connector has.
    fn config(&self) -> ConfigDef;

    /// The version shown by `GET /connector-plugins`.
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// Checks beyond single keys: combinations, reachability. May dial and look, must not change anything.
    async fn validate(&self, _settings: &Settings) -> Vec<Finding> {
        Vec::new()
    }

    /// Splits the work into at most `max_tasks` configurations, one per task. Called again when the configuration changes.
    ///
    /// # Errors
    /// [`TaskError::Retry`] is tried again; anything else makes the connector FAILED.
    async fn task_configs(
        &self,
        settings: &Settings,
        max_tasks: usize,
    ) -> Result<Vec<Props>, TaskError>;

    /// What it promises with these settings.
    fn guarantees(&self, settings: &Settings) -> Guarantee;

    /// Makes a task from one of the configurations of [`task_configs`](Self::task_configs), not yet opened.
    fn task(&self, settings: &Settings) -> Box<dyn SourceTask>;

    /// The positions of a stopped connector are about to be set (`PATCH`/`DELETE /connectors/{c}/offsets`); refuse what makes no sense.
    ///
    /// # Errors
    /// The sentence for the user.
    async fn alter_offsets(
        &self,
        _settings: &Settings,
        _positions: &[SourcePosition],
    ) -> Result<(), String> {
        Ok(())
    }

    /// The connector was deleted: drop what it holds elsewhere (a replication slot). Its positions are kept.
    async fn on_delete(&self, _settings: &Settings) {}
}

/// How much a poll may return and how long it may wait.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Bytes of input after which the batch should end.
    pub bytes: usize,
    /// Records after which the batch should end.
    pub records: usize,
    /// How long to wait when there is nothing to read. `poll` returns an empty batch then: the worker stops a task between polls.
    pub max_wait: Duration,
}

/// What the worker tells a task about itself.
#[derive(Debug, Clone)]
pub struct SourceContext {
    /// The connector's name.
    pub connector: String,
    /// The number of the task.
    pub task: usize,
    /// Cancelled when the task shall stop; a long wait inside `poll` should end then.
    pub stopping: CancellationToken,
}

/// A running part of a source.
#[async_trait]
pub trait SourceTask: Send {
    /// Begins at the committed positions: of all partitions of the connector, so take what is yours. Called after earlier instances are fenced.
    ///
    /// # Errors
    /// [`TaskError::Retry`]: called again after a pause. Otherwise the task is FAILED.
    async fn open(
        &mut self,
        context: SourceContext,
        restored: Vec<SourcePosition>,
    ) -> Result<(), TaskError>;

    /// The next batch. Returns soon after `budget.max_wait` at the latest, then with an empty batch.
    ///
    /// Records and positions must agree: a restart at `positions` yields exactly the records after this batch.
    /// # Errors
    /// [`TaskError::Retry`]: nothing was read; called again after a pause. Otherwise the open transaction is aborted and the task FAILED.
    async fn poll(&mut self, budget: Budget) -> Result<SourceBatch, TaskError>;

    /// Everything up to these positions is committed. May be called again after a crash: must be idempotent.
    ///
    /// # Errors
    /// As `poll`, but the records stay committed.
    async fn committed(&mut self, _upto: &[SourcePosition]) -> Result<(), TaskError> {
        Ok(())
    }

    /// The task ends; what was not committed will be read again.
    async fn close(&mut self) {}
}
