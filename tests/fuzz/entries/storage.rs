//! What lies on the disk: a partition's directory after anything may have happened to it, a data directory, single files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use flumen::log::disk::Disk;
use flumen::log::fault_disk::FaultDisk;
use flumen::log::{AppendAs, Identity, Log, LogConfig, LogDir, OpenOptions, fuzz};
use flumen::protocol::batch::batches;
use flumen::protocol::builder::{BatchBuilder, BatchOptions};
use flumen::protocol::compression::DecompressionLimit;
use flumen::protocol::id::TopicId;

use super::Pieces;

const NOW: i64 = 1_700_000_000_000;

/// Files of a partition, in the order of the pieces. A second segment makes recovery look for holes.
pub(crate) const FILES: &[&str] = &[
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000000.txnindex",
    "00000000000000000002.snapshot",
    "leader-epoch-checkpoint",
    "partition.metadata",
    "00000000000000000002.log",
    "00000000000000000002.index",
    "00000000000000000000.log",
];

fn config() -> LogConfig {
    let topic = [
        ("segment.index.bytes", "4096"),
        ("index.interval.bytes", "64"),
    ];
    let topic: BTreeMap<String, String> = topic
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    LogConfig::parse(&topic, &BTreeMap::new()).expect("legal")
}

/// How it was stopped, what is known to be durable, and every file. Opening recovers or refuses; what is open is read, appended to,
/// closed and opened again the same.
pub(super) fn segment(bytes: &[u8]) {
    let mut pieces = Pieces(bytes);
    let (how, point) = (pieces.byte(), i64::from(pieces.byte()));
    let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
    let dir = Path::new("/data/t-0");
    for (at, name) in FILES.iter().enumerate() {
        let content = match at + 1 == FILES.len() {
            true => pieces.0,
            false => pieces.piece(),
        };
        if !content.is_empty() {
            fuzz::put(&*disk, &dir.join(name), content).expect("this disk does not fail");
        }
    }
    let options = OpenOptions {
        clean: how & 1 != 0,
        recovery_point: (how & 2 == 0).then_some(point),
        log_start_offset: i64::from(how >> 4),
        topic_id: None,
        foreign: false,
    };
    let Ok(log) = Log::open(disk.clone(), dir, config(), options) else {
        return;
    };
    read(&log);
    let end = log.log_end_offset();
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.push(NOW, None, Some(b"after recovery"), &[]);
    let appended = log.append(batch.build(), &AppendAs::client(0), NOW);
    if let Ok(appended) = appended {
        assert_eq!(appended.base_offset, end, "an append goes to the end");
        let slice = log
            .read(end, end + 1, 1 << 20, true)
            .expect("it was appended");
        assert!(slice.records.is_some());
    }
    let end = log.log_end_offset();
    let start = log.log_start_offset();
    if log.close().is_err() {
        return;
    }
    drop(log);
    let options = OpenOptions {
        clean: false,
        recovery_point: Some(end),
        log_start_offset: start,
        topic_id: None,
        foreign: false,
    };
    if let Ok(again) = Log::open(disk, dir, config(), options) {
        assert_eq!(
            again.log_end_offset(),
            end,
            "recovery of a recovery is the same"
        );
        read(&again);
    }
}

fn read(log: &Log) {
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    assert!(start <= end || log.size() == 0, "{start}..{end}");
    let mut from = start;
    // Bounded: offsets may lie anywhere.
    for _ in 0..100 {
        let Ok(slice) = log.read(from, end, 1 << 16, true) else {
            break;
        };
        let _ = log.aborted_transactions(from, slice.next_offset);
        if let Some(range) = slice.records {
            let mut content = vec![0; range.len];
            let read = range.source.read_at(&mut content, range.position);
            assert_eq!(read.expect("this disk does not fail"), range.len);
            decode(content.into());
        }
        if slice.next_offset <= from {
            break;
        }
        from = slice.next_offset;
    }
    let _ = log.offset_for_timestamp(NOW, end);
    let _ = log.max_timestamp(end);
    let _ = log.end_offset_for_epoch(1);
    let _ = log.active_producers();
}

fn decode(content: Bytes) {
    for batch in batches(content).flatten() {
        if let Ok(records) = batch.records(DecompressionLimit(1 << 16)) {
            records.take_while(Result::is_ok).for_each(drop);
        }
    }
}

/// Identity, two checkpoints, the mark of a clean stop and the name of a partition's directory: opened, used, closed, opened again.
pub(super) fn log_dir(bytes: &[u8]) {
    let mut pieces = Pieces(bytes);
    let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
    let dir = Path::new("/data");
    for name in [
        "meta.properties",
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        ".kafka_cleanshutdown",
    ] {
        let content = pieces.piece();
        if !content.is_empty() {
            fuzz::put(&*disk, &dir.join(name), content).expect("this disk does not fail");
        }
    }
    let name = String::from_utf8_lossy(pieces.piece()).into_owned();
    if !name.is_empty() && !name.contains(['/', '\0']) && !name.starts_with('.') {
        let log = dir.join(&name).join("00000000000000000000.log");
        fuzz::put(&*disk, &log, pieces.0).expect("this disk does not fail");
    }
    let identity = Identity {
        cluster_id: "c".to_owned(),
        node_id: 1,
        directory_id: TopicId([7; 16]),
    };
    for _ in 0..2 {
        let Ok(logs) = LogDir::open(disk.clone(), dir, &identity) else {
            return;
        };
        for found in logs.found().to_vec() {
            let _ = logs.open_log(&found.partition, found.topic_id, config());
        }
        let _ = logs.checkpoint();
        let _ = logs.close(1);
    }
}

/// Which kind, and its bytes.
pub(super) fn index_files(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    match kind % 6 {
        0 => drop(fuzz::offset_index(rest, 0)),
        1 => drop(fuzz::offset_index(rest, i64::MAX - 5)),
        2 => drop(fuzz::time_index(rest, 0)),
        3 => drop(fuzz::txn_index(rest)),
        4 => fuzz::producer_snapshot(rest),
        _ => fuzz::text_files(rest),
    }
}
