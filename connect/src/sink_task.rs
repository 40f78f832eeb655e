//! The loop of a sink: claim, read committed records from where the target says, convert, write, and only then tell the group.
//!
//! Owns the order that makes it exactly-once, which `sink.rs` tells in five steps. Called by `supervisor.rs`. Partitions are assigned, not subscribed:
//! the target's own claim fences an earlier owner, so a restart waits for no session to end. Trouble of the cluster ends the *session*; trouble of
//! the target is borne in place, with the same batch, while nothing more is read: that is the back-pressure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flumen_client::{
    Admin, Consumer, ConsumerConfig, Isolation, OffsetAndMetadata, OffsetReset, OffsetSpec, Poll,
    Producer, ProducerConfig,
};
use flumen_planted::{Bug, planted};
use flumen_protocol::compression::DecompressionLimit;

use crate::error::TaskError;
use crate::pending::{Decode, Limits, Pending, Read};
use crate::record::TopicPartition;
use crate::runtime;
use crate::sink::{
    AssignedPartition, Close, SinkConnector, SinkContext, SinkTask, StartAt, Written,
};
use crate::task::{Control, TaskParts, client_error, send_and_wait};

/// How often new topics and partitions are looked for.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(10);
/// The longest wait in one poll: the worker looks at its orders in between.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// How long to wait for a topic that does not exist.
const TOPIC_WAIT: Duration = Duration::from_millis(250);

/// The group of a sink, where its lag is shown. Kafka: `SinkUtils.consumerGroupId`.
pub(crate) fn group_id(connector: &str) -> String {
    format!("connect-{connector}")
}

/// Runs the task until it shall stop.
///
/// # Errors
/// What makes it FAILED.
pub(crate) async fn run(
    parts: &TaskParts,
    connector: &Arc<dyn SinkConnector>,
    control: &mut Control,
) -> Result<(), TaskError> {
    let mut backoff = parts.backoff();
    let mut trouble = None;
    while !control.stopping() {
        let mut worked = false;
        let mut task = connector.task(&parts.settings);
        let ended = session(parts, task.as_mut(), control, &mut worked).await;
        task.close(if matches!(ended, Err(TaskError::Fenced(_))) {
            Close::Lost
        } else {
            Close::Stop
        })
        .await;
        if worked {
            backoff.reset();
            trouble = None;
        }
        match ended {
            Ok(()) => {}
            Err(TaskError::Retry { after, cause }) => {
                if !parts.bears(*trouble.get_or_insert_with(runtime::now)) {
                    return Err(TaskError::Fatal(cause));
                }
                let pause = backoff.next(after);
                if backoff.is_news() {
                    tracing::warn!(
                        task = parts.name(),
                        attempt = backoff.failures(),
                        "opening again in {pause:?}: {cause}"
                    );
                }
                control.sleep(pause).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// From a claim to the next. Ends without an error when the task shall stop, and when the partitions have changed.
async fn session(
    parts: &TaskParts,
    task: &mut dyn SinkTask,
    control: &mut Control,
    worked: &mut bool,
) -> Result<(), TaskError> {
    control.running();
    let share = loop {
        let share = share_of(parts).await?;
        if control.stopping() {
            return Ok(());
        }
        if !share.mine.is_empty() {
            break share;
        }
        // A task too many waits for new partitions as the others look for them.
        control
            .sleep(match share.all {
                0 => TOPIC_WAIT,
                _ => LOOK_FOR_PARTITIONS,
            })
            .await;
    };
    let partitions = assigned(parts, share.mine).await?;
    parts.ensure_dead_letter_topic().await?;
    parts.confirm_place().await?;
    parts
        .seen
        .lock()
        .extend(partitions.iter().map(|p| p.topic_partition.topic.clone()));
    let owner = format!("worker {} pid {}", parts.worker_id, std::process::id());
    let context = SinkContext {
        connector: parts.connector.clone(),
        task: parts.task,
        owner,
        stopping: control.stop.clone(),
    };
    let starts = task.open(context, &partitions).await?;
    let positions = positions(parts, &partitions, &starts)?;
    let consumer = consumer(parts).await?;
    consumer
        .assign(positions.keys().cloned().collect())
        .await
        .map_err(client_error)?;
    for (partition, (_, seek)) in &positions {
        consumer.seek(partition, *seek).map_err(client_error)?;
    }
    let mut running = Running {
        parts,
        task,
        consumer,
        pending: Pending::new(
            positions
                .iter()
                .map(|(partition, (start, _))| (partition.clone(), *start))
                .collect(),
        ),
        dead_letters: None,
        moved: BTreeMap::new(),
        committed_at: runtime::now(),
        looked_at: runtime::now(),
        known: partitions
            .into_iter()
            .map(|partition| partition.topic_partition)
            .collect(),
    };
    let ended = running.read(control, worked).await;
    running.commit_group(true).await;
    running.consumer.close().await;
    ended
}

/// The partitions of a task, with their topics' ids.
struct Share {
    mine: BTreeMap<TopicPartition, Option<flumen_protocol::id::TopicId>>,
    /// How many partitions all tasks have together.
    all: usize,
}

/// The partitions of this task: every `tasks`-th of all, in order, of the topics that exist now.
async fn share_of(parts: &TaskParts) -> Result<Share, TaskError> {
    let wanted = parts.settings.list("topics");
    let pattern = parts
        .settings
        .opt("topics.regex")
        .map(|pattern| regex::Regex::new(&format!("^(?:{pattern})$")));
    let pattern = pattern
        .transpose()
        .map_err(|e| TaskError::fatal(format!("topics.regex: {e}")))?;
    let mut all = BTreeMap::new();
    for topic in Admin::new(&parts.client)
        .list_topics()
        .await
        .map_err(client_error)?
    {
        let matches = pattern
            .as_ref()
            .is_some_and(|pattern| !topic.internal && pattern.is_match(&topic.name));
        if wanted.contains(&topic.name) || matches {
            let id = (!topic.id.is_nil()).then_some(topic.id);
            all.extend(
                topic
                    .partitions
                    .iter()
                    .map(|p| (TopicPartition::new(&topic.name, p.partition), id)),
            );
        }
    }
    Ok(Share {
        all: all.len(),
        mine: all
            .into_iter()
            .enumerate()
            .filter(|(index, _)| index % parts.tasks == parts.task)
            .map(|(_, entry)| entry)
            .collect(),
    })
}

/// The same with what the cluster knows of them.
async fn assigned(
    parts: &TaskParts,
    mine: BTreeMap<TopicPartition, Option<flumen_protocol::id::TopicId>>,
) -> Result<Vec<AssignedPartition>, TaskError> {
    let names: Vec<TopicPartition> = mine.keys().cloned().collect();
    let admin = Admin::new(&parts.client);
    let starts = admin
        .list_offsets(&names, OffsetSpec::Earliest)
        .await
        .map_err(client_error)?;
    let ends = admin
        .list_offsets(&names, OffsetSpec::Latest(Isolation::ReadUncommitted))
        .await
        .map_err(client_error)?;
    let group = admin
        .group_offsets(&group_id(&parts.connector))
        .await
        .map_err(client_error)?;
    let offset = |of: &BTreeMap<TopicPartition, flumen_client::ListedOffset>,
                  at: &TopicPartition| of.get(at).map_or(0, |found| found.offset);
    let partitions = mine
        .into_iter()
        .map(|(topic_partition, topic_id)| AssignedPartition {
            log_start_offset: offset(&starts, &topic_partition),
            log_end_offset: offset(&ends, &topic_partition),
            group_offset: group.get(&topic_partition).copied(),
            topic_id,
            topic_partition,
        });
    Ok(partitions.collect())
}

/// Per partition the offset that the target expects next, and the one to read from. They differ where records are gone.
fn positions(
    parts: &TaskParts,
    partitions: &[AssignedPartition],
    starts: &BTreeMap<TopicPartition, StartAt>,
) -> Result<BTreeMap<TopicPartition, (i64, i64)>, TaskError> {
    let mut positions = BTreeMap::new();
    for partition in partitions {
        let start = match starts.get(&partition.topic_partition) {
            // Wrong with the bug: the group's offset is behind what the target has.
            Some(StartAt::Offset(offset)) if !planted(Bug::SinkStartIgnored) => *offset,
            Some(StartAt::Offset(_) | StartAt::Group) | None => {
                partition.group_offset.unwrap_or(partition.log_start_offset)
            }
        };
        if start < partition.log_start_offset {
            lost(
                parts,
                &partition.topic_partition,
                start,
                partition.log_start_offset,
            )?;
        }
        let _ = positions.insert(
            partition.topic_partition.clone(),
            (start, start.max(partition.log_start_offset)),
        );
    }
    Ok(positions)
}

/// Records `[from, upto)` were deleted before they were read.
fn lost(
    parts: &TaskParts,
    partition: &TopicPartition,
    from: i64,
    upto: i64,
) -> Result<(), TaskError> {
    let words = format!(
        "{partition}: offsets {from} to {} were deleted before they were read",
        upto - 1
    );
    if parts.settings.word("on.data.loss") == "warn" {
        tracing::warn!(task = parts.name(), "{words}; going on at {upto}");
        return Ok(());
    }
    Err(TaskError::fatal(format!(
        "{words}; on.data.loss=warn goes on behind them"
    )))
}

async fn consumer(parts: &TaskParts) -> Result<Consumer, TaskError> {
    let mut config = ConsumerConfig {
        group_id: Some(group_id(&parts.connector)),
        isolation: Isolation::ReadCommitted,
        auto_offset_reset: OffsetReset::None,
        prefetch_bytes: 16 << 20,
        ..ConsumerConfig::default()
    };
    for (name, value) in parts.settings.under("consumer.override.") {
        let wrong = || {
            TaskError::fatal(format!(
                "Invalid value {value} for configuration consumer.override.{name}"
            ))
        };
        let number = || value.trim().parse::<i32>().map_err(|_| wrong());
        match name.as_str() {
            "fetch.min.bytes" => config.fetch_min_bytes = number()?,
            "fetch.max.bytes" => config.fetch_max_bytes = number()?,
            "max.partition.fetch.bytes" => config.max_partition_fetch_bytes = number()?,
            "fetch.max.wait.ms" => {
                config.fetch_max_wait =
                    Duration::from_millis(u64::try_from(number()?).map_err(|_| wrong())?)
            }
            _ => tracing::warn!(
                task = parts.name(),
                "consumer.override.{name} is not known here and has no effect"
            ),
        }
    }
    Consumer::new(&parts.client, config)
        .await
        .map_err(client_error)
}

struct Running<'a> {
    parts: &'a TaskParts,
    task: &'a mut dyn SinkTask,
    consumer: Consumer,
    pending: Pending,
    dead_letters: Option<Producer>,
    /// Durable in the target, not yet told to the group.
    moved: BTreeMap<TopicPartition, i64>,
    committed_at: Instant,
    looked_at: Instant,
    known: Vec<TopicPartition>,
}

impl Running<'_> {
    async fn read(&mut self, control: &mut Control, worked: &mut bool) -> Result<(), TaskError> {
        let settings = &self.parts.settings;
        let limits = Limits {
            records: settings.count("sink.batch.records"),
            bytes: settings.count("sink.batch.bytes"),
            linger: settings.duration("sink.linger.ms"),
        };
        while !control.stopping() {
            if control.paused() {
                self.write(control).await?;
                self.commit_group(true).await;
                control.until_resumed().await;
                continue;
            }
            let wait = self
                .pending
                .wait(limits, runtime::now())
                .unwrap_or(POLL_WAIT)
                .min(POLL_WAIT);
            match self
                .consumer
                .poll_batches(wait)
                .await
                .map_err(client_error)?
            {
                Poll::Records(fetched) => self.take(fetched).await?,
                Poll::PositionLost {
                    partition,
                    position,
                    log_start,
                    log_end,
                } => self.position_lost(&partition, position, log_start, log_end)?,
                _ => {}
            }
            if self.pending.is_due(limits, runtime::now()) {
                self.write(control).await?;
                *worked = true;
            }
            self.commit_group(false).await;
            if self.partitions_changed().await? {
                break;
            }
        }
        self.write(control).await?;
        self.moved.extend(self.task.flush().await?);
        Ok(())
    }

    async fn take(&mut self, fetched: Vec<flumen_client::FetchedRecords>) -> Result<(), TaskError> {
        let decode = Decode {
            key: &*self.parts.key_converter,
            value: &*self.parts.value_converter,
        };
        let mut letters = Vec::new();
        for piece in fetched {
            let records: Result<Vec<_>, _> = piece.records(DecompressionLimit::DEFAULT).collect();
            let records = records.map_err(client_error)?;
            let read = Read {
                partition: &piece.partition,
                records,
                next_offset: piece.next_offset,
            };
            letters.extend(self.pending.add(read, &decode, runtime::now()));
        }
        self.bury(letters).await
    }

    /// Sends dead letters and waits for them: what is behind them may be committed next.
    async fn bury(
        &mut self,
        letters: Vec<crate::dead_letter::DeadLetter>,
    ) -> Result<(), TaskError> {
        let records = self.parts.judge(letters)?;
        if records.is_empty() {
            return Ok(());
        }
        if self.dead_letters.is_none() {
            self.dead_letters = Some(
                Producer::new(&self.parts.client, ProducerConfig::default())
                    .await
                    .map_err(client_error)?,
            );
        }
        send_and_wait(self.dead_letters.as_ref().expect("just made"), records).await
    }

    /// Writes what is pending, however long the target takes. Nothing more is read meanwhile.
    async fn write(&mut self, control: &Control) -> Result<(), TaskError> {
        let mut backoff = self.parts.backoff();
        let since = runtime::now();
        while !self.pending.batches().is_empty() {
            match self.task.write(self.pending.batches()).await {
                Ok(Written::Durable) => {
                    self.moved.extend(self.pending.written());
                    if backoff.failures() > 0 {
                        tracing::info!(
                            task = self.parts.name(),
                            "writing again after {} attempts",
                            backoff.failures()
                        );
                    }
                }
                Ok(Written::Buffered) => drop(self.pending.written()),
                Err(TaskError::Records(rejected)) => {
                    let letters = self.pending.reject(rejected);
                    if letters.is_empty() {
                        return Err(TaskError::fatal(
                            "the sink refused records that were not in the batch",
                        ));
                    }
                    self.bury(letters).await?;
                }
                Err(TaskError::Retry { after, cause }) => {
                    // Not written is not lost: the next instance reads it again.
                    if control.stopping() {
                        return Ok(());
                    }
                    if !self.parts.bears(since) {
                        return Err(TaskError::Fatal(cause));
                    }
                    let pause = backoff.next(after);
                    if backoff.is_news() {
                        tracing::warn!(
                            task = self.parts.name(),
                            attempt = backoff.failures(),
                            "writing the same batch again in {pause:?}: {cause}"
                        );
                    }
                    control.sleep(pause).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn position_lost(
        &mut self,
        partition: &TopicPartition,
        position: i64,
        log_start: i64,
        log_end: i64,
    ) -> Result<(), TaskError> {
        if position > log_end {
            return Err(TaskError::fatal(format!(
                "{partition}: offset {position} was read already, the topic ends at {log_end}: it lost records, or was made anew"
            )));
        }
        if log_start <= position {
            // The log that did not have the offset a moment ago is another one: nothing was deleted in between.
            return Err(TaskError::fatal(format!(
                "{partition}: offset {position} was refused, and now the log has {log_start} to {log_end}: the topic was made anew, or lost records"
            )));
        }
        lost(self.parts, partition, position, log_start)?;
        self.consumer
            .seek(partition, log_start)
            .map_err(client_error)
    }

    /// Tells the group how far the target is, from time to time: for lag display, and for sinks that keep no offsets.
    async fn commit_group(&mut self, now: bool) {
        let due = now
            || runtime::now().duration_since(self.committed_at)
                >= self.parts.settings.duration("offset.flush.interval.ms");
        if !due {
            return;
        }
        self.committed_at = runtime::now();
        match self.task.flush().await {
            Ok(flushed) => self.moved.extend(flushed),
            Err(e) => return tracing::debug!(task = self.parts.name(), "nothing flushed: {e}"),
        }
        if self.moved.is_empty() {
            return;
        }
        let offsets: Vec<_> = self
            .moved
            .iter()
            .map(|(partition, next)| {
                (
                    partition.clone(),
                    OffsetAndMetadata {
                        offset: *next,
                        leader_epoch: -1,
                        metadata: String::new(),
                    },
                )
            })
            .collect();
        match self.consumer.commit(&offsets).await {
            Ok(()) => self.moved.clear(),
            Err(e) => tracing::warn!(
                task = self.parts.name(),
                "the group's offsets are behind, the target's are not: {e}"
            ),
        }
    }

    async fn partitions_changed(&mut self) -> Result<bool, TaskError> {
        if runtime::now().duration_since(self.looked_at) < LOOK_FOR_PARTITIONS {
            return Ok(false);
        }
        self.looked_at = runtime::now();
        let now = share_of(self.parts).await?.mine;
        let changed = !now.keys().eq(self.known.iter());
        if changed {
            tracing::info!(
                task = self.parts.name(),
                before = self.known.len(),
                now = now.len(),
                "the partitions have changed; opening again"
            );
        }
        Ok(changed)
    }
}
