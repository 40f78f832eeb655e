//! DeleteTopicsResponse, versions 1 to 6, flexible from version 4.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};
use crate::id::TopicId;

/// DeleteTopicsResponse: the response.
///
/// - Version 1 adds the throttle time.
/// - Starting in version 2, on quota violation, brokers send out responses before throttling.
/// - Starting in version 3, a TOPIC_DELETION_DISABLED error code may be returned.
/// - Version 4 is the first flexible version.
/// - Version 5 adds ErrorMessage in the response and may return a THROTTLING_QUOTA_EXCEEDED
///   error in the response if the topics deletion is throttled (KIP-599).
/// - Version 6 adds topic ID to responses. An UNSUPPORTED_VERSION error code will be returned
///   when attempting to delete using topic IDs when IBP < 2.8. UNKNOWN_TOPIC_ID error code
///   will be returned when IBP is at least 2.8, but the topic ID was not found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteTopicsResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// The results for each topic we tried to delete.
    pub responses: Vec<DeletableTopicResult>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for DeleteTopicsResponse {
    const NAME: &'static str = "DeleteTopicsResponse";
    const MIN_VERSION: i16 = 1;
    const MAX_VERSION: i16 = 6;

    fn is_flexible(version: i16) -> bool {
        version >= 4
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        it.responses = r.array("responses", version)?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.throttle_time_ms);
        w.array("responses", &self.responses, version)?;
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`DeleteTopicsResponse`] as `responses`.
///
/// The results for each topic we tried to delete.
#[derive(Clone, Debug, PartialEq)]
pub struct DeletableTopicResult {
    /// The topic name.
    pub name: Option<String>,
    /// The unique topic ID.
    ///
    /// Version 6 only.
    pub topic_id: TopicId,
    /// The deletion error, or 0 if the deletion succeeded.
    pub error_code: i16,
    /// The error message, or null if there was no error.
    ///
    /// From version 5.
    pub error_message: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for DeletableTopicResult {
    fn default() -> Self {
        Self {
            name: Some(String::new()),
            topic_id: TopicId::NIL,
            error_code: 0,
            error_message: None,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for DeletableTopicResult {
    const MIN_SIZE: usize = 4;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = if version == 6 {
            r.nullable_string("name")?
        } else {
            Some(r.string("name")?)
        };
        if version == 6 {
            it.topic_id = r.uuid("topic_id")?;
        }
        it.error_code = r.i16("error_code")?;
        if version >= 5 {
            it.error_message = r.nullable_string("error_message")?;
        }
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        if version == 6 {
            w.nullable_string("name", self.name.as_deref())?;
        } else {
            w.string("name", w.present("name", &self.name)?)?;
        }
        if version == 6 {
            w.uuid(self.topic_id);
        }
        w.i16(self.error_code);
        if version >= 5 {
            w.nullable_string("error_message", self.error_message.as_deref())?;
        }
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
