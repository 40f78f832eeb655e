//! DescribeClusterResponse, versions 0 to 2, always flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// DescribeClusterResponse: the response.
///
/// - Version 1 adds the EndpointType field, and makes MISMATCHED_ENDPOINT_TYPE and
///   UNSUPPORTED_ENDPOINT_TYPE valid top-level response error codes.
/// - Version 2 adds IsFenced field to Brokers for KIP-1073 support.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeClusterResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// The top-level error code, or 0 if there was no error.
    pub error_code: i16,
    /// The top-level error message, or null if there was no error.
    pub error_message: Option<String>,
    /// The endpoint type that was described. 1=brokers, 2=controllers.
    ///
    /// From version 1.
    pub endpoint_type: i8,
    /// The cluster ID that responding broker belongs to.
    pub cluster_id: String,
    /// The ID of the controller. When handled by a controller, returns the current voter leader
    /// ID. When handled by a broker, returns a random alive broker ID as a fallback.
    pub controller_id: i32,
    /// Each broker in the response.
    pub brokers: Vec<DescribeClusterBroker>,
    /// 32-bit bitfield to represent authorized operations for this cluster.
    pub cluster_authorized_operations: i32,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for DescribeClusterResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: 0,
            error_message: None,
            endpoint_type: 1,
            cluster_id: String::new(),
            controller_id: -1,
            brokers: Vec::new(),
            cluster_authorized_operations: -2147483648,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for DescribeClusterResponse {
    const NAME: &'static str = "DescribeClusterResponse";
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
        if version >= 1 {
            it.endpoint_type = r.i8("endpoint_type")?;
        }
        it.cluster_id = r.string("cluster_id")?;
        it.controller_id = r.i32("controller_id")?;
        it.brokers = r.array("brokers", version)?;
        it.cluster_authorized_operations = r.i32("cluster_authorized_operations")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.throttle_time_ms);
        w.i16(self.error_code);
        w.nullable_string("error_message", self.error_message.as_deref())?;
        if version >= 1 {
            w.i8(self.endpoint_type);
        } else if self.endpoint_type != 1 {
            return Err(w.unsupported("endpoint_type", version));
        }
        w.string("cluster_id", &self.cluster_id)?;
        w.i32(self.controller_id);
        w.array("brokers", &self.brokers, version)?;
        w.i32(self.cluster_authorized_operations);
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`DescribeClusterResponse`] as `brokers`.
///
/// Each broker in the response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeClusterBroker {
    /// The broker ID.
    pub broker_id: i32,
    /// The broker hostname.
    pub host: String,
    /// The broker port.
    pub port: i32,
    /// The rack of the broker, or null if it has not been assigned to a rack.
    pub rack: Option<String>,
    /// Whether the broker is fenced
    ///
    /// Version 2 only.
    pub is_fenced: bool,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for DescribeClusterBroker {
    const MIN_SIZE: usize = 11;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.broker_id = r.i32("broker_id")?;
        it.host = r.string("host")?;
        it.port = r.i32("port")?;
        it.rack = r.nullable_string("rack")?;
        if version == 2 {
            it.is_fenced = r.bool("is_fenced")?;
        }
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.broker_id);
        w.string("host", &self.host)?;
        w.i32(self.port);
        w.nullable_string("rack", self.rack.as_deref())?;
        if version == 2 {
            w.bool(self.is_fenced);
        } else if self.is_fenced {
            return Err(w.unsupported("is_fenced", version));
        }
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}
