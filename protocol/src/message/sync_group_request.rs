//! SyncGroupRequest, versions 0 to 5, flexible from version 4.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use bytes::Bytes;

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::message::SyncGroupResponse;

/// SyncGroupRequest: the request.
///
/// - Starting from version 3, we add a new field called groupInstanceId to indicate member
///   identity across restarts.
/// - Version 4 is the first flexible version.
/// - Starting from version 5, the client sends the Protocol Type and the Protocol Name to the
///   broker (KIP-559). The broker will reject the request if they are inconsistent with the
///   Type and Name known by the broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncGroupRequest {
    /// The unique group identifier.
    pub group_id: String,
    /// The generation of the group.
    pub generation_id: i32,
    /// The member ID assigned by the group.
    pub member_id: String,
    /// The unique identifier of the consumer instance provided by end user.
    ///
    /// From version 3.
    pub group_instance_id: Option<String>,
    /// The group protocol type.
    ///
    /// Version 5 only.
    pub protocol_type: Option<String>,
    /// The group protocol name.
    ///
    /// Version 5 only.
    pub protocol_name: Option<String>,
    /// Each assignment.
    pub assignments: Vec<SyncGroupRequestAssignment>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for SyncGroupRequest {
    const NAME: &'static str = "SyncGroupRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 5;

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
        if version == 5 {
            it.protocol_type = r.nullable_string("protocol_type")?;
        }
        if version == 5 {
            it.protocol_name = r.nullable_string("protocol_name")?;
        }
        it.assignments = r.array("assignments", version)?;
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
        if version == 5 {
            w.nullable_string("protocol_type", self.protocol_type.as_deref())?;
        }
        if version == 5 {
            w.nullable_string("protocol_name", self.protocol_name.as_deref())?;
        }
        w.array("assignments", &self.assignments, version)?;
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`SyncGroupRequest`] as `assignments`.
///
/// Each assignment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncGroupRequestAssignment {
    /// The ID of the member to assign.
    pub member_id: String,
    /// The member assignment.
    pub assignment: Bytes,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for SyncGroupRequestAssignment {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.member_id = r.string("member_id")?;
        it.assignment = r.bytes("assignment")?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("member_id", &self.member_id)?;
        w.bytes("assignment", &self.assignment)?;
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for SyncGroupRequest {
    const API: ApiKey = ApiKey::SyncGroup;
    type Response = SyncGroupResponse;
}
