//! Source stage: bytes of one topic become typed records, queued until their turn by timestamp.
//!
//! Called by the chain: `take` for every input of an epoch, then `run` in the order of timestamps over all sources of the task
//! (Kafka: `PartitionGroup`). Unreadable records end here, by policy.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flumen_protocol::batch::BatchHeader;
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::record::RecordRef;

use crate::dataflow::instance::{EngineCounters, Flow, Instance, Port, TaskContext};
use crate::dataflow::{RawRecord, SourceInput, SourceRecords};
use crate::error::{EngineError, SerdeError};
use crate::record::{Headers, Record};
use crate::serdes::Serde;
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
    /// Bytes not yet decoded.
    pending: VecDeque<Pending>,
    /// Records not yet sent; refilled from `pending` when empty.
    queue: VecDeque<Record<K, V>>,
    batch: Vec<Record<K, V>>,
    next_offset: Option<i64>,
    partition_time: i64,
    port: Port<Record<K, V>>,
}

/// Records decoded and sent at once: enough to make calls cheap, few enough to stay in the processor's cache.
const CHUNK: usize = 1024;

/// Input that waits to be decoded.
enum Pending {
    Raw(std::vec::IntoIter<RawRecord>),
    Batch {
        header: BatchHeader,
        /// Decompressed; records are read from `position` on.
        payload: Bytes,
        position: usize,
        /// Records below were read before this fetch.
        first_offset: i64,
    },
}

/// A record before its serdes.
struct Encoded<'a> {
    offset: i64,
    timestamp: i64,
    key: Option<Part<'a>>,
    value: Option<Part<'a>>,
    headers: Headers,
}

/// Bytes and the buffer that holds them.
#[derive(Clone, Copy)]
struct Part<'a> {
    bytes: &'a [u8],
    owner: &'a Bytes,
}

impl<'a> Part<'a> {
    fn whole(owner: &'a Bytes) -> Self {
        Self {
            bytes: owner,
            owner,
        }
    }
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
        pending: VecDeque::new(),
        queue: VecDeque::new(),
        batch: Vec::new(),
        port: instance.downstream(),
    };
    instance.sources.push(Box::new(source));
}

impl<K, V> Source<K, V> {
    /// Decodes the next chunk, unless there are records left to send.
    fn fill(&mut self) -> Flow {
        while self.queue.is_empty() {
            let Some(mut pending) = self.pending.pop_front() else {
                return Ok(());
            };
            let read = self.decode(&mut pending)?;
            self.context
                .counters
                .records_in
                .fetch_add(read as u64, Ordering::Relaxed);
            if read == CHUNK {
                self.pending.push_front(pending);
            }
        }
        Ok(())
    }

    /// Reads up to a chunk of records; fewer means that no more are left.
    fn decode(&mut self, pending: &mut Pending) -> Result<usize, Box<EngineError>> {
        self.context.running.set(self.node);
        let mut read = 0;
        match pending {
            Pending::Raw(records) => {
                for raw in records.take(CHUNK) {
                    let (key, value) = (
                        raw.key.as_ref().map(Part::whole),
                        raw.value.as_ref().map(Part::whole),
                    );
                    self.accept(Encoded {
                        offset: raw.offset,
                        timestamp: raw.timestamp,
                        key,
                        value,
                        headers: raw.headers,
                    })?;
                    read += 1;
                }
            }
            Pending::Batch {
                header,
                payload,
                position,
                first_offset,
            } => {
                let mut rest = &payload[*position..];
                while read < CHUNK && !rest.is_empty() {
                    let record = RecordRef::parse(&mut rest)
                        .map_err(|error| self.corrupt(header.base_offset, &error))?;
                    read += 1;
                    let offset = header.base_offset + i64::from(record.offset_delta);
                    if offset >= *first_offset {
                        self.accept(encoded(header, payload, &record))?;
                    }
                }
                *position = payload.len() - rest.len();
            }
        }
        Ok(read)
    }

    fn corrupt(&self, offset: i64, error: &dyn std::fmt::Display) -> Box<EngineError> {
        let (topic, partition) = (self.topic.to_string(), self.context.task.partition);
        Box::new(EngineError::CorruptBatch {
            topic,
            partition,
            offset,
            message: error.to_string(),
        })
    }

    /// Queues a record, or does with it what the policy says.
    fn accept(&mut self, encoded: Encoded<'_>) -> Flow {
        match self.read(&encoded) {
            Ok((key, value, timestamp)) => {
                self.partition_time = self.partition_time.max(timestamp);
                self.queue.push_back(Record {
                    key,
                    value,
                    timestamp,
                    headers: encoded.headers,
                });
                Ok(())
            }
            Err((part, error)) => self.unreadable(&encoded, part, error),
        }
    }

    fn read(&self, encoded: &Encoded<'_>) -> Result<(K, V, i64), (&'static str, SerdeError)> {
        let key = read(&*self.options.key, encoded.key).map_err(|error| ("key", error))?;
        let value = read(&*self.options.value, encoded.value).map_err(|error| ("value", error))?;
        let timestamp = match &self.options.extractor.0 {
            Extract::Record => encoded.timestamp,
            Extract::Value(extract) => extract(&key, &value),
            Extract::WallClock => self.context.shared.now_ms.get(),
        };
        if timestamp < 0 {
            return Err((
                "timestamp",
                SerdeError::Malformed(format!("{timestamp} is negative")),
            ));
        }
        Ok((key, value, timestamp))
    }

    /// The record goes where the policy says.
    fn unreadable(&self, encoded: &Encoded<'_>, part: &'static str, error: SerdeError) -> Flow {
        let (partition, offset) = (self.context.task.partition, encoded.offset);
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
            let headers = self.reasons(encoded, part, &error);
            let shared = &self.context.shared;
            let target = self.context.task.partition % shared.partitions_of(dead_letters);
            let (key, value) = (
                encoded.key.map(|part| part.bytes),
                encoded.value.map(|part| part.bytes),
            );
            let topic = shared.topic_index(dead_letters);
            shared.with_outbox(|outbox| {
                outbox
                    .buffer(topic, target)
                    .push(encoded.timestamp, key, value, &headers)
            });
        }
        Ok(())
    }

    fn reasons(&self, encoded: &Encoded<'_>, part: &str, error: &SerdeError) -> Headers {
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
            ("__streams.errors.offset", encoded.offset.to_string()),
        ];
        let kept = encoded
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

fn encoded<'a>(header: &BatchHeader, payload: &'a Bytes, record: &RecordRef<'a>) -> Encoded<'a> {
    let part = |bytes| Part {
        bytes,
        owner: payload,
    };
    let owned = |bytes: &[u8]| payload.slice_ref(bytes);
    let headers = match record.headers() {
        none if none.len() == 0 => Headers::none(),
        some => some
            .map(|(name, value)| (owned(name), value.map(owned)))
            .collect(),
    };
    Encoded {
        offset: header.base_offset + i64::from(record.offset_delta),
        timestamp: header.timestamp_of(record.timestamp_delta),
        key: record.key.map(part),
        value: record.value.map(part),
        headers,
    }
}

fn read<T>(serde: &dyn Serde<T>, part: Option<Part<'_>>) -> Result<T, SerdeError> {
    match part {
        Some(Part { bytes, owner }) => serde.deserialize_shared(bytes, owner),
        None => serde.null(),
    }
}

impl<K: 'static, V: 'static> SourceStage for Source<K, V> {
    fn take(&mut self, input: SourceInput) -> Flow {
        match input.records {
            SourceRecords::Raw(records) => {
                self.pending.push_back(Pending::Raw(records.into_iter()))
            }
            SourceRecords::Batches(batches) => {
                for batch in batches {
                    let header = *batch.header();
                    let payload = batch
                        .payload(DecompressionLimit::DEFAULT)
                        .map_err(|error| self.corrupt(header.base_offset, &error))?;
                    self.pending.push_back(Pending::Batch {
                        header,
                        payload,
                        position: 0,
                        first_offset: input.first_offset,
                    });
                }
            }
        }
        self.next_offset = Some(input.next_offset);
        self.fill()
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
            sent?;
        } else {
            let run = self
                .queue
                .iter()
                .take(count)
                .take_while(|record| record.timestamp <= upto)
                .count();
            self.batch.extend(self.queue.drain(..run));
            let sent = self.port.borrow_mut().push(&mut self.batch);
            self.batch.clear();
            sent?;
        }
        self.fill()
    }

    fn position(&self) -> Option<(Arc<str>, i64, i64)> {
        self.next_offset
            .map(|offset| (Arc::clone(&self.topic), offset, self.partition_time))
    }
}
