//! IncrementalAlterConfigsResponse, versions 0 to 1, flexible from version 1.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// IncrementalAlterConfigsResponse: the response.
///
/// - Version 1 is the first flexible version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IncrementalAlterConfigsResponse {
    /// Duration in milliseconds for which the request was throttled due to a quota violation, or
    /// zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// The responses for each resource.
    pub responses: Vec<AlterConfigsResourceResponse>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for IncrementalAlterConfigsResponse {
    const NAME: &'static str = "IncrementalAlterConfigsResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 1;

    fn is_flexible(version: i16) -> bool {
        version >= 1
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        it.responses = r.array("responses", version)?;
        if version >= 1 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.throttle_time_ms);
        w.array("responses", &self.responses, version)?;
        if version >= 1 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`IncrementalAlterConfigsResponse`] as `responses`.
///
/// The responses for each resource.
#[derive(Clone, Debug, PartialEq)]
pub struct AlterConfigsResourceResponse {
    /// The resource error code.
    pub error_code: i16,
    /// The resource error message, or null if there was no error.
    pub error_message: Option<String>,
    /// The resource type.
    pub resource_type: i8,
    /// The resource name.
    pub resource_name: String,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for AlterConfigsResourceResponse {
    fn default() -> Self {
        Self {
            error_code: 0,
            error_message: Some(String::new()),
            resource_type: 0,
            resource_name: String::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for AlterConfigsResourceResponse {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.error_code = r.i16("error_code")?;
        it.error_message = r.nullable_string("error_message")?;
        it.resource_type = r.i8("resource_type")?;
        it.resource_name = r.string("resource_name")?;
        if version >= 1 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i16(self.error_code);
        w.nullable_string("error_message", self.error_message.as_deref())?;
        w.i8(self.resource_type);
        w.string("resource_name", &self.resource_name)?;
        if version >= 1 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
