//! DescribeGroupsRequest, versions 0 to 6, flexible from version 5.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Writer};
use crate::message::DescribeGroupsResponse;

/// DescribeGroupsRequest: the request.
///
/// - Starting in version 3, authorized operations can be requested.
/// - Starting in version 4, the response will include group.instance.id info for members.
/// - Version 5 is the first flexible version.
/// - Version 6 returns error code GROUP_ID_NOT_FOUND if the group ID is not found (KIP-1043).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeGroupsRequest {
    /// The names of the groups to describe.
    pub groups: Vec<String>,
    /// Whether to include authorized operations.
    ///
    /// From version 3.
    pub include_authorized_operations: bool,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for DescribeGroupsRequest {
    const NAME: &'static str = "DescribeGroupsRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 6;

    fn is_flexible(version: i16) -> bool {
        version >= 5
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.groups = r.array("groups", version)?;
        if version >= 3 {
            it.include_authorized_operations = r.bool("include_authorized_operations")?;
        }
        if version >= 5 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.array("groups", &self.groups, version)?;
        if version >= 3 {
            w.bool(self.include_authorized_operations);
        } else if self.include_authorized_operations {
            return Err(w.unsupported("include_authorized_operations", version));
        }
        if version >= 5 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for DescribeGroupsRequest {
    const API: ApiKey = ApiKey::DescribeGroups;
    type Response = DescribeGroupsResponse;
}
