//! SaslAuthenticateResponse, versions 0 to 2, flexible from version 2.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Writer};

/// SaslAuthenticateResponse: the response.
///
/// - Version 1 adds the session lifetime.
/// - Version 2 adds flexible version support
#[derive(Clone, Debug, PartialEq)]
pub struct SaslAuthenticateResponse {
    /// The error code, or 0 if there was no error.
    pub error_code: i16,
    /// The error message, or null if there was no error.
    pub error_message: Option<String>,
    /// The SASL authentication bytes from the server, as defined by the SASL mechanism.
    pub auth_bytes: Bytes,
    /// Number of milliseconds after which only re-authentication over the existing connection to
    /// create a new session can occur.
    ///
    /// From version 1.
    pub session_lifetime_ms: i64,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for SaslAuthenticateResponse {
    fn default() -> Self {
        Self {
            error_code: 0,
            error_message: Some(String::new()),
            auth_bytes: Bytes::new(),
            session_lifetime_ms: 0,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for SaslAuthenticateResponse {
    const NAME: &'static str = "SaslAuthenticateResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 2;

    fn is_flexible(version: i16) -> bool {
        version >= 2
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.error_code = r.i16("error_code")?;
        it.error_message = r.nullable_string("error_message")?;
        it.auth_bytes = r.bytes("auth_bytes")?;
        if version >= 1 {
            it.session_lifetime_ms = r.i64("session_lifetime_ms")?;
        }
        if version >= 2 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i16(self.error_code);
        w.nullable_string("error_message", self.error_message.as_deref())?;
        w.bytes("auth_bytes", &self.auth_bytes)?;
        if version >= 1 {
            w.i64(self.session_lifetime_ms);
        }
        if version >= 2 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
