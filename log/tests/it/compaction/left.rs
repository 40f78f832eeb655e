//! What the rest of the log makes of what a cleaning leaves: readers, restarts, the scrubber.

use std::path::Path;
use std::sync::Arc;

use flumen_log::disk::Disk;
use flumen_log::{AppendAs, ScrubPosition};

use super::{keyed, names, on_fault_disk, open, records};
use crate::helpers::*;

#[test]
fn readers_of_what_was_rewritten_read_on_and_know_what_was_aborted() {
    let (_disk, opened) = on_fault_disk();
    append_client(
        &opened.log,
        keyed(&[("a", Some("aborted"))], From::in_txn(7, 0, 0), 1_000),
        1_000,
    )
    .unwrap();
    let how = AppendAs::Marker {
        leader_epoch: 0,
        transaction_version: 2,
    };
    opened
        .log
        .append(marker(7, 1, false, 1_000), &how, 1_000)
        .unwrap();
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
    // Without a snapshot the log itself must know.
    for name in names(&disk)
        .iter()
        .filter(|name| name.ends_with(".snapshot"))
    {
        disk.remove_file(&Path::new("/data/orders-0").join(name))
            .unwrap();
    }
    let opened = open(&(disk.clone() as Arc<dyn Disk>), Path::new("/data"));
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
