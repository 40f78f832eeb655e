//! The loop of a source: poll, convert, send, and commit records and positions in one transaction.
//!
//! Owns the order that makes it exactly-once, which `source.rs` tells in six steps:
//! fence earlier instances, then read the positions; then records and positions in one transaction; then `committed`.
//! Called by `supervisor.rs`. What passes (a broker that is away, an aborted transaction) ends the *session*: the next one fences, reads and opens anew.
//!
//! A producer that is fenced is one of these: the coordinator does that to a transaction that was open for too long (a process that stood still, a broker
//! that was away), and so does a successor's task. The next session asks for the worker's place first, which a successor takes before all others, and
//! ends there if one has. Kafka's `ExactlyOnceWorkerSourceTask` fails in both cases.

use std::sync::Arc;
use std::time::Duration;

use flumen_client::{Admin, ClientError, NewTopic, Producer, ProducerConfig, ProducerRecord};
use flumen_planted::{Bug, planted};
use flumen_protocol::error_code::ErrorCode;

use crate::dead_letter::{DeadLetter, Stage};
use crate::error::{Cause, TaskError};
use crate::offsets::Positions;
use crate::outbox::{BatchLimit, Encoded, Full, Open, Outbox, Rule};
use crate::record::{RejectedInput, SourceBatch, SourcePosition, SourceRecord};
use crate::runtime;
use crate::source::{Budget, SourceConnector, SourceContext, SourceTask};
use crate::task::{Control, TaskParts, client_error, send_and_wait};
use crate::topics::read_to_end;

/// Bytes of one poll.
const POLL_BYTES: usize = 1 << 20;
/// How long a poll may wait for input: the worker looks at its orders in between.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// The transactional id of a task. Kafka: `DistributedHerder.exactlyOnceSourceOffsets`, `Worker.taskTransactionalId`.
pub(crate) fn transactional_id(group_id: &str, connector: &str, task: usize) -> String {
    format!("{group_id}-{connector}-{task}")
}

/// Runs the task until it shall stop.
///
/// # Errors
/// What makes it FAILED.
pub(crate) async fn run(
    parts: &TaskParts,
    connector: &Arc<dyn SourceConnector>,
    control: &mut Control,
) -> Result<(), TaskError> {
    let mut backoff = parts.backoff();
    let mut trouble = None;
    let mut limit = BatchLimit::default();
    while !control.stopping() {
        let mut session = Session {
            parts,
            limit,
            task: connector.task(&parts.settings),
            producer: None,
            outbox: None,
            open: None,
            positions: Vec::new(),
            worked: false,
        };
        let ended = session.run(control).await;
        if session.worked {
            backoff.reset();
            trouble = None;
        }
        session.task.close().await;
        session.abort().await;
        // A topic that takes less than the usual: time does not help, smaller batches do.
        if let (Err(TaskError::Fatal(cause)), Some(smaller)) = (&ended, limit.smaller())
            && is_too_large(cause)
        {
            tracing::info!(task = parts.name(), "batches get smaller: {cause}");
            limit = smaller;
            continue;
        }
        let Err(TaskError::Retry { after, cause }) = ended else {
            return ended;
        };
        if !parts.bears(*trouble.get_or_insert_with(runtime::now)) {
            return Err(TaskError::Fatal(cause));
        }
        let pause = backoff.next(after);
        if backoff.is_news() {
            tracing::warn!(
                task = parts.name(),
                attempt = backoff.failures(),
                "starting again from the last commit in {pause:?}: {cause}"
            );
        }
        control.sleep(pause).await;
    }
    Ok(())
}

/// A batch was refused because of the topic's `max.message.bytes` or `segment.bytes`.
fn is_too_large(cause: &Cause) -> bool {
    let code = cause
        .downcast_ref::<ClientError>()
        .and_then(ClientError::code);
    code.is_some_and(|code| {
        matches!(
            ErrorCode::from_code(code),
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge
        )
    })
}

/// From a fence to the next.
struct Session<'a> {
    parts: &'a TaskParts,
    limit: BatchLimit,
    task: Box<dyn SourceTask>,
    producer: Option<Producer>,
    outbox: Option<Outbox>,
    /// The open transaction.
    open: Option<Open>,
    /// How far it brings the source.
    positions: Vec<SourcePosition>,
    /// Something was committed: earlier trouble is over.
    worked: bool,
}

impl Session<'_> {
    async fn run(&mut self, control: &mut Control) -> Result<(), TaskError> {
        let parts = self.parts;
        let mut config = parts.producer_config()?;
        config.transactional_id = Some(transactional_id(
            &parts.group_id,
            &parts.connector,
            parts.task,
        ));
        self.outbox = Some(Outbox::new(config.compression, self.limit));
        let record_bytes_max = config.max_request_bytes.min(1 << 20) - 4096;
        parts.ensure_dead_letter_topic().await?;
        parts.confirm_place().await?;
        let producer = Producer::new(&parts.client, config)
            .await
            .map_err(client_error)?;
        producer.init_transactions().await.map_err(producer_error)?;
        self.producer = Some(producer);
        let restored = read_positions(parts).await?;
        let context = SourceContext {
            connector: parts.connector.clone(),
            task: parts.task,
            stopping: control.stop.clone(),
        };
        self.task.open(context, restored).await?;
        control.running();
        let rule = rule(parts);
        while !control.stopping() {
            if control.paused() {
                self.commit().await?;
                control.until_resumed().await;
                continue;
            }
            let batch = self
                .task
                .poll(Budget {
                    bytes: POLL_BYTES,
                    records: 100_000,
                    max_wait: POLL_WAIT,
                })
                .await?;
            self.take(batch, record_bytes_max).await?;
            if self
                .open
                .is_some_and(|open| open.is_due(rule, runtime::now()))
            {
                self.commit().await?;
                self.worked = true;
            }
        }
        self.commit().await
    }

    /// Adds a batch to the transaction.
    async fn take(&mut self, batch: SourceBatch, record_bytes_max: usize) -> Result<(), TaskError> {
        if batch.is_empty() {
            return Ok(());
        }
        let producer = self
            .producer
            .clone()
            .expect("made at the start of the session");
        if self.open.is_none() {
            producer.begin_transaction().map_err(producer_error)?;
        }
        let open = self.open.get_or_insert_with(|| Open {
            since: runtime::now(),
            bytes: 0,
            boundary: batch.boundary,
        });
        open.bytes += batch.bytes;
        open.boundary = batch.boundary;
        let outbox = self
            .outbox
            .as_mut()
            .expect("made at the start of the session");
        outbox.note(&self.parts.connector, &batch);
        let clock = self.parts.client.config().wall_clock;
        let now_ms = clock.map_or_else(runtime::wall_ms, |clock| clock());
        let mut letters: Vec<DeadLetter> = batch.rejected.into_iter().map(rejected_input).collect();
        for record in batch.records {
            if !outbox.knows(&record.topic) {
                let partitions = partitions(self.parts, &record.topic).await?;
                outbox.learn(&record.topic, partitions);
                let _ = self.parts.seen.lock().insert(record.topic.to_string());
            }
            match encode(self.parts, &record, now_ms, record_bytes_max) {
                Ok(encoded) => match outbox.push(&record.topic, &encoded) {
                    Ok(None) => {}
                    Ok(Some(full)) => send(&producer, full).await?,
                    Err(why) => letters.push(letter(&record, Stage::TaskPoll, why)),
                },
                Err((stage, why)) => letters.push(letter(&record, stage, why)),
            }
        }
        for record in self.parts.judge(letters)? {
            drop(producer.send(record).await.map_err(producer_error)?);
        }
        for position in batch.positions {
            match self
                .positions
                .iter_mut()
                .find(|known| known.partition == position.partition)
            {
                Some(known) => *known = position,
                None => self.positions.push(position),
            }
        }
        Ok(())
    }

    /// Ends the transaction, if one is open, and tells the source.
    async fn commit(&mut self) -> Result<(), TaskError> {
        if self.open.is_none() {
            return Ok(());
        }
        let producer = self.producer.as_ref().expect("a transaction is open");
        let (blocks, positions) = self
            .outbox
            .as_mut()
            .expect("a transaction is open")
            .finish();
        for full in blocks {
            send(producer, full).await?;
        }
        let topic = self.parts.topics.offsets.as_str();
        let mut positions: Vec<ProducerRecord> = positions
            .into_iter()
            .map(|(key, offset)| ProducerRecord::new(topic, offset).key(key))
            .collect();
        if planted(Bug::SourcePositionOutside) {
            // Wrong: they stay when the transaction is aborted.
            let outside = Producer::new(&self.parts.client, ProducerConfig::default());
            let outside = outside.await.map_err(client_error)?;
            send_and_wait(&outside, std::mem::take(&mut positions)).await?;
        }
        for record in positions {
            drop(producer.send(record).await.map_err(producer_error)?);
        }
        producer
            .commit_transaction()
            .await
            .map_err(producer_error)?;
        self.open = None;
        let upto = std::mem::take(&mut self.positions);
        self.task.committed(&upto).await
    }

    /// Gives up what is open, so that readers need not wait for the next instance's fence.
    async fn abort(&mut self) {
        if let (Some(producer), Some(_)) = (&self.producer, self.open.take())
            && let Err(e) = producer.abort_transaction().await
        {
            tracing::debug!(
                task = self.parts.name(),
                "the open transaction was not aborted, the next start will do it: {e}"
            );
        }
    }
}

/// The committed positions of the connector, as they are after the fence.
async fn read_positions(parts: &TaskParts) -> Result<Vec<SourcePosition>, TaskError> {
    let mut positions = Positions::default();
    let read = read_to_end(&parts.client, &parts.topics.offsets, |key, value| {
        positions.apply(&parts.connector, key, value)
    });
    read.await.map_err(client_error)?;
    Ok(positions.into_vec())
}

fn rule(parts: &TaskParts) -> Rule {
    match parts.settings.word("transaction.boundary").as_str() {
        "poll" => Rule::Poll,
        "connector" => Rule::Connector,
        _ => Rule::Interval(
            parts.settings.duration("transaction.boundary.interval.ms"),
            parts.settings.count("transaction.boundary.bytes"),
        ),
    }
}

/// How many partitions a topic has; it is made if it is missing, by `topic.creation.default.*` or as the cluster does.
async fn partitions(parts: &TaskParts, topic: &str) -> Result<i32, TaskError> {
    let creation = parts.settings.under("topic.creation.default.");
    if !creation.is_empty() {
        let number = |name: &str| {
            creation
                .get(name)
                .and_then(|value| value.trim().parse::<i32>().ok())
                .unwrap_or(-1)
        };
        let mut new = NewTopic::new(topic, number("partitions"));
        new.replication_factor = i16::try_from(number("replication.factor")).unwrap_or(-1);
        let configs = creation.iter().filter(|(name, _)| {
            !["partitions", "replication.factor", "exclude", "include"].contains(&name.as_str())
        });
        new.configs = configs
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Admin::new(&parts.client)
            .ensure_topics(&[new])
            .await
            .map_err(client_error)?;
    }
    parts
        .client
        .partitions_of(topic)
        .await
        .map_err(client_error)
}

async fn send(producer: &Producer, full: Full) -> Result<(), TaskError> {
    // A failed block fails the commit: its delivery need not be kept.
    producer
        .send_batch(&full.topic, full.partition, full.block)
        .await
        .map(drop)
        .map_err(producer_error)
}

/// What an error of the task's own producer asks of it. By whom it was fenced is found out by the next session: see the head of the file.
fn producer_error(error: ClientError) -> TaskError {
    match error {
        ClientError::Fenced(_) => TaskError::Retry {
            after: Duration::ZERO,
            cause: Box::new(error),
        },
        error => client_error(error),
    }
}

fn encode(
    parts: &TaskParts,
    record: &SourceRecord,
    now_ms: i64,
    bytes_max: usize,
) -> Result<Encoded, (Stage, String)> {
    let key = parts
        .key_converter
        .encode(&record.topic, &record.key)
        .map_err(|e| (Stage::KeyConverter, e.0))?;
    let value = parts
        .value_converter
        .encode(&record.topic, &record.value)
        .map_err(|e| (Stage::ValueConverter, e.0))?;
    let headers = record
        .headers
        .iter()
        .map(|header| (header.name.as_bytes().clone(), header.value.clone()))
        .collect();
    let encoded = Encoded {
        partition: record.partition,
        key,
        value,
        headers,
        timestamp: record.timestamp.unwrap_or(now_ms),
    };
    if encoded.size() > bytes_max {
        return Err((
            Stage::ValueConverter,
            format!(
                "{} bytes are more than a record may have ({bytes_max})",
                encoded.size()
            ),
        ));
    }
    Ok(encoded)
}

fn rejected_input(input: RejectedInput) -> DeadLetter {
    DeadLetter {
        topic: input.topic.to_string(),
        position: None,
        place: Some(input.place),
        key: None,
        value: Some(input.raw),
        headers: Vec::new(),
        timestamp: None,
        stage: Stage::TaskPoll,
        reason: input.reason,
    }
}

/// A record that cannot be converted has no bytes: its text stands in for them.
fn letter(record: &SourceRecord, stage: Stage, reason: String) -> DeadLetter {
    let text = |data: &crate::record::Data| match &data.value {
        crate::value::Value::Null => None,
        crate::value::Value::String(text) => Some(text.as_bytes().clone()),
        crate::value::Value::Bytes(bytes) => Some(bytes.clone()),
        other => Some(format!("{other:?}").into()),
    };
    DeadLetter {
        topic: record.topic.to_string(),
        position: None,
        place: None,
        key: text(&record.key),
        value: text(&record.value),
        headers: Vec::new(),
        timestamp: record.timestamp,
        stage,
        reason,
    }
}
