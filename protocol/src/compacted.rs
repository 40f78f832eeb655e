//! What compaction leaves of a batch: some of its records, or nothing but its header. Pure.
//!
//! Used by the log's cleaner. Base offset, last offset, producer id, epoch, sequence, leader epoch and codec stay as they were: who looks
//! for a producer's last sequence finds it, and an offset that was given out never belongs to another record.
//! Source: Kafka `MemoryRecords.filterTo`, `DefaultRecordBatch.writeEmptyHeader`; KIP-534.

use bytes::Bytes;

use crate::batch::{
    self, ATTRIBUTE_DELETE_HORIZON, BatchError, BatchHeader, HEADER_BYTES, LOG_OVERHEAD,
    NO_TIMESTAMP, TimestampType,
};
use crate::compression::{self, Compression};
use crate::record::{self, Body, EncodeHeaders, RecordRef};

/// A batch like that of `header`, with those of the records in `payload` (decompressed) for which `keep` says so, by their index.
///
/// `delete_horizon`: from when on its tombstones or its marker may be dropped, in milliseconds since 1970. It takes the place of
/// the base timestamp, and the records' deltas count from it.
///
/// # Errors
/// [`BatchError`] if the records cannot be read, or the codec is unknown.
///
/// # Panics
/// If the batch would be larger than 2 GiB: callers bound what they decompress far below.
pub fn retain(
    header: &BatchHeader,
    payload: &[u8],
    keep: &[bool],
    delete_horizon: Option<i64>,
) -> Result<Bytes, BatchError> {
    let codec = header.compression()?;
    let mut base_timestamp = delete_horizon;
    let mut max_timestamp = NO_TIMESTAMP;
    let mut record_count = 0;
    let mut bytes = vec![0; HEADER_BYTES];
    let mut rest = payload;
    for (index, keep) in keep.iter().enumerate() {
        let record = RecordRef::parse(&mut rest)
            .map_err(|source| BatchError::InvalidRecord { index, source })?;
        if !keep {
            continue;
        }
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        let delta = timestamp.wrapping_sub(*base_timestamp.get_or_insert(timestamp));
        max_timestamp = max_timestamp.max(timestamp);
        record_count += 1;
        let body = Body {
            key: record.key,
            value: record.value,
            headers: EncodeHeaders::Raw(record.raw_headers()),
        };
        record::encode(&mut bytes, delta, record.offset_delta, &body);
    }
    if codec != Compression::None {
        let mut compressed = vec![0; HEADER_BYTES];
        compression::compress(codec, &bytes[HEADER_BYTES..], &mut compressed);
        bytes = compressed;
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        max_timestamp = header.max_timestamp;
    }
    let horizon_bit = delete_horizon.map_or(0, |_| ATTRIBUTE_DELETE_HORIZON);
    let changed = BatchHeader {
        attributes: header.attributes & !ATTRIBUTE_DELETE_HORIZON | horizon_bit,
        base_timestamp: base_timestamp.unwrap_or(NO_TIMESTAMP),
        max_timestamp,
        record_count,
        ..*header
    };
    Ok(sealed(changed, bytes))
}

/// The header of a batch whose records are all gone.
pub fn empty(header: &BatchHeader) -> Bytes {
    const CODEC: i16 = 0x07;
    let changed = BatchHeader {
        attributes: header.attributes & !(ATTRIBUTE_DELETE_HORIZON | CODEC),
        base_timestamp: NO_TIMESTAMP,
        record_count: 0,
        ..*header
    };
    sealed(changed, vec![0; HEADER_BYTES])
}

fn sealed(header: BatchHeader, mut bytes: Vec<u8>) -> Bytes {
    let batch_length =
        i32::try_from(bytes.len() - LOG_OVERHEAD).expect("a batch is smaller than 2 GiB");
    let header = BatchHeader {
        batch_length,
        ..header
    };
    header.write(&mut bytes);
    batch::seal(&mut bytes);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::RecordBatch;
    use crate::builder::{BatchBuilder, BatchOptions};
    use crate::compression::DecompressionLimit;

    fn batch(compression: Compression) -> RecordBatch {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression,
            base_offset: 40,
            leader_epoch: 3,
            producer_id: 7,
            producer_epoch: 2,
            base_sequence: 11,
            transactional: true,
            ..BatchOptions::default()
        });
        builder.push(
            1_000,
            Some(b"a"),
            Some(b"1"),
            &[(b"h", Some(b"x")), (b"h", None)],
        );
        builder.push(3_000, Some(b"b"), None, &[]);
        builder.push(2_000, Some(b"c"), Some(b""), &[(b"", Some(b""))]);
        RecordBatch::parse(builder.build()).unwrap()
    }

    fn kept(batch: &RecordBatch, keep: &[usize], horizon: Option<i64>) -> RecordBatch {
        let payload = batch.payload(DecompressionLimit::DEFAULT).unwrap();
        let count = usize::try_from(batch.header().record_count).unwrap();
        let keep: Vec<_> = (0..count).map(|i| keep.contains(&i)).collect();
        let bytes = retain(batch.header(), &payload, &keep, horizon).unwrap();
        let left = RecordBatch::parse(bytes).unwrap();
        left.verify_crc().unwrap();
        left
    }

    #[test]
    fn what_is_kept_is_unchanged_and_so_is_who_sent_it() {
        for codec in Compression::ALL {
            let original = batch(codec);
            let records = |batch: &RecordBatch| -> Vec<_> {
                let records = batch.records(DecompressionLimit::DEFAULT).unwrap();
                records.map(Result::unwrap).collect()
            };
            for horizon in [None, Some(86_400_000)] {
                for keep in [&[0, 1, 2][..], &[0, 2], &[1], &[2]] {
                    let left = kept(&original, keep, horizon);
                    let expected: Vec<_> = keep
                        .iter()
                        .map(|i| records(&original)[*i].clone())
                        .collect();
                    assert_eq!(records(&left), expected, "{codec:?} {keep:?} {horizon:?}");
                    let (old, new) = (original.header(), left.header());
                    assert_eq!(new.delete_horizon(), horizon);
                    assert_eq!(
                        new.max_timestamp,
                        expected
                            .iter()
                            .map(|record| record.timestamp)
                            .max()
                            .unwrap()
                    );
                    let identity = |header: &BatchHeader| {
                        let (epoch, sequence) = (header.producer_epoch, header.base_sequence);
                        let offsets = (
                            header.base_offset,
                            header.last_offset(),
                            header.partition_leader_epoch,
                        );
                        (
                            header.producer_id,
                            epoch,
                            sequence,
                            offsets,
                            header.is_transactional(),
                            header.compression().unwrap(),
                        )
                    };
                    assert_eq!(identity(old), identity(new));
                }
            }
        }
    }

    #[test]
    fn a_horizon_that_is_there_counts_on_for_what_is_kept_later() {
        let first = kept(&batch(Compression::None), &[0, 1, 2], Some(5_000));
        let second = kept(&first, &[1], Some(5_000));
        let records: Vec<_> = second
            .records(DecompressionLimit::DEFAULT)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!((records[0].offset, records[0].timestamp), (41, 3_000));
        assert_eq!(second.header().delete_horizon(), Some(5_000));
    }

    #[test]
    fn an_empty_batch_says_what_it_said_but_for_its_records() {
        let original = kept(&batch(Compression::Zstd), &[1], Some(5_000));
        let left = RecordBatch::parse(empty(original.header())).unwrap();
        left.verify_crc().unwrap();
        assert_eq!(left.bytes().len(), HEADER_BYTES);
        let expected = BatchHeader {
            batch_length: 49,
            attributes: 1 << 4,
            base_timestamp: -1,
            record_count: 0,
            crc: left.header().crc,
            ..*original.header()
        };
        assert_eq!(*left.header(), expected);
        assert_eq!(
            left.records(DecompressionLimit::DEFAULT).unwrap().count(),
            0
        );
    }
}
