//! LeaveGroupResponse, versions 0 to 5, flexible from version 4.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// LeaveGroupResponse: the response.
///
/// - Version 1 adds the throttle time.
/// - Starting in version 2, on quota violation, brokers send out responses before throttling.
/// - Starting in version 3, we will make leave group request into batch mode and add
///   group.instance.id.
/// - Version 4 is the first flexible version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaveGroupResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    ///
    /// From version 1.
    pub throttle_time_ms: i32,
    /// The error code, or 0 if there was no error.
    pub error_code: i16,
    /// List of leaving member responses.
    ///
    /// From version 3.
    pub members: Vec<MemberResponse>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for LeaveGroupResponse {
    const NAME: &'static str = "LeaveGroupResponse";
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
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
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

/// Held by [`LeaveGroupResponse`] as `members`.
///
/// List of leaving member responses.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberResponse {
    /// The member ID to remove from the group.
    ///
    /// From version 3.
    pub member_id: String,
    /// The group instance ID to remove from the group.
    ///
    /// From version 3.
    pub group_instance_id: Option<String>,
    /// The error code, or 0 if there was no error.
    ///
    /// From version 3.
    pub error_code: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for MemberResponse {
    fn default() -> Self {
        Self {
            member_id: String::new(),
            group_instance_id: Some(String::new()),
            error_code: 0,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for MemberResponse {
    const MIN_SIZE: usize = 5;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.member_id = r.string("member_id")?;
        it.group_instance_id = r.nullable_string("group_instance_id")?;
        it.error_code = r.i16("error_code")?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("member_id", &self.member_id)?;
        w.nullable_string("group_instance_id", self.group_instance_id.as_deref())?;
        w.i16(self.error_code);
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
