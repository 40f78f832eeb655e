//! Doors for `tests/fuzz` to what this crate reads from its internal topics. The product calls none of them.
//!
//! A tool may write to those topics (as Kafka's may), so their records are input from outside like a request.

use bytes::Bytes;

use crate::coordinator::Time;
use crate::coordinator::group::record::GroupRecord;
use crate::coordinator::group::{GroupConfig, GroupShard};
use crate::coordinator::txn::record::TxnRecord;
use crate::coordinator::txn::{TxnConfig, TxnShard};

/// Key and value of a record, and the producer if it is transactional.
pub type Row = (Bytes, Option<Bytes>, Option<i64>);

const NOW: Time = Time {
    monotonic_ms: 1_000,
    wall_ms: 1_700_000_000_000,
};

/// A coordinator of groups loads these records, in order; then all transactions in them end. What can be read is written and read again.
pub fn group_records(rows: &[Row], committed: bool) {
    let mut shard = GroupShard::load(GroupConfig::default(), NOW, |shard| {
        for (at, (key, value, producer)) in rows.iter().enumerate() {
            let Ok(Some(record)) = GroupRecord::decode(key.clone(), value.clone()) else {
                continue;
            };
            if let Ok((key, value)) = record.encode() {
                let again = GroupRecord::decode(key.clone(), value.clone());
                let again = again.expect("our own record").expect("ours to keep");
                assert_eq!(again.encode().expect("it was encoded"), (key, value));
            }
            shard.apply(&record, i64::try_from(at).unwrap_or(0), *producer);
        }
    });
    for producer in rows.iter().filter_map(|(_, _, producer)| *producer) {
        shard.apply_marker(producer, committed);
    }
    let _ = shard.list();
}

/// A coordinator of transactions loads these records, in order.
pub fn transaction_records(rows: &[Row]) {
    let _ = TxnShard::load(TxnConfig::default(), NOW, |shard| {
        for (key, value, _) in rows {
            let Ok(Some(record)) = TxnRecord::decode(key.clone(), value.clone()) else {
                continue;
            };
            if let Ok((key, value)) = record.encode() {
                // Partitions of a transaction that never began are not written.
                let again = TxnRecord::decode(key.clone(), value.clone());
                let again = again.expect("our own record").expect("ours to keep");
                assert_eq!(again.encode().expect("it was encoded"), (key, value));
            }
            shard.apply(&record);
        }
    });
}
