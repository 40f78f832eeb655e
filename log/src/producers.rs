//! What each producer wrote last: enough to recognise its repeats, to refuse its gaps and to know its open transaction.
//! Pure; `snapshot.rs` turns it into a file.
//!
//! `Log` asks [`Producers::check`] before it appends and tells [`Producers::apply`] afterwards; recovery only applies.
//! Both look at batch headers alone, and at the content of transaction markers.
//!
//! A producer's transaction in this partition:
//! ```text
//!   none ──transactional batch──> open at its first offset ──marker──> decided, holds the last stable offset
//!                                                                      back until the marker is replicated
//! ```
//! Source: Kafka `ProducerStateManager`, `ProducerAppendInfo`, `ProducerStateEntry`; KIP-98, KIP-360, KIP-890.

use std::collections::{BTreeMap, VecDeque};

use flumen_planted::{Bug, planted};
use flumen_protocol::batch::{
    BatchHeader, ControlRecord, NO_PRODUCER_EPOCH, NO_SEQUENCE, add_sequence,
};
use flumen_protocol::id::{Offset, ProducerEpoch, ProducerId, Sequence};

use crate::error::ProducerError;
use crate::index::AbortedTxn;

/// Batches remembered per producer: as many as a producer may have in flight.
pub(crate) const BATCHES_REMEMBERED: usize = 5;

/// One batch as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchSeen {
    pub(crate) last_sequence: Sequence,
    pub(crate) last_offset: Offset,
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: i64,
}

impl BatchSeen {
    fn of(batch: &BatchHeader) -> Self {
        Self {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta,
            timestamp: batch.max_timestamp,
        }
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.last_offset - i64::from(self.offset_delta)
    }

    fn first_sequence(&self) -> Sequence {
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        // Wrapped within the batch.
        if first < 0 {
            (first + i64::from(i32::MAX) + 1) as i32
        } else {
            first as i32
        }
    }
}

/// What is known of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: ProducerEpoch,
    /// Of the newest marker; -1 before the first.
    pub(crate) coordinator_epoch: i32,
    /// The newest timestamp it wrote.
    pub(crate) last_timestamp: i64,
    /// First offset of its open transaction.
    pub(crate) txn_first_offset: Option<Offset>,
    /// Oldest first.
    pub(crate) batches: VecDeque<BatchSeen>,
    /// When it was last heard of by our clock; unknown until the first expiry after a restart.
    pub(crate) seen_ms: Option<i64>,
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: -1,
            txn_first_offset: None,
            batches: VecDeque::new(),
            seen_ms: None,
        }
    }

    fn last_sequence(&self) -> Sequence {
        self.batches
            .back()
            .map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    fn find_repeat(&self, batch: &BatchHeader) -> Option<BatchSeen> {
        if batch.producer_epoch != self.epoch {
            return None;
        }
        let wanted = (batch.base_sequence, batch.last_sequence());
        self.batches
            .iter()
            .find(|seen| (seen.first_sequence(), seen.last_sequence) == wanted)
            .copied()
    }

    fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.batches.clear();
            self.epoch = epoch;
        }
    }
}

/// Permission to begin a transaction in this partition, given out before its coordinator is asked whether it is really open.
///
/// It loses its force when a marker arrives in between: so a batch that was delayed until after the end of its transaction cannot
/// open a transaction that nobody will ever end. Source: Kafka `VerificationGuard`, KIP-890.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerificationGuard(u64);

impl VerificationGuard {
    /// No permission: only a transaction that is already open here may go on.
    pub const NONE: Self = Self(0);
}

#[derive(Clone, Copy, Debug)]
struct Verification {
    guard: VerificationGuard,
    epoch: ProducerEpoch,
    lowest_sequence: Sequence,
    bumps_epoch: bool,
    /// Not asked for since the last pass of `expire`.
    idle: bool,
}

/// A producer as tools see it. Source: Kafka `DescribeProducersResponse.ProducerState`, KIP-664.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its newest epoch here.
    pub epoch: ProducerEpoch,
    /// Sequence of its last record; -1 if it only ended transactions.
    pub last_sequence: Sequence,
    /// The newest timestamp it wrote, milliseconds since 1970.
    pub last_timestamp: i64,
    /// Of the newest marker; -1 before the first.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub txn_first_offset: Option<Offset>,
}

/// Who appends, as far as producers are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client: sequences are checked, a new transaction needs its guard.
    Client(VerificationGuard),
    /// A coordinator of this broker, for a client's transaction.
    Coordinator(VerificationGuard),
    /// The transaction coordinator's marker, by the rules of this `transaction.version`.
    Marker(i16),
}

/// A batch that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Not seen before.
    New,
    /// One of the last five; it lies at these offsets already.
    Repeat(BatchSeen),
}

/// A transaction whose marker was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompletedTxn {
    pub(crate) producer_id: ProducerId,
    pub(crate) first_offset: Offset,
    pub(crate) marker_offset: Offset,
}

/// All producers of one log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    producers: BTreeMap<ProducerId, Producer>,
    /// First offset → producer of the open transactions.
    open: BTreeMap<Offset, ProducerId>,
    /// Transactions whose marker may not be replicated yet, in marker order.
    completed: VecDeque<CompletedTxn>,
    verifications: BTreeMap<ProducerId, Verification>,
    last_guard: u64,
}

impl Producers {
    /// Whether `batch` may be appended as the next one.
    ///
    /// `marker` is the content of a control batch.
    pub(crate) fn check(
        &self,
        batch: &BatchHeader,
        marker: Option<ControlRecord>,
        origin: Origin,
    ) -> Result<Check, ProducerError> {
        if !batch.has_producer_id() {
            return Ok(Check::New);
        }
        let producer = self.producers.get(&batch.producer_id);
        match (origin, marker) {
            (Origin::Marker(version), Some(marker)) => {
                check_marker(producer, batch, marker, version).map(|()| Check::New)
            }
            (Origin::Client(guard), _) => {
                if let Some(seen) = producer.and_then(|producer| producer.find_repeat(batch)) {
                    return Ok(Check::Repeat(seen));
                }
                self.check_epoch_and_txn(producer, batch, guard)?;
                self.check_sequence(producer, batch)?;
                Ok(Check::New)
            }
            (Origin::Coordinator(guard), _) => self
                .check_epoch_and_txn(producer, batch, guard)
                .map(|()| Check::New),
            (Origin::Marker(_), None) => Ok(Check::New),
        }
    }

    /// The epoch first: a zombie must hear that it is fenced, not that its transaction is unknown (KAFKA-19690).
    fn check_epoch_and_txn(
        &self,
        producer: Option<&Producer>,
        batch: &BatchHeader,
        guard: VerificationGuard,
    ) -> Result<(), ProducerError> {
        let current = producer.map_or(NO_PRODUCER_EPOCH, |producer| producer.epoch);
        // Wrong, if planted: an epoch before the current one belongs to who was fenced.
        let older = planted(Bug::EpochNotChecked) && batch.producer_epoch < current;
        if batch.producer_epoch < current && !older {
            return Err(ProducerError::StaleEpoch {
                epoch: batch.producer_epoch,
                current,
            });
        }
        let open = producer.filter(|producer| producer.txn_first_offset.is_some());
        match (batch.is_transactional(), open) {
            (true, Some(producer)) if producer.epoch == batch.producer_epoch || older => Ok(()),
            (true, _) if self.guard_holds(batch.producer_id, guard) => Ok(()),
            (true, _) => Err(ProducerError::InvalidTxnState(
                "the transaction is not known to be open in this partition",
            )),
            (false, Some(_)) => Err(ProducerError::InvalidTxnState(
                "a record outside of the producer's open transaction",
            )),
            (false, None) => Ok(()),
        }
    }

    fn guard_holds(&self, producer_id: ProducerId, guard: VerificationGuard) -> bool {
        let given = self.verifications.get(&producer_id);
        guard != VerificationGuard::NONE && given.is_some_and(|given| given.guard == guard)
    }

    fn check_sequence(
        &self,
        producer: Option<&Producer>,
        batch: &BatchHeader,
    ) -> Result<(), ProducerError> {
        let first = batch.base_sequence;
        let out_of_order = |expected| {
            Err(ProducerError::OutOfOrderSequence {
                sequence: first,
                expected,
            })
        };
        if let Some(given) = self.verifications.get(&batch.producer_id) {
            if given.bumps_epoch && first != 0 && producer.is_none() {
                return out_of_order(0);
            }
            if first > given.lowest_sequence && given.epoch == batch.producer_epoch {
                return out_of_order(given.lowest_sequence);
            }
        }
        let Some(producer) = producer else {
            return Ok(());
        };
        if producer.epoch != batch.producer_epoch {
            return if first == 0 || producer.epoch == NO_PRODUCER_EPOCH {
                Ok(())
            } else {
                out_of_order(0)
            };
        }
        match producer.last_sequence() {
            // An epoch known from a marker only: its first batch.
            NO_SEQUENCE if first == 0 => Ok(()),
            NO_SEQUENCE => out_of_order(0),
            last if add_sequence(last, 1) == first => Ok(()),
            last => out_of_order(add_sequence(last, 1)),
        }
    }

    /// Remembers a batch that was appended or found in the log. Returns the transaction it ended, if any.
    pub(crate) fn apply(
        &mut self,
        batch: &BatchHeader,
        marker: Option<ControlRecord>,
        now_ms: Option<i64>,
    ) -> Option<CompletedTxn> {
        if !batch.has_producer_id() {
            return None;
        }
        let new = || Producer::new(batch.producer_epoch);
        let producer = self.producers.entry(batch.producer_id).or_insert_with(new);
        producer.seen_ms = now_ms;
        producer.set_epoch(batch.producer_epoch);
        producer.last_timestamp = batch.max_timestamp;
        if batch.is_control() {
            let (ControlRecord::Commit { coordinator_epoch }
            | ControlRecord::Abort { coordinator_epoch }) = marker?
            else {
                return None;
            };
            producer.coordinator_epoch = coordinator_epoch;
            self.verifications.remove(&batch.producer_id);
            let first_offset = producer.txn_first_offset.take()?;
            self.open.remove(&first_offset);
            let completed = CompletedTxn {
                producer_id: batch.producer_id,
                first_offset,
                marker_offset: batch.base_offset,
            };
            self.completed.push_back(completed);
            return Some(completed);
        }
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(BatchSeen::of(batch));
        if batch.is_transactional() {
            self.verifications.remove(&batch.producer_id);
            if producer.txn_first_offset.is_none() {
                producer.txn_first_offset = Some(batch.base_offset);
                self.open.insert(batch.base_offset, batch.producer_id);
            }
        }
        None
    }

    /// Puts a batch found in the log before the newest one that is remembered of its producer; in log order.
    pub(crate) fn remember_older(&mut self, batch: &BatchHeader) {
        let Some(producer) = self.producers.get_mut(&batch.producer_id) else {
            return;
        };
        let Some(newest) = producer.batches.back().copied() else {
            return;
        };
        let same_epoch = batch.producer_epoch == producer.epoch && !batch.is_control();
        if !same_epoch || batch.last_offset() >= newest.last_offset {
            return;
        }
        producer
            .batches
            .insert(producer.batches.len() - 1, BatchSeen::of(batch));
        if producer.batches.len() > BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
    }

    /// The entry for the index of aborted transactions, just after `apply` returned `completed`.
    pub(crate) fn aborted(&self, completed: CompletedTxn) -> AbortedTxn {
        let next = completed.marker_offset + 1;
        AbortedTxn {
            producer_id: completed.producer_id,
            first_offset: completed.first_offset,
            last_offset: completed.marker_offset,
            last_stable_offset: self.first_open_offset().unwrap_or(next),
        }
    }

    /// First offset of the oldest open transaction.
    pub(crate) fn first_open_offset(&self) -> Option<Offset> {
        self.open.keys().next().copied()
    }

    /// Below this offset all is decided, and known to be decided to whoever sees `high_watermark`. Forgets transactions whose
    /// marker lies below it: the high watermark never goes back.
    pub(crate) fn last_stable_offset(&mut self, high_watermark: Offset) -> Offset {
        self.completed
            .retain(|completed| completed.marker_offset >= high_watermark);
        let undecided = self
            .completed
            .iter()
            .map(|completed| completed.first_offset)
            .min();
        [Some(high_watermark), self.first_open_offset(), undecided]
            .into_iter()
            .flatten()
            .min()
            .expect("one is there")
    }

    /// Permission for the first batch of a transaction, or `None` if it is open here already and needs no question.
    ///
    /// `bumps_epoch`: the client speaks `transaction.version` 2, so its first sequence after an end is 0.
    pub(crate) fn start_verification(
        &mut self,
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        sequence: Sequence,
        bumps_epoch: bool,
    ) -> Option<VerificationGuard> {
        let producer = self.producers.get(&producer_id);
        if producer
            .is_some_and(|producer| producer.txn_first_offset.is_some() && producer.epoch == epoch)
        {
            return None;
        }
        self.last_guard += 1;
        let fresh = Verification {
            guard: VerificationGuard(self.last_guard),
            epoch,
            lowest_sequence: sequence,
            bumps_epoch,
            idle: false,
        };
        let given = self.verifications.entry(producer_id).or_insert(fresh);
        given.idle = false;
        if epoch > given.epoch {
            (given.epoch, given.lowest_sequence) = (epoch, sequence);
        } else if epoch == given.epoch {
            given.lowest_sequence = given.lowest_sequence.min(sequence);
        }
        Some(given.guard)
    }

    /// Forgets producers not heard of for `expiration_ms`, unless a transaction of theirs is open. By our clock, not by record
    /// timestamps: a producer of old events is not an idle one. Forgets guards, too, that were given out before the pass before
    /// this one: their batches never came, for the coordinator knew of no such transaction.
    pub(crate) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.verifications
            .retain(|_, given| !std::mem::replace(&mut given.idle, true));
        self.producers.retain(|_, producer| {
            let seen = *producer.seen_ms.get_or_insert(now_ms);
            producer.txn_first_offset.is_some() || now_ms.saturating_sub(seen) < expiration_ms
        });
    }

    /// All of them, by id.
    pub(crate) fn active(&self) -> Vec<ActiveProducer> {
        let active = self.producers.iter().map(|(id, producer)| ActiveProducer {
            producer_id: *id,
            epoch: producer.epoch,
            last_sequence: producer.last_sequence(),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            txn_first_offset: producer.txn_first_offset,
        });
        active.collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ProducerId, &Producer)> {
        self.producers.iter().map(|(id, producer)| (*id, producer))
    }

    /// Puts back a producer read from a snapshot.
    pub(crate) fn restore(&mut self, producer_id: ProducerId, producer: Producer) {
        if let Some(first_offset) = producer.txn_first_offset {
            self.open.insert(first_offset, producer_id);
        }
        self.producers.insert(producer_id, producer);
    }

    /// Number of producers known.
    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }
}

/// A marker's epochs. Under `transaction.version` 2 the epoch was bumped, so an equal one is a repeat, harmless only if no
/// transaction is open (KAFKA-19999).
fn check_marker(
    producer: Option<&Producer>,
    batch: &BatchHeader,
    marker: ControlRecord,
    version: i16,
) -> Result<(), ProducerError> {
    let Some(producer) = producer else {
        return Ok(());
    };
    let (epoch, current) = (batch.producer_epoch, producer.epoch);
    let repeat = epoch == current && producer.txn_first_offset.is_none();
    let fresh = if version >= 2 {
        epoch > current || repeat
    } else {
        epoch >= current
    };
    if !fresh {
        return Err(ProducerError::StaleEpoch { epoch, current });
    }
    let (ControlRecord::Commit { coordinator_epoch } | ControlRecord::Abort { coordinator_epoch }) =
        marker
    else {
        return Ok(());
    };
    match coordinator_epoch < producer.coordinator_epoch {
        true => Err(ProducerError::CoordinatorFenced {
            epoch: coordinator_epoch,
            current: producer.coordinator_epoch,
        }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
