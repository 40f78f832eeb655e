//! What the rest of the log makes of what a cleaning leaves, and when it is due: readers, restarts, the scrubber, look-ups by time.

use std::path::Path;
use std::sync::Arc;

use flumen_log::config::CleanupPolicy;
use flumen_log::disk::Disk;
use flumen_log::fault_disk::FaultDisk;
use flumen_log::{AppendAs, AppendError, LogConfig, ProducerError, ScrubPosition};

use super::{Opened, compacted_config, keyed, names, on_fault_disk, open, records};
use crate::helpers::*;

/// A start on which only the log itself tells of producers.
fn open_without_snapshots(disk: &Arc<FaultDisk>) -> Opened {
    let snapshots = names(disk)
        .into_iter()
        .filter(|name| name.ends_with(".snapshot"));
    for name in snapshots {
        disk.remove_file(&Path::new("/data/orders-0").join(name))
            .unwrap();
    }
    open(&(disk.clone() as Arc<dyn Disk>), Path::new("/data"))
}

fn end_txn(opened: &Opened, producer: i64, epoch: i16, commit: bool) {
    let how = AppendAs::Marker {
        leader_epoch: 0,
        transaction_version: 2,
    };
    let marker = marker(producer, epoch, commit, 1_000);
    opened.log.append(marker, &how, 1_000).unwrap();
}

#[test]
fn readers_of_what_was_rewritten_read_on_and_know_what_was_aborted() {
    let (_disk, opened) = on_fault_disk();
    append_client(
        &opened.log,
        keyed(&[("a", Some("aborted"))], From::in_txn(7, 0, 0), 1_000),
        1_000,
    )
    .unwrap();
    end_txn(&opened, 7, 1, false);
    opened.fill(30);
    let slice = opened.log.read(0, opened.bound(), 1 << 20, true).unwrap();
    let aborted = slice.aborted_transactions(0).unwrap();
    assert_eq!(aborted.len(), 1);
    let bytes = slice.records.as_ref().unwrap().read().unwrap();
    for now_ms in [0, 1 << 40, 1 << 41] {
        opened.put("zz", None);
        opened.log.roll().unwrap();
        opened.log.flush().unwrap();
        assert!(opened.clean(now_ms).is_some());
    }
    assert_eq!(
        opened.log.aborted_transactions(0, opened.bound()).unwrap(),
        []
    );
    assert_eq!(slice.records.as_ref().unwrap().read().unwrap(), bytes);
    assert_eq!(slice.aborted_transactions(0).unwrap(), aborted);
}

#[test]
fn a_repeat_is_known_after_cleaning_and_restart() {
    let (disk, opened) = on_fault_disk();
    for sequence in 0..3 {
        let batch = keyed(
            &[("a", Some("mine"))],
            From::producer(7, 0, sequence),
            1_000,
        );
        append_client(&opened.log, batch, 1_000).unwrap();
    }
    opened.fill(40);
    opened.put("a", Some("newer"));
    opened.log.roll().unwrap();
    opened.log.flush().unwrap();
    opened.clean(0).unwrap();
    assert!(
        records(&opened.log)
            .iter()
            .all(|(_, _, value)| value.as_deref() != Some("mine"))
    );
    drop(opened);
    let opened = open_without_snapshots(&disk);
    let repeat = keyed(&[("a", Some("mine"))], From::producer(7, 0, 2), 1_000);
    let appended = append_client(&opened.log, repeat, 1_000).unwrap();
    assert_eq!((appended.duplicate, appended.base_offset), (true, 2));
    let next = keyed(&[("a", Some("mine"))], From::producer(7, 0, 3), 1_000);
    assert!(!append_client(&opened.log, next, 1_000).unwrap().duplicate);
}

#[test]
fn a_scrub_goes_on_in_a_segment_that_was_rewritten() {
    let (_disk, opened) = on_fault_disk();
    opened.fill(60);
    let first = opened.log.scrub(ScrubPosition::default(), 300).unwrap();
    opened.clean(0).unwrap();
    let mut at = first.next;
    while let Some(from) = at {
        let scrubbed = opened.log.scrub(from, 300).unwrap();
        assert!(scrubbed.found.is_none(), "{scrubbed:?}");
        at = scrubbed.next;
    }
}

#[test]
fn an_emptied_marker_still_fences_after_a_restart_and_holds_nobody_up() {
    let (disk, opened) = on_fault_disk();
    let in_txn = |epoch| keyed(&[("a", Some("old"))], From::in_txn(7, epoch, 0), 1_000);
    append_client(&opened.log, in_txn(0), 1_000).unwrap();
    end_txn(&opened, 7, 1, true);
    for now_ms in [0, 1 << 40, 1 << 41] {
        opened.put("a", Some("new"));
        opened.log.roll().unwrap();
        opened.log.flush().unwrap();
        assert!(opened.clean(now_ms).is_some());
    }
    let markers: Vec<_> = read_all(&opened.log)
        .iter()
        .filter(|batch| batch.header().is_control())
        .map(|batch| (batch.header().base_offset, batch.header().record_count))
        .collect();
    assert_eq!(markers, [(1, 0)], "its header is all that is left");
    drop(opened);

    let opened = open_without_snapshots(&disk);
    let known: Vec<_> = opened
        .log
        .active_producers()
        .iter()
        .map(|known| (known.producer_id, known.epoch, known.txn_first_offset))
        .collect();
    assert_eq!(known, [(7, 1, None)]);
    opened.log.flush().unwrap();
    assert_eq!(opened.bound(), opened.log.log_end_offset());
    let zombie = append_client(&opened.log, in_txn(0), 1_000);
    let stale = ProducerError::StaleEpoch {
        epoch: 0,
        current: 1,
    };
    assert!(
        matches!(&zombie, Err(AppendError::Producer(error)) if *error == stale),
        "{zombie:?}"
    );
    assert!(
        !append_client(&opened.log, in_txn(1), 1_000)
            .unwrap()
            .duplicate
    );
}

#[test]
fn the_largest_timestamp_is_that_of_a_record_not_of_an_emptied_batch() {
    let (_disk, opened) = on_fault_disk();
    let last_of_producer = keyed(&[("a", Some("old"))], From::producer(7, 0, 0), 9_000);
    append_client(&opened.log, last_of_producer, 9_000).unwrap();
    opened.put("b", Some("first of its time"));
    opened.put("a", Some("new"));
    opened.log.roll().unwrap();
    opened.log.flush().unwrap();
    let newest = |opened: &Opened| {
        let found = opened.log.max_timestamp(opened.bound()).unwrap();
        found.map(|found| (found.timestamp, found.offset))
    };
    assert_eq!(newest(&opened), Some((9_000, 0)));
    opened.clean(0).unwrap();
    let first = *read_all(&opened.log)[0].header();
    assert_eq!((first.record_count, first.max_timestamp), (0, 9_000));
    assert_eq!(newest(&opened), Some((1_000, 1)));
}

#[test]
fn who_waited_for_max_compaction_lag_closes_the_active_segment_and_is_due() {
    let config = LogConfig {
        max_compaction_lag_ms: 1_000,
        min_cleanable_dirty_ratio: 1.0,
        segment_bytes: 1 << 20,
        ..compacted_config()
    };
    let delete = CleanupPolicy {
        delete: true,
        compact: false,
    };
    let kept = LogConfig {
        cleanup_policy: delete,
        ..config.clone()
    };
    for (config, segments) in [(config, 2), (kept, 1)] {
        let (_disk, opened) = on_fault_disk();
        opened.log.set_config(config);
        for (at, expected) in [(5_000, 1), (6_000, 1), (6_001, segments)] {
            let batch = keyed(&[("a", Some("v"))], From::nobody(), at);
            append_client(&opened.log, batch, at).unwrap();
            assert_eq!(opened.log.segment_count(), expected, "at {at}");
        }
        opened.log.flush().unwrap();
        assert_eq!(opened.clean(6_000), None, "as old as it may be");
        assert_eq!(opened.clean(6_001).is_some(), segments == 2);
        assert_eq!(records(&opened.log).len(), 4 - segments);
    }
}
