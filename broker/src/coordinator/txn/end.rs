//! EndTxn: commit or abort, once, whatever is repeated or delayed on the way. Part of [`TxnShard`].
//!
//! Transaction version 2: `current` is a request with the producer's present epoch, `retry` one with the epoch before.
//!
//! | state | abort, retry | abort, current | commit, retry | commit, current |
//! |---|---|---|---|---|
//! | Empty | fenced | epoch + 1 | fenced | INVALID_TXN_STATE |
//! | Ongoing | fenced | abort | fenced | commit |
//! | PrepareCommit | INVALID_TXN_STATE | concurrent | concurrent | concurrent |
//! | PrepareAbort | concurrent | concurrent | fenced | concurrent |
//! | CompleteCommit | INVALID_TXN_STATE | epoch + 1 | done | INVALID_TXN_STATE |
//! | CompleteAbort | done | epoch + 1 | fenced | INVALID_TXN_STATE |
//!
//! The two "commit, retry → fenced" after an abort are a commit that met the coordinator timing the transaction out: the client
//! must learn that its transaction is lost, and can go on with a new epoch (KAFKA-20785).

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{ProducerEpoch, ProducerId};

use super::record::TxnRecord;
use super::{
    Decision, NO_PRODUCER_ID, Producer, TRANSACTION_VERSION_2, Transaction, TxnShard, TxnState,
    is_exhausted,
};
use crate::coordinator::Time;

/// An EndTxn request.
#[derive(Clone, Debug)]
pub(crate) struct EndTransaction {
    pub(crate) producer: Producer,
    pub(crate) commit: bool,
    /// v5+: the epoch is bumped with every end, and the reply tells the new one.
    pub(crate) bumps_epoch: bool,
    /// A producer id nobody has, for when the epochs are used up: taken if the reply names it.
    pub(crate) spare: ProducerId,
}

impl EndTransaction {
    fn prepared(&self) -> TxnState {
        if self.commit {
            TxnState::PrepareCommit
        } else {
            TxnState::PrepareAbort
        }
    }

    fn completed(&self) -> TxnState {
        if self.commit {
            TxnState::CompleteCommit
        } else {
            TxnState::CompleteAbort
        }
    }
}

impl TxnShard {
    /// Ends a producer's transaction. The reply is the identity to go on with; it may be sent when the decision is on disk, the
    /// markers follow.
    ///
    /// Errors: `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`, `CONCURRENT_TRANSACTIONS` while an end is under way,
    /// `INVALID_TXN_STATE` for what contradicts the transaction's outcome or ends nothing.
    pub(crate) fn end(
        &self,
        end: &EndTransaction,
        now: Time,
    ) -> Decision<(ProducerId, ProducerEpoch)> {
        let Some(transaction) = self.transactions.get(&end.producer.transactional_id) else {
            return Decision::refuse(ErrorCode::InvalidProducerIdMapping);
        };
        if end.bumps_epoch {
            end_version_2(transaction, end, now)
        } else {
            end_version_1(transaction, end, now)
        }
    }
}

/// Clients that keep their epoch from one transaction to the next: a repetition cannot be told from the next transaction's end.
fn end_version_1(
    transaction: &Transaction,
    end: &EndTransaction,
    now: Time,
) -> Decision<(ProducerId, ProducerEpoch)> {
    let identity = (transaction.producer_id, transaction.producer_epoch);
    if transaction.producer_id != end.producer.id {
        return Decision::refuse(ErrorCode::InvalidProducerIdMapping);
    }
    if transaction.producer_epoch != end.producer.epoch {
        return Decision::refuse(ErrorCode::ProducerFenced);
    }
    match transaction.state {
        TxnState::Ongoing => {
            let mut next = transaction.succeed(end.prepared(), now);
            next.client_version = 0;
            Decision {
                records: vec![TxnRecord::new(&end.producer.transactional_id, next)],
                reply: Ok(identity),
            }
        }
        state if state == end.prepared() => Decision::refuse(ErrorCode::ConcurrentTransactions),
        state if state == end.completed() => Decision::reply(identity),
        _ => Decision::refuse(ErrorCode::InvalidTxnState),
    }
}

fn end_version_2(
    transaction: &Transaction,
    end: &EndTransaction,
    now: Time,
) -> Decision<(ProducerId, ProducerEpoch)> {
    let current = (transaction.producer_id, transaction.producer_epoch)
        == (end.producer.id, end.producer.epoch);
    if transaction.state.is_prepared() && (current || transaction.will_continue_as(&end.producer)) {
        return Decision::refuse(ErrorCode::ConcurrentTransactions);
    }
    let retry = is_retry(transaction, &end.producer);
    if transaction.producer_id != end.producer.id && !retry {
        return Decision::refuse(ErrorCode::InvalidProducerIdMapping);
    }
    match transaction.state {
        TxnState::Ongoing if current => prepare(transaction, end, now),
        TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort
            if current && !end.commit =>
        {
            prepare(transaction, end, now)
        }
        TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort if current => {
            Decision::refuse(ErrorCode::InvalidTxnState)
        }
        state if retry && state == end.prepared() => {
            Decision::refuse(ErrorCode::ConcurrentTransactions)
        }
        state if retry && state == end.completed() => {
            Decision::reply((transaction.producer_id, transaction.producer_epoch))
        }
        TxnState::PrepareCommit | TxnState::CompleteCommit if retry => {
            Decision::refuse(ErrorCode::InvalidTxnState)
        }
        _ => Decision::refuse(ErrorCode::ProducerFenced),
    }
}

/// The same end again, its reply was lost: the epoch is one behind, or was the last of the producer id before.
fn is_retry(transaction: &Transaction, producer: &Producer) -> bool {
    if transaction.state == TxnState::Ongoing || transaction.state == TxnState::Empty {
        return false;
    }
    let same_instance = transaction.last_producer_epoch == producer.epoch;
    let bumped = transaction.producer_id == producer.id
        && transaction.producer_epoch.checked_sub(1) == Some(producer.epoch)
        && (transaction.producer_epoch != ProducerEpoch::MAX || transaction.state.is_prepared());
    let rotated = transaction.previous_producer_id == producer.id
        && transaction.producer_epoch == 0
        && is_exhausted(producer.epoch);
    same_instance && (bumped || rotated)
}

/// Decides the outcome. An abort of nothing has no markers to wait for, and is complete at once.
fn prepare(
    transaction: &Transaction,
    end: &EndTransaction,
    now: Time,
) -> Decision<(ProducerId, ProducerEpoch)> {
    let mut next = transaction.succeed(end.prepared(), now);
    let epoch = transaction.producer_epoch;
    let rotates = is_exhausted(epoch);
    next.last_producer_epoch = epoch;
    next.producer_epoch = epoch.saturating_add(1);
    next.next_producer_id = if rotates { end.spare } else { NO_PRODUCER_ID };
    next.client_version = TRANSACTION_VERSION_2;
    let reply = if rotates {
        (end.spare, 0)
    } else {
        (next.producer_id, next.producer_epoch)
    };
    let id = &end.producer.transactional_id;
    let mut records = Vec::with_capacity(2);
    let nothing_to_mark = transaction.state != TxnState::Ongoing;
    if nothing_to_mark {
        next.start_ms = now.wall_ms;
        next.partitions.clear();
        let complete = next.completed(now);
        records.extend([TxnRecord::new(id, next), TxnRecord::new(id, complete)]);
    } else {
        records.push(TxnRecord::new(id, next));
    }
    Decision {
        records,
        reply: Ok(reply),
    }
}
