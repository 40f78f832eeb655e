//! Transactions, as handlers and Produce call them. Who meets a transaction that is just ending is kept waiting for a moment, since
//! its markers take one flush: that spares the client a refusal and its back-off.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flumen_planted::{Bug, planted};
use flumen_protocol::builder::EndTxnMarker;
use flumen_protocol::codec::{DecodeError, EncodeError};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{ProducerEpoch, ProducerId, TopicPartition};
use parking_lot::Mutex;

use super::groups::Groups;
use super::markers::Finisher;
use super::shard::{Shard, Step};
use super::table::ShardTable;
use super::{Machine, World};
use crate::coordinator::txn::record::TxnRecord;
use crate::coordinator::txn::{
    Decision, EndTransaction, InitProducer, Producer, Transaction, TxnConfig, TxnShard,
};
use crate::coordinator::{TRANSACTIONS_TOPIC, Time};

impl Machine for TxnShard {
    type Record = TxnRecord;
    type Completion = Infallible;
    type Config = TxnConfig;
    const TOPIC: &'static str = TRANSACTIONS_TOPIC;

    fn load(config: &TxnConfig, now: Time, replay: impl FnOnce(&mut TxnShard)) -> TxnShard {
        TxnShard::load(config.clone(), now, replay)
    }
    fn encode(record: &TxnRecord) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        record.encode()
    }
    fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<TxnRecord>, DecodeError> {
        TxnRecord::decode(key, value)
    }
    fn apply(&mut self, record: &TxnRecord, _position: i64, _producer: Option<ProducerId>) {
        TxnShard::apply(self, record);
    }
    fn apply_marker(&mut self, _producer: ProducerId, _committed: bool) {}
    fn next_deadline(&self, now: Time) -> Option<u64> {
        TxnShard::next_deadline(self, now)
    }
}

/// First Produce version by which a partition joins its producer's transaction (KIP-890).
const PRODUCE_IMPLICIT_ADD: i16 = 12;
/// First Produce version whose clients know TRANSACTION_ABORTABLE.
const PRODUCE_ABORTABLE: i16 = 11;
/// How long a request waits for the end of the transaction before.
const CONCURRENT_WAIT: Duration = Duration::from_millis(500);

/// The transactional batches of one Produce request that would each begin a transaction in their partition.
#[derive(Debug)]
pub(crate) struct TransactionalWrites<'a> {
    pub(crate) transactional_id: &'a str,
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) partitions: Vec<TopicPartition>,
    /// Of the Produce request.
    pub(crate) version: i16,
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Transactions {
    world: Arc<World>,
    table: Arc<ShardTable<TxnShard>>,
    finisher: Arc<Finisher>,
    /// A producer id that was taken from the cluster and then not needed.
    spare: Mutex<Option<ProducerId>>,
}

impl Transactions {
    pub(super) fn new(world: &Arc<World>, groups: &Arc<Groups>) -> Arc<Transactions> {
        let config = &world.parts.config;
        let config = TxnConfig {
            timeout_max_ms: config.transaction_max_timeout_ms,
            id_expiration_ms: i64::from(config.transactional_id_expiration_ms),
            expiry_check_interval_ms: u64::try_from(config.transaction_remove_expired_interval_ms)
                .unwrap_or(u64::MAX),
        };
        Arc::new(Transactions {
            world: Arc::clone(world),
            table: ShardTable::new(world, config),
            finisher: Finisher::new(world, groups),
            spare: Mutex::new(None),
        })
    }

    pub(super) async fn load(&self) {
        self.table.open().await;
    }

    /// Ticks the shards that are due and finishes what a load found half done; the next deadline of all.
    pub(super) fn tick(&self, now: Time) -> Option<u64> {
        let due = |shard: &Arc<Shard<TxnShard>>| {
            if shard.take_loaded()
                && let Ok((unfinished, commit)) = shard.read(TxnShard::unfinished)
            {
                unfinished
                    .into_iter()
                    .for_each(|markers| self.finisher.finish(shard, markers, commit.clone()));
            }
            if shard
                .next_deadline(now)
                .is_some_and(|deadline| deadline <= now.monotonic_ms)
            {
                let tick = |machine: &mut TxnShard, now| Decision {
                    records: machine.on_tick(now),
                    reply: Ok(()),
                };
                self.step(shard, tick).ok();
            }
            shard.next_deadline(now)
        };
        self.table.all().iter().filter_map(due).min()
    }

    /// Makes sure that the topic exists, so that a coordinator can be named.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE`.
    pub(crate) async fn ensure(&self, transactional_id: &str) -> Result<(), ErrorCode> {
        self.table.find(transactional_id).await.map(drop)
    }

    /// A producer id for an idempotent producer without transactions.
    ///
    /// # Errors
    /// As [`Cluster::next_producer_id`](crate::cluster::Cluster::next_producer_id).
    pub(crate) async fn new_producer_id(&self) -> Result<ProducerId, ErrorCode> {
        self.world.parts.cluster.next_producer_id().await
    }

    /// InitProducerId with a transactional id.
    pub(crate) async fn init_producer(
        &self,
        transactional_id: &str,
        timeout_ms: i32,
        expected: Option<(ProducerId, ProducerEpoch)>,
    ) -> Result<(ProducerId, ProducerEpoch), ErrorCode> {
        let spare = self.take_spare().await?;
        let init = InitProducer {
            transactional_id: transactional_id.to_owned(),
            timeout_ms,
            expected,
            spare,
        };
        let call = |machine: &mut TxnShard, now| machine.init_producer(&init, now);
        self.decide_with_spare(transactional_id, spare, call).await
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn.
    pub(crate) async fn add_partitions(
        &self,
        producer: &Producer,
        partitions: &BTreeSet<TopicPartition>,
        client_version: i16,
    ) -> Result<(), ErrorCode> {
        let call = |machine: &mut TxnShard, now| {
            machine.add_partitions(producer, partitions, client_version, now)
        };
        if planted(Bug::TransactionStartNotDurable) {
            // Wrong: after a crash nobody knows that these partitions wait for a marker.
            let shard = self.table.find(&producer.transactional_id).await?;
            return self.step(&shard, call)?.0;
        }
        self.decide(&producer.transactional_id, call).await
    }

    /// AddPartitionsToTxn in its verifying form: one code per partition.
    pub(crate) async fn verify(
        &self,
        producer: &Producer,
        partitions: &[TopicPartition],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let shard = self.table.find(&producer.transactional_id).await?;
        let (verified, commit) = shard.read(|machine| machine.verify(producer, partitions))?;
        commit.done().await?;
        verified
    }

    /// EndTxn: answered when the outcome is decided and on disk; the markers follow.
    pub(crate) async fn end(
        &self,
        producer: &Producer,
        commit: bool,
        bumps_epoch: bool,
    ) -> Result<(ProducerId, ProducerEpoch), ErrorCode> {
        let spare = self.take_spare().await?;
        let end = EndTransaction {
            producer: producer.clone(),
            commit,
            bumps_epoch,
            spare,
        };
        let call = |machine: &mut TxnShard, now| machine.end(&end, now);
        self.decide_with_spare(&producer.transactional_id, spare, call)
            .await
    }

    /// May these batches begin a transaction in their partitions? One answer each, in the code for Produce. From v12 on the
    /// partitions join the transaction by this call, and what says so is on disk before it returns; before v12 they must be in it.
    pub(crate) async fn verify_transactional_writes(
        &self,
        writes: &TransactionalWrites<'_>,
    ) -> Vec<Result<(), ErrorCode>> {
        let producer = Producer {
            transactional_id: writes.transactional_id.to_owned(),
            id: writes.producer_id,
            epoch: writes.producer_epoch,
        };
        let codes = if writes.version >= PRODUCE_IMPLICIT_ADD {
            let partitions = writes.partitions.iter().cloned().collect();
            let added = self
                .add_partitions(
                    &producer,
                    &partitions,
                    super::super::txn::TRANSACTION_VERSION_2,
                )
                .await;
            added.map(|()| vec![ErrorCode::None; writes.partitions.len()])
        } else {
            self.verify(&producer, &writes.partitions).await
        };
        let codes = codes.unwrap_or_else(|error| vec![error; writes.partitions.len()]);
        codes
            .into_iter()
            .map(|code| produce_code(code, writes.version))
            .collect()
    }

    /// DescribeTransactions, one transactional id.
    ///
    /// # Errors
    /// `TRANSACTIONAL_ID_NOT_FOUND`; as [`Shard::read`].
    pub(crate) async fn describe(&self, transactional_id: &str) -> Result<Transaction, ErrorCode> {
        let Some(shard) = self.table.existing(transactional_id) else {
            return Err(ErrorCode::TransactionalIdNotFound);
        };
        let (described, commit) = shard.read(|machine| machine.get(transactional_id).cloned())?;
        commit.done().await?;
        described.ok_or(ErrorCode::TransactionalIdNotFound)
    }

    /// ListTransactions, of all shards.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while one of them is not loaded: a list with gaps would be taken for the whole.
    pub(crate) async fn list(&self) -> Result<Vec<(String, Transaction)>, ErrorCode> {
        let mut listed = Vec::new();
        for shard in self.table.all().iter() {
            let (of_shard, commit) = shard.read(TxnShard::list)?;
            commit.done().await?;
            listed.extend(of_shard);
        }
        Ok(listed)
    }

    /// Writes a marker into each of `partitions` and waits until all are committed: one code each.
    pub(super) async fn write_markers(
        &self,
        marker: &EndTxnMarker,
        version: i16,
        partitions: &[TopicPartition],
    ) -> Vec<ErrorCode> {
        let written: Vec<_> = partitions
            .iter()
            .map(|name| self.finisher.append(name, marker, version))
            .collect();
        let mut codes = Vec::with_capacity(written.len());
        for appended in written {
            let outcome = match appended {
                Ok(commit) => commit.done().await,
                Err(error) => Err(error),
            };
            codes.push(outcome.err().unwrap_or(ErrorCode::None));
        }
        codes
    }

    /// A call that is answered at once or after the end of the transaction before, if that comes soon.
    async fn decide<R>(
        &self,
        transactional_id: &str,
        call: impl Fn(&mut TxnShard, Time) -> Decision<R>,
    ) -> Result<R, ErrorCode> {
        let shard = self.table.find(transactional_id).await?;
        let deadline = self.world.parts.drivers.clock.now() + CONCURRENT_WAIT;
        loop {
            let changed = shard.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (reply, commit) = self.step(&shard, &call)?;
            commit.done().await?;
            if !matches!(reply, Err(ErrorCode::ConcurrentTransactions)) {
                return reply;
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = self.world.parts.drivers.clock.sleep_until(deadline) => return reply,
            }
        }
    }

    /// One step of a machine. What it decided is carried out by a task of its own, whatever becomes of the caller.
    fn step<R>(
        &self,
        shard: &Arc<Shard<TxnShard>>,
        call: impl FnOnce(&mut TxnShard, Time) -> Decision<R>,
    ) -> Result<(Result<R, ErrorCode>, super::shard::Commit), ErrorCode> {
        let prepared = |record: &TxnRecord| {
            record
                .value
                .as_ref()
                .is_some_and(|txn| txn.state.is_prepared())
        };
        let ((reply, decided), commit) = shard.step(|machine, now| {
            let Decision { records, reply } = call(machine, now);
            let decided: Vec<String> = records
                .iter()
                .filter(|record| prepared(record))
                .map(|record| record.transactional_id.clone())
                .collect();
            Step::new(records, (reply, decided))
        })?;
        for transactional_id in decided {
            if let Ok((Some(markers), _)) = shard.read(|machine| machine.markers(&transactional_id))
            {
                self.finisher.finish(shard, markers, commit.clone());
            }
        }
        Ok((reply, commit))
    }

    async fn take_spare(&self) -> Result<ProducerId, ErrorCode> {
        let kept = self.spare.lock().take();
        match kept {
            Some(spare) => Ok(spare),
            None => self.new_producer_id().await,
        }
    }

    /// As `decide`, for a call that may take the spare producer id. What it did not take is kept for the next request, but only
    /// now: a decision that is put off is made again, and may take it then.
    async fn decide_with_spare<R>(
        &self,
        transactional_id: &str,
        spare: ProducerId,
        call: impl Fn(&mut TxnShard, Time) -> Decision<R>,
    ) -> Result<R, ErrorCode> {
        let watch = SpareWatch::new(spare);
        let watched = |machine: &mut TxnShard, now| watch.see(call(machine, now));
        let reply = self.decide(transactional_id, watched).await;
        if let Some(spare) = watch.unused() {
            *self.spare.lock() = Some(spare);
        }
        reply
    }
}

/// Sees whether any of a request's decisions names the spare producer id.
struct SpareWatch {
    spare: ProducerId,
    named: AtomicBool,
}

impl SpareWatch {
    fn new(spare: ProducerId) -> SpareWatch {
        SpareWatch {
            spare,
            named: AtomicBool::new(false),
        }
    }

    fn see<R>(&self, decision: Decision<R>) -> Decision<R> {
        let names = |record: &TxnRecord| {
            record.value.as_ref().is_some_and(|txn| {
                txn.producer_id == self.spare || txn.next_producer_id == self.spare
            })
        };
        if decision.records.iter().any(names) {
            self.named.store(true, Ordering::Relaxed);
        }
        decision
    }

    /// The spare, if no decision named it.
    fn unused(&self) -> Option<ProducerId> {
        (!self.named.load(Ordering::Relaxed)).then_some(self.spare)
    }
}

/// What a producer is told. Codes it does not know, or would not retry, are told as ones it does (Kafka:
/// `AddPartitionsToTxnManager`, `ReplicaManager`).
fn produce_code(code: ErrorCode, version: i16) -> Result<(), ErrorCode> {
    Err(match code {
        ErrorCode::None => return Ok(()),
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version < PRODUCE_ABORTABLE => {
            ErrorCode::InvalidTxnState
        }
        ErrorCode::ConcurrentTransactions if version >= PRODUCE_IMPLICIT_ADD => {
            ErrorCode::ConcurrentTransactions
        }
        ErrorCode::ConcurrentTransactions
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::txn::TxnState;

    #[test]
    fn a_producer_id_that_a_later_pass_names_is_not_kept_for_the_next_request() {
        let now = Time {
            monotonic_ms: 0,
            wall_ms: 1_000,
        };
        let mut machine = TxnShard::load(TxnConfig::default(), now, |_| {});
        let open = Transaction {
            producer_id: 7,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: ProducerEpoch::MAX - 2,
            last_producer_epoch: -1,
            timeout_ms: 60_000,
            state: TxnState::Ongoing,
            partitions: BTreeSet::new(),
            start_ms: 1_000,
            update_ms: 1_000,
            client_version: 0,
        };
        machine.apply(&TxnRecord::new("pay", open));
        let init = InitProducer {
            transactional_id: "pay".to_owned(),
            timeout_ms: 60_000,
            expected: None,
            spare: 100,
        };
        let watch = SpareWatch::new(init.spare);
        let first = watch.see(machine.init_producer(&init, now));
        assert_eq!(first.reply, Err(ErrorCode::ConcurrentTransactions));
        assert_eq!(watch.unused(), Some(100), "nobody has it yet");
        let mut aborted = first.records[0].value.clone().unwrap();
        aborted.state = TxnState::CompleteAbort;
        machine.apply(&TxnRecord::new("pay", aborted));
        let second = watch.see(machine.init_producer(&init, now));
        assert_eq!(second.reply, Ok((100, 0)));
        assert_eq!(watch.unused(), None);
        let third = watch.see(machine.init_producer(&init, now));
        assert!(third.reply.is_ok());
        assert_eq!(watch.unused(), None, "a name once given stays given");
    }

    #[test]
    fn rule_40_producers_are_told_codes_their_version_knows() {
        use ErrorCode::*;
        for (code, v10, v11, v12) in [
            (
                TransactionAbortable,
                InvalidTxnState,
                TransactionAbortable,
                TransactionAbortable,
            ),
            (
                ProducerFenced,
                InvalidProducerEpoch,
                InvalidProducerEpoch,
                InvalidProducerEpoch,
            ),
            (
                ConcurrentTransactions,
                NotEnoughReplicas,
                NotEnoughReplicas,
                ConcurrentTransactions,
            ),
            (
                NotCoordinator,
                NotEnoughReplicas,
                NotEnoughReplicas,
                NotEnoughReplicas,
            ),
            (
                InvalidProducerIdMapping,
                InvalidProducerIdMapping,
                InvalidProducerIdMapping,
                InvalidProducerIdMapping,
            ),
        ] {
            for (version, expected) in [(10, v10), (11, v11), (12, v12)] {
                assert_eq!(
                    produce_code(code, version),
                    Err(expected),
                    "{code:?} v{version}"
                );
            }
        }
        assert_eq!(produce_code(None, 9), Ok(()));
    }
}
