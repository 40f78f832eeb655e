//! FindCoordinatorResponse, versions 0 to 6, flexible from version 3.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// FindCoordinatorResponse: the response.
///
/// - Version 1 adds throttle time and error messages.
/// - Starting in version 2, on quota violation, brokers send out responses before throttling.
/// - Version 3 is the first flexible version.
/// - Version 4 adds support for batching via Coordinators (KIP-699)
/// - Version 5 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
/// - Version 6 adds support for share groups (KIP-932).
#[derive(Clone, Debug, PartialEq)]
pub struct FindCoordinatorResponse {
    /// The duration in milliseconds for which the request was throttled due to a quota violation,
    /// or zero if the request did not violate any quota.
    ///
    /// From version 1.
    pub throttle_time_ms: i32,
    /// The error code, or 0 if there was no error.
    ///
    /// Up to version 3.
    pub error_code: i16,
    /// The error message, or null if there was no error.
    ///
    /// Versions 1 to 3.
    pub error_message: Option<String>,
    /// The node id.
    ///
    /// Up to version 3.
    pub node_id: i32,
    /// The host name.
    ///
    /// Up to version 3.
    pub host: String,
    /// The port.
    ///
    /// Up to version 3.
    pub port: i32,
    /// Each coordinator result in the response.
    ///
    /// From version 4.
    pub coordinators: Vec<Coordinator>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for FindCoordinatorResponse {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: 0,
            error_message: Some(String::new()),
            node_id: 0,
            host: String::new(),
            port: 0,
            coordinators: Vec::new(),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for FindCoordinatorResponse {
    const NAME: &'static str = "FindCoordinatorResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 6;

    fn is_flexible(version: i16) -> bool {
        version >= 3
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 1 {
            it.throttle_time_ms = r.i32("throttle_time_ms")?;
        }
        if version <= 3 {
            it.error_code = r.i16("error_code")?;
        }
        if (1..=3).contains(&version) {
            it.error_message = r.nullable_string("error_message")?;
        }
        if version <= 3 {
            it.node_id = r.i32("node_id")?;
        }
        if version <= 3 {
            it.host = r.string("host")?;
        }
        if version <= 3 {
            it.port = r.i32("port")?;
        }
        if version >= 4 {
            it.coordinators = r.array("coordinators", version)?;
        }
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 1 {
            w.i32(self.throttle_time_ms);
        }
        if version <= 3 {
            w.i16(self.error_code);
        } else if self.error_code != 0 {
            return Err(w.unsupported("error_code", version));
        }
        if (1..=3).contains(&version) {
            w.nullable_string("error_message", self.error_message.as_deref())?;
        }
        if version <= 3 {
            w.i32(self.node_id);
        } else if self.node_id != 0 {
            return Err(w.unsupported("node_id", version));
        }
        if version <= 3 {
            w.string("host", &self.host)?;
        } else if !self.host.is_empty() {
            return Err(w.unsupported("host", version));
        }
        if version <= 3 {
            w.i32(self.port);
        } else if self.port != 0 {
            return Err(w.unsupported("port", version));
        }
        if version >= 4 {
            w.array("coordinators", &self.coordinators, version)?;
        } else if !self.coordinators.is_empty() {
            return Err(w.unsupported("coordinators", version));
        }
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`FindCoordinatorResponse`] as `coordinators`.
///
/// Each coordinator result in the response.
#[derive(Clone, Debug, PartialEq)]
pub struct Coordinator {
    /// The coordinator key.
    ///
    /// From version 4.
    pub key: String,
    /// The node id.
    ///
    /// From version 4.
    pub node_id: i32,
    /// The host name.
    ///
    /// From version 4.
    pub host: String,
    /// The port.
    ///
    /// From version 4.
    pub port: i32,
    /// The error code, or 0 if there was no error.
    ///
    /// From version 4.
    pub error_code: i16,
    /// The error message, or null if there was no error.
    ///
    /// From version 4.
    pub error_message: Option<String>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            key: String::new(),
            node_id: 0,
            host: String::new(),
            port: 0,
            error_code: 0,
            error_message: Some(String::new()),
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Wire for Coordinator {
    const MIN_SIZE: usize = 14;

    fn read(r: &mut Reader, _: &'static str, _: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.key = r.string("key")?;
        it.node_id = r.i32("node_id")?;
        it.host = r.string("host")?;
        it.port = r.i32("port")?;
        it.error_code = r.i16("error_code")?;
        it.error_message = r.nullable_string("error_message")?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, _: i16) -> Result<(), EncodeError> {
        w.string("key", &self.key)?;
        w.i32(self.node_id);
        w.string("host", &self.host)?;
        w.i32(self.port);
        w.i16(self.error_code);
        w.nullable_string("error_message", self.error_message.as_deref())?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}
