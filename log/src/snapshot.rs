//! The producers' state as a file: Kafka's `.snapshot`, named by the offset up to which it holds.
//!
//! Written by `Log` when a segment is rolled, at a checkpoint and at a clean close; read by `recovery.rs`, which falls back to an
//! older one, and at last to reading the whole log, if it is damaged. Only the newest batch of each producer is kept
//! (Kafka's format): the other four are looked for in the log.
//!
//! ```text
//! i16 version = 1 | u32 crc32c of what follows | i32 count
//! { i64 producer id | i16 epoch | i32 last sequence | i64 last offset | i32 offset delta | i64 timestamp
//! | i32 coordinator epoch | i64 first offset of the open transaction or -1 } ...
//! ```
//! Source: Kafka `ProducerStateManager.writeSnapshot`.

use std::collections::VecDeque;

use flumen_protocol::batch::crc32c;

use crate::producers::{BatchSeen, Producer, Producers};

const VERSION: i16 = 1;
const CRC_AT: usize = 2;
const BODY_AT: usize = 6;
const ENTRY_BYTES: usize = 46;

/// Why a snapshot cannot be used; another one, or the log itself, must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("producer snapshot: {0}")]
pub(crate) struct SnapshotError(&'static str);

pub(crate) fn encode(producers: &Producers) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BODY_AT + 4 + producers.len() * ENTRY_BYTES);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(producers.len() as u32).to_be_bytes());
    for (id, producer) in producers.iter() {
        let none = BatchSeen {
            last_sequence: -1,
            last_offset: -1,
            offset_delta: 0,
            timestamp: -1,
        };
        let last = producer.batches.back().unwrap_or(&none);
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&producer.epoch.to_be_bytes());
        bytes.extend_from_slice(&last.last_sequence.to_be_bytes());
        bytes.extend_from_slice(&last.last_offset.to_be_bytes());
        bytes.extend_from_slice(&last.offset_delta.to_be_bytes());
        bytes.extend_from_slice(&producer.last_timestamp.to_be_bytes());
        bytes.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
        bytes.extend_from_slice(&producer.txn_first_offset.unwrap_or(-1).to_be_bytes());
    }
    let crc = crc32c(&bytes[BODY_AT..]);
    bytes[CRC_AT..BODY_AT].copy_from_slice(&crc.to_be_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Producers, SnapshotError> {
    let mut head = bytes;
    let version = i16::from_be_bytes(take(&mut head)?);
    let crc = u32::from_be_bytes(take(&mut head)?);
    if version != VERSION {
        return Err(SnapshotError("unknown version"));
    }
    if crc32c(head) != crc {
        return Err(SnapshotError("CRC does not match"));
    }
    let count = u32::from_be_bytes(take(&mut head)?) as usize;
    if head.len() != count.saturating_mul(ENTRY_BYTES) {
        return Err(SnapshotError("length does not match its count"));
    }
    let mut producers = Producers::default();
    for _ in 0..count {
        let id = i64::from_be_bytes(take(&mut head)?);
        let epoch = i16::from_be_bytes(take(&mut head)?);
        let last_sequence = i32::from_be_bytes(take(&mut head)?);
        let last_offset = i64::from_be_bytes(take(&mut head)?);
        let offset_delta = i32::from_be_bytes(take(&mut head)?);
        let timestamp = i64::from_be_bytes(take(&mut head)?);
        let coordinator_epoch = i32::from_be_bytes(take(&mut head)?);
        let first_offset = i64::from_be_bytes(take(&mut head)?);
        let mut batches = VecDeque::new();
        if last_offset >= 0 {
            batches.push_back(BatchSeen {
                last_sequence,
                last_offset,
                offset_delta,
                timestamp,
            });
        }
        let txn_first_offset = (first_offset >= 0).then_some(first_offset);
        let producer = Producer {
            epoch,
            coordinator_epoch,
            last_timestamp: timestamp,
            txn_first_offset,
            batches,
            seen_ms: None,
        };
        producers.restore(id, producer);
    }
    Ok(producers)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], SnapshotError> {
    let (taken, tail) = rest
        .split_first_chunk::<N>()
        .ok_or(SnapshotError("file is cut"))?;
    *rest = tail;
    Ok(*taken)
}
