//! What coordinators and members read: the cluster's metadata, records of internal topics, what members tell each other.

use bytes::Bytes;
use flumen::broker::cluster::record::MetadataRecord;
use flumen::broker::fuzz::{Row, group_records, transaction_records};

use super::Pieces;

/// A record of the cluster's metadata.
pub(super) fn metadata_record(bytes: &[u8]) {
    if let Ok(record) = MetadataRecord::decode(Bytes::copy_from_slice(bytes)) {
        let again = MetadataRecord::decode(record.encode());
        assert_eq!(again.expect("our own record"), record);
    }
}

/// A byte, then rows: a byte (bit 0: has a value; bit 1: is transactional), key, value.
pub(super) fn coordinator_records(bytes: &[u8]) {
    let mut pieces = Pieces(bytes);
    let committed = pieces.byte() & 1 != 0;
    let mut rows: Vec<Row> = Vec::new();
    while !pieces.is_empty() && rows.len() < 32 {
        let flags = pieces.byte();
        let key = Bytes::copy_from_slice(pieces.piece());
        let value = (flags & 1 != 0).then(|| Bytes::copy_from_slice(pieces.piece()));
        let producer = (flags & 2 != 0).then_some(i64::from(flags >> 4));
        rows.push((key, value, producer));
    }
    group_records(&rows, committed);
    transaction_records(&rows);
}

/// What up to four members tell their leader, each in a piece; the last piece is also read as an assignment.
pub(super) fn members(bytes: &[u8]) {
    let mut pieces = Pieces(bytes);
    let told: Vec<Bytes> = (0..4)
        .map(|_| Bytes::copy_from_slice(pieces.piece()))
        .filter(|told| !told.is_empty())
        .collect();
    flumen::client::fuzz::members(&told);
    flumen::client::fuzz::assignment(Bytes::copy_from_slice(bytes));
    if let Some(last) = told.last() {
        flumen::client::fuzz::assignment(last.clone());
    }
}
