//! Records of `__transaction_state`, byte for byte as Kafka writes them, so that its tools can read ours.
//!
//! Key: `i16 = 0`, transactional id. Value: `i16 = 1`, `TransactionLogValue`; no value is a tombstone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flumen_protocol::codec::{DecodeError, EncodeError, decode_prefixed, encode_prefixed};
use flumen_protocol::id::TopicPartition;
use flumen_protocol::message::transaction_log_value::PartitionsSchema;
use flumen_protocol::message::{TransactionLogKey, TransactionLogValue};

use super::{NO_PRODUCER_EPOCH, Transaction, TxnState};
use crate::cluster::controller::is_too_long;

/// What a transactional id writes; `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TxnRecord {
    pub(crate) transactional_id: String,
    pub(crate) value: Option<Transaction>,
}

impl TxnRecord {
    pub(crate) fn new(transactional_id: &str, value: Transaction) -> TxnRecord {
        TxnRecord {
            transactional_id: transactional_id.to_owned(),
            value: Some(value),
        }
    }

    /// Key and value as they lie in the log.
    ///
    /// # Errors
    /// A name is longer than a record can carry; handlers refuse such requests before.
    pub(crate) fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let key = TransactionLogKey {
            transactional_id: self.transactional_id.clone(),
        };
        let value = self.value.as_ref().map(encode_value).transpose()?;
        Ok((encode_prefixed(&key, KEY_VERSION)?, value))
    }

    /// The record behind key and value; none for keys and states that are not ours to keep.
    ///
    /// # Errors
    /// The bytes are not what their version says.
    pub(crate) fn decode(
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<Option<TxnRecord>, DecodeError> {
        if key.first_chunk::<2>() != Some(&KEY_VERSION.to_be_bytes()) {
            return Ok(None);
        }
        let (_, key) = decode_prefixed::<TransactionLogKey>(key)?;
        let value = match value {
            None => None,
            Some(bytes) => match decode_value(bytes)? {
                None => return Ok(None),
                some => some,
            },
        };
        Ok(Some(TxnRecord {
            transactional_id: key.transactional_id,
            value,
        }))
    }
}

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 1;
/// Our own tagged field: the epoch before the current one. Kafka keeps it in memory only and fences the repetition of a request
/// that a new coordinator sees; its readers skip tags they do not know.
const LAST_PRODUCER_EPOCH_TAG: u32 = 4_096;

fn encode_value(transaction: &Transaction) -> Result<Bytes, EncodeError> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in &transaction.partitions {
        topics
            .entry(&partition.topic)
            .or_default()
            .push(partition.partition);
    }
    let partitions = topics
        .into_iter()
        .map(|(topic, partition_ids)| PartitionsSchema {
            topic: topic.to_owned(),
            partition_ids,
            ..PartitionsSchema::default()
        });
    let last_epoch = (transaction.last_producer_epoch != NO_PRODUCER_EPOCH).then(|| {
        (
            LAST_PRODUCER_EPOCH_TAG,
            Bytes::copy_from_slice(&transaction.last_producer_epoch.to_be_bytes()),
        )
    });
    let value = TransactionLogValue {
        producer_id: transaction.producer_id,
        previous_producer_id: transaction.previous_producer_id,
        next_producer_id: transaction.next_producer_id,
        producer_epoch: transaction.producer_epoch,
        transaction_timeout_ms: transaction.timeout_ms,
        transaction_status: transaction.state as i8,
        // Kafka: null for a transaction that never began.
        transaction_partitions: (transaction.state != TxnState::Empty)
            .then(|| partitions.collect()),
        transaction_last_update_timestamp_ms: transaction.update_ms,
        transaction_start_timestamp_ms: transaction.start_ms,
        client_transaction_version: transaction.client_version,
        unknown_tagged_fields: last_epoch.into_iter().collect(),
        ..TransactionLogValue::default()
    };
    encode_prefixed(&value, VALUE_VERSION)
}

fn decode_value(bytes: Bytes) -> Result<Option<Transaction>, DecodeError> {
    let (_, value) = decode_prefixed::<TransactionLogValue>(bytes)?;
    let state = match value.transaction_status {
        0 => TxnState::Empty,
        1 => TxnState::Ongoing,
        2 => TxnState::PrepareCommit,
        3 => TxnState::PrepareAbort,
        4 => TxnState::CompleteCommit,
        5 => TxnState::CompleteAbort,
        _ => return Ok(None), // Dead and PrepareEpochFence are never written
    };
    let last_epoch = value
        .unknown_tagged_fields
        .iter()
        .find(|(tag, _)| *tag == LAST_PRODUCER_EPOCH_TAG);
    let last_epoch = last_epoch
        .and_then(|(_, bytes)| bytes.first_chunk::<2>())
        .map(|bytes| i16::from_be_bytes(*bytes));
    let mut partitions = BTreeSet::new();
    // No topic has a longer name: a record that says so would be copied once per partition.
    let topics = value.transaction_partitions.unwrap_or_default();
    for topic in topics.iter().filter(|topic| !is_too_long(&topic.topic)) {
        partitions.extend(
            topic
                .partition_ids
                .iter()
                .map(|partition| TopicPartition::new(topic.topic.clone(), *partition)),
        );
    }
    Ok(Some(Transaction {
        producer_id: value.producer_id,
        previous_producer_id: value.previous_producer_id,
        next_producer_id: value.next_producer_id,
        producer_epoch: value.producer_epoch,
        last_producer_epoch: last_epoch.unwrap_or(NO_PRODUCER_EPOCH),
        timeout_ms: value.transaction_timeout_ms,
        state,
        partitions,
        start_ms: value.transaction_start_timestamp_ms,
        update_ms: value.transaction_last_update_timestamp_ms,
        client_version: value.client_transaction_version,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_transaction_is_kafkas_bytes_and_one_tag_more() {
        let mut transaction = Transaction {
            producer_id: 7,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: 3,
            last_producer_epoch: -1,
            timeout_ms: 60_000,
            state: TxnState::Ongoing,
            partitions: BTreeSet::from([TopicPartition::new("t", 0), TopicPartition::new("t", 2)]),
            start_ms: 1_000,
            update_ms: 2_000,
            client_version: 0,
        };
        let check = |transaction: &Transaction, expected: &str| {
            let record = TxnRecord::new("x", transaction.clone());
            let (key, value) = record.encode().unwrap();
            assert_eq!(hex(&key), "0000000178");
            assert_eq!(hex(value.as_ref().unwrap()), expected.replace(' ', ""));
            assert_eq!(TxnRecord::decode(key, value).unwrap(), Some(record));
        };
        let body = "0001 0000000000000007 0003 0000ea60 01 02 02 74 03 00000000 00000002 00 00000000000007d0 00000000000003e8";
        check(&transaction, &format!("{body} 00"));
        transaction.last_producer_epoch = 2;
        transaction.previous_producer_id = 7;
        transaction.client_version = 2;
        // tags 0 (previous producer id), 2 (client version), 4096 = varint 80 20 (last epoch)
        check(
            &transaction,
            &format!("{body} 03 00 08 0000000000000007 02 02 0002 80 20 02 0002"),
        );
        let tombstone = TxnRecord {
            transactional_id: "x".to_owned(),
            value: None,
        };
        let (key, value) = tombstone.encode().unwrap();
        assert_eq!(TxnRecord::decode(key, value).unwrap(), Some(tombstone));
    }
}
