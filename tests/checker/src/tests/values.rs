//! Values and their order.

use crate::AnomalyKind::*;
use crate::history::What;
use crate::story::{A, B, story};

#[test]
fn a_healthy_history_is_legal() {
    story()
        .by(1)
        .wrote(A, 1, 0)
        .wrote(A, 2, 1)
        .wrote(B, 3, 0)
        .by(2)
        .polls(A, (0, 1), &[(0, 1)])
        .polls(A, (1, 2), &[(1, 2)])
        .by(9)
        .ends(A, 2, &[(0, 1), (1, 2)])
        .told(0, 2, 2)
        .ends(B, 1, &[(0, 3)])
        .is_legal();
}

#[test]
fn an_acknowledged_value_that_a_reader_passed_and_nobody_saw_is_lost() {
    let said = story()
        .by(1)
        .wrote(A, 1, 0)
        .wrote(A, 2, 1)
        .wrote(A, 3, 2)
        .by(2)
        .polls(A, (0, 3), &[(0, 1), (2, 3)])
        .shows(&[LostWrite]);
    assert_eq!(
        said,
        "lost-write: 2 was acknowledged at t0-0@1, p2 passed that, and nobody was ever shown it\n\
         \x20       0 ms  p1             sends 2 to t0-0\n\
         \x20       0 ms  p1             is told: 2 is at offset 1\n\
         \x20       0 ms  p2             polls t0-0 (committed) from 0 to 3: 1 at 0, 3 at 2\n"
    );
}

#[test]
fn an_acknowledged_value_that_the_drained_log_does_not_reach_is_unseen() {
    let written = || story().by(1).wrote(A, 1, 0).wrote(A, 2, 1);
    written().by(9).ends(A, 1, &[(0, 1)]).shows(&[Unseen]);
    // Acknowledged without an offset: the value must be somewhere.
    let somewhere = || story().by(1).wrote(A, 1, 0).wrote(A, 2, -1);
    somewhere()
        .by(9)
        .ends(A, 1, &[(0, 1)])
        .told(0, 1, 1)
        .shows(&[Unseen]);
    somewhere()
        .by(9)
        .ends(A, 2, &[(0, 1), (1, 2)])
        .told(0, 2, 2)
        .is_legal();
    // Written after the drain.
    story()
        .by(9)
        .ends(A, 0, &[])
        .by(1)
        .wrote(A, 1, 0)
        .is_legal();
}

#[test]
fn a_value_that_was_read_and_is_gone_at_the_end_is_lost() {
    story()
        .by(1)
        .wrote(A, 1, 0)
        .by(2)
        .polls(A, (0, 1), &[(0, 1)])
        .by(9)
        .ends(A, 0, &[])
        .shows(&[LostWrite]);
}

#[test]
fn what_retention_deleted_is_not_lost() {
    story()
        .by(1)
        .wrote(A, 1, 0)
        .wrote(A, 2, 1)
        .by(9)
        .ends(A, 2, &[(1, 2)])
        .told(1, 2, 2)
        .is_legal();
    // But what lies above the start of the log is.
    story()
        .by(1)
        .wrote(A, 1, 0)
        .wrote(A, 2, 1)
        .by(9)
        .ends(A, 2, &[(1, 2)])
        .told(0, 2, 2)
        .shows(&[LostWrite]);
}

#[test]
fn an_unknown_or_failed_send_owes_nothing() {
    story()
        .by(1)
        .sends_once(A, 1)
        .and(What::Unknown { value: 1 })
        .sends_once(A, 2)
        .and(What::Failed { value: 2 })
        .sends_once(A, 3)
        .wrote(A, 4, 0)
        .by(9)
        .ends(A, 1, &[(0, 4)])
        .is_legal();
    // An unknown one may turn up, even late.
    story()
        .by(1)
        .sends_once(A, 1)
        .and(What::Unknown { value: 1 })
        .by(2)
        .polls(A, (0, 0), &[])
        .polls(A, (0, 1), &[(0, 1)])
        .is_legal();
}

#[test]
fn a_value_nobody_sent_there_is_a_phantom() {
    story().by(2).polls(A, (0, 1), &[(0, 7)]).shows(&[Phantom]);
    story()
        .by(1)
        .sends_once(B, 7)
        .by(2)
        .polls(A, (0, 1), &[(0, 7)])
        .shows(&[Phantom]);
    story()
        .by(1)
        .sends_once(A, 7)
        .and(What::Failed { value: 7 })
        .by(2)
        .polls(A, (0, 1), &[(0, 7)])
        .shows(&[Phantom]);
}

#[test]
fn one_value_at_two_offsets_is_a_duplicate_unless_its_producer_is_plain() {
    story()
        .by(1)
        .wrote(A, 1, 0)
        .by(2)
        .polls(A, (0, 2), &[(0, 1), (1, 1)])
        .shows(&[Duplicate]);
    // Acknowledged at one place, found at another.
    story()
        .by(1)
        .wrote(A, 1, 0)
        .wrote(A, 2, 1)
        .by(2)
        .polls(A, (1, 3), &[(1, 2), (2, 1)])
        .shows(&[Duplicate]);
    story()
        .by(1)
        .sends_plain(A, 1)
        .acked(1, 1)
        .by(2)
        .polls(A, (0, 2), &[(0, 1), (1, 1)])
        .is_legal();
}

#[test]
fn one_offset_holds_one_value_for_ever() {
    story()
        .by(1)
        .sends_once(A, 1)
        .by(2)
        .sends_once(A, 2)
        .by(1)
        .acked(1, 0)
        .by(2)
        .acked(2, 0)
        .shows(&[InconsistentOffsets]);
    story()
        .by(1)
        .sends_once(A, 1)
        .by(2)
        .sends_once(A, 2)
        .by(3)
        .polls(A, (0, 1), &[(0, 1)])
        .by(4)
        .polls(A, (0, 1), &[(0, 2)])
        .shows(&[InconsistentOffsets]);
}

#[test]
fn a_producers_values_lie_in_the_order_it_sent_them() {
    let both = || story().by(1).sends_once(A, 1).sends_once(A, 2);
    both().acked(1, 5).acked(2, 3).shows(&[NonmonotonicSend]);
    both().acked(2, 5).acked(1, 3).is_legal();
    // By what a reader saw, too.
    both()
        .by(2)
        .polls(A, (0, 2), &[(0, 2), (1, 1)])
        .shows(&[NonmonotonicSend]);
    // Offsets in between belong to others or to markers: int-send-skip.
    both().acked(1, 3).acked(2, 9).is_legal();
    // Plain producers with several requests under way may be reordered, and so may two producers.
    story()
        .by(1)
        .sends_plain(A, 1)
        .sends_plain(A, 2)
        .acked(1, 5)
        .acked(2, 3)
        .is_legal();
    story()
        .by(1)
        .sends_once(A, 1)
        .by(2)
        .sends_once(A, 2)
        .acked(2, 3)
        .by(1)
        .acked(1, 5)
        .is_legal();
}

#[test]
fn what_is_sent_later_lies_above_what_was_known_to_be_taken() {
    story()
        .by(1)
        .wrote(A, 1, 5)
        .by(2)
        .wrote(A, 2, 4)
        .shows(&[OffsetTaken]);
    // Known from a high watermark.
    story()
        .by(3)
        .polls(A, (0, 0), &[])
        .told(0, 0, 6)
        .by(2)
        .wrote(A, 2, 4)
        .shows(&[OffsetTaken]);
    // Sent before the other was acknowledged: side by side.
    story()
        .by(2)
        .sends_once(A, 2)
        .by(1)
        .wrote(A, 1, 5)
        .by(2)
        .acked(2, 4)
        .is_legal();
}
