//! The rules of transactions, one test a rule: the numbers are those of Kafka's behaviour (37-43) and of the anomalies other systems
//! were caught with (T-).

use proptest::prelude::*;

use super::*;

mod identities;

const ID: &str = "pay";

/// A shard, its log, and a clock that only moves when told.
struct Bench {
    shard: TxnShard,
    log: Vec<TxnRecord>,
    now: Time,
    next_spare: ProducerId,
}

impl Bench {
    fn new() -> Bench {
        let now = Time {
            monotonic_ms: 0,
            wall_ms: 1_000_000,
        };
        let shard = TxnShard::load(TxnConfig::default(), now, |_| {});
        Bench {
            shard,
            log: Vec::new(),
            now,
            next_spare: 100,
        }
    }

    /// A shard whose one transactional id is in `state`, at epoch 5 of producer 7.
    fn at(state: TxnState) -> Bench {
        let mut bench = Bench::new();
        bench.put(transaction(state));
        bench
    }

    fn put(&mut self, transaction: Transaction) {
        self.append(vec![TxnRecord::new(ID, transaction)]);
    }

    fn append(&mut self, records: Vec<TxnRecord>) {
        for record in records {
            let (key, value) = record.encode().unwrap();
            assert_eq!(
                TxnRecord::decode(key, value).unwrap().as_ref(),
                Some(&record)
            );
            self.shard.apply(&record);
            self.log.push(record);
        }
    }

    fn run<R>(&mut self, decision: Decision<R>) -> Result<R, ErrorCode> {
        self.append(decision.records);
        decision.reply
    }

    fn advance(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.wall_ms += i64::try_from(ms).unwrap();
    }

    fn spare(&mut self) -> ProducerId {
        self.next_spare += 1;
        self.next_spare
    }

    fn init(
        &mut self,
        expected: Option<(ProducerId, ProducerEpoch)>,
    ) -> Result<(ProducerId, ProducerEpoch), ErrorCode> {
        let spare = self.spare();
        let init = InitProducer {
            transactional_id: ID.to_owned(),
            timeout_ms: 60_000,
            expected,
            spare,
        };
        let decision = self.shard.init_producer(&init, self.now);
        self.run(decision)
    }

    fn add(
        &mut self,
        (id, epoch): (ProducerId, ProducerEpoch),
        partition: i32,
    ) -> Result<(), ErrorCode> {
        let partitions = BTreeSet::from([TopicPartition::new("t", partition)]);
        let decision = self
            .shard
            .add_partitions(&producer(id, epoch), &partitions, 2, self.now);
        self.run(decision)
    }

    fn end(
        &mut self,
        version: i16,
        (id, epoch): (ProducerId, ProducerEpoch),
        commit: bool,
    ) -> Result<(ProducerId, ProducerEpoch), ErrorCode> {
        let spare = self.spare();
        let end = EndTransaction {
            producer: producer(id, epoch),
            commit,
            bumps_epoch: version >= 5,
            spare,
        };
        let decision = self.shard.end(&end, self.now);
        self.run(decision)
    }

    fn complete(&mut self) {
        let markers = self.shard.markers(ID).expect("a decided transaction");
        let decision = self.shard.complete(&markers, self.now);
        self.run(decision).unwrap();
    }

    fn replayed(&self) -> TxnShard {
        TxnShard::load(TxnConfig::default(), self.now, |shard| {
            self.log.iter().for_each(|record| shard.apply(record))
        })
    }

    /// From a log of which compaction left the last record.
    fn compacted(&self) -> TxnShard {
        TxnShard::load(TxnConfig::default(), self.now, |shard| {
            self.log
                .last()
                .into_iter()
                .for_each(|record| shard.apply(record))
        })
    }

    fn restart(&mut self) {
        self.shard = self.replayed();
    }

    fn get(&self) -> &Transaction {
        self.shard.get(ID).unwrap()
    }

    fn state(&self) -> TxnState {
        self.get().state
    }
}

type Reply = Result<(ProducerId, ProducerEpoch), ErrorCode>;

fn producer(id: ProducerId, epoch: ProducerEpoch) -> Producer {
    Producer {
        transactional_id: ID.to_owned(),
        id,
        epoch,
    }
}

/// Producer 7 at epoch 5 after an EndTxn of epoch 4, in any state.
fn transaction(state: TxnState) -> Transaction {
    let partitions = match state {
        TxnState::Ongoing | TxnState::PrepareCommit | TxnState::PrepareAbort => {
            vec![TopicPartition::new("t", 0)]
        }
        _ => Vec::new(),
    };
    Transaction {
        producer_id: 7,
        previous_producer_id: 7,
        next_producer_id: -1,
        producer_epoch: 5,
        last_producer_epoch: 4,
        timeout_ms: 60_000,
        state,
        partitions: partitions.into_iter().collect(),
        start_ms: 1_000_000,
        update_ms: 1_000_000,
        client_version: 2,
    }
}

#[test]
fn rule_39_end_of_a_client_that_bumps_its_epoch() {
    use ErrorCode::{ConcurrentTransactions, InvalidTxnState, ProducerFenced};
    use TxnState::{CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit};
    let (same, bumped, busy): (Reply, Reply, Reply) =
        (Ok((7, 5)), Ok((7, 6)), Err(ConcurrentTransactions));
    // abort retry, abort current, commit retry, commit current
    let table: [(TxnState, [Reply; 4]); 6] = [
        (
            Empty,
            [
                Err(ProducerFenced),
                bumped,
                Err(ProducerFenced),
                Err(InvalidTxnState),
            ],
        ),
        (
            Ongoing,
            [Err(ProducerFenced), bumped, Err(ProducerFenced), bumped],
        ),
        (PrepareCommit, [Err(InvalidTxnState), busy, busy, busy]),
        (PrepareAbort, [busy, busy, Err(ProducerFenced), busy]),
        (
            CompleteCommit,
            [Err(InvalidTxnState), bumped, same, Err(InvalidTxnState)],
        ),
        (
            CompleteAbort,
            [same, bumped, Err(ProducerFenced), Err(InvalidTxnState)],
        ),
    ];
    for (state, replies) in table {
        for (case, reply) in replies.into_iter().enumerate() {
            let (commit, epoch) = (case >= 2, if case % 2 == 0 { 4 } else { 5 });
            let mut bench = Bench::at(state);
            let before = bench.log.len();
            assert_eq!(
                bench.end(5, (7, epoch), commit),
                reply,
                "{state:?} commit={commit} epoch={epoch}"
            );
            assert_eq!(
                bench.log.len() > before,
                reply == bumped,
                "only a new end is written: {state:?}"
            );
            assert_eq!(
                bench.end(5, (7, 3), commit),
                Err(ProducerFenced),
                "{state:?}"
            );
            assert_eq!(
                bench.end(5, (8, epoch), commit),
                Err(ErrorCode::InvalidProducerIdMapping),
                "{state:?}"
            );
        }
    }
}

#[test]
fn rule_39_end_of_a_client_that_keeps_its_epoch() {
    use ErrorCode::{ConcurrentTransactions, InvalidTxnState};
    use TxnState::{CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit};
    let same = Ok((7, 5));
    for (state, abort, commit) in [
        (Empty, Err(InvalidTxnState), Err(InvalidTxnState)),
        (Ongoing, same, same),
        (
            PrepareCommit,
            Err(InvalidTxnState),
            Err(ConcurrentTransactions),
        ),
        (
            PrepareAbort,
            Err(ConcurrentTransactions),
            Err(InvalidTxnState),
        ),
        (CompleteCommit, Err(InvalidTxnState), same),
        (CompleteAbort, same, Err(InvalidTxnState)),
    ] {
        for (outcome, reply) in [(false, abort), (true, commit)] {
            let mut bench = Bench::at(state);
            assert_eq!(
                bench.end(1, (7, 5), outcome),
                reply,
                "{state:?} commit={outcome}"
            );
            assert_eq!(bench.get().producer_epoch, 5, "the epoch stays");
            assert_eq!(
                bench.end(1, (7, 4), outcome),
                Err(ErrorCode::ProducerFenced)
            );
        }
    }
}

#[test]
fn t_1_a_delayed_commit_does_not_end_the_next_transaction() {
    let mut bench = Bench::at(TxnState::Ongoing);
    assert_eq!(bench.end(5, (7, 5), true), Ok((7, 6)));
    bench.complete();
    assert_eq!(bench.add((7, 6), 1), Ok(()));
    assert_eq!(bench.end(5, (7, 5), true), Err(ErrorCode::ProducerFenced));
    assert_eq!(
        (bench.state(), bench.get().producer_epoch),
        (TxnState::Ongoing, 6)
    );
    // The limit of clients that keep their epoch, which is why ours do not: the same delay ends the next transaction.
    let mut bench = Bench::at(TxnState::Ongoing);
    bench.end(1, (7, 5), true).unwrap();
    bench.complete();
    bench.add((7, 5), 1).unwrap();
    assert_eq!(bench.end(1, (7, 5), true), Ok((7, 5)));
}

#[test]
fn t_8_a_repeated_commit_succeeds_also_after_a_restart() {
    for version in [1, 5] {
        let mut bench = Bench::at(TxnState::Ongoing);
        let first = bench.end(version, (7, 5), true);
        bench.restart();
        assert_eq!(
            bench.end(version, (7, 5), true),
            Err(ErrorCode::ConcurrentTransactions)
        );
        bench.complete();
        bench.restart();
        assert_eq!(bench.end(version, (7, 5), true), first, "version {version}");
    }
}

#[test]
fn t_15_a_commit_that_meets_the_timeout_is_fenced_and_the_producer_can_go_on() {
    let mut bench = Bench::at(TxnState::Ongoing);
    bench.advance(60_000);
    let records = bench.shard.on_tick(bench.now);
    bench.append(records);
    assert_eq!(bench.end(5, (7, 5), true), Err(ErrorCode::ProducerFenced));
    bench.complete();
    assert_eq!(bench.end(5, (7, 5), true), Err(ErrorCode::ProducerFenced));
    assert_eq!(
        bench.end(5, (7, 5), false),
        Ok((7, 6)),
        "its abort learns the new epoch"
    );
    assert_eq!(bench.init(Some((7, 5))), Ok((7, 6)));
}

#[test]
fn rule_41_a_transaction_is_aborted_when_its_time_is_over_not_before() {
    let mut bench = Bench::at(TxnState::Ongoing);
    assert_eq!(bench.shard.next_deadline(bench.now), Some(60_000));
    bench.advance(59_999);
    assert_eq!(bench.shard.on_tick(bench.now), []);
    bench.advance(1);
    let records = bench.shard.on_tick(bench.now);
    bench.append(records);
    assert_eq!(
        (bench.state(), bench.get().producer_epoch, bench.log.len()),
        (TxnState::PrepareAbort, 6, 2)
    );
    assert_eq!(bench.shard.on_tick(bench.now), []);
}

#[test]
fn rule_41_a_clock_set_back_while_the_broker_was_down_holds_no_transaction_open() {
    let mut bench = Bench::at(TxnState::Ongoing);
    bench.now.wall_ms -= 500_000;
    bench.restart();
    assert_eq!(
        bench.shard.next_deadline(bench.now),
        Some(bench.now.monotonic_ms + 60_000)
    );
    bench.advance(60_000);
    let records = bench.shard.on_tick(bench.now);
    bench.append(records);
    assert_eq!(bench.state(), TxnState::PrepareAbort);
}

#[test]
fn rule_41_what_a_crash_left_prepared_is_found_and_completed_once() {
    for (state, commit) in [
        (TxnState::PrepareCommit, true),
        (TxnState::PrepareAbort, false),
    ] {
        let mut bench = Bench::at(state);
        bench.restart();
        let unfinished = bench.shard.unfinished();
        assert_eq!(unfinished.len(), 1);
        assert_eq!(
            (unfinished[0].commit, unfinished[0].producer_epoch),
            (commit, 5)
        );
        assert_eq!(unfinished[0].partitions, [TopicPartition::new("t", 0)]);
        bench.complete();
        assert_eq!(
            bench.shard.complete(&unfinished[0], bench.now),
            Decision::reply(())
        );
        assert_eq!(bench.shard.unfinished(), []);
    }
}

#[test]
fn rule_40_verification_tells_what_is_in_the_transaction() {
    let bench = Bench::at(TxnState::Ongoing);
    let partitions = [TopicPartition::new("t", 0), TopicPartition::new("t", 1)];
    let verify = |id, epoch| bench.shard.verify(&producer(id, epoch), &partitions);
    assert_eq!(
        verify(7, 5),
        Ok(vec![ErrorCode::None, ErrorCode::TransactionAbortable])
    );
    assert_eq!(verify(7, 4), Err(ErrorCode::ProducerFenced));
    assert_eq!(verify(8, 5), Err(ErrorCode::InvalidProducerIdMapping));
    let bench = Bench::at(TxnState::PrepareAbort);
    assert_eq!(
        bench.shard.verify(&producer(7, 5), &partitions),
        Err(ErrorCode::ConcurrentTransactions)
    );
}

#[test]
fn partitions_are_added_once_and_begin_the_transaction() {
    let mut bench = Bench::at(TxnState::CompleteCommit);
    bench.advance(500);
    assert_eq!(bench.add((7, 5), 0), Ok(()));
    assert_eq!((bench.get().start_ms, bench.log.len()), (1_000_500, 2));
    bench.advance(500);
    assert_eq!(bench.add((7, 5), 0), Ok(()));
    assert_eq!(bench.log.len(), 2, "nothing new, nothing written");
    assert_eq!(bench.add((7, 5), 1), Ok(()));
    assert_eq!(
        (bench.get().start_ms, bench.get().partitions.len()),
        (1_000_500, 2)
    );
}

#[test]
fn ids_nobody_uses_are_forgotten_after_a_week_but_not_those_in_a_transaction() {
    for (state, forgotten) in [
        (TxnState::CompleteCommit, true),
        (TxnState::Empty, true),
        (TxnState::PrepareCommit, false),
    ] {
        let mut bench = Bench::at(state);
        bench.advance(604_800_000);
        let records = bench.shard.on_tick(bench.now);
        bench.append(records);
        assert_eq!(bench.shard.get(ID).is_none(), forgotten, "{state:?}");
    }
}

proptest! {
    /// G-1: whatever is asked in whatever order, what lives is what a replay gives, of the whole log or of a compacted one; and an
    /// epoch never goes back.
    #[test]
    fn live_state_is_a_replay_of_the_log(commands in prop::collection::vec((0..9u8, -2..3i16, any::<bool>()), 1..60)) {
        let mut bench = Bench::new();
        bench.init(None).unwrap();
        for (command, epoch_offset, flag) in commands {
            let (id, epoch) = bench.shard.get(ID).map_or((7, 0), |txn| (txn.producer_id, txn.producer_epoch));
            let epoch = epoch.saturating_add(epoch_offset);
            let before = bench.shard.get(ID).map(|txn| (txn.producer_id, txn.producer_epoch));
            match command {
                0 => drop(bench.init(None)),
                1 => drop(bench.init(Some((id, epoch)))),
                2 | 3 => drop(bench.add((id, epoch), i32::from(epoch_offset))),
                4 => drop(bench.end(5, (id, epoch), flag)),
                5 => drop(bench.end(1, (id, epoch), flag)),
                6 if bench.shard.markers(ID).is_some() => bench.complete(),
                7 => {
                    bench.advance(if flag { 30_000 } else { 60_001 });
                    let records = bench.shard.on_tick(bench.now);
                    bench.append(records);
                }
                8 => if let Some(mut txn) = bench.shard.get(ID).cloned().filter(|txn| flag && txn.producer_epoch < 32_000) {
                    txn.producer_epoch = ProducerEpoch::MAX - 2;
                    bench.put(txn);
                },
                _ => {}
            }
            let after = bench.shard.get(ID).map(|txn| (txn.producer_id, txn.producer_epoch));
            if let (Some(before), Some(after)) = (before, after) {
                prop_assert!(after.0 != before.0 || after.1 >= before.1, "{before:?} → {after:?}");
            }
            for replayed in [bench.replayed(), bench.compacted()] {
                prop_assert!(bench.shard.iter().eq(replayed.iter()));
                prop_assert_eq!(bench.shard.unfinished(), replayed.unfinished());
                prop_assert_eq!(bench.shard.timeouts.next(), replayed.timeouts.next());
            }
        }
    }
}
