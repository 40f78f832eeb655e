//! DescribeClusterRequest, versions 0 to 2, always flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Writer};
use crate::message::DescribeClusterResponse;

/// DescribeClusterRequest: the request.
///
/// - Version 1 adds EndpointType for KIP-919 support.
/// - Version 2 adds IncludeFencedBrokers for KIP-1073 support.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeClusterRequest {
    /// Whether to include cluster authorized operations.
    pub include_cluster_authorized_operations: bool,
    /// The endpoint type to describe. 1=brokers, 2=controllers.
    ///
    /// From version 1.
    pub endpoint_type: i8,
    /// Whether to include fenced brokers when listing brokers.
    ///
    /// Version 2 only.
    pub include_fenced_brokers: bool,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for DescribeClusterRequest {
    fn default() -> Self {
        Self {
            include_cluster_authorized_operations: false,
            endpoint_type: 1,
            include_fenced_brokers: false,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for DescribeClusterRequest {
    const NAME: &'static str = "DescribeClusterRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 2;

    fn is_flexible(_: i16) -> bool {
        true
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.include_cluster_authorized_operations =
            r.bool("include_cluster_authorized_operations")?;
        if version >= 1 {
            it.endpoint_type = r.i8("endpoint_type")?;
        }
        if version == 2 {
            it.include_fenced_brokers = r.bool("include_fenced_brokers")?;
        }
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.bool(self.include_cluster_authorized_operations);
        if version >= 1 {
            w.i8(self.endpoint_type);
        } else if self.endpoint_type != 1 {
            return Err(w.unsupported("endpoint_type", version));
        }
        if version == 2 {
            w.bool(self.include_fenced_brokers);
        } else if self.include_fenced_brokers {
            return Err(w.unsupported("include_fenced_brokers", version));
        }
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

impl Request for DescribeClusterRequest {
    const API: ApiKey = ApiKey::DescribeCluster;
    type Response = DescribeClusterResponse;
}
