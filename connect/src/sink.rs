//! The contract of a sink: how it claims its partitions, says where to start, and acknowledges what is durable.
//!
//! Owns the traits that sink plugins implement; `sink_task.rs` is the only caller. Life of a task:
//!
//! 1. the worker assigns topic partitions; [`SinkTask::open`] claims them in the target (an epoch, a lock), so that an earlier owner is fenced,
//!    and returns where to start: the target knows best what it holds;
//! 2. the worker reads from there, read_committed, converts, and calls [`SinkTask::write`] with batches of adjacent ranges;
//! 3. `write` returns [`Written::Durable`] once rows *and* next offsets are safe in the target, in one atomic step, or [`Written::Buffered`];
//! 4. [`SinkTask::flush`] makes what is buffered durable and says up to where; the worker then commits group offsets, for lag display only;
//! 5. a crash anywhere resumes at 1: the target's own offsets decide, nothing is written twice; [`SinkTask::close`] ends it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::config::{ConfigDef, Finding, Props, Settings};
use crate::error::TaskError;
use crate::record::{SinkBatch, TopicId, TopicPartition};
pub use crate::source::Guarantee;

/// A kind of sink: knows its options and makes tasks.
///
/// Source: Kafka `SinkConnector`.
#[async_trait]
pub trait SinkConnector: Send + Sync {
    /// The options of this kind, without those that every sink has (`topics`, converters, errors).
    fn config(&self) -> ConfigDef;

    /// The version shown by `GET /connector-plugins`.
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// Checks beyond single keys. May dial and look, must not change anything.
    async fn validate(&self, _settings: &Settings) -> Vec<Finding> {
        Vec::new()
    }

    /// Splits the work into at most `max_tasks` configurations; topic partitions are spread over them by the worker.
    /// A sink that can only be written by one task returns one.
    ///
    /// # Errors
    /// [`TaskError::Retry`] is tried again; anything else makes the connector FAILED.
    async fn task_configs(
        &self,
        settings: &Settings,
        max_tasks: usize,
    ) -> Result<Vec<Props>, TaskError> {
        Ok(vec![settings.props().clone(); max_tasks])
    }

    /// What it promises with these settings.
    fn guarantees(&self, settings: &Settings) -> Guarantee;

    /// Makes a task, not yet opened.
    fn task(&self, settings: &Settings) -> Box<dyn SinkTask>;

    /// Offsets of a stopped connector are set from outside; `None`: forget the partition. A sink that keeps its own offsets must follow.
    ///
    /// # Errors
    /// The sentence for the user.
    async fn alter_offsets(
        &self,
        _settings: &Settings,
        _connector: &str,
        _offsets: &BTreeMap<TopicPartition, Option<i64>>,
    ) -> Result<(), String> {
        Ok(())
    }

    /// The connector was deleted.
    async fn on_delete(&self, _settings: &Settings) {}
}

/// A partition that a sink is about to own, with what the cluster knows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct AssignedPartition {
    /// Which.
    pub topic_partition: TopicPartition,
    /// Id of the topic, so that a topic deleted and made again is recognised; `None` where the cluster has none.
    pub topic_id: Option<TopicId>,
    /// The first offset that can be read.
    pub log_start_offset: i64,
    /// The end of what is committed.
    pub log_end_offset: i64,
    /// What the consumer group last committed: a hint for a sink that knows nothing yet.
    pub group_offset: Option<i64>,
}

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At this offset: the target's own record.
    Offset(i64),
    /// At the group's offset, or the beginning: for sinks that cannot keep one. At-least-once.
    Group,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Rows and next offsets are safe.
    Durable,
    /// Taken, not yet safe; `flush` will tell.
    Buffered,
}

/// Why a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// It shall stop; what is buffered was flushed before.
    Stop,
    /// Somebody else owns the partitions already: write nothing.
    Lost,
}

/// What the worker tells a task about itself.
#[derive(Debug, Clone)]
pub struct SinkContext {
    /// The connector's name: the name under which a target keeps offsets.
    pub connector: String,
    /// The number of the task.
    pub task: usize,
    /// Who claims, for messages to whoever is fenced: `worker host:port pid 123`.
    pub owner: String,
    /// Cancelled when the task shall stop.
    pub stopping: CancellationToken,
}

/// A running part of a sink.
#[async_trait]
pub trait SinkTask: Send {
    /// Claims these partitions and says where to start each of them. After it returns no earlier owner can write them any more.
    ///
    /// # Errors
    /// [`TaskError::Retry`]: called again after a pause. [`TaskError::Fatal`]: the target contradicts the topic (recreated topic, offsets beyond its
    /// end), the task is FAILED.
    async fn open(
        &mut self,
        context: SinkContext,
        partitions: &[AssignedPartition],
    ) -> Result<BTreeMap<TopicPartition, StartAt>, TaskError>;

    /// Writes batches, at most one per partition. All or nothing: on an error nothing of the call may be durable.
    ///
    /// # Errors
    /// [`TaskError::Retry`]: called again with the same batches (after [`open`](Self::open) again, if [`TaskError::Retry`] left the claim in doubt, which is
    /// the plugin's own affair). [`TaskError::Records`]: called again without those records and with the same ranges. [`TaskError::Fenced`]: the task stops.
    async fn write(&mut self, batches: &[SinkBatch]) -> Result<Written, TaskError>;

    /// Makes durable what is buffered; returns the next offset per partition that has moved.
    ///
    /// # Errors
    /// As [`write`](Self::write), except [`TaskError::Records`].
    async fn flush(&mut self) -> Result<BTreeMap<TopicPartition, i64>, TaskError> {
        Ok(BTreeMap::new())
    }

    /// The task ends.
    async fn close(&mut self, _why: Close) {}
}
