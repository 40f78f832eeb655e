//! Transactions: what readers of committed data are shown of them, and what fenced producers do.

use crate::AnomalyKind::*;
use crate::history::What;
use crate::story::{A, B, story};

#[test]
fn nothing_of_an_aborted_transaction_is_shown() {
    story()
        .by(1)
        .begins(1)
        .wrote_in(1, A, 10, 0)
        .aborts(1)
        .by(2)
        .polls(A, (0, 1), &[(0, 10)])
        .shows(&[AbortedRead]);
    // Shown first and aborted then.
    story()
        .by(1)
        .begins(1)
        .wrote_in(1, A, 10, 0)
        .asks_commit(1)
        .by(2)
        .polls(A, (0, 1), &[(0, 10)])
        .by(1)
        .aborts(1)
        .shows(&[AbortedRead]);
    story()
        .by(1)
        .begins(1)
        .wrote_in(1, A, 10, 0)
        .aborts(1)
        .by(2)
        .peeks(A, (0, 1), &[(0, 10)])
        .is_legal();
}

#[test]
fn nothing_of_a_transaction_is_shown_before_its_commit_was_asked_for() {
    let open = || story().by(1).begins(1).wrote_in(1, A, 10, 0);
    open()
        .by(2)
        .polls(A, (0, 1), &[(0, 10)])
        .by(1)
        .commits(1)
        .shows(&[UncommittedRead]);
    open()
        .by(2)
        .polls(A, (0, 1), &[(0, 10)])
        .shows(&[UncommittedRead]);
    open().peeks(A, (0, 1), &[(0, 10)]).is_legal();
    open()
        .polls(A, (0, 1), &[(0, 10)])
        .shows(&[PrecommittedRead]);
    // Asked for and not answered: it may be committed by now.
    open()
        .asks_commit(1)
        .by(2)
        .polls(A, (0, 1), &[(0, 10)])
        .is_legal();
}

#[test]
fn a_commit_without_an_answer_may_turn_out_either_way() {
    let unknown = || {
        story()
            .by(1)
            .begins(1)
            .wrote_in(1, A, 10, 0)
            .wrote_in(1, B, 11, 0)
            .asks_commit(1)
            .and(What::TxnUnknown { txn: 1 })
            .by(9)
    };
    unknown().ends(A, 2, &[]).ends(B, 2, &[]).is_legal();
    unknown()
        .ends(A, 2, &[(0, 10)])
        .ends(B, 2, &[(0, 11)])
        .is_legal();
    unknown()
        .ends(A, 2, &[(0, 10)])
        .ends(B, 2, &[])
        .shows(&[TornTransaction]);
}

#[test]
fn a_transaction_is_shown_whole_or_not_at_all() {
    let committed = || {
        story()
            .by(1)
            .begins(1)
            .wrote_in(1, A, 10, 0)
            .wrote_in(1, B, 11, 0)
            .commits(1)
            .by(9)
    };
    committed()
        .ends(A, 2, &[(0, 10)])
        .ends(B, 2, &[])
        .shows(&[TornTransaction]);
    committed()
        .ends(A, 2, &[(0, 10)])
        .ends(B, 2, &[(0, 11)])
        .is_legal();
    // Committed, and none of it is there.
    committed()
        .ends(A, 2, &[])
        .ends(B, 2, &[])
        .shows(&[LostWrite, LostWrite]);
    // A reader that has not come to the second part yet has seen nothing torn; nor has one after retention took it.
    committed()
        .polls(A, (0, 2), &[(0, 10)])
        .polls(B, (0, 0), &[])
        .is_legal();
    committed()
        .ends(A, 2, &[(0, 10)])
        .ends(B, 2, &[])
        .told(1, 2, 2)
        .is_legal();
}

#[test]
fn writes_of_two_transactions_may_lie_in_each_others_midst() {
    // G0: 1 before 2 in A, 2 before 1 in B.
    story()
        .by(1)
        .begins(1)
        .by(2)
        .begins(2)
        .by(1)
        .wrote_in(1, A, 10, 0)
        .by(2)
        .wrote_in(2, A, 20, 1)
        .wrote_in(2, B, 21, 0)
        .by(1)
        .wrote_in(1, B, 11, 1)
        .commits(1)
        .by(2)
        .commits(2)
        .by(9)
        .ends(A, 4, &[(0, 10), (1, 20)])
        .ends(B, 4, &[(0, 21), (1, 11)])
        .is_legal();
}

#[test]
fn committed_transactions_do_not_read_from_each_other_in_a_circle() {
    let said = story()
        .by(1)
        .begins(1)
        .wrote_in(1, A, 10, 0)
        .by(2)
        .begins(2)
        .wrote_in(2, B, 20, 0)
        .polls(A, (0, 1), &[(0, 10)])
        .by(1)
        .polls(B, (0, 1), &[(0, 20)])
        .commits(1)
        .by(2)
        .commits(2)
        .shows(&[UncommittedRead, UncommittedRead, CircularFlow]);
    assert!(said.starts_with("uncommitted-read"), "{said}");
    // The same with the second reading after the first had asked for its commit.
    story()
        .by(1)
        .begins(1)
        .wrote_in(1, A, 10, 0)
        .asks_commit(1)
        .by(2)
        .begins(2)
        .wrote_in(2, B, 20, 0)
        .polls(A, (0, 1), &[(0, 10)])
        .commits(2)
        .by(1)
        .committed(1)
        .begins(3)
        .polls(B, (0, 1), &[(0, 20)])
        .wrote_in(3, A, 12, 2)
        .commits(3)
        .is_legal();
}

#[test]
fn a_replaced_producer_writes_and_commits_nothing() {
    let replaced = || {
        story()
            .by(1)
            .asks_for_id()
            .has_id()
            .begins(1)
            .by(2)
            .asks_for_id()
            .has_id()
            .by(1)
    };
    replaced().wrote_in(1, A, 10, 0).shows(&[FencedWrite]);
    replaced()
        .sends_in(1, A, 10)
        .by(3)
        .peeks(A, (0, 1), &[(0, 10)])
        .shows(&[FencedWrite]);
    replaced().commits(1).shows(&[FencedWrite]);
    replaced()
        .sends_in(1, A, 10)
        .asks_commit(1)
        .aborts(1)
        .is_legal();
    // It has another producer besides, without transactions.
    replaced().wrote(A, 10, 0).is_legal();
}

#[test]
fn what_was_under_way_when_a_producer_was_replaced_may_have_been_in_time() {
    story()
        .by(1)
        .asks_for_id()
        .has_id()
        .begins(1)
        .sends_in(1, A, 10)
        .asks_commit(1)
        .by(2)
        .asks_for_id()
        .has_id()
        .by(1)
        .acked(10, 0)
        .committed(1)
        .is_legal();
    // Two that asked side by side: either may be the newer.
    story()
        .by(1)
        .asks_for_id()
        .by(2)
        .asks_for_id()
        .has_id()
        .by(1)
        .has_id()
        .begins(1)
        .wrote_in(1, A, 10, 0)
        .commits(1)
        .is_legal();
    story()
        .by(1)
        .asks_for_id()
        .by(2)
        .asks_for_id()
        .has_id()
        .by(1)
        .has_id()
        .by(2)
        .begins(1)
        .wrote_in(1, A, 10, 0)
        .commits(1)
        .is_legal();
}

#[test]
fn who_was_told_that_it_is_fenced_writes_nothing_it_sends_afterwards() {
    let fenced = || story().by(1).begins(1).and(What::Fenced);
    fenced().wrote_in(1, A, 10, 0).shows(&[FencedWrite]);
    fenced().sends_in(1, A, 10).is_legal();
}
