//! One bit flipped in, or a piece cut off, each kind of file of a closed log: noticed, made anew or refused by name, never served as
//! something else, and never a reason to delete what is whole.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flumen_log::disk::{Disk, OpenMode};
use flumen_log::fault_disk::{Crash, FaultDisk};
use flumen_log::{Log, OpenError, ReadError};
use flumen_protocol::batch::{self, RecordBatch};
use flumen_protocol::id::Offset;

use crate::helpers::*;

/// A closed data directory with one log of several segments, transactions in it, and its start moved up.
struct Whole {
    disk: FaultDisk,
    batches: Vec<RecordBatch>,
    start: Offset,
}

fn whole() -> Whole {
    let disk = Arc::new(FaultDisk::new());
    let dir = open_dir(&(disk.clone() as Arc<dyn Disk>)).unwrap();
    let log = dir
        .open_log(&partition(), Some(topic_id()), small_config())
        .unwrap();
    for round in 0..12 {
        let plain = batch_of(round, 3, 1_000 + round as i64, From::nobody());
        append_client(&log, plain, 2_000).unwrap();
        let epoch = round as i16;
        let data = batch_of(50 + round, 2, 1_500, From::in_txn(7, epoch, 0));
        append_client(&log, data, 2_000).unwrap();
        let how = flumen_log::AppendAs::Marker {
            leader_epoch: 0,
            transaction_version: 2,
        };
        let end = marker(7, epoch + 1, round % 3 == 0, 1_600);
        log.append(end, &how, 2_000).unwrap();
    }
    let start = dir.delete_records(&partition(), &log, 4).unwrap();
    let batches = read_all(&log);
    dir.close(1).unwrap();
    drop((dir, log));
    Whole {
        disk: disk.after_crash(Crash::LoseUnsynced, 0),
        batches,
        start,
    }
}

impl Whole {
    /// A copy of it in which one file holds this.
    fn with(&self, path: &Path, bytes: &[u8]) -> Arc<dyn Disk> {
        let copy = self.disk.after_crash(Crash::KeepAll, 0);
        let file = copy.open(path, OpenMode::Write).unwrap();
        file.set_len(0).unwrap();
        file.write_at(&[IoSlice::new(bytes)], 0).unwrap();
        Arc::new(copy)
    }

    fn of_kind(&self, suffix: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let found: Vec<_> = self
            .disk
            .files()
            .into_iter()
            .filter(|(path, len)| path.to_str().unwrap().ends_with(suffix) && *len > 0)
            .map(|(path, _)| (path.clone(), contents(&self.disk, &path)))
            .collect();
        assert!(!found.is_empty(), "no {suffix}");
        found
    }

    /// Opens the directory after a clean stop (if `clean`) and calls `then` with the log. No segment may become shorter.
    fn start(
        &self,
        disk: &Arc<dyn Disk>,
        clean: bool,
        context: &str,
        then: impl FnOnce(Result<Arc<Log>, OpenError>),
    ) {
        if !clean {
            disk.remove_file(Path::new("/data/.kafka_cleanshutdown"))
                .unwrap();
        }
        let lengths = || {
            let logs = files(&**disk, Path::new("/data/orders-0"), &[".log"]);
            logs.into_values()
                .map(|bytes| bytes.len())
                .collect::<Vec<_>>()
        };
        let before = lengths();
        let dir = open_dir(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        then(dir.open_log(&partition(), Some(topic_id()), small_config()));
        assert_eq!(lengths(), before, "{context}");
    }

    /// All of the log is there, as it was.
    fn assert_whole(&self, log: &Log, context: &str) {
        assert!(log.log_start_offset() <= self.start, "{context}");
        let found: Vec<_> = read_range(log, self.start, log.log_end_offset());
        assert!(found == self.batches, "{context}");
        let aborted = log.aborted_transactions(self.start, log.log_end_offset());
        assert_eq!(aborted.unwrap().len(), 8, "{context}");
        assert_eq!(log.first_unstable_offset(), None, "{context}");
        let found = log
            .offset_for_timestamp(1_010, log.log_end_offset())
            .unwrap();
        assert!(
            found.is_some_and(|found| found.timestamp >= 1_010),
            "{context}"
        );
    }
}

/// Every bit of small files, some of large ones; and a piece cut off.
fn damages(bytes: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    let bits = 8 * bytes.len();
    let stride = match bits {
        ..1_500 => 1,
        // No multiple of it is a multiple of eight for long: all bits of a byte have their turn.
        _ => (bits / 300) | 1,
    };
    let flips = (0..bits).step_by(stride).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (format!("bit {} of byte {}", bit % 8, bit / 8), flipped)
    });
    let cuts = [0, 1, bytes.len() / 2, bytes.len() - 1];
    let cuts = cuts.map(|len| (format!("cut to {len}"), bytes[..len].to_vec()));
    flips.chain(cuts).collect::<Vec<_>>().into_iter()
}

#[test]
fn damaged_indexes_snapshots_and_epochs_are_caches_and_cost_nothing() {
    let whole = whole();
    for kind in [
        ".index",
        ".timeindex",
        ".snapshot",
        "leader-epoch-checkpoint",
    ] {
        for (path, bytes) in whole.of_kind(kind) {
            for (what, damaged) in damages(&bytes) {
                for clean in [true, false] {
                    let name = path.file_name().unwrap().to_str().unwrap();
                    let context = format!("{name}, {what}, clean: {clean}");
                    let disk = whole.with(&path, &damaged);
                    whole.start(&disk, clean, &context, |log| {
                        let log = log.unwrap_or_else(|error| panic!("{context}: {error}"));
                        whole.assert_whole(&log, &context);
                        let epochs = log.leader_epochs();
                        assert_eq!(epochs.latest(), Some(0), "{context}");
                    });
                }
            }
        }
    }
}

#[test]
fn a_damaged_index_of_aborted_transactions_does_not_commit_them() {
    let whole = whole();
    for (path, bytes) in whole.of_kind(".txnindex") {
        for (what, damaged) in damages(&bytes) {
            for clean in [true, false] {
                let context = format!("{}, {what}, clean: {clean}", path.display());
                let disk = whole.with(&path, &damaged);
                whole.start(&disk, clean, &context, |log| {
                    let log = log.unwrap_or_else(|error| panic!("{context}: {error}"));
                    whole.assert_whole(&log, &context);
                });
            }
        }
    }
}

#[test]
fn damaged_checkpoints_hide_nothing_and_delete_nothing() {
    let whole = whole();
    for kind in [
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
    ] {
        for (path, bytes) in whole.of_kind(kind) {
            for (what, damaged) in damages(&bytes) {
                for clean in [true, false] {
                    let context = format!("{kind}, {what}, clean: {clean}");
                    let disk = whole.with(&path, &damaged);
                    whole.start(&disk, clean, &context, |log| {
                        let log = log.unwrap_or_else(|error| panic!("{context}: {error}"));
                        whole.assert_whole(&log, &context);
                    });
                }
            }
        }
    }
}

#[test]
fn damaged_metadata_is_refused_by_name_or_written_anew() {
    let whole = whole();
    for (path, bytes) in whole.of_kind("partition.metadata") {
        for (what, damaged) in damages(&bytes) {
            let context = format!("partition.metadata, {what}");
            let disk = whole.with(&path, &damaged);
            whole.start(&disk, true, &context, |log| match log {
                Ok(log) => whole.assert_whole(&log, &context),
                Err(OpenError::Mismatch { path: named, .. }) => assert_eq!(named, path),
                Err(error) => panic!("{context}: {error}"),
            });
        }
    }
    for (path, bytes) in whole.of_kind("meta.properties") {
        for (what, damaged) in damages(&bytes) {
            let disk = whole.with(&path, &damaged);
            match open_dir(&disk) {
                // The names of cluster and directory have nothing to be compared with.
                Ok(dir) => assert_eq!(dir.identity().node_id, identity().node_id, "{what}"),
                Err(OpenError::Mismatch { path: named, .. }) => assert_eq!(named, path),
                Err(error) => panic!("meta.properties, {what}: {error}"),
            }
        }
    }
}

#[test]
fn a_damaged_batch_is_never_served_as_another_one() {
    let whole = whole();
    let mut refused = 0;
    for (path, bytes) in whole.of_kind(".log") {
        for (what, damaged) in damages(&bytes) {
            if damaged.len() < bytes.len() {
                continue;
            }
            let context = format!("{}, {what}", path.display());
            let disk = whole.with(&path, &damaged);
            whole.start(&disk, true, &context, |log| match log {
                Ok(log) => refused += assert_nothing_wrong_is_served(&whole, &log, &context),
                Err(OpenError::Corrupt { file, .. }) => {
                    assert_eq!(file, path);
                    refused += 1;
                }
                Err(error) => panic!("{context}: {error}"),
            });
        }
    }
    assert!(refused > 50, "{refused}");
}

/// Reads batch by batch, as whoever asks for each offset would. A batch whose CRC tells is for the reader to refuse; where no CRC
/// looks, the log must tell. Returns the number of batches that were refused.
fn assert_nothing_wrong_is_served(whole: &Whole, log: &Log, context: &str) -> usize {
    let mut refused = 0;
    for expected in &whole.batches {
        let header = expected.header();
        let from = header.base_offset.max(whole.start);
        match log.read(from, header.next_offset(), 1, true) {
            Err(ReadError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("{context}: {error}"),
            Ok(slice) => {
                let bytes = slice.records.map(|range| range.read().unwrap());
                let found = batch::batches(bytes.unwrap_or_default()).next();
                match found.and_then(Result::ok) {
                    Some(found) if found.verify_crc().is_ok() => {
                        let mut header = *found.header();
                        // Nothing in the log tells a wrong epoch from a right one; the scrubber compares it with the checkpoint.
                        header.partition_leader_epoch = 0;
                        assert_eq!(header, *expected.header(), "{context}");
                    }
                    _ => refused += 1,
                }
            }
        }
    }
    refused
}
