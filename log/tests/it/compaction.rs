//! Compaction from outside: what a cleaning leaves, and what happens to it and to the log meanwhile.

mod left;
mod model;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use flumen_log::config::CleanupPolicy;
use flumen_log::disk::{Disk, OpenMode};
use flumen_log::fault_disk::{Fault, FaultDisk, Kind};
use flumen_log::{CompactError, Compacted, CompactionOptions, Log, LogConfig, LogDir};
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::compression::{Compression, DecompressionLimit};
use flumen_protocol::id::Offset;

use crate::helpers::*;

pub(crate) fn compacted_config() -> LogConfig {
    LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        min_cleanable_dirty_ratio: 0.0,
        ..small_config()
    }
}

fn keyed(records: &[(&str, Option<&str>)], from: From, timestamp: i64) -> bytes::Bytes {
    let (producer_id, producer_epoch, base_sequence) = from.producer.unwrap_or((-1, -1, -1));
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: Compression::ALL[(timestamp % 5) as usize],
        producer_id,
        producer_epoch,
        base_sequence,
        transactional: from.transactional,
        ..BatchOptions::default()
    });
    for (key, value) in records {
        builder.push(
            timestamp,
            Some(key.as_bytes()),
            value.map(str::as_bytes),
            &[(b"h", Some(b"x"))],
        );
    }
    builder.build()
}

struct Opened {
    dir: LogDir,
    log: Arc<Log>,
}

fn open(disk: &Arc<dyn Disk>, path: &Path) -> Opened {
    let dir = LogDir::open(disk.clone(), path, &identity()).unwrap();
    let log = dir
        .open_log(&partition(), None, compacted_config())
        .unwrap();
    Opened { dir, log }
}

fn on_fault_disk() -> (Arc<FaultDisk>, Opened) {
    let disk = Arc::new(FaultDisk::new());
    let opened = open(&(disk.clone() as Arc<dyn Disk>), Path::new("/data"));
    (disk, opened)
}

impl Opened {
    fn put(&self, key: &str, value: Option<&str>) -> Offset {
        append_client(
            &self.log,
            keyed(&[(key, value)], From::nobody(), 1_000),
            1_000,
        )
        .unwrap()
        .base_offset
    }

    /// Many batches of few keys, in closed segments.
    fn fill(&self, batches: i64) {
        for i in 0..batches {
            self.put(&format!("k{}", i % 7), Some(&format!("v{i}")));
        }
        self.log.roll().unwrap();
        self.log.flush().unwrap();
    }

    fn bound(&self) -> Offset {
        self.log.last_stable_offset(self.log.flushed_offset())
    }

    /// One cleaning, if one is due. Between two steps `meanwhile` is called.
    fn clean_while(
        &self,
        (map_bytes, step_bytes, now_ms): (u64, u64, i64),
        mut meanwhile: impl FnMut(),
    ) -> Result<Option<Compacted>, CompactError> {
        let found = self.dir.dirty_logs(now_ms, |_, _| Some(self.bound()));
        let Some(dirty) = found.into_iter().find(|dirty| dirty.found.is_due) else {
            return Ok(None);
        };
        let options = CompactionOptions { map_bytes, now_ms };
        let Some(mut compaction) = self.dir.begin_compaction(&dirty, options).unwrap() else {
            return Ok(None);
        };
        loop {
            meanwhile();
            match self.log.compact_step(&mut compaction, step_bytes) {
                Ok(step) => {
                    if let Some(done) = step.done {
                        self.dir
                            .compaction_done(&dirty.partition, &dirty.log, &done)
                            .unwrap();
                        return Ok(Some(done));
                    }
                }
                Err(error) => {
                    self.log.abandon_compaction(compaction);
                    return Err(error);
                }
            }
        }
    }

    fn clean(&self, now_ms: i64) -> Option<Compacted> {
        self.clean_while((1 << 20, 500, now_ms), || {}).unwrap()
    }
}

fn records(log: &Log) -> Vec<(Offset, String, Option<String>)> {
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let mut all = Vec::new();
    for batch in read_all(log)
        .iter()
        .filter(|batch| !batch.header().is_control())
    {
        for record in batch.records(DecompressionLimit::DEFAULT).unwrap() {
            let record = record.unwrap();
            assert_eq!(record.headers.last("h"), Some(Some(&b"x"[..])));
            all.push((
                record.offset,
                text(record.key.unwrap()),
                record.value.map(text),
            ));
        }
    }
    all
}

fn names(disk: &FaultDisk) -> Vec<String> {
    let names = disk.list(Path::new("/data/orders-0")).unwrap();
    names.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn the_closed_segments_become_few_and_hold_each_key_once() {
    let (disk, opened) = on_fault_disk();
    opened.fill(100);
    let end = opened.log.log_end_offset();
    let before = opened.log.segment_count();
    let done = opened.clean(0).unwrap();
    assert_eq!(
        (
            done.clean_offset,
            done.segments_before,
            done.segments_after < before
        ),
        (end, before - 1, true)
    );
    assert!(done.bytes_after < done.bytes_before);
    let expected: Vec<_> = (93..100)
        .map(|i| (i, format!("k{}", i % 7), Some(format!("v{i}"))))
        .collect();
    assert_eq!(records(&opened.log), expected);
    assert_eq!(
        (opened.log.log_start_offset(), opened.log.log_end_offset()),
        (0, end)
    );
    assert_eq!(opened.clean(0), None, "it is clean");
    assert!(names(&disk).iter().all(|name| {
        ![".cleaned", ".swap", ".deleted"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
    }));
    for from in 0..=end {
        let slice = opened.log.read(from, end, 1 << 20, true).unwrap();
        assert_eq!(slice.records.is_some(), from < end, "from {from}");
        assert!(slice.next_offset > from || from == end);
    }
}

#[test]
fn more_keys_than_fit_the_memory_are_cleaned_part_by_part() {
    let (_disk, opened) = on_fault_disk();
    for round in 0..3 {
        for i in 0..40 {
            opened.put(&format!("k{i}"), Some(&round.to_string()));
        }
    }
    opened.log.roll().unwrap();
    opened.log.flush().unwrap();
    let mut cleanings = 0;
    let mut clean = 0;
    // Nine keys at a time.
    while let Some(done) = opened.clean_while((24 * 10, 300, 0), || {}).unwrap() {
        assert!(
            done.clean_offset > clean,
            "each goes on where the last one ended"
        );
        clean = done.clean_offset;
        cleanings += 1;
    }
    assert!(cleanings > 10, "{cleanings}");
    let left = records(&opened.log);
    assert_eq!(left.len(), 40);
    assert!(
        left.iter()
            .all(|(_, _, value)| value.as_deref() == Some("2"))
    );
}

#[test]
fn what_is_deleted_cut_off_or_closed_meanwhile_ends_a_cleaning_and_nothing_else() {
    for what in 0..3 {
        for at in 1..40 {
            let (disk, opened) = on_fault_disk();
            opened.fill(60);
            let mut step = 0;
            let before = records(&opened.log);
            let cleaned = opened.clean_while((1 << 20, 300, 0), || {
                step += 1;
                if step != at {
                    return;
                }
                match what {
                    0 => drop(opened.log.delete_segments_before(25).unwrap()),
                    1 => drop(opened.dir.truncate(&partition(), &opened.log, 30).unwrap()),
                    _ => opened.dir.close(1).unwrap(),
                }
            });
            let newest: BTreeMap<_, _> = before
                .iter()
                .map(|(at, key, value)| (key.clone(), (*at, value.clone())))
                .collect();
            let left: BTreeMap<_, _> = records(&opened.log)
                .into_iter()
                .map(|(at, key, value)| (key, (at, value)))
                .collect();
            if at <= step && what == 1 {
                // What was newest may be cut off, and older ones cleaned away: a leader never cuts what is replicated.
                assert!(left.iter().all(|(key, found)| before.contains(&(
                    found.0,
                    key.clone(),
                    found.1.clone()
                ))));
            } else {
                assert_eq!(left, newest, "{what} at {at}: {cleaned:?}");
            }
            drop(opened);
            let opened = open(&(disk.clone() as Arc<dyn Disk>), Path::new("/data"));
            let again: BTreeMap<_, _> = records(&opened.log)
                .into_iter()
                .map(|(at, key, value)| (key, (at, value)))
                .collect();
            assert_eq!(again, left);
            while opened.clean(0).is_some() {}
        }
    }
}

#[test]
fn a_batch_that_cannot_be_read_stops_the_cleaning_and_nothing_is_changed() {
    let (disk, opened) = on_fault_disk();
    opened.fill(60);
    let path = Path::new("/data/orders-0/00000000000000000000.log");
    disk.flip(path, 300, 1).unwrap();
    let before = names(&disk);
    let cleaned = opened.clean_while((1 << 20, 500, 0), || {});
    assert!(
        matches!(cleaned, Err(CompactError::Corrupt(_))),
        "{cleaned:?}"
    );
    disk.flip(path, 300, 1).unwrap();
    assert_eq!(
        before.iter().filter(|name| name.ends_with(".log")).count(),
        opened.log.segment_count()
    );
    assert_eq!(records(&opened.log).len(), 60);
    assert!(opened.clean(0).is_some());
}

#[test]
fn a_disk_without_room_loses_nothing_and_is_tried_again() {
    let mut refused = 0;
    for capacity in (1_000..24_000).step_by(500) {
        let (disk, opened) = on_fault_disk();
        opened.fill(60);
        opened.dir.checkpoint().unwrap();
        disk.set_capacity(Some(capacity));
        match opened.clean_while((1 << 20, 500, 0), || {}) {
            Err(CompactError::Storage(error)) => {
                assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
                refused += 1;
            }
            Ok(_) => {}
            Err(error) => panic!("{capacity}: {error}"),
        }
        assert!(opened.log.fenced().is_none(), "{capacity}");
        let newest = |left: Vec<(Offset, String, Option<String>)>| -> BTreeMap<_, _> {
            left.into_iter().map(|(at, key, _)| (key, at)).collect()
        };
        let keys = newest(records(&opened.log));
        assert_eq!(
            (keys.len(), keys.values().copied().min()),
            (7, Some(53)),
            "{capacity}"
        );
        disk.set_capacity(None);
        while opened.clean(0).is_some() {}
        assert_eq!(newest(records(&opened.log)), keys, "{capacity}");
        assert_eq!(records(&opened.log).len(), 7, "{capacity}");
    }
    assert!(refused > 0);
}

#[test]
fn a_sync_that_fails_fences_and_readers_read_on() {
    for kind in [Kind::Sync, Kind::SyncDir] {
        for coming in 1..4 {
            let (disk, opened) = on_fault_disk();
            opened.fill(60);
            opened.dir.checkpoint().unwrap();
            let newest = records(&opened.log).split_off(53);
            disk.fail_coming(kind, coming, Fault::Io);
            let cleaned = opened.clean_while((1 << 20, 500, 0), || {});
            assert!(
                matches!(cleaned, Err(CompactError::Fenced(_))) && opened.log.fenced().is_some(),
                "{kind:?} {coming}: {cleaned:?}"
            );
            assert!(records(&opened.log).ends_with(&newest), "{kind:?} {coming}");
            drop(opened);
            let opened = open(&(disk.clone() as Arc<dyn Disk>), Path::new("/data"));
            assert!(records(&opened.log).ends_with(&newest), "{kind:?} {coming}");
            while opened.clean(0).is_some() {}
            assert_eq!(records(&opened.log), newest, "{kind:?} {coming}");
        }
    }
}

/// What Apache Kafka may leave: its swap does not say which segments it replaces but by what is left in it.
#[test]
fn a_swap_of_another_hand_is_finished_or_taken_back() {
    for (suffix, finished) in [(".swap", true), (".cleaned", false)] {
        let (disk, opened) = on_fault_disk();
        opened.fill(30);
        let original = records(&opened.log);
        drop(opened);
        let shared: Arc<dyn Disk> = disk.clone();
        let (source, opened) = on_fault_disk();
        opened.fill(30);
        opened.clean(0).unwrap();
        let cleaned = records(&opened.log);
        let end = files(&*source, Path::new("/data/orders-0"), &[".log"])
            .into_keys()
            .nth(1)
            .unwrap();
        let end: Offset = end.trim_end_matches(".log").parse().unwrap();
        for (name, bytes) in files(
            &*source,
            Path::new("/data/orders-0"),
            &[".log", ".index", ".timeindex"],
        ) {
            if name.starts_with("00000000000000000000.") {
                let path = Path::new("/data/orders-0").join(format!("{name}{suffix}"));
                let file = shared.open(&path, OpenMode::Create).unwrap();
                file.write_at(&[std::io::IoSlice::new(&bytes)], 0).unwrap();
            }
        }
        let opened = open(&shared, Path::new("/data"));
        let expected: Vec<_> = match finished {
            true => {
                let below = cleaned.into_iter().filter(|(at, ..)| *at < end);
                below
                    .chain(original.into_iter().filter(|(at, ..)| *at >= end))
                    .collect()
            }
            false => original,
        };
        assert_eq!(records(&opened.log), expected, "{suffix}");
        assert!(!names(&disk).iter().any(|name| name.ends_with(suffix)));
    }
}
