//! CreatePartitionsResponse, versions 0 to 3, flexible from version 2.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// CreatePartitionsResponse: the response.
///
/// - Starting in version 1, on quota violation, brokers send out responses before throttling.
/// - Version 2 adds flexible version support
/// - Version 3 is identical to version 2 but may return a THROTTLING_QUOTA_EXCEEDED error in
///   the response if the partitions creation is throttled (KIP-599).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreatePartitionsResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// The partition creation results for each topic.
    pub results: Vec<CreatePartitionsTopicResult>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for CreatePartitionsResponse {
    const NAME: &'static str = "CreatePartitionsResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 3;

    fn is_flexible(version: i16) -> bool {
        version >= 2
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        it.results = r.array("results", version)?;
        if version >= 2 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.throttle_time_ms);
        w.array("results", &self.results, version)?;
        if version >= 2 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`CreatePartitionsResponse`] as `results`.
///
/// The partition creation results for each topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreatePartitionsTopicResult {
    /// The topic name.
    pub name: String,
    /// The result error, or zero if there was no error.
    pub error_code: i16,
    /// The result message, or null if there was no error.
    pub error_message: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for CreatePartitionsTopicResult {
    const MIN_SIZE: usize = 5;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.error_code = r.i16("error_code")?;
        it.error_message = r.nullable_string("error_message")?;
        if version >= 2 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.i16(self.error_code);
        w.nullable_string("error_message", self.error_message.as_deref())?;
        if version >= 2 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
