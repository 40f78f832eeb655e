//! What an epoch wants to send: records for sinks, repartitions, changelogs and dead letters, and the positions to commit with them.
//!
//! Filled by sink stages and by the end of an epoch; emptied by the application through `Engine::drain`, per epoch and in the order
//! of the epochs. Order within a partition is the order of pushes. Nothing here touches the network.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use flumen_protocol::batch::RecordBatch;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::compression::DecompressionLimit;

use crate::record::Headers;
use crate::state::Epoch;
use crate::time::NO_TIMESTAMP;
use crate::topology::TaskId;

/// Everything that epoch `epoch` produced. One transaction carries all of it.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The epoch.
    pub epoch: Epoch,
    /// Records by topic and partition; none is empty.
    pub records: BTreeMap<(Arc<str>, i32), RecordBuffer>,
    /// Input positions at the end of the epoch, of the tasks that moved.
    pub positions: BTreeMap<(Arc<str>, i32), Position>,
}

impl Outbox {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.positions.is_empty()
    }

    /// Bytes of the records.
    pub fn bytes(&self) -> usize {
        self.records.values().map(RecordBuffer::bytes).sum()
    }
}

/// Number of a topic that is written; stages look it up once.
pub(crate) type TopicIndex = usize;

/// The outbox of an epoch that is not complete.
#[derive(Debug, Default)]
pub(crate) struct OpenOutbox {
    /// A batch is closed when it has this many bytes.
    batch_bytes: usize,
    /// By topic and partition.
    buffers: Vec<Vec<RecordBuffer>>,
    pub(crate) positions: BTreeMap<(Arc<str>, i32), Position>,
}

impl OpenOutbox {
    pub(crate) fn new(batch_bytes: usize) -> Self {
        Self {
            batch_bytes,
            ..Self::default()
        }
    }

    /// The buffer of a partition.
    pub(crate) fn buffer(&mut self, topic: TopicIndex, partition: i32) -> &mut RecordBuffer {
        let partition = usize::try_from(partition).expect("partitions are numbered from 0");
        if self.buffers.len() <= topic {
            self.buffers.resize_with(topic + 1, Vec::new);
        }
        let partitions = &mut self.buffers[topic];
        if partitions.len() <= partition {
            let batch_bytes = self.batch_bytes;
            partitions.resize_with(partition + 1, || RecordBuffer::new(batch_bytes));
        }
        &mut partitions[partition]
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffers.iter().flatten().map(RecordBuffer::bytes).sum()
    }

    pub(crate) fn close(self, epoch: Epoch, topics: &[Arc<str>]) -> Outbox {
        let mut records = BTreeMap::new();
        for (partitions, topic) in self.buffers.into_iter().zip(topics) {
            for (partition, buffer) in (0..)
                .zip(partitions)
                .filter(|(_, buffer)| !buffer.is_empty())
            {
                records.insert((Arc::clone(topic), partition), buffer);
            }
        }
        Outbox {
            epoch,
            records,
            positions: self.positions,
        }
    }
}

/// Where a task stands in an input partition; committed as offset and metadata (Kafka: `TopicPartitionMetadata`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Task that reads the partition.
    pub task: TaskId,
    /// Offset of the next record to read.
    pub next_offset: i64,
    /// Largest event time read from the partition, [`NO_TIMESTAMP`] if none.
    pub partition_time: i64,
    /// Stream time of each windowed store of the task, by its name.
    pub stream_times: BTreeMap<String, i64>,
}

impl Position {
    /// A position without any time.
    pub fn at(task: TaskId, next_offset: i64) -> Self {
        Self {
            task,
            next_offset,
            partition_time: NO_TIMESTAMP,
            stream_times: BTreeMap::new(),
        }
    }
}

/// Records bound for one partition, encoded already, in batches.
#[derive(Debug)]
pub struct RecordBuffer {
    /// A batch is closed when it has this many bytes.
    batch_bytes: usize,
    full: Vec<BatchBuilder>,
    open: Option<BatchBuilder>,
    len: usize,
}

impl RecordBuffer {
    fn new(batch_bytes: usize) -> Self {
        Self {
            batch_bytes,
            full: Vec::new(),
            open: None,
            len: 0,
        }
    }

    /// Appends a record.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) {
        let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        let most = self.batch_bytes;
        if let Some(open) = self
            .open
            .take_if(|open| open.estimated_size() + size > most)
        {
            self.full.push(open);
        }
        let open = self
            .open
            .get_or_insert_with(|| BatchBuilder::new(BatchOptions::default()));
        self.len += 1;
        if headers.is_empty() {
            open.push(timestamp, key, value, &[]);
            return;
        }
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (&name[..], value.map(|value| &value[..])))
            .collect();
        open.push(timestamp, key, value, &headers);
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the batches.
    pub fn bytes(&self) -> usize {
        self.full
            .iter()
            .chain(&self.open)
            .map(BatchBuilder::estimated_size)
            .sum()
    }

    /// The batches to send, in order.
    pub fn into_batches(self) -> impl Iterator<Item = BatchBuilder> {
        self.full.into_iter().chain(self.open)
    }

    /// The records as a reader will see them, offsets counted from 0. For tests: it encodes and decodes everything.
    /// # Panics
    /// If the batches just built cannot be read.
    pub fn records(&self) -> Vec<RawRecord> {
        let batches = self
            .full
            .iter()
            .chain(&self.open)
            .map(|open| RecordBatch::parse(open.clone().build()).expect("whole"));
        let records = batches.flat_map(|batch| {
            batch
                .records(DecompressionLimit::DEFAULT)
                .expect("not compressed")
        });
        (0..)
            .zip(records)
            .map(|(offset, record)| RawRecord {
                offset,
                ..RawRecord::from(record.expect("just encoded"))
            })
            .collect()
    }
}

/// An input record as it came from a topic.
#[derive(Debug, Clone)]
pub struct RawRecord {
    /// Offset in the partition.
    pub offset: i64,
    /// Timestamp of the record in ms.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

impl From<flumen_protocol::record::Record> for RawRecord {
    fn from(record: flumen_protocol::record::Record) -> Self {
        let headers = record.headers.iter().map(|(name, value)| {
            (
                Bytes::copy_from_slice(name),
                value.map(Bytes::copy_from_slice),
            )
        });
        let headers = headers.collect();
        Self {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers,
        }
    }
}
