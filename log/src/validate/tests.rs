//! Every rule of validation, by the error it gives.

use super::*;
use crate::config::{CleanupPolicy, LogConfig};
use bytes::BytesMut;
use flumen_protocol::batch::{assign_offsets, seal, set_log_append_time};
use flumen_protocol::builder::{EndTxnMarker, end_txn_marker};

const NOW: i64 = 1_700_000_000_000;

fn builder(compression: Compression) -> BatchBuilder {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        ..BatchOptions::default()
    });
    builder.push(NOW, Some(b"a"), Some(b"1"), &[(b"h", None)]);
    builder.push(NOW + 5, Some(b"b"), None, &[]);
    builder
}

fn good() -> BytesMut {
    builder(Compression::None).build_mut()
}

fn check(bytes: impl Into<Bytes>, config: &LogConfig) -> Result<Vec<Valid>, AppendError> {
    validate(bytes.into(), &AppendAs::client(0), terms(config, NOW))
}

fn terms(config: &LogConfig, now_ms: i64) -> Terms<'_> {
    Terms {
        config,
        now_ms,
        pace: Pace::Any,
    }
}

/// Changes bytes of a good batch and seals it again.
fn changed(at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = good();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut batch);
    batch.freeze()
}

fn reason(refused: Result<Vec<Valid>, AppendError>) -> String {
    refused.unwrap_err().to_string()
}

#[test]
fn a_good_batch_passes_with_its_bytes_untouched() {
    for codec in Compression::ALL {
        let bytes = builder(codec).build();
        let valid = check(bytes.clone(), &LogConfig::default()).unwrap();
        assert_eq!(valid[0].bytes.as_ptr(), bytes.as_ptr());
        assert_eq!(valid[0].header.max_timestamp, NOW + 5);
    }
}

#[test]
fn headers_that_break_a_rule_are_refused_by_name() {
    let config = LogConfig::default();
    let mut with_offset = good();
    assign_offsets(&mut with_offset, 5, -1);
    let cases = [
        (
            with_offset.freeze(),
            "invalid record: base offset is 5, must be 0",
        ),
        (
            changed(57, &0i32.to_be_bytes()),
            "invalid record: record count is 0",
        ),
        (
            changed(57, &3i32.to_be_bytes()),
            "invalid record: 3 records end at offset delta 1",
        ),
        (
            changed(43, &7i64.to_be_bytes()),
            "invalid record: a producer id without epoch and sequence",
        ),
        (
            changed(21, &0x10i16.to_be_bytes()),
            "invalid record: a transaction without a producer id",
        ),
        (
            changed(21, &0x20i16.to_be_bytes()),
            "invalid record: clients may not write control batches",
        ),
        (
            changed(21, &0x40i16.to_be_bytes()),
            "invalid record: clients may not set a delete horizon",
        ),
        (
            changed(21, &0x08i16.to_be_bytes()),
            "invalid timestamp: producers may not set the timestamp type LogAppendTime",
        ),
        (
            changed(21, &0x06i16.to_be_bytes()),
            "compression codec 6 is not supported",
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(reason(check(bytes, &config)), expected);
    }
    assert_eq!(
        reason(check(Bytes::new(), &config)),
        "invalid record: 0 batches where one is expected"
    );
    let mut two = good();
    two.extend_from_slice(&good());
    assert_eq!(
        reason(check(two, &config)),
        "invalid record: 2 batches where one is expected"
    );
}

#[test]
fn damage_and_old_formats_have_their_own_errors() {
    let mut flipped = good();
    flipped[70] ^= 1;
    assert!(matches!(
        check(flipped, &LogConfig::default()),
        Err(AppendError::CorruptMessage(_))
    ));
    let cut = good().freeze().slice(..80);
    assert!(matches!(
        check(cut, &LogConfig::default()),
        Err(AppendError::CorruptMessage(_))
    ));
    let mut old = good();
    old[16] = 1;
    assert!(matches!(
        check(old, &LogConfig::default()),
        Err(AppendError::UnsupportedFormat(1))
    ));
}

#[test]
fn sizes_are_limited_per_batch_and_per_segment() {
    let size = good().len();
    let small = LogConfig {
        max_message_bytes: size - 1,
        ..LogConfig::default()
    };
    assert!(
        matches!(check(good(), &small), Err(AppendError::MessageTooLarge { size: s, limit }) if s == size && limit == size - 1)
    );
    let tiny = LogConfig {
        segment_bytes: size as u64 - 1,
        ..LogConfig::default()
    };
    assert!(matches!(
        check(good(), &tiny),
        Err(AppendError::RecordListTooLarge { .. })
    ));
    // A replica takes what its leader has.
    assert!(validate(good().freeze(), &AppendAs::Replica, terms(&small, NOW)).is_ok());
}

#[test]
fn timestamps_must_lie_around_the_brokers_clock() {
    let config = LogConfig {
        timestamp_after_max_ms: 4,
        ..LogConfig::default()
    };
    let Err(AppendError::InvalidTimestamp { records, .. }) = check(good(), &config) else {
        panic!("a record that is too new");
    };
    let named: Vec<i32> = records.iter().map(|(index, _)| *index).collect();
    assert_eq!(named, [1]);
    let config = LogConfig {
        timestamp_after_max_ms: 5,
        timestamp_before_max_ms: 0,
        ..LogConfig::default()
    };
    assert!(check(good(), &config).is_ok());
    let late = validate(
        good().freeze(),
        &AppendAs::client(0),
        terms(&config, NOW + 3),
    );
    assert!(
        matches!(late, Err(AppendError::InvalidTimestamp { records, .. }) if records.len() == 1 && records[0].0 == 0)
    );
    // The broker sets it anyway.
    let appended = LogConfig {
        timestamp_type: TimestampType::LogAppendTime,
        timestamp_before_max_ms: 0,
        ..LogConfig::default()
    };
    assert!(
        validate(
            good().freeze(),
            &AppendAs::client(0),
            terms(&appended, NOW + 1_000_000)
        )
        .is_ok()
    );
}

#[test]
fn a_compacted_topic_needs_keys_and_names_the_records_without() {
    let compacted = LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..LogConfig::default()
    };
    assert!(check(good(), &compacted).is_ok());
    for codec in Compression::ALL {
        let mut batch = builder(codec);
        batch.push(NOW, None, Some(b"x"), &[]);
        let refused = check(batch.build(), &compacted);
        assert!(
            matches!(refused, Err(AppendError::InvalidRecord { records, .. }) if records.len() == 1 && records[0].0 == 2)
        );
    }
}

#[test]
fn records_that_do_not_match_the_header_are_refused() {
    // Offset delta of the second record: 1 → 2.
    let whole = good();
    let second = 61 + 1 + (whole[61] >> 1) as usize;
    let refused = check(changed(second + 4 - 1, &[0x04]), &LogConfig::default());
    assert_eq!(
        reason(refused),
        "invalid record: record 1 has offset delta 2"
    );
    let refused = check(changed(61, &[0x7e]), &LogConfig::default());
    assert_eq!(
        reason(refused),
        "invalid record: record 0: record is longer than its batch"
    );
}

#[test]
fn a_count_that_the_records_do_not_bear_out_is_refused_under_every_codec() {
    for codec in Compression::ALL {
        for (count, expected) in [
            (1_i32, "invalid record: bytes are left over after 1 records"),
            (3, "invalid record: record 2: "),
            (i32::MAX, "invalid record: record 2: "),
        ] {
            let mut bytes = builder(codec).build_mut();
            bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            seal(&mut bytes);
            let refused = reason(check(bytes, &LogConfig::default()));
            assert!(refused.starts_with(expected), "{codec:?}: {refused}");
        }
    }
}

#[test]
fn log_append_time_goes_into_the_header_with_a_new_crc() {
    let config = LogConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..LogConfig::default()
    };
    for codec in Compression::ALL {
        let bytes = builder(codec).build_mut();
        let valid = check(bytes.clone(), &config).unwrap();
        let mut expected = bytes;
        set_log_append_time(&mut expected, NOW);
        assert_eq!(valid[0].header, BatchHeader::parse(&expected).unwrap());
    }
}

#[test]
fn every_codec_becomes_the_topics_codec() {
    for from in Compression::ALL {
        for to in Compression::ALL {
            let config = LogConfig {
                compression: Some(to),
                ..LogConfig::default()
            };
            let mut bytes = builder(from).build_mut();
            batch::set_producer(&mut bytes, 5, 1, 9);
            let before = RecordBatch::parse(bytes.clone().freeze()).unwrap();
            let valid = check(bytes, &config).unwrap();
            let after = RecordBatch::parse(valid[0].bytes.clone()).unwrap();
            after.verify_crc().unwrap();
            assert_eq!(after.header().compression().unwrap(), to);
            let records = |batch: &RecordBatch| {
                batch
                    .records(DecompressionLimit::DEFAULT)
                    .unwrap()
                    .collect::<Result<Vec<_>, _>>()
                    .unwrap()
            };
            assert_eq!(records(&before), records(&after));
            assert_eq!(
                (after.header().producer_id, after.header().base_sequence),
                (5, 9)
            );
        }
    }
}

#[test]
fn a_bomb_is_refused() {
    let mut bomb = BatchBuilder::new(BatchOptions {
        compression: Compression::Zstd,
        ..BatchOptions::default()
    });
    bomb.push(NOW, Some(b"k"), Some(&vec![0; 40_000_000]), &[]);
    let bytes = bomb.build();
    assert!(matches!(
        check(bytes, &LogConfig::default()),
        Err(AppendError::MessageTooLarge { .. })
    ));
}

#[test]
fn markers_are_read_and_a_coordinator_may_write_many_batches() {
    let bytes = end_txn_marker(&EndTxnMarker {
        producer_id: 7,
        producer_epoch: 1,
        commit: true,
        coordinator_epoch: 3,
        timestamp: NOW,
    });
    let how = AppendAs::Marker {
        leader_epoch: 0,
        transaction_version: 2,
    };
    let valid = validate(bytes, &how, terms(&LogConfig::default(), NOW)).unwrap();
    assert_eq!(
        valid[0].marker,
        Some(ControlRecord::Commit {
            coordinator_epoch: 3
        })
    );
    let mut two = good();
    two.extend_from_slice(&good());
    assert_eq!(
        validate(
            two.freeze(),
            &AppendAs::coordinator(0),
            terms(&LogConfig::default(), NOW)
        )
        .unwrap()
        .len(),
        2
    );
}

/// A batch of `count` records as small as they can be, compressed.
fn crowd(count: usize, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: Compression::Zstd,
        ..BatchOptions::default()
    });
    for _ in 0..count {
        builder.push(timestamp, None, None, &[]);
    }
    builder.build()
}

#[test]
fn an_error_names_a_hundred_records_however_many_are_wrong() {
    let compacted = LogConfig {
        cleanup_policy: CleanupPolicy {
            compact: true,
            ..LogConfig::default().cleanup_policy
        },
        ..LogConfig::default()
    };
    let Err(AppendError::InvalidRecord { records, .. }) = check(crowd(50_000, NOW), &compacted)
    else {
        panic!("records without keys");
    };
    assert_eq!(records.len(), 100);

    let strict = LogConfig {
        timestamp_before_max_ms: 10,
        ..LogConfig::default()
    };
    let mut batch = BytesMut::from(&crowd(50_000, NOW - 11)[..]);
    // The header's newest timestamp hides that all of them are too old.
    batch[35..43].copy_from_slice(&NOW.to_be_bytes());
    seal(&mut batch);
    let Err(AppendError::InvalidTimestamp { records, .. }) = check(batch, &strict) else {
        panic!("records that are too old");
    };
    assert_eq!(records.len(), 100);
}

#[test]
fn the_newest_timestamp_of_a_batch_is_that_of_its_records() {
    for told in [0, NO_TIMESTAMP, NOW + 1_000_000_000] {
        for codec in Compression::ALL {
            let mut bytes = builder(codec).build_mut();
            bytes[35..43].copy_from_slice(&told.to_be_bytes());
            seal(&mut bytes);
            let valid = check(bytes, &LogConfig::default()).unwrap().remove(0);
            let mut stored = BytesMut::from(&valid.bytes[..]);
            let head: &mut [u8; HEADER_BYTES] = (&mut stored[..HEADER_BYTES]).try_into().unwrap();
            valid.header.write(head);
            let batch = RecordBatch::parse(stored.freeze()).unwrap();
            batch.verify_crc().unwrap();
            assert_eq!(batch.header().max_timestamp, NOW + 5);
        }
    }
}

#[test]
fn the_headers_of_a_record_are_bounded() {
    let with = |count: usize| {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let headers: Vec<(&[u8], Option<&[u8]>)> = vec![(b"", None); count];
        builder.push(NOW, None, None, &headers);
        builder.build()
    };
    assert!(check(with(1_024), &LogConfig::default()).is_ok());
    assert_eq!(
        reason(check(with(1_025), &LogConfig::default())),
        "invalid record: record 0 has 1025 headers, but at most 1024 are allowed"
    );
}

#[test]
fn what_takes_longer_than_a_moment_is_costly_where_others_wait() {
    let config = LogConfig::default();
    let quick = Terms {
        pace: Pace::Quick,
        ..terms(&config, NOW)
    };
    let check = |codec, value: &[u8], terms| {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: codec,
            ..BatchOptions::default()
        });
        builder.push(NOW, None, Some(value), &[]);
        validate(builder.build(), &AppendAs::client(0), terms)
    };
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    });
    let noise: Vec<u8> = noise.take(100_000).collect();
    assert!(check(Compression::None, &noise, quick).is_ok());
    assert!(check(Compression::Zstd, &noise[..30_000], quick).is_ok());
    // By what it is, by what it holds, and by what becomes of it.
    let bomb = vec![0; 2 * QUICK_BYTES];
    for (codec, value) in [(Compression::Zstd, &noise), (Compression::Lz4, &bomb)] {
        let refused = check(codec, value, quick);
        assert!(matches!(refused, Err(AppendError::Costly)), "{codec:?}");
        assert!(check(codec, value, terms(&config, NOW)).is_ok());
    }
    let compressing = LogConfig {
        compression: Some(Compression::Gzip),
        ..LogConfig::default()
    };
    let quick = Terms {
        config: &compressing,
        ..quick
    };
    let refused = check(Compression::None, &noise, quick);
    assert!(matches!(refused, Err(AppendError::Costly)));
}
