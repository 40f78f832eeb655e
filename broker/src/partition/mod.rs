//! One partition of a topic on this broker: its log, its leader's progress, and who waits for it.
//!
//! Called by handlers (produce, fetch, list offsets) and by the coordinators, which write their internal topics through the same
//! door. Appends are serialised by the log's own lock; readers never wait for a writer. The flush conductor reports durable ends.
//! Never knows of sockets or requests.

pub(crate) mod leader;
pub mod pending;
pub mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use flumen_log::{
    AppendAs, AppendError, Appended, Fenced, Log, ReadError, Slice, VerificationGuard,
};
use flumen_planted::{Bug, planted};
use flumen_protocol::batch::BatchHeader;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{LeaderEpoch, Offset, TopicId, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::flush::FlushConductor;
use crate::metrics::Traffic;
use leader::{Advance, Durability, Leader};
use pending::{AckId, FetchId, Isolation, Pending};

/// What a new partition is made of.
#[derive(Debug)]
pub(crate) struct PartitionParts {
    pub(crate) name: TopicPartition,
    pub(crate) topic_id: TopicId,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) log: Arc<Log>,
    pub(crate) durability: Durability,
    pub(crate) flush: Arc<FlushConductor>,
}

/// One replica of one partition; on one node always the leader.
#[derive(Debug)]
pub struct Partition {
    name: TopicPartition,
    topic_id: TopicId,
    log: Arc<Log>,
    flush: Arc<FlushConductor>,
    state: Mutex<State>,
    /// Copy of the leader's high watermark, read without the lock.
    high_watermark: AtomicI64,
    /// The last stable offset: moves only with the high watermark, as a transaction's records and its marker both lie above it
    /// when they are appended.
    last_stable: AtomicI64,
    /// What it moved, for metrics.
    pub(crate) traffic: Traffic,
    /// Whether the conductor has it in its next round.
    pub(crate) in_next_flush: AtomicBool,
}

#[derive(Debug)]
struct State {
    leader: Leader,
    pending: Pending<oneshot::Sender<Result<(), ErrorCode>>, Arc<FetchWait>>,
    /// Why it no longer answers: deleted, or the log directory is fenced.
    closed: Option<ErrorCode>,
}

impl Partition {
    pub(crate) fn new(parts: PartitionParts) -> Arc<Partition> {
        let (durable, end) = (parts.log.flushed_offset(), parts.log.log_end_offset());
        let leader = Leader::new(parts.leader_epoch, parts.durability, durable, end);
        let partition = Arc::new(Partition {
            name: parts.name,
            topic_id: parts.topic_id,
            high_watermark: AtomicI64::new(leader.high_watermark()),
            last_stable: AtomicI64::new(parts.log.last_stable_offset(leader.high_watermark())),
            log: parts.log,
            flush: parts.flush,
            state: Mutex::new(State {
                leader,
                pending: Pending::new(),
                closed: None,
            }),
            traffic: Traffic::default(),
            in_next_flush: AtomicBool::new(false),
        });
        if durable < end {
            partition.flush.mark(&partition);
        }
        partition
    }

    /// Topic and number.
    #[must_use]
    pub fn name(&self) -> &TopicPartition {
        &self.name
    }

    /// Id of its topic; a topic deleted and made again has another.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// The log beneath, for reads that no watermark bounds and for tools.
    #[must_use]
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The epoch in which this broker leads the partition.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state.lock().leader.epoch()
    }

    /// First offset not yet visible to `read_uncommitted` consumers.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark.load(Ordering::Acquire)
    }

    /// First offset not visible to `read_committed` consumers: the first record of an open transaction, or the start of the log where
    /// that record was deleted; at most the high watermark.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        let undecided = self.last_stable.load(Ordering::Acquire);
        undecided.max(self.log.log_start_offset())
    }

    /// The end that bounds a reader.
    #[must_use]
    pub fn readable_end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        }
    }

    /// Appends batches to the log, into the page cache. They become visible, and may be acknowledged, when [`Partition::committed`]
    /// says so.
    ///
    /// # Errors
    /// As [`Log::append`]; after the partition was deleted or its directory fenced, [`AppendError::Fenced`].
    pub(crate) fn append(
        self: &Arc<Self>,
        records: Bytes,
        how: &AppendAs,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.append_with(records, |log, records| log.append(records, how, now_ms))
    }

    /// The same on a thread that serves sockets.
    ///
    /// # Errors
    /// As [`Partition::append`]; [`AppendError::Costly`]: it must be done elsewhere.
    pub(crate) fn append_quickly(
        self: &Arc<Self>,
        records: Bytes,
        how: &AppendAs,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.append_with(records, |log, records| {
            log.append_quickly(records, how, now_ms)
        })
    }

    fn append_with(
        self: &Arc<Self>,
        records: Bytes,
        append: impl FnOnce(&Log, Bytes) -> Result<Appended, AppendError>,
    ) -> Result<Appended, AppendError> {
        if let Some(reason) = self.flush.fenced() {
            return Err(AppendError::Fenced(Fenced {
                dir: self.log.dir().to_owned(),
                reason,
            }));
        }
        let size = records.len();
        let appended = append(&self.log, records);
        self.flush.on_append(&self.name, size, &appended);
        let appended = appended?;
        if !appended.duplicate {
            self.on_append(&appended);
        }
        Ok(appended)
    }

    fn on_append(self: &Arc<Self>, appended: &Appended) {
        let records = u64::try_from(appended.last_offset + 1 - appended.base_offset).unwrap_or(0);
        self.traffic
            .bytes_in
            .fetch_add(appended.size_bytes as u64, Ordering::Relaxed);
        self.traffic
            .records_in
            .fetch_add(records, Ordering::Relaxed);
        let (advance, flush) = {
            let mut state = self.state.lock();
            let (end, bytes) = (appended.last_offset + 1, appended.size_bytes as u64);
            (
                state.leader.on_append(end, bytes),
                state.leader.is_flush_due(),
            )
        };
        if let Some(advance) = advance {
            self.on_advance(advance);
        }
        if flush {
            self.flush.mark(self);
        }
    }

    /// The topic does not wait for the disk and something is not there yet: now it is to get there (`flush.ms`).
    pub(crate) fn flush_what_is_left(self: &Arc<Self>) {
        let left = self.state.lock().leader.unflushed();
        if left > 0 {
            self.flush.mark(self);
        }
    }

    /// Everything below `durable_end` is on disk. Called by the flush conductor.
    pub(crate) fn on_flushed(&self, durable_end: Offset) {
        let advance = self.state.lock().leader.on_flushed(durable_end);
        if let Some(advance) = advance {
            self.on_advance(advance);
        }
    }

    fn on_advance(&self, advance: Advance) {
        self.high_watermark
            .fetch_max(advance.high_watermark, Ordering::AcqRel);
        let stable = match planted(Bug::LsoAheadOfApplied) {
            true => advance.high_watermark, // wrong: transactions may be open below
            false => self.log.last_stable_offset(advance.high_watermark),
        };
        let stable_moved = self.last_stable.fetch_max(stable, Ordering::AcqRel) < stable;
        let mut state = self.state.lock();
        let acks = state.pending.on_high_watermark(advance.high_watermark);
        for fetch in state.pending.fetches(Isolation::ReadUncommitted) {
            fetch.on_bytes(advance.bytes);
        }
        if stable_moved {
            for fetch in state.pending.fetches(Isolation::ReadCommitted) {
                fetch.wake();
            }
        }
        drop(state);
        for ack in acks {
            // The waiter may have timed out.
            let _ = ack.send(Ok(()));
        }
    }

    /// Permission for a transactional batch to begin a transaction here, to be confirmed by the coordinator; `None` if one is open.
    pub(crate) fn start_verification(
        &self,
        batch: &BatchHeader,
        bumps_epoch: bool,
    ) -> Option<VerificationGuard> {
        self.log.start_verification(
            batch.producer_id,
            batch.producer_epoch,
            batch.base_sequence,
            bumps_epoch,
        )
    }

    /// Waits until everything below `next_offset` is committed: durable here, or written where the topic says `flush.mode=async`.
    ///
    /// # Errors
    /// `NOT_LEADER_OR_FOLLOWER` if this broker no longer leads in `epoch`; whatever [`Partition::close`] was given.
    pub(crate) async fn committed(
        &self,
        next_offset: Offset,
        epoch: LeaderEpoch,
    ) -> Result<(), ErrorCode> {
        let (id, released) = {
            let mut state = self.state.lock();
            if let Some(why) = state.closed {
                return Err(why);
            }
            if state.leader.epoch() != epoch {
                return Err(ErrorCode::NotLeaderOrFollower);
            }
            if state.leader.high_watermark() >= next_offset {
                return Ok(());
            }
            let (ack, released) = oneshot::channel();
            (state.pending.park_ack(next_offset, ack), released)
        };
        let _parked = ParkedAck {
            partition: self,
            id,
        };
        // After parking: the conductor is fenced before it fails those who are parked, so one of the two is seen here. Nobody
        // flushes for whoever comes later.
        if self.flush.fenced().is_some() {
            return Err(ErrorCode::KafkaStorageError);
        }
        released
            .await
            .unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
    }

    /// Whole batches from the one that contains `from`, below the end that `isolation` sets; at most `max_bytes`, or one batch whatever
    /// its size if `min_one_batch`.
    ///
    /// # Errors
    /// As [`Log::read`]. An offset between the readable end and the log's end is no error: there is nothing yet.
    pub(crate) fn read(
        &self,
        from: Offset,
        isolation: Isolation,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<Slice, ReadError> {
        self.log
            .read(from, self.readable_end(isolation), max_bytes, min_one_batch)
    }

    /// Compares the epoch a client believes in with ours; -1 asks nothing.
    pub(crate) fn check_epoch(&self, believed: LeaderEpoch) -> Result<(), ErrorCode> {
        let state = self.state.lock();
        if let Some(why) = state.closed {
            return Err(why);
        }
        match believed {
            ..=-1 => Ok(()),
            older if older < state.leader.epoch() => Err(ErrorCode::FencedLeaderEpoch),
            newer if newer > state.leader.epoch() => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// The epoch in which the record at `offset` was written; -1 if that is not known.
    pub(crate) fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.log.leader_epochs().epoch_of(offset).unwrap_or(-1)
    }

    /// Where the log of `epoch` ends: the largest known epoch not above it, and the first offset after it.
    pub(crate) fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        if epoch == self.leader_epoch() {
            return Some((epoch, self.log.log_end_offset()));
        }
        self.log.end_offset_for_epoch(epoch)
    }

    /// Whether a reader at `offset` whose last record was of `last_epoch` has followed another history; where ours parts from it.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE` for an epoch that is not in our history: its reader must begin anew (Kafka: `Partition.readRecords`).
    pub(crate) fn divergence(
        &self,
        last_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
        if last_epoch < 0 {
            return Ok(None);
        }
        let known = self.end_offset_for_epoch(last_epoch);
        let (epoch, end) = known.ok_or(ErrorCode::OffsetOutOfRange)?;
        Ok((epoch < last_epoch || end < offset).then_some((epoch, end)))
    }

    /// Parks a fetch: `wait` is told whenever bytes become visible, until the guard is dropped. Look again after parking.
    pub(crate) fn park_fetch(
        self: &Arc<Self>,
        isolation: Isolation,
        wait: &Arc<FetchWait>,
    ) -> ParkedFetch {
        let id = self
            .state
            .lock()
            .pending
            .park_fetch(isolation, Arc::clone(wait));
        ParkedFetch {
            partition: Arc::clone(self),
            id,
        }
    }

    /// The topic's `flush.mode` changed.
    pub(crate) fn set_durability(self: &Arc<Self>, durability: Durability) {
        let advance = self.state.lock().leader.on_durability(durability);
        if let Some(advance) = advance {
            self.on_advance(advance);
        }
        self.flush.mark(self);
    }

    /// Whether it still answers.
    pub(crate) fn check_open(&self) -> Result<(), ErrorCode> {
        self.state.lock().closed.map_or(Ok(()), Err)
    }

    /// Refuses what comes and fails what waits with `why`.
    pub(crate) fn close(&self, why: ErrorCode) {
        let acks = {
            let mut state = self.state.lock();
            state.closed = Some(why);
            self.wake_fetches(&state);
            state.pending.fail_acks()
        };
        for ack in acks {
            let _ = ack.send(Err(why));
        }
    }

    /// Fails what waits for a flush that will not come; reads go on.
    pub(crate) fn on_flush_failed(&self) {
        let acks = self.state.lock().pending.fail_acks();
        for ack in acks {
            let _ = ack.send(Err(ErrorCode::KafkaStorageError));
        }
    }

    fn wake_fetches(&self, state: &State) {
        for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
            for fetch in state.pending.fetches(isolation) {
                fetch.wake();
            }
        }
    }
}

/// One parked fetch over any number of partitions: counts the bytes that became visible and wakes when they are enough.
#[derive(Debug)]
pub(crate) struct FetchWait {
    missing_bytes: AtomicI64,
    ready: Notify,
}

impl FetchWait {
    /// Wakes after `missing_bytes` more bytes.
    pub(crate) fn new(missing_bytes: i64) -> Arc<FetchWait> {
        Arc::new(FetchWait {
            missing_bytes: AtomicI64::new(missing_bytes),
            ready: Notify::new(),
        })
    }

    /// Starts the count anew, after a look that found too little.
    pub(crate) fn restart(&self, missing_bytes: i64) {
        self.missing_bytes.store(missing_bytes, Ordering::Release);
    }

    fn on_bytes(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.missing_bytes.fetch_sub(bytes, Ordering::AcqRel) <= bytes {
            self.ready.notify_one();
        }
    }

    fn wake(&self) {
        self.ready.notify_one();
    }

    /// Returns when it was woken.
    pub(crate) async fn woken(&self) {
        self.ready.notified().await;
    }
}

/// Takes the ack out again when its waiter goes.
struct ParkedAck<'a> {
    partition: &'a Partition,
    id: AckId,
}

impl Drop for ParkedAck<'_> {
    fn drop(&mut self) {
        self.partition.state.lock().pending.cancel_ack(self.id);
    }
}

/// Takes the fetch out again when it is dropped.
#[derive(Debug)]
pub(crate) struct ParkedFetch {
    partition: Arc<Partition>,
    id: FetchId,
}

impl Drop for ParkedFetch {
    fn drop(&mut self) {
        self.partition.state.lock().pending.cancel_fetch(self.id);
    }
}
