//! OffsetFetchRequest, versions 1 to 10, flexible from version 6.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::id::TopicId;
use crate::message::OffsetFetchResponse;

/// OffsetFetchRequest: the request.
///
/// - In version 0, the request read offsets from ZK.
/// - Starting in version 1, the broker supports fetching offsets from the internal
///   __consumer_offsets topic.
/// - Starting in version 2, the request can contain a null topics array to indicate that
///   offsets for all topics should be fetched. It also returns a top level error code for
///   group or coordinator level errors.
/// - Version 6 is the first flexible version.
/// - Version 7 is adding the require stable flag.
/// - Version 8 is adding support for fetching offsets for multiple groups at a time.
/// - Version 9 is the first version that can be used with the new consumer group protocol
///   (KIP-848). It adds the MemberId and MemberEpoch fields. Those are filled in and
///   validated when the new consumer protocol is used.
/// - Version 10 adds support for topic ids and removes support for topic names (KIP-848).
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchRequest {
    /// The group to fetch offsets for.
    ///
    /// Up to version 7.
    pub group_id: String,
    /// Each topic we would like to fetch offsets for, or null to fetch offsets for all topics.
    ///
    /// Up to version 7.
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    /// Each group we would like to fetch offsets for.
    ///
    /// From version 8.
    pub groups: Vec<OffsetFetchRequestGroup>,
    /// Whether broker should hold on returning unstable offsets but set a retriable error code
    /// for the partitions.
    ///
    /// From version 7.
    pub require_stable: bool,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for OffsetFetchRequest {
    fn default() -> Self {
        Self {
            group_id: String::new(),
            topics: Some(Vec::new()),
            groups: Vec::new(),
            require_stable: false,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for OffsetFetchRequest {
    const NAME: &'static str = "OffsetFetchRequest";
    const MIN_VERSION: i16 = 1;
    const MAX_VERSION: i16 = 10;

    fn is_flexible(version: i16) -> bool {
        version >= 6
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version <= 7 {
            it.group_id = r.string("group_id")?;
        }
        if version <= 7 {
            it.topics = if version >= 2 {
                r.nullable_array("topics", version)?
            } else {
                Some(r.array("topics", version)?)
            };
        }
        if version >= 8 {
            it.groups = r.array("groups", version)?;
        }
        if version >= 7 {
            it.require_stable = r.bool("require_stable")?;
        }
        if version >= 6 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version <= 7 {
            w.string("group_id", &self.group_id)?;
        } else if !self.group_id.is_empty() {
            return Err(w.unsupported("group_id", version));
        }
        if version <= 7 {
            if version >= 2 {
                w.nullable_array("topics", &self.topics, version)?;
            } else {
                w.array("topics", w.present("topics", &self.topics)?, version)?;
            }
        } else if self.topics.as_ref().is_none_or(|it| !it.is_empty()) {
            return Err(w.unsupported("topics", version));
        }
        if version >= 8 {
            w.array("groups", &self.groups, version)?;
        } else if !self.groups.is_empty() {
            return Err(w.unsupported("groups", version));
        }
        if version >= 7 {
            w.bool(self.require_stable);
        } else if self.require_stable {
            return Err(w.unsupported("require_stable", version));
        }
        if version >= 6 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`OffsetFetchRequest`] as `topics`.
///
/// Each topic we would like to fetch offsets for, or null to fetch offsets for all topics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchRequestTopic {
    /// The topic name.
    ///
    /// Up to version 7.
    pub name: String,
    /// The partition indexes we would like to fetch offsets for.
    ///
    /// Up to version 7.
    pub partition_indexes: Vec<i32>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for OffsetFetchRequestTopic {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.partition_indexes = r.array("partition_indexes", version)?;
        if version >= 6 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.array("partition_indexes", &self.partition_indexes, version)?;
        if version >= 6 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`OffsetFetchRequest`] as `groups`.
///
/// Each group we would like to fetch offsets for.
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchRequestGroup {
    /// The group ID.
    ///
    /// From version 8.
    pub group_id: String,
    /// The member id.
    ///
    /// From version 9.
    pub member_id: Option<String>,
    /// The member epoch if using the new consumer protocol (KIP-848).
    ///
    /// From version 9.
    pub member_epoch: i32,
    /// Each topic we would like to fetch offsets for, or null to fetch offsets for all topics.
    ///
    /// From version 8.
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for OffsetFetchRequestGroup {
    fn default() -> Self {
        Self {
            group_id: String::new(),
            member_id: None,
            member_epoch: -1,
            topics: Some(Vec::new()),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for OffsetFetchRequestGroup {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.group_id = r.string("group_id")?;
        if version >= 9 {
            it.member_id = r.nullable_string("member_id")?;
        }
        if version >= 9 {
            it.member_epoch = r.i32("member_epoch")?;
        }
        it.topics = r.nullable_array("topics", version)?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("group_id", &self.group_id)?;
        if version >= 9 {
            w.nullable_string("member_id", self.member_id.as_deref())?;
        }
        if version >= 9 {
            w.i32(self.member_epoch);
        }
        w.nullable_array("topics", &self.topics, version)?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`OffsetFetchRequestGroup`] as `topics`.
///
/// Each topic we would like to fetch offsets for, or null to fetch offsets for all topics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchRequestTopics {
    /// The topic name.
    ///
    /// Versions 8 to 9.
    pub name: String,
    /// The topic ID.
    ///
    /// Version 10 only.
    pub topic_id: TopicId,
    /// The partition indexes we would like to fetch offsets for.
    ///
    /// From version 8.
    pub partition_indexes: Vec<i32>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for OffsetFetchRequestTopics {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        if version <= 9 {
            it.name = r.string("name")?;
        }
        if version == 10 {
            it.topic_id = r.uuid("topic_id")?;
        }
        it.partition_indexes = r.array("partition_indexes", version)?;
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
        w.array("partition_indexes", &self.partition_indexes, version)?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

impl Request for OffsetFetchRequest {
    const API: ApiKey = ApiKey::OffsetFetch;
    type Response = OffsetFetchResponse;
}
