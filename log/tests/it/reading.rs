//! Readers beside a writer, deleted segments in the hands of readers, and what opening many logs costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flumen_log::disk::OsDisk;
use flumen_log::{AppendAs, Log, LogConfig, OpenOptions, ReadError};
use flumen_protocol::batch;

use crate::helpers::*;

fn open(home: &tempfile::TempDir, config: LogConfig) -> Log {
    Log::open(
        Arc::new(OsDisk::new()),
        &home.path().join("read-0"),
        config,
        OpenOptions::default(),
    )
    .unwrap()
}

#[test]
fn readers_see_whole_batches_in_order_while_a_writer_appends_and_rolls() {
    let home = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_bytes: 20_000,
        index_interval_bytes: 500,
        ..LogConfig::default()
    };
    let log = Arc::new(open(&home, config));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut at = 0;
                while !(done.load(Ordering::Acquire) && at == log.log_end_offset()) {
                    let slice = log.read(at, log.log_end_offset(), 3_000, true).unwrap();
                    let Some(range) = slice.records else { continue };
                    for found in batch::batches(range.read().unwrap()) {
                        let found = found.unwrap();
                        found.verify_crc().unwrap();
                        assert_eq!(found.header().base_offset, at);
                        at = found.header().next_offset();
                    }
                    assert_eq!(at, slice.next_offset);
                }
            });
        }
        for tag in 0..1_500 {
            append_client(
                &log,
                batch_of(tag, 1 + tag as usize % 4, 1_000, From::nobody()),
                1_000,
            )
            .unwrap();
            if tag % 100 == 0 {
                log.flush().unwrap();
            }
        }
        done.store(true, Ordering::Release);
    });
    assert!(log.segment_count() > 5);
}

#[test]
fn a_deleted_segment_stays_readable_for_who_has_a_range_of_it() {
    let home = tempfile::tempdir().unwrap();
    let log = open(&home, small_config());
    for tag in 0..20 {
        append_client(&log, batch_of(tag, 2, 1_000, From::nobody()), 1_000).unwrap();
    }
    let before = read_all(&log);
    let range = log.read(0, 40, 10_000, true).unwrap().records.unwrap();
    let deleted = log.delete_segments_before(30).unwrap();
    assert!(deleted.segments > 0);
    let bytes = range.read().unwrap();
    let first = batch::batches(bytes).next().unwrap().unwrap();
    assert_eq!(first, before[0]);
    assert!(matches!(
        log.read(0, 40, 100, true),
        Err(ReadError::OffsetOutOfRange {
            offset: 0,
            log_start_offset: 30,
            log_end_offset: 40
        })
    ));
    assert!(log.read(41, 50, 100, true).is_err());
    assert!(log.read(40, 50, 100, true).unwrap().records.is_none());
}

#[test]
fn the_bounds_of_a_read_are_kept_to_the_batch() {
    let home = tempfile::tempdir().unwrap();
    let log = open(&home, LogConfig::default());
    for tag in 0..3 {
        append_client(&log, batch_of(tag, 5, 1_000, From::nobody()), 1_000).unwrap();
    }
    let size = read_all(&log)[0].bytes().len();
    let read = |from, upto, max, min_one| {
        let slice = log.read(from, upto, max, min_one).unwrap();
        (
            slice.records.map_or(0, |range| range.len),
            slice.next_offset,
        )
    };
    // From inside a batch; a bound inside a batch leaves it out.
    assert_eq!(read(2, 15, size, true), (size, 5));
    assert_eq!(read(2, 9, 10_000, true), (size, 5));
    assert_eq!(read(2, 4, 10_000, true), (0, 2));
    // Too small for a batch.
    assert_eq!(read(0, 15, 1, true), (size, 5));
    assert_eq!(read(0, 15, 1, false), (0, 0));
    assert_eq!(read(15, 15, 1, true), (0, 15));
}

#[test]
fn an_empty_log_costs_its_directory_and_a_thousand_open_at_once() {
    let home = tempfile::tempdir().unwrap();
    let disk: Arc<dyn flumen_log::disk::Disk> = Arc::new(OsDisk::new());
    let dir = flumen_log::LogDir::open(disk, home.path(), &identity()).unwrap();
    for partition in 0..1_000 {
        let partition = flumen_protocol::id::TopicPartition::new("many", partition);
        dir.open_log(&partition, Some(topic_id()), LogConfig::default())
            .unwrap();
    }
    let names: Vec<_> = std::fs::read_dir(home.path().join("many-7"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["partition.metadata"]);
}

#[test]
fn a_replica_takes_what_its_leader_has_and_only_in_order() {
    let home = tempfile::tempdir().unwrap();
    let leader = open(&home, small_config());
    let other = tempfile::tempdir().unwrap();
    let follower = open(&other, small_config());
    for tag in 0..20 {
        leader
            .append(
                batch_of(tag, 2, 1_000, From::nobody()),
                &AppendAs::client(tag as i32 / 5),
                1_000,
            )
            .unwrap();
    }
    let mut at = 0;
    while at < 40 {
        let slice = leader.read(at, 40, 700, true).unwrap();
        follower
            .append(
                slice.records.unwrap().read().unwrap(),
                &AppendAs::Replica,
                1_000,
            )
            .unwrap();
        at = slice.next_offset;
    }
    assert_eq!(read_all(&leader), read_all(&follower));
    assert_eq!(leader.leader_epochs(), follower.leader_epochs());
    let again = leader
        .read(10, 40, 100, true)
        .unwrap()
        .records
        .unwrap()
        .read()
        .unwrap();
    assert!(matches!(
        follower.append(again, &AppendAs::Replica, 1_000),
        Err(flumen_log::AppendError::OffsetsNotMonotonic {
            base_offset: 10,
            log_end_offset: 40
        })
    ));
    assert_eq!(follower.end_offset_for_epoch(1), Some((1, 20)));
}
