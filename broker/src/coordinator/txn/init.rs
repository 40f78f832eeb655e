//! InitProducerId for a transactional id: a producer id, or the next epoch of the one there is. Part of [`TxnShard`].

use std::collections::BTreeSet;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{ProducerEpoch, ProducerId};

use super::record::TxnRecord;
use super::{
    Decision, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Transaction, TxnShard, TxnState, is_exhausted,
};
use crate::coordinator::Time;

/// InitProducerId with a transactional id.
#[derive(Clone, Debug)]
pub(crate) struct InitProducer {
    pub(crate) transactional_id: String,
    pub(crate) timeout_ms: i32,
    /// v3+: the identity of a producer that goes on after an error (KIP-360); none for a new instance.
    pub(crate) expected: Option<(ProducerId, ProducerEpoch)>,
    /// A producer id nobody has: taken if the reply names it, else free for the next request.
    pub(crate) spare: ProducerId,
}

impl TxnShard {
    /// Gives a producer its id and epoch, and fences whoever had them before.
    ///
    /// Errors: `INVALID_TRANSACTION_TIMEOUT`; `PRODUCER_FENCED` if the expected identity is not (or no longer) the current one;
    /// `CONCURRENT_TRANSACTIONS` while a transaction is ending, and for one that was open: it is aborted by this call.
    pub(crate) fn init_producer(
        &self,
        init: &InitProducer,
        now: Time,
    ) -> Decision<(ProducerId, ProducerEpoch)> {
        if init.timeout_ms <= 0 || init.timeout_ms > self.config.timeout_max_ms {
            return Decision::refuse(ErrorCode::InvalidTransactionTimeout);
        }
        let Some(transaction) = self.transactions.get(&init.transactional_id) else {
            return init.decided(init.first(now));
        };
        match transaction.state {
            _ if !init.may_continue(transaction) => Decision::refuse(ErrorCode::ProducerFenced),
            TxnState::PrepareCommit | TxnState::PrepareAbort => {
                Decision::refuse(ErrorCode::ConcurrentTransactions)
            }
            TxnState::Ongoing => init.abort_open(transaction, now),
            TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort => init
                .next_identity(transaction, now)
                .map_or_else(Decision::refuse, |next| init.decided(next)),
        }
    }
}

impl InitProducer {
    fn decided(&self, next: Transaction) -> Decision<(ProducerId, ProducerEpoch)> {
        let reply = Ok((next.producer_id, next.producer_epoch));
        Decision {
            records: vec![TxnRecord::new(&self.transactional_id, next)],
            reply,
        }
    }

    /// A transactional id nobody knows (or that expired): a new producer id.
    fn first(&self, now: Time) -> Transaction {
        Transaction {
            producer_id: self.spare,
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            producer_epoch: 0,
            last_producer_epoch: NO_PRODUCER_EPOCH,
            timeout_ms: self.timeout_ms,
            state: TxnState::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            update_ms: now.wall_ms,
            client_version: 0,
        }
    }

    /// Without an expectation always. With one: the current producer id, or the one before if its epochs were used up (then this
    /// may be the repetition of a request whose reply was lost).
    fn may_continue(&self, transaction: &Transaction) -> bool {
        self.expected.is_none_or(|(id, epoch)| {
            id == transaction.producer_id
                || (id == transaction.previous_producer_id && is_exhausted(epoch))
        })
    }

    /// The transaction of the producer before is open: abort it; the caller comes again and then gets a higher epoch.
    fn abort_open(
        &self,
        transaction: &Transaction,
        now: Time,
    ) -> Decision<(ProducerId, ProducerEpoch)> {
        let same_instance = match self.expected {
            None => false,
            Some((_, epoch)) if epoch == transaction.producer_epoch => true,
            Some(_) => return Decision::refuse(ErrorCode::ProducerFenced),
        };
        let last = if same_instance {
            transaction.producer_epoch
        } else {
            NO_PRODUCER_EPOCH
        };
        let record = TxnRecord::new(&self.transactional_id, transaction.fenced(last, now));
        Decision {
            records: vec![record],
            reply: Err(ErrorCode::ConcurrentTransactions),
        }
    }

    fn next_identity(
        &self,
        transaction: &Transaction,
        now: Time,
    ) -> Result<Transaction, ErrorCode> {
        let mut next = transaction.succeed(TxnState::Empty, now);
        next.timeout_ms = self.timeout_ms;
        next.start_ms = -1;
        next.partitions.clear();
        let epoch = transaction.producer_epoch;
        let (bump, last) = match self.expected {
            None => (true, NO_PRODUCER_EPOCH),
            Some((_, expected)) if expected == epoch => (true, epoch),
            // The same instance asks again, its reply was lost; an epoch above the last usable one is never given out.
            Some((_, expected)) if expected == transaction.last_producer_epoch => {
                (epoch == ProducerEpoch::MAX, expected)
            }
            Some(_) => return Err(ErrorCode::ProducerFenced),
        };
        next.last_producer_epoch = last;
        if bump && is_exhausted(epoch) {
            next.producer_id = self.spare;
            next.producer_epoch = 0;
        } else if bump {
            next.producer_epoch = epoch + 1;
        }
        Ok(next)
    }
}
