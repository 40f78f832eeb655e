//! GroupMetadataValue, versions 0 to 4, flexible from version 4.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// GroupMetadataValue: the message.
///
/// Value of a classic group in `__consumer_offsets`, after a two-byte version.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupMetadataValue {
    /// The protocol type.
    pub protocol_type: String,
    /// The generation id.
    pub generation: i32,
    /// The protocol name.
    pub protocol: Option<String>,
    /// The leader id.
    pub leader: Option<String>,
    /// The timestamp of the last state change.
    ///
    /// From version 2.
    pub current_state_timestamp: i64,
    /// The group members.
    pub members: Vec<MemberMetadata>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for GroupMetadataValue {
    fn default() -> Self {
        Self {
            protocol_type: String::new(),
            generation: 0,
            protocol: Some(String::new()),
            leader: Some(String::new()),
            current_state_timestamp: -1,
            members: Vec::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for GroupMetadataValue {
    const NAME: &'static str = "GroupMetadataValue";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 4;

    fn is_flexible(version: i16) -> bool {
        version >= 4
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.protocol_type = r.string("protocol_type")?;
        it.generation = r.i32("generation")?;
        it.protocol = r.nullable_string("protocol")?;
        it.leader = r.nullable_string("leader")?;
        if version >= 2 {
            it.current_state_timestamp = r.i64("current_state_timestamp")?;
        }
        it.members = r.array("members", version)?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.string("protocol_type", &self.protocol_type)?;
        w.i32(self.generation);
        w.nullable_string("protocol", self.protocol.as_deref())?;
        w.nullable_string("leader", self.leader.as_deref())?;
        if version >= 2 {
            w.i64(self.current_state_timestamp);
        }
        w.array("members", &self.members, version)?;
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`GroupMetadataValue`] as `members`.
///
/// The group members.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberMetadata {
    /// The member id.
    pub member_id: String,
    /// The group instance id.
    ///
    /// From version 3.
    pub group_instance_id: Option<String>,
    /// The client id.
    pub client_id: String,
    /// The client host.
    pub client_host: String,
    /// The rebalance timeout.
    ///
    /// From version 1.
    pub rebalance_timeout: i32,
    /// The session timeout.
    pub session_timeout: i32,
    /// The subscription.
    pub subscription: Bytes,
    /// The assignment.
    pub assignment: Bytes,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for MemberMetadata {
    fn default() -> Self {
        Self {
            member_id: String::new(),
            group_instance_id: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout: -1,
            session_timeout: 0,
            subscription: Bytes::new(),
            assignment: Bytes::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for MemberMetadata {
    const MIN_SIZE: usize = 15;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.member_id = r.string("member_id")?;
        if version >= 3 {
            it.group_instance_id = r.nullable_string("group_instance_id")?;
        }
        it.client_id = r.string("client_id")?;
        it.client_host = r.string("client_host")?;
        if version >= 1 {
            it.rebalance_timeout = r.i32("rebalance_timeout")?;
        }
        it.session_timeout = r.i32("session_timeout")?;
        it.subscription = r.bytes("subscription")?;
        it.assignment = r.bytes("assignment")?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("member_id", &self.member_id)?;
        if version >= 3 {
            w.nullable_string("group_instance_id", self.group_instance_id.as_deref())?;
        }
        w.string("client_id", &self.client_id)?;
        w.string("client_host", &self.client_host)?;
        if version >= 1 {
            w.i32(self.rebalance_timeout);
        }
        w.i32(self.session_timeout);
        w.bytes("subscription", &self.subscription)?;
        w.bytes("assignment", &self.assignment)?;
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
