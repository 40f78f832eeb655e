//! ListOffsetsRequest, versions 1 to 11, flexible from version 6.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::message::ListOffsetsResponse;

/// ListOffsetsRequest: the request.
///
/// - Version 1 removes MaxNumOffsets. From this version forward, only a single offset can be
///   returned.
/// - Version 2 adds the isolation level, which is used for transactional reads.
/// - Version 4 adds the current leader epoch, which is used for fencing.
/// - Version 6 enables flexible versions.
/// - Version 7 enables listing offsets by max timestamp (KIP-734).
/// - Version 8 enables listing offsets by local log start offset (KIP-405).
/// - Version 9 enables listing offsets by last tiered offset (KIP-1005).
/// - Version 10 enables async remote list offsets support (KIP-1075)
/// - Version 11 enables listing offsets by earliest pending upload offset (KIP-1023)
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOffsetsRequest {
    /// The broker ID of the requester, or -1 if this request is being made by a normal consumer.
    pub replica_id: i32,
    /// This setting controls the visibility of transactional records. Using READ_UNCOMMITTED
    /// (isolation_level = 0) makes all records visible. With READ_COMMITTED (isolation_level =
    /// 1), non-transactional and COMMITTED transactional records are visible. To be more
    /// concrete, READ_COMMITTED returns all data from offsets smaller than the current LSO (last
    /// stable offset), and enables the inclusion of the list of aborted transactions in the
    /// result, which allows consumers to discard ABORTED transactional records.
    ///
    /// From version 2.
    pub isolation_level: i8,
    /// Each topic in the request.
    pub topics: Vec<ListOffsetsTopic>,
    /// The timeout to await a response in milliseconds for requests that require reading from
    /// remote storage for topics enabled with tiered storage.
    ///
    /// From version 10.
    pub timeout_ms: i32,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for ListOffsetsRequest {
    const NAME: &'static str = "ListOffsetsRequest";
    const MIN_VERSION: i16 = 1;
    const MAX_VERSION: i16 = 11;

    fn is_flexible(version: i16) -> bool {
        version >= 6
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.replica_id = r.i32("replica_id")?;
        if version >= 2 {
            it.isolation_level = r.i8("isolation_level")?;
        }
        it.topics = r.array("topics", version)?;
        if version >= 10 {
            it.timeout_ms = r.i32("timeout_ms")?;
        }
        if version >= 6 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.replica_id);
        if version >= 2 {
            w.i8(self.isolation_level);
        } else if self.isolation_level != 0 {
            return Err(w.unsupported("isolation_level", version));
        }
        w.array("topics", &self.topics, version)?;
        if version >= 10 {
            w.i32(self.timeout_ms);
        }
        if version >= 6 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`ListOffsetsRequest`] as `topics`.
///
/// Each topic in the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListOffsetsTopic {
    /// The topic name.
    pub name: String,
    /// Each partition in the request.
    pub partitions: Vec<ListOffsetsPartition>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for ListOffsetsTopic {
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

/// Held by [`ListOffsetsTopic`] as `partitions`.
///
/// Each partition in the request.
#[derive(Clone, Debug, PartialEq)]
pub struct ListOffsetsPartition {
    /// The partition index.
    pub partition_index: i32,
    /// The current leader epoch.
    ///
    /// From version 4.
    pub current_leader_epoch: i32,
    /// The current timestamp.
    pub timestamp: i64,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for ListOffsetsPartition {
    fn default() -> Self {
        Self {
            partition_index: 0,
            current_leader_epoch: -1,
            timestamp: 0,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for ListOffsetsPartition {
    const MIN_SIZE: usize = 12;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.partition_index = r.i32("partition_index")?;
        if version >= 4 {
            it.current_leader_epoch = r.i32("current_leader_epoch")?;
        }
        it.timestamp = r.i64("timestamp")?;
        if version >= 6 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        if version >= 4 {
            w.i32(self.current_leader_epoch);
        }
        w.i64(self.timestamp);
        if version >= 6 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for ListOffsetsRequest {
    const API: ApiKey = ApiKey::ListOffsets;
    type Response = ListOffsetsResponse;
}
