//! UpdateFeaturesResponse, versions 0 to 2, always flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// UpdateFeaturesResponse: the response.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateFeaturesResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// The top-level error code, or `0` if there was no top-level error.
    pub error_code: i16,
    /// The top-level error message, or `null` if there was no top-level error.
    pub error_message: Option<String>,
    /// Results for each feature update.
    ///
    /// Up to version 1.
    pub results: Vec<UpdatableFeatureResult>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for UpdateFeaturesResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: 0,
            error_message: Some(String::new()),
            results: Vec::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for UpdateFeaturesResponse {
    const NAME: &'static str = "UpdateFeaturesResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 2;

    fn is_flexible(_: i16) -> bool {
        true
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        it.error_code = r.i16("error_code")?;
        it.error_message = r.nullable_string("error_message")?;
        if version <= 1 {
            it.results = r.array("results", version)?;
        }
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.throttle_time_ms);
        w.i16(self.error_code);
        w.nullable_string("error_message", self.error_message.as_deref())?;
        if version <= 1 {
            w.array("results", &self.results, version)?;
        }
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`UpdateFeaturesResponse`] as `results`.
///
/// Results for each feature update.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdatableFeatureResult {
    /// The name of the finalized feature.
    ///
    /// Up to version 1.
    pub feature: String,
    /// The feature update error code or `0` if the feature update succeeded.
    ///
    /// Up to version 1.
    pub error_code: i16,
    /// The feature update error, or `null` if the feature update succeeded.
    ///
    /// Up to version 1.
    pub error_message: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for UpdatableFeatureResult {
    fn default() -> Self {
        Self {
            feature: String::new(),
            error_code: 0,
            error_message: Some(String::new()),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for UpdatableFeatureResult {
    const MIN_SIZE: usize = 5;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.feature = r.string("feature")?;
        it.error_code = r.i16("error_code")?;
        it.error_message = r.nullable_string("error_message")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.string("feature", &self.feature)?;
        w.i16(self.error_code);
        w.nullable_string("error_message", self.error_message.as_deref())?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}
