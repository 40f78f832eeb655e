//! Doors for `tests/fuzz` to what this crate reads from a cluster and is not public. The product calls none of them.

use bytes::Bytes;

use crate::position::PartitionTimes;

/// The metadata of a committed input offset. What can be read is written and read again.
pub fn offset_metadata(metadata: &str) {
    let times = PartitionTimes::decode(metadata);
    assert_eq!(PartitionTimes::decode(&times.encode()), times);
}

/// What another instance says it has on disk.
pub fn stored_tasks(user_data: &Bytes) {
    let stored = crate::assign::decode(Some(user_data));
    assert!(stored.len() <= user_data.len() / 8);
    assert_eq!(
        crate::assign::decode(Some(&crate::assign::encode(&stored))),
        stored
    );
}
