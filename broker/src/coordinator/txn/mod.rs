//! Transactions: the machine of one partition of `__transaction_state`.
//!
//! [`TxnShard`] owns the transactional ids that hash to its partition. `decide`-style calls read (`&self`) and return a
//! [`Decision`]: records and a reply. [`TxnShard::apply`] mutates, the same on replay. A transaction that is decided
//! (`PrepareCommit`, `PrepareAbort`) is a [`Markers`] job for the runtime, which writes a marker into every partition and then asks for
//! [`TxnShard::complete`]; after a restart the jobs are found again by [`TxnShard::unfinished`].
//!
//! ```text
//!            InitProducerId                 AddPartitions, first Produce (TV2)
//!   (none) ────────────────▶ Empty ◀──┐  ┌────────────────────────────────▶ Ongoing
//!                              ▲      │  │                                   │    │ timeout, InitProducerId:
//!               InitProducerId │      │  │                     EndTxn commit │    │ epoch + 1
//!                              │      │  │                                   ▼    ▼ EndTxn abort
//!                       CompleteCommit, CompleteAbort ◀──markers── PrepareCommit, PrepareAbort
//! ```
//! Under transaction version 2 (KIP-890) every EndTxn bumps the epoch, so nothing of one transaction can reach the next.
//! Source: Kafka `TransactionCoordinator`, `TransactionMetadata`; KIP-98, KIP-360, KIP-890.

mod end;
mod init;
pub(crate) mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use flumen_planted::{Bug, planted};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{ProducerEpoch, ProducerId, TopicPartition};

use super::Time;
use super::timers::Timers;
pub(crate) use end::EndTransaction;
pub(crate) use init::InitProducer;
use record::TxnRecord;

/// No producer id.
pub(crate) const NO_PRODUCER_ID: ProducerId = -1;
/// No producer epoch.
pub(crate) const NO_PRODUCER_EPOCH: ProducerEpoch = -1;
/// The transaction version of our own records and of clients that bump epochs (KIP-890).
pub(crate) const TRANSACTION_VERSION_2: i16 = 2;

/// The last epoch a client is given is `i16::MAX - 1`: the one above is kept so that a producer can always be fenced.
pub(crate) fn is_exhausted(epoch: ProducerEpoch) -> bool {
    epoch >= ProducerEpoch::MAX - 1
}

/// Where a transactional id stands; the numbers are those of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TxnState {
    Empty = 0,
    Ongoing = 1,
    PrepareCommit = 2,
    PrepareAbort = 3,
    CompleteCommit = 4,
    CompleteAbort = 5,
}

impl TxnState {
    /// All of them.
    pub(crate) const ALL: [TxnState; 6] = [
        TxnState::Empty,
        TxnState::Ongoing,
        TxnState::PrepareCommit,
        TxnState::PrepareAbort,
        TxnState::CompleteCommit,
        TxnState::CompleteAbort,
    ];

    /// Kafka's name, as DescribeTransactions prints it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            TxnState::Empty => "Empty",
            TxnState::Ongoing => "Ongoing",
            TxnState::PrepareCommit => "PrepareCommit",
            TxnState::PrepareAbort => "PrepareAbort",
            TxnState::CompleteCommit => "CompleteCommit",
            TxnState::CompleteAbort => "CompleteAbort",
        }
    }

    /// It is decided, and the markers are being written.
    pub(crate) fn is_prepared(self) -> bool {
        matches!(self, TxnState::PrepareCommit | TxnState::PrepareAbort)
    }
}

/// One transactional id: its producer and its current or last transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) producer_id: ProducerId,
    /// The producer id before the last transition; differs from `producer_id` right after a rotation.
    pub(crate) previous_producer_id: ProducerId,
    /// The producer id the client will continue with once a transaction that exhausted the epochs is complete.
    pub(crate) next_producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    /// The epoch the same producer instance had before; -1 once another instance took over.
    pub(crate) last_producer_epoch: ProducerEpoch,
    pub(crate) timeout_ms: i32,
    pub(crate) state: TxnState,
    pub(crate) partitions: BTreeSet<TopicPartition>,
    /// Wall time of the first partition; -1 before.
    pub(crate) start_ms: i64,
    pub(crate) update_ms: i64,
    /// 2 if the client bumps its epoch with every transaction, else 0.
    pub(crate) client_version: i16,
}

/// What a call decided: append and apply the records, then reply once they are committed. A refusal can come with records too
/// (who finds a transaction open has it aborted, and must come again).
#[derive(Debug, PartialEq)]
pub(crate) struct Decision<R> {
    pub(crate) records: Vec<TxnRecord>,
    pub(crate) reply: Result<R, ErrorCode>,
}

impl<R> Decision<R> {
    fn refuse(error: ErrorCode) -> Decision<R> {
        Decision {
            records: Vec::new(),
            reply: Err(error),
        }
    }

    fn reply(reply: R) -> Decision<R> {
        Decision {
            records: Vec::new(),
            reply: Ok(reply),
        }
    }
}

/// A producer and what it believes its identity is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) transactional_id: String,
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

/// A decided transaction whose markers are to be written to `partitions`, under the epoch that fences its own late writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Markers {
    pub(crate) transactional_id: String,
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) commit: bool,
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) client_version: i16,
}

/// What the machine needs of the broker's configuration.
#[derive(Clone, Debug)]
pub(crate) struct TxnConfig {
    pub(crate) timeout_max_ms: i32,
    pub(crate) id_expiration_ms: i64,
    pub(crate) expiry_check_interval_ms: u64,
}

impl Default for TxnConfig {
    fn default() -> TxnConfig {
        TxnConfig {
            timeout_max_ms: 900_000,
            id_expiration_ms: 604_800_000,
            expiry_check_interval_ms: 3_600_000,
        }
    }
}

/// The transactional ids of one partition of `__transaction_state`.
#[derive(Clone, Debug)]
pub(crate) struct TxnShard {
    config: TxnConfig,
    transactions: BTreeMap<String, Transaction>,
    /// Wall time at which each ongoing transaction runs out.
    timeouts: Timers<String>,
    expiry_check_at: u64,
}

impl TxnShard {
    /// Rebuilds the shard: `replay` applies every record of the partition, in order.
    pub(crate) fn load(
        config: TxnConfig,
        now: Time,
        replay: impl FnOnce(&mut TxnShard),
    ) -> TxnShard {
        let expiry_check_at = now.monotonic_ms + config.expiry_check_interval_ms;
        let mut shard = TxnShard {
            config,
            transactions: BTreeMap::new(),
            timeouts: Timers::default(),
            expiry_check_at,
        };
        replay(&mut shard);
        shard.clamp_timeouts(now);
        shard
    }

    /// A transaction that began in what is now the future (the clock was set back while the broker was down) ends by its timeout
    /// from now.
    fn clamp_timeouts(&mut self, now: Time) {
        for (id, transaction) in &self.transactions {
            if transaction.state == TxnState::Ongoing && transaction.start_ms > now.wall_ms {
                let end_ms = now
                    .wall_ms
                    .saturating_add(i64::from(transaction.timeout_ms));
                self.timeouts
                    .set(id.clone(), u64::try_from(end_ms).unwrap_or(0));
            }
        }
    }

    /// A record lies in the log. Live and on replay.
    pub(crate) fn apply(&mut self, record: &TxnRecord) {
        let id = &record.transactional_id;
        let Some(transaction) = &record.value else {
            self.transactions.remove(id);
            self.timeouts.cancel(id);
            return;
        };
        match transaction.state {
            TxnState::Ongoing => {
                let end_ms = transaction
                    .start_ms
                    .saturating_add(i64::from(transaction.timeout_ms));
                self.timeouts
                    .set(id.clone(), u64::try_from(end_ms).unwrap_or(0));
            }
            _ => self.timeouts.cancel(id),
        }
        self.transactions.insert(id.clone(), transaction.clone());
    }

    /// Adds partitions to a producer's transaction; the first ones begin it.
    ///
    /// Errors: `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`, `CONCURRENT_TRANSACTIONS` while the transaction before is ending.
    pub(crate) fn add_partitions(
        &self,
        producer: &Producer,
        partitions: &BTreeSet<TopicPartition>,
        client_version: i16,
        now: Time,
    ) -> Decision<()> {
        let transaction = match self.check(producer) {
            Ok(transaction) => transaction,
            Err(error) => return Decision::refuse(error),
        };
        let ongoing = transaction.state == TxnState::Ongoing;
        if ongoing && partitions.is_subset(&transaction.partitions) {
            return Decision::reply(());
        }
        let mut next = transaction.succeed(TxnState::Ongoing, now);
        if !ongoing {
            next.start_ms = now.wall_ms;
            next.partitions.clear();
        }
        next.partitions.extend(partitions.iter().cloned());
        next.client_version = client_version;
        Decision {
            records: vec![TxnRecord::new(&producer.transactional_id, next)],
            reply: Ok(()),
        }
    }

    /// Every transactional id, in order.
    pub(crate) fn list(&self) -> Vec<(String, Transaction)> {
        let all = self.transactions.iter();
        all.map(|(id, transaction)| (id.clone(), transaction.clone()))
            .collect()
    }

    /// Is each of `partitions` part of the producer's transaction? One code each: none or TRANSACTION_ABORTABLE (KIP-890).
    ///
    /// # Errors
    /// As [`TxnShard::add_partitions`].
    pub(crate) fn verify(
        &self,
        producer: &Producer,
        partitions: &[TopicPartition],
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let transaction = self.check(producer)?;
        let verify = |partition| match transaction.partitions.contains(partition) {
            true => ErrorCode::None,
            false => ErrorCode::TransactionAbortable,
        };
        Ok(partitions.iter().map(verify).collect())
    }

    /// The producer's transaction, if the producer is who it should be and the transaction before is over.
    fn check(&self, producer: &Producer) -> Result<&Transaction, ErrorCode> {
        let transaction = self
            .transactions
            .get(&producer.transactional_id)
            .ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if transaction.state.is_prepared() && transaction.will_continue_as(producer) {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        if transaction.producer_id != producer.id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        // Wrong, if planted: an epoch before the current one belongs to who was fenced.
        let older = planted(Bug::EpochNotChecked) && producer.epoch < transaction.producer_epoch;
        if transaction.producer_epoch != producer.epoch && !older {
            return Err(ErrorCode::ProducerFenced);
        }
        Ok(transaction)
    }

    /// The markers of a decided transaction are in every partition: it is complete.
    pub(crate) fn complete(&self, markers: &Markers, now: Time) -> Decision<()> {
        let Some(transaction) = self.transactions.get(&markers.transactional_id) else {
            return Decision::refuse(ErrorCode::InvalidProducerIdMapping);
        };
        let same = (transaction.producer_id, transaction.producer_epoch)
            == (markers.producer_id, markers.producer_epoch);
        if !same || !transaction.state.is_prepared() {
            return Decision::reply(()); // done by somebody else
        }
        let record = TxnRecord::new(&markers.transactional_id, transaction.completed(now));
        Decision {
            records: vec![record],
            reply: Ok(()),
        }
    }

    /// The markers this transactional id's decided transaction needs.
    pub(crate) fn markers(&self, transactional_id: &str) -> Option<Markers> {
        let transaction = self
            .transactions
            .get(transactional_id)
            .filter(|transaction| transaction.state.is_prepared())?;
        Some(Markers {
            transactional_id: transactional_id.to_owned(),
            producer_id: transaction.producer_id,
            producer_epoch: transaction.producer_epoch,
            commit: transaction.state == TxnState::PrepareCommit,
            partitions: transaction.partitions.iter().cloned().collect(),
            client_version: transaction.client_version,
        })
    }

    /// Every decided transaction whose markers may not all be written: what a restart has to finish.
    pub(crate) fn unfinished(&self) -> Vec<Markers> {
        self.transactions
            .keys()
            .filter_map(|id| self.markers(id))
            .collect()
    }

    /// When [`TxnShard::on_tick`] has something to do, on the monotonic clock.
    pub(crate) fn next_deadline(&self, now: Time) -> Option<u64> {
        if self.transactions.is_empty() {
            return None;
        }
        let wall_ms = u64::try_from(now.wall_ms).unwrap_or(0);
        let timeout = self
            .timeouts
            .next()
            .map(|deadline| now.monotonic_ms + deadline.saturating_sub(wall_ms));
        Some(timeout.map_or(self.expiry_check_at, |deadline| {
            deadline.min(self.expiry_check_at)
        }))
    }

    /// Aborts transactions that ran out of time, and now and then forgets ids nobody uses.
    pub(crate) fn on_tick(&mut self, now: Time) -> Vec<TxnRecord> {
        let mut records = Vec::new();
        while let Some(id) = self
            .timeouts
            .pop_due(u64::try_from(now.wall_ms).unwrap_or(0))
        {
            if let Some(transaction) = self
                .transactions
                .get(&id)
                .filter(|txn| txn.state == TxnState::Ongoing)
                .filter(|_| !planted(Bug::TimeoutIgnored))
            // wrong: nobody else will end it
            {
                // The epoch it had is remembered: the producer is late, not replaced, and may learn its new epoch.
                records.push(TxnRecord::new(
                    &id,
                    transaction.fenced(transaction.producer_epoch, now),
                ));
            }
        }
        if self.expiry_check_at <= now.monotonic_ms {
            self.expiry_check_at = now.monotonic_ms + self.config.expiry_check_interval_ms;
            let over =
                |txn: &Transaction| txn.state != TxnState::Ongoing && !txn.state.is_prepared();
            let idle = |txn: &Transaction| {
                now.wall_ms.saturating_sub(txn.update_ms) >= self.config.id_expiration_ms
            };
            let expired = self
                .transactions
                .iter()
                .filter(|(_, txn)| over(txn) && idle(txn));
            records.extend(expired.map(|(id, _)| TxnRecord {
                transactional_id: id.clone(),
                value: None,
            }));
        }
        records
    }

    /// One transactional id.
    pub(crate) fn get(&self, transactional_id: &str) -> Option<&Transaction> {
        self.transactions.get(transactional_id)
    }

    /// All of them.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Transaction)> {
        self.transactions.iter()
    }
}

impl Transaction {
    /// The next state, with everything else as it was.
    fn succeed(&self, state: TxnState, now: Time) -> Transaction {
        Transaction {
            state,
            previous_producer_id: self.producer_id,
            update_ms: now.wall_ms.max(self.update_ms),
            ..self.clone()
        }
    }

    /// Aborted by the coordinator: the epoch moves by exactly one, so that whatever the producer still sends is refused.
    fn fenced(&self, last_producer_epoch: ProducerEpoch, now: Time) -> Transaction {
        let mut next = self.succeed(TxnState::PrepareAbort, now);
        next.producer_epoch = self.producer_epoch.saturating_add(1);
        next.last_producer_epoch = last_producer_epoch;
        next.next_producer_id = NO_PRODUCER_ID;
        next.client_version = TRANSACTION_VERSION_2;
        next
    }

    /// All markers are written; an exhausted producer id gives way to the next one.
    fn completed(&self, now: Time) -> Transaction {
        let committed = self.state == TxnState::PrepareCommit;
        let mut next = self.succeed(
            if committed {
                TxnState::CompleteCommit
            } else {
                TxnState::CompleteAbort
            },
            now,
        );
        if self.next_producer_id != NO_PRODUCER_ID {
            next.producer_id = self.next_producer_id;
            next.producer_epoch = 0;
        }
        next.next_producer_id = NO_PRODUCER_ID;
        next.partitions.clear();
        next
    }

    /// While it is being completed: is `producer` the one that was told how it goes on?
    fn will_continue_as(&self, producer: &Producer) -> bool {
        match self.next_producer_id {
            NO_PRODUCER_ID => {
                (self.producer_id, self.producer_epoch) == (producer.id, producer.epoch)
            }
            next => (next, 0) == (producer.id, producer.epoch),
        }
    }
}
