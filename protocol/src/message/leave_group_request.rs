//! LeaveGroupRequest, versions 0 to 5, flexible from version 4.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::message::LeaveGroupResponse;

/// LeaveGroupRequest: the request.
///
/// - Version 3 defines batch processing scheme with group.instance.id + member.id for
///   identity
/// - Version 4 is the first flexible version.
/// - Version 5 adds the Reason field (KIP-800).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaveGroupRequest {
    /// The ID of the group to leave.
    pub group_id: String,
    /// The member ID to remove from the group.
    ///
    /// Up to version 2.
    pub member_id: String,
    /// List of leaving member identities.
    ///
    /// From version 3.
    pub members: Vec<MemberIdentity>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for LeaveGroupRequest {
    const NAME: &'static str = "LeaveGroupRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 5;

    fn is_flexible(version: i16) -> bool {
        version >= 4
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.group_id = r.string("group_id")?;
        if version <= 2 {
            it.member_id = r.string("member_id")?;
        }
        if version >= 3 {
            it.members = r.array("members", version)?;
        }
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.string("group_id", &self.group_id)?;
        if version <= 2 {
            w.string("member_id", &self.member_id)?;
        } else if !self.member_id.is_empty() {
            return Err(w.unsupported("member_id", version));
        }
        if version >= 3 {
            w.array("members", &self.members, version)?;
        } else if !self.members.is_empty() {
            return Err(w.unsupported("members", version));
        }
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`LeaveGroupRequest`] as `members`.
///
/// List of leaving member identities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberIdentity {
    /// The member ID to remove from the group.
    ///
    /// From version 3.
    pub member_id: String,
    /// The group instance ID to remove from the group.
    ///
    /// From version 3.
    pub group_instance_id: Option<String>,
    /// The reason why the member left the group.
    ///
    /// Version 5 only.
    pub reason: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for MemberIdentity {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.member_id = r.string("member_id")?;
        it.group_instance_id = r.nullable_string("group_instance_id")?;
        if version == 5 {
            it.reason = r.nullable_string("reason")?;
        }
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("member_id", &self.member_id)?;
        w.nullable_string("group_instance_id", self.group_instance_id.as_deref())?;
        if version == 5 {
            w.nullable_string("reason", self.reason.as_deref())?;
        }
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for LeaveGroupRequest {
    const API: ApiKey = ApiKey::LeaveGroup;
    type Response = LeaveGroupResponse;
}
