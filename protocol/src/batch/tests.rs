//! Batches that are whole, cut, corrupt or old.

use super::*;
use crate::builder::{BatchBuilder, BatchOptions, EndTxnMarker, end_txn_marker};
use crate::record::Headers;
use bytes::BytesMut;
use kafka_protocol::records as oracle;
use proptest::prelude::*;

const LIMIT: DecompressionLimit = DecompressionLimit::DEFAULT;

fn read(batch: &RecordBatch) -> Vec<Record> {
    let records = batch.records(LIMIT).unwrap();
    records.collect::<Result<_, _>>().unwrap()
}

fn three_records(options: BatchOptions) -> BatchBuilder {
    let mut builder = BatchBuilder::new(options);
    builder.push(
        1_000,
        Some(b"k"),
        Some(b"v"),
        &[(b"a", Some(b"1")), (b"a", None)],
    );
    builder.push(999, None, Some(b""), &[]);
    builder.push(1_005, Some(b""), None, &[]);
    builder
}

#[test]
fn a_batch_has_the_bytes_kafka_gives_it() {
    // Written by kafka-protocol and checked against Kafka's table; kept as hex so that a change of either shows.
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: 7,
        leader_epoch: 3,
        ..BatchOptions::default()
    });
    builder.push(
        1_700_000_000_000,
        Some(b"key"),
        Some(b"value"),
        &[(b"h", Some(b"x"))],
    );
    let hex: String = builder
        .build()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let header = "0000000000000007\
                  00000044\
                  00000003\
                  02\
                  {crc}\
                  0000\
                  00000000\
                  0000018bcfe56800\
                  0000018bcfe56800\
                  ffffffffffffffff\
                  ffff\
                  ffffffff\
                  00000001";
    let record = "24000000066b65790a76616c7565020268\
                  0278";
    assert_eq!(hex[..34], header[..34]);
    assert_eq!(hex[42..122], header.split("{crc}").nth(1).unwrap()[..]);
    assert_eq!(hex[122..], *record);
}

/// Batches of librdkafka and of the Java client in every codec, as a broker of Apache Kafka stored them.
/// How they were made: `tests/fixtures/logs/4.3.1/README.md`.
const FROM_KAFKA: &[u8] =
    include_bytes!("../../../tests/fixtures/logs/4.3.1/codecs-0/00000000000000000000.log");

#[test]
fn batches_of_real_clients_are_read_and_uncompressed_ones_built_again_byte_for_byte() {
    let mut codecs = Vec::new();
    let mut records_read = 0;
    for batch in batches(Bytes::from_static(FROM_KAFKA)) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        let header = *batch.header();
        codecs.push(header.compression().unwrap());
        let records = read(&batch);
        records_read += records.len();
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: header.compression().unwrap(),
            base_offset: header.base_offset,
            leader_epoch: header.partition_leader_epoch,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            ..BatchOptions::default()
        });
        records
            .iter()
            .for_each(|record| builder.push_record(record));
        let again = RecordBatch::parse(builder.build()).unwrap();
        assert_eq!(read(&again), records);
        if header.compression().unwrap() == Compression::None {
            assert_eq!(again, batch);
        }
    }
    assert_eq!(records_read, 21);
    assert!(Compression::ALL.iter().all(|codec| codecs.contains(codec)));
}

#[test]
fn null_empty_headers_and_timestamps_that_go_back_survive_every_codec() {
    for compression in Compression::ALL {
        let batch = RecordBatch::parse(
            three_records(BatchOptions {
                compression,
                base_offset: 40,
                ..BatchOptions::default()
            })
            .build(),
        )
        .unwrap();
        batch.verify_crc().unwrap();
        let header = batch.header();
        assert_eq!(
            (
                header.record_count,
                header.last_offset(),
                header.next_offset()
            ),
            (3, 42, 43)
        );
        assert_eq!(
            (header.base_timestamp, header.max_timestamp),
            (1_000, 1_005)
        );
        assert_eq!(header.compression().unwrap(), compression);
        let expected = [
            Record {
                offset: 40,
                timestamp: 1_000,
                key: Some("k".into()),
                value: Some("v".into()),
                headers: Headers::from_pairs([(&b"a"[..], Some(&b"1"[..])), (b"a", None)]),
            },
            Record {
                offset: 41,
                timestamp: 999,
                key: None,
                value: Some(Bytes::new()),
                headers: Headers::default(),
            },
            Record {
                offset: 42,
                timestamp: 1_005,
                key: Some(Bytes::new()),
                value: None,
                headers: Headers::default(),
            },
        ];
        assert_eq!(read(&batch), expected);
    }
}

#[test]
fn records_of_an_uncompressed_batch_are_slices_of_it() {
    let batch = RecordBatch::parse(three_records(BatchOptions::default()).build()).unwrap();
    let value = read(&batch)[0].value.clone().unwrap();
    assert!(batch.bytes().as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn offsets_and_epoch_are_assigned_without_touching_the_crc() {
    let mut bytes = three_records(BatchOptions::default()).build_mut();
    assign_offsets(&mut bytes, 1 << 40, 9);
    let batch = RecordBatch::parse(bytes.freeze()).unwrap();
    batch.verify_crc().unwrap();
    assert_eq!(
        (
            batch.header().base_offset,
            batch.header().partition_leader_epoch
        ),
        (1 << 40, 9)
    );
}

#[test]
fn a_producer_is_set_before_or_after_the_build_with_the_same_result() {
    let mut before = three_records(BatchOptions::default());
    before.set_producer(5, 2, 77);
    let mut after = three_records(BatchOptions::default()).build_mut();
    set_producer(&mut after, 5, 2, 77);
    assert_eq!(before.build(), after);
    assert_eq!(
        RecordBatch::parse(after.freeze())
            .unwrap()
            .header()
            .last_sequence(),
        79
    );
}

#[test]
fn log_append_time_replaces_every_timestamp() {
    let mut bytes = three_records(BatchOptions::default()).build_mut();
    let before = RecordBatch::parse(bytes.clone().freeze()).unwrap();
    set_log_append_time(&mut bytes, 50_000);
    let apart = with_log_append_time(before.header(), 50_000, &before.bytes()[HEADER_BYTES..]);
    assert_eq!(apart, BatchHeader::parse(&bytes).unwrap());
    let batch = RecordBatch::parse(bytes.freeze()).unwrap();
    batch.verify_crc().unwrap();
    assert_eq!(
        batch.header().timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert!(read(&batch).iter().all(|record| record.timestamp == 50_000));
}

#[test]
fn sequences_wrap_from_max_to_zero() {
    assert_eq!(add_sequence(i32::MAX, 1), 0);
    assert_eq!(add_sequence(i32::MAX - 1, 3), 1);
    assert_eq!(add_sequence(0, 0), 0);
}

#[test]
fn old_message_sets_are_refused_by_their_magic_even_when_short() {
    for magic in [0, 1] {
        let mut old = vec![0; 30];
        old[MAGIC_AT] = magic;
        let refused = RecordBatch::parse(Bytes::from(old)).unwrap_err();
        assert!(matches!(refused, BatchError::OldMagic(found) if found == magic as i8));
    }
}

#[test]
fn every_flipped_bit_behind_the_crc_is_found_and_every_cut_is_incomplete() {
    let whole = three_records(BatchOptions::default()).build();
    for at in CRC_AT..whole.len() {
        let mut bytes = BytesMut::from(&whole[..]);
        bytes[at] ^= 0x10;
        let batch = RecordBatch::parse(bytes.freeze()).unwrap();
        assert!(
            matches!(batch.verify_crc(), Err(BatchError::CrcMismatch { .. })),
            "byte {at}"
        );
    }
    for cut in 0..whole.len() {
        let refused = RecordBatch::parse(whole.slice(..cut)).unwrap_err();
        assert!(
            matches!(refused, BatchError::Incomplete { .. }),
            "cut at {cut}: {refused}"
        );
    }
}

#[test]
fn walking_batches_ends_at_a_cut_tail_and_reports_damage_once() {
    let one = three_records(BatchOptions::default()).build();
    let mut bytes = BytesMut::from(&one[..]);
    bytes.extend_from_slice(&one);
    bytes.extend_from_slice(&one[..one.len() - 1]);
    let found: Vec<_> = batches(bytes.clone().freeze())
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(found.len(), 2);
    bytes[one.len() + MAGIC_AT] = 9;
    let found: Vec<_> = batches(bytes.freeze()).collect();
    assert!(matches!(found[..], [Ok(_), Err(BatchError::Corrupt(_))]));
}

#[test]
fn a_count_that_differs_from_the_records_is_refused() {
    for (count, index) in [(2i32, 2), (4, 3), (i32::MAX, 3)] {
        let mut bytes = three_records(BatchOptions::default()).build_mut();
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        seal(&mut bytes);
        let batch = RecordBatch::parse(bytes.freeze()).unwrap();
        let all: Vec<_> = batch.records(LIMIT).unwrap().collect();
        assert_eq!(all.len(), index + 1);
        assert!(
            matches!(all.last(), Some(Err(BatchError::InvalidRecord { index: at, .. })) if *at == index)
        );
    }
}

#[test]
fn markers_round_trip() {
    for commit in [true, false] {
        let bytes = end_txn_marker(&EndTxnMarker {
            producer_id: 4,
            producer_epoch: 1,
            commit,
            coordinator_epoch: 12,
            timestamp: 5,
        });
        let batch = RecordBatch::parse(bytes).unwrap();
        batch.verify_crc().unwrap();
        assert!(batch.header().is_control() && batch.header().is_transactional());
        let expected = match commit {
            true => ControlRecord::Commit {
                coordinator_epoch: 12,
            },
            false => ControlRecord::Abort {
                coordinator_epoch: 12,
            },
        };
        assert_eq!(batch.control_record().unwrap(), expected);
    }
    assert_eq!(
        ControlRecord::parse(Some(&[0, 0, 0, 2]), None),
        Some(ControlRecord::Other(2))
    );
    assert_eq!(ControlRecord::parse(Some(&[0, 0, 0, 1]), None), None);
    let plain = RecordBatch::parse(three_records(BatchOptions::default()).build()).unwrap();
    assert!(plain.control_record().is_err());
}

#[test]
fn gaps_left_by_compaction_are_kept() {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: 10,
        ..BatchOptions::default()
    });
    for offset in [11, 15, 16] {
        builder.push_at_offset(&Record {
            offset,
            timestamp: 1,
            ..Record::default()
        });
    }
    let batch = RecordBatch::parse(builder.build()).unwrap();
    assert_eq!(
        read(&batch)
            .iter()
            .map(|record| record.offset)
            .collect::<Vec<_>>(),
        [11, 15, 16]
    );
    assert_eq!(
        (batch.header().last_offset(), batch.header().record_count),
        (16, 3)
    );
}

// ---- kafka-protocol as oracle: the same records through both codecs ----

type OwnedHeaders = Vec<(String, Option<Vec<u8>>)>;
type OwnedRecord = (i64, Option<Vec<u8>>, Option<Vec<u8>>, OwnedHeaders);

fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    // The oracle merges duplicate header keys, so here they are distinct.
    let headers = proptest::collection::btree_map("[a-z]{0,8}", bytes(), 0..3);
    let record = (
        0..2_000_000_000_000i64,
        bytes(),
        bytes(),
        headers.prop_map(|map| map.into_iter().collect()),
    );
    proptest::collection::vec(record, 1..40)
}

fn build(records: &[OwnedRecord], options: BatchOptions) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for (timestamp, key, value, headers) in records {
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| (key.as_bytes(), value.as_deref()))
            .collect();
        let expected = builder.estimated_size()
            + builder.size_of(*timestamp, key.as_deref(), value.as_deref(), &headers);
        builder.push(*timestamp, key.as_deref(), value.as_deref(), &headers);
        assert_eq!(builder.estimated_size(), expected);
    }
    builder.build()
}

fn oracle_records(records: &[OwnedRecord]) -> Vec<oracle::Record> {
    records
        .iter()
        .enumerate()
        .map(|(i, (timestamp, key, value, headers))| oracle::Record {
            transactional: true,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 4,
            producer_id: 99,
            producer_epoch: 3,
            timestamp_type: oracle::TimestampType::Creation,
            offset: 1_000 + i as i64,
            sequence: 500 + i as i32,
            timestamp: *timestamp,
            key: key.clone().map(Bytes::from),
            value: value.clone().map(Bytes::from),
            headers: headers
                .iter()
                .map(|(key, value)| (key.clone().into(), value.clone().map(Bytes::from)))
                .collect(),
        })
        .collect()
}

fn oracle_codec(compression: Compression) -> oracle::Compression {
    match compression {
        Compression::None => oracle::Compression::None,
        Compression::Gzip => oracle::Compression::Gzip,
        Compression::Snappy => oracle::Compression::Snappy,
        Compression::Lz4 => oracle::Compression::Lz4,
        Compression::Zstd => oracle::Compression::Zstd,
    }
}

fn our_options(compression: Compression) -> BatchOptions {
    BatchOptions {
        compression,
        base_offset: 1_000,
        leader_epoch: 4,
        producer_id: 99,
        producer_epoch: 3,
        base_sequence: 500,
        transactional: true,
        ..BatchOptions::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_oracle_reads_what_we_write(records in records()) {
        for compression in Compression::ALL {
            let mut bytes = build(&records, our_options(compression));
            let decoded = oracle::RecordBatchDecoder::decode(&mut bytes).unwrap();
            prop_assert_eq!(decoded.records, oracle_records(&records));
        }
    }

    #[test]
    fn we_read_what_the_oracle_writes(records in records()) {
        for compression in Compression::ALL {
            let mut bytes = BytesMut::new();
            let options = oracle::RecordEncodeOptions { version: 2, compression: oracle_codec(compression) };
            oracle::RecordBatchEncoder::encode(&mut bytes, &oracle_records(&records), &options).unwrap();
            let read: Vec<_> = batches(bytes.freeze()).flat_map(|batch| {
                let batch = batch.unwrap();
                batch.verify_crc().unwrap();
                assert_eq!(batch.header().producer_id, 99);
                read(&batch)
            }).collect();
            let ours: Vec<_> = batches(build(&records, our_options(compression))).flat_map(|batch| super::tests::read(&batch.unwrap())).collect();
            prop_assert_eq!(read, ours);
        }
    }

    #[test]
    fn uncompressed_batches_are_byte_for_byte_the_oracles(mut records in records()) {
        // The oracle takes the smallest timestamp as the base, we (as the Java client) the first.
        records.sort_by_key(|record| record.0);
        let mut theirs = BytesMut::new();
        let options = oracle::RecordEncodeOptions { version: 2, compression: oracle::Compression::None };
        oracle::RecordBatchEncoder::encode(&mut theirs, &oracle_records(&records), &options).unwrap();
        prop_assert_eq!(build(&records, our_options(Compression::None)), theirs.freeze());
    }

    #[test]
    fn a_mangled_batch_never_panics(records in records(), flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        for compression in Compression::ALL {
            let mut bytes = BytesMut::from(build(&records, our_options(compression)));
            for (at, value) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            for batch in batches(bytes.freeze()).flatten() {
                let _ = batch.verify_crc();
                let _ = batch.control_record();
                if let Ok(records) = batch.records(DecompressionLimit(1 << 20)) {
                    records.for_each(drop);
                }
            }
        }
    }
}
