//! AddPartitionsToTxnRequest, versions 0 to 5, flexible from version 3.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::api::ApiKey;
use crate::codec::{
    DecodeError, EncodeError, Message, Reader, Request, TaggedFields, Wire, Writer,
};
use crate::message::AddPartitionsToTxnResponse;

/// AddPartitionsToTxnRequest: the request.
///
/// - Version 2 adds the support for new error code PRODUCER_FENCED.
/// - Version 3 enables flexible versions.
/// - Version 4 adds VerifyOnly field to check if partitions are already in transaction and
///   adds support to batch multiple transactions.
/// - Version 5 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
/// - Versions 3 and below will be exclusively used by clients and versions 4 and above will
///   be used by brokers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddPartitionsToTxnRequest {
    /// List of transactions to add partitions to.
    ///
    /// From version 4.
    pub transactions: Vec<AddPartitionsToTxnTransaction>,
    /// The transactional id corresponding to the transaction.
    ///
    /// Up to version 3.
    pub v3_and_below_transactional_id: String,
    /// Current producer id in use by the transactional id.
    ///
    /// Up to version 3.
    pub v3_and_below_producer_id: i64,
    /// Current epoch associated with the producer id.
    ///
    /// Up to version 3.
    pub v3_and_below_producer_epoch: i16,
    /// The partitions to add to the transaction.
    ///
    /// Up to version 3.
    pub v3_and_below_topics: Vec<AddPartitionsToTxnTopic>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for AddPartitionsToTxnRequest {
    const NAME: &'static str = "AddPartitionsToTxnRequest";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 5;

    fn is_flexible(version: i16) -> bool {
        version >= 3
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        if version >= 4 {
            it.transactions = r.array("transactions", version)?;
        }
        if version <= 3 {
            it.v3_and_below_transactional_id = r.string("v3_and_below_transactional_id")?;
        }
        if version <= 3 {
            it.v3_and_below_producer_id = r.i64("v3_and_below_producer_id")?;
        }
        if version <= 3 {
            it.v3_and_below_producer_epoch = r.i16("v3_and_below_producer_epoch")?;
        }
        if version <= 3 {
            it.v3_and_below_topics = r.array("v3_and_below_topics", version)?;
        }
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        if version >= 4 {
            w.array("transactions", &self.transactions, version)?;
        } else if !self.transactions.is_empty() {
            return Err(w.unsupported("transactions", version));
        }
        if version <= 3 {
            w.string(
                "v3_and_below_transactional_id",
                &self.v3_and_below_transactional_id,
            )?;
        } else if !self.v3_and_below_transactional_id.is_empty() {
            return Err(w.unsupported("v3_and_below_transactional_id", version));
        }
        if version <= 3 {
            w.i64(self.v3_and_below_producer_id);
        } else if self.v3_and_below_producer_id != 0 {
            return Err(w.unsupported("v3_and_below_producer_id", version));
        }
        if version <= 3 {
            w.i16(self.v3_and_below_producer_epoch);
        } else if self.v3_and_below_producer_epoch != 0 {
            return Err(w.unsupported("v3_and_below_producer_epoch", version));
        }
        if version <= 3 {
            w.array("v3_and_below_topics", &self.v3_and_below_topics, version)?;
        } else if !self.v3_and_below_topics.is_empty() {
            return Err(w.unsupported("v3_and_below_topics", version));
        }
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`AddPartitionsToTxnRequest`] as `transactions`.
///
/// List of transactions to add partitions to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddPartitionsToTxnTransaction {
    /// The transactional id corresponding to the transaction.
    ///
    /// From version 4.
    pub transactional_id: String,
    /// Current producer id in use by the transactional id.
    ///
    /// From version 4.
    pub producer_id: i64,
    /// Current epoch associated with the producer id.
    ///
    /// From version 4.
    pub producer_epoch: i16,
    /// Boolean to signify if we want to check if the partition is in the transaction rather than
    /// add it.
    ///
    /// From version 4.
    pub verify_only: bool,
    /// The partitions to add to the transaction.
    ///
    /// From version 4.
    pub topics: Vec<AddPartitionsToTxnTopic>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for AddPartitionsToTxnTransaction {
    const MIN_SIZE: usize = 14;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.transactional_id = r.string("transactional_id")?;
        it.producer_id = r.i64("producer_id")?;
        it.producer_epoch = r.i16("producer_epoch")?;
        it.verify_only = r.bool("verify_only")?;
        it.topics = r.array("topics", version)?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("transactional_id", &self.transactional_id)?;
        w.i64(self.producer_id);
        w.i16(self.producer_epoch);
        w.bool(self.verify_only);
        w.array("topics", &self.topics, version)?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`AddPartitionsToTxnRequest`] as `v3_and_below_topics`.
///
/// The partitions to add to the transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddPartitionsToTxnTopic {
    /// The name of the topic.
    pub name: String,
    /// The partition indexes to add to the transaction.
    pub partitions: Vec<i32>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for AddPartitionsToTxnTopic {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.partitions = r.array("partitions", version)?;
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.array("partitions", &self.partitions, version)?;
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

impl Request for AddPartitionsToTxnRequest {
    const API: ApiKey = ApiKey::AddPartitionsToTxn;
    type Response = AddPartitionsToTxnResponse;
}
