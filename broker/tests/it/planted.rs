//! Bugs planted in this crate, each found by a test beside this file: the program of the tests runs that one test again as a child,
//! with the bug switched on, and expects it to fail.

use std::process::Command;

use flumen_planted::{Bug, VARIABLE};

const FOUND_BY: [(Bug, &str); 10] = [
    (
        Bug::AckBeforeFlush,
        "durability::nothing_is_acknowledged_before_it_is_on_disk",
    ),
    (
        Bug::MarkerSkipped,
        "transactions::life::committed_records_become_visible_and_aborted_ones_never",
    ),
    (
        Bug::EpochNotChecked,
        "transactions::fencing::a_new_instance_fences_the_old_one_and_aborts_what_it_left_open",
    ),
    (
        Bug::LsoAheadOfApplied,
        "transactions::durable::a_decided_transaction_is_not_readable_before_its_marker",
    ),
    (
        Bug::OffsetsBeforeMarker,
        "transactions::offsets::offsets_of_a_transaction_become_visible_with_its_marker",
    ),
    (
        Bug::GroupReplyEarly,
        "durability::nothing_is_acknowledged_before_it_is_on_disk",
    ),
    (
        Bug::AnswersWhileLoading,
        "transactions::loading::a_coordinator_that_has_not_replayed_its_log_answers_nothing",
    ),
    (
        Bug::TransactionStartNotDurable,
        "transactions::durable::the_start_of_a_transaction_is_on_disk_before_its_first_record_is_written",
    ),
    (
        Bug::TimeoutIgnored,
        "transactions::fencing::a_transaction_that_takes_too_long_is_aborted",
    ),
    (
        Bug::StaleGenerationAccepted,
        "transactions::offsets::a_zombie_of_an_older_generation_cannot_commit_and_the_new_owner_waits_for_what_it_left",
    ),
];

#[test]
fn the_bugs_planted_in_this_crate_are_found_by_its_tests() {
    let found = |(bug, test): (Bug, &str)| {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(VARIABLE, bug.name())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(said.contains("running 1 test"), "{test} is no test\n{said}");
        assert!(
            said.contains("test result: FAILED"),
            "{} is not found by {test}\n{said}",
            bug.name()
        );
    };
    // Two of them fail by waiting in vain: side by side that is one wait.
    std::thread::scope(|scope| {
        for pair in FOUND_BY {
            scope.spawn(move || found(pair));
        }
    });
}
