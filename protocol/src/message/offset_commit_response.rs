//! OffsetCommitResponse, versions 2 to 10, flexible from version 8.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};
use crate::id::TopicId;

/// OffsetCommitResponse: the response.
///
/// - Version 3 adds the throttle time to the response.
/// - Starting in version 4, on quota violation, brokers send out responses before throttling.
/// - Version 7 offsetCommitRequest supports a new field called groupInstanceId to indicate
///   member identity across restarts.
/// - Version 8 is the first flexible version.
/// - Version 10 adds support for topic ids and removes support for topic names (KIP-848).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCommitResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    ///
    /// From version 3.
    pub throttle_time_ms: i32,
    /// The responses for each topic.
    pub topics: Vec<OffsetCommitResponseTopic>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for OffsetCommitResponse {
    const NAME: &'static str = "OffsetCommitResponse";
    const MIN_VERSION: i16 = 2;
    const MAX_VERSION: i16 = 10;

    fn is_flexible(version: i16) -> bool {
        version >= 8
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 3 {
            it.throttle_time_ms = r.i32("throttle_time_ms")?;
        }
        it.topics = r.array("topics", version)?;
        if version >= 8 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 3 {
            w.i32(self.throttle_time_ms);
        }
        w.array("topics", &self.topics, version)?;
        if version >= 8 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`OffsetCommitResponse`] as `topics`.
///
/// The responses for each topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCommitResponseTopic {
    /// The topic name.
    ///
    /// Up to version 9.
    pub name: String,
    /// The topic ID.
    ///
    /// Version 10 only.
    pub topic_id: TopicId,
    /// The responses for each partition in the topic.
    pub partitions: Vec<OffsetCommitResponsePartition>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for OffsetCommitResponseTopic {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        if version <= 9 {
            it.name = r.string("name")?;
        }
        if version == 10 {
            it.topic_id = r.uuid("topic_id")?;
        }
        it.partitions = r.array("partitions", version)?;
        if version >= 8 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        if version <= 9 {
            w.string("name", &self.name)?;
        }
        if version == 10 {
            w.uuid(self.topic_id);
        }
        w.array("partitions", &self.partitions, version)?;
        if version >= 8 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`OffsetCommitResponseTopic`] as `partitions`.
///
/// The responses for each partition in the topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCommitResponsePartition {
    /// The partition index.
    pub partition_index: i32,
    /// The error code, or 0 if there was no error.
    pub error_code: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for OffsetCommitResponsePartition {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.partition_index = r.i32("partition_index")?;
        it.error_code = r.i16("error_code")?;
        if version >= 8 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.i16(self.error_code);
        if version >= 8 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
