//! What a consumer hands out and takes: records, polls, positions to commit. Plain data.
//!
//! Owns the words that applications use beside [`Consumer`](crate::Consumer) itself. Nothing here does anything.

use std::sync::Arc;

use bytes::Bytes;
use flumen_protocol::id::TopicPartition;
use flumen_protocol::record::Headers;

use super::fetched::FetchedRecords;

/// A position to commit, with what it should be known by. Java: `OffsetAndMetadata`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OffsetAndMetadata {
    /// Offset of the next record to read.
    pub offset: i64,
    /// Leader epoch of the last record read; -1 where unknown.
    pub leader_epoch: i32,
    /// Kept beside it, at most 4096 bytes.
    pub metadata: String,
}

impl OffsetAndMetadata {
    /// An offset, and nothing beside it.
    #[must_use]
    pub fn new(offset: i64) -> OffsetAndMetadata {
        OffsetAndMetadata {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        }
    }
}

/// As which member of which group: what makes a transaction's offsets valid. Java: `ConsumerGroupMetadata`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsumerGroupMetadata {
    /// The group.
    pub group_id: String,
    /// -1 without membership.
    pub generation_id: i32,
    /// Empty without membership.
    pub member_id: String,
    /// Of static members.
    pub group_instance_id: Option<String>,
}

/// A record read. Java: `ConsumerRecord`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerRecord {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Slices of the fetched batch, as is all that follows.
    pub key: Option<Bytes>,
    /// None is a tombstone.
    pub value: Option<Bytes>,
    /// In order; a name may come twice.
    pub headers: Headers,
}

/// What a poll found.
#[derive(Debug, Clone, PartialEq)]
pub enum Poll {
    /// Records, at most one entry for each partition.
    Records(Vec<FetchedRecords>),
    /// These partitions are about to go to other members: finish with them and commit, then call
    /// [`Consumer::rebalance_done`](crate::Consumer::rebalance_done). Nothing more comes from them.
    Revoking(Vec<TopicPartition>),
    /// These partitions are new. Nothing comes from them before the next poll, so there is time to seek or pause. May be
    /// empty: the group has rebalanced and this member got nothing new.
    Assigned(Vec<TopicPartition>),
    /// These partitions are gone already, and others may have them: drop what is not committed.
    Lost(Vec<TopicPartition>),
    /// The log no longer has the position: retention, truncation, or another topic of the same name. Nothing comes from
    /// the partition until the caller seeks. Records in `[position, log_start)` are lost, or those in `[log_end, position)` were
    /// never committed by the cluster.
    PositionLost {
        /// Whose.
        partition: TopicPartition,
        /// Where the consumer was.
        position: i64,
        /// Where the log begins; -1 where unknown.
        log_start: i64,
        /// Where it ends; -1 where unknown.
        log_end: i64,
    },
    /// Nothing within the time given.
    Idle,
}
