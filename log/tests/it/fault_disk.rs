//! The disk that fails on purpose keeps to what it says: tests that lean on it would prove nothing else.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use flumen_log::disk::{Disk, DiskFile, OpenMode};
use flumen_log::fault_disk::{Crash, Fault, FaultDisk, Kind};

use crate::helpers::contents;

fn create(disk: &FaultDisk, path: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let path = Path::new(path);
    disk.create_dir(path.parent().unwrap()).unwrap();
    let file = disk.open(path, OpenMode::Create).unwrap();
    write(&*file, bytes, 0);
    file
}

fn write(file: &dyn DiskFile, bytes: &[u8], at: u64) {
    assert_eq!(
        file.write_at(&[IoSlice::new(bytes)], at).unwrap(),
        bytes.len()
    );
}

/// A disk with a file of 4 KiB of ones that is durable with its name.
fn settled() -> (FaultDisk, Arc<dyn DiskFile>) {
    let disk = FaultDisk::new();
    let file = create(&disk, "/d/f", &[1; 4096]);
    file.sync_data().unwrap();
    for dir in ["/", "/d"] {
        disk.sync_dir(Path::new(dir)).unwrap();
    }
    (disk, file)
}

const FILE: &str = "/d/f";

#[test]
fn each_way_of_losing_power_leaves_what_it_says() {
    let (disk, file) = settled();
    write(&*file, &[2; 3000], 2048);
    let left = |how, seed| contents(&disk.after_crash(how, seed), Path::new(FILE));
    let with = |middle: u8, len: usize| {
        let mut bytes = [vec![1; 2048], vec![middle; 3000]].concat();
        bytes.resize(len, 0);
        bytes
    };
    assert_eq!(left(Crash::LoseUnsynced, 0), [1; 4096]);
    assert_eq!(left(Crash::KeepAll, 0), with(2, 5048));
    assert_eq!(left(Crash::ZeroFill, 0), with(0, 5048));
    assert_eq!(left(Crash::LoseLength, 0), with(2, 4096));
    assert_eq!(left(Crash::LengthAhead, 0), with(2, 8192));
    let stale = left(Crash::Stale, 3);
    assert!(stale.len() == 5048 && stale[2048..].iter().all(|byte| [1, 0xa5].contains(byte)));
    let torn: Vec<_> = (0..50).map(|seed| left(Crash::Tear, seed)).collect();
    let sectors = |bytes: &[u8]| {
        assert!(
            bytes[2048..]
                .chunks(512)
                .all(|sector| sector.windows(2).all(|two| two[0] == two[1]))
        );
        bytes.len()
    };
    assert!(
        torn.iter()
            .any(|bytes| sectors(bytes) == 4096 && bytes[2048] == 2)
    );
    assert!(
        torn.iter()
            .any(|bytes| sectors(bytes) == 5048 && bytes[2048] == 1)
    );
    assert_eq!(
        torn,
        (0..50)
            .map(|seed| left(Crash::Tear, seed))
            .collect::<Vec<_>>()
    );
    let counted = disk
        .after_crash(Crash::ZeroFill, 0)
        .after_crash(Crash::Tear, 0)
        .injected();
    assert_eq!(
        (counted.crashes, counted.zeroed_writes, counted.torn_writes),
        (2, 1, 0)
    );
}

#[test]
fn a_rename_may_land_without_its_data_and_the_data_without_its_name() {
    let (disk, _) = settled();
    let file = create(&disk, "/d/f.tmp", b"new");
    disk.rename(Path::new("/d/f.tmp"), Path::new(FILE)).unwrap();
    let left = |how| contents(&disk.after_crash(how, 0), Path::new(FILE));
    assert_eq!(left(Crash::LoseLength), b"");
    assert_eq!(left(Crash::ZeroFill), [0; 3]);
    file.sync_data().unwrap();
    assert_eq!(left(Crash::LoseUnsynced), [1; 4096]);
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(left(Crash::LoseUnsynced), b"new");
}

#[test]
fn a_failed_sync_drops_what_was_dirty_and_the_next_one_succeeds() {
    let (disk, file) = settled();
    write(&*file, b"lost", 0);
    disk.fail_coming(Kind::Sync, 1, Fault::Io);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(
        contents(&disk, Path::new(FILE))[..4],
        *b"lost",
        "it can be read"
    );
    assert_eq!(
        contents(&disk.after_crash(Crash::KeepAll, 0), Path::new(FILE)),
        [1; 4096]
    );
    create(&disk, "/d/g", b"");
    disk.fail_coming(Kind::SyncDir, 1, Fault::Io);
    assert!(disk.sync_dir(Path::new("/d")).is_err());
    disk.sync_dir(Path::new("/d")).unwrap();
    let left = disk.after_crash(Crash::KeepAll, 0);
    assert!(left.open(Path::new("/d/g"), OpenMode::Read).is_err());
    assert_eq!(left.injected().failed_syncs, 2);
}

#[test]
fn the_nth_coming_operation_of_a_kind_fails_once() {
    let (disk, file) = settled();
    disk.fail_coming(Kind::Write, 2, Fault::ShortWrite(1));
    disk.fail_coming(Kind::Read, 1, Fault::Io);
    disk.fail_coming(Kind::Rename, 1, Fault::NoSpace);
    let two = || file.write_at(&[IoSlice::new(b"ab")], 0).unwrap();
    assert_eq!([two(), two(), two()], [2, 1, 2]);
    let mut buf = [0; 2];
    assert!(file.read_at(&mut buf, 0).is_err());
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 2);
    disk.forget_faults();
    disk.rename(Path::new(FILE), Path::new("/d/g")).unwrap();
    let counted = disk.injected();
    assert_eq!(
        (
            counted.short_writes,
            counted.failed_reads,
            counted.refused_for_space
        ),
        (1, 1, 0)
    );
}

#[test]
fn what_is_removed_gives_its_space_back_once_nobody_has_it_open() {
    let (disk, file) = settled();
    disk.set_capacity(Some(5_000));
    assert_eq!(
        file.write_at(&[IoSlice::new(&[3; 2_000])], 4096).unwrap(),
        904
    );
    let full = file.write_at(&[IoSlice::new(&[3; 10])], 5_000).unwrap_err();
    assert_eq!((full.kind(), disk.used()), (ErrorKind::StorageFull, 5_000));
    disk.remove_dir(Path::new("/d")).unwrap();
    assert_eq!(disk.used(), 5_000);
    drop(file);
    assert_eq!(disk.used(), 0);
    assert_eq!(disk.files(), []);
    let back = disk.after_crash(Crash::LoseUnsynced, 0);
    assert_eq!(
        (back.used(), back.files()),
        (4096, vec![(FILE.into(), 4096)])
    );
}

#[test]
fn a_copy_of_a_large_disk_costs_no_copy_of_its_bytes() {
    let disk = FaultDisk::new();
    // Sixteen index files of the size that a default broker gives them: mostly holes.
    let files: Vec<_> = (0..16)
        .map(|i| create(&disk, &format!("/d/{i}"), b"entry"))
        .collect();
    for file in &files {
        file.set_len(10 << 20).unwrap();
        assert_eq!(file.map(10 << 20).unwrap().bytes()[..5], *b"entry");
    }
    let mut disk = disk.after_crash(Crash::KeepAll, 0);
    for seed in 0..1_000 {
        disk = disk.after_crash(Crash::Mixed, seed);
    }
    assert_eq!(disk.files().len(), 16);
    assert_eq!(disk.injected().crashes, 1_001);
}
