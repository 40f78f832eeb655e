//! FetchResponse, versions 4 to 18, flexible from version 12.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};
use crate::id::TopicId;
use crate::segment::Records;

/// FetchResponse: the response.
///
/// - Version 4 adds features for transactional consumption.
/// - Version 5 adds LogStartOffset to indicate the earliest available offset of partition
///   data that can be consumed.
/// - Starting in version 6, we may return KAFKA_STORAGE_ERROR as an error code.
/// - Version 7 adds incremental fetch request support.
/// - Starting in version 8, on quota violation, brokers send out responses before throttling.
/// - Version 10 indicates that the response data can use the ZStd compression algorithm, as
///   described in KIP-110.
/// - Version 12 adds support for flexible versions, epoch detection through the
///   `TruncationOffset` field, and leader discovery through the `CurrentLeader` field
/// - Version 13 replaces the topic name field with topic ID (KIP-516).
/// - Version 16 adds the 'NodeEndpoints' field (KIP-951).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// The top level response error code.
    ///
    /// From version 7.
    pub error_code: i16,
    /// The fetch session ID, or 0 if this is not part of a fetch session.
    ///
    /// From version 7.
    pub session_id: i32,
    /// The response topics.
    pub responses: Vec<FetchableTopicResponse>,
    /// Endpoints for all current-leaders enumerated in PartitionData, with errors
    /// NOT_LEADER_OR_FOLLOWER & FENCED_LEADER_EPOCH.
    ///
    /// From version 16.
    pub node_endpoints: Vec<NodeEndpoint>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for FetchResponse {
    const NAME: &'static str = "FetchResponse";
    const MIN_VERSION: i16 = 4;
    const MAX_VERSION: i16 = 18;

    fn is_flexible(version: i16) -> bool {
        version >= 12
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        if version >= 7 {
            it.error_code = r.i16("error_code")?;
        }
        if version >= 7 {
            it.session_id = r.i32("session_id")?;
        }
        it.responses = r.array("responses", version)?;
        if version >= 12 {
            for _ in 0..r.tag_count()? {
                let tag = r.tag()?;
                match tag.number {
                    0 if version >= 16 => it.node_endpoints = r.array("node_endpoints", version)?,
                    _ => r.keep_tag(tag, &mut it.unknown_tagged_fields)?,
                }
                r.end_tag(tag)?;
            }
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.throttle_time_ms);
        if version >= 7 {
            w.i16(self.error_code);
        }
        if version >= 7 {
            w.i32(self.session_id);
        } else if self.session_id != 0 {
            return Err(w.unsupported("session_id", version));
        }
        w.array("responses", &self.responses, version)?;
        if version >= 12 {
            let has_node_endpoints = version >= 16 && !self.node_endpoints.is_empty();
            let mut set = 0;
            set += u32::from(has_node_endpoints);
            w.tag_count(set, &self.unknown_tagged_fields);
            if has_node_endpoints {
                let tag = w.begin_tag(0);
                w.array("node_endpoints", &self.node_endpoints, version)?;
                w.end_tag(tag);
            }
            let mut known = 0;
            known += u32::from(version >= 16);
            w.unknown_tags(&self.unknown_tagged_fields, known)?;
        }
        if version < 16 && !self.node_endpoints.is_empty() {
            return Err(w.unsupported("node_endpoints", version));
        }
        Ok(())
    }
}

/// Held by [`FetchResponse`] as `responses`.
///
/// The response topics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchableTopicResponse {
    /// The topic name.
    ///
    /// Up to version 12.
    pub topic: String,
    /// The unique topic ID.
    ///
    /// From version 13.
    pub topic_id: TopicId,
    /// The topic partitions.
    pub partitions: Vec<PartitionData>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for FetchableTopicResponse {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        if version <= 12 {
            it.topic = r.string("topic")?;
        }
        if version >= 13 {
            it.topic_id = r.uuid("topic_id")?;
        }
        it.partitions = r.array("partitions", version)?;
        if version >= 12 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        if version <= 12 {
            w.string("topic", &self.topic)?;
        }
        if version >= 13 {
            w.uuid(self.topic_id);
        }
        w.array("partitions", &self.partitions, version)?;
        if version >= 12 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`FetchableTopicResponse`] as `partitions`.
///
/// The topic partitions.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionData {
    /// The partition index.
    pub partition_index: i32,
    /// The error code, or 0 if there was no fetch error.
    pub error_code: i16,
    /// The current high water mark.
    pub high_watermark: i64,
    /// The last stable offset (or LSO) of the partition. This is the last offset such that the
    /// state of all transactional records prior to this offset have been decided (ABORTED or
    /// COMMITTED).
    pub last_stable_offset: i64,
    /// The current log start offset.
    ///
    /// From version 5.
    pub log_start_offset: i64,
    /// In case divergence is detected based on the `LastFetchedEpoch` and `FetchOffset` in the
    /// request, this field indicates the largest epoch and its end offset such that subsequent
    /// records are known to diverge.
    ///
    /// From version 12.
    pub diverging_epoch: EpochEndOffset,
    /// The current leader of the partition.
    ///
    /// From version 12.
    pub current_leader: LeaderIdAndEpoch,
    /// In the case of fetching an offset less than the LogStartOffset, this is the end offset and
    /// epoch that should be used in the FetchSnapshot request.
    ///
    /// From version 12.
    pub snapshot_id: SnapshotId,
    /// The aborted transactions.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The preferred read replica for the consumer to use on its next fetch request.
    ///
    /// From version 11.
    pub preferred_read_replica: i32,
    /// The record data.
    pub records: Option<Records>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for PartitionData {
    fn default() -> Self {
        Self {
            partition_index: 0,
            error_code: 0,
            high_watermark: 0,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: EpochEndOffset::default(),
            current_leader: LeaderIdAndEpoch::default(),
            snapshot_id: SnapshotId::default(),
            aborted_transactions: Some(Vec::new()),
            preferred_read_replica: -1,
            records: None,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for PartitionData {
    const MIN_SIZE: usize = 30;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.partition_index = r.i32("partition_index")?;
        it.error_code = r.i16("error_code")?;
        it.high_watermark = r.i64("high_watermark")?;
        it.last_stable_offset = r.i64("last_stable_offset")?;
        if version >= 5 {
            it.log_start_offset = r.i64("log_start_offset")?;
        }
        it.aborted_transactions = r.nullable_array("aborted_transactions", version)?;
        if version >= 11 {
            it.preferred_read_replica = r.i32("preferred_read_replica")?;
        }
        it.records = r.records("records")?;
        if version >= 12 {
            for _ in 0..r.tag_count()? {
                let tag = r.tag()?;
                match tag.number {
                    0 => it.diverging_epoch = EpochEndOffset::read(r, "diverging_epoch", version)?,
                    1 => it.current_leader = LeaderIdAndEpoch::read(r, "current_leader", version)?,
                    2 => it.snapshot_id = SnapshotId::read(r, "snapshot_id", version)?,
                    _ => r.keep_tag(tag, &mut it.unknown_tagged_fields)?,
                }
                r.end_tag(tag)?;
            }
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.i16(self.error_code);
        w.i64(self.high_watermark);
        w.i64(self.last_stable_offset);
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        w.nullable_array("aborted_transactions", &self.aborted_transactions, version)?;
        if version >= 11 {
            w.i32(self.preferred_read_replica);
        } else if self.preferred_read_replica != -1 {
            return Err(w.unsupported("preferred_read_replica", version));
        }
        w.records("records", &self.records)?;
        if version >= 12 {
            let has_diverging_epoch = self.diverging_epoch != EpochEndOffset::default();
            let has_current_leader = self.current_leader != LeaderIdAndEpoch::default();
            let has_snapshot_id = self.snapshot_id != SnapshotId::default();
            let mut set = 0;
            set += u32::from(has_diverging_epoch);
            set += u32::from(has_current_leader);
            set += u32::from(has_snapshot_id);
            w.tag_count(set, &self.unknown_tagged_fields);
            if has_diverging_epoch {
                let tag = w.begin_tag(0);
                self.diverging_epoch.write(w, "diverging_epoch", version)?;
                w.end_tag(tag);
            }
            if has_current_leader {
                let tag = w.begin_tag(1);
                self.current_leader.write(w, "current_leader", version)?;
                w.end_tag(tag);
            }
            if has_snapshot_id {
                let tag = w.begin_tag(2);
                self.snapshot_id.write(w, "snapshot_id", version)?;
                w.end_tag(tag);
            }
            w.unknown_tags(&self.unknown_tagged_fields, 3)?;
        }
        if version < 12 && self.diverging_epoch != EpochEndOffset::default() {
            return Err(w.unsupported("diverging_epoch", version));
        }
        if version < 12 && self.current_leader != LeaderIdAndEpoch::default() {
            return Err(w.unsupported("current_leader", version));
        }
        if version < 12 && self.snapshot_id != SnapshotId::default() {
            return Err(w.unsupported("snapshot_id", version));
        }
        Ok(())
    }
}

/// Held by [`PartitionData`] as `diverging_epoch`.
///
/// In case divergence is detected based on the `LastFetchedEpoch` and `FetchOffset` in the
/// request, this field indicates the largest epoch and its end offset such that subsequent
/// records are known to diverge.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochEndOffset {
    /// The largest epoch.
    ///
    /// From version 12.
    pub epoch: i32,
    /// The end offset of the epoch.
    ///
    /// From version 12.
    pub end_offset: i64,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for EpochEndOffset {
    fn default() -> Self {
        Self {
            epoch: -1,
            end_offset: -1,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for EpochEndOffset {
    const MIN_SIZE: usize = 13;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.epoch = r.i32("epoch")?;
        it.end_offset = r.i64("end_offset")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.i32(self.epoch);
        w.i64(self.end_offset);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`PartitionData`] as `current_leader`.
///
/// The current leader of the partition.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaderIdAndEpoch {
    /// The ID of the current leader or -1 if the leader is unknown.
    ///
    /// From version 12.
    pub leader_id: i32,
    /// The latest known leader epoch.
    ///
    /// From version 12.
    pub leader_epoch: i32,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for LeaderIdAndEpoch {
    fn default() -> Self {
        Self {
            leader_id: -1,
            leader_epoch: -1,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for LeaderIdAndEpoch {
    const MIN_SIZE: usize = 9;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.leader_id = r.i32("leader_id")?;
        it.leader_epoch = r.i32("leader_epoch")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.i32(self.leader_id);
        w.i32(self.leader_epoch);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`PartitionData`] as `snapshot_id`.
///
/// In the case of fetching an offset less than the LogStartOffset, this is the end offset and
/// epoch that should be used in the FetchSnapshot request.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotId {
    /// The end offset of the epoch.
    ///
    /// From version 12.
    pub end_offset: i64,
    /// The largest epoch.
    ///
    /// From version 12.
    pub epoch: i32,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for SnapshotId {
    fn default() -> Self {
        Self {
            end_offset: -1,
            epoch: -1,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for SnapshotId {
    const MIN_SIZE: usize = 13;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.end_offset = r.i64("end_offset")?;
        it.epoch = r.i32("epoch")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.i64(self.end_offset);
        w.i32(self.epoch);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`PartitionData`] as `aborted_transactions`.
///
/// The aborted transactions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AbortedTransaction {
    /// The producer id associated with the aborted transaction.
    pub producer_id: i64,
    /// The first offset in the aborted transaction.
    pub first_offset: i64,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for AbortedTransaction {
    const MIN_SIZE: usize = 16;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.producer_id = r.i64("producer_id")?;
        it.first_offset = r.i64("first_offset")?;
        if version >= 12 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i64(self.producer_id);
        w.i64(self.first_offset);
        if version >= 12 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`FetchResponse`] as `node_endpoints`.
///
/// Endpoints for all current-leaders enumerated in PartitionData, with errors
/// NOT_LEADER_OR_FOLLOWER & FENCED_LEADER_EPOCH.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeEndpoint {
    /// The ID of the associated node.
    ///
    /// From version 16.
    pub node_id: i32,
    /// The node's hostname.
    ///
    /// From version 16.
    pub host: String,
    /// The node's port.
    ///
    /// From version 16.
    pub port: i32,
    /// The rack of the node, or null if it has not been assigned to a rack.
    ///
    /// From version 16.
    pub rack: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for NodeEndpoint {
    const MIN_SIZE: usize = 11;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.node_id = r.i32("node_id")?;
        it.host = r.string("host")?;
        it.port = r.i32("port")?;
        it.rack = r.nullable_string("rack")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.i32(self.node_id);
        w.string("host", &self.host)?;
        w.i32(self.port);
        w.nullable_string("rack", self.rack.as_deref())?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}
