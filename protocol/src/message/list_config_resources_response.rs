//! ListConfigResourcesResponse, versions 0 to 1, always flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// ListConfigResourcesResponse: the response.
///
/// - Version 0 is used as ListClientMetricsResourcesResponse which returns all client metrics
///   resources.
/// - Version 1 adds ResourceType to ConfigResources (KIP-1142).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListConfigResourcesResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// The error code, or 0 if there was no error.
    pub error_code: i16,
    /// Each config resource in the response.
    pub config_resources: Vec<ConfigResource>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for ListConfigResourcesResponse {
    const NAME: &'static str = "ListConfigResourcesResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 1;

    fn is_flexible(_: i16) -> bool {
        true
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        it.error_code = r.i16("error_code")?;
        it.config_resources = r.array("config_resources", version)?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.throttle_time_ms);
        w.i16(self.error_code);
        w.array("config_resources", &self.config_resources, version)?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`ListConfigResourcesResponse`] as `config_resources`.
///
/// Each config resource in the response.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigResource {
    /// The resource name.
    pub resource_name: String,
    /// The resource type.
    ///
    /// Version 1 only.
    pub resource_type: i8,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for ConfigResource {
    fn default() -> Self {
        Self {
            resource_name: String::new(),
            resource_type: 16,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for ConfigResource {
    const MIN_SIZE: usize = 2;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.resource_name = r.string("resource_name")?;
        if version == 1 {
            it.resource_type = r.i8("resource_type")?;
        }
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("resource_name", &self.resource_name)?;
        if version == 1 {
            w.i8(self.resource_type);
        }
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}
