//! MetadataRequest, versions 0 to 13, flexible from version 9.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::id::TopicId;
use crate::message::MetadataResponse;

/// MetadataRequest: the request.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataRequest {
    /// The topics to fetch metadata for.
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// If this is true, the broker may auto-create topics that we requested which do not already
    /// exist, if it is configured to do so.
    ///
    /// From version 4.
    pub allow_auto_topic_creation: bool,
    /// Whether to include cluster authorized operations.
    ///
    /// Versions 8 to 10.
    pub include_cluster_authorized_operations: bool,
    /// Whether to include topic authorized operations.
    ///
    /// From version 8.
    pub include_topic_authorized_operations: bool,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for MetadataRequest {
    fn default() -> Self {
        Self {
            topics: Some(Vec::new()),
            allow_auto_topic_creation: true,
            include_cluster_authorized_operations: false,
            include_topic_authorized_operations: false,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for MetadataRequest {
    const NAME: &'static str = "MetadataRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 13;

    fn is_flexible(version: i16) -> bool {
        version >= 9
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.topics = if version >= 1 {
            r.nullable_array("topics", version)?
        } else {
            Some(r.array("topics", version)?)
        };
        if version >= 4 {
            it.allow_auto_topic_creation = r.bool("allow_auto_topic_creation")?;
        }
        if (8..=10).contains(&version) {
            it.include_cluster_authorized_operations =
                r.bool("include_cluster_authorized_operations")?;
        }
        if version >= 8 {
            it.include_topic_authorized_operations =
                r.bool("include_topic_authorized_operations")?;
        }
        if version >= 9 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 1 {
            w.nullable_array("topics", &self.topics, version)?;
        } else {
            w.array("topics", w.present("topics", &self.topics)?, version)?;
        }
        if version >= 4 {
            w.bool(self.allow_auto_topic_creation);
        } else if !self.allow_auto_topic_creation {
            return Err(w.unsupported("allow_auto_topic_creation", version));
        }
        if (8..=10).contains(&version) {
            w.bool(self.include_cluster_authorized_operations);
        } else if self.include_cluster_authorized_operations {
            return Err(w.unsupported("include_cluster_authorized_operations", version));
        }
        if version >= 8 {
            w.bool(self.include_topic_authorized_operations);
        } else if self.include_topic_authorized_operations {
            return Err(w.unsupported("include_topic_authorized_operations", version));
        }
        if version >= 9 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`MetadataRequest`] as `topics`.
///
/// The topics to fetch metadata for.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataRequestTopic {
    /// The topic id.
    ///
    /// From version 10.
    pub topic_id: TopicId,
    /// The topic name.
    pub name: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for MetadataRequestTopic {
    fn default() -> Self {
        Self {
            topic_id: TopicId::NIL,
            name: Some(String::new()),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for MetadataRequestTopic {
    const MIN_SIZE: usize = 2;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        if version >= 10 {
            it.topic_id = r.uuid("topic_id")?;
        }
        it.name = if version >= 10 {
            r.nullable_string("name")?
        } else {
            Some(r.string("name")?)
        };
        if version >= 9 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        if version >= 10 {
            w.uuid(self.topic_id);
        }
        if version >= 10 {
            w.nullable_string("name", self.name.as_deref())?;
        } else {
            w.string("name", w.present("name", &self.name)?)?;
        }
        if version >= 9 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for MetadataRequest {
    const API: ApiKey = ApiKey::Metadata;
    type Response = MetadataResponse;
}
