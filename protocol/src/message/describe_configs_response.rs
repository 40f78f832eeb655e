//! DescribeConfigsResponse, versions 1 to 4, flexible from version 4.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// DescribeConfigsResponse: the response.
///
/// - Version 1 adds ConfigSource and the synonyms.
/// - Starting in version 2, on quota violation, brokers send out responses before throttling.
/// - Version 4 enables flexible versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeConfigsResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// The results for each resource.
    pub results: Vec<DescribeConfigsResult>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for DescribeConfigsResponse {
    const NAME: &'static str = "DescribeConfigsResponse";
    const MIN_VERSION: i16 = 1;
    const MAX_VERSION: i16 = 4;

    fn is_flexible(version: i16) -> bool {
        version >= 4
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        it.results = r.array("results", version)?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.throttle_time_ms);
        w.array("results", &self.results, version)?;
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`DescribeConfigsResponse`] as `results`.
///
/// The results for each resource.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeConfigsResult {
    /// The error code, or 0 if we were able to successfully describe the configurations.
    pub error_code: i16,
    /// The error message, or null if we were able to successfully describe the configurations.
    pub error_message: Option<String>,
    /// The resource type.
    pub resource_type: i8,
    /// The resource name.
    pub resource_name: String,
    /// Each listed configuration.
    pub configs: Vec<DescribeConfigsResourceResult>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for DescribeConfigsResult {
    fn default() -> Self {
        Self {
            error_code: 0,
            error_message: Some(String::new()),
            resource_type: 0,
            resource_name: String::new(),
            configs: Vec::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for DescribeConfigsResult {
    const MIN_SIZE: usize = 7;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.error_code = r.i16("error_code")?;
        it.error_message = r.nullable_string("error_message")?;
        it.resource_type = r.i8("resource_type")?;
        it.resource_name = r.string("resource_name")?;
        it.configs = r.array("configs", version)?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i16(self.error_code);
        w.nullable_string("error_message", self.error_message.as_deref())?;
        w.i8(self.resource_type);
        w.string("resource_name", &self.resource_name)?;
        w.array("configs", &self.configs, version)?;
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`DescribeConfigsResult`] as `configs`.
///
/// Each listed configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeConfigsResourceResult {
    /// The configuration name.
    pub name: String,
    /// The configuration value.
    pub value: Option<String>,
    /// True if the configuration is read-only.
    pub read_only: bool,
    /// The configuration source.
    pub config_source: i8,
    /// True if this configuration is sensitive.
    pub is_sensitive: bool,
    /// The synonyms for this configuration key.
    pub synonyms: Vec<DescribeConfigsSynonym>,
    /// The configuration data type. Type can be one of the following values - BOOLEAN, STRING,
    /// INT, SHORT, LONG, DOUBLE, LIST, CLASS, PASSWORD.
    ///
    /// From version 3.
    pub config_type: i8,
    /// The configuration documentation.
    ///
    /// From version 3.
    pub documentation: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for DescribeConfigsResourceResult {
    fn default() -> Self {
        Self {
            name: String::new(),
            value: Some(String::new()),
            read_only: false,
            config_source: -1,
            is_sensitive: false,
            synonyms: Vec::new(),
            config_type: 0,
            documentation: Some(String::new()),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for DescribeConfigsResourceResult {
    const MIN_SIZE: usize = 9;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.value = r.nullable_string("value")?;
        it.read_only = r.bool("read_only")?;
        it.config_source = r.i8("config_source")?;
        it.is_sensitive = r.bool("is_sensitive")?;
        it.synonyms = r.array("synonyms", version)?;
        if version >= 3 {
            it.config_type = r.i8("config_type")?;
        }
        if version >= 3 {
            it.documentation = r.nullable_string("documentation")?;
        }
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.nullable_string("value", self.value.as_deref())?;
        w.bool(self.read_only);
        w.i8(self.config_source);
        w.bool(self.is_sensitive);
        w.array("synonyms", &self.synonyms, version)?;
        if version >= 3 {
            w.i8(self.config_type);
        }
        if version >= 3 {
            w.nullable_string("documentation", self.documentation.as_deref())?;
        }
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`DescribeConfigsResourceResult`] as `synonyms`.
///
/// The synonyms for this configuration key.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeConfigsSynonym {
    /// The synonym name.
    pub name: String,
    /// The synonym value.
    pub value: Option<String>,
    /// The synonym source.
    pub source: i8,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for DescribeConfigsSynonym {
    fn default() -> Self {
        Self {
            name: String::new(),
            value: Some(String::new()),
            source: 0,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for DescribeConfigsSynonym {
    const MIN_SIZE: usize = 4;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.value = r.nullable_string("value")?;
        it.source = r.i8("source")?;
        if version >= 4 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.nullable_string("value", self.value.as_deref())?;
        w.i8(self.source);
        if version >= 4 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
