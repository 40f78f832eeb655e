//! Which batches belong to aborted transactions, and which markers end a transaction that has no batches left.
//!
//! Goes over a log once, in order, told of the aborted transactions of each segment before its batches.

use std::collections::{BTreeMap, BTreeSet};

use flumen_protocol::batch::{BatchHeader, ControlRecord};
use flumen_protocol::id::{Offset, ProducerId};

use crate::index::AbortedTxn;

/// See the file's head. Source: Kafka `CleanedTransactionMetadata`.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// By first offset: those whose first batch was not reached.
    ahead: BTreeMap<(Offset, ProducerId), AbortedTxn>,
    /// Aborted, between first batch and marker; whether a batch of it was met.
    aborted: BTreeMap<ProducerId, (AbortedTxn, bool)>,
    /// Producers of which a batch was met that is not aborted, and no marker since.
    committed: BTreeSet<ProducerId>,
}

/// What a marker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A transaction of which batches are there, and how the index of aborted transactions names it.
    WithBatches(Option<AbortedTxn>),
    /// One of which nothing is left: the marker may go.
    Nothing,
    /// Not a transaction: a record of some other kind, which stays.
    Other,
}

impl Transactions {
    /// These aborted transactions are ahead.
    pub(crate) fn expect(&mut self, aborted: impl IntoIterator<Item = AbortedTxn>) {
        let keyed = aborted.into_iter();
        self.ahead
            .extend(keyed.map(|txn| ((txn.first_offset, txn.producer_id), txn)));
    }

    fn reach(&mut self, offset: Offset) {
        while let Some(first) = self.ahead.first_entry() {
            if first.key().0 > offset {
                break;
            }
            let txn = first.remove();
            self.aborted.entry(txn.producer_id).or_insert((txn, false));
        }
    }

    /// Takes a batch of records; whether it was aborted.
    pub(crate) fn on_batch(&mut self, header: &BatchHeader) -> bool {
        self.reach(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some((_, met)) => *met = true,
            None => _ = self.committed.insert(header.producer_id),
        }
        self.aborted.contains_key(&header.producer_id)
    }

    /// Takes a control batch; `None` is one whose record was cleaned away before.
    pub(crate) fn on_marker(
        &mut self,
        header: &BatchHeader,
        marker: Option<ControlRecord>,
    ) -> Ended {
        self.reach(header.last_offset());
        match marker {
            None => Ended::Nothing,
            Some(ControlRecord::Abort { .. }) => match self.aborted.remove(&header.producer_id) {
                Some((txn, true)) => Ended::WithBatches(Some(txn)),
                _ => Ended::Nothing,
            },
            Some(ControlRecord::Commit { .. }) => {
                match self.committed.remove(&header.producer_id) {
                    true => Ended::WithBatches(None),
                    false => Ended::Nothing,
                }
            }
            Some(ControlRecord::Other(_)) => Ended::Other,
        }
    }
}
