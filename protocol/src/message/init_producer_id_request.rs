//! InitProducerIdRequest, versions 0 to 5, flexible from version 2.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Writer};
use crate::message::InitProducerIdResponse;

/// InitProducerIdRequest: the request.
///
/// - Version 2 is the first flexible version.
/// - Version 3 adds ProducerId and ProducerEpoch, allowing producers to try to resume after
///   an INVALID_PRODUCER_EPOCH error
/// - Version 4 adds the support for new error code PRODUCER_FENCED.
/// - Version 5 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
/// - Version 6 adds support for 2PC (KIP-939).
#[derive(Clone, Debug, PartialEq)]
pub struct InitProducerIdRequest {
    /// The transactional id, or null if the producer is not transactional.
    pub transactional_id: Option<String>,
    /// The time in ms to wait before aborting idle transactions sent by this producer. This is
    /// only relevant if a TransactionalId has been defined.
    pub transaction_timeout_ms: i32,
    /// The producer id. This is used to disambiguate requests if a transactional id is reused
    /// following its expiration.
    ///
    /// From version 3.
    pub producer_id: i64,
    /// The producer's current epoch. This will be checked against the producer epoch on the
    /// broker, and the request will return an error if they do not match.
    ///
    /// From version 3.
    pub producer_epoch: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for InitProducerIdRequest {
    fn default() -> Self {
        Self {
            transactional_id: Some(String::new()),
            transaction_timeout_ms: 0,
            producer_id: -1,
            producer_epoch: -1,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for InitProducerIdRequest {
    const NAME: &'static str = "InitProducerIdRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 5;

    fn is_flexible(version: i16) -> bool {
        version >= 2
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.transactional_id = r.nullable_string("transactional_id")?;
        it.transaction_timeout_ms = r.i32("transaction_timeout_ms")?;
        if version >= 3 {
            it.producer_id = r.i64("producer_id")?;
        }
        if version >= 3 {
            it.producer_epoch = r.i16("producer_epoch")?;
        }
        if version >= 2 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.nullable_string("transactional_id", self.transactional_id.as_deref())?;
        w.i32(self.transaction_timeout_ms);
        if version >= 3 {
            w.i64(self.producer_id);
        } else if self.producer_id != -1 {
            return Err(w.unsupported("producer_id", version));
        }
        if version >= 3 {
            w.i16(self.producer_epoch);
        } else if self.producer_epoch != -1 {
            return Err(w.unsupported("producer_epoch", version));
        }
        if version >= 2 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for InitProducerIdRequest {
    const API: ApiKey = ApiKey::InitProducerId;
    type Response = InitProducerIdResponse;
}
