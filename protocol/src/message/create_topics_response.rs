//! CreateTopicsResponse, versions 2 to 7, flexible from version 5.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};
use crate::id::TopicId;

/// CreateTopicsResponse: the response.
///
/// - Version 1 adds a per-topic error message string.
/// - Version 2 adds the throttle time.
/// - Starting in version 3, on quota violation, brokers send out responses before throttling.
/// - Version 4 makes partitions/replicationFactor optional even when assignments are not
///   present (KIP-464).
/// - Version 5 is the first flexible version.
/// - Version 5 also returns topic configs in the response (KIP-525).
/// - Version 6 is identical to version 5 but may return a THROTTLING_QUOTA_EXCEEDED error in
///   the response if the topics creation is throttled (KIP-599).
/// - Version 7 returns the topic ID of the newly created topic if creation is successful.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateTopicsResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// Results for each topic we tried to create.
    pub topics: Vec<CreatableTopicResult>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for CreateTopicsResponse {
    const NAME: &'static str = "CreateTopicsResponse";
    const MIN_VERSION: i16 = 2;
    const MAX_VERSION: i16 = 7;

    fn is_flexible(version: i16) -> bool {
        version >= 5
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        it.topics = r.array("topics", version)?;
        if version >= 5 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.throttle_time_ms);
        w.array("topics", &self.topics, version)?;
        if version >= 5 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`CreateTopicsResponse`] as `topics`.
///
/// Results for each topic we tried to create.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatableTopicResult {
    /// The topic name.
    pub name: String,
    /// The unique topic ID.
    ///
    /// Version 7 only.
    pub topic_id: TopicId,
    /// The error code, or 0 if there was no error.
    pub error_code: i16,
    /// The error message, or null if there was no error.
    pub error_message: Option<String>,
    /// Optional topic config error returned if configs are not returned in the response.
    ///
    /// From version 5.
    pub topic_config_error_code: i16,
    /// Number of partitions of the topic.
    ///
    /// From version 5.
    pub num_partitions: i32,
    /// Replication factor of the topic.
    ///
    /// From version 5.
    pub replication_factor: i16,
    /// Configuration of the topic.
    ///
    /// From version 5.
    pub configs: Option<Vec<CreatableTopicConfigs>>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for CreatableTopicResult {
    fn default() -> Self {
        Self {
            name: String::new(),
            topic_id: TopicId::NIL,
            error_code: 0,
            error_message: Some(String::new()),
            topic_config_error_code: 0,
            num_partitions: -1,
            replication_factor: -1,
            configs: Some(Vec::new()),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for CreatableTopicResult {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        if version == 7 {
            it.topic_id = r.uuid("topic_id")?;
        }
        it.error_code = r.i16("error_code")?;
        it.error_message = r.nullable_string("error_message")?;
        if version >= 5 {
            it.num_partitions = r.i32("num_partitions")?;
        }
        if version >= 5 {
            it.replication_factor = r.i16("replication_factor")?;
        }
        if version >= 5 {
            it.configs = r.nullable_array("configs", version)?;
        }
        if version >= 5 {
            for _ in 0..r.tag_count()? {
                let tag = r.tag()?;
                match tag.number {
                    0 => it.topic_config_error_code = r.i16("topic_config_error_code")?,
                    _ => r.keep_tag(tag, &mut it.unknown_tagged_fields)?,
                }
                r.end_tag(tag)?;
            }
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        if version == 7 {
            w.uuid(self.topic_id);
        }
        w.i16(self.error_code);
        w.nullable_string("error_message", self.error_message.as_deref())?;
        if version >= 5 {
            w.i32(self.num_partitions);
        }
        if version >= 5 {
            w.i16(self.replication_factor);
        }
        if version >= 5 {
            w.nullable_array("configs", &self.configs, version)?;
        }
        if version >= 5 {
            let has_topic_config_error_code = self.topic_config_error_code != 0;
            let mut set = 0;
            set += u32::from(has_topic_config_error_code);
            w.tag_count(set, &self.unknown_tagged_fields);
            if has_topic_config_error_code {
                let tag = w.begin_tag(0);
                w.i16(self.topic_config_error_code);
                w.end_tag(tag);
            }
            w.unknown_tags(&self.unknown_tagged_fields, 1)?;
        }
        Ok(())
    }
}

/// Held by [`CreatableTopicResult`] as `configs`.
///
/// Configuration of the topic.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatableTopicConfigs {
    /// The configuration name.
    ///
    /// From version 5.
    pub name: String,
    /// The configuration value.
    ///
    /// From version 5.
    pub value: Option<String>,
    /// True if the configuration is read-only.
    ///
    /// From version 5.
    pub read_only: bool,
    /// The configuration source.
    ///
    /// From version 5.
    pub config_source: i8,
    /// True if this configuration is sensitive.
    ///
    /// From version 5.
    pub is_sensitive: bool,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for CreatableTopicConfigs {
    fn default() -> Self {
        Self {
            name: String::new(),
            value: Some(String::new()),
            read_only: false,
            config_source: -1,
            is_sensitive: false,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for CreatableTopicConfigs {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.value = r.nullable_string("value")?;
        it.read_only = r.bool("read_only")?;
        it.config_source = r.i8("config_source")?;
        it.is_sensitive = r.bool("is_sensitive")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.nullable_string("value", self.value.as_deref())?;
        w.bool(self.read_only);
        w.i8(self.config_source);
        w.bool(self.is_sensitive);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}
