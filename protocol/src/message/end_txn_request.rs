//! EndTxnRequest, versions 0 to 5, flexible from version 3.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Writer};
use crate::message::EndTxnResponse;

/// EndTxnRequest: the request.
///
/// - Version 2 adds the support for new error code PRODUCER_FENCED.
/// - Version 3 enables flexible versions.
/// - Version 4 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
/// - Version 5 enables bumping epoch on every transaction (KIP-890 Part 2)
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndTxnRequest {
    /// The ID of the transaction to end.
    pub transactional_id: String,
    /// The producer ID.
    pub producer_id: i64,
    /// The current epoch associated with the producer.
    pub producer_epoch: i16,
    /// True if the transaction was committed, false if it was aborted.
    pub committed: bool,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for EndTxnRequest {
    const NAME: &'static str = "EndTxnRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 5;

    fn is_flexible(version: i16) -> bool {
        version >= 3
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.transactional_id = r.string("transactional_id")?;
        it.producer_id = r.i64("producer_id")?;
        it.producer_epoch = r.i16("producer_epoch")?;
        it.committed = r.bool("committed")?;
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.string("transactional_id", &self.transactional_id)?;
        w.i64(self.producer_id);
        w.i16(self.producer_epoch);
        w.bool(self.committed);
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for EndTxnRequest {
    const API: ApiKey = ApiKey::EndTxn;
    type Response = EndTxnResponse;
}
