//! ProduceResponse, versions 3 to 13, flexible from version 9.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};
use crate::id::TopicId;

/// ProduceResponse: the response.
///
/// - Versions 0-2 were removed in Apache Kafka 4.0, version 3 is the new baseline. Due to a
///   bug in librdkafka, these versions have to be included in the api versions response (see
///   KAFKA-18659), but are rejected otherwise. See
///   `ApiKeys.PRODUCE_API_VERSIONS_RESPONSE_MIN_VERSION` for more details.
/// - Version 1 added the throttle time.
/// - Version 2 added the log append time.
/// - Version 4 added KAFKA_STORAGE_ERROR as a possible error code.
/// - Version 5 added LogStartOffset to filter out spurious OutOfOrderSequenceExceptions on
///   the client.
/// - Version 8 added RecordErrors and ErrorMessage to include information about records that
///   cause the whole batch to be dropped. See KIP-467 for details.
/// - Version 9 enables flexible versions.
/// - Version 10 adds 'CurrentLeader' and 'NodeEndpoints' as tagged fields (KIP-951)
/// - Version 11 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
/// - Version 13 replaces topic names with topic IDs (KIP-516). May return UNKNOWN_TOPIC_ID
///   error code.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProduceResponse {
    /// Each produce response.
    pub responses: Vec<TopicProduceResponse>,
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// Endpoints for all current-leaders enumerated in PartitionProduceResponses, with errors
    /// NOT_LEADER_OR_FOLLOWER.
    ///
    /// From version 10.
    pub node_endpoints: Vec<NodeEndpoint>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for ProduceResponse {
    const NAME: &'static str = "ProduceResponse";
    const MIN_VERSION: i16 = 3;
    const MAX_VERSION: i16 = 13;

    fn is_flexible(version: i16) -> bool {
        version >= 9
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.responses = r.array("responses", version)?;
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        if version >= 9 {
            for _ in 0..r.tag_count()? {
                let tag = r.tag()?;
                match tag.number {
                    0 if version >= 10 => it.node_endpoints = r.array("node_endpoints", version)?,
                    _ => r.keep_tag(tag, &mut it.unknown_tagged_fields)?,
                }
                r.end_tag(tag)?;
            }
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.array("responses", &self.responses, version)?;
        w.i32(self.throttle_time_ms);
        if version >= 9 {
            let has_node_endpoints = version >= 10 && !self.node_endpoints.is_empty();
            let mut set = 0;
            set += u32::from(has_node_endpoints);
            w.tag_count(set, &self.unknown_tagged_fields);
            if has_node_endpoints {
                let tag = w.begin_tag(0);
                w.array("node_endpoints", &self.node_endpoints, version)?;
                w.end_tag(tag);
            }
            let mut known = 0;
            known += u32::from(version >= 10);
            w.unknown_tags(&self.unknown_tagged_fields, known)?;
        }
        if version < 10 && !self.node_endpoints.is_empty() {
            return Err(w.unsupported("node_endpoints", version));
        }
        Ok(())
    }
}

/// Held by [`ProduceResponse`] as `responses`.
///
/// Each produce response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicProduceResponse {
    /// The topic name.
    ///
    /// Up to version 12.
    pub name: String,
    /// The unique topic ID
    ///
    /// Version 13 only.
    pub topic_id: TopicId,
    /// Each partition that we produced to within the topic.
    pub partition_responses: Vec<PartitionProduceResponse>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for TopicProduceResponse {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        if version <= 12 {
            it.name = r.string("name")?;
        }
        if version == 13 {
            it.topic_id = r.uuid("topic_id")?;
        }
        it.partition_responses = r.array("partition_responses", version)?;
        if version >= 9 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        if version <= 12 {
            w.string("name", &self.name)?;
        }
        if version == 13 {
            w.uuid(self.topic_id);
        }
        w.array("partition_responses", &self.partition_responses, version)?;
        if version >= 9 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`TopicProduceResponse`] as `partition_responses`.
///
/// Each partition that we produced to within the topic.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionProduceResponse {
    /// The partition index.
    pub index: i32,
    /// The error code, or 0 if there was no error.
    pub error_code: i16,
    /// The base offset.
    pub base_offset: i64,
    /// The timestamp returned by broker after appending the messages. If CreateTime is used for
    /// the topic, the timestamp will be -1. If LogAppendTime is used for the topic, the timestamp
    /// will be the broker local time when the messages are appended.
    pub log_append_time_ms: i64,
    /// The log start offset.
    ///
    /// From version 5.
    pub log_start_offset: i64,
    /// The batch indices of records that caused the batch to be dropped.
    ///
    /// From version 8.
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// The global error message summarizing the common root cause of the records that caused the
    /// batch to be dropped.
    ///
    /// From version 8.
    pub error_message: Option<String>,
    /// The leader broker that the producer should use for future requests.
    ///
    /// From version 10.
    pub current_leader: LeaderIdAndEpoch,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for PartitionProduceResponse {
    fn default() -> Self {
        Self {
            index: 0,
            error_code: 0,
            base_offset: 0,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: LeaderIdAndEpoch::default(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for PartitionProduceResponse {
    const MIN_SIZE: usize = 22;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.index = r.i32("index")?;
        it.error_code = r.i16("error_code")?;
        it.base_offset = r.i64("base_offset")?;
        it.log_append_time_ms = r.i64("log_append_time_ms")?;
        if version >= 5 {
            it.log_start_offset = r.i64("log_start_offset")?;
        }
        if version >= 8 {
            it.record_errors = r.array("record_errors", version)?;
        }
        if version >= 8 {
            it.error_message = r.nullable_string("error_message")?;
        }
        if version >= 9 {
            for _ in 0..r.tag_count()? {
                let tag = r.tag()?;
                match tag.number {
                    0 if version >= 10 => {
                        it.current_leader = LeaderIdAndEpoch::read(r, "current_leader", version)?
                    }
                    _ => r.keep_tag(tag, &mut it.unknown_tagged_fields)?,
                }
                r.end_tag(tag)?;
            }
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.index);
        w.i16(self.error_code);
        w.i64(self.base_offset);
        w.i64(self.log_append_time_ms);
        if version >= 5 {
            w.i64(self.log_start_offset);
        }
        if version >= 8 {
            w.array("record_errors", &self.record_errors, version)?;
        }
        if version >= 8 {
            w.nullable_string("error_message", self.error_message.as_deref())?;
        }
        if version >= 9 {
            let has_current_leader =
                version >= 10 && self.current_leader != LeaderIdAndEpoch::default();
            let mut set = 0;
            set += u32::from(has_current_leader);
            w.tag_count(set, &self.unknown_tagged_fields);
            if has_current_leader {
                let tag = w.begin_tag(0);
                self.current_leader.write(w, "current_leader", version)?;
                w.end_tag(tag);
            }
            let mut known = 0;
            known += u32::from(version >= 10);
            w.unknown_tags(&self.unknown_tagged_fields, known)?;
        }
        if version < 10 && self.current_leader != LeaderIdAndEpoch::default() {
            return Err(w.unsupported("current_leader", version));
        }
        Ok(())
    }
}

/// Held by [`PartitionProduceResponse`] as `record_errors`.
///
/// The batch indices of records that caused the batch to be dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchIndexAndErrorMessage {
    /// The batch index of the record that caused the batch to be dropped.
    ///
    /// From version 8.
    pub batch_index: i32,
    /// The error message of the record that caused the batch to be dropped.
    ///
    /// From version 8.
    pub batch_index_error_message: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for BatchIndexAndErrorMessage {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.batch_index = r.i32("batch_index")?;
        it.batch_index_error_message = r.nullable_string("batch_index_error_message")?;
        if version >= 9 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.batch_index);
        w.nullable_string(
            "batch_index_error_message",
            self.batch_index_error_message.as_deref(),
        )?;
        if version >= 9 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`PartitionProduceResponse`] as `current_leader`.
///
/// The leader broker that the producer should use for future requests.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaderIdAndEpoch {
    /// The ID of the current leader or -1 if the leader is unknown.
    ///
    /// From version 10.
    pub leader_id: i32,
    /// The latest known leader epoch.
    ///
    /// From version 10.
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

/// Held by [`ProduceResponse`] as `node_endpoints`.
///
/// Endpoints for all current-leaders enumerated in PartitionProduceResponses, with errors
/// NOT_LEADER_OR_FOLLOWER.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeEndpoint {
    /// The ID of the associated node.
    ///
    /// From version 10.
    pub node_id: i32,
    /// The node's hostname.
    ///
    /// From version 10.
    pub host: String,
    /// The node's port.
    ///
    /// From version 10.
    pub port: i32,
    /// The rack of the node, or null if it has not been assigned to a rack.
    ///
    /// From version 10.
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
