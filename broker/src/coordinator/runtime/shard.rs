//! One shard: a machine, the partition that is its log, and who waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use flumen_log::{AppendAs, VerificationGuard};
use flumen_protocol::batch::{ControlRecord, batches};
use flumen_protocol::builder::{BatchBuilder, BatchOptions, EndTxnMarker, end_txn_marker};
use flumen_protocol::compression::DecompressionLimit;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::table::Broken;
use super::{Machine, World};
use crate::coordinator::{Time, Token};
use crate::error::append_error_code;
use crate::partition::Partition;

/// A machine and its log.
#[derive(Debug)]
pub(crate) struct Shard<M: Machine> {
    world: Arc<World>,
    broken: Arc<Broken>,
    /// Number of its partition in the internal topic.
    pub(crate) index: i32,
    state: Mutex<State<M>>,
    next_token: AtomicU64,
    /// It was loaded, and what the load found half done has not been looked at.
    loaded: AtomicBool,
    /// Its last write failed; told when that begins and when it ends, not at every load in between.
    writes_fail: AtomicBool,
    /// Told when something that others are asked to wait for has ended.
    pub(crate) changed: Notify,
}

#[derive(Debug)]
struct State<M: Machine> {
    /// None while it is loading, or when its partition is not here.
    running: Option<Running<M>>,
    /// Its partition is damaged: it will not be loaded before the next start.
    absent: bool,
    waiting: BTreeMap<Token, oneshot::Sender<M::Completion>>,
    /// Loads that were begun; a later one outdates an earlier one.
    loads: u64,
}

#[derive(Debug)]
struct Running<M> {
    machine: M,
    partition: Arc<Partition>,
    /// The epoch in which this broker leads the partition since the load.
    epoch: LeaderEpoch,
    /// Everything below is applied.
    applied: Offset,
}

/// What a machine's call came to.
#[derive(Debug)]
pub(crate) struct Step<M: Machine, R> {
    pub(crate) records: Vec<M::Record>,
    /// The producer in whose transaction the records are.
    pub(crate) transaction: Option<InTransaction>,
    pub(crate) reply: R,
}

/// A producer's open transaction, and the permission to begin it in this partition if it is the first of it here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InTransaction {
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) guard: VerificationGuard,
}

impl<M: Machine, R> Step<M, R> {
    pub(crate) fn new(records: Vec<M::Record>, reply: R) -> Step<M, R> {
        Step {
            records,
            transaction: None,
            reply,
        }
    }
}

/// Everything a shard had applied when it decided: replies wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    upto: Offset,
}

impl Commit {
    /// Everything below `upto` in `partition`, written in `epoch`.
    pub(crate) fn new(partition: Arc<Partition>, epoch: LeaderEpoch, upto: Offset) -> Commit {
        Commit {
            partition,
            epoch,
            upto,
        }
    }

    /// The epoch it was written in.
    pub(crate) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// It is on disk already.
    pub(crate) fn is_done(&self) -> bool {
        // G-2: what a later epoch committed at these offsets may be something else.
        self.partition.high_watermark() >= self.upto && self.partition.leader_epoch() == self.epoch
    }

    /// Waits until it is.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` if the epoch ended first: what was decided may be lost, the client must ask again.
    pub(crate) async fn done(&self) -> Result<(), ErrorCode> {
        if self.is_done() {
            return Ok(());
        }
        self.partition
            .committed(self.upto, self.epoch)
            .await
            .map_err(|_| ErrorCode::NotCoordinator)
    }
}

impl<M: Machine> Shard<M> {
    /// Not loaded yet: it answers nothing. `absent`: nor will it be, as its partition is damaged.
    pub(crate) fn new(
        world: &Arc<World>,
        broken: &Arc<Broken>,
        index: i32,
        absent: bool,
    ) -> Arc<Shard<M>> {
        let state = State {
            running: None,
            absent,
            waiting: BTreeMap::new(),
            loads: 0,
        };
        Arc::new(Shard {
            world: Arc::clone(world),
            broken: Arc::clone(broken),
            index,
            state: Mutex::new(state),
            next_token: AtomicU64::new(1),
            loaded: AtomicBool::new(false),
            writes_fail: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// Calls the machine, appends and applies what it decided. No await in between, so it happens whole or not at all.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` while loading; `COORDINATOR_NOT_AVAILABLE` without its partition; `NOT_COORDINATOR` after a
    /// failed write. The machine is not asked, or what it
    /// decided is dropped with it.
    pub(crate) fn step<R>(
        self: &Arc<Self>,
        call: impl FnOnce(&mut M, Time) -> Step<M, R>,
    ) -> Result<(R, Commit), ErrorCode> {
        let now = self.world.now();
        let mut state = self.state.lock();
        let running = running(&mut state)?;
        let step = call(&mut running.machine, now);
        if !step.records.is_empty()
            && let Err(error) = running.write(&step, self.world.stamp_ms())
        {
            // A producer's own fault (it is fenced, its transaction is over) has changed nothing here.
            if step.transaction.is_none() || error.code == ErrorCode::KafkaStorageError {
                self.unload(&mut state, &error.to_string());
            }
            return Err(match error.code {
                ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
                code => code,
            });
        }
        if !step.records.is_empty() && self.writes_fail.load(Ordering::Relaxed) {
            self.writes_fail.store(false, Ordering::Relaxed);
            tracing::info!(
                topic = M::TOPIC,
                partition = self.index,
                "coordinator can write again"
            );
        }
        self.world
            .timers
            .on_deadline(running.machine.next_deadline(now));
        Ok((step.reply, running.commit()))
    }

    /// Reads from the machine. The reply must wait for the commit like any other.
    ///
    /// # Errors
    /// As [`Shard::step`].
    pub(crate) fn read<R>(&self, call: impl FnOnce(&M) -> R) -> Result<(R, Commit), ErrorCode> {
        let mut state = self.state.lock();
        let running = running(&mut state)?;
        let reply = call(&running.machine);
        Ok((reply, running.commit()))
    }

    /// Writes the marker of a transaction whose records lie in this partition, and applies it.
    ///
    /// # Errors
    /// As [`Shard::step`]; the log's refusal of a marker that is outdated.
    pub(crate) fn write_marker(
        self: &Arc<Self>,
        marker: &EndTxnMarker,
        version: i16,
    ) -> Result<Commit, ErrorCode> {
        let mut state = self.state.lock();
        let running = running(&mut state)?;
        let how = AppendAs::Marker {
            leader_epoch: running.epoch,
            transaction_version: version,
        };
        let appended = running
            .partition
            .append(end_txn_marker(marker), &how, marker.timestamp);
        match appended {
            Ok(appended) => {
                running
                    .machine
                    .apply_marker(marker.producer_id, marker.commit);
                running.applied = appended.last_offset + 1;
                self.world
                    .timers
                    .on_deadline(running.machine.next_deadline(self.world.now()));
                Ok(running.commit())
            }
            Err(error) => {
                let code = append_error_code(&error);
                if code == ErrorCode::KafkaStorageError {
                    self.unload(&mut state, &error.to_string());
                }
                Err(code)
            }
        }
    }

    /// The partition, to ask its log before a transactional write.
    ///
    /// # Errors
    /// As [`Shard::step`].
    pub(crate) fn partition(&self) -> Result<Arc<Partition>, ErrorCode> {
        let mut state = self.state.lock();
        running(&mut state).map(|running| Arc::clone(&running.partition))
    }

    /// When the machine wants to be ticked; none while it is not running.
    pub(crate) fn next_deadline(&self, now: Time) -> Option<u64> {
        self.state
            .lock()
            .running
            .as_ref()
            .and_then(|running| running.machine.next_deadline(now))
    }

    /// A place for a reply that comes later.
    pub(crate) fn expect_reply(self: &Arc<Self>) -> Awaited<M> {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.state.lock().waiting.insert(token, sender);
        Awaited {
            shard: Arc::clone(self),
            token,
            receiver,
        }
    }

    /// Gives out replies once `commit` is done, in a task of its own if that takes time.
    pub(crate) fn release(
        self: &Arc<Self>,
        completions: Vec<(Token, M::Completion)>,
        commit: Commit,
    ) {
        if completions.is_empty() {
            return;
        }
        if commit.is_done() {
            return self.give_out(completions);
        }
        let shard = Arc::clone(self);
        self.world
            .parts
            .drivers
            .spawn("coordinator replies", async move {
                match commit.done().await {
                    Ok(()) => shard.give_out(completions),
                    Err(error) => shard.unload(&mut shard.state.lock(), error.name()),
                }
            });
    }

    fn give_out(&self, completions: Vec<(Token, M::Completion)>) {
        let mut state = self.state.lock();
        for (token, completion) in completions {
            if let Some(sender) = state.waiting.remove(&token) {
                let _ = sender.send(completion); // its connection may have closed
            }
        }
    }

    /// Drops the machine, so that nobody is answered from what may not be in the log, and loads anew.
    fn unload(self: &Arc<Self>, state: &mut State<M>, why: &str) {
        if state.running.take().is_none() {
            return;
        }
        if !self.writes_fail.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                topic = M::TOPIC,
                partition = self.index,
                why,
                "coordinator drops its state and loads again, as often as it cannot write"
            );
        }
        state.waiting.clear();
        self.broken.report(self.index);
    }

    /// Begins a load: the machine is gone until [`Shard::install`].
    pub(crate) fn begin_load(&self) -> u64 {
        let mut state = self.state.lock();
        state.running = None;
        state.waiting.clear();
        state.loads += 1;
        state.loads
    }

    /// Ends a load, unless another one was begun since.
    pub(crate) fn install(&self, load: u64, loaded: Loaded<M>) -> bool {
        let mut state = self.state.lock();
        if state.loads != load {
            return false;
        }
        let Loaded {
            machine,
            partition,
            epoch,
            applied,
        } = loaded;
        self.world
            .timers
            .on_deadline(machine.next_deadline(self.world.now()));
        state.running = Some(Running {
            machine,
            partition,
            epoch,
            applied,
        });
        drop(state);
        self.look_again();
        true
    }

    /// Has the timer task look for what is half done.
    pub(crate) fn look_again(&self) {
        self.loaded.store(true, Ordering::Release);
        self.world.timers.ring();
    }

    /// Whether there may be something half done; asked once.
    pub(crate) fn take_loaded(&self) -> bool {
        self.loaded.swap(false, Ordering::AcqRel)
    }
}

fn running<M: Machine>(state: &mut State<M>) -> Result<&mut Running<M>, ErrorCode> {
    let why = match state.absent {
        true => ErrorCode::CoordinatorNotAvailable,
        false => ErrorCode::CoordinatorLoadInProgress,
    };
    state.running.as_mut().ok_or(why)
}

/// A machine rebuilt from its log.
#[derive(Debug)]
pub(crate) struct Loaded<M> {
    pub(crate) machine: M,
    pub(crate) partition: Arc<Partition>,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) applied: Offset,
}

/// Why records could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct WriteError {
    code: ErrorCode,
    message: String,
}

impl<M: Machine> Running<M> {
    fn commit(&self) -> Commit {
        Commit {
            partition: Arc::clone(&self.partition),
            epoch: self.epoch,
            upto: self.applied,
        }
    }

    /// One batch: a decision is in the log whole or not at all.
    fn write<R>(&mut self, step: &Step<M, R>, stamp_ms: i64) -> Result<(), WriteError> {
        let mut builder = BatchBuilder::new(BatchOptions {
            producer_id: step
                .transaction
                .map_or(-1, |transaction| transaction.producer_id),
            producer_epoch: step
                .transaction
                .map_or(-1, |transaction| transaction.producer_epoch),
            transactional: step.transaction.is_some(),
            ..BatchOptions::default()
        });
        for record in &step.records {
            let encoded = M::encode(record);
            let (key, value) = encoded.map_err(|error| WriteError {
                code: ErrorCode::UnknownServerError,
                message: error.to_string(),
            })?;
            builder.push(stamp_ms, Some(&key), value.as_deref(), &[]);
        }
        let guard = step
            .transaction
            .map_or(VerificationGuard::NONE, |transaction| transaction.guard);
        let how = AppendAs::Coordinator {
            leader_epoch: self.epoch,
            guard,
        };
        let appended = self
            .partition
            .append(builder.build(), &how, stamp_ms)
            .map_err(|error| WriteError {
                code: append_error_code(&error),
                message: error.to_string(),
            })?;
        let producer = step.transaction.map(|transaction| transaction.producer_id);
        for (record, position) in step.records.iter().zip(appended.base_offset..) {
            self.machine.apply(record, position, producer);
        }
        self.applied = appended.last_offset + 1;
        Ok(())
    }
}

/// A reply that is still to come; the place is given up when this is dropped.
#[derive(Debug)]
pub(crate) struct Awaited<M: Machine> {
    shard: Arc<Shard<M>>,
    pub(crate) token: Token,
    receiver: oneshot::Receiver<M::Completion>,
}

impl<M: Machine> Awaited<M> {
    /// The reply.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` if the shard lost its machine before; `COORDINATOR_NOT_AVAILABLE` when the broker stops.
    pub(crate) async fn reply(mut self) -> Result<M::Completion, ErrorCode> {
        let world = Arc::clone(&self.shard.world);
        tokio::select! {
            biased;
            reply = &mut self.receiver => reply.map_err(|_| match world.stop.is_cancelled() {
                true => ErrorCode::CoordinatorNotAvailable,
                false => ErrorCode::NotCoordinator,
            }),
            () = world.stop.cancelled() => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }
}

impl<M: Machine> Drop for Awaited<M> {
    fn drop(&mut self) {
        self.shard.state.lock().waiting.remove(&self.token);
    }
}

/// Applies every record and marker of a piece of the log, in order. A record that cannot be read is not ours (a tool or a newer
/// release wrote it): it is named in the log and passed over.
pub(crate) fn replay<M: Machine>(
    machine: &mut M,
    partition: &Partition,
    bytes: Bytes,
) -> Result<(), String> {
    for batch in batches(bytes) {
        let batch = batch.map_err(|error| error.to_string())?;
        let header = *batch.header();
        batch
            .verify_crc()
            .map_err(|error| format!("batch at offset {}: {error}", header.base_offset))?;
        if header.record_count == 0 {
            // What compaction leaves of a producer's last batch or marker.
            continue;
        }
        if header.is_control() {
            match batch.control_record().map_err(|error| error.to_string())? {
                ControlRecord::Commit { .. } => machine.apply_marker(header.producer_id, true),
                ControlRecord::Abort { .. } => machine.apply_marker(header.producer_id, false),
                ControlRecord::Other(_) => {}
            }
            continue;
        }
        let producer = header.is_transactional().then_some(header.producer_id);
        let records = batch
            .records(DecompressionLimit(REPLAY_BATCH_BYTES_MAX))
            .map_err(|error| error.to_string())?;
        for record in records {
            let record = record.map_err(|error| error.to_string())?;
            match M::decode(record.key.unwrap_or_default(), record.value) {
                Ok(Some(decoded)) => machine.apply(&decoded, record.offset, producer),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(partition = %partition.name(), offset = record.offset, %error, "record passed over");
                }
            }
        }
    }
    Ok(())
}

/// No batch of an internal topic is larger: a segment is not.
const REPLAY_BATCH_BYTES_MAX: usize = 100 << 20;

#[cfg(test)]
mod tests {
    use flumen_log::LogConfig;
    use flumen_log::dir::{Identity, LogDir};
    use flumen_log::disk::OsDisk;
    use flumen_protocol::id::{TopicId, TopicPartition};
    use futures_util::FutureExt as _;

    use super::*;
    use crate::flush::FlushConductor;
    use crate::partition::PartitionParts;
    use crate::partition::leader::Durability;

    /// G-2 (KAFKA-20634): a high watermark of a later epoch says nothing of what was written in an earlier one.
    #[test]
    fn what_another_epoch_committed_completes_nothing() {
        let temp = tempfile::TempDir::new().unwrap();
        let identity = Identity {
            cluster_id: "cluster".to_owned(),
            node_id: 1,
            directory_id: TopicId([1; 16]),
        };
        let dir = LogDir::open(Arc::new(OsDisk::default()), temp.path(), &identity).unwrap();
        let name = TopicPartition::new("__consumer_offsets", 0);
        let log = dir.open_log(&name, None, LogConfig::default()).unwrap();
        let partition = Partition::new(PartitionParts {
            name,
            topic_id: TopicId([2; 16]),
            leader_epoch: 3,
            log,
            durability: Durability::Flushed,
            flush: FlushConductor::new(1),
        });
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.push(1_000, None, Some(b"value"), &[]);
        partition
            .append(batch.build(), &AppendAs::coordinator(3), 1_000)
            .unwrap();
        partition.on_flushed(partition.log().flush().unwrap());
        assert_eq!(partition.high_watermark(), 1);
        for (epoch, expected) in [(3, Ok(())), (2, Err(ErrorCode::NotCoordinator))] {
            let commit = Commit::new(Arc::clone(&partition), epoch, 1);
            assert_eq!(commit.is_done(), expected.is_ok());
            assert_eq!(commit.done().now_or_never(), Some(expected));
        }
    }
}
