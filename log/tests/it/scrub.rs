//! A bit that rots in a cold segment is found by whoever looks for it, told once, and not served.

use std::path::Path;
use std::sync::Arc;

use flumen_log::disk::Disk;
use flumen_log::fault_disk::FaultDisk;
use flumen_log::{Log, OpenOptions, ReadError, ScrubPosition};
use flumen_protocol::batch::RecordBatch;

use crate::helpers::*;

const DIR: &str = "/data/orders-0";
const FIRST: &str = "/data/orders-0/00000000000000000000.log";

/// Some closed segments of single records, and one that is not closed.
fn written() -> (Arc<FaultDisk>, Log, Vec<RecordBatch>) {
    let disk = Arc::new(FaultDisk::new());
    let shared: Arc<dyn Disk> = disk.clone();
    let log = Log::open(
        shared,
        Path::new(DIR),
        small_config(),
        OpenOptions::default(),
    )
    .unwrap();
    for tag in 0..60 {
        append_client(&log, batch_of(tag, 1, 1_000, From::nobody()), 1_000).unwrap();
    }
    assert!(log.segment_count() > 4);
    let batches = read_all(&log);
    (disk, log, batches)
}

/// A pass in small steps: what it found, and how many bytes it read.
fn pass(log: &Log) -> (Vec<ReadError>, u64) {
    let (mut found, mut bytes, mut steps) = (Vec::new(), 0, 0);
    let mut at = Some(ScrubPosition::default());
    while let Some(from) = at {
        let step = log.scrub(from, 300).unwrap();
        found.extend(step.found);
        bytes += step.bytes;
        at = step.next;
        steps += 1;
        assert!(steps < 1_000, "it ends");
    }
    (found, bytes)
}

#[test]
fn a_whole_log_is_read_once_but_for_its_active_segment() {
    let (_disk, log, batches) = written();
    let (found, bytes) = pass(&log);
    assert!(found.is_empty());
    let active = log.active_segment_base_offset();
    let closed = batches
        .iter()
        .filter(|batch| batch.header().base_offset < active);
    assert_eq!(
        bytes,
        closed.map(|batch| batch.bytes().len() as u64).sum::<u64>()
    );
}

#[test]
fn a_flipped_bit_in_a_cold_segment_is_told_once_and_only_its_batch_is_refused() {
    let (_, whole, batches) = written();
    let (second, third) = (
        batches[0].bytes().len(),
        batches[0].bytes().len() + batches[1].bytes().len(),
    );
    drop(whole);
    // Not the length and the magic byte: behind them nobody knows where the next batch begins.
    let walkable = |at: &usize| !(8..12).contains(&(at - second)) && at - second != 16;
    for at in (second..third).filter(walkable) {
        let (disk, log, _) = written();
        disk.flip(Path::new(FIRST), at, 0x10).unwrap();
        let (found, _) = pass(&log);
        assert!(!found.is_empty(), "byte {at}");
        assert!(
            found
                .iter()
                .all(|error| matches!(error, ReadError::Corrupt { .. }))
        );
        assert!(pass(&log).0.is_empty(), "byte {at} is told again");
        assert!(
            matches!(
                log.read(1, 60, 1 << 20, true),
                Err(ReadError::Corrupt { .. })
            ),
            "byte {at}"
        );
        let before = log.read(0, 60, 1 << 20, true).unwrap();
        assert_eq!(before.next_offset, 1, "byte {at}: reads end before it");
        // Up to the next index entry a read comes past it, and does not know how far it reaches.
        let readable = (2..60).filter(|offset| log.read(*offset, 60, 1, true).is_ok());
        assert!(readable.count() > 50, "byte {at}");
    }
}

#[test]
fn behind_a_broken_length_the_rest_of_the_segment_is_refused() {
    let (disk, log, batches) = written();
    disk.flip(Path::new(FIRST), batches[0].bytes().len() + 10, 0x40)
        .unwrap();
    let (found, _) = pass(&log);
    assert_eq!(found.len(), 1, "{found:?}");
    let second = log.read(1, 60, 1 << 20, true).unwrap_err();
    assert!(second.to_string().contains("offsets 1 to "), "{second}");
    let next_segment = batches.iter().map(|batch| batch.header().base_offset);
    let readable = next_segment.filter(|offset| log.read(*offset, 60, 1, true).is_ok());
    assert!(readable.count() > 40);
}
