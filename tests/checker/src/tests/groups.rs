//! Committed offsets and members.

use crate::AnomalyKind::*;
use crate::history::{Outcome, What};
use crate::story::{A, B, GROUP, story};

#[test]
fn a_groups_offset_is_the_last_that_was_committed() {
    story()
        .by(1)
        .finds(-1)
        .commits_offset(0, 5)
        .commits_offset(0, 9)
        .by(2)
        .finds(9)
        .is_legal();
    // It may be set back on purpose.
    story()
        .by(1)
        .commits_offset(0, 9)
        .commits_offset(0, 5)
        .finds(5)
        .is_legal();
}

#[test]
fn a_groups_offset_does_not_go_back_to_one_that_was_replaced() {
    let said = story()
        .by(1)
        .commits_offset(0, 5)
        .commits_offset(0, 9)
        .by(2)
        .finds(5)
        .shows(&[GroupOffsetsBack]);
    assert!(
        said.contains("a later commit had replaced it with 9"),
        "{said}"
    );
    story()
        .by(1)
        .commits_offset(0, 5)
        .by(2)
        .finds(-1)
        .shows(&[GroupOffsetsWrong]);
    story().by(2).finds(7).shows(&[GroupOffsetsWrong]);
    story()
        .by(1)
        .commits_offset(0, 5)
        .by(2)
        .finds(7)
        .shows(&[GroupOffsetsWrong]);
}

#[test]
fn a_commit_under_way_counts_or_does_not() {
    let under_way = || {
        story()
            .by(1)
            .commits_offset(0, 5)
            .asks_to_commit(0, None, 9)
            .by(2)
    };
    under_way().finds(5).is_legal();
    under_way().finds(9).is_legal();
    // And asked for before it began, the answer may be older.
    story()
        .by(1)
        .commits_offset(0, 5)
        .by(2)
        .asks_for_offsets()
        .by(1)
        .commits_offset(0, 9)
        .by(2)
        .hears(5)
        .is_legal();
}

#[test]
fn a_commit_without_an_answer_may_take_effect_late() {
    let unknown = || {
        story()
            .by(1)
            .asks_to_commit(0, None, 5)
            .told_of_commit(0, 5, Outcome::Unknown)
            .commits_offset(0, 9)
            .by(2)
    };
    unknown().finds(9).finds(5).is_legal();
    story()
        .by(1)
        .asks_to_commit(0, None, 5)
        .told_of_commit(0, 5, Outcome::Failed)
        .by(2)
        .finds(5)
        .shows(&[GroupOffsetsWrong]);
}

#[test]
fn offsets_of_a_transaction_count_when_it_is_committed_and_not_before() {
    let open = || {
        story()
            .by(1)
            .commits_offset(0, 5)
            .begins(1)
            .adds_offset(1, None, 9)
            .by(2)
    };
    open().finds(5).is_legal();
    open().finds(9).shows(&[GroupOffsetsWrong]);
    open().by(1).asks_commit(1).by(2).finds(9).is_legal();
    open().by(1).commits(1).by(2).finds(9).is_legal();
    open()
        .by(1)
        .commits(1)
        .by(2)
        .finds(5)
        .shows(&[GroupOffsetsBack]);
    open().by(1).aborts(1).by(2).finds(5).is_legal();
    open()
        .by(1)
        .aborts(1)
        .by(2)
        .finds(9)
        .shows(&[GroupOffsetsWrong]);
    let refused = What::OffsetsRefused {
        txn: 1,
        group: GROUP,
    };
    open()
        .by(1)
        .and(refused)
        .commits(1)
        .by(2)
        .finds(5)
        .is_legal();
    // Of a transaction whose end nobody was told: either, and late.
    open()
        .by(1)
        .asks_commit(1)
        .and(What::TxnUnknown { txn: 1 })
        .by(2)
        .finds(5)
        .finds(9)
        .is_legal();
}

#[test]
fn a_plain_commit_in_the_midst_of_a_transaction_may_stand() {
    let both = || {
        story()
            .by(1)
            .begins(1)
            .adds_offset(1, None, 9)
            .by(3)
            .commits_offset(0, 5)
            .by(1)
            .commits(1)
            .by(2)
    };
    both().finds(5).is_legal();
    both().finds(9).is_legal();
}

#[test]
fn a_partition_has_one_owner_in_a_generation() {
    story()
        .by(1)
        .owns(1, &[A])
        .by(2)
        .owns(1, &[A, B])
        .shows(&[TwoOwners]);
    story()
        .by(1)
        .owns(1, &[A])
        .by(2)
        .owns(1, &[B])
        .owns(2, &[A])
        .by(1)
        .owns(2, &[B])
        .is_legal();
    // A static member comes back into its place, in the same generation.
    story()
        .by(1)
        .owns(1, &[A])
        .gives_up(&[A])
        .by(2)
        .owns(1, &[A])
        .by(1)
        .gives_up(&[A])
        .by(3)
        .owns(1, &[A])
        .shows(&[TwoOwners]);
    story()
        .by(1)
        .owns(1, &[A])
        .gives_up(&[A])
        .by(2)
        .owns(1, &[A])
        .is_legal();
    // The same member says it twice; the other has not heard of the new generation yet.
    story()
        .by(1)
        .owns(1, &[A])
        .owns(1, &[A])
        .by(2)
        .owns(2, &[A])
        .is_legal();
}

#[test]
fn a_member_of_an_older_generation_commits_nothing() {
    let replaced = || story().by(1).owns(1, &[A]).by(2).owns(2, &[A]).by(1);
    replaced()
        .asks_to_commit(0, Some(1), 5)
        .told_of_commit(0, 5, Outcome::Acked)
        .shows(&[StaleCommit]);
    for outcome in [Outcome::Failed, Outcome::Unknown] {
        replaced()
            .asks_to_commit(0, Some(1), 5)
            .told_of_commit(0, 5, outcome)
            .is_legal();
    }
    replaced()
        .begins(1)
        .adds_offset(1, Some(1), 5)
        .commits(1)
        .shows(&[StaleCommit]);
    replaced()
        .begins(1)
        .adds_offset(1, Some(1), 5)
        .and(What::OffsetsRefused {
            txn: 1,
            group: GROUP,
        })
        .aborts(1)
        .is_legal();
    // Asked for before the new generation was known to anyone.
    story()
        .by(1)
        .owns(1, &[A])
        .asks_to_commit(0, Some(1), 5)
        .by(2)
        .owns(2, &[A])
        .by(1)
        .told_of_commit(0, 5, Outcome::Acked)
        .is_legal();
}
