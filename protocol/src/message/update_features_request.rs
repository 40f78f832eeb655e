//! UpdateFeaturesRequest, versions 0 to 2, always flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::message::UpdateFeaturesResponse;

/// UpdateFeaturesRequest: the request.
///
/// - Version 1 adds validate only field.
/// - Version 2 changes the response to not return feature level results.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateFeaturesRequest {
    /// How long to wait in milliseconds before timing out the request.
    pub timeout_ms: i32,
    /// The list of updates to finalized features.
    pub feature_updates: Vec<FeatureUpdateKey>,
    /// True if we should validate the request, but not perform the upgrade or downgrade.
    ///
    /// From version 1.
    pub validate_only: bool,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for UpdateFeaturesRequest {
    fn default() -> Self {
        Self {
            timeout_ms: 60000,
            feature_updates: Vec::new(),
            validate_only: false,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for UpdateFeaturesRequest {
    const NAME: &'static str = "UpdateFeaturesRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 2;

    fn is_flexible(_: i16) -> bool {
        true
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.timeout_ms = r.i32("timeout_ms")?;
        it.feature_updates = r.array("feature_updates", version)?;
        if version >= 1 {
            it.validate_only = r.bool("validate_only")?;
        }
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.timeout_ms);
        w.array("feature_updates", &self.feature_updates, version)?;
        if version >= 1 {
            w.bool(self.validate_only);
        } else if self.validate_only {
            return Err(w.unsupported("validate_only", version));
        }
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`UpdateFeaturesRequest`] as `feature_updates`.
///
/// The list of updates to finalized features.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureUpdateKey {
    /// The name of the finalized feature to be updated.
    pub feature: String,
    /// The new maximum version level for the finalized feature. A value >= 1 is valid. A value <
    /// 1, is special, and can be used to request the deletion of the finalized feature.
    pub max_version_level: i16,
    /// DEPRECATED in version 1 (see DowngradeType). When set to true, the finalized feature
    /// version level is allowed to be downgraded/deleted. The downgrade request will fail if the
    /// new maximum version level is a value that's not lower than the existing maximum finalized
    /// version level.
    ///
    /// Version 0 only.
    pub allow_downgrade: bool,
    /// Determine which type of upgrade will be performed: 1 will perform an upgrade only
    /// (default), 2 is safe downgrades only (lossless), 3 is unsafe downgrades (lossy).
    ///
    /// From version 1.
    pub upgrade_type: i8,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for FeatureUpdateKey {
    fn default() -> Self {
        Self {
            feature: String::new(),
            max_version_level: 0,
            allow_downgrade: false,
            upgrade_type: 1,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for FeatureUpdateKey {
    const MIN_SIZE: usize = 5;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.feature = r.string("feature")?;
        it.max_version_level = r.i16("max_version_level")?;
        if version == 0 {
            it.allow_downgrade = r.bool("allow_downgrade")?;
        }
        if version >= 1 {
            it.upgrade_type = r.i8("upgrade_type")?;
        }
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("feature", &self.feature)?;
        w.i16(self.max_version_level);
        if version == 0 {
            w.bool(self.allow_downgrade);
        } else if self.allow_downgrade {
            return Err(w.unsupported("allow_downgrade", version));
        }
        if version >= 1 {
            w.i8(self.upgrade_type);
        } else if self.upgrade_type != 1 {
            return Err(w.unsupported("upgrade_type", version));
        }
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

impl Request for UpdateFeaturesRequest {
    const API: ApiKey = ApiKey::UpdateFeatures;
    type Response = UpdateFeaturesResponse;
}
