//! ListOffsetsResponse, versions 1 to 11, flexible from version 6.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// ListOffsetsResponse: the response.
///
/// - Version 1 removes the offsets array in favor of returning a single offset.
/// - Version 1 also adds the timestamp associated with the returned offset.
/// - Version 2 adds the throttle time.
/// - Starting in version 3, on quota violation, brokers send out responses before throttling.
/// - Version 4 adds the leader epoch, which is used for fencing.
/// - Version 5 adds a new error code, OFFSET_NOT_AVAILABLE.
/// - Version 6 enables flexible versions.
/// - Version 8 enables listing offsets by local log start offset. This is the earliest log
///   start offset in the local log. (KIP-405).
/// - Version 9 enables listing offsets by last tiered offset (KIP-1005).
/// - Version 10 enables async remote list offsets support (KIP-1075)
/// - Version 11 enables listing offsets by earliest pending upload offset (KIP-1023)
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOffsetsResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    ///
    /// From version 2.
    pub throttle_time_ms: i32,
    /// Each topic in the response.
    pub topics: Vec<ListOffsetsTopicResponse>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for ListOffsetsResponse {
    const NAME: &'static str = "ListOffsetsResponse";
    const MIN_VERSION: i16 = 1;
    const MAX_VERSION: i16 = 11;

    fn is_flexible(version: i16) -> bool {
        version >= 6
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 2 {
            it.throttle_time_ms = r.i32("throttle_time_ms")?;
        }
        it.topics = r.array("topics", version)?;
        if version >= 6 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 2 {
            w.i32(self.throttle_time_ms);
        }
        w.array("topics", &self.topics, version)?;
        if version >= 6 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`ListOffsetsResponse`] as `topics`.
///
/// Each topic in the response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOffsetsTopicResponse {
    /// The topic name.
    pub name: String,
    /// Each partition in the response.
    pub partitions: Vec<ListOffsetsPartitionResponse>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for ListOffsetsTopicResponse {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.partitions = r.array("partitions", version)?;
        if version >= 6 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.array("partitions", &self.partitions, version)?;
        if version >= 6 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`ListOffsetsTopicResponse`] as `partitions`.
///
/// Each partition in the response.
#[derive(Clone, Debug, PartialEq)]
pub struct ListOffsetsPartitionResponse {
    /// The partition index.
    pub partition_index: i32,
    /// The partition error code, or 0 if there was no error.
    pub error_code: i16,
    /// The timestamp associated with the returned offset.
    pub timestamp: i64,
    /// The returned offset.
    pub offset: i64,
    /// The leader epoch associated with the returned offset.
    ///
    /// From version 4.
    pub leader_epoch: i32,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for ListOffsetsPartitionResponse {
    fn default() -> Self {
        Self {
            partition_index: 0,
            error_code: 0,
            timestamp: -1,
            offset: -1,
            leader_epoch: -1,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for ListOffsetsPartitionResponse {
    const MIN_SIZE: usize = 22;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.partition_index = r.i32("partition_index")?;
        it.error_code = r.i16("error_code")?;
        it.timestamp = r.i64("timestamp")?;
        it.offset = r.i64("offset")?;
        if version >= 4 {
            it.leader_epoch = r.i32("leader_epoch")?;
        }
        if version >= 6 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.i16(self.error_code);
        w.i64(self.timestamp);
        w.i64(self.offset);
        if version >= 4 {
            w.i32(self.leader_epoch);
        } else if self.leader_epoch != -1 {
            return Err(w.unsupported("leader_epoch", version));
        }
        if version >= 6 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
