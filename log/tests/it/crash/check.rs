//! What must hold of a log that was opened after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use flumen_log::disk::Disk;
use flumen_log::fault_disk::{Crash, FaultDisk};
use flumen_log::{Log, LogConfig};
use flumen_protocol::batch::{ControlRecord, RecordBatch};
use flumen_protocol::id::Offset;

use super::world::{Model, World};
use crate::helpers::*;

/// Opens what a crash left, and checks all that is promised.
pub(super) fn check(disk: &FaultDisk, config: &LogConfig, model: &Model, context: &str) {
    let as_disk: Arc<dyn Disk> = Arc::new(disk.after_crash(Crash::KeepAll, 0));
    let world = World::open(&as_disk, config).unwrap_or_else(|error| panic!("{context}: {error}"));
    let log = world.log();
    let start = log.log_start_offset();
    assert!(
        (model.log_start_acked..=model.log_start_max).contains(&start),
        "{context}: log start {start}"
    );
    let found = read_all(log);
    let mut next = None;
    for batch in &found {
        let header = batch.header();
        assert!(
            next.is_none_or(|next| next == header.base_offset),
            "{context}: a hole before {}",
            header.base_offset
        );
        let written = model.written.get(&header.base_offset);
        assert!(
            written.is_some_and(|crcs| crcs.contains(&header.crc)),
            "{context}: nobody wrote what is at {}",
            header.base_offset
        );
        next = Some(header.next_offset());
    }
    assert_eq!(
        next.unwrap_or(log.log_end_offset()),
        log.log_end_offset(),
        "{context}"
    );
    let by_offset: BTreeMap<_, _> = found
        .iter()
        .map(|batch| (batch.header().base_offset, batch.header().crc))
        .collect();
    for (base, (next, crc)) in &model.acked {
        assert!(
            *next <= start || by_offset.get(base) == Some(crc),
            "{context}: acknowledged batch at {base} is gone"
        );
    }
    check_txns(log, &found, context);
    check_indexes(&world, context, true);
    check_goes_on(&world, context);
}

/// Aborted transactions and the last stable offset against a naive walk over the batches.
fn check_txns(log: &Log, found: &[RecordBatch], context: &str) {
    let mut open: BTreeMap<i64, Offset> = BTreeMap::new();
    let mut aborted = Vec::new();
    let mut truncated_start = BTreeSet::new();
    for batch in found {
        let header = batch.header();
        if header.is_control() {
            let first = open.remove(&header.producer_id);
            if first.is_none() {
                truncated_start.insert(header.base_offset);
            }
            if let (Some(first), ControlRecord::Abort { .. }) =
                (first, batch.control_record().unwrap())
            {
                aborted.push((header.producer_id, first, header.base_offset));
            }
        } else if header.is_transactional() {
            open.entry(header.producer_id).or_insert(header.base_offset);
        }
    }
    let whole = found
        .first()
        .is_none_or(|first| first.header().base_offset == 0);
    let listed: Vec<_> = log
        .aborted_transactions(log.log_start_offset(), log.log_end_offset())
        .unwrap();
    let listed: BTreeSet<_> = listed
        .iter()
        .map(|txn| (txn.producer_id, txn.first_offset, txn.last_offset))
        .collect();
    if whole {
        let aborted: BTreeSet<_> = aborted.into_iter().collect();
        assert_eq!(listed, aborted, "{context}");
        assert_eq!(
            log.first_unstable_offset(),
            open.values().min().copied(),
            "{context}"
        );
    } else {
        // The beginning of a transaction may be deleted; its end is known all the same.
        for (id, _, last) in aborted {
            assert!(
                listed.iter().any(|txn| txn.0 == id && txn.2 == last),
                "{context}"
            );
        }
    }
}

const INDEXES: [&str; 3] = [".index", ".timeindex", ".txnindex"];

/// Closing, throwing the indexes away and opening again gives the same bytes. Not those of aborted transactions (`with_txns`) once their
/// records may have been cleaned away.
pub(super) fn check_indexes(world: &World, context: &str, with_txns: bool) {
    let disk = &world.disk;
    let path = PathBuf::from("/data/orders-0");
    world.log().flush().unwrap();
    let copy: Arc<dyn Disk> = Arc::new(FaultDisk::new());
    copy.create_dir(&path).unwrap();
    let logs = files(&**disk, &path, &[".log"]);
    // A crash may have left some of the segments that were deleted, with holes between them.
    let start = format!("{:020}.log", world.log().log_start_offset());
    let first = logs.keys().rfind(|name| **name <= start).cloned();
    for (name, bytes) in logs.range(first.unwrap_or_default()..) {
        let file = copy
            .open(&path.join(name), flumen_log::disk::OpenMode::Create)
            .unwrap();
        file.write_at(&[std::io::IoSlice::new(bytes)], 0).unwrap();
    }
    let options = flumen_log::OpenOptions {
        recovery_point: Some(0),
        ..flumen_log::OpenOptions::default()
    };
    let rebuilt = Log::open(copy.clone(), &path, world.config.clone(), options).unwrap();
    assert_eq!(
        rebuilt.log_end_offset(),
        world.log().log_end_offset(),
        "{context}"
    );
    rebuilt.close().unwrap();
    let again: Arc<dyn Disk> = disk.clone();
    let before = world.log().checkpoint().unwrap();
    assert_eq!(before, world.log().log_end_offset());
    let (ours, theirs) = (
        files(&*again, &path, &INDEXES),
        files(&*copy, &path, &INDEXES),
    );
    // Transactions that began before the first record can only be known by who saw it.
    let whole = world.log().log_start_offset() == 0;
    for (name, bytes) in &theirs {
        if bytes.is_empty() || (name.ends_with(".txnindex") && !(whole && with_txns)) {
            continue;
        }
        let mut written = ours.get(name).cloned().unwrap_or_default();
        // The active segment's indexes are as long as they may become.
        let active = name.starts_with(&format!("{:020}", world.log().active_segment_base_offset()));
        if active && written.len() > bytes.len() {
            assert!(
                written[bytes.len()..].iter().all(|byte| *byte == 0),
                "{context}: {name}"
            );
            written.truncate(bytes.len());
        }
        assert!(
            written == *bytes,
            "{context}: {name} differs, written {written:x?}, rebuilt {bytes:x?}",
        );
    }
}

/// The log takes more, and what it took is there after another crash.
fn check_goes_on(world: &World, context: &str) {
    let appended = append_client(
        world.log(),
        batch_of(999_999, 1, 2_000, From::nobody()),
        2_000,
    )
    .unwrap();
    world
        .log()
        .flush()
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(
        world.log().flushed_offset(),
        appended.last_offset + 1,
        "{context}"
    );
}
