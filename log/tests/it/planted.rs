//! Bugs planted in this crate, each found by a test beside this file: the program of the tests runs that one test again as a child,
//! with the bug switched on, and expects it to fail.

use std::process::Command;

use flumen_planted::{Bug, VARIABLE};

const FOUND_BY: [(Bug, &str); 4] = [
    (
        Bug::DedupLostAtRestart,
        "recovery::all_five_batches_of_a_producer_are_known_after_a_restart",
    ),
    (
        Bug::TornBatchKept,
        "recovery::a_flipped_bit_above_the_recovery_point_cuts_and_below_it_refuses",
    ),
    (
        Bug::IndexPastEnd,
        "recovery::index_entries_behind_the_recovery_point_are_not_believed",
    ),
    (
        Bug::FsyncRetried,
        "faults::a_failed_sync_fences_for_good_and_nothing_after_it_is_called_durable",
    ),
];

#[test]
fn the_bugs_planted_in_this_crate_are_found_by_its_tests() {
    for (bug, test) in FOUND_BY {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(VARIABLE, bug.name())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(said.contains("running 1 test"), "{test} is no test\n{said}");
        assert!(
            said.contains("test result: FAILED"),
            "{} is not found by {test}\n{said}",
            bug.name()
        );
    }
}
