//! Seeds that found a defect. They run before all others.
//!
//! A seed means what the plan makes of it, and the plan grows: so each line names the test that shows the defect by itself, too.

/// The seed, and what it found.
pub(crate) const REGRESSIONS: &[(u64, &str)] = &[
    (
        28,
        "what was undone of a failed append came back after a loss of power and cut off acknowledged segments: \
         flumen-log, what_was_undone_does_not_come_back_to_cut_off_the_segments_behind_it",
    ),
    (
        316,
        "an idempotent producer wrote a batch twice that a storage error had answered: \
         flumen-client, a_batch_whose_flush_failed_may_be_in_the_log_and_is_not_numbered_anew",
    ),
    (
        694,
        "a member whose SyncGroup was answered with a storage error never joined its group again: \
         flumen-client, a_coordinator_that_cannot_write_now_is_asked_again",
    ),
];
