//! DeleteTopicsRequest, versions 1 to 6, flexible from version 4.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::id::TopicId;
use crate::message::DeleteTopicsResponse;

/// DeleteTopicsRequest: the request.
///
/// - Version 4 is the first flexible version.
/// - Version 5 adds ErrorMessage in the response and may return a THROTTLING_QUOTA_EXCEEDED
///   error in the response if the topics deletion is throttled (KIP-599).
/// - Version 6 reorganizes topics, adds topic IDs and allows topic names to be null.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteTopicsRequest {
    /// The name or topic ID of the topic.
    ///
    /// Version 6 only.
    pub topics: Vec<DeleteTopicState>,
    /// The names of the topics to delete.
    ///
    /// Up to version 5.
    pub topic_names: Vec<String>,
    /// The length of time in milliseconds to wait for the deletions to complete.
    pub timeout_ms: i32,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for DeleteTopicsRequest {
    const NAME: &'static str = "DeleteTopicsRequest";
    const MIN_VERSION: i16 = 1;
    const MAX_VERSION: i16 = 6;

    fn is_flexible(version: i16) -> bool {
        version >= 4
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version == 6 {
            it.topics = r.array("topics", version)?;
        }
        if version <= 5 {
            it.topic_names = r.array("topic_names", version)?;
        }
        it.timeout_ms = r.i32("timeout_ms")?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version == 6 {
            w.array("topics", &self.topics, version)?;
        } else if !self.topics.is_empty() {
            return Err(w.unsupported("topics", version));
        }
        if version <= 5 {
            w.array("topic_names", &self.topic_names, version)?;
        }
        w.i32(self.timeout_ms);
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`DeleteTopicsRequest`] as `topics`.
///
/// The name or topic ID of the topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteTopicState {
    /// The topic name.
    ///
    /// Version 6 only.
    pub name: Option<String>,
    /// The unique topic ID.
    ///
    /// Version 6 only.
    pub topic_id: TopicId,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for DeleteTopicState {
    const MIN_SIZE: usize = 18;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.nullable_string("name")?;
        it.topic_id = r.uuid("topic_id")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.nullable_string("name", self.name.as_deref())?;
        w.uuid(self.topic_id);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

impl Request for DeleteTopicsRequest {
    const API: ApiKey = ApiKey::DeleteTopics;
    type Response = DeleteTopicsResponse;
}
