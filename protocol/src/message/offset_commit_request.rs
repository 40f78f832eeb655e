//! OffsetCommitRequest, versions 2 to 10, flexible from version 8.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::id::TopicId;
use crate::message::OffsetCommitResponse;

/// OffsetCommitRequest: the request.
///
/// - Version 1 adds timestamp and group membership information, as well as the commit
///   timestamp.
/// - Version 2 adds retention time. It removes the commit timestamp added in version 1.
/// - Version 5 removes the retention time, which is now controlled only by a broker
///   configuration.
/// - Version 6 adds the leader epoch for fencing.
/// - version 7 adds a new field called groupInstanceId to indicate member identity across
///   restarts.
/// - Version 8 is the first flexible version.
/// - Version 10 adds support for topic ids and removes support for topic names (KIP-848).
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetCommitRequest {
    /// The unique group identifier.
    pub group_id: String,
    /// The generation of the group if using the classic group protocol or the member epoch if
    /// using the consumer protocol.
    pub generation_id_or_member_epoch: i32,
    /// The member ID assigned by the group coordinator.
    pub member_id: String,
    /// The unique identifier of the consumer instance provided by end user.
    ///
    /// From version 7.
    pub group_instance_id: Option<String>,
    /// The time period in ms to retain the offset.
    ///
    /// Up to version 4.
    pub retention_time_ms: i64,
    /// The topics to commit offsets for.
    pub topics: Vec<OffsetCommitRequestTopic>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for OffsetCommitRequest {
    fn default() -> Self {
        Self {
            group_id: String::new(),
            generation_id_or_member_epoch: -1,
            member_id: String::new(),
            group_instance_id: None,
            retention_time_ms: -1,
            topics: Vec::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for OffsetCommitRequest {
    const NAME: &'static str = "OffsetCommitRequest";
    const MIN_VERSION: i16 = 2;
    const MAX_VERSION: i16 = 10;

    fn is_flexible(version: i16) -> bool {
        version >= 8
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.group_id = r.string("group_id")?;
        it.generation_id_or_member_epoch = r.i32("generation_id_or_member_epoch")?;
        it.member_id = r.string("member_id")?;
        if version >= 7 {
            it.group_instance_id = r.nullable_string("group_instance_id")?;
        }
        if version <= 4 {
            it.retention_time_ms = r.i64("retention_time_ms")?;
        }
        it.topics = r.array("topics", version)?;
        if version >= 8 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.string("group_id", &self.group_id)?;
        w.i32(self.generation_id_or_member_epoch);
        w.string("member_id", &self.member_id)?;
        if version >= 7 {
            w.nullable_string("group_instance_id", self.group_instance_id.as_deref())?;
        } else if self.group_instance_id.is_some() {
            return Err(w.unsupported("group_instance_id", version));
        }
        if version <= 4 {
            w.i64(self.retention_time_ms);
        }
        w.array("topics", &self.topics, version)?;
        if version >= 8 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`OffsetCommitRequest`] as `topics`.
///
/// The topics to commit offsets for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCommitRequestTopic {
    /// The topic name.
    ///
    /// Up to version 9.
    pub name: String,
    /// The topic ID.
    ///
    /// Version 10 only.
    pub topic_id: TopicId,
    /// Each partition to commit offsets for.
    pub partitions: Vec<OffsetCommitRequestPartition>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for OffsetCommitRequestTopic {
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

/// Held by [`OffsetCommitRequestTopic`] as `partitions`.
///
/// Each partition to commit offsets for.
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetCommitRequestPartition {
    /// The partition index.
    pub partition_index: i32,
    /// The message offset to be committed.
    pub committed_offset: i64,
    /// The leader epoch of this partition.
    ///
    /// From version 6.
    pub committed_leader_epoch: i32,
    /// Any associated metadata the client wants to keep.
    pub committed_metadata: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for OffsetCommitRequestPartition {
    fn default() -> Self {
        Self {
            partition_index: 0,
            committed_offset: 0,
            committed_leader_epoch: -1,
            committed_metadata: Some(String::new()),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for OffsetCommitRequestPartition {
    const MIN_SIZE: usize = 14;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.partition_index = r.i32("partition_index")?;
        it.committed_offset = r.i64("committed_offset")?;
        if version >= 6 {
            it.committed_leader_epoch = r.i32("committed_leader_epoch")?;
        }
        it.committed_metadata = r.nullable_string("committed_metadata")?;
        if version >= 8 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.i64(self.committed_offset);
        if version >= 6 {
            w.i32(self.committed_leader_epoch);
        }
        w.nullable_string("committed_metadata", self.committed_metadata.as_deref())?;
        if version >= 8 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for OffsetCommitRequest {
    const API: ApiKey = ApiKey::OffsetCommit;
    type Response = OffsetCommitResponse;
}
