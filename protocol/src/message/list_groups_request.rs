//! ListGroupsRequest, versions 0 to 5, flexible from version 3.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Writer};
use crate::message::ListGroupsResponse;

/// ListGroupsRequest: the request.
///
/// - Version 3 is the first flexible version.
/// - Version 4 adds the StatesFilter field (KIP-518).
/// - Version 5 adds the TypesFilter field (KIP-848).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListGroupsRequest {
    /// The states of the groups we want to list. If empty, all groups are returned with their
    /// state.
    ///
    /// From version 4.
    pub states_filter: Vec<String>,
    /// The types of the groups we want to list. If empty, all groups are returned with their
    /// type.
    ///
    /// Version 5 only.
    pub types_filter: Vec<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for ListGroupsRequest {
    const NAME: &'static str = "ListGroupsRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 5;

    fn is_flexible(version: i16) -> bool {
        version >= 3
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 4 {
            it.states_filter = r.array("states_filter", version)?;
        }
        if version == 5 {
            it.types_filter = r.array("types_filter", version)?;
        }
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 4 {
            w.array("states_filter", &self.states_filter, version)?;
        } else if !self.states_filter.is_empty() {
            return Err(w.unsupported("states_filter", version));
        }
        if version == 5 {
            w.array("types_filter", &self.types_filter, version)?;
        } else if !self.types_filter.is_empty() {
            return Err(w.unsupported("types_filter", version));
        }
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for ListGroupsRequest {
    const API: ApiKey = ApiKey::ListGroups;
    type Response = ListGroupsResponse;
}
