//! HeartbeatRequest, versions 0 to 4, flexible from version 4.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Writer};
use crate::message::HeartbeatResponse;

/// HeartbeatRequest: the request.
///
/// - Starting from version 3, we add a new field called groupInstanceId to indicate member
///   identity across restarts.
/// - Version 4 is the first flexible version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeartbeatRequest {
    /// The group id.
    pub group_id: String,
    /// The generation of the group.
    pub generation_id: i32,
    /// The member ID.
    pub member_id: String,
    /// The unique identifier of the consumer instance provided by end user.
    ///
    /// From version 3.
    pub group_instance_id: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for HeartbeatRequest {
    const NAME: &'static str = "HeartbeatRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 4;

    fn is_flexible(version: i16) -> bool {
        version >= 4
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.group_id = r.string("group_id")?;
        it.generation_id = r.i32("generation_id")?;
        it.member_id = r.string("member_id")?;
        if version >= 3 {
            it.group_instance_id = r.nullable_string("group_instance_id")?;
        }
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.string("group_id", &self.group_id)?;
        w.i32(self.generation_id);
        w.string("member_id", &self.member_id)?;
        if version >= 3 {
            w.nullable_string("group_instance_id", self.group_instance_id.as_deref())?;
        } else if self.group_instance_id.is_some() {
            return Err(w.unsupported("group_instance_id", version));
        }
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for HeartbeatRequest {
    const API: ApiKey = ApiKey::Heartbeat;
    type Response = HeartbeatResponse;
}
