//! Where a transactional producer stands. Pure.
//!
//! Owns the phase of the transaction, what the coordinator must still be told, and which error closed it. `producer/mod.rs` asks before every
//! call; `producer/coordinator.rs` performs the requests. It holds no records and no connection.
//!
//! ```text
//! New ──init──▶ Ready ──begin──▶ Open ──commit──▶ Committing ──ended──▶ Ready
//!                                 │ ──abort───▶ Aborting ───ended──▶ Ready
//!                                 └─a batch or an offset failed─▶ Abortable ──abort──▶ Aborting
//! any ── fenced, or the broker's state is not ours ──▶ Fatal (for good)
//! ```
//! Under TV2 (KIP-890) the broker adds partitions and groups by itself and every end bumps the epoch; before, the coordinator is told of
//! each partition and group first. Source: Kafka `TransactionManager`.

use std::collections::BTreeSet;

use super::accumulator::Slot;
use crate::error::{ClientError, Failure};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    New,
    Ready,
    Open,
    Committing,
    Aborting,
    Abortable(ClientError),
    Fatal(ClientError),
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Transaction {
    id: String,
    phase: Phase,
    /// The coordinator implements TV2.
    second_version: bool,
    /// The coordinator knows, or may know, of this transaction: it must be told of its end.
    started: bool,
    /// The coordinator was asked to end it: from here on only the same question may be repeated.
    told: bool,
    /// Partitions and groups the coordinator was told of; before TV2 only.
    partitions: BTreeSet<Slot>,
    groups: BTreeSet<String>,
}

impl Transaction {
    pub(crate) fn new(id: String) -> Transaction {
        Transaction {
            id,
            phase: Phase::New,
            second_version: false,
            started: false,
            told: false,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn is_second_version(&self) -> bool {
        self.second_version
    }

    /// The coordinator gave a producer id; whatever an earlier run left open is aborted.
    pub(crate) fn on_initialized(&mut self, second_version: bool) {
        if !matches!(self.phase, Phase::Fatal(_)) {
            self.phase = Phase::Ready;
        }
        self.second_version = second_version;
    }

    /// # Errors
    /// [`ClientError::Invalid`] in the wrong phase; the error that closed the producer or the transaction otherwise.
    pub(crate) fn begin(&mut self) -> Result<(), ClientError> {
        match &self.phase {
            Phase::Ready => {
                self.phase = Phase::Open;
                self.started = false;
                self.told = false;
                self.partitions.clear();
                self.groups.clear();
                Ok(())
            }
            phase => Err(self.wrong(phase, "begin a transaction")),
        }
    }

    /// Whether records and offsets may be added now.
    ///
    /// # Errors
    /// As [`Transaction::begin`].
    pub(crate) fn may_send(&self) -> Result<(), ClientError> {
        match &self.phase {
            Phase::Open => Ok(()),
            phase => Err(self.wrong(phase, "send")),
        }
    }

    /// Something of this transaction is on its way to a broker.
    pub(crate) fn on_sent(&mut self) {
        self.started = true;
    }

    /// Whether the coordinator must be told of this partition before its first batch.
    pub(crate) fn must_add(&self, slot: Slot) -> bool {
        !self.second_version && !self.partitions.contains(&slot)
    }

    /// The coordinator was told.
    pub(crate) fn on_added(&mut self, slots: &[Slot]) {
        self.started = true;
        self.partitions.extend(slots);
    }

    /// Whether the coordinator must be told of this group before its offsets; says so once.
    pub(crate) fn must_add_group(&self, group: &str) -> bool {
        !self.second_version && !self.groups.contains(group)
    }

    pub(crate) fn on_group_added(&mut self, group: &str) {
        self.started = true;
        self.groups.insert(group.to_owned());
    }

    /// A batch, an offset or a request of the coordinator failed.
    pub(crate) fn on_error(&mut self, error: &ClientError) {
        match (&self.phase, error) {
            (Phase::Fatal(_), _) => {}
            (_, ClientError::Fenced(_) | ClientError::Fatal(_) | ClientError::Unauthorized(_)) => {
                self.phase = Phase::Fatal(error.clone());
            }
            (Phase::Open, _) => self.phase = Phase::Abortable(error.clone()),
            (Phase::Committing, _) if !self.told => self.phase = Phase::Abortable(error.clone()),
            _ => {}
        }
    }

    /// Starts to commit, or starts over if the first attempt had no answer. From here on nothing may be added.
    ///
    /// # Errors
    /// [`ClientError::TransactionAbortable`]: abort instead. Else as [`Transaction::begin`].
    pub(crate) fn begin_commit(&mut self) -> Result<(), ClientError> {
        match &self.phase {
            Phase::Open | Phase::Committing => {
                self.phase = Phase::Committing;
                Ok(())
            }
            phase => Err(self.wrong(phase, "commit")),
        }
    }

    /// Starts to abort, or starts over if the first attempt had no answer.
    ///
    /// # Errors
    /// As [`Transaction::begin`]. A commit without an answer cannot become an abort: it may have taken effect.
    pub(crate) fn begin_abort(&mut self) -> Result<(), ClientError> {
        match &self.phase {
            Phase::Open | Phase::Abortable(_) | Phase::Aborting => {
                self.phase = Phase::Aborting;
                Ok(())
            }
            Phase::Committing if !self.told => {
                self.phase = Phase::Aborting;
                Ok(())
            }
            phase => Err(self.wrong(phase, "abort")),
        }
    }

    /// Everything sent is acknowledged (or given up): whether the coordinator must now be told of the end. It knows nothing of an empty
    /// transaction.
    ///
    /// # Errors
    /// What happened to the transaction meanwhile.
    pub(crate) fn tell_end(&mut self) -> Result<bool, ClientError> {
        match &self.phase {
            Phase::Committing | Phase::Aborting => {
                self.told = self.started;
                Ok(self.started)
            }
            phase => Err(self.wrong(phase, "end")),
        }
    }

    /// The transaction ended as asked.
    pub(crate) fn on_ended(&mut self) {
        if !matches!(self.phase, Phase::Fatal(_)) {
            self.phase = Phase::Ready;
        }
        self.started = false;
    }

    /// The coordinator refused the commit, but the transaction can still be aborted.
    pub(crate) fn on_commit_refused(&mut self, error: &ClientError) {
        self.told = false;
        self.on_error(error);
    }

    fn wrong(&self, phase: &Phase, what: &str) -> ClientError {
        let subject = format!("transactional id {}", self.id);
        let state = match phase {
            Phase::Fatal(error) => return error.clone(),
            Phase::Abortable(error) => {
                return ClientError::TransactionAbortable(error.failure().clone());
            }
            Phase::New => "init_transactions was not called",
            Phase::Ready => "no transaction is open",
            Phase::Open => "a transaction is open already",
            Phase::Committing => "a commit is under way: commit again to learn its outcome",
            Phase::Aborting => "an abort is under way",
        };
        ClientError::Invalid(Failure::new(subject, format!("cannot {what}: {state}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Transaction {
        let mut transaction = Transaction::new("t".to_owned());
        transaction.on_initialized(true);
        transaction.begin().unwrap();
        transaction
    }

    fn failure() -> Failure {
        Failure::new("partition t-0", "gone")
    }

    #[test]
    fn an_empty_transaction_is_not_told_to_the_coordinator() {
        let mut transaction = open();
        transaction.begin_commit().unwrap();
        assert_eq!(transaction.tell_end(), Ok(false));
        transaction.on_ended();
        transaction.begin().unwrap();
        transaction.on_sent();
        transaction.begin_abort().unwrap();
        assert_eq!(transaction.tell_end(), Ok(true));
    }

    #[test]
    fn after_a_lost_batch_only_abort_is_possible() {
        let mut transaction = open();
        transaction.on_error(&ClientError::TransactionAbortable(failure()));
        let refused = [
            transaction.may_send(),
            transaction.begin_commit(),
            transaction.begin(),
        ];
        for result in refused {
            assert!(matches!(result, Err(ClientError::TransactionAbortable(_))));
        }
        transaction.begin_abort().unwrap();
        transaction.on_ended();
        transaction.begin().unwrap();
    }

    #[test]
    fn fenced_is_for_good() {
        let mut transaction = open();
        transaction.on_error(&ClientError::Fenced(failure()));
        transaction.on_initialized(true);
        for result in [
            transaction.begin(),
            transaction.may_send(),
            transaction.begin_abort(),
        ] {
            assert!(matches!(result, Err(ClientError::Fenced(_))));
        }
    }

    #[test]
    fn a_commit_without_an_answer_may_be_repeated_but_not_turned_into_an_abort() {
        let mut transaction = open();
        transaction.on_sent();
        transaction.begin_commit().unwrap();
        assert_eq!(transaction.tell_end(), Ok(true));
        assert!(matches!(
            transaction.begin_abort(),
            Err(ClientError::Invalid(_))
        ));
        transaction.begin_commit().unwrap();
        assert_eq!(transaction.tell_end(), Ok(true));
    }

    #[test]
    fn a_batch_lost_while_committing_makes_it_abortable() {
        let mut transaction = open();
        transaction.on_sent();
        transaction.begin_commit().unwrap();
        transaction.on_error(&ClientError::TransactionAbortable(failure()));
        assert!(matches!(
            transaction.tell_end(),
            Err(ClientError::TransactionAbortable(_))
        ));
        transaction.begin_abort().unwrap();
        assert_eq!(transaction.tell_end(), Ok(true));
    }

    #[test]
    fn before_the_second_version_partitions_and_groups_are_added_once() {
        let mut transaction = Transaction::new("t".to_owned());
        transaction.on_initialized(false);
        transaction.begin().unwrap();
        assert!(transaction.must_add(3) && transaction.must_add_group("g"));
        transaction.on_added(&[3]);
        transaction.on_group_added("g");
        assert!(!transaction.must_add(3) && !transaction.must_add_group("g"));
        transaction.begin_abort().unwrap();
        transaction.on_ended();
        transaction.begin().unwrap();
        assert!(transaction.must_add(3));
    }

    #[test]
    fn nothing_works_before_init() {
        let mut transaction = Transaction::new("t".to_owned());
        assert!(matches!(transaction.begin(), Err(ClientError::Invalid(_))));
    }
}
