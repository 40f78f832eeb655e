//! What is on its way to the brokers: sequences, retries, who may send next. Pure.
//!
//! Owns, per partition, the window of at most five numbered batches that are sent or wait to be sent again. The producer's task
//! (`producer/task.rs`) feeds it batches of the accumulator, sends what [`Sender::plan`] returns and tells the answers.
//!
//! Rules, each with its reason:
//! - A batch gets its sequence when it enters the window, and keeps it: the broker recognises the retry of what it has.
//! - After a failure only the first batch of the window is sent, until it is answered: order is kept.
//! - A partition's first batch under a new identity travels alone: a broker without state takes any first sequence.
//! - A batch that may be in the log is never numbered anew. If the broker says that its sequence is not the next, the batches behind it
//!   are asked for first: a broker that restarted remembers only the last one it took.
//! - A gap that no retry can close (the broker forgot us, a batch was refused, or given up) is closed by starting again
//!   at sequence 0 in the next epoch, but only when it is certain what the old epoch left behind (KIP-360). An epoch concerns one
//!   partition: brokers keep this state by partition, and without transactions nobody else looks.
//! - Within a transaction no gap can be closed: the transaction must be aborted.
//!
//! Source: Kafka `Sender`, `TransactionManager`, `TxnPartitionMap`.

mod answers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::batch::{NO_SEQUENCE, add_sequence};
use flumen_protocol::id::BrokerId;
use tokio::time::Instant;

use super::accumulator::{BatchId, ReadyBatch, Slot};
use super::delivery::{Completion, Delivered};
use super::window::{Numbered, Partition, Where, stamp};
use crate::error::{ClientError, Failure};

/// Producer id and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

/// What batches promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guarantee {
    /// Retries may duplicate.
    Plain,
    Idempotent,
    Transactional,
}

#[derive(Debug, Clone)]
pub(crate) struct SenderConfig {
    pub(crate) guarantee: Guarantee,
    pub(crate) max_in_flight: usize,
    pub(crate) max_request_bytes: usize,
    pub(crate) retry_backoff: Duration,
}

/// Names a produce request until it is answered.
pub(crate) type RequestId = u64;

/// A produce request to send now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) id: RequestId,
    pub(crate) broker: BrokerId,
    /// At most one batch of a partition.
    pub(crate) batches: Vec<(Slot, Bytes)>,
}

/// What the broker said about one partition of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) slot: Slot,
    pub(crate) error_code: i16,
    pub(crate) base_offset: i64,
    pub(crate) log_append_time: i64,
    pub(crate) message: Option<String>,
}

/// A batch that is done with.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) id: BatchId,
    pub(crate) size: usize,
    pub(crate) completion: Arc<Completion>,
    pub(crate) outcome: Result<Delivered, ClientError>,
}

/// What follows from an answer.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) finished: Vec<Finished>,
    /// What is known of leaders is stale.
    pub(crate) refresh_metadata: bool,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Sender {
    config: SenderConfig,
    identity: Option<Identity>,
    partitions: Vec<Partition>,
    /// Requests not answered: broker and partitions.
    requests: BTreeMap<RequestId, (BrokerId, Vec<Slot>)>,
    in_flight: BTreeMap<BrokerId, usize>,
    next_request: RequestId,
}

impl Sender {
    pub(crate) fn new(config: SenderConfig) -> Sender {
        Sender {
            config,
            identity: None,
            partitions: Vec::new(),
            requests: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            next_request: 0,
        }
    }

    /// Batches cannot be numbered before a producer id was given.
    pub(crate) fn needs_identity(&self) -> bool {
        self.config.guarantee != Guarantee::Plain && self.identity.is_none()
    }

    /// From here on batches carry this identity; each partition takes it, with sequence 0, as soon as its window is empty.
    pub(crate) fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    /// Whether another batch of this partition may enter the window, as far as the partition itself goes.
    pub(crate) fn may_take(&self, slot: Slot) -> bool {
        if self.needs_identity() {
            return false;
        }
        let Some(partition) = self.partitions.get(slot) else {
            return true;
        };
        let stale = self.config.guarantee == Guarantee::Transactional
            && partition.identity != self.identity;
        let limit = match self.config.guarantee {
            Guarantee::Idempotent if !partition.established => 1,
            _ => self.config.max_in_flight,
        };
        let calm = partition
            .window
            .iter()
            .all(|batch| matches!(batch.place, Where::InFlight(_)));
        calm && !partition.restart
            && partition.window.len() < limit
            && (!stale || partition.window.is_empty())
    }

    /// Whether this broker takes another request.
    pub(crate) fn has_capacity(&self, broker: BrokerId) -> bool {
        self.in_flight.get(&broker).copied().unwrap_or(0) < self.config.max_in_flight
    }

    /// Whether any request is not answered yet.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Whether the window of any partition holds a batch.
    pub(crate) fn is_empty(&self) -> bool {
        self.partitions
            .iter()
            .all(|partition| partition.window.is_empty())
    }

    /// Partitions with a batch in their window.
    pub(crate) fn busy(&self) -> impl Iterator<Item = Slot> + '_ {
        let busy = |(_, partition): &(usize, &Partition)| !partition.window.is_empty();
        self.partitions
            .iter()
            .enumerate()
            .filter(busy)
            .map(|(slot, _)| slot)
    }

    /// Numbers a batch and puts it at the end of its partition's window. Call only if [`Sender::may_take`] says so.
    pub(crate) fn admit(&mut self, batch: ReadyBatch, now: Instant) {
        if self.partitions.len() <= batch.slot {
            self.partitions
                .resize_with(batch.slot + 1, Partition::default);
        }
        let partition = &mut self.partitions[batch.slot];
        let adopt = partition.identity.is_none()
            || (self.config.guarantee == Guarantee::Transactional
                && partition.identity != self.identity);
        if adopt {
            partition.identity = self.identity;
            partition.next_sequence = 0;
            partition.established = false;
        }
        let base_sequence = match self.config.guarantee {
            Guarantee::Plain => NO_SEQUENCE,
            _ => partition.next_sequence,
        };
        let stamp = stamp(self.config.guarantee, partition.identity, base_sequence);
        partition.next_sequence = add_sequence(partition.next_sequence, batch.record_count);
        partition.window.push_back(Numbered {
            batch_id: batch.id,
            bytes: batch.payload.number(&stamp),
            record_count: batch.record_count,
            base_sequence,
            size: batch.size,
            deadline: batch.deadline,
            completion: batch.completion,
            place: Where::Waiting { not_before: now },
            attempts: 0,
            uncertain: false,
            suspect: false,
            proven: false,
            last_error: None,
        });
    }

    /// One request for each broker that takes one: the batches that may go now, grouped by the leader of their partition.
    pub(crate) fn plan(
        &mut self,
        now: Instant,
        leader: impl Fn(Slot) -> Option<BrokerId>,
    ) -> Vec<Outgoing> {
        let mut by_broker: BTreeMap<BrokerId, (usize, Vec<(Slot, usize)>)> = BTreeMap::new();
        for slot in 0..self.partitions.len() {
            let Some(index) = self.next_to_send(slot, now) else {
                continue;
            };
            let Some(broker) = leader(slot) else { continue };
            if !self.has_capacity(broker) {
                continue;
            }
            let size = self.partitions[slot].window[index].bytes.len();
            let (total, batches) = by_broker.entry(broker).or_default();
            if *total > 0 && *total + size > self.config.max_request_bytes {
                continue;
            }
            *total += size;
            batches.push((slot, index));
        }
        by_broker
            .into_iter()
            .map(|(broker, (_, chosen))| self.depart(broker, &chosen))
            .collect()
    }

    /// The batch of a partition that may be sent: the first that waits, if nothing before it has failed, or if it is first.
    fn next_to_send(&self, slot: Slot, now: Instant) -> Option<usize> {
        let partition = &self.partitions[slot];
        let waits = |batch: &Numbered| matches!(batch.place, Where::Waiting { .. });
        if partition.window.front().is_some_and(|first| first.suspect) {
            return partition
                .next_probe()
                .filter(|index| partition.window[*index].is_due(now));
        }
        let index = partition.window.iter().position(waits)?;
        let batch = &partition.window[index];
        let Where::Waiting { not_before } = batch.place else {
            return None;
        };
        let retry = batch.attempts > 0;
        // When a gap has to be closed, only what the broker may already have is asked again.
        if not_before > now || (retry && index > 0) || (partition.restart && !batch.uncertain) {
            return None;
        }
        Some(index)
    }

    fn depart(&mut self, broker: BrokerId, chosen: &[(Slot, usize)]) -> Outgoing {
        let id = self.next_request;
        self.next_request += 1;
        let mut batches = Vec::with_capacity(chosen.len());
        for &(slot, index) in chosen {
            let batch = &mut self.partitions[slot].window[index];
            batch.place = Where::InFlight(id);
            batch.attempts += 1;
            batches.push((slot, batch.bytes.clone()));
        }
        *self.in_flight.entry(broker).or_default() += 1;
        self.requests
            .insert(id, (broker, chosen.iter().map(|(slot, _)| *slot).collect()));
        Outgoing {
            id,
            broker,
            batches,
        }
    }

    fn finish(
        &mut self,
        slot: Slot,
        index: usize,
        outcome: Result<Delivered, ClientError>,
        effects: &mut Effects,
    ) {
        let Some(batch) = self.partitions[slot].window.remove(index) else {
            return;
        };
        effects.finished.push(Finished {
            id: batch.batch_id,
            size: batch.size,
            completion: batch.completion,
            outcome,
        });
    }

    /// Closes a gap once nothing is out and it is certain what the old epoch left: what remains starts at 0 in the next epoch.
    ///
    /// If the first batch of the window is not in the log, none behind it is: the broker had a state, and takes no gap.
    fn restart_if_certain(&mut self, slot: Slot) {
        let guarantee = self.config.guarantee;
        let partition = &mut self.partitions[slot];
        partition.conclude();
        let out = |batch: &Numbered| matches!(batch.place, Where::InFlight(_));
        let open = partition.window.iter().any(out)
            || !partition.abandoned.is_empty()
            || partition
                .window
                .front()
                .is_some_and(|first| first.uncertain);
        if !partition.restart || open {
            return;
        }
        partition
            .window
            .iter_mut()
            .for_each(|batch| batch.uncertain = false);
        partition.restart = false;
        partition.established = false;
        partition.next_sequence = 0;
        let Some(identity) = partition.identity else {
            return;
        };
        if identity.epoch == i16::MAX {
            // No epoch left: a new producer id, for all partitions that need one from here on.
            if self
                .identity
                .is_some_and(|current| current.producer_id == identity.producer_id)
            {
                self.identity = None;
            }
            partition.identity = None;
            partition.restart = !partition.window.is_empty();
            return;
        }
        partition.identity = Some(Identity {
            epoch: identity.epoch + 1,
            ..identity
        });
        partition.renumber(guarantee);
    }

    /// Partitions that ran out of epochs take the new producer id.
    pub(crate) fn adopt_new_identity(&mut self) {
        let (guarantee, identity) = (self.config.guarantee, self.identity);
        for partition in &mut self.partitions {
            if partition.identity.is_none() && identity.is_some() && partition.restart {
                partition.identity = identity;
                partition.restart = false;
                partition.renumber(guarantee);
            }
        }
    }

    /// Gives up what was not acknowledged by its deadline.
    pub(crate) fn on_tick(&mut self, now: Instant) -> Effects {
        let mut effects = Effects::default();
        for slot in 0..self.partitions.len() {
            while self.partitions[slot]
                .window
                .front()
                .is_some_and(|batch| batch.deadline <= now)
            {
                let batch = &self.partitions[slot].window[0];
                let sent = batch.attempts > 0;
                let reason = match &batch.last_error {
                    Some(error) => format!("not acknowledged in time; last: {error}"),
                    None => "not acknowledged in time".to_owned(),
                };
                let error = ClientError::Timeout(Failure::new("a batch", reason).in_api("Produce"));
                let error = match self.config.guarantee {
                    Guarantee::Transactional => abortable(error),
                    _ => error,
                };
                if let Where::InFlight(request) = batch.place {
                    self.partitions[slot].abandoned.insert(request);
                }
                if self.config.guarantee == Guarantee::Idempotent && sent {
                    self.partitions[slot].restart = true;
                }
                self.finish(slot, 0, Err(error), &mut effects);
                self.restart_if_certain(slot);
            }
        }
        effects
    }

    /// Gives up everything that is not on its way, with this error.
    pub(crate) fn abort_waiting(&mut self, error: &ClientError) -> Effects {
        let mut effects = Effects::default();
        for slot in 0..self.partitions.len() {
            while let Some(index) = self.partitions[slot]
                .window
                .iter()
                .position(|batch| matches!(batch.place, Where::Waiting { .. }))
            {
                self.finish(slot, index, Err(error.clone()), &mut effects);
            }
        }
        effects
    }

    /// The next time after `now` at which something may be sent again, or must be given up. What could go already waits for
    /// something else than time.
    pub(crate) fn next_event(&self, now: Instant) -> Option<Instant> {
        let times = self.partitions.iter().filter_map(|partition| {
            let front = partition.window.front()?;
            match front.place {
                Where::Waiting { not_before } if not_before > now => {
                    Some(not_before.min(front.deadline))
                }
                _ => Some(front.deadline),
            }
        });
        times.min()
    }
}

/// Within a transaction a lost batch means: abort. Being fenced stays what it is.
fn abortable(error: ClientError) -> ClientError {
    match error {
        ClientError::Fenced(_) | ClientError::Unauthorized(_) => error,
        error => ClientError::TransactionAbortable(error.failure().clone()),
    }
}

#[cfg(test)]
mod tests;
