//! AddPartitionsToTxnResponse, versions 0 to 5, flexible from version 3.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// AddPartitionsToTxnResponse: the response.
///
/// - Starting in version 1, on quota violation brokers send out responses before throttling.
/// - Version 2 adds the support for new error code PRODUCER_FENCED.
/// - Version 3 enables flexible versions.
/// - Version 4 adds support to batch multiple transactions and a top level error code.
/// - Version 5 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddPartitionsToTxnResponse {
    /// Duration in milliseconds for which the request was throttled due to a quota violation, or
    /// zero if the request did not violate any quota.
    pub throttle_time_ms: i32,
    /// The response top level error code.
    ///
    /// From version 4.
    pub error_code: i16,
    /// Results categorized by transactional ID.
    ///
    /// From version 4.
    pub results_by_transaction: Vec<AddPartitionsToTxnResult>,
    /// The results for each topic.
    ///
    /// Up to version 3.
    pub results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Message for AddPartitionsToTxnResponse {
    const NAME: &'static str = "AddPartitionsToTxnResponse";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 5;

    fn is_flexible(version: i16) -> bool {
        version >= 3
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.throttle_time_ms = r.i32("throttle_time_ms")?;
        if version >= 4 {
            it.error_code = r.i16("error_code")?;
        }
        if version >= 4 {
            it.results_by_transaction = r.array("results_by_transaction", version)?;
        }
        if version <= 3 {
            it.results_by_topic_v3_and_below = r.array("results_by_topic_v3_and_below", version)?;
        }
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i32(self.throttle_time_ms);
        if version >= 4 {
            w.i16(self.error_code);
        }
        if version >= 4 {
            w.array(
                "results_by_transaction",
                &self.results_by_transaction,
                version,
            )?;
        } else if !self.results_by_transaction.is_empty() {
            return Err(w.unsupported("results_by_transaction", version));
        }
        if version <= 3 {
            w.array(
                "results_by_topic_v3_and_below",
                &self.results_by_topic_v3_and_below,
                version,
            )?;
        } else if !self.results_by_topic_v3_and_below.is_empty() {
            return Err(w.unsupported("results_by_topic_v3_and_below", version));
        }
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`AddPartitionsToTxnResponse`] as `results_by_transaction`.
///
/// Results categorized by transactional ID.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddPartitionsToTxnResult {
    /// The transactional id corresponding to the transaction.
    ///
    /// From version 4.
    pub transactional_id: String,
    /// The results for each topic.
    ///
    /// From version 4.
    pub topic_results: Vec<AddPartitionsToTxnTopicResult>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for AddPartitionsToTxnResult {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.transactional_id = r.string("transactional_id")?;
        it.topic_results = r.array("topic_results", version)?;
        it.unknown_tagged_fields = r.unknown_tags()?;
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("transactional_id", &self.transactional_id)?;
        w.array("topic_results", &self.topic_results, version)?;
        w.tag_count(0, &self.unknown_tagged_fields);
        w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        Ok(())
    }
}

/// Held by [`AddPartitionsToTxnResponse`] as `results_by_topic_v3_and_below`.
///
/// The results for each topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddPartitionsToTxnTopicResult {
    /// The topic name.
    pub name: String,
    /// The results for each partition.
    pub results_by_partition: Vec<AddPartitionsToTxnPartitionResult>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for AddPartitionsToTxnTopicResult {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.name = r.string("name")?;
        it.results_by_partition = r.array("results_by_partition", version)?;
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("name", &self.name)?;
        w.array("results_by_partition", &self.results_by_partition, version)?;
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}

/// Held by [`AddPartitionsToTxnTopicResult`] as `results_by_partition`.
///
/// The results for each partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddPartitionsToTxnPartitionResult {
    /// The partition indexes.
    pub partition_index: i32,
    /// The response error code.
    pub partition_error_code: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for AddPartitionsToTxnPartitionResult {
    const MIN_SIZE: usize = 6;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.partition_index = r.i32("partition_index")?;
        it.partition_error_code = r.i16("partition_error_code")?;
        if version >= 3 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.i32(self.partition_index);
        w.i16(self.partition_error_code);
        if version >= 3 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
