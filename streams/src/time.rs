//! Time: event time of records, stream time of tasks.
//!
//! Three clocks, never mixed. *Event time* is in the record (ms since 1970). *Stream time* is the largest event time an operator has
//! seen; it decides which windows are closed, and moves only with records. *Epochs* are commits: the timestamp of the dataflow is
//! the epoch, not the event time, so progress tracking costs per commit and not per millisecond of data.

use std::sync::Arc;

/// No record seen yet (Kafka: `ConsumerRecord.NO_TIMESTAMP`).
pub const NO_TIMESTAMP: i64 = -1;

/// What decides that windows are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimePolicy {
    /// The largest timestamp the task has processed: Kafka Streams' rule.
    #[default]
    StreamTime,
}

/// Where the event time of an input record comes from.
pub struct TimestampExtractor<K, V>(pub(crate) Extract<K, V>);

type FromValue<K, V> = Arc<dyn Fn(&K, &V) -> i64 + Send + Sync>;

pub(crate) enum Extract<K, V> {
    Record,
    Value(FromValue<K, V>),
    WallClock,
}

impl<K, V> TimestampExtractor<K, V> {
    /// The timestamp in the record (the default; Kafka: `FailOnInvalidTimestamp`).
    pub fn record() -> Self {
        Self(Extract::Record)
    }

    /// From the key and value, in ms since 1970. A negative result is an error of the record (see
    /// [`OnDeserializationError`](crate::OnDeserializationError)).
    pub fn from_value(extract: impl Fn(&K, &V) -> i64 + Send + Sync + 'static) -> Self {
        Self(Extract::Value(Arc::new(extract)))
    }

    /// The time at which the engine was given the record (Kafka: `WallclockTimestampExtractor`).
    pub fn wall_clock() -> Self {
        Self(Extract::WallClock)
    }
}

impl<K, V> Clone for TimestampExtractor<K, V> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Extract::Record => Extract::Record,
            Extract::Value(extract) => Extract::Value(Arc::clone(extract)),
            Extract::WallClock => Extract::WallClock,
        })
    }
}

impl<K, V> Default for TimestampExtractor<K, V> {
    fn default() -> Self {
        Self::record()
    }
}

impl<K, V> std::fmt::Debug for TimestampExtractor<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            Extract::Record => "record",
            Extract::Value(_) => "from_value",
            Extract::WallClock => "wall_clock",
        })
    }
}
