//! JoinGroupResponse, versions 0 to 9, flexible from version 6.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// JoinGroupResponse: the response.
///
/// - Version 2 adds throttle time.
/// - Starting in version 3, on quota violation, brokers send out responses before throttling.
/// - Starting in version 4, the client needs to issue a second request to join group with
///   assigned id.
/// - Version 5 is bumped to apply group.instance.id to identify member across restarts.
/// - Version 6 is the first flexible version.
/// - Starting from version 7, the broker sends back the Protocol Type to the client
///   (KIP-559).
/// - Version 9 adds the SkipAssignment field.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinGroupResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    ///
    /// From version 2.
    pub throttle_time_ms: i32,
    /// The error code, or 0 if there was no error.
    pub error_code: i16,
    /// The generation ID of the group.
    pub generation_id: i32,
    /// The group protocol name.
    ///
    /// From version 7.
    pub protocol_type: Option<String>,
    /// The group protocol selected by the coordinator.
    pub protocol_name: Option<String>,
    /// The leader of the group.
    pub leader: String,
    /// True if the leader must skip running the assignment.
    ///
    /// Version 9 only.
    pub skip_assignment: bool,
    /// The member ID assigned by the group coordinator.
    pub member_id: String,
    /// The group members.
    pub members: Vec<JoinGroupResponseMember>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for JoinGroupResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: 0,
            generation_id: -1,
            protocol_type: None,
            protocol_name: Some(String::new()),
            leader: String::new(),
            skip_assignment: false,
            member_id: String::new(),
            members: Vec::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for JoinGroupResponse {
    const NAME: &'static str = "JoinGroupResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 9;

    fn is_flexible(version: i16) -> bool {
        version >= 6
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 2 {
            it.throttle_time_ms = r.i32("throttle_time_ms")?;
        }
        it.error_code = r.i16("error_code")?;
        it.generation_id = r.i32("generation_id")?;
        if version >= 7 {
            it.protocol_type = r.nullable_string("protocol_type")?;
        }
        it.protocol_name = if version >= 7 {
            r.nullable_string("protocol_name")?
        } else {
            Some(r.string("protocol_name")?)
        };
        it.leader = r.string("leader")?;
        if version == 9 {
            it.skip_assignment = r.bool("skip_assignment")?;
        }
        it.member_id = r.string("member_id")?;
        it.members = r.array("members", version)?;
        if version >= 6 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 2 {
            w.i32(self.throttle_time_ms);
        }
        w.i16(self.error_code);
        w.i32(self.generation_id);
        if version >= 7 {
            w.nullable_string("protocol_type", self.protocol_type.as_deref())?;
        }
        if version >= 7 {
            w.nullable_string("protocol_name", self.protocol_name.as_deref())?;
        } else {
            w.string(
                "protocol_name",
                w.present("protocol_name", &self.protocol_name)?,
            )?;
        }
        w.string("leader", &self.leader)?;
        if version == 9 {
            w.bool(self.skip_assignment);
        } else if self.skip_assignment {
            return Err(w.unsupported("skip_assignment", version));
        }
        w.string("member_id", &self.member_id)?;
        w.array("members", &self.members, version)?;
        if version >= 6 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`JoinGroupResponse`] as `members`.
///
/// The group members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JoinGroupResponseMember {
    /// The group member ID.
    pub member_id: String,
    /// The unique identifier of the consumer instance provided by end user.
    ///
    /// From version 5.
    pub group_instance_id: Option<String>,
    /// The group member metadata.
    pub metadata: Bytes,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for JoinGroupResponseMember {
    const MIN_SIZE: usize = 4;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.member_id = r.string("member_id")?;
        if version >= 5 {
            it.group_instance_id = r.nullable_string("group_instance_id")?;
        }
        it.metadata = r.bytes("metadata")?;
        if version >= 6 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("member_id", &self.member_id)?;
        if version >= 5 {
            w.nullable_string("group_instance_id", self.group_instance_id.as_deref())?;
        }
        w.bytes("metadata", &self.metadata)?;
        if version >= 6 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
