//! SyncGroupResponse, versions 0 to 5, flexible from version 4.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Writer};

/// SyncGroupResponse: the response.
///
/// - Version 1 adds throttle time.
/// - Starting in version 2, on quota violation, brokers send out responses before throttling.
/// - Starting from version 3, syncGroupRequest supports a new field called groupInstanceId to
///   indicate member identity across restarts.
/// - Version 4 is the first flexible version.
/// - Starting from version 5, the broker sends back the Protocol Type and the Protocol Name
///   to the client (KIP-559).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncGroupResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    ///
    /// From version 1.
    pub throttle_time_ms: i32,
    /// The error code, or 0 if there was no error.
    pub error_code: i16,
    /// The group protocol type.
    ///
    /// Version 5 only.
    pub protocol_type: Option<String>,
    /// The group protocol name.
    ///
    /// Version 5 only.
    pub protocol_name: Option<String>,
    /// The member assignment.
    pub assignment: Bytes,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for SyncGroupResponse {
    const NAME: &'static str = "SyncGroupResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 5;

    fn is_flexible(version: i16) -> bool {
        version >= 4
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 1 {
            it.throttle_time_ms = r.i32("throttle_time_ms")?;
        }
        it.error_code = r.i16("error_code")?;
        if version == 5 {
            it.protocol_type = r.nullable_string("protocol_type")?;
        }
        if version == 5 {
            it.protocol_name = r.nullable_string("protocol_name")?;
        }
        it.assignment = r.bytes("assignment")?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
        if version == 5 {
            w.nullable_string("protocol_type", self.protocol_type.as_deref())?;
        }
        if version == 5 {
            w.nullable_string("protocol_name", self.protocol_name.as_deref())?;
        }
        w.bytes("assignment", &self.assignment)?;
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
