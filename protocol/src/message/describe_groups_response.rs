//! DescribeGroupsResponse, versions 0 to 6, flexible from version 5.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// DescribeGroupsResponse: the response.
///
/// - Version 1 added throttle time.
/// - Starting in version 2, on quota violation, brokers send out responses before throttling.
/// - Starting in version 3, brokers can send authorized operations.
/// - Starting in version 4, the response will optionally include group.instance.id info for
///   members.
/// - Version 5 is the first flexible version.
/// - Version 6 returns error code GROUP_ID_NOT_FOUND if the group ID is not found (KIP-1043).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeGroupsResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    ///
    /// From version 1.
    pub throttle_time_ms: i32,
    /// Each described group.
    pub groups: Vec<DescribedGroup>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for DescribeGroupsResponse {
    const NAME: &'static str = "DescribeGroupsResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 6;

    fn is_flexible(version: i16) -> bool {
        version >= 5
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 1 {
            it.throttle_time_ms = r.i32("throttle_time_ms")?;
        }
        it.groups = r.array("groups", version)?;
        if version >= 5 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        w.array("groups", &self.groups, version)?;
        if version >= 5 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`DescribeGroupsResponse`] as `groups`.
///
/// Each described group.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedGroup {
    /// The describe error, or 0 if there was no error.
    pub error_code: i16,
    /// The describe error message, or null if there was no error.
    ///
    /// Version 6 only.
    pub error_message: Option<String>,
    /// The group ID string.
    pub group_id: String,
    /// The group state string, or the empty string.
    pub group_state: String,
    /// The group protocol type, or the empty string.
    pub protocol_type: String,
    /// The group protocol data, or the empty string.
    pub protocol_data: String,
    /// The group members.
    pub members: Vec<DescribedGroupMember>,
    /// 32-bit bitfield to represent authorized operations for this group.
    ///
    /// From version 3.
    pub authorized_operations: i32,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for DescribedGroup {
    fn default() -> Self {
        Self {
            error_code: 0,
            error_message: None,
            group_id: String::new(),
            group_state: String::new(),
            protocol_type: String::new(),
            protocol_data: String::new(),
            members: Vec::new(),
            authorized_operations: -2147483648,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for DescribedGroup {
    const MIN_SIZE: usize = 12;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.error_code = r.i16("error_code")?;
        if version == 6 {
            it.error_message = r.nullable_string("error_message")?;
        }
        it.group_id = r.string("group_id")?;
        it.group_state = r.string("group_state")?;
        it.protocol_type = r.string("protocol_type")?;
        it.protocol_data = r.string("protocol_data")?;
        it.members = r.array("members", version)?;
        if version >= 3 {
            it.authorized_operations = r.i32("authorized_operations")?;
        }
        if version >= 5 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i16(self.error_code);
        if version == 6 {
            w.nullable_string("error_message", self.error_message.as_deref())?;
        } else if self.error_message.is_some() {
            return Err(w.unsupported("error_message", version));
        }
        w.string("group_id", &self.group_id)?;
        w.string("group_state", &self.group_state)?;
        w.string("protocol_type", &self.protocol_type)?;
        w.string("protocol_data", &self.protocol_data)?;
        w.array("members", &self.members, version)?;
        if version >= 3 {
            w.i32(self.authorized_operations);
        } else if self.authorized_operations != -2147483648 {
            return Err(w.unsupported("authorized_operations", version));
        }
        if version >= 5 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`DescribedGroup`] as `members`.
///
/// The group members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribedGroupMember {
    /// The member id.
    pub member_id: String,
    /// The unique identifier of the consumer instance provided by end user.
    ///
    /// From version 4.
    pub group_instance_id: Option<String>,
    /// The client ID used in the member's latest join group request.
    pub client_id: String,
    /// The client host.
    pub client_host: String,
    /// The metadata corresponding to the current group protocol in use.
    pub member_metadata: Bytes,
    /// The current assignment provided by the group leader.
    pub member_assignment: Bytes,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for DescribedGroupMember {
    const MIN_SIZE: usize = 7;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.member_id = r.string("member_id")?;
        if version >= 4 {
            it.group_instance_id = r.nullable_string("group_instance_id")?;
        }
        it.client_id = r.string("client_id")?;
        it.client_host = r.string("client_host")?;
        it.member_metadata = r.bytes("member_metadata")?;
        it.member_assignment = r.bytes("member_assignment")?;
        if version >= 5 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("member_id", &self.member_id)?;
        if version >= 4 {
            w.nullable_string("group_instance_id", self.group_instance_id.as_deref())?;
        }
        w.string("client_id", &self.client_id)?;
        w.string("client_host", &self.client_host)?;
        w.bytes("member_metadata", &self.member_metadata)?;
        w.bytes("member_assignment", &self.member_assignment)?;
        if version >= 5 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
