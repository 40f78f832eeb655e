//! What a history says about each value and each transaction, gathered in one pass; the rules read it.

use std::collections::BTreeMap;

use crate::hash::HashMap;
use crate::history::{History, Isolation, Partition, Producer, What};

/// Index of a value in [`Facts::values`].
pub(crate) type ValueId = u32;

/// A value's life.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) value: u64,
    pub(crate) process: u32,
    pub(crate) partition: Partition,
    pub(crate) producer: Producer,
    /// Event of its `Sent`.
    pub(crate) sent: usize,
    /// Event and offset of its `Acked`.
    pub(crate) acked: Option<(usize, i64)>,
    /// Event of its `Failed`.
    pub(crate) failed: Option<usize>,
    /// Event and offset of the first read that showed it.
    pub(crate) seen: Option<(usize, i64)>,
    /// Event of the first read of committed data that showed it.
    pub(crate) seen_committed: Option<usize>,
}

impl Value {
    /// Where it lies, by what its sender was told or a reader saw, and the event that says so.
    pub(crate) fn place(&self) -> Option<(usize, i64)> {
        self.acked.filter(|(_, offset)| *offset >= 0).or(self.seen)
    }

    /// The transaction it was sent in.
    pub(crate) fn txn(&self) -> Option<u64> {
        match self.producer {
            Producer::Transactional(txn) => Some(txn),
            Producer::Plain | Producer::Idempotent => None,
        }
    }
}

/// A transaction's life: events.
#[derive(Debug)]
pub(crate) struct Txn {
    pub(crate) txn: u64,
    pub(crate) process: u32,
    pub(crate) begun: usize,
    pub(crate) committing: Option<usize>,
    pub(crate) committed: Option<usize>,
    pub(crate) aborted: Option<usize>,
    /// A value of it that a reader of committed data was shown first.
    pub(crate) seen: Option<ValueId>,
}

/// All that the rules share.
#[derive(Debug)]
pub(crate) struct Facts<'h> {
    pub(crate) history: &'h History,
    /// In the order in which they were sent.
    pub(crate) values: Vec<Value>,
    pub(crate) by_value: HashMap<u64, ValueId>,
    pub(crate) txns: BTreeMap<u64, Txn>,
    /// Event of each `OffsetsCommitting`.
    commits: HashMap<u64, usize>,
}

impl<'h> Facts<'h> {
    pub(crate) fn gather(history: &'h History) -> Facts<'h> {
        let mut facts = Facts {
            history,
            values: Vec::new(),
            by_value: HashMap::default(),
            txns: BTreeMap::new(),
            commits: HashMap::default(),
        };
        for (at, event) in history.events.iter().enumerate() {
            match &event.what {
                What::Sent {
                    producer,
                    partition,
                    value,
                } => {
                    let id = ValueId::try_from(facts.values.len()).expect("fewer than 2^32 values");
                    let before = facts.by_value.insert(*value, id);
                    assert!(before.is_none(), "value {value} was sent twice");
                    facts.values.push(Value {
                        value: *value,
                        process: event.process,
                        partition: *partition,
                        producer: *producer,
                        sent: at,
                        acked: None,
                        failed: None,
                        seen: None,
                        seen_committed: None,
                    });
                }
                What::Acked { value, offset } => {
                    facts.value_mut(*value).acked = Some((at, *offset));
                }
                What::Failed { value } => facts.value_mut(*value).failed = Some(at),
                What::OffsetsCommitting { commit, .. } => {
                    let before = facts.commits.insert(*commit, at);
                    assert!(before.is_none(), "commit {commit} was asked for twice");
                }
                What::TxnBegun { txn } => facts.begin(*txn, event.process, at),
                What::TxnCommitting { txn } => facts.txn_mut(*txn).committing = Some(at),
                What::TxnCommitted { txn } => facts.txn_mut(*txn).committed = Some(at),
                What::TxnAborted { txn } => facts.txn_mut(*txn).aborted = Some(at),
                _ => {}
            }
        }
        facts.gather_reads();
        facts
    }

    fn begin(&mut self, txn: u64, process: u32, begun: usize) {
        let fresh = Txn {
            txn,
            process,
            begun,
            committing: None,
            committed: None,
            aborted: None,
            seen: None,
        };
        let before = self.txns.insert(txn, fresh);
        assert!(before.is_none(), "transaction {txn} was begun twice");
    }

    /// After the sends: a broker that invents a future must not make the checker miss it.
    fn gather_reads(&mut self) {
        for (at, _, read) in self.history.reads() {
            for (offset, value) in &read.records {
                let Some(id) = self.by_value.get(value).copied() else {
                    continue;
                };
                let found = &mut self.values[id as usize];
                found.seen.get_or_insert((at, *offset));
                if read.isolation == Isolation::ReadCommitted && found.seen_committed.is_none() {
                    found.seen_committed = Some(at);
                    if let Some(txn) = found.txn() {
                        self.txn_mut(txn).seen.get_or_insert(id);
                    }
                }
            }
        }
    }

    fn value_mut(&mut self, value: u64) -> &mut Value {
        let id = self.by_value.get(&value);
        let id = id.unwrap_or_else(|| panic!("value {value} has an outcome and was never sent"));
        &mut self.values[*id as usize]
    }

    fn txn_mut(&mut self, txn: u64) -> &mut Txn {
        let found = self.txns.get_mut(&txn);
        found.unwrap_or_else(|| panic!("transaction {txn} was never begun"))
    }

    pub(crate) fn find(&self, value: u64) -> Option<&Value> {
        let id = self.by_value.get(&value)?;
        Some(&self.values[*id as usize])
    }

    pub(crate) fn txn(&self, txn: u64) -> &Txn {
        let found = self.txns.get(&txn);
        found.unwrap_or_else(|| panic!("transaction {txn} was never begun"))
    }

    /// Whether readers of committed data are owed this value once they pass its offset.
    pub(crate) fn is_committed(&self, value: &Value) -> bool {
        value.txn().is_none_or(|txn| {
            let txn = self.txn(txn);
            txn.aborted.is_none() && (txn.committed.is_some() || txn.seen.is_some())
        })
    }

    /// The events that say that a transaction is committed: that its sender was told, or that one of its values was shown.
    pub(crate) fn commit_evidence(&self, txn: &Txn) -> Vec<usize> {
        let shown = txn.seen.map(|id| &self.values[id as usize]);
        let told = [Some(txn.begun), txn.committing, txn.committed];
        let shown = shown
            .into_iter()
            .flat_map(|value| [Some(value.sent), value.seen_committed]);
        told.into_iter().chain(shown).flatten().collect()
    }

    /// The event without which this one would make no sense: a value's outcome without the value, a transaction's end without its
    /// beginning.
    pub(crate) fn antecedent(&self, at: usize) -> Option<usize> {
        match &self.history.events[at].what {
            What::Acked { value, .. } | What::Failed { value } | What::Unknown { value } => {
                self.find(*value).map(|value| value.sent)
            }
            What::Sent {
                producer: Producer::Transactional(txn),
                ..
            }
            | What::OffsetsSent { txn, .. }
            | What::OffsetsRefused { txn, .. }
            | What::TxnCommitting { txn }
            | What::TxnCommitted { txn }
            | What::TxnAborted { txn }
            | What::TxnUnknown { txn } => Some(self.txn(*txn).begun),
            What::OffsetsCommitted { commit, .. } => self.commits.get(commit).copied(),
            _ => None,
        }
    }

    /// A process or role as people call it.
    pub(crate) fn name(&self, number: u32) -> String {
        match self.history.names.get(&number) {
            Some(name) => name.clone(),
            None => format!("p{number}"),
        }
    }
}
