//! Bugs planted on purpose: a simulator that does not find them is blind, and its silence worth nothing.
//!
//! Owns the list of the bugs and the switch that turns one of them on: `FLUMEN_PLANTED_BUG=ack_before_flush`, read once by
//! the process. The crates that carry a bug ask [`planted`] where the wrong turn is. Without debug assertions, so in
//! everything that ships, the answer is the constant `false` and the wrong turn is not compiled.
//!
//! ```
//! use flumen_planted::{Bug, planted};
//! assert!(!planted(Bug::AckBeforeFlush));
//! ```

#[cfg(debug_assertions)]
use std::sync::OnceLock;

/// The switch: its value is a [`Bug::name`].
pub const VARIABLE: &str = "FLUMEN_PLANTED_BUG";

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $bug:ident = $name:literal,)+) => {
        /// What can be made wrong. The doc of each says what it breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $doc])+ $bug,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$bug,)+];

            /// Its name in [`VARIABLE`].
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$bug => $name,)+ }
            }
        }
    };
}

bugs! {
    /// A produce is answered when it is written, not when it is flushed.
    AckBeforeFlush = "ack_before_flush",
    /// The end of a transaction writes its marker to all partitions but one.
    MarkerSkipped = "marker_skipped",
    /// A batch of an older producer epoch is accepted.
    EpochNotChecked = "epoch_not_checked",
    /// The producers' sequences are forgotten at a restart.
    DedupLostAtRestart = "dedup_lost_at_restart",
    /// The last stable offset is the high watermark: open transactions are readable.
    LsoAheadOfApplied = "lso_ahead_of_applied",
    /// Offsets of an open transaction count as committed at once.
    OffsetsBeforeMarker = "offsets_before_marker",
    /// Recovery believes a batch whose CRC is wrong.
    TornBatchKept = "torn_batch_kept",
    /// The index keeps entries that point past the end of the log.
    IndexPastEnd = "index_past_end",
    /// A group is told its offsets are committed before the record of it is durable.
    GroupReplyEarly = "group_reply_early",
    /// A coordinator answers before it has replayed its log.
    AnswersWhileLoading = "answers_while_loading",
    /// A failed fsync is tried again, and the second success believed.
    FsyncRetried = "fsync_retried",
    /// An application's store spills what its open epoch wrote.
    SpillUncommitted = "spill_uncommitted",
    /// A store's changelog position is stored one transaction ahead of its contents.
    ChangelogPositionAhead = "changelog_position_ahead",
    /// A source connector's position is written outside the transaction of its records.
    SourcePositionOutside = "source_position_outside",
    /// A sink connector goes on from the group's offset, not from the one its store returned.
    SinkStartIgnored = "sink_start_ignored",
    /// A partition's first batch of a transaction is accepted before the coordinator's record of it is durable.
    TransactionStartNotDurable = "transaction_start_not_durable",
    /// A transaction that runs out of time stays open.
    TimeoutIgnored = "timeout_ignored",
    /// A member of an older generation may commit offsets.
    StaleGenerationAccepted = "stale_generation_accepted",
    /// The cleaner takes records of aborted transactions for the newest of their keys.
    CleanerCountsAborted = "cleaner_counts_aborted",
    /// The cleaner drops deletions before `delete.retention.ms` has passed.
    DeletionDroppedEarly = "deletion_dropped_early",
    /// The cleaner works beyond the last stable offset: a record that may yet be aborted takes the place of an older one.
    CleanerPassesStableOffset = "cleaner_passes_stable_offset",
}

/// Whether this process has that bug.
#[cfg(debug_assertions)]
pub fn planted(bug: Bug) -> bool {
    current() == Some(bug)
}

/// Whether this process has that bug: never, in a build that ships.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn planted(_bug: Bug) -> bool {
    false
}

/// The bug of this process.
///
/// # Panics
/// If the variable names no bug: a run that plants nothing must not look like one that found nothing.
#[cfg(debug_assertions)]
pub fn current() -> Option<Bug> {
    static CURRENT: OnceLock<Option<Bug>> = OnceLock::new();
    *CURRENT.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        let found = Bug::ALL.iter().copied().find(|bug| bug.name() == name);
        assert!(found.is_some(), "{VARIABLE}={name}: no such bug");
        found
    })
}

/// The bug of this process: none, in a build that ships.
#[cfg(not(debug_assertions))]
pub const fn current() -> Option<Bug> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Bug::ALL.len());
    }
}
