//! Records on their way through a connector: what a source hands over, what a sink is given.
//!
//! Owns the batch types of both directions. `source_task.rs` and `sink_task.rs` fill and empty them; plugins see nothing else of Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
pub use flumen_protocol::id::{TopicId, TopicPartition};

use crate::schema::Schema;
use crate::value::{Text, Value};

/// A key or a value, with its schema where there is one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Data {
    /// The schema; `None` for schemaless data.
    pub schema: Option<Arc<Schema>>,
    /// The value.
    pub value: Value,
}

impl Data {
    /// No value and no schema: an absent key, a tombstone.
    pub const NULL: Data = Data {
        schema: None,
        value: Value::Null,
    };

    /// A value without a schema.
    pub fn schemaless(value: Value) -> Data {
        Data {
            schema: None,
            value,
        }
    }

    /// A value with its schema.
    pub fn with_schema(schema: Arc<Schema>, value: Value) -> Data {
        Data {
            schema: Some(schema),
            value,
        }
    }

    /// One line of text, as bytes that need not be UTF-8: text when they are, else [`Value::Bytes`].
    pub fn line(bytes: Bytes) -> Data {
        Data::schemaless(match Text::from_utf8(bytes) {
            Ok(text) => Value::String(text),
            Err(bytes) => Value::Bytes(bytes),
        })
    }
}

/// A header: name and raw bytes. Order and duplicates are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: Text,
    /// The bytes, or null.
    pub value: Option<Bytes>,
}

/// A record of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRecord {
    /// Where it goes.
    pub topic: Arc<str>,
    /// The partition; `None`: by the key's hash (Kafka's murmur2), or round-robin over a batch without a key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Data,
    /// The value.
    pub value: Data,
    /// The headers.
    pub headers: Vec<Header>,
    /// Milliseconds since 1970; `None`: when it is sent.
    pub timestamp: Option<i64>,
}

impl SourceRecord {
    /// A value without key, headers and timestamp.
    pub fn new(topic: Arc<str>, value: Data) -> SourceRecord {
        SourceRecord {
            topic,
            partition: None,
            key: Data::NULL,
            value,
            headers: Vec::new(),
            timestamp: None,
        }
    }
}

/// What a source reads from, in the source's own words: `{"filename": "/var/log/syslog"}`. Kafka's "source partition".
pub type SourcePartition = BTreeMap<String, serde_json::Value>;

/// Where in it: `{"position": 1234}`. Kafka's "source offset"; `None` where Kafka writes null: forget the partition.
pub type SourceOffset = BTreeMap<String, serde_json::Value>;

/// "Everything of `partition` before `offset` is in the topic."
#[derive(Debug, Clone, PartialEq)]
pub struct SourcePosition {
    /// What was read.
    pub partition: SourcePartition,
    /// How far.
    pub offset: SourceOffset,
}

/// Whether a transaction may end after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Boundary {
    /// May end here; the worker decides by bytes and time.
    #[default]
    Any,
    /// Must end here: the end of a load, the end of a transaction in a database.
    Here,
    /// Must not end here: what follows belongs together with this.
    Mid,
}

/// What a source read and could not turn into a record.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectedInput {
    /// The topic it would have gone to.
    pub topic: Arc<str>,
    /// Where it stands: `flights.csv line 812 (byte 90133)`.
    pub place: String,
    /// Why not.
    pub reason: String,
    /// What stands there.
    pub raw: Bytes,
}

/// What one `poll` returns: records, and how far they bring each source partition.
///
/// The whole batch and its positions enter one transaction: positions are those after the last record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceBatch {
    /// The records, in order.
    pub records: Vec<SourceRecord>,
    /// Inputs that did not become records; `errors.tolerance` decides: dead letter, skip or stop.
    pub rejected: Vec<RejectedInput>,
    /// How far the batch brings each partition it read from.
    pub positions: Vec<SourcePosition>,
    /// Whether the transaction may end here.
    pub boundary: Boundary,
    /// Bytes of the input that the batch holds, for budgets.
    pub bytes: usize,
}

impl SourceBatch {
    /// Nothing read and nothing moved.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.positions.is_empty() && self.rejected.is_empty()
    }
}

/// A record for a sink.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkRecord {
    /// Its offset in the topic partition.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The key.
    pub key: Data,
    /// The value; [`Value::Null`] is a tombstone.
    pub value: Data,
    /// The headers.
    pub headers: Vec<Header>,
}

/// Records of one topic partition for a sink, in order, with what comes after them.
///
/// Contract: a batch covers the half-open range `[start_offset, next_offset)` of the partition and holds every record of that range
/// that a read_committed reader may see (markers, aborted, compacted and dead-lettered records are gone). So a sink that stores
/// `next_offset` with the rows can be restarted there. `start_offset` equals the `next_offset` of the batch before it, or what `open` returned.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkBatch {
    /// Which partition.
    pub topic_partition: TopicPartition,
    /// Where the range begins.
    pub start_offset: i64,
    /// Where the range ends: the first offset that is not in it.
    pub next_offset: i64,
    /// The records.
    pub records: Vec<SinkRecord>,
}
