//! OffsetFetchResponse, versions 1 to 10, flexible from version 6.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};
use crate::id::TopicId;

/// OffsetFetchResponse: the response.
///
/// - Version 2 adds a top-level error code.
/// - Version 3 adds the throttle time.
/// - Starting in version 4, on quota violation, brokers send out responses before throttling.
/// - Version 5 adds the leader epoch to the committed offset.
/// - Version 6 is the first flexible version.
/// - Version 7 adds pending offset commit as new error response on partition level.
/// - Version 8 is adding support for fetching offsets for multiple groups
/// - Version 10 adds support for topic ids and removes support for topic names (KIP-848). It
///   can return UNKNOWN_TOPIC_ID if topic IDs used and the topic is not found in metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    ///
    /// From version 3.
    pub throttle_time_ms: i32,
    /// The responses per topic.
    ///
    /// Up to version 7.
    pub topics: Vec<OffsetFetchResponseTopic>,
    /// The top-level error code, or 0 if there was no error.
    ///
    /// Versions 2 to 7.
    pub error_code: i16,
    /// The responses per group id.
    ///
    /// From version 8.
    pub groups: Vec<OffsetFetchResponseGroup>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for OffsetFetchResponse {
    const NAME: &'static str = "OffsetFetchResponse";
    const MIN_VERSION: i16 = 1;
    const MAX_VERSION: i16 = 10;

    fn is_flexible(version: i16) -> bool {
        version >= 6
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 3 {
            it.throttle_time_ms = r.i32("throttle_time_ms")?;
        }
        if version <= 7 {
            it.topics = r.array("topics", version)?;
        }
        if (2..=7).contains(&version) {
            it.error_code = r.i16("error_code")?;
        }
        if version >= 8 {
            it.groups = r.array("groups", version)?;
        }
        if version >= 6 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 3 {
            w.i32(self.throttle_time_ms);
        }
        if version <= 7 {
            w.array("topics", &self.topics, version)?;
        } else if !self.topics.is_empty() {
            return Err(w.unsupported("topics", version));
        }
        if (2..=7).contains(&version) {
            w.i16(self.error_code);
        }
        if version >= 8 {
            w.array("groups", &self.groups, version)?;
        } else if !self.groups.is_empty() {
            return Err(w.unsupported("groups", version));
        }
        if version >= 6 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`OffsetFetchResponse`] as `topics`.
///
/// The responses per topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchResponseTopic {
    /// The topic name.
    ///
    /// Up to version 7.
    pub name: String,
    /// The responses per partition.
    ///
    /// Up to version 7.
    pub partitions: Vec<OffsetFetchResponsePartition>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for OffsetFetchResponseTopic {
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

/// Held by [`OffsetFetchResponseTopic`] as `partitions`.
///
/// The responses per partition.
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchResponsePartition {
    /// The partition index.
    ///
    /// Up to version 7.
    pub partition_index: i32,
    /// The committed message offset.
    ///
    /// Up to version 7.
    pub committed_offset: i64,
    /// The leader epoch.
    ///
    /// Versions 5 to 7.
    pub committed_leader_epoch: i32,
    /// The partition metadata.
    ///
    /// Up to version 7.
    pub metadata: Option<String>,
    /// The error code, or 0 if there was no error.
    ///
    /// Up to version 7.
    pub error_code: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for OffsetFetchResponsePartition {
    fn default() -> Self {
        Self {
            partition_index: 0,
            committed_offset: 0,
            committed_leader_epoch: -1,
            metadata: Some(String::new()),
            error_code: 0,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for OffsetFetchResponsePartition {
    const MIN_SIZE: usize = 16;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.partition_index = r.i32("partition_index")?;
        it.committed_offset = r.i64("committed_offset")?;
        if version >= 5 {
            it.committed_leader_epoch = r.i32("committed_leader_epoch")?;
        }
        it.metadata = r.nullable_string("metadata")?;
        it.error_code = r.i16("error_code")?;
        if version >= 6 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.i64(self.committed_offset);
        if version >= 5 {
            w.i32(self.committed_leader_epoch);
        }
        w.nullable_string("metadata", self.metadata.as_deref())?;
        w.i16(self.error_code);
        if version >= 6 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`OffsetFetchResponse`] as `groups`.
///
/// The responses per group id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchResponseGroup {
    /// The group ID.
    ///
    /// From version 8.
    pub group_id: String,
    /// The responses per topic.
    ///
    /// From version 8.
    pub topics: Vec<OffsetFetchResponseTopics>,
    /// The group-level error code, or 0 if there was no error.
    ///
    /// From version 8.
    pub error_code: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for OffsetFetchResponseGroup {
    const MIN_SIZE: usize = 5;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.group_id = r.string("group_id")?;
        it.topics = r.array("topics", version)?;
        it.error_code = r.i16("error_code")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("group_id", &self.group_id)?;
        w.array("topics", &self.topics, version)?;
        w.i16(self.error_code);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`OffsetFetchResponseGroup`] as `topics`.
///
/// The responses per topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchResponseTopics {
    /// The topic name.
    ///
    /// Versions 8 to 9.
    pub name: String,
    /// The topic ID.
    ///
    /// Version 10 only.
    pub topic_id: TopicId,
    /// The responses per partition.
    ///
    /// From version 8.
    pub partitions: Vec<OffsetFetchResponsePartitions>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for OffsetFetchResponseTopics {
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
        it.unknown_tagged_fields = r.unknown_tags()?;
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
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`OffsetFetchResponseTopics`] as `partitions`.
///
/// The responses per partition.
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchResponsePartitions {
    /// The partition index.
    ///
    /// From version 8.
    pub partition_index: i32,
    /// The committed message offset.
    ///
    /// From version 8.
    pub committed_offset: i64,
    /// The leader epoch.
    ///
    /// From version 8.
    pub committed_leader_epoch: i32,
    /// The partition metadata.
    ///
    /// From version 8.
    pub metadata: Option<String>,
    /// The partition-level error code, or 0 if there was no error.
    ///
    /// From version 8.
    pub error_code: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for OffsetFetchResponsePartitions {
    fn default() -> Self {
        Self {
            partition_index: 0,
            committed_offset: 0,
            committed_leader_epoch: -1,
            metadata: Some(String::new()),
            error_code: 0,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for OffsetFetchResponsePartitions {
    const MIN_SIZE: usize = 20;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.partition_index = r.i32("partition_index")?;
        it.committed_offset = r.i64("committed_offset")?;
        it.committed_leader_epoch = r.i32("committed_leader_epoch")?;
        it.metadata = r.nullable_string("metadata")?;
        it.error_code = r.i16("error_code")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.i64(self.committed_offset);
        w.i32(self.committed_leader_epoch);
        w.nullable_string("metadata", self.metadata.as_deref())?;
        w.i16(self.error_code);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}
