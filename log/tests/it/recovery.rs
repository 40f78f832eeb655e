//! What an unclean stop leaves: torn tails in every shape, damage that is none, indexes that are missing or wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flumen_log::disk::OsDisk;
use flumen_log::{Log, OpenError, OpenOptions};
use flumen_protocol::batch::RecordBatch;

use crate::helpers::*;

const FIRST: &str = "00000000000000000000.log";

/// A closed log of `count` batches in a directory of its own.
fn written(count: u64) -> (tempfile::TempDir, PathBuf, Vec<RecordBatch>) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("torn-0");
    let log = open(&dir, OpenOptions::default()).unwrap();
    for tag in 0..count {
        append_client(
            &log,
            batch_of(
                tag,
                3,
                1_000 + tag as i64,
                From::producer(5, 0, 3 * tag as i32),
            ),
            2_000,
        )
        .unwrap();
    }
    log.close().unwrap();
    let batches = read_all(&log);
    (home, dir, batches)
}

fn open(dir: &Path, options: OpenOptions) -> Result<Log, OpenError> {
    Log::open(Arc::new(OsDisk::new()), dir, small_config(), options)
}

fn after_crash(recovery_point: i64) -> OpenOptions {
    OpenOptions {
        recovery_point: Some(recovery_point),
        ..OpenOptions::default()
    }
}

fn clean() -> OpenOptions {
    OpenOptions {
        clean: true,
        ..OpenOptions::default()
    }
}

/// The last segment's file and its bytes.
fn last_segment(dir: &Path) -> (PathBuf, Vec<u8>) {
    let all = files(&OsDisk::new(), dir, &[".log"]);
    let (name, bytes) = all.last_key_value().unwrap();
    (dir.join(name), bytes.clone())
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_log_goes_on() {
    let (_home, dir, batches) = written(3);
    let (path, whole) = last_segment(&dir);
    let last = batches.last().unwrap().bytes().len();
    for cut in whole.len() - last..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let log = open(&dir, after_crash(0)).unwrap();
        assert_eq!(read_all(&log), batches[..2], "cut at {cut}");
        assert_eq!(
            std::fs::metadata(&path).unwrap().len() as usize,
            whole.len() - last
        );
        let again =
            append_client(&log, batch_of(2, 3, 1_002, From::producer(5, 0, 6)), 2_000).unwrap();
        assert_eq!((again.base_offset, again.duplicate), (6, false));
    }
}

#[test]
fn zeros_or_garbage_behind_the_tail_are_cut() {
    let (_home, dir, batches) = written(3);
    let (path, whole) = last_segment(&dir);
    let stale = whole[..batches[0].bytes().len()].to_vec();
    for tail in [
        vec![0; 1],
        vec![0; 5_000],
        vec![0xff; 100],
        stale,
        whole[20..].to_vec(),
    ] {
        let mut longer = whole.clone();
        longer.extend_from_slice(&tail);
        std::fs::write(&path, &longer).unwrap();
        let log = open(&dir, after_crash(0)).unwrap();
        assert_eq!(read_all(&log), batches);
        assert_eq!(
            std::fs::metadata(&path).unwrap().len() as usize,
            whole.len()
        );
    }
}

#[test]
fn a_flipped_bit_above_the_recovery_point_cuts_and_below_it_refuses() {
    let (_home, dir, batches) = written(3);
    let (path, whole) = last_segment(&dir);
    let second = batches[0].bytes().len();
    let third = second + batches[1].bytes().len();
    // The recovery point is the log's end: all was durable. Only headers are read there.
    for at in [third + 10, third + 16] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        std::fs::write(&path, &damaged).unwrap();
        let refused = open(&dir, after_crash(9)).unwrap_err();
        assert!(
            matches!(
                refused,
                OpenError::Corrupt {
                    recovery_point: 9,
                    ..
                }
            ),
            "{refused}"
        );
    }
    for at in third + 17..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        std::fs::write(&path, &damaged).unwrap();
        let refused = open(&dir, after_crash(7)).unwrap_err();
        assert!(
            matches!(
                refused,
                OpenError::Corrupt {
                    offset: 6,
                    recovery_point: 7,
                    ..
                }
            ),
            "byte {at}: {refused}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "nothing is cut");
        let log = open(&dir, after_crash(6)).unwrap();
        assert_eq!(read_all(&log), batches[..2]);
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_log_that_ends_below_its_recovery_point_is_refused() {
    let (_home, dir, batches) = written(3);
    let (path, whole) = last_segment(&dir);
    std::fs::write(&path, &whole[..whole.len() - batches[2].bytes().len()]).unwrap();
    assert!(matches!(
        open(&dir, after_crash(9)),
        Err(OpenError::Corrupt {
            offset: 6,
            recovery_point: 9,
            ..
        })
    ));
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(matches!(
        open(&dir, after_crash(9)),
        Err(OpenError::Corrupt {
            offset: 0,
            recovery_point: 9,
            ..
        })
    ));
}

#[test]
fn without_a_recovery_point_damage_in_an_old_segment_is_not_taken_for_a_torn_tail() {
    let (_home, dir, batches) = written(40);
    assert!(files(&OsDisk::new(), &dir, &[".log"]).len() > 2);
    let path = dir.join(FIRST);
    let mut damaged = std::fs::read(&path).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    assert!(matches!(
        open(&dir, OpenOptions::default()),
        Err(OpenError::Corrupt { .. })
    ));
    // With one, all behind it was never acknowledged.
    let log = open(&dir, after_crash(0)).unwrap();
    let left = read_all(&log);
    assert_eq!(left, batches[..left.len()]);
    assert!(!left.is_empty() && left.len() < batches.len());
}

/// What becomes of a file; `None` if it goes.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

#[test]
fn missing_and_corrupt_indexes_are_made_anew_with_the_same_bytes() {
    let suffixes = [".index", ".timeindex"];
    let (_home, dir, batches) = written(40);
    let good = files(&OsDisk::new(), &dir, &suffixes);
    assert!(good.values().filter(|bytes| !bytes.is_empty()).count() > 4);
    let damages: [(&str, Damage); 4] = [
        ("missing", |_| None),
        ("empty", |_| Some(Vec::new())),
        ("garbage", |bytes| Some(vec![0xff; bytes.len()])),
        ("zeros to full length", |bytes| {
            Some([bytes, &vec![0; 4_096 - bytes.len()][..]].concat())
        }),
    ];
    for (what, damage) in damages {
        for (options, how) in [
            (clean(), "clean"),
            (after_crash(0), "scanned"),
            (after_crash(60), "scanned in part"),
        ] {
            for (name, bytes) in &good {
                let _ = std::fs::remove_file(dir.join(name));
                if let Some(damaged) = damage(bytes) {
                    std::fs::write(dir.join(name), damaged).unwrap();
                }
            }
            let log = open(&dir, options).unwrap();
            assert_eq!(read_all(&log), batches, "{what}, {how}");
            log.close().unwrap();
            let rebuilt = files(&OsDisk::new(), &dir, &suffixes);
            for (name, bytes) in &good {
                assert!(rebuilt[name] == *bytes, "{what}, {how}: {name} differs");
            }
        }
    }
}

#[test]
fn index_entries_behind_the_recovery_point_are_not_believed() {
    let (_home, dir, batches) = written(40);
    let index = dir.join(FIRST.replace(".log", ".index"));
    let good = std::fs::read(&index).unwrap();
    let last: [u8; 8] = *good.last_chunk().unwrap();
    let [mut offset, mut position] = [0, 4].map(|at| {
        let bytes = last[at..at + 4].try_into().unwrap();
        u32::from_be_bytes(bytes)
    });
    // Entries that look right, for batches that a crash took: written back by the system before the batches were.
    let mut ahead = good.clone();
    for _ in 0..5 {
        (offset, position) = (offset + 3, position + 400);
        ahead.extend_from_slice(&offset.to_be_bytes());
        ahead.extend_from_slice(&position.to_be_bytes());
    }
    std::fs::write(&index, &ahead).unwrap();
    let log = open(&dir, after_crash(0)).unwrap();
    assert_eq!(read_all(&log), batches);
    log.close().unwrap();
    assert!(std::fs::read(&index).unwrap() == good);
}

#[test]
fn reads_do_not_believe_an_index_that_rotted_in_the_middle() {
    let (_home, dir, batches) = written(40);
    let good = files(&OsDisk::new(), &dir, &[".index"]);
    for (name, bytes) in good.iter().filter(|(_, bytes)| bytes.len() > 8) {
        for at in 0..bytes.len() - 8 {
            for mask in [0x01, 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                std::fs::write(dir.join(name), &damaged).unwrap();
                let log = open(&dir, clean()).unwrap();
                for batch in &batches {
                    let header = batch.header();
                    let found = read_range(&log, header.base_offset, header.next_offset());
                    assert_eq!(
                        found,
                        std::slice::from_ref(batch),
                        "{name} byte {at} ^ {mask:#x}"
                    );
                }
            }
        }
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

#[test]
fn a_damaged_snapshot_gives_way_to_an_older_one_and_to_the_log_itself() {
    let (_home, dir, _) = written(40);
    let snapshots = files(&OsDisk::new(), &dir, &[".snapshot"]);
    assert!(snapshots.len() > 2);
    for name in snapshots.keys().rev() {
        std::fs::write(dir.join(name), b"damaged").unwrap();
        let log = open(&dir, clean()).unwrap();
        for tag in [36, 39] {
            let repeat = append_client(
                &log,
                batch_of(
                    tag,
                    3,
                    1_000 + tag as i64,
                    From::producer(5, 0, 3 * tag as i32),
                ),
                2_000,
            )
            .unwrap();
            assert_eq!(
                (repeat.duplicate, repeat.base_offset),
                (true, 3 * tag as i64)
            );
        }
    }
}

#[test]
fn names_that_do_not_belong_are_left_alone_and_leftovers_go() {
    let (_home, dir, batches) = written(3);
    for name in [
        "00000000000000000777.index",
        "00000000000000000777.log.deleted",
        "leader-epoch-checkpoint.tmp",
        "notes.txt",
        "00000000000000000001.log.cleaned",
    ] {
        std::fs::write(dir.join(name), b"x").unwrap();
    }
    let log = open(&dir, clean()).unwrap();
    assert_eq!(read_all(&log), batches);
    let mut left: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let expected = [
        FIRST,
        "00000000000000000000.index",
        "00000000000000000000.timeindex",
        "00000000000000000009.snapshot",
        "leader-epoch-checkpoint",
        "leader-epoch-checkpoint.crc32c",
        "notes.txt",
    ];
    let mut expected: Vec<_> = expected.map(str::to_owned).into();
    expected.sort();
    assert_eq!(left, expected);
    // Nothing takes the place of a log that is not whole itself.
    let swap = dir.join("00000000000000000000.log.swap");
    std::fs::write(&swap, b"x").unwrap();
    assert!(open(&dir, clean()).is_err_and(|error| error.is_damage()));
    std::fs::remove_file(swap).unwrap();
    assert_eq!(read_all(&open(&dir, clean()).unwrap()), batches);
}

#[test]
fn all_five_batches_of_a_producer_are_known_after_a_restart() {
    let (_home, dir, _) = written(40);
    for options in [clean(), after_crash(120), after_crash(0)] {
        let log = open(&dir, options).unwrap();
        for tag in 35..40 {
            let timestamp = 1_000 + tag as i64;
            let repeat = batch_of(tag, 3, timestamp, From::producer(5, 0, 3 * tag as i32));
            let repeat = append_client(&log, repeat, 2_000).unwrap();
            assert_eq!(
                (repeat.duplicate, repeat.base_offset),
                (true, 3 * tag as i64)
            );
        }
        let older = batch_of(34, 3, 1_034, From::producer(5, 0, 3 * 34));
        assert!(append_client(&log, older, 2_000).is_err());
    }
}
