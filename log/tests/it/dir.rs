//! A data directory: who owns it, what is found in it, and what happens to all of its logs.

use std::path::Path;
use std::sync::Arc;

use flumen_log::disk::{Disk, OsDisk};
use flumen_log::fault_disk::{Crash, FaultDisk};
use flumen_log::{Identity, LogConfig, LogDir, OpenError};
use flumen_protocol::id::{TopicId, TopicPartition};

use crate::helpers::*;

fn open(path: &Path) -> LogDir {
    LogDir::open(Arc::new(OsDisk::new()), path, &identity()).unwrap()
}

fn write(dir: &LogDir, partition: &TopicPartition, count: u64) -> Arc<flumen_log::Log> {
    let log = dir
        .open_log(partition, Some(topic_id()), small_config())
        .unwrap();
    for tag in 0..count {
        append_client(&log, batch_of(tag, 2, 1_000, From::nobody()), 1_000).unwrap();
    }
    log
}

#[test]
fn one_process_at_a_time_and_one_node_for_ever() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let locked = LogDir::open(Arc::new(OsDisk::new()), home.path(), &identity());
    assert!(matches!(locked, Err(OpenError::Locked(_))));
    drop(dir);
    let fresh = Identity {
        cluster_id: "another".into(),
        node_id: 1,
        directory_id: TopicId([8; 16]),
    };
    let again = LogDir::open(Arc::new(OsDisk::new()), home.path(), &fresh).unwrap();
    assert_eq!(again.identity(), &identity(), "the old identity stays");
    drop(again);
    let other_node = Identity {
        node_id: 2,
        ..identity()
    };
    assert!(matches!(
        LogDir::open(Arc::new(OsDisk::new()), home.path(), &other_node),
        Err(OpenError::Mismatch { .. })
    ));
}

#[test]
fn partitions_are_found_with_their_topic_ids_after_a_clean_stop_and_after_none() {
    let home = tempfile::tempdir().unwrap();
    let partitions = [
        TopicPartition::new("a-b.c_d", 12),
        TopicPartition::new("orders", 0),
    ];
    let dir = open(home.path());
    assert_eq!((dir.found().len(), dir.clean_stop()), (0, None));
    for partition in &partitions {
        write(&dir, partition, 5).flush().unwrap();
    }
    dir.close(42).unwrap();
    drop(dir);
    for clean_stop in [Some(42), None] {
        let dir = open(home.path());
        assert_eq!(dir.clean_stop(), clean_stop);
        let found: Vec<_> = dir
            .found()
            .iter()
            .map(|found| (found.partition.clone(), found.topic_id))
            .collect();
        assert_eq!(
            found,
            partitions
                .clone()
                .map(|partition| (partition, Some(topic_id())))
        );
        let log = dir
            .open_log(&partitions[1], Some(topic_id()), small_config())
            .unwrap();
        assert_eq!(log.log_end_offset(), 10);
        let wrong = dir.open_log(&partitions[0], Some(TopicId([1; 16])), small_config());
        assert!(matches!(wrong, Err(OpenError::Mismatch { .. })));
    }
}

#[test]
fn a_deleted_log_is_gone_and_its_name_begins_anew() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let log = write(&dir, &partition(), 30);
    dir.checkpoint().unwrap();
    dir.delete_log(&partition()).unwrap();
    assert!(dir.get(&partition()).is_none());
    assert!(
        append_client(&log, batch_of(1, 1, 1_000, From::nobody()), 1_000).is_err(),
        "who still has it cannot write"
    );
    let again = dir
        .open_log(&partition(), Some(TopicId([1; 16])), small_config())
        .unwrap();
    assert_eq!(again.log_end_offset(), 0);
    drop((again, log, dir));
    let dir = open(home.path());
    assert_eq!(
        dir.open_log(&partition(), Some(TopicId([1; 16])), small_config())
            .unwrap()
            .log_end_offset(),
        0
    );
}

#[test]
fn a_stray_log_is_put_aside_and_never_deleted() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    write(&dir, &partition(), 3).flush().unwrap();
    let stray = dir.set_aside(&partition()).unwrap().unwrap();
    assert!(stray.join("00000000000000000000.log").exists());
    assert_eq!(dir.set_aside(&partition()).unwrap(), None);
    write(&dir, &partition(), 3).flush().unwrap();
    assert_ne!(dir.set_aside(&partition()).unwrap().unwrap(), stray);
    drop(dir);
    let dir = open(home.path());
    assert!(dir.found().is_empty() && stray.exists());
}

#[test]
fn a_crash_costs_a_scan_of_what_the_checkpoint_did_not_cover() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let log = write(&dir, &partition(), 10);
    dir.checkpoint().unwrap();
    let path = home.path().join("orders-0/00000000000000000000.log");
    append_client(&log, batch_of(50, 2, 1_000, From::nobody()), 1_000).unwrap();
    drop((log, dir));
    let text =
        std::fs::read_to_string(home.path().join("recovery-point-offset-checkpoint")).unwrap();
    assert_eq!(text, "0\n1\norders 0 20\n");
    // Damage below the point is refused, above it is a torn tail.
    let newest = std::fs::read_dir(home.path().join("orders-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .max()
        .unwrap();
    let whole = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &whole[..whole.len() - 1]).unwrap();
    let dir = open(home.path());
    assert_eq!(
        dir.open_log(&partition(), None, small_config())
            .unwrap()
            .log_end_offset(),
        20
    );
    drop(dir);
    let first = std::fs::read(&path).unwrap();
    std::fs::write(&path, &first[..first.len() - 1]).unwrap();
    let refused = open(home.path())
        .open_log(&partition(), None, small_config())
        .map(|_| ());
    assert!(
        matches!(refused, Err(OpenError::Corrupt { .. })),
        "{refused:?}"
    );
}

#[test]
fn retention_keeps_to_the_high_watermark_and_survives_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let config = LogConfig {
        retention_ms: Some(10),
        ..small_config()
    };
    let log = dir
        .open_log(&partition(), Some(topic_id()), config.clone())
        .unwrap();
    for tag in 0..30 {
        append_client(&log, batch_of(tag, 2, 1_000, From::nobody()), 1_000).unwrap();
    }
    assert_eq!(dir.retention_pass(1_005, |_, _| 60).unwrap(), []);
    assert_eq!(dir.retention_pass(5_000, |_, _| 0).unwrap(), []);
    let deleted = dir.retention_pass(5_000, |_, _| 30).unwrap();
    let start = log.log_start_offset();
    assert!(deleted.len() == 1 && deleted[0].1.segments > 0 && start > 0 && start <= 30);
    dir.retention_pass(5_000, |_, log| log.log_end_offset())
        .unwrap();
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset(), log.size()),
        (60, 60, 0)
    );
    drop((log, dir));
    let dir = open(home.path());
    let log = dir
        .open_log(&partition(), Some(topic_id()), config)
        .unwrap();
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (60, 60),
        "offsets go on where they were"
    );
    assert_eq!(
        append_client(&log, batch_of(1, 1, 1_000, From::nobody()), 1_000)
            .unwrap()
            .base_offset,
        60
    );
}

#[test]
fn deleted_records_stay_deleted() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    let log = write(&dir, &partition(), 10);
    log.flush().unwrap();
    assert_eq!(dir.delete_records(&partition(), &log, 7).unwrap(), 7);
    assert_eq!(dir.delete_records(&partition(), &log, 3).unwrap(), 7);
    assert!(dir.delete_records(&partition(), &log, 21).is_err());
    drop((log, dir));
    let dir = open(home.path());
    assert_eq!(
        dir.open_log(&partition(), None, small_config())
            .unwrap()
            .log_start_offset(),
        7
    );
}

#[test]
fn checkpoints_that_cannot_be_read_make_nobody_cut() {
    let home = tempfile::tempdir().unwrap();
    let dir = open(home.path());
    write(&dir, &partition(), 30).flush().unwrap();
    dir.checkpoint().unwrap();
    drop(dir);
    let disk = OsDisk::new();
    let logs = files(&disk, &home.path().join("orders-0"), &[".log"]);
    assert!(logs.len() > 2);
    std::fs::write(
        home.path().join("recovery-point-offset-checkpoint"),
        [0; 40],
    )
    .unwrap();
    let first = home.path().join("orders-0/00000000000000000000.log");
    let mut damaged = std::fs::read(&first).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&first, &damaged).unwrap();
    let dir = open(home.path());
    assert!(matches!(
        dir.open_log(&partition(), None, small_config()),
        Err(OpenError::Corrupt { .. })
    ));
    assert_eq!(
        files(&disk as &dyn Disk, &home.path().join("orders-0"), &[".log"]).len(),
        logs.len()
    );
}

#[test]
fn a_clean_stop_says_nothing_of_logs_that_were_not_opened_since_a_crash() {
    let home = tempfile::tempdir().unwrap();
    let other = TopicPartition::new("other", 0);
    let dir = open(home.path());
    write(&dir, &partition(), 3).flush().unwrap();
    write(&dir, &other, 3).flush().unwrap();
    drop(dir);
    let dir = open(home.path());
    write(&dir, &other, 1);
    dir.close(1).unwrap();
    drop(dir);
    let dir = open(home.path());
    assert_eq!(dir.clean_stop(), None);
    write(&dir, &other, 1);
    write(&dir, &partition(), 1);
    dir.close(2).unwrap();
    drop(dir);
    assert_eq!(open(home.path()).clean_stop(), Some(2));
}

#[test]
fn a_clean_stop_costs_nothing_for_logs_that_nobody_wrote_to() {
    const LOGS: i32 = 200;
    let disk = Arc::new(FaultDisk::new());
    let home = Path::new("/data");
    let start = || LogDir::open(disk.clone() as Arc<dyn Disk>, home, &identity()).unwrap();
    let empty = |dir: &LogDir| {
        for i in 0..LOGS {
            write(dir, &TopicPartition::new("idle", i), 0);
        }
    };
    let dir = start();
    empty(&dir);
    write(&dir, &partition(), 20);
    dir.checkpoint().unwrap();
    let stop = |dir: LogDir, epoch| {
        let before = disk.ops();
        dir.close(epoch).unwrap();
        let ops = disk.ops() - before;
        assert!(ops < 40, "{ops} operations for stop {epoch}");
    };
    stop(dir, 1);
    let dir = start();
    assert_eq!(dir.clean_stop(), Some(1));
    let before = disk.ops();
    empty(&dir);
    assert_eq!(write(&dir, &partition(), 0).log_end_offset(), 40);
    assert_eq!(disk.ops(), before, "a clean start writes nothing");
    stop(dir, 2);
    let dir = start();
    assert_eq!(dir.clean_stop(), Some(2));
    empty(&dir);
    for (partition, log) in dir.logs() {
        assert_eq!(log.flushed_offset(), log.log_end_offset(), "{partition}");
    }
}

#[test]
fn a_start_after_a_kill_reads_what_lies_above_the_recovery_point_and_little_else() {
    let disk = Arc::new(FaultDisk::new());
    let shared: Arc<dyn Disk> = disk.clone();
    let config = LogConfig {
        segment_bytes: 2 << 20,
        ..LogConfig::default()
    };
    let append = |log: &flumen_log::Log, kib: usize| {
        for tag in 0..kib {
            let batch = batch_of(tag as u64, 20, 1_000, From::nobody());
            append_client(log, batch, 1_000).unwrap();
        }
    };
    let dir = open_dir(&shared).unwrap();
    let log = dir
        .open_log(&partition(), Some(topic_id()), config.clone())
        .unwrap();
    append(&log, 20_000);
    dir.checkpoint().unwrap();
    let covered = log.size();
    append(&log, 500);
    let above = log.size() - covered;
    assert!(covered > 8 << 20 && log.segment_count() > 4 && above > 100_000);
    drop((log, dir));

    let killed = Arc::new(disk.after_crash(Crash::KeepAll, 0));
    let dir = open_dir(&(killed.clone() as Arc<dyn Disk>)).unwrap();
    let log = dir
        .open_log(&partition(), Some(topic_id()), config)
        .unwrap();
    assert_eq!(log.size(), covered + above);
    let read = killed.bytes_read();
    // A window of headers behind the last index entry of each segment, and twice that for the producers.
    let besides = log.segment_count() as u64 * (64 << 10) + (256 << 10);
    assert!(
        (above..above + besides).contains(&read),
        "{read} bytes read for {above} above the recovery point, {covered} below"
    );
}

#[test]
fn a_clock_that_jumps_deletes_what_kafka_would_and_nothing_besides() {
    const HOUR: i64 = 3_600_000;
    const YEAR: i64 = 365 * 24 * HOUR;
    let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
    let dir = open_dir(&disk).unwrap();
    let config = LogConfig {
        retention_ms: Some(12 * HOUR as u64),
        ..small_config()
    };
    let log = dir.open_log(&partition(), None, config).unwrap();
    let now = 50 * YEAR;
    for hour in 0..30 {
        let batch = batch_of(hour as u64, 2, now - (30 - hour) * HOUR, From::nobody());
        append_client(&log, batch, now).unwrap();
    }
    log.flush().unwrap();
    let pass = |now_ms: i64| {
        dir.retention_pass(now_ms, |_, log| log.flushed_offset())
            .unwrap();
        log.log_start_offset()
    };
    // An hour back: a little more is kept. Before all records: everything is.
    assert_eq!(pass(now - 31 * HOUR), 0);
    let before = pass(now - HOUR);
    let start = pass(now);
    assert!(
        before <= start && start > 0 && start <= 36,
        "{before}, {start}"
    );
    assert_eq!(pass(now - HOUR), start, "it never goes back");
    // A year ahead, by the clock everything is old; what is not durable stays all the same.
    append_client(&log, batch_of(99, 2, now, From::nobody()), now).unwrap();
    let kept = pass(now + YEAR);
    assert!(start < kept && kept <= 60, "{kept}");
    assert_eq!(read_all(&log).last().unwrap().header().next_offset(), 62);
    log.flush().unwrap();
    assert_eq!(pass(now + YEAR), 62);
}
