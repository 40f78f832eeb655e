//! Source stage: bytes of one topic become typed records, queued until their turn by timestamp.
//!
//! Called by the chain: `take` for every input of an epoch, then `run` in the order of timestamps over all sources of the task
//! (Kafka: `PartitionGroup`). Unreadable records end here, by policy.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::dataflow::instance::{EngineCounters, Flow, Instance, Port, TaskContext};
use crate::dataflow::{RawRecord, SourceInput, SourceRecords};
use crate::error::{EngineError, SerdeError};
use crate::record::{Headers, Record};
use crate::serde::Serde;
use crate::time::{Extract, NO_TIMESTAMP, TimestampExtractor};
use crate::topology::{NodeId, TopicRef};

/// What happens to an input record whose key, value or timestamp cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnDeserializationError {
    /// The engine stops with an error that names topic, partition and offset (the default; Kafka: `LogAndFailExceptionHandler`).
    #[default]
    Fail,
    /// The record is named in a warning, counted and skipped (Kafka: `LogAndContinueExceptionHandler`).
    LogAndContinue,
    /// As `LogAndContinue`, and the record goes unchanged to this topic in the same transaction, with headers that say where it came from and
    /// why (`__streams.errors.*`; Kafka: KIP-1034).
    DeadLetter(String),
}

/// A source as the chain sees it.
pub(crate) trait SourceStage {
    /// Decodes and queues records.
    fn take(&mut self, input: SourceInput) -> Flow;
    /// Timestamp of the next record.
    fn head(&self) -> Option<i64>;
    /// Sends records down, from the head until one is later than `upto`, at most `count`.
    fn run(&mut self, upto: i64, count: usize) -> Flow;
    /// Topic, offset of the next record to read and largest timestamp read; `None` if nothing was read yet.
    fn position(&self) -> Option<(Arc<str>, i64, i64)>;
}

/// Options of a source.
pub(crate) struct SourceOptions<K, V> {
    pub(crate) topic: TopicRef,
    pub(crate) key: Arc<dyn Serde<K>>,
    pub(crate) value: Arc<dyn Serde<V>>,
    pub(crate) extractor: TimestampExtractor<K, V>,
    pub(crate) on_error: OnDeserializationError,
}

struct Source<K, V> {
    context: Rc<TaskContext>,
    node: NodeId,
    options: Arc<SourceOptions<K, V>>,
    topic: Arc<str>,
    /// Records not yet sent.
    queue: VecDeque<Record<K, V>>,
    batch: Vec<Record<K, V>>,
    next_offset: Option<i64>,
    partition_time: i64,
    port: Port<Record<K, V>>,
}

/// Builds the source node.
pub(crate) fn build<K: Clone + 'static, V: Clone + 'static>(
    instance: &mut Instance,
    options: &Arc<SourceOptions<K, V>>,
) {
    let start = instance.source_start();
    let source = Source {
        topic: Arc::from(options.topic.topic(&instance.context.shared.application_id)),
        next_offset: start.map(|position| position.next_offset),
        partition_time: start.map_or(NO_TIMESTAMP, |position| position.partition_time),
        context: Rc::clone(&instance.context),
        node: instance.node(),
        options: Arc::clone(options),
        queue: VecDeque::new(),
        batch: Vec::new(),
        port: instance.downstream(),
    };
    instance.sources.push(Box::new(source));
}

impl<K, V> Source<K, V> {
    fn read(&self, raw: &RawRecord) -> Result<Record<K, V>, (&'static str, SerdeError)> {
        let key = read(&*self.options.key, raw.key.as_ref()).map_err(|error| ("key", error))?;
        let value =
            read(&*self.options.value, raw.value.as_ref()).map_err(|error| ("value", error))?;
        let timestamp = match &self.options.extractor.0 {
            Extract::Record => raw.timestamp,
            Extract::Value(extract) => extract(&key, &value),
            Extract::WallClock => self.context.shared.now_ms.get(),
        };
        if timestamp < 0 {
            return Err((
                "timestamp",
                SerdeError::Malformed(format!("{timestamp} is negative")),
            ));
        }
        Ok(Record {
            key,
            value,
            timestamp,
            headers: raw.headers.clone(),
        })
    }

    /// The record goes where the policy says.
    fn unreadable(&self, raw: &RawRecord, part: &'static str, error: SerdeError) -> Flow {
        let (partition, offset) = (self.context.task.partition, raw.offset);
        if self.options.on_error == OnDeserializationError::Fail {
            let topic = self.topic.to_string();
            return Err(Box::new(EngineError::Deserialization {
                topic,
                partition,
                offset,
                part,
                error,
            }));
        }
        let counter = &self.context.counters.dropped_unreadable;
        if EngineCounters::add(counter, 1) {
            let dropped = counter.load(Ordering::Relaxed);
            tracing::warn!(topic = &*self.topic, partition, offset, part, %error, dropped, "record cannot be read and is left out");
        }
        if let OnDeserializationError::DeadLetter(dead_letters) = &self.options.on_error {
            let headers = self.reasons(raw, part, &error);
            let shared = &self.context.shared;
            let target = self.context.task.partition % shared.partitions_of(dead_letters);
            let (key, value) = (raw.key.as_deref(), raw.value.as_deref());
            shared.with_outbox(|outbox| {
                outbox
                    .buffer(&Arc::from(dead_letters.as_str()), target)
                    .push(raw.timestamp, key, value, &headers)
            });
        }
        Ok(())
    }

    fn reasons(&self, raw: &RawRecord, part: &str, error: &SerdeError) -> Headers {
        let reasons = [
            (
                "__streams.errors.exception",
                "DeserializationException".to_owned(),
            ),
            (
                "__streams.errors.message",
                format!("the {part} cannot be read: {error}"),
            ),
            ("__streams.errors.topic", self.topic.to_string()),
            (
                "__streams.errors.partition",
                self.context.task.partition.to_string(),
            ),
            ("__streams.errors.offset", raw.offset.to_string()),
        ];
        let kept = raw
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.cloned()));
        kept.chain(reasons.map(|(name, value)| {
            (
                Bytes::from_static(name.as_bytes()),
                Some(Bytes::from(value)),
            )
        }))
        .collect()
    }
}

fn read<T>(serde: &dyn Serde<T>, bytes: Option<&Bytes>) -> Result<T, SerdeError> {
    match bytes {
        Some(bytes) => serde.deserialize_shared(bytes, bytes),
        None => serde.null(),
    }
}

impl<K: 'static, V: 'static> SourceStage for Source<K, V> {
    fn take(&mut self, input: SourceInput) -> Flow {
        self.context.running.set(self.node);
        let next_offset = input.next_offset;
        let SourceRecords::Raw(records) = input.records;
        self.queue.reserve(records.len());
        self.context
            .counters
            .records_in
            .fetch_add(records.len() as u64, Ordering::Relaxed);
        for raw in &records {
            match self.read(raw) {
                Ok(record) => {
                    self.partition_time = self.partition_time.max(record.timestamp);
                    self.queue.push_back(record);
                }
                Err((part, error)) => self.unreadable(raw, part, error)?,
            }
        }
        self.next_offset = Some(next_offset);
        Ok(())
    }

    fn head(&self) -> Option<i64> {
        self.queue.front().map(|record| record.timestamp)
    }

    fn run(&mut self, upto: i64, count: usize) -> Flow {
        if count >= self.queue.len() && upto == i64::MAX {
            // A deque that starts at its allocation becomes a Vec and back without a copy.
            let mut all = Vec::from(std::mem::take(&mut self.queue));
            let sent = self.port.borrow_mut().push(&mut all);
            all.clear();
            self.queue = VecDeque::from(all);
            return sent;
        }
        let run = self
            .queue
            .iter()
            .take(count)
            .take_while(|record| record.timestamp <= upto)
            .count();
        self.batch.extend(self.queue.drain(..run));
        let sent = self.port.borrow_mut().push(&mut self.batch);
        self.batch.clear();
        sent
    }

    fn position(&self) -> Option<(Arc<str>, i64, i64)> {
        self.next_offset
            .map(|offset| (Arc::clone(&self.topic), offset, self.partition_time))
    }
}
