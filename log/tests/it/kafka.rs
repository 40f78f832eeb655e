//! Directories that Apache Kafka wrote: read, checked, and rebuilt to the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flumen_log::disk::{Disk, OsDisk};
use flumen_log::{AbortedTxn, CompactionOptions, Log, LogConfig, OpenOptions};
use flumen_protocol::compression::{Compression, DecompressionLimit};
use flumen_protocol::id::Offset;
use flumen_protocol::record::Record;

use crate::compaction::compacted_config;
use crate::helpers::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/logs/4.3.1")
        .join(name)
}

/// A copy of the fixture's files with these endings.
fn copy(name: &str, suffixes: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join(name);
    std::fs::create_dir(&dir).unwrap();
    for (file, bytes) in files(&OsDisk::new(), &fixture(name), suffixes) {
        std::fs::write(dir.join(file), bytes).unwrap();
    }
    (home, dir)
}

fn open(dir: &Path, options: OpenOptions) -> Log {
    Log::open(Arc::new(OsDisk::new()), dir, LogConfig::default(), options).unwrap()
}

fn clean() -> OpenOptions {
    OpenOptions {
        clean: true,
        ..OpenOptions::default()
    }
}

fn unclean() -> OpenOptions {
    OpenOptions {
        recovery_point: Some(0),
        ..OpenOptions::default()
    }
}

#[test]
fn every_codec_and_client_is_read() {
    let (_home, dir) = copy("codecs-0", &[""]);
    let log = open(&dir, clean());
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 21));
    let batches = read_all(&log);
    let codecs: Vec<_> = batches
        .iter()
        .map(|batch| batch.header().compression().unwrap())
        .collect();
    assert!(Compression::ALL.iter().all(|codec| codecs.contains(codec)));
    let records: Vec<Record> = batches
        .iter()
        .flat_map(|batch| {
            batch
                .records(DecompressionLimit::DEFAULT)
                .unwrap()
                .map(Result::unwrap)
        })
        .collect();
    let values = ["none", "gzip", "snappy", "lz4", "zstd"]
        .iter()
        .flat_map(|codec| (1..4).map(move |i| format!("value {codec} {i} {}", "x".repeat(150))));
    for (i, value) in values.enumerate() {
        let record = &records[i];
        assert_eq!(
            (record.offset, record.value.as_deref()),
            (i as i64, Some(value.as_bytes()))
        );
        let headers: Vec<_> = record.headers.iter().collect();
        assert_eq!(
            headers,
            [
                (&b"a"[..], Some(&b"1"[..])),
                (b"b", Some(b"")),
                (b"a", Some(b"2"))
            ]
        );
    }
    assert_eq!(
        (records[15].key.as_deref(), &records[15].value),
        (Some(&b"only-a-key"[..]), &None)
    );
    for (record, codec) in records[17..].iter().zip(["gzip", "snappy", "lz4", "zstd"]) {
        let value = format!("from java {codec}");
        assert_eq!(
            (&record.key, record.value.as_deref()),
            (&None, Some(value.as_bytes()))
        );
    }
    let epochs: Vec<_> = log
        .leader_epochs()
        .entries()
        .iter()
        .map(|entry| (entry.epoch, entry.start_offset))
        .collect();
    assert_eq!(epochs, [(0, 0)]);
}

#[test]
fn the_aborted_transaction_and_the_producer_are_known_after_a_clean_start() {
    let (_home, dir) = copy("txns-0", &[""]);
    let log = open(&dir, clean());
    check_txns(&log);
}

fn check_txns(log: &Log) {
    let aborted = AbortedTxn {
        producer_id: 1000,
        first_offset: 0,
        last_offset: 25,
        last_stable_offset: 26,
    };
    assert_eq!(log.aborted_transactions(0, 88).unwrap(), [aborted]);
    assert_eq!(log.aborted_transactions(26, 88).unwrap(), []);
    assert_eq!((log.log_end_offset(), log.last_stable_offset(88)), (88, 88));
    // Epoch 4 came with the last marker: epoch 3 is a zombie's.
    let zombie = append_client(
        log,
        batch_of(1, 1, 1_795_251_056_842, From::in_txn(1000, 3, 0)),
        1_795_251_060_000,
    );
    assert!(
        matches!(zombie, Err(flumen_log::AppendError::Producer(_))),
        "{zombie:?}"
    );
}

#[test]
fn what_is_rebuilt_from_the_batches_has_kafkas_bytes() {
    let suffixes = [".index", ".timeindex", ".txnindex", ".snapshot"];
    for name in ["codecs-0", "txns-0"] {
        let (_home, dir) = copy(name, &[".log"]);
        let log = open(&dir, unclean());
        // Rolled, because Kafka gives the active segment its last time entry when it stops.
        log.roll().unwrap();
        log.close().unwrap();
        if name == "txns-0" {
            check_txns(&open(&dir, clean()));
        }
        let ours = files(&OsDisk::new(), &dir, &suffixes);
        for (file, kafkas) in files(&OsDisk::new(), &fixture(name), &suffixes) {
            let mut kafkas = kafkas;
            let mut rebuilt = ours
                .get(&file)
                .unwrap_or_else(|| panic!("{name}/{file} is missing"))
                .clone();
            if file.ends_with(".snapshot") {
                // The coordinator's epoch of an expired marker cannot differ, the CRC is over all of it.
                assert_eq!(rebuilt.len(), kafkas.len(), "{name}/{file}");
                (rebuilt, kafkas) = (rebuilt.split_off(0), kafkas.split_off(0));
            }
            assert!(
                rebuilt == kafkas,
                "{name}/{file}: {rebuilt:02x?} where Kafka has {kafkas:02x?}"
            );
        }
    }
}

#[test]
fn a_log_that_kafka_compacted_is_read_and_compacted_further() {
    let foreign = OpenOptions {
        foreign: true,
        ..unclean()
    };
    for options in [clean(), foreign] {
        let (_home, dir) = copy("compacted-0", &[""]);
        let disk = Arc::new(OsDisk::new());
        let log = Log::open(disk, &dir, compacted_config(), options).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 3_009));
        log.flush().unwrap();
        let before = newest_by_key(&log);
        // 40 keys, some deleted, and the last record of each round; a tombstone that is not old enough has its key, too.
        assert_eq!(before.len(), 43);
        for from in 0..3_009 {
            assert!(
                log.read(from, 3_009, 1 << 20, true)
                    .unwrap()
                    .records
                    .is_some(),
                "{from}"
            );
        }
        log.checkpoint().unwrap();
        log.recovery_point_recorded(3_009);
        log.roll().unwrap();
        let found = log.compactable(None, 3_009, 1_800_000_000_000).unwrap();
        let options = CompactionOptions {
            map_bytes: 1 << 20,
            now_ms: 1_800_000_000_000,
        };
        let mut compaction = log.begin_compaction(&found, options).unwrap();
        while log
            .compact_step(&mut compaction, 500)
            .unwrap()
            .done
            .is_none()
        {}
        let mut after = before;
        after.retain(|_, (_, value)| value.is_some());
        assert_eq!(
            newest_by_key(&log),
            after,
            "what was deleted is gone, all else is there"
        );
        assert_eq!(log.log_end_offset(), 3_009);
    }
}

fn newest_by_key(log: &Log) -> BTreeMap<Bytes, (Offset, Option<Bytes>)> {
    let batches = read_all(log);
    let data = batches.iter().filter(|batch| !batch.header().is_control());
    let records = data.flat_map(|batch| batch.records(DecompressionLimit::DEFAULT).unwrap());
    records
        .map(Result::unwrap)
        .map(|record| (record.key.unwrap(), (record.offset, record.value)))
        .collect()
}

#[test]
fn the_log_goes_on_where_kafka_stopped() {
    let (_home, dir) = copy("codecs-0", &[""]);
    let log = open(&dir, clean());
    let appended = append_client(
        &log,
        batch_of(1, 3, 1_795_251_056_842, From::nobody()),
        1_795_251_056_842,
    )
    .unwrap();
    assert_eq!((appended.base_offset, appended.last_offset), (21, 23));
    log.close().unwrap();
    let log = open(&dir, clean());
    assert_eq!(read_all(&log).last().unwrap().header().next_offset(), 24);
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new());
    assert!(
        files(&*disk, &dir, &["leader-epoch-checkpoint"])["leader-epoch-checkpoint"]
            .starts_with(b"0\n1\n0 0\n")
    );
}
