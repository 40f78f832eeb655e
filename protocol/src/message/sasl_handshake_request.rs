//! SaslHandshakeRequest, versions 0 to 1, never flexible.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, Writer};
use crate::message::SaslHandshakeResponse;

/// SaslHandshakeRequest: the request.
///
/// - Version 1 supports SASL_AUTHENTICATE. NOTE: Version cannot be easily bumped due to
///   incorrect client negotiation for clients <= 2.4. See
///   https://issues.apache.org/jira/browse/KAFKA-9577
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SaslHandshakeRequest {
    /// The SASL mechanism chosen by the client.
    pub mechanism: String,
}

impl Message for SaslHandshakeRequest {
    const NAME: &'static str = "SaslHandshakeRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 1;

    fn is_flexible(_: i16) -> bool {
        false
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.mechanism = r.string("mechanism")?;
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.string("mechanism", &self.mechanism)?;
        Ok(())
    }
}

impl Request for SaslHandshakeRequest {
    const API: ApiKey = ApiKey::SaslHandshake;
    type Response = SaslHandshakeResponse;
}
