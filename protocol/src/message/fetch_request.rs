//! FetchRequest, versions 4 to 18, flexible from version 12.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::id::TopicId;
use crate::message::FetchResponse;

/// FetchRequest: the request.
///
/// - Version 3 adds MaxBytes. Starting in version 3, the partition ordering in the request is
///   now relevant. Partitions will be processed in the order they appear in the request.
/// - Version 4 adds IsolationLevel. Starting in version 4, the requestor must be able to
///   handle Kafka log message format version 2.
/// - Version 5 adds LogStartOffset to indicate the earliest available offset of partition
///   data that can be consumed.
/// - Version 7 adds incremental fetch request support.
/// - Version 9 adds CurrentLeaderEpoch, as described in KIP-320.
/// - Version 10 indicates that we can use the ZStd compression algorithm, as described in
///   KIP-110.
/// - Version 12 adds flexible versions support as well as epoch validation through the
///   `LastFetchedEpoch` field
/// - Version 13 replaces topic names with topic IDs (KIP-516). May return UNKNOWN_TOPIC_ID
///   error code.
/// - Version 15 adds the ReplicaState which includes new field ReplicaEpoch and the
///   ReplicaId. Also, deprecate the old ReplicaId field and set its default value to -1.
///   (KIP-903)
/// - Version 17 adds directory id support from KIP-853
/// - Version 18 adds high-watermark from KIP-1166
#[derive(Clone, Debug, PartialEq)]
pub struct FetchRequest {
    /// The clusterId if known. This is used to validate metadata fetches prior to broker
    /// registration.
    ///
    /// From version 12.
    pub cluster_id: Option<String>,
    /// The broker ID of the follower, of -1 if this request is from a consumer.
    ///
    /// Up to version 14.
    pub replica_id: i32,
    /// The state of the replica in the follower.
    ///
    /// From version 15.
    pub replica_state: ReplicaState,
    /// The maximum time in milliseconds to wait for the response.
    pub max_wait_ms: i32,
    /// The minimum bytes to accumulate in the response.
    pub min_bytes: i32,
    /// The maximum bytes to fetch. See KIP-74 for cases where this limit may not be honored.
    pub max_bytes: i32,
    /// This setting controls the visibility of transactional records. Using READ_UNCOMMITTED
    /// (isolation_level = 0) makes all records visible. With READ_COMMITTED (isolation_level =
    /// 1), non-transactional and COMMITTED transactional records are visible. To be more
    /// concrete, READ_COMMITTED returns all data from offsets smaller than the current LSO (last
    /// stable offset), and enables the inclusion of the list of aborted transactions in the
    /// result, which allows consumers to discard ABORTED transactional records.
    pub isolation_level: i8,
    /// The fetch session ID.
    ///
    /// From version 7.
    pub session_id: i32,
    /// The fetch session epoch, which is used for ordering requests in a session.
    ///
    /// From version 7.
    pub session_epoch: i32,
    /// The topics to fetch.
    pub topics: Vec<FetchTopic>,
    /// In an incremental fetch request, the partitions to remove.
    ///
    /// From version 7.
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    /// Rack ID of the consumer making this request.
    ///
    /// From version 11.
    pub rack_id: String,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for FetchRequest {
    fn default() -> Self {
        Self {
            cluster_id: None,
            replica_id: -1,
            replica_state: ReplicaState::default(),
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: 2147483647,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten_topics_data: Vec::new(),
            rack_id: String::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for FetchRequest {
    const NAME: &'static str = "FetchRequest";
    const MIN_VERSION: i16 = 4;
    const MAX_VERSION: i16 = 18;

    fn is_flexible(version: i16) -> bool {
        version >= 12
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version <= 14 {
            it.replica_id = r.i32("replica_id")?;
        }
        it.max_wait_ms = r.i32("max_wait_ms")?;
        it.min_bytes = r.i32("min_bytes")?;
        it.max_bytes = r.i32("max_bytes")?;
        it.isolation_level = r.i8("isolation_level")?;
        if version >= 7 {
            it.session_id = r.i32("session_id")?;
        }
        if version >= 7 {
            it.session_epoch = r.i32("session_epoch")?;
        }
        it.topics = r.array("topics", version)?;
        if version >= 7 {
            it.forgotten_topics_data = r.array("forgotten_topics_data", version)?;
        }
        if version >= 11 {
            it.rack_id = r.string("rack_id")?;
        }
        if version >= 12 {
            for _ in 0..r.tag_count()? {
                let tag = r.tag()?;
                match tag.number {
                    0 => it.cluster_id = r.nullable_string("cluster_id")?,
                    1 if version >= 15 => {
                        it.replica_state = ReplicaState::read(r, "replica_state", version)?
                    }
                    _ => r.keep_tag(tag, &mut it.unknown_tagged_fields)?,
                }
                r.end_tag(tag)?;
            }
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version <= 14 {
            w.i32(self.replica_id);
        } else if self.replica_id != -1 {
            return Err(w.unsupported("replica_id", version));
        }
        w.i32(self.max_wait_ms);
        w.i32(self.min_bytes);
        w.i32(self.max_bytes);
        w.i8(self.isolation_level);
        if version >= 7 {
            w.i32(self.session_id);
        }
        if version >= 7 {
            w.i32(self.session_epoch);
        }
        w.array("topics", &self.topics, version)?;
        if version >= 7 {
            w.array(
                "forgotten_topics_data",
                &self.forgotten_topics_data,
                version,
            )?;
        } else if !self.forgotten_topics_data.is_empty() {
            return Err(w.unsupported("forgotten_topics_data", version));
        }
        if version >= 11 {
            w.string("rack_id", &self.rack_id)?;
        }
        if version >= 12 {
            let has_cluster_id = self.cluster_id.is_some();
            let has_replica_state = version >= 15 && self.replica_state != ReplicaState::default();
            let mut set = 0;
            set += u32::from(has_cluster_id);
            set += u32::from(has_replica_state);
            w.tag_count(set, &self.unknown_tagged_fields);
            if has_cluster_id {
                let tag = w.begin_tag(0);
                w.nullable_string("cluster_id", self.cluster_id.as_deref())?;
                w.end_tag(tag);
            }
            if has_replica_state {
                let tag = w.begin_tag(1);
                self.replica_state.write(w, "replica_state", version)?;
                w.end_tag(tag);
            }
            let mut known = 0;
            known += 1;
            known += u32::from(version >= 15);
            w.unknown_tags(&self.unknown_tagged_fields, known)?;
        }
        if version < 15 && self.replica_state != ReplicaState::default() {
            return Err(w.unsupported("replica_state", version));
        }
        Ok(())
    }
}

/// Held by [`FetchRequest`] as `replica_state`.
///
/// The state of the replica in the follower.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaState {
    /// The replica ID of the follower, or -1 if this request is from a consumer.
    ///
    /// From version 15.
    pub replica_id: i32,
    /// The epoch of this follower, or -1 if not available.
    ///
    /// From version 15.
    pub replica_epoch: i64,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for ReplicaState {
    fn default() -> Self {
        Self {
            replica_id: -1,
            replica_epoch: -1,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for ReplicaState {
    const MIN_SIZE: usize = 13;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.replica_id = r.i32("replica_id")?;
        it.replica_epoch = r.i64("replica_epoch")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.i32(self.replica_id);
        w.i64(self.replica_epoch);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`FetchRequest`] as `topics`.
///
/// The topics to fetch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchTopic {
    /// The name of the topic to fetch.
    ///
    /// Up to version 12.
    pub topic: String,
    /// The unique topic ID.
    ///
    /// From version 13.
    pub topic_id: TopicId,
    /// The partitions to fetch.
    pub partitions: Vec<FetchPartition>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for FetchTopic {
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

/// Held by [`FetchTopic`] as `partitions`.
///
/// The partitions to fetch.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchPartition {
    /// The partition index.
    pub partition: i32,
    /// The current leader epoch of the partition.
    ///
    /// From version 9.
    pub current_leader_epoch: i32,
    /// The message offset.
    pub fetch_offset: i64,
    /// The epoch of the last fetched record or -1 if there is none.
    ///
    /// From version 12.
    pub last_fetched_epoch: i32,
    /// The earliest available offset of the follower replica. The field is only used when the
    /// request is sent by the follower.
    ///
    /// From version 5.
    pub log_start_offset: i64,
    /// The maximum bytes to fetch from this partition. See KIP-74 for cases where this limit may
    /// not be honored.
    pub partition_max_bytes: i32,
    /// The directory id of the follower fetching.
    ///
    /// From version 17.
    pub replica_directory_id: TopicId,
    /// The high-watermark known by the replica. -1 if the high-watermark is not known and
    /// 9223372036854775807 if the feature is not supported.
    ///
    /// Version 18 only.
    pub high_watermark: i64,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for FetchPartition {
    fn default() -> Self {
        Self {
            partition: 0,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 0,
            replica_directory_id: TopicId::NIL,
            high_watermark: 9223372036854775807,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for FetchPartition {
    const MIN_SIZE: usize = 16;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.partition = r.i32("partition")?;
        if version >= 9 {
            it.current_leader_epoch = r.i32("current_leader_epoch")?;
        }
        it.fetch_offset = r.i64("fetch_offset")?;
        if version >= 12 {
            it.last_fetched_epoch = r.i32("last_fetched_epoch")?;
        }
        if version >= 5 {
            it.log_start_offset = r.i64("log_start_offset")?;
        }
        it.partition_max_bytes = r.i32("partition_max_bytes")?;
        if version >= 12 {
            for _ in 0..r.tag_count()? {
                let tag = r.tag()?;
                match tag.number {
                    0 if version >= 17 => {
                        it.replica_directory_id = r.uuid("replica_directory_id")?
                    }
                    1 if version >= 18 => it.high_watermark = r.i64("high_watermark")?,
                    _ => r.keep_tag(tag, &mut it.unknown_tagged_fields)?,
                }
                r.end_tag(tag)?;
            }
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition);
        if version >= 9 {
            w.i32(self.current_leader_epoch);
        }
        w.i64(self.fetch_offset);
        if version >= 12 {
            w.i32(self.last_fetched_epoch);
        } else if self.last_fetched_epoch != -1 {
            return Err(w.unsupported("last_fetched_epoch", version));
        }
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        w.i32(self.partition_max_bytes);
        if version >= 12 {
            let has_replica_directory_id =
                version >= 17 && self.replica_directory_id != TopicId::NIL;
            let has_high_watermark = version >= 18 && self.high_watermark != 9223372036854775807;
            let mut set = 0;
            set += u32::from(has_replica_directory_id);
            set += u32::from(has_high_watermark);
            w.tag_count(set, &self.unknown_tagged_fields);
            if has_replica_directory_id {
                let tag = w.begin_tag(0);
                w.uuid(self.replica_directory_id);
                w.end_tag(tag);
            }
            if has_high_watermark {
                let tag = w.begin_tag(1);
                w.i64(self.high_watermark);
                w.end_tag(tag);
            }
            let mut known = 0;
            known += u32::from(version >= 17);
            known += u32::from(version >= 18);
            w.unknown_tags(&self.unknown_tagged_fields, known)?;
        }
        Ok(())
    }
}

/// Held by [`FetchRequest`] as `forgotten_topics_data`.
///
/// In an incremental fetch request, the partitions to remove.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForgottenTopic {
    /// The topic name.
    ///
    /// Versions 7 to 12.
    pub topic: String,
    /// The unique topic ID.
    ///
    /// From version 13.
    pub topic_id: TopicId,
    /// The partitions indexes to forget.
    ///
    /// From version 7.
    pub partitions: Vec<i32>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for ForgottenTopic {
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

impl Request for FetchRequest {
    const API: ApiKey = ApiKey::Fetch;
    type Response = FetchResponse;
}
