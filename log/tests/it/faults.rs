//! The disk says no: full, short, broken. The log undoes what it can, fences itself where it cannot, and never answers success.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flumen_log::disk::{DirEntry, Dirty, Disk, DiskFile, DiskLock, OpenMode};
use flumen_log::fault_disk::{Crash, Fault, FaultDisk};
use flumen_log::{AppendAs, AppendError, FlushError, Log, OpenOptions, flush_many};
use flumen_protocol::id::TopicPartition;

use crate::helpers::*;

const DIR: &str = "/data/orders-0";

fn open(disk: &Arc<FaultDisk>, options: OpenOptions) -> Log {
    let disk: Arc<dyn Disk> = disk.clone();
    Log::open(disk, Path::new(DIR), small_config(), options).unwrap()
}

fn append(log: &Log, tag: u64) -> Result<flumen_log::Appended, AppendError> {
    append_client(log, batch_of(tag, 2, 1_000, From::nobody()), 1_000)
}

#[test]
fn a_full_disk_refuses_appends_loses_nothing_and_takes_more_when_there_is_room() {
    for capacity in (300..700).chain((700..3_000).step_by(7)) {
        let disk = Arc::new(FaultDisk::new());
        let log = open(&disk, OpenOptions::default());
        disk.set_capacity(Some(capacity));
        let mut written = Vec::new();
        let mut refused = 0;
        for tag in 0..30 {
            match append(&log, tag) {
                Ok(appended) => written.push((appended.base_offset, tag)),
                Err(AppendError::Storage(error)) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                    refused += 1;
                }
                Err(error) => panic!("capacity {capacity}: {error}"),
            }
        }
        // There is no room for a snapshot, which costs a later start some reading.
        let _ = log.checkpoint();
        assert!(refused > 0 && log.fenced().is_none(), "capacity {capacity}");
        assert_eq!(log.flush().unwrap(), log.log_end_offset());
        assert_eq!(read_all(&log).len(), written.len());
        disk.set_capacity(None);
        let later = append(&log, 99).unwrap();
        assert_eq!(later.base_offset, 2 * written.len() as i64);
        log.flush().unwrap();
        let left = Arc::new(disk.after_crash(Crash::LoseUnsynced, 0));
        let log = open(
            &left,
            OpenOptions {
                recovery_point: Some(0),
                ..OpenOptions::default()
            },
        );
        assert_eq!(
            read_all(&log).len(),
            written.len() + 1,
            "capacity {capacity}"
        );
    }
}

#[test]
fn short_writes_are_finished() {
    for len in [1, 60, 61, 62, 100] {
        let disk = Arc::new(FaultDisk::new());
        let log = open(&disk, OpenOptions::default());
        append(&log, 0).unwrap();
        for i in 1..4 {
            disk.fail_at(disk.ops() + i, Fault::ShortWrite(len));
        }
        append(&log, 1).unwrap();
        assert_eq!(read_all(&log).len(), 2);
    }
}

#[test]
fn a_failed_write_is_undone_and_one_that_cannot_be_undone_fences() {
    let disk = Arc::new(FaultDisk::new());
    let log = open(&disk, OpenOptions::default());
    append(&log, 0).unwrap();
    disk.fail_at(disk.ops() + 1, Fault::ShortWrite(30));
    disk.fail_at(disk.ops() + 2, Fault::Io);
    assert!(matches!(append(&log, 1), Err(AppendError::Storage(_))));
    assert_eq!(append(&log, 2).unwrap().base_offset, 2);
    disk.fail_at(disk.ops() + 1, Fault::Io);
    disk.fail_at(disk.ops() + 2, Fault::Io);
    assert!(matches!(append(&log, 3), Err(AppendError::Fenced(_))));
    assert!(matches!(append(&log, 4), Err(AppendError::Fenced(_))));
    assert!(matches!(log.flush(), Err(FlushError::Fenced(_))));
    assert_eq!(read_all(&log).len(), 2);
}

#[test]
fn what_was_undone_does_not_come_back_to_cut_off_the_segments_behind_it() {
    for how in Crash::ALL {
        for seed in 0..16 {
            let disk = Arc::new(FaultDisk::new());
            let log = open(&disk, OpenOptions::default());
            append(&log, 0).unwrap();
            log.flush().unwrap();
            disk.fail_at(disk.ops() + 1, Fault::ShortWrite(30));
            disk.fail_at(disk.ops() + 2, Fault::Io);
            append(&log, 1).unwrap_err();
            log.roll().unwrap();
            append(&log, 2).unwrap();
            let durable = log.flush().unwrap();
            let left = Arc::new(disk.after_crash(how, seed));
            let options = OpenOptions {
                recovery_point: Some(0),
                ..OpenOptions::default()
            };
            let log = open(&left, options);
            assert_eq!(log.log_end_offset(), durable, "{how:?}, seed {seed}");
        }
    }
}

#[test]
fn a_failed_sync_fences_for_good_and_nothing_after_it_is_called_durable() {
    // Syncs of the file, of the directory, and of the directory above it.
    for nth in 1..=3 {
        let disk = Arc::new(FaultDisk::new());
        let log = open(&disk, OpenOptions::default());
        append(&log, 0).unwrap();
        disk.fail_at(disk.ops() + nth, Fault::Io);
        assert!(
            matches!(log.flush(), Err(FlushError::Failed { .. })),
            "sync {nth}"
        );
        assert_eq!(log.flushed_offset(), 0);
        // The disk would call the next one a success.
        for _ in 0..2 {
            assert!(matches!(log.flush(), Err(FlushError::Fenced(_))));
            assert!(matches!(log.checkpoint(), Err(FlushError::Fenced(_))));
            assert!(matches!(log.close(), Err(FlushError::Fenced(_))));
            assert!(matches!(append(&log, 1), Err(AppendError::Fenced(_))));
            assert!(matches!(log.truncate_to(0), Err(FlushError::Fenced(_))));
        }
        assert_eq!(read_all(&log).len(), 1, "reads go on");
        assert!(log.fenced().unwrap().to_string().contains("fenced"));
    }
}

#[test]
fn an_error_at_any_operation_never_makes_a_success_that_is_not_one() {
    let workload = |disk: &Arc<FaultDisk>| {
        let shared: Arc<dyn Disk> = disk.clone();
        let log = Log::open(
            shared,
            Path::new(DIR),
            small_config(),
            OpenOptions::default(),
        )
        .ok()?;
        let mut durable = 0;
        for tag in 0..16 {
            let _ = append(&log, tag);
            if tag % 3 == 2
                && let Ok(end) = log.flush()
            {
                durable = end;
            }
            if tag % 7 == 6 {
                let _ = log.checkpoint();
            }
        }
        Some(durable)
    };
    let disk = Arc::new(FaultDisk::new());
    assert!(workload(&disk).unwrap() > 20);
    for op in 1..=disk.ops() {
        for fault in [Fault::Io, Fault::NoSpace] {
            let disk = Arc::new(FaultDisk::new());
            disk.fail_at(op, fault);
            let Some(durable) = workload(&disk) else {
                continue;
            };
            for how in Crash::ALL {
                let left = Arc::new(disk.after_crash(how, op));
                let log = open(
                    &left,
                    OpenOptions {
                        recovery_point: Some(0),
                        ..OpenOptions::default()
                    },
                );
                let end = read_all(&log)
                    .last()
                    .map_or(0, |last| last.header().next_offset());
                assert!(
                    end >= durable,
                    "{fault:?} at {op}, {how:?}: {durable} was durable, {end} is left"
                );
            }
        }
    }
}

#[test]
fn many_logs_are_flushed_in_one_round_and_only_the_one_that_fails_is_fenced() {
    let disk = Arc::new(FaultDisk::new());
    let logs: Vec<_> = (0..5)
        .map(|i| {
            let shared: Arc<dyn Disk> = disk.clone();
            let log = Log::open(
                shared,
                Path::new(&format!("/data/orders-{i}")),
                small_config(),
                OpenOptions::default(),
            )
            .unwrap();
            append(&log, i).unwrap();
            log.flush().unwrap();
            append(&log, 10 + i).unwrap();
            Arc::new(log)
        })
        .collect();
    disk.fail_at(disk.ops() + 3, Fault::Io);
    let twice: Vec<_> = logs.iter().chain(&logs[..2]).cloned().collect();
    let results = flush_many(&twice);
    for (i, result) in results.iter().enumerate() {
        assert_eq!(result.is_err(), i == 2, "log {i}: {result:?}");
    }
    let durable: Vec<_> = logs.iter().map(|log| log.flushed_offset()).collect();
    assert_eq!(durable, [4, 4, 2, 4, 4]);
    assert!(
        logs.iter()
            .enumerate()
            .all(|(i, log)| log.fenced().is_some() == (i == 2))
    );
}

#[test]
fn an_index_without_room_is_left_out_and_the_log_is_still_found() {
    let disk = Arc::new(FaultDisk::new());
    let log = open(&disk, OpenOptions::default());
    let mut tag = 0;
    // Every other operation fails for lack of space: often enough it is the index.
    while log.segment_count() < 4 {
        tag += 1;
        if tag % 2 == 0 {
            disk.fail_at(disk.ops() + 2, Fault::NoSpace);
        }
        let _ = append(&log, tag);
        assert!(tag < 500 && log.fenced().is_none());
    }
    let all = read_all(&log);
    for batch in &all {
        assert_eq!(
            read_range(
                &log,
                batch.header().base_offset,
                batch.header().next_offset()
            )
            .len(),
            1
        );
    }
}

#[test]
fn a_stop_that_could_not_write_everything_is_not_called_clean() {
    let start = |disk: &Arc<FaultDisk>| {
        let shared: Arc<dyn Disk> = disk.clone();
        let dir = open_dir(&shared).unwrap();
        let log = dir
            .open_log(&partition(), Some(topic_id()), small_config())
            .unwrap();
        (dir, log)
    };
    let before_stop = |disk: &Arc<FaultDisk>| {
        let (dir, log) = start(disk);
        for epoch in 0..6 {
            let data = batch_of(epoch as u64, 2, 1_000, From::in_txn(7, epoch, 0));
            append_client(&log, data, 1_000).unwrap();
            let how = AppendAs::Marker {
                leader_epoch: i32::from(epoch),
                transaction_version: 2,
            };
            log.append(marker(7, epoch + 1, false, 1_000), &how, 1_000)
                .unwrap();
        }
        log.flush().unwrap();
        dir
    };
    let disk = Arc::new(FaultDisk::new());
    let dir = before_stop(&disk);
    let first = disk.ops() + 1;
    dir.close(1).unwrap();
    for op in first..=disk.ops() {
        for fault in [Fault::Io, Fault::NoSpace] {
            let disk = Arc::new(FaultDisk::new());
            let dir = before_stop(&disk);
            disk.fail_at(op, fault);
            let _ = dir.close(1);
            drop(dir);
            let (_, log) = start(&disk);
            let aborted = log.aborted_transactions(0, log.log_end_offset()).unwrap();
            assert_eq!(aborted.len(), 6, "{fault:?} at {op}");
            assert_eq!(log.latest_epoch(), Some(5), "{fault:?} at {op}");
        }
    }
}

#[test]
fn many_logs_are_checkpointed_with_the_syncs_of_all_at_once() {
    const LOGS: usize = 100;
    let disk = Arc::new(Counting {
        disk: FaultDisk::new(),
        rounds: AtomicUsize::new(0),
    });
    let shared: Arc<dyn Disk> = disk.clone();
    let dir = open_dir(&shared).unwrap();
    for i in 0..LOGS {
        let name = TopicPartition::new("many", i as i32);
        let log = dir.open_log(&name, None, small_config()).unwrap();
        append(&log, i as u64).unwrap();
    }
    let before = disk.rounds.load(Ordering::Relaxed);
    dir.close(1).unwrap();
    let rounds = disk.rounds.load(Ordering::Relaxed) - before;
    assert!(rounds < 30, "{rounds} rounds of syncs for {LOGS} logs");
    let left: Arc<dyn Disk> = Arc::new(disk.disk.after_crash(Crash::LoseUnsynced, 0));
    assert_eq!(open_dir(&left).unwrap().clean_stop(), Some(1));
}

/// Counts the rounds of syncs that somebody has to wait for one after the other.
#[derive(Debug)]
struct Counting {
    disk: FaultDisk,
    rounds: AtomicUsize,
}

impl Disk for Counting {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path, mode)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }

    fn flush_many(&self, dirty: &[Dirty]) -> Vec<io::Result<()>> {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.disk.flush_many(dirty)
    }
}
