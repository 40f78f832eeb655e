//! TransactionLogValue, versions 0 to 1, flexible from version 1.
//!
//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.

use crate::codec::{DecodeError, EncodeError, Message, Reader, TaggedFields, Wire, Writer};

/// TransactionLogValue: the message.
///
/// Value of a record in `__transaction_state`, after a two-byte version.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionLogValue {
    /// Producer id in use by the transactional id.
    pub producer_id: i64,
    /// Producer id used by the last committed transaction.
    ///
    /// Version 1 only.
    pub previous_producer_id: i64,
    /// Latest producer ID sent to the producer for the given transactional id.
    ///
    /// Version 1 only.
    pub next_producer_id: i64,
    /// Epoch associated with the producer id.
    pub producer_epoch: i16,
    /// Producer epoch associated with the NextProducerId
    ///
    /// Version 1 only.
    pub next_producer_epoch: i16,
    /// Transaction timeout in milliseconds.
    pub transaction_timeout_ms: i32,
    /// TransactionState the transaction is in.
    pub transaction_status: i8,
    /// Partitions involved in the transaction.
    pub transaction_partitions: Option<Vec<PartitionsSchema>>,
    /// Time the transaction was last updated.
    pub transaction_last_update_timestamp_ms: i64,
    /// Time the transaction was started.
    pub transaction_start_timestamp_ms: i64,
    /// The transaction version used by the client.
    ///
    /// Version 1 only.
    pub client_transaction_version: i16,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Default for TransactionLogValue {
    fn default() -> Self {
        Self {
            producer_id: 0,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: 0,
            next_producer_epoch: -1,
            transaction_timeout_ms: 0,
            transaction_status: 0,
            transaction_partitions: Some(Vec::new()),
            transaction_last_update_timestamp_ms: 0,
            transaction_start_timestamp_ms: 0,
            client_transaction_version: 0,
            unknown_tagged_fields: TaggedFields::new(),
        }
    }
}

impl Message for TransactionLogValue {
    const NAME: &'static str = "TransactionLogValue";
    const MIN_VERSION: i16 = 0;
    const MAX_VERSION: i16 = 1;

    fn is_flexible(version: i16) -> bool {
        version >= 1
    }

    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        r.begin::<Self>(version)?;
        let mut it = Self::default();
        it.producer_id = r.i64("producer_id")?;
        it.producer_epoch = r.i16("producer_epoch")?;
        it.transaction_timeout_ms = r.i32("transaction_timeout_ms")?;
        it.transaction_status = r.i8("transaction_status")?;
        it.transaction_partitions = r.nullable_array("transaction_partitions", version)?;
        it.transaction_last_update_timestamp_ms = r.i64("transaction_last_update_timestamp_ms")?;
        it.transaction_start_timestamp_ms = r.i64("transaction_start_timestamp_ms")?;
        if version >= 1 {
            for _ in 0..r.tag_count()? {
                let tag = r.tag()?;
                match tag.number {
                    0 => it.previous_producer_id = r.i64("previous_producer_id")?,
                    1 => it.next_producer_id = r.i64("next_producer_id")?,
                    2 => it.client_transaction_version = r.i16("client_transaction_version")?,
                    3 => it.next_producer_epoch = r.i16("next_producer_epoch")?,
                    _ => r.keep_tag(tag, &mut it.unknown_tagged_fields)?,
                }
                r.end_tag(tag)?;
            }
        }
        Ok(it)
    }

    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        w.begin::<Self>(version)?;
        w.i64(self.producer_id);
        w.i16(self.producer_epoch);
        w.i32(self.transaction_timeout_ms);
        w.i8(self.transaction_status);
        w.nullable_array(
            "transaction_partitions",
            &self.transaction_partitions,
            version,
        )?;
        w.i64(self.transaction_last_update_timestamp_ms);
        w.i64(self.transaction_start_timestamp_ms);
        if version >= 1 {
            let has_previous_producer_id = self.previous_producer_id != -1;
            let has_next_producer_id = self.next_producer_id != -1;
            let has_client_transaction_version = self.client_transaction_version != 0;
            let has_next_producer_epoch = self.next_producer_epoch != -1;
            let mut set = 0;
            set += u32::from(has_previous_producer_id);
            set += u32::from(has_next_producer_id);
            set += u32::from(has_client_transaction_version);
            set += u32::from(has_next_producer_epoch);
            w.tag_count(set, &self.unknown_tagged_fields);
            if has_previous_producer_id {
                let tag = w.begin_tag(0);
                w.i64(self.previous_producer_id);
                w.end_tag(tag);
            }
            if has_next_producer_id {
                let tag = w.begin_tag(1);
                w.i64(self.next_producer_id);
                w.end_tag(tag);
            }
            if has_client_transaction_version {
                let tag = w.begin_tag(2);
                w.i16(self.client_transaction_version);
                w.end_tag(tag);
            }
            if has_next_producer_epoch {
                let tag = w.begin_tag(3);
                w.i16(self.next_producer_epoch);
                w.end_tag(tag);
            }
            w.unknown_tags(&self.unknown_tagged_fields, 4)?;
        }
        if version < 1 && self.previous_producer_id != -1 {
            return Err(w.unsupported("previous_producer_id", version));
        }
        if version < 1 && self.next_producer_id != -1 {
            return Err(w.unsupported("next_producer_id", version));
        }
        if version < 1 && self.client_transaction_version != 0 {
            return Err(w.unsupported("client_transaction_version", version));
        }
        if version < 1 && self.next_producer_epoch != -1 {
            return Err(w.unsupported("next_producer_epoch", version));
        }
        Ok(())
    }
}

/// Held by [`TransactionLogValue`] as `transaction_partitions`.
///
/// Partitions involved in the transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartitionsSchema {
    /// Topic involved in the transaction.
    pub topic: String,
    /// Partition ids involved in the transaction.
    pub partition_ids: Vec<i32>,
    /// Tagged fields that this build does not know; kept for a round trip.
    pub unknown_tagged_fields: TaggedFields,
}

impl Wire for PartitionsSchema {
    const MIN_SIZE: usize = 3;

    fn read(r: &mut Reader, _: &'static str, version: i16) -> Result<Self, DecodeError> {
        let mut it = Self::default();
        it.topic = r.string("topic")?;
        it.partition_ids = r.array("partition_ids", version)?;
        if version >= 1 {
            it.unknown_tagged_fields = r.unknown_tags()?;
        }
        Ok(it)
    }

    fn write(&self, w: &mut Writer, _: &'static str, version: i16) -> Result<(), EncodeError> {
        w.string("topic", &self.topic)?;
        w.array("partition_ids", &self.partition_ids, version)?;
        if version >= 1 {
            w.tag_count(0, &self.unknown_tagged_fields);
            w.unknown_tags(&self.unknown_tagged_fields, 0)?;
        }
        Ok(())
    }
}
