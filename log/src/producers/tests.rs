//! The rules of producers one by one, and dedup against remembering everything.

use super::*;
use flumen_protocol::batch::RecordBatch;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use proptest::prelude::*;

/// A header of `count` records at `base_offset`, from producer `id`, epoch and first sequence.
fn batch(
    (id, epoch, sequence): (i64, i16, i32),
    count: usize,
    base_offset: i64,
    transactional: bool,
) -> BatchHeader {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: sequence,
        base_offset,
        transactional,
        ..BatchOptions::default()
    });
    (0..count).for_each(|i| builder.push(i as i64, None, None, &[]));
    *RecordBatch::parse(builder.build()).unwrap().header()
}

fn plain(epoch: i16, sequence: i32, count: usize, base_offset: i64) -> BatchHeader {
    batch((1, epoch, sequence), count, base_offset, false)
}

fn marker(id: i64, epoch: i16, base_offset: i64) -> BatchHeader {
    let mut header = batch((id, epoch, -1), 1, base_offset, true);
    header.attributes |= 1 << 5;
    header
}

const CLIENT: Origin = Origin::Client(VerificationGuard::NONE);
const ABORT: ControlRecord = ControlRecord::Abort {
    coordinator_epoch: 0,
};
const COMMIT: ControlRecord = ControlRecord::Commit {
    coordinator_epoch: 0,
};

fn out_of_order(sequence: i32, expected: i32) -> Result<Check, ProducerError> {
    Err(ProducerError::OutOfOrderSequence { sequence, expected })
}

fn is_repeat(check: Result<Check, ProducerError>, base_offset: i64) -> bool {
    matches!(check, Ok(Check::Repeat(seen)) if seen.base_offset() == base_offset)
}

/// Checks as a client and applies.
fn append(producers: &mut Producers, header: &BatchHeader) -> Result<Check, ProducerError> {
    let checked = producers.check(header, None, CLIENT)?;
    if checked == Check::New {
        producers.apply(header, None, Some(0));
    }
    Ok(checked)
}

/// Begins or goes on with a transaction of producer `id`.
fn append_in_txn(
    producers: &mut Producers,
    id: i64,
    epoch: i16,
    sequence: i32,
    base_offset: i64,
) -> Result<Check, ProducerError> {
    let guard = producers
        .start_verification(id, epoch, sequence, true)
        .unwrap_or_default();
    let header = batch((id, epoch, sequence), 2, base_offset, true);
    let checked = producers.check(&header, None, Origin::Client(guard))?;
    producers.apply(&header, None, Some(0));
    Ok(checked)
}

fn end_txn(
    producers: &mut Producers,
    id: i64,
    epoch: i16,
    base_offset: i64,
    marker_content: ControlRecord,
) -> Option<CompletedTxn> {
    let header = marker(id, epoch, base_offset);
    producers
        .check(&header, Some(marker_content), Origin::Marker(2))
        .unwrap();
    producers.apply(&header, Some(marker_content), Some(0))
}

#[test]
fn one_of_the_last_five_batches_is_a_repeat_and_an_older_one_is_out_of_order() {
    let mut producers = Producers::default();
    for i in 0..6 {
        assert_eq!(
            append(&mut producers, &plain(0, 3 * i, 3, 100 + 3 * i64::from(i))),
            Ok(Check::New)
        );
    }
    for i in 1..6 {
        assert!(is_repeat(
            append(&mut producers, &plain(0, 3 * i, 3, 500)),
            100 + 3 * i64::from(i)
        ));
    }
    assert_eq!(
        append(&mut producers, &plain(0, 0, 3, 500)),
        out_of_order(0, 18)
    );
    // The same first sequence but another length is no repeat.
    assert_eq!(
        append(&mut producers, &plain(0, 15, 2, 500)),
        out_of_order(15, 18)
    );
}

#[test]
fn a_gap_is_out_of_order_and_an_unknown_producer_may_begin_anywhere() {
    let mut producers = Producers::default();
    assert_eq!(append(&mut producers, &plain(0, 77, 3, 0)), Ok(Check::New));
    assert_eq!(
        append(&mut producers, &plain(0, 81, 1, 3)),
        out_of_order(81, 80)
    );
    assert_eq!(append(&mut producers, &plain(0, 80, 1, 3)), Ok(Check::New));
}

#[test]
fn sequences_wrap_between_and_within_batches() {
    let mut producers = Producers::default();
    assert_eq!(
        append(&mut producers, &plain(0, i32::MAX - 3, 3, 0)),
        Ok(Check::New)
    );
    // Covers MAX, 0 and 1.
    assert_eq!(
        append(&mut producers, &plain(0, i32::MAX, 3, 3)),
        Ok(Check::New)
    );
    assert!(is_repeat(
        append(&mut producers, &plain(0, i32::MAX, 3, 9)),
        3
    ));
    assert_eq!(append(&mut producers, &plain(0, 2, 1, 6)), Ok(Check::New));
    let mut producers = Producers::default();
    assert_eq!(
        append(&mut producers, &plain(0, i32::MAX - 1, 2, 0)),
        Ok(Check::New)
    );
    assert_eq!(
        append(&mut producers, &plain(0, 1, 1, 2)),
        out_of_order(1, 0)
    );
    assert_eq!(append(&mut producers, &plain(0, 0, 1, 2)), Ok(Check::New));
}

#[test]
fn a_new_epoch_begins_at_zero_and_an_old_one_is_fenced() {
    let mut producers = Producers::default();
    append(&mut producers, &plain(3, 0, 5, 0)).unwrap();
    assert_eq!(
        append(&mut producers, &plain(4, 5, 1, 5)),
        out_of_order(5, 0)
    );
    assert_eq!(append(&mut producers, &plain(4, 0, 1, 5)), Ok(Check::New));
    assert_eq!(
        append(&mut producers, &plain(3, 5, 1, 6)),
        Err(ProducerError::StaleEpoch {
            epoch: 3,
            current: 4
        })
    );
    // What was a repeat under the old epoch is none under the new one.
    assert_eq!(
        append(&mut producers, &plain(3, 0, 5, 6)),
        Err(ProducerError::StaleEpoch {
            epoch: 3,
            current: 4
        })
    );
}

#[test]
fn a_transaction_needs_a_guard_that_no_marker_has_undone() {
    let mut producers = Producers::default();
    let first = batch((7, 0, 0), 2, 0, true);
    let refused = producers.check(&first, None, CLIENT);
    assert!(matches!(refused, Err(ProducerError::InvalidTxnState(_))));
    let guard = producers.start_verification(7, 0, 0, true).unwrap();
    assert_eq!(producers.start_verification(7, 0, 0, true), Some(guard));
    // A marker comes first: the batch was delayed until after the end of its transaction.
    end_txn(&mut producers, 7, 1, 0, ABORT);
    let refused = producers.check(&first, None, Origin::Client(guard));
    assert_eq!(
        refused,
        Err(ProducerError::StaleEpoch {
            epoch: 0,
            current: 1
        })
    );
    let same_epoch = batch((7, 1, 0), 2, 1, true);
    assert!(matches!(
        producers.check(&same_epoch, None, Origin::Client(guard)),
        Err(ProducerError::InvalidTxnState(_))
    ));
    assert_eq!(append_in_txn(&mut producers, 7, 1, 0, 1), Ok(Check::New));
    // Open now: no question, no guard.
    assert_eq!(producers.start_verification(7, 1, 2, true), None);
    assert_eq!(
        producers.check(&batch((7, 1, 2), 1, 3, true), None, CLIENT),
        Ok(Check::New)
    );
}

#[test]
fn a_stale_epoch_is_told_before_a_missing_guard() {
    let mut producers = Producers::default();
    append_in_txn(&mut producers, 7, 5, 0, 0).unwrap();
    let zombie = batch((7, 4, 2), 1, 2, true);
    assert_eq!(
        producers.check(&zombie, None, CLIENT),
        Err(ProducerError::StaleEpoch {
            epoch: 4,
            current: 5
        })
    );
}

#[test]
fn under_version_two_a_producer_nobody_knows_begins_at_zero() {
    let mut producers = Producers::default();
    let guard = producers.start_verification(7, 0, 3, true).unwrap();
    assert_eq!(
        producers.check(&batch((7, 0, 3), 1, 0, true), None, Origin::Client(guard)),
        out_of_order(3, 0)
    );
    let guard = producers.start_verification(8, 0, 3, false).unwrap();
    assert_eq!(
        producers.check(&batch((8, 0, 3), 1, 0, true), None, Origin::Client(guard)),
        Ok(Check::New)
    );
}

#[test]
fn the_lowest_sequence_that_asked_must_come_first() {
    let mut producers = Producers::default();
    let guard = producers.start_verification(7, 0, 0, false).unwrap();
    producers.start_verification(7, 0, 5, false).unwrap();
    assert_eq!(
        producers.check(&batch((7, 0, 5), 1, 0, true), None, Origin::Client(guard)),
        out_of_order(5, 0)
    );
    assert_eq!(
        producers.check(&batch((7, 0, 0), 5, 0, true), None, Origin::Client(guard)),
        Ok(Check::New)
    );
}

#[test]
fn a_batch_outside_of_the_open_transaction_is_refused() {
    let mut producers = Producers::default();
    append_in_txn(&mut producers, 7, 0, 0, 0).unwrap();
    let outside = producers.check(&batch((7, 0, 2), 1, 2, false), None, CLIENT);
    assert!(matches!(outside, Err(ProducerError::InvalidTxnState(_))));
}

#[test]
fn markers_follow_the_epoch_rule_of_their_transaction_version() {
    let check = |version: i16, epoch: i16, open: bool| {
        let mut producers = Producers::default();
        append_in_txn(&mut producers, 7, 5, 0, 0).unwrap();
        if !open {
            producers.apply(&marker(7, 5, 2), Some(COMMIT), None);
        }
        producers
            .check(&marker(7, epoch, 3), Some(ABORT), Origin::Marker(version))
            .is_ok()
    };
    for (version, epoch, open, expected) in [
        (1, 4, true, false),
        (1, 5, true, true),
        (1, 6, true, true),
        (2, 4, true, false),
        (2, 5, true, false),
        (2, 6, true, true),
        // A marker that is written again finds nothing open.
        (2, 5, false, true),
    ] {
        assert_eq!(
            check(version, epoch, open),
            expected,
            "version {version}, epoch {epoch}, open {open}"
        );
    }
}

#[test]
fn a_coordinator_of_the_past_is_fenced() {
    let mut producers = Producers::default();
    let newer = ControlRecord::Commit {
        coordinator_epoch: 9,
    };
    producers.apply(&marker(7, 1, 0), Some(newer), None);
    let older = producers.check(
        &marker(7, 2, 1),
        Some(ControlRecord::Abort {
            coordinator_epoch: 8,
        }),
        Origin::Marker(2),
    );
    assert_eq!(
        older,
        Err(ProducerError::CoordinatorFenced {
            epoch: 8,
            current: 9
        })
    );
}

#[test]
fn the_last_stable_offset_waits_for_open_transactions_and_for_markers_to_be_replicated() {
    let mut producers = Producers::default();
    assert_eq!(producers.last_stable_offset(10), 10);
    append_in_txn(&mut producers, 7, 0, 0, 4).unwrap();
    append_in_txn(&mut producers, 8, 0, 0, 6).unwrap();
    assert_eq!(
        (
            producers.last_stable_offset(3),
            producers.last_stable_offset(8)
        ),
        (3, 4)
    );
    let completed = end_txn(&mut producers, 7, 1, 8, ABORT).unwrap();
    assert_eq!(
        producers.aborted(completed),
        AbortedTxn {
            producer_id: 7,
            first_offset: 4,
            last_offset: 8,
            last_stable_offset: 6
        }
    );
    // The marker at 8 is not below the high watermark yet.
    assert_eq!(producers.last_stable_offset(8), 4);
    assert_eq!(producers.last_stable_offset(9), 6);
    end_txn(&mut producers, 8, 1, 9, COMMIT);
    assert_eq!(producers.last_stable_offset(9), 6);
    assert_eq!(producers.last_stable_offset(10), 10);
}

#[test]
fn after_an_abort_the_same_sequences_are_new() {
    let mut producers = Producers::default();
    append_in_txn(&mut producers, 7, 0, 0, 0).unwrap();
    end_txn(&mut producers, 7, 1, 2, ABORT);
    assert_eq!(append_in_txn(&mut producers, 7, 1, 0, 3), Ok(Check::New));
}

#[test]
fn idle_producers_expire_by_our_clock_unless_a_transaction_is_open() {
    let mut producers = Producers::default();
    append(&mut producers, &plain(0, 0, 1, 0)).unwrap();
    append_in_txn(&mut producers, 7, 0, 0, 1).unwrap();
    producers.expire(99, 100);
    assert_eq!(producers.len(), 2);
    producers.expire(100, 100);
    assert_eq!(producers.iter().map(|(id, _)| id).collect::<Vec<_>>(), [7]);
}

#[test]
fn a_guard_whose_batch_never_came_lives_for_one_pass_and_not_for_two() {
    let mut producers = Producers::default();
    let first = batch((7, 0, 0), 2, 0, true);
    let guard = producers.start_verification(7, 0, 0, true).unwrap();
    producers.start_verification(8, 0, 0, true).unwrap();
    producers.expire(0, 100);
    assert_eq!(
        producers.check(&first, None, Origin::Client(guard)),
        Ok(Check::New),
        "its coordinator may still be thinking"
    );
    assert_eq!(producers.start_verification(7, 0, 0, true), Some(guard));
    producers.expire(1, 100);
    assert_eq!(
        producers.verifications.keys().collect::<Vec<_>>(),
        [&7],
        "asked for again since"
    );
    producers.expire(2, 100);
    assert!(producers.verifications.is_empty());
    assert!(matches!(
        producers.check(&first, None, Origin::Client(guard)),
        Err(ProducerError::InvalidTxnState(_))
    ));
}

#[test]
fn a_snapshot_keeps_the_newest_batch_the_epochs_and_the_open_transaction() {
    let mut producers = Producers::default();
    append(&mut producers, &plain(2, 0, 3, 0)).unwrap();
    append(&mut producers, &plain(2, 3, 2, 3)).unwrap();
    append_in_txn(&mut producers, 7, 0, 0, 5).unwrap();
    end_txn(&mut producers, 8, 4, 7, COMMIT);
    let bytes = crate::snapshot::encode(&producers);
    let mut restored = crate::snapshot::decode(&bytes).unwrap();
    assert_eq!(crate::snapshot::encode(&restored), bytes);
    assert_eq!(restored.first_open_offset(), Some(5));
    assert!(is_repeat(append(&mut restored, &plain(2, 3, 2, 9)), 3));
    assert_eq!(append(&mut restored, &plain(2, 5, 1, 9)), Ok(Check::New));
    assert_eq!(
        append(&mut restored, &batch((8, 3, 0), 1, 10, false)),
        Err(ProducerError::StaleEpoch {
            epoch: 3,
            current: 4
        })
    );
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(crate::snapshot::decode(&damaged).is_err(), "byte {at}");
        assert!(
            crate::snapshot::decode(&bytes[..at]).is_err(),
            "cut at {at}"
        );
    }
}

/// All that was ever accepted, looked through from the end.
#[derive(Default)]
struct Naive {
    accepted: Vec<(i16, i32, i32, i64)>,
}

impl Naive {
    fn check(
        &mut self,
        epoch: i16,
        first: i32,
        count: usize,
        offset: i64,
    ) -> Result<Option<i64>, ()> {
        let last = ((i64::from(first) + count as i64 - 1) % (1 << 31)) as i32;
        let current = self.accepted.iter().map(|accepted| accepted.0).max();
        let of_epoch: Vec<_> = self
            .accepted
            .iter()
            .filter(|accepted| Some(accepted.0) == current)
            .collect();
        if current.is_some_and(|current| epoch < current) {
            return Err(());
        }
        if current == Some(epoch) {
            let recent = of_epoch.iter().rev().take(5);
            if let Some(seen) = recent
                .clone()
                .find(|seen| (seen.1, seen.2) == (first, last))
            {
                return Ok(Some(seen.3));
            }
        }
        let expected = match (current, of_epoch.last()) {
            (None, _) => first,
            (Some(current), Some(last)) if current == epoch => {
                ((i64::from(last.2) + 1) % (1 << 31)) as i32
            }
            _ => 0,
        };
        if first != expected {
            return Err(());
        }
        self.accepted.push((epoch, first, last, offset));
        Ok(None)
    }
}

proptest! {
    #[test]
    fn dedup_agrees_with_remembering_everything(
        start in prop_oneof![Just(0), Just(i32::MAX - 8)],
        steps in proptest::collection::vec((0i16..3, -12i64..3, 1usize..5), 1..60),
    ) {
        let mut producers = Producers::default();
        let mut naive = Naive::default();
        let mut next = i64::from(start);
        let mut offset = 0;
        for (epoch, back, count) in steps {
            // Mostly the next one, often an earlier one, sometimes a gap.
            let first = ((next + back.min(1) * i64::from(back != 2)).rem_euclid(1 << 31)) as i32;
            let ours = append(&mut producers, &plain(epoch, first, count, offset));
            let theirs = naive.check(epoch, first, count, offset);
            match (&ours, theirs) {
                (Ok(Check::New), Ok(None)) => {
                    offset += count as i64;
                    next = (i64::from(first) + count as i64) % (1 << 31);
                }
                (Ok(Check::Repeat(seen)), Ok(Some(base))) => prop_assert_eq!(seen.base_offset(), base),
                (Err(_), Err(())) => {}
                _ => prop_assert!(false, "{:?} where {:?} was expected", ours, theirs),
            }
        }
    }
}
