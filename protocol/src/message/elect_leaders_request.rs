//! ElectLeadersRequest, versions 0 to 2, flexible from version 2.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::message::ElectLeadersResponse;

/// ElectLeadersRequest: the request.
///
/// - Version 1 implements multiple leader election types, as described by KIP-460.
/// - Version 2 is the first flexible version.
#[derive(Clone, Debug, PartialEq)]
pub struct ElectLeadersRequest {
    /// Type of elections to conduct for the partition. A value of '0' elects the preferred
    /// replica. A value of '1' elects the first live replica if there are no in-sync replica.
    ///
    /// From version 1.
    pub election_type: i8,
    /// The topic partitions to elect leaders.
    pub topic_partitions: Option<Vec<TopicPartitions>>,
    /// The time in ms to wait for the election to complete.
    pub timeout_ms: i32,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for ElectLeadersRequest {
    fn default() -> Self {
        Self {
            election_type: 0,
            topic_partitions: Some(Vec::new()),
            timeout_ms: 60000,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for ElectLeadersRequest {
    const NAME: &'static str = "ElectLeadersRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 2;

    fn is_flexible(version: i16) -> bool {
        version >= 2
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 1 {
            it.election_type = r.i8("election_type")?;
        }
        it.topic_partitions = r.nullable_array("topic_partitions", version)?;
        it.timeout_ms = r.i32("timeout_ms")?;
        if version >= 2 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 1 {
            w.i8(self.election_type);
        } else if self.election_type != 0 {
            return Err(w.unsupported("election_type", version));
        }
        w.nullable_array("topic_partitions", &self.topic_partitions, version)?;
        w.i32(self.timeout_ms);
        if version >= 2 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`ElectLeadersRequest`] as `topic_partitions`.
///
/// The topic partitions to elect leaders.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicPartitions {
    /// The name of a topic.
    pub topic: String,
    /// The partitions of this topic whose leader should be elected.
    pub partitions: Vec<i32>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for TopicPartitions {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.topic = r.string("topic")?;
        it.partitions = r.array("partitions", version)?;
        if version >= 2 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("topic", &self.topic)?;
        w.array("partitions", &self.partitions, version)?;
        if version >= 2 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for ElectLeadersRequest {
    const API: ApiKey = ApiKey::ElectLeaders;
    type Response = ElectLeadersResponse;
}
