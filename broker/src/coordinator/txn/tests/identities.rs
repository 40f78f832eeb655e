//! InitProducerId, epochs, and what happens when they are used up.

use super::*;

#[test]
fn rule_37_every_init_bumps_the_epoch_of_the_same_producer_id() {
    let mut bench = Bench::new();
    let (id, epoch) = bench.init(None).unwrap();
    assert_eq!((id, epoch), (101, 0));
    assert_eq!(bench.init(None), Ok((101, 1)));
    assert_eq!(bench.init(None), Ok((101, 2)));
}

#[test]
fn rule_37_a_timeout_above_the_brokers_is_refused() {
    let bench = Bench::new();
    for timeout_ms in [0, -1, 900_001] {
        let init = InitProducer {
            transactional_id: ID.to_owned(),
            timeout_ms,
            expected: None,
            spare: 1,
        };
        let decision = bench.shard.init_producer(&init, bench.now);
        assert_eq!(
            decision,
            Decision::refuse(ErrorCode::InvalidTransactionTimeout)
        );
    }
}

#[test]
fn rule_37_init_aborts_an_open_transaction_and_asks_to_come_again() {
    let mut bench = Bench::at(TxnState::Ongoing);
    assert_eq!(bench.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(
        (bench.state(), bench.get().producer_epoch),
        (TxnState::PrepareAbort, 6)
    );
    let before = bench.log.len();
    assert_eq!(bench.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(
        bench.log.len(),
        before,
        "T-14: the epoch is not bumped twice"
    );
    assert_eq!(bench.add((7, 5), 1), Err(ErrorCode::ProducerFenced));
    assert_eq!(
        bench.end(5, (7, 5), false),
        Err(ErrorCode::ProducerFenced),
        "another instance took over"
    );
    bench.complete();
    assert_eq!(bench.end(5, (7, 5), false), Err(ErrorCode::ProducerFenced));
    assert_eq!(bench.init(None), Ok((7, 7)));
}

#[test]
fn rule_37_an_expected_identity_must_be_the_current_one_or_a_repetition() {
    for (expected, reply) in [
        ((7, 5), Ok((7, 6))),
        ((7, 4), Ok((7, 5))), // its reply was lost
        ((7, 3), Err(ErrorCode::ProducerFenced)),
        ((7, 6), Err(ErrorCode::ProducerFenced)),
        ((8, 5), Err(ErrorCode::ProducerFenced)),
    ] {
        let mut bench = Bench::at(TxnState::CompleteCommit);
        assert_eq!(bench.init(Some(expected)), reply, "{expected:?}");
    }
    // A new instance forgets the epoch before: the old one cannot pass for it.
    let mut bench = Bench::at(TxnState::CompleteCommit);
    assert_eq!(bench.init(None), Ok((7, 6)));
    assert_eq!(bench.init(Some((7, 5))), Err(ErrorCode::ProducerFenced));
    // While a transaction is open, only its own producer may abort it this way.
    let mut bench = Bench::at(TxnState::Ongoing);
    assert_eq!(bench.init(Some((7, 4))), Err(ErrorCode::ProducerFenced));
    assert_eq!(
        bench.init(Some((7, 5))),
        Err(ErrorCode::ConcurrentTransactions)
    );
    bench.complete();
    assert_eq!(
        bench.init(Some((7, 5))),
        Ok((7, 6)),
        "the abort already bumped it"
    );
}

#[test]
fn t_14_exhausted_epochs_rotate_to_a_new_producer_id_and_the_repetition_finds_it() {
    for restart in [false, true] {
        let mut bench = Bench::new();
        let last = ProducerEpoch::MAX - 1;
        bench.put(Transaction {
            producer_epoch: last,
            ..transaction(TxnState::CompleteCommit)
        });
        assert_eq!(bench.init(Some((7, last))), Ok((101, 0)));
        if restart {
            bench.restart(); // T-16: the identity before is in the log
        }
        assert_eq!(
            bench.init(Some((7, last))),
            Ok((101, 0)),
            "restart: {restart}"
        );
        assert_eq!(
            bench.init(Some((7, last - 1))),
            Err(ErrorCode::ProducerFenced)
        );
    }
    // The epoch kept for fencing is given to nobody.
    let mut bench = Bench::new();
    bench.put(Transaction {
        producer_epoch: ProducerEpoch::MAX - 1,
        ..transaction(TxnState::Ongoing)
    });
    assert_eq!(bench.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(
        bench.shard.markers(ID).unwrap().producer_epoch,
        ProducerEpoch::MAX
    );
    bench.complete();
    let (id, epoch) = bench.init(None).unwrap();
    assert_eq!((id > 100, epoch), (true, 0));
}

#[test]
fn t_14_a_transaction_that_uses_up_the_epochs_ends_under_a_new_producer_id() {
    for restart in [false, true] {
        let mut bench = Bench::new();
        let last = ProducerEpoch::MAX - 1;
        bench.put(Transaction {
            producer_epoch: last,
            ..transaction(TxnState::Ongoing)
        });
        let (id, epoch) = bench.end(5, (7, last), true).unwrap();
        assert_eq!((id > 100, epoch), (true, 0));
        if restart {
            bench.restart();
        }
        let markers = bench.shard.markers(ID).unwrap();
        assert_eq!(
            (markers.producer_id, markers.producer_epoch),
            (7, ProducerEpoch::MAX)
        );
        assert_eq!(
            bench.add((id, 0), 1),
            Err(ErrorCode::ConcurrentTransactions),
            "wait, do not fail"
        );
        assert_eq!(
            bench.end(5, (7, last), true),
            Err(ErrorCode::ConcurrentTransactions)
        );
        bench.complete();
        assert_eq!(
            (bench.get().producer_id, bench.get().producer_epoch),
            (id, 0)
        );
        if restart {
            bench.restart();
        }
        assert_eq!(
            bench.end(5, (7, last), true),
            Ok((id, 0)),
            "T-16: the repetition is recognised"
        );
        assert_eq!(bench.add((id, 0), 1), Ok(()));
        assert_eq!(
            bench.add((7, last), 1),
            Err(ErrorCode::InvalidProducerIdMapping)
        );
    }
}
