//! Readers and marks.

use crate::AnomalyKind::*;
use crate::story::{A, B, Story, story};

fn three() -> Story {
    story().by(1).wrote(A, 1, 0).wrote(A, 2, 1).wrote(A, 3, 2)
}

#[test]
fn a_consumer_passes_over_nothing_between_two_polls() {
    let skips = || {
        three()
            .by(3)
            .polls(A, (0, 3), &[(0, 1), (1, 2), (2, 3)])
            .by(2)
            .owns(1, &[A])
            .polls(A, (0, 1), &[(0, 1)])
    };
    skips().polls(A, (2, 3), &[(2, 3)]).shows(&[PollSkip]);
    // After a rebalance, or a seek of its own, it may begin anywhere.
    skips()
        .gives_up(&[A])
        .owns(2, &[A])
        .polls(A, (2, 3), &[(2, 3)])
        .is_legal();
    skips()
        .owns(2, &[B])
        .owns(3, &[A, B])
        .polls(A, (2, 3), &[(2, 3)])
        .is_legal();
    // One that keeps the partition across a rebalance goes on where it was.
    skips()
        .owns(2, &[A, B])
        .polls(A, (2, 3), &[(2, 3)])
        .shows(&[PollSkip]);
}

#[test]
fn a_consumer_that_keeps_its_partition_does_not_go_back() {
    let read = || {
        three()
            .by(2)
            .owns(1, &[A])
            .polls(A, (0, 2), &[(0, 1), (1, 2)])
    };
    read()
        .polls(A, (1, 3), &[(1, 2), (2, 3)])
        .shows(&[NonmonotonicPoll]);
    read()
        .gives_up(&[A])
        .owns(2, &[A])
        .polls(A, (0, 2), &[(0, 1), (1, 2)])
        .is_legal();
}

#[test]
fn one_poll_passes_over_nothing_that_others_were_shown() {
    three()
        .by(3)
        .polls(A, (0, 3), &[(0, 1), (1, 2), (2, 3)])
        .by(2)
        .polls(A, (0, 3), &[(0, 1), (2, 3)])
        .shows(&[IntPollSkip]);
    // Behind the last record, too.
    three()
        .by(3)
        .polls(A, (0, 3), &[(0, 1), (1, 2), (2, 3)])
        .by(2)
        .polls(A, (0, 3), &[(0, 1), (1, 2)])
        .shows(&[IntPollSkip]);
}

#[test]
fn the_records_of_one_poll_are_in_order_and_within_what_it_covered() {
    three()
        .by(2)
        .polls(A, (0, 3), &[(1, 2), (0, 1), (2, 3)])
        .shows(&[IntNonmonotonicPoll]);
    three()
        .by(2)
        .polls(A, (0, 2), &[(0, 1), (1, 2), (2, 3)])
        .shows(&[IntNonmonotonicPoll]);
}

#[test]
fn gaps_of_markers_and_aborted_data_are_legal() {
    // 0: aborted value, 1: its marker, 2: a value, 3: a value of a transaction, 4: its marker, 5: a value.
    story()
        .by(1)
        .begins(1)
        .wrote_in(1, A, 10, 0)
        .aborts(1)
        .by(2)
        .wrote(A, 20, 2)
        .by(1)
        .begins(2)
        .wrote_in(2, A, 11, 3)
        .commits(2)
        .by(2)
        .wrote(A, 21, 5)
        .by(3)
        .polls(A, (0, 3), &[(2, 20)])
        .polls(A, (3, 6), &[(3, 11), (5, 21)])
        .by(4)
        .peeks(A, (0, 6), &[(0, 10), (2, 20), (3, 11), (5, 21)])
        .is_legal();
    // Who reads uncommitted data is owed the aborted value as well.
    story()
        .by(1)
        .begins(1)
        .wrote_in(1, A, 10, 0)
        .aborts(1)
        .by(4)
        .peeks(A, (0, 2), &[])
        .shows(&[LostWrite]);
}

#[test]
fn marks_never_go_back() {
    let at = |log_start, stable, high| {
        story()
            .by(2)
            .polls(A, (5, 5), &[])
            .told(log_start, stable, high)
    };
    for (log_start, stable, high) in [(2, 4, 5), (2, 3, 6), (1, 4, 6)] {
        at(2, 4, 6)
            .polls(A, (5, 5), &[])
            .told(log_start, stable, high)
            .shows(&[MarkBack]);
    }
    at(2, 4, 6).polls(A, (5, 5), &[]).told(3, 5, 7).is_legal();
    // Another reader's answer may have been given earlier.
    at(2, 4, 6)
        .by(3)
        .polls(A, (5, 5), &[])
        .told(1, 3, 5)
        .is_legal();
    // The reads after the drain were not.
    at(0, 4, 6)
        .by(9)
        .ends(A, 5, &[])
        .told(0, 5, 5)
        .shows(&[MarkBack]);
}

#[test]
fn marks_are_in_order_and_bound_what_is_shown() {
    let read = |records: &[_], next| {
        story()
            .by(1)
            .sends_once(A, 1)
            .by(2)
            .polls(A, (0, next), records)
    };
    read(&[], 0).told(0, 3, 2).shows(&[MarksDisorder]);
    read(&[], 0).told(4, 3, 3).shows(&[MarksDisorder]);
    read(&[(2, 1)], 3).told(0, 2, 3).shows(&[MarksDisorder]);
    read(&[(2, 1)], 3).told(0, 3, 3).is_legal();
    story()
        .by(1)
        .sends_once(A, 1)
        .by(2)
        .peeks(A, (0, 3), &[(2, 1)])
        .told(0, 2, 3)
        .is_legal();
}

#[test]
fn a_transaction_that_holds_readers_back_after_the_drain_hangs() {
    story()
        .by(9)
        .ends(A, 3, &[])
        .told(0, 3, 8)
        .shows(&[LsoStuck]);
    story().by(9).ends(A, 8, &[]).told(0, 8, 8).is_legal();
    // Before the end it may.
    story().by(2).polls(A, (3, 3), &[]).told(0, 3, 8).is_legal();
}
