//! ApiVersionsRequest, versions 0 to 4, flexible from version 3.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Writer};
use crate::message::ApiVersionsResponse;

/// ApiVersionsRequest: the request.
///
/// - Version 3 is the first flexible version and adds ClientSoftwareName and
///   ClientSoftwareVersion.
/// - Version 4 fixes KAFKA-17011, which blocked SupportedFeatures.MinVersion in the response
///   from being 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApiVersionsRequest {
    /// The name of the client.
    ///
    /// From version 3.
    pub client_software_name: String,
    /// The version of the client.
    ///
    /// From version 3.
    pub client_software_version: String,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for ApiVersionsRequest {
    const NAME: &'static str = "ApiVersionsRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 4;

    fn is_flexible(version: i16) -> bool {
        version >= 3
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 3 {
            it.client_software_name = r.string("client_software_name")?;
        }
        if version >= 3 {
            it.client_software_version = r.string("client_software_version")?;
        }
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 3 {
            w.string("client_software_name", &self.client_software_name)?;
        }
        if version >= 3 {
            w.string("client_software_version", &self.client_software_version)?;
        }
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for ApiVersionsRequest {
    const API: ApiKey = ApiKey::ApiVersions;
    type Response = ApiVersionsResponse;
}
