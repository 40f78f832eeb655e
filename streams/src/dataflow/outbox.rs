//! What an epoch wants to send: records for sinks, repartitions, changelogs and dead letters, and the positions to commit with them.
//!
//! Filled by sink stages and by the end of an epoch; emptied by the application through `Engine::drain`, per epoch and in the order
//! of the epochs. Order within a partition is the order of pushes. Nothing here touches the network.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::record::Headers;
use crate::state::Epoch;
use crate::time::NO_TIMESTAMP;
use crate::topology::TaskId;

/// Everything that epoch `epoch` produced. One transaction carries all of it.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The epoch.
    pub epoch: Epoch,
    /// Records by topic and partition.
    pub records: BTreeMap<(Arc<str>, i32), RecordBuffer>,
    /// Input positions at the end of the epoch, of the tasks that moved.
    pub positions: BTreeMap<(Arc<str>, i32), Position>,
}

impl Outbox {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.positions.is_empty()
    }

    /// The buffer of a partition.
    pub fn buffer(&mut self, topic: &Arc<str>, partition: i32) -> &mut RecordBuffer {
        self.records
            .entry((Arc::clone(topic), partition))
            .or_default()
    }

    /// Bytes of keys and values held.
    pub fn bytes(&self) -> usize {
        self.records.values().map(RecordBuffer::bytes).sum()
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

/// Records bound for one partition, bytes in one arena.
#[derive(Debug, Default, Clone)]
pub struct RecordBuffer {
    arena: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    timestamp: i64,
    /// Where the key starts in the arena; the value follows it, the next entry follows that.
    start: usize,
    key: Option<u32>,
    value: Option<u32>,
    headers: Headers,
}

/// One record of a [`RecordBuffer`].
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Event time in ms.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a Headers,
}

impl RecordBuffer {
    /// Appends a record. Keys and values are shorter than 4 GiB, as everything in the protocol.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) {
        let start = self.arena.len();
        let mut keep = |part: Option<&[u8]>| {
            part.map(|bytes| {
                self.arena.extend_from_slice(bytes);
                u32::try_from(bytes.len()).expect("keys and values are shorter than 4 GiB")
            })
        };
        let (key, value) = (keep(key), keep(value));
        self.entries.push(Entry {
            timestamp,
            start,
            key,
            value,
            headers: headers.clone(),
        });
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// The records, in order.
    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.entries.iter().map(|entry| {
            let value_start = entry.start + entry.key.unwrap_or(0) as usize;
            let key = entry.key.map(|_| &self.arena[entry.start..value_start]);
            let value = entry
                .value
                .map(|len| &self.arena[value_start..value_start + len as usize]);
            RecordRef {
                timestamp: entry.timestamp,
                key,
                value,
                headers: &entry.headers,
            }
        })
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
