//! ListConfigResourcesRequest, versions 0 to 1, always flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Writer};
use crate::message::ListConfigResourcesResponse;

/// ListConfigResourcesRequest: the request.
///
/// - Version 0 is used as ListClientMetricsResourcesRequest which only lists client metrics
///   resources.
/// - Version 1 adds ResourceTypes field (KIP-1142). If there is no specified ResourceTypes,
///   it should return all configuration resources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListConfigResourcesRequest {
    /// The list of resource type. If the list is empty, it uses default supported config resource
    /// types.
    ///
    /// Version 1 only.
    pub resource_types: Vec<i8>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for ListConfigResourcesRequest {
    const NAME: &'static str = "ListConfigResourcesRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 1;

    fn is_flexible(_: i16) -> bool {
        true
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version == 1 {
            it.resource_types = r.array("resource_types", version)?;
        }
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version == 1 {
            w.array("resource_types", &self.resource_types, version)?;
        } else if !self.resource_types.is_empty() {
            return Err(w.unsupported("resource_types", version));
        }
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

impl Request for ListConfigResourcesRequest {
    const API: ApiKey = ApiKey::ListConfigResources;
    type Response = ListConfigResourcesResponse;
}
