//! ApiVersionsResponse, versions 0 to 4, flexible from version 3.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// ApiVersionsResponse: the response.
///
/// - Version 1 adds throttle time to the response.
/// - Starting in version 2, on quota violation, brokers send out responses before throttling.
/// - Version 3 is the first flexible version. Tagged fields are only supported in the body
///   but not in the header. The length of the header must not change in order to guarantee
///   the backward compatibility.
/// - Starting from Apache Kafka 2.4 (KIP-511), ApiKeys field is populated with the supported
///   versions of the ApiVersionsRequest when an UNSUPPORTED_VERSION error is returned.
/// - Version 4 fixes KAFKA-17011, which blocked SupportedFeatures.MinVersion from being 0.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiVersionsResponse {
    /// The top-level error code.
    pub error_code: i16,
    /// The APIs supported by the broker.
    pub api_keys: Vec<ApiVersion>,
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    ///
    /// From version 1.
    pub throttle_time_ms: i32,
    /// Features supported by the broker. Note: in v0-v3, features with MinSupportedVersion = 0
    /// are omitted.
    ///
    /// From version 3.
    pub supported_features: Vec<SupportedFeatureKey>,
    /// The monotonically increasing epoch for the finalized features information. Valid values
    /// are >= 0. A value of -1 is special and represents unknown epoch.
    ///
    /// From version 3.
    pub finalized_features_epoch: i64,
    /// List of cluster-wide finalized features. The information is valid only if
    /// FinalizedFeaturesEpoch >= 0.
    ///
    /// From version 3.
    pub finalized_features: Vec<FinalizedFeatureKey>,
    /// Set by a KRaft controller if the required configurations for ZK migration are present.
    ///
    /// From version 3.
    pub zk_migration_ready: bool,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for ApiVersionsResponse {
    fn default() -> Self {
        Self {
            error_code: 0,
            api_keys: Vec::new(),
            throttle_time_ms: 0,
            supported_features: Vec::new(),
            finalized_features_epoch: -1,
            finalized_features: Vec::new(),
            zk_migration_ready: false,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for ApiVersionsResponse {
    const NAME: &'static str = "ApiVersionsResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 4;

    fn is_flexible(version: i16) -> bool {
        version >= 3
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.error_code = r.i16("error_code")?;
        it.api_keys = r.array("api_keys", version)?;
        if version >= 1 {
            it.throttle_time_ms = r.i32("throttle_time_ms")?;
        }
        if version >= 3 {
            for _ in 0..r.tag_count()? {
                let tag = r.tag()?;
                match tag.number {
                    0 => it.supported_features = r.array("supported_features", version)?,
                    1 => it.finalized_features_epoch = r.i64("finalized_features_epoch")?,
                    2 => it.finalized_features = r.array("finalized_features", version)?,
                    3 => it.zk_migration_ready = r.bool("zk_migration_ready")?,
                    _ => r.keep_tag(tag, &mut it.unknown_tagged_fields)?,
                }
                r.end_tag(tag)?;
            }
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i16(self.error_code);
        w.array("api_keys", &self.api_keys, version)?;
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        if version >= 3 {
            let has_supported_features = !self.supported_features.is_empty();
            let has_finalized_features_epoch = self.finalized_features_epoch != -1;
            let has_finalized_features = !self.finalized_features.is_empty();
            let has_zk_migration_ready = self.zk_migration_ready;
            let mut set = 0;
            set += u32::from(has_supported_features);
            set += u32::from(has_finalized_features_epoch);
            set += u32::from(has_finalized_features);
            set += u32::from(has_zk_migration_ready);
            w.tag_count(set, &self.unknown_tagged_fields);
            if has_supported_features {
                let tag = w.begin_tag(0);
                w.array("supported_features", &self.supported_features, version)?;
                w.end_tag(tag);
            }
            if has_finalized_features_epoch {
                let tag = w.begin_tag(1);
                w.i64(self.finalized_features_epoch);
                w.end_tag(tag);
            }
            if has_finalized_features {
                let tag = w.begin_tag(2);
                w.array("finalized_features", &self.finalized_features, version)?;
                w.end_tag(tag);
            }
            if has_zk_migration_ready {
                let tag = w.begin_tag(3);
                w.bool(self.zk_migration_ready);
                w.end_tag(tag);
            }
            w.unknown_tags(&self.unknown_tagged_fields, 4)?;
        }
        Ok(())
    }
}

/// Held by [`ApiVersionsResponse`] as `api_keys`.
///
/// The APIs supported by the broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApiVersion {
    /// The API index.
    pub api_key: i16,
    /// The minimum supported version, inclusive.
    pub min_version: i16,
    /// The maximum supported version, inclusive.
    pub max_version: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for ApiVersion {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.api_key = r.i16("api_key")?;
        it.min_version = r.i16("min_version")?;
        it.max_version = r.i16("max_version")?;
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i16(self.api_key);
        w.i16(self.min_version);
        w.i16(self.max_version);
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`ApiVersionsResponse`] as `supported_features`.
///
/// Features supported by the broker. Note: in v0-v3, features with MinSupportedVersion = 0
/// are omitted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SupportedFeatureKey {
    /// The name of the feature.
    ///
    /// From version 3.
    pub name: String,
    /// The minimum supported version for the feature.
    ///
    /// From version 3.
    pub min_version: i16,
    /// The maximum supported version for the feature.
    ///
    /// From version 3.
    pub max_version: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for SupportedFeatureKey {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.min_version = r.i16("min_version")?;
        it.max_version = r.i16("max_version")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.i16(self.min_version);
        w.i16(self.max_version);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`ApiVersionsResponse`] as `finalized_features`.
///
/// List of cluster-wide finalized features. The information is valid only if
/// FinalizedFeaturesEpoch >= 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FinalizedFeatureKey {
    /// The name of the feature.
    ///
    /// From version 3.
    pub name: String,
    /// The cluster-wide finalized max version level for the feature.
    ///
    /// From version 3.
    pub max_version_level: i16,
    /// The cluster-wide finalized min version level for the feature.
    ///
    /// From version 3.
    pub min_version_level: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for FinalizedFeatureKey {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.max_version_level = r.i16("max_version_level")?;
        it.min_version_level = r.i16("min_version_level")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.i16(self.max_version_level);
        w.i16(self.min_version_level);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}
