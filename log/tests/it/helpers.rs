//! Batches that are told apart by their content, and small ways to write and look at a log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use flumen_log::disk::{Disk, OpenMode};
use flumen_log::{AppendAs, Identity, Log, LogConfig, LogDir};
use flumen_protocol::batch::{self, RecordBatch};
use flumen_protocol::builder::{BatchBuilder, BatchOptions, EndTxnMarker, end_txn_marker};
use flumen_protocol::id::{Offset, TopicId, TopicPartition};

/// Segments and indexes so small that a few batches fill them.
pub(crate) fn small_config() -> LogConfig {
    LogConfig {
        segment_bytes: 1_000,
        index_interval_bytes: 150,
        index_bytes: 4_096,
        ..LogConfig::default()
    }
}

/// Who sends a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct From {
    pub(crate) producer: Option<(i64, i16, i32)>,
    pub(crate) transactional: bool,
}

impl From {
    pub(crate) fn nobody() -> Self {
        Self::default()
    }

    pub(crate) fn producer(id: i64, epoch: i16, sequence: i32) -> Self {
        Self {
            producer: Some((id, epoch, sequence)),
            transactional: false,
        }
    }

    pub(crate) fn in_txn(id: i64, epoch: i16, sequence: i32) -> Self {
        Self {
            producer: Some((id, epoch, sequence)),
            transactional: true,
        }
    }
}

/// A batch of `count` records whose values begin with `tag`.
pub(crate) fn batch_of(tag: u64, count: usize, timestamp: i64, from: From) -> Bytes {
    let (producer_id, producer_epoch, base_sequence) = from.producer.unwrap_or((-1, -1, -1));
    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id,
        producer_epoch,
        base_sequence,
        transactional: from.transactional,
        ..BatchOptions::default()
    });
    for i in 0..count {
        let value = format!("{tag}/{i} {}", "x".repeat((tag % 37) as usize));
        builder.push(
            timestamp + i as i64,
            Some(b"key"),
            Some(value.as_bytes()),
            &[],
        );
    }
    builder.build()
}

pub(crate) fn marker(id: i64, epoch: i16, commit: bool, timestamp: i64) -> Bytes {
    end_txn_marker(&EndTxnMarker {
        producer_id: id,
        producer_epoch: epoch,
        commit,
        coordinator_epoch: 0,
        timestamp,
    })
}

/// Appends as a client would, asking for permission first if the batch is transactional.
pub(crate) fn append_client(
    log: &Log,
    bytes: Bytes,
    now_ms: i64,
) -> Result<flumen_log::Appended, flumen_log::AppendError> {
    let header = *RecordBatch::parse(bytes.clone()).unwrap().header();
    let guard = match header.is_transactional() {
        true => log
            .start_verification(
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                true,
            )
            .unwrap_or_default(),
        false => flumen_log::VerificationGuard::NONE,
    };
    log.append(
        bytes,
        &AppendAs::Client {
            leader_epoch: 0,
            guard,
        },
        now_ms,
    )
}

/// All batches from the log's start to its end, read as a consumer would.
pub(crate) fn read_all(log: &Log) -> Vec<RecordBatch> {
    read_range(log, log.log_start_offset(), log.log_end_offset())
}

pub(crate) fn read_range(log: &Log, from: Offset, upto: Offset) -> Vec<RecordBatch> {
    let mut all = Vec::new();
    let mut at = from;
    while at < upto {
        let slice = log.read(at, upto, 300, true).unwrap();
        let Some(range) = slice.records else { break };
        assert!(slice.next_offset > at, "reading makes progress");
        for found in batch::batches(range.read().unwrap()) {
            let found = found.unwrap();
            found.verify_crc().unwrap();
            all.push(found);
        }
        // Offsets that were never given out, or compacted away, are skipped.
        assert!(all.last().unwrap().header().next_offset() <= slice.next_offset);
        at = slice.next_offset;
    }
    all
}

pub(crate) fn identity() -> Identity {
    Identity {
        cluster_id: "test".into(),
        node_id: 1,
        directory_id: TopicId([7; 16]),
    }
}

pub(crate) fn partition() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

pub(crate) fn topic_id() -> TopicId {
    TopicId([9; 16])
}

pub(crate) fn open_dir(disk: &Arc<dyn Disk>) -> Result<LogDir, flumen_log::OpenError> {
    LogDir::open(disk.clone(), Path::new("/data"), &identity())
}

/// Contents of the files of a log by name; only those whose name ends in one of `suffixes`.
pub(crate) fn files(disk: &dyn Disk, dir: &Path, suffixes: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in disk.list(dir).unwrap() {
        if suffixes.iter().any(|suffix| entry.name.ends_with(suffix)) {
            files.insert(entry.name.clone(), contents(disk, &dir.join(&entry.name)));
        }
    }
    files
}

pub(crate) fn contents(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    let mut done = 0;
    while done < bytes.len() {
        done += file.read_at(&mut bytes[done..], done as u64).unwrap();
    }
    bytes
}
