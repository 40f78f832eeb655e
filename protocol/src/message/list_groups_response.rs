//! ListGroupsResponse, versions 0 to 5, flexible from version 3.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// ListGroupsResponse: the response.
///
/// - Version 1 adds the throttle time.
/// - Starting in version 2, on quota violation, brokers send out responses before throttling.
/// - Version 3 is the first flexible version.
/// - Version 4 adds the GroupState field (KIP-518).
/// - Version 5 adds the GroupType field (KIP-848).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListGroupsResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    ///
    /// From version 1.
    pub throttle_time_ms: i32,
    /// The error code, or 0 if there was no error.
    pub error_code: i16,
    /// Each group in the response.
    pub groups: Vec<ListedGroup>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for ListGroupsResponse {
    const NAME: &'static str = "ListGroupsResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 5;

    fn is_flexible(version: i16) -> bool {
        version >= 3
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 1 {
            it.throttle_time_ms = r.i32("throttle_time_ms")?;
        }
        it.error_code = r.i16("error_code")?;
        it.groups = r.array("groups", version)?;
        if version >= 3 {
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
        w.array("groups", &self.groups, version)?;
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`ListGroupsResponse`] as `groups`.
///
/// Each group in the response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListedGroup {
    /// The group ID.
    pub group_id: String,
    /// The group protocol type.
    pub protocol_type: String,
    /// The group state name.
    ///
    /// From version 4.
    pub group_state: String,
    /// The group type name.
    ///
    /// Version 5 only.
    pub group_type: String,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for ListedGroup {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.group_id = r.string("group_id")?;
        it.protocol_type = r.string("protocol_type")?;
        if version >= 4 {
            it.group_state = r.string("group_state")?;
        }
        if version == 5 {
            it.group_type = r.string("group_type")?;
        }
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("group_id", &self.group_id)?;
        w.string("protocol_type", &self.protocol_type)?;
        if version >= 4 {
            w.string("group_state", &self.group_state)?;
        }
        if version == 5 {
            w.string("group_type", &self.group_type)?;
        }
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
