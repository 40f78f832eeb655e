//! Records wait here until their batch is full, old enough, or wanted. Pure.
//!
//! Owns the open and closed batches of every partition and the count of buffered bytes. `producer/mod.rs` appends under a lock;
//! the sender's task takes batches out when a partition may send. It never numbers, compresses or sends a batch.
//!
//! A partition that may not send keeps filling: batches grow under load without any setting. Source: Kafka `RecordAccumulator`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::compression::Compression;
use foldhash::fast::FixedState;
use tokio::time::Instant;

use super::block::Payload;
use super::delivery::{Completion, Delivery};

/// A partition's place in the tables of accumulator and sender.
pub(crate) type Slot = usize;

/// Names a batch for as long as it is not acknowledged.
pub(crate) type BatchId = u64;

/// What the accumulator must know of [`ProducerConfig`](crate::ProducerConfig).
#[derive(Debug, Clone)]
pub(crate) struct AccumulatorConfig {
    pub(crate) linger: Duration,
    pub(crate) batch_bytes: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) delivery_timeout: Duration,
    pub(crate) compression: Compression,
    pub(crate) transactional: bool,
}

/// One record to append; the bytes are copied into the batch.
#[derive(Debug)]
pub(crate) struct RecordParts<'a> {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(String, Option<Bytes>)],
}

/// A closed batch, not yet numbered.
#[derive(Debug)]
pub(crate) struct ReadyBatch {
    pub(crate) id: BatchId,
    pub(crate) slot: Slot,
    pub(crate) payload: Payload,
    pub(crate) record_count: i32,
    /// Bytes it holds of the buffer, until [`Accumulator::release`].
    pub(crate) size: usize,
    /// By when it must be acknowledged.
    pub(crate) deadline: Instant,
    pub(crate) completion: Arc<Completion>,
}

#[derive(Debug)]
struct Open {
    id: BatchId,
    builder: BatchBuilder,
    created: Instant,
    completion: Arc<Completion>,
}

#[derive(Debug)]
struct Queue {
    topic: Arc<str>,
    partition: i32,
    open: Option<Open>,
    /// The open batch is old enough, or a flush wants it.
    wanted: bool,
    closed: VecDeque<ReadyBatch>,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Accumulator {
    config: AccumulatorConfig,
    queues: Vec<Queue>,
    slots: HashMap<Arc<str>, Vec<Option<Slot>>, FixedState>,
    /// Open batches by the time at which they are old enough; entries of batches that closed earlier are stale.
    lingering: VecDeque<(Instant, Slot, BatchId)>,
    /// Partitions with something to send.
    due: BTreeSet<Slot>,
    /// Not acknowledged yet, oldest first.
    incomplete: BTreeMap<BatchId, Arc<Completion>>,
    buffered_bytes: usize,
    next_id: BatchId,
}

impl Accumulator {
    pub(crate) fn new(config: AccumulatorConfig) -> Accumulator {
        Accumulator {
            config,
            queues: Vec::new(),
            slots: HashMap::with_hasher(FixedState::default()),
            lingering: VecDeque::new(),
            due: BTreeSet::new(),
            incomplete: BTreeMap::new(),
            buffered_bytes: 0,
            next_id: 0,
        }
    }

    /// The slot of a partition, new at first sight.
    pub(crate) fn slot(&mut self, topic: &str, partition: i32) -> Slot {
        let index = usize::try_from(partition).expect("partitions are numbered from 0");
        if let Some(Some(slot)) = self.slots.get(topic).and_then(|slots| slots.get(index)) {
            return *slot;
        }
        let name: Arc<str> = match self.slots.get_key_value(topic) {
            Some((name, _)) => Arc::clone(name),
            None => topic.into(),
        };
        let slots = self.slots.entry(Arc::clone(&name)).or_default();
        if slots.len() <= index {
            slots.resize(index + 1, None);
        }
        let slot = self.queues.len();
        slots[index] = Some(slot);
        self.queues.push(Queue {
            topic: name,
            partition,
            open: None,
            wanted: false,
            closed: VecDeque::new(),
        });
        slot
    }

    /// Topic and partition of a slot.
    pub(crate) fn partition(&self, slot: Slot) -> (&Arc<str>, i32) {
        let queue = &self.queues[slot];
        (&queue.topic, queue.partition)
    }

    /// Whether `size` more bytes may be buffered. One record larger than the whole buffer may, if it is alone.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.buffered_bytes == 0 || self.buffered_bytes + size <= self.config.buffer_bytes
    }

    /// Bytes accepted and not yet acknowledged.
    #[cfg(test)]
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Appends one record. The flag says whether the sender should look: a batch was closed or begun.
    pub(crate) fn append(
        &mut self,
        slot: Slot,
        record: &RecordParts<'_>,
        now: Instant,
    ) -> (Delivery, bool) {
        let headers: Vec<(&[u8], Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|(key, value)| (key.as_bytes(), value.as_deref()))
            .collect();
        let mut look = false;
        let queue = &self.queues[slot];
        if let Some(open) = &queue.open {
            let size = open
                .builder
                .size_of(record.timestamp, record.key, record.value, &headers);
            if open.builder.estimated_size() + size > self.config.batch_bytes {
                self.close(slot);
                look = true;
            }
        }
        if self.queues[slot].open.is_none() {
            self.begin(slot, now);
            look = true;
        }
        let queue = &mut self.queues[slot];
        let open = queue.open.as_mut().expect("begun above");
        let before = open.builder.estimated_size();
        open.builder
            .push(record.timestamp, record.key, record.value, &headers);
        let size = open.builder.estimated_size();
        let index = i64::try_from(open.builder.record_count() - 1).unwrap_or(i64::MAX);
        let delivery = Delivery::new(Arc::clone(&open.completion), index, record.timestamp);
        self.buffered_bytes += size - before;
        if size >= self.config.batch_bytes {
            self.close(slot);
            look = true;
        }
        (delivery, look)
    }

    /// Takes a block as a batch of its own, behind what the partition already has.
    pub(crate) fn append_block(
        &mut self,
        slot: Slot,
        payload: Payload,
        records: (usize, i64),
        now: Instant,
    ) -> Delivery {
        let (len, timestamp) = records;
        self.close(slot);
        let queue = &mut self.queues[slot];
        let completion = Completion::new(Arc::clone(&queue.topic), queue.partition);
        let id = self.next_id;
        self.next_id += 1;
        let size = payload.size();
        self.buffered_bytes += size;
        self.incomplete.insert(id, Arc::clone(&completion));
        queue.closed.push_back(ReadyBatch {
            id,
            slot,
            payload,
            record_count: i32::try_from(len).expect("a block is smaller than 2 GiB"),
            size,
            deadline: now + self.config.delivery_timeout,
            completion: Arc::clone(&completion),
        });
        self.due.insert(slot);
        Delivery::new(completion, 0, timestamp)
    }

    fn begin(&mut self, slot: Slot, now: Instant) {
        let options = BatchOptions {
            compression: self.config.compression,
            transactional: self.config.transactional,
            ..BatchOptions::default()
        };
        let queue = &mut self.queues[slot];
        let completion = Completion::new(Arc::clone(&queue.topic), queue.partition);
        let id = self.next_id;
        self.next_id += 1;
        self.incomplete.insert(id, Arc::clone(&completion));
        let builder = BatchBuilder::with_capacity(options, self.config.batch_bytes.min(4096));
        self.buffered_bytes += builder.estimated_size();
        queue.open = Some(Open {
            id,
            builder,
            created: now,
            completion,
        });
        if self.config.linger.is_zero() {
            queue.wanted = true;
            self.due.insert(slot);
        } else {
            self.lingering
                .push_back((now + self.config.linger, slot, id));
        }
    }

    fn close(&mut self, slot: Slot) {
        let queue = &mut self.queues[slot];
        let Some(open) = queue.open.take() else {
            return;
        };
        queue.wanted = false;
        queue.closed.push_back(ReadyBatch {
            id: open.id,
            slot,
            record_count: i32::try_from(open.builder.record_count())
                .expect("a batch is smaller than 2 GiB"),
            size: open.builder.estimated_size(),
            payload: Payload::Open(open.builder),
            deadline: open.created + self.config.delivery_timeout,
            completion: open.completion,
        });
        self.due.insert(slot);
    }

    /// The next batch of each partition that has one to send and for which `may_send` says yes. Call [`Accumulator::end_linger`] before.
    pub(crate) fn take(&mut self, mut may_send: impl FnMut(Slot) -> bool) -> Vec<ReadyBatch> {
        let willing: Vec<Slot> = self
            .due
            .iter()
            .copied()
            .filter(|slot| may_send(*slot))
            .collect();
        let mut batches = Vec::with_capacity(willing.len());
        for slot in willing {
            if self.queues[slot].closed.is_empty() {
                self.close(slot);
            }
            let queue = &mut self.queues[slot];
            batches.extend(queue.closed.pop_front());
            if queue.closed.is_empty() && !(queue.open.is_some() && queue.wanted) {
                self.due.remove(&slot);
            }
        }
        batches
    }

    /// Batches that are old enough at `now` become due.
    pub(crate) fn end_linger(&mut self, now: Instant) {
        while let Some((at, slot, id)) = self.lingering.front().copied() {
            let queue = &mut self.queues[slot];
            let current = queue.open.as_ref().is_some_and(|open| open.id == id);
            if current && at > now {
                return;
            }
            self.lingering.pop_front();
            if current {
                queue.wanted = true;
                self.due.insert(slot);
            }
        }
    }

    /// When the next open batch becomes old enough; none while there is none.
    pub(crate) fn next_linger(&self) -> Option<Instant> {
        self.lingering.front().map(|(at, ..)| *at)
    }

    /// Partitions with something to send, whether or not they may.
    pub(crate) fn due(&self) -> impl Iterator<Item = Slot> + '_ {
        self.due.iter().copied()
    }

    /// Everything buffered is wanted now; returns what there is to wait for.
    pub(crate) fn flush(&mut self) -> Vec<Arc<Completion>> {
        for slot in 0..self.queues.len() {
            self.close(slot);
        }
        self.lingering.clear();
        self.incomplete.values().cloned().collect()
    }

    /// A batch is done with, well or not: its bytes are free again.
    pub(crate) fn release(&mut self, id: BatchId, size: usize) {
        if self.incomplete.remove(&id).is_some() {
            self.buffered_bytes -= size;
        }
    }

    /// Everything that is not acknowledged, for when nothing will be any more.
    pub(crate) fn take_incomplete(&mut self) -> Vec<Arc<Completion>> {
        std::mem::take(&mut self.incomplete).into_values().collect()
    }

    /// Takes out every batch that was not sent, for example to fail them all.
    pub(crate) fn take_unsent(&mut self) -> Vec<ReadyBatch> {
        self.flush();
        self.due.clear();
        self.queues
            .iter_mut()
            .flat_map(|queue| queue.closed.drain(..))
            .collect()
    }

    /// Takes out the batches that were not sent by their deadline.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Vec<ReadyBatch> {
        let mut expired = Vec::new();
        for slot in self.due.clone() {
            if self.queues[slot].open.as_ref().is_some_and(|open| {
                self.queues[slot].wanted && open.created + self.config.delivery_timeout <= now
            }) {
                self.close(slot);
            }
            let queue = &mut self.queues[slot];
            while queue
                .closed
                .front()
                .is_some_and(|batch| batch.deadline <= now)
            {
                expired.extend(queue.closed.pop_front());
            }
            if queue.closed.is_empty() && !(queue.open.is_some() && queue.wanted) {
                self.due.remove(&slot);
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests;
