//! OffsetForLeaderEpochResponse, versions 2 to 4, flexible from version 4.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// OffsetForLeaderEpochResponse: the response.
///
/// - Version 1 added the leader epoch to the response.
/// - Version 2 added the throttle time.
/// - Version 4 enables flexible versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetForLeaderEpochResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// Each topic we fetched offsets for.
    pub topics: Vec<OffsetForLeaderTopicResult>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for OffsetForLeaderEpochResponse {
    const NAME: &'static str = "OffsetForLeaderEpochResponse";
    const MIN_VERSION: i16 = 2;
    const MAX_VERSION: i16 = 4;

    fn is_flexible(version: i16) -> bool {
        version >= 4
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        it.topics = r.array("topics", version)?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.throttle_time_ms);
        w.array("topics", &self.topics, version)?;
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`OffsetForLeaderEpochResponse`] as `topics`.
///
/// Each topic we fetched offsets for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetForLeaderTopicResult {
    /// The topic name.
    pub topic: String,
    /// Each partition in the topic we fetched offsets for.
    pub partitions: Vec<EpochEndOffset>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for OffsetForLeaderTopicResult {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.topic = r.string("topic")?;
        it.partitions = r.array("partitions", version)?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("topic", &self.topic)?;
        w.array("partitions", &self.partitions, version)?;
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`OffsetForLeaderTopicResult`] as `partitions`.
///
/// Each partition in the topic we fetched offsets for.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochEndOffset {
    /// The error code 0, or if there was no error.
    pub error_code: i16,
    /// The partition index.
    pub partition: i32,
    /// The leader epoch of the partition.
    pub leader_epoch: i32,
    /// The end offset of the epoch.
    pub end_offset: i64,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for EpochEndOffset {
    fn default() -> Self {
        Self {
            error_code: 0,
            partition: 0,
            leader_epoch: -1,
            end_offset: -1,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for EpochEndOffset {
    const MIN_SIZE: usize = 18;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.error_code = r.i16("error_code")?;
        it.partition = r.i32("partition")?;
        it.leader_epoch = r.i32("leader_epoch")?;
        it.end_offset = r.i64("end_offset")?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i16(self.error_code);
        w.i32(self.partition);
        w.i32(self.leader_epoch);
        w.i64(self.end_offset);
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
