//! Records out: batched, compressed, retried without duplicates, in transactions if wanted.
//!
//! Owns [`Producer`], the handle that applications and Streams hold. A record goes: `partitioner.rs` chooses the partition,
//! `accumulator.rs` collects the batch, `sender.rs` numbers it and decides what is sent when, `task.rs` talks to the brokers. This file only
//! joins them; the rules are in those.

mod accumulator;
mod block;
mod coordinator;
mod delivery;
mod partitioner;
mod sender;
mod task;
mod transaction;
mod window;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use flumen_protocol::id::TopicPartition;
use foldhash::fast::FixedState;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

pub use block::RecordBlock;
pub use delivery::{Delivery, RecordMetadata};
pub use partitioner::{murmur2, partition_for_key};

use crate::client::{Client, Lane};
use crate::config::{Acks, ProducerConfig};
use crate::consumer::{ConsumerGroupMetadata, OffsetAndMetadata};
use crate::error::{ClientError, Failure};
use crate::runtime::{self, Task};
use accumulator::{Accumulator, AccumulatorConfig, RecordParts, Slot};
use partitioner::Sticky;
use sender::{Guarantee, Identity};
use task::Command;
use transaction::Transaction;

/// A record to send. Java: `ProducerRecord`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    /// Where to.
    pub topic: String,
    /// None: by the key, or wherever it suits if there is no key.
    pub partition: Option<i32>,
    /// Records of one key stay in order.
    pub key: Option<Bytes>,
    /// None is a tombstone: in a compacted topic it deletes the key.
    pub value: Option<Bytes>,
    /// In order; a name may come twice.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since 1970; none is now.
    pub timestamp: Option<i64>,
}

impl ProducerRecord {
    /// A record with a value, without a key.
    #[must_use]
    pub fn new(topic: impl Into<String>, value: impl Into<Bytes>) -> ProducerRecord {
        ProducerRecord {
            topic: topic.into(),
            value: Some(value.into()),
            ..ProducerRecord::default()
        }
    }

    /// The same with a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> ProducerRecord {
        self.key = Some(key.into());
        self
    }

    /// The same for this partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> ProducerRecord {
        self.partition = Some(partition);
        self
    }

    /// Bytes it takes in a batch, roughly and at most.
    fn size(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + length(value) + 10)
            .sum();
        length(&self.key) + length(&self.value) + headers + 40
    }
}

/// Sends records to a cluster. Cheap to clone; the clones share batches, connections and the transaction.
///
/// Idempotent by default: a record is written once and in order, whatever connections break, as long as this producer
/// lives. Dropping the last clone gives up what is not sent yet; [`Producer::close`] sends it first.
#[derive(Debug, Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    _task: Task,
}

/// What the handle and the task have in common.
#[derive(Debug)]
struct Shared {
    client: Client,
    config: ProducerConfig,
    lane: Lane,
    core: Mutex<Core>,
    /// The task shall look: there is a new batch.
    look: Notify,
    /// There is room in the buffer again.
    room: Notify,
    commands: mpsc::UnboundedSender<Command>,
    /// Begin, commit, abort and offsets come one after the other.
    ending: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Core {
    accumulator: Accumulator,
    sticky: HashMap<String, Sticky, FixedState>,
    transaction: Option<Transaction>,
    identity: Option<Identity>,
    /// The first failure that no flush has reported yet.
    failed: Option<ClientError>,
    /// Why nothing is sent any more.
    closed: Option<ClientError>,
}

impl Core {
    fn may_send(&self) -> Result<(), ClientError> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        self.transaction
            .as_ref()
            .map_or(Ok(()), Transaction::may_send)
    }

    fn needs_adding(&self, slot: Slot) -> bool {
        self.transaction
            .as_ref()
            .is_some_and(|transaction| transaction.must_add(slot))
    }
}

impl Producer {
    /// Makes a producer. With a transactional id, call [`Producer::init_transactions`] next.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: options that exclude each other.
    #[expect(
        clippy::unused_async,
        reason = "a producer may come to ask the cluster before it is ready"
    )]
    pub async fn new(client: &Client, config: ProducerConfig) -> Result<Producer, ClientError> {
        let guarantee = guarantee(&config)?;
        let (commands, queue) = mpsc::unbounded_channel();
        let accumulator = Accumulator::new(AccumulatorConfig {
            linger: config.linger,
            batch_bytes: config.batch_bytes,
            buffer_bytes: config.buffer_bytes,
            delivery_timeout: config.delivery_timeout,
            compression: config.compression,
            transactional: guarantee == Guarantee::Transactional,
        });
        let shared = Arc::new(Shared {
            lane: client.new_lane(),
            client: client.clone(),
            core: Mutex::new(Core {
                accumulator,
                sticky: HashMap::with_hasher(FixedState::default()),
                transaction: config.transactional_id.clone().map(Transaction::new),
                identity: None,
                failed: None,
                closed: None,
            }),
            config,
            look: Notify::new(),
            room: Notify::new(),
            commands,
            ending: tokio::sync::Mutex::new(()),
        });
        let task = runtime::spawn(task::run(Arc::clone(&shared), guarantee, queue));
        Ok(Producer {
            handle: Arc::new(Handle {
                shared,
                _task: task,
            }),
        })
    }

    /// Accepts a record; waits only while the buffer is full. The [`Delivery`] says later where it went.
    ///
    /// # Errors
    /// [`ClientError::Timeout`]: no room within `max_block`. [`ClientError::NotFound`]: no such topic or partition.
    /// [`ClientError::Invalid`]: too large, or no transaction is open. What closed the producer or the transaction otherwise.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ClientError> {
        let size = record.size();
        let shared = &*self.handle.shared;
        shared.check_size(size, &record.topic)?;
        let partitions = shared.client.partitions_of(&record.topic).await?;
        let timestamp = record.timestamp.unwrap_or_else(|| shared.client.wall_ms());
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => check_partition(&record.topic, partition, partitions)?,
            (None, Some(key)) => partition_for_key(key, partitions),
            (None, None) => shared.sticky(&record.topic, partitions, size),
        };
        let parts = RecordParts {
            timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        };
        shared
            .with_room(&record.topic, partition, size, |core, slot| {
                core.accumulator.append(slot, &parts, runtime::now())
            })
            .await
    }

    /// Accepts encoded records as one batch of a partition; waits only while the buffer is full.
    /// The [`Delivery`] gives the offset of the first one.
    ///
    /// # Errors
    /// As [`Producer::send`]; [`ClientError::Invalid`] for an empty block, too.
    pub async fn send_batch(
        &self,
        topic: &str,
        partition: i32,
        block: RecordBlock,
    ) -> Result<Delivery, ClientError> {
        if block.is_empty() {
            return Err(ClientError::invalid(
                format!("topic {topic}"),
                "an empty block",
            ));
        }
        let shared = &*self.handle.shared;
        let partitions = shared.client.partitions_of(topic).await?;
        check_partition(topic, partition, partitions)?;
        let len = block.len();
        let (payload, timestamp) = block.into_payload();
        let size = payload.size();
        shared.check_size(size, topic)?;
        let mut payload = Some(payload);
        shared
            .with_room(topic, partition, size, |core, slot| {
                let payload = payload.take().expect("a block is appended once");
                let records = (len, timestamp);
                let now = runtime::now();
                (
                    core.accumulator.append_block(slot, payload, records, now),
                    true,
                )
            })
            .await
    }

    /// Sends everything accepted so far and waits until it is acknowledged.
    ///
    /// # Errors
    /// The first failure of any record since the last flush, whether or not its [`Delivery`] was awaited.
    pub async fn flush(&self) -> Result<(), ClientError> {
        flush(&self.handle.shared).await
    }

    /// The number of partitions of a topic. Asks the cluster if it is not known yet.
    ///
    /// # Errors
    /// As [`Client::partitions_of`].
    pub async fn partitions_of(&self, topic: &str) -> Result<i32, ClientError> {
        self.handle.shared.client.partitions_of(topic).await
    }

    /// Fences earlier producers of the same transactional id, aborts what they left open, and gets a producer id. Once, before the first
    /// transaction.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]: no transactional id. [`ClientError::Fenced`], [`ClientError::Unauthorized`]: final.
    /// [`ClientError::Unavailable`], [`ClientError::Timeout`]: call again.
    pub async fn init_transactions(&self) -> Result<(), ClientError> {
        coordinator::init_transactions(&self.handle.shared, None).await
    }

    /// The same for a producer that goes on for an `earlier` one of this process, and only for it: refused if anybody has initialised the
    /// transactional id since. `earlier` is the last [`Producer::producer_id`] that was seen of it. Source: KIP-360.
    ///
    /// # Errors
    /// As [`Producer::init_transactions`]; [`ClientError::Fenced`]: somebody has taken over.
    pub async fn init_transactions_after(&self, earlier: (i64, i16)) -> Result<(), ClientError> {
        coordinator::init_transactions(&self.handle.shared, Some(earlier)).await
    }

    /// Opens a transaction: what is sent from now on becomes visible to `read_committed` consumers all at once, or never.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] in the wrong state; what closed the producer otherwise.
    pub fn begin_transaction(&self) -> Result<(), ClientError> {
        let mut core = self.handle.shared.core.lock();
        core.failed = None;
        coordinator::transaction(&mut core)?.begin()
    }

    /// Sends everything, waits for it, and commits.
    ///
    /// # Errors
    /// [`ClientError::TransactionAbortable`]: nothing is committed; abort. [`ClientError::Fenced`], [`ClientError::Fatal`]: nothing is committed
    /// by this producer; close it. [`ClientError::Timeout`], [`ClientError::Unavailable`]: the outcome is not known; call it again, or close
    /// the producer and let [`Producer::init_transactions`] of the next one settle it.
    pub async fn commit_transaction(&self) -> Result<(), ClientError> {
        coordinator::commit(&self.handle.shared).await
    }

    /// Gives up what is not sent, waits for what is on its way, and aborts.
    ///
    /// # Errors
    /// [`ClientError::Fenced`], [`ClientError::Fatal`]: close the producer; the broker aborts by itself. Otherwise call it again.
    pub async fn abort_transaction(&self) -> Result<(), ClientError> {
        coordinator::abort(&self.handle.shared).await
    }

    /// Makes consumed positions part of the transaction: they are committed with it, and only if the group still is as
    /// `group` says (KIP-447). Offsets are those of the next record to read.
    ///
    /// # Errors
    /// [`ClientError::Rebalance`]: the group has moved on; abort, and poll. [`ClientError::TransactionAbortable`]: an offset was refused; abort.
    /// Else as [`Producer::commit_transaction`].
    pub async fn send_offsets_to_transaction(
        &self,
        offsets: &[(TopicPartition, OffsetAndMetadata)],
        group: &ConsumerGroupMetadata,
    ) -> Result<(), ClientError> {
        coordinator::send_offsets(&self.handle.shared, offsets, group).await
    }

    /// The producer id and epoch under which the next transaction is written; none before [`Producer::init_transactions`].
    #[must_use]
    pub fn producer_id(&self) -> Option<(i64, i16)> {
        let identity = self.handle.shared.core.lock().identity;
        identity.map(|identity| (identity.producer_id, identity.epoch))
    }

    /// Flushes and closes: nothing is accepted any more by any clone.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(self) -> Result<(), ClientError> {
        let flushed = self.flush().await;
        let shared = &*self.handle.shared;
        shared
            .core
            .lock()
            .closed
            .get_or_insert_with(|| ClientError::closed("producer"));
        shared.client.close_lane(shared.lane);
        flushed
    }
}

async fn flush(shared: &Shared) -> Result<(), ClientError> {
    let completions = shared.core.lock().accumulator.flush();
    shared.look.notify_one();
    for completion in completions {
        // Failures are gathered below, once for all.
        let _ = Delivery::new(completion, 0, 0).await;
    }
    shared.core.lock().failed.take().map_or(Ok(()), Err)
}

impl Shared {
    /// Appends once there is room, and within `max_block`.
    async fn with_room(
        &self,
        topic: &str,
        partition: i32,
        size: usize,
        mut append: impl FnMut(&mut Core, Slot) -> (Delivery, bool),
    ) -> Result<Delivery, ClientError> {
        let deadline = runtime::now() + self.config.max_block;
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            let add = {
                let mut core = self.core.lock();
                core.may_send()?;
                let slot = core.accumulator.slot(topic, partition);
                if core.needs_adding(slot) {
                    Some(slot)
                } else if core.accumulator.has_room(size) {
                    let (delivery, look) = append(&mut core, slot);
                    drop(core);
                    if look {
                        self.look.notify_one();
                    }
                    return Ok(delivery);
                } else {
                    None
                }
            };
            if let Some(slot) = add {
                coordinator::add_partition(self, topic, partition, slot).await?;
                continue;
            }
            // Whoever waits for room wants what lingers to go now.
            self.core.lock().accumulator.flush();
            self.look.notify_one();
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                let reason = format!("no room in the buffer within {:?}", self.config.max_block);
                return Err(ClientError::Timeout(Failure::new(
                    format!("topic {topic}"),
                    reason,
                )));
            }
        }
    }

    fn check_size(&self, size: usize, topic: &str) -> Result<(), ClientError> {
        let most = self.config.max_request_bytes.max(self.config.batch_bytes);
        if size <= most {
            return Ok(());
        }
        let reason = format!("{size} bytes, more than max_request_bytes {most}");
        Err(ClientError::invalid(format!("topic {topic}"), reason))
    }

    fn sticky(&self, topic: &str, partitions: i32, size: usize) -> i32 {
        let mut core = self.core.lock();
        if !core.sticky.contains_key(topic) {
            let sticky = Sticky::new(self.client.seed());
            core.sticky.insert(topic.to_owned(), sticky);
        }
        let sticky = core.sticky.get_mut(topic).expect("inserted above");
        sticky.next(partitions, size, self.config.batch_bytes)
    }
}

fn check_partition(topic: &str, partition: i32, partitions: i32) -> Result<i32, ClientError> {
    if (0..partitions).contains(&partition) {
        return Ok(partition);
    }
    let subject = format!("partition {topic}-{partition}");
    let reason = format!("the topic has {partitions} partitions");
    Err(ClientError::NotFound(Failure::new(subject, reason)))
}

fn guarantee(config: &ProducerConfig) -> Result<Guarantee, ClientError> {
    let transactional = config.transactional_id.is_some();
    let wrong = |option, reason: &str| Err(ClientError::invalid(option, reason));
    if (transactional || config.idempotent) && config.acks != Acks::All {
        return wrong("acks", "idempotence and transactions need acks all");
    }
    if transactional && !config.idempotent {
        return wrong("idempotent", "transactions need idempotence");
    }
    if config.max_in_flight == 0 || (config.idempotent && config.max_in_flight > 5) {
        return wrong("max_in_flight", "1 to 5 with idempotence, else at least 1");
    }
    if config.batch_bytes == 0 || config.buffer_bytes < config.batch_bytes {
        return wrong("batch_bytes", "must be positive and fit into buffer_bytes");
    }
    Ok(match (transactional, config.idempotent) {
        (true, _) => Guarantee::Transactional,
        (false, true) => Guarantee::Idempotent,
        (false, false) => Guarantee::Plain,
    })
}
