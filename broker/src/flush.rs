//! The flush conductor: group commit for one log directory.
//!
//! Partitions that were appended to say so ([`FlushConductor::mark`]). A round takes all of them, flushes them side by side and
//! reports each one's durable end; what was appended meanwhile goes into the next round, which starts when this one ends. So the
//! batch grows by itself with the load, and nothing ticks when nothing happens.
//!
//! A failed flush fences the directory for good: the kernel may have dropped the dirty pages and will report success the next time
//! (fsyncgate). Nothing is retried; produce answers KAFKA_STORAGE_ERROR, reads go on.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use flumen_log::{AppendError, Appended};
use flumen_protocol::id::TopicPartition;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::driver::Drivers;
use crate::partition::Partition;

/// What a start after a crash may have to scan: a fraction of a second.
const CHECKPOINT_EVERY_BYTES: u64 = 256 << 20;

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct FlushConductor {
    next_round: Mutex<Vec<Arc<Partition>>>,
    marked: Notify,
    idle: Notify,
    /// Rounds that were begun and not ended: 0 or 1.
    running: AtomicUsize,
    /// Why nothing more is acknowledged, once a flush has failed.
    fenced: OnceLock<String>,
    /// Appends are failing, for lack of space for instance: bytes of the smallest one; logged when it begins and when it ends.
    refused_bytes: AtomicUsize,
    /// Bytes appended since a checkpoint was asked for.
    not_checkpointed: AtomicU64,
    checkpoint_due: Notify,
    threads: usize,
}

const NOTHING_REFUSED: usize = usize::MAX;

impl FlushConductor {
    /// `threads`: how many flushes may run side by side.
    pub(crate) fn new(threads: usize) -> Arc<FlushConductor> {
        Arc::new(FlushConductor {
            next_round: Mutex::new(Vec::new()),
            marked: Notify::new(),
            idle: Notify::new(),
            running: AtomicUsize::new(0),
            fenced: OnceLock::new(),
            refused_bytes: AtomicUsize::new(NOTHING_REFUSED),
            not_checkpointed: AtomicU64::new(0),
            checkpoint_due: Notify::new(),
            threads: threads.max(1),
        })
    }

    /// Takes `partition` into the next round.
    pub(crate) fn mark(&self, partition: &Arc<Partition>) {
        if partition.in_next_flush.swap(true, Ordering::AcqRel) {
            return;
        }
        self.next_round.lock().push(Arc::clone(partition));
        self.marked.notify_one();
    }

    /// Why nothing more is acknowledged from this directory, once a flush has failed.
    pub(crate) fn fenced(&self) -> Option<String> {
        self.fenced.get().cloned()
    }

    /// An append of `size` bytes went well or not. A disk that takes no bytes is told of once, and once more when it takes them again: as many as it
    /// refused, since a disk that is nearly full takes the small ones all the time.
    pub(crate) fn on_append(
        &self,
        partition: &TopicPartition,
        size: usize,
        result: &Result<Appended, AppendError>,
    ) {
        if let Ok(appended) = result {
            let bytes = appended.size_bytes as u64;
            let before = self.not_checkpointed.fetch_add(bytes, Ordering::Relaxed);
            if before + bytes >= CHECKPOINT_EVERY_BYTES {
                self.not_checkpointed.store(0, Ordering::Relaxed);
                self.checkpoint_due.notify_one();
            }
        }
        let refused = self.refused_bytes.load(Ordering::Relaxed);
        match result {
            Err(AppendError::Storage(error)) => {
                let before = self.refused_bytes.fetch_min(size, Ordering::Relaxed);
                if before == NOTHING_REFUSED {
                    tracing::error!(
                        %partition, %error,
                        "records cannot be written: producers are told KAFKA_STORAGE_ERROR until they can be; reads go on"
                    );
                }
            }
            Ok(_) if refused != NOTHING_REFUSED && size >= refused => {
                self.refused_bytes.store(NOTHING_REFUSED, Ordering::Relaxed);
                tracing::info!(%partition, "records can be written again");
            }
            _ => {}
        }
    }

    /// Returns when so much was appended since it returned last that a crash would cost a long scan.
    pub(crate) async fn checkpoint_due(&self) {
        self.checkpoint_due.notified().await;
    }

    /// Flushes whatever is marked, for ever. Runs as one task.
    pub(crate) async fn run(self: Arc<Self>, drivers: Drivers) {
        loop {
            self.marked.notified().await;
            loop {
                self.running.store(1, Ordering::Release);
                let round = std::mem::take(&mut *self.next_round.lock());
                if round.is_empty() {
                    self.running.store(0, Ordering::Release);
                    self.idle.notify_waiters();
                    break;
                }
                self.flush_round(&drivers, round).await;
            }
        }
    }

    /// Waits until nothing is marked or being flushed. For a clean shutdown, after the last append.
    pub(crate) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.next_round.lock().is_empty() && self.running.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }

    async fn flush_round(self: &Arc<Self>, drivers: &Drivers, round: Vec<Arc<Partition>>) {
        for partition in &round {
            // Before its flush starts: an append from here on marks it for the next round.
            partition.in_next_flush.store(false, Ordering::Release);
        }
        let round: Arc<[Arc<Partition>]> = round.into();
        let next = Arc::new(AtomicUsize::new(0));
        let workers = self.threads.min(round.len());
        let mut flushing = Vec::with_capacity(workers);
        for _ in 0..workers {
            let (conductor, round, next) =
                (Arc::clone(self), Arc::clone(&round), Arc::clone(&next));
            flushing.push(drivers.blocking(move || {
                while let Some(partition) = round.get(next.fetch_add(1, Ordering::Relaxed)) {
                    conductor.flush_one(partition);
                }
            }));
        }
        futures_util::future::join_all(flushing).await;
    }

    fn flush_one(&self, partition: &Arc<Partition>) {
        if self.fenced.get().is_some() {
            return partition.on_flush_failed();
        }
        match partition.log().flush() {
            Ok(durable_end) => partition.on_flushed(durable_end),
            // Its topic was deleted meanwhile: the log takes no more flushes, its directory may be gone, and nobody waits for it any
            // more ([`Partition::close`]). That says nothing about the disk.
            Err(_) if partition.check_open().is_err() => {}
            Err(error) => {
                // The first failure is logged; the others follow from it.
                if self
                    .fenced
                    .set(format!("a flush of {}: {error}", partition.name()))
                    .is_ok()
                {
                    tracing::error!(
                        partition = %partition.name(), %error,
                        "flush failed: the log directory takes no more writes until the broker is restarted"
                    );
                }
                partition.on_flush_failed();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flumen_log::dir::{Identity, LogDir};
    use flumen_log::disk::OsDisk;
    use flumen_log::{AppendAs, LogConfig};
    use flumen_protocol::builder::{BatchBuilder, BatchOptions};
    use flumen_protocol::error_code::ErrorCode;
    use flumen_protocol::id::TopicId;

    use super::*;
    use crate::partition::PartitionParts;
    use crate::partition::leader::Durability;

    #[test]
    fn a_topic_deleted_before_its_flush_does_not_fence_the_directory() {
        let temp = tempfile::TempDir::new().unwrap();
        let identity = Identity {
            cluster_id: "cluster".to_owned(),
            node_id: 1,
            directory_id: TopicId([1; 16]),
        };
        let dir = LogDir::open(Arc::new(OsDisk::default()), temp.path(), &identity).unwrap();
        let flush = FlushConductor::new(1);
        let written = |topic: &str| {
            let name = TopicPartition::new(topic, 0);
            let log = dir.open_log(&name, None, LogConfig::default()).unwrap();
            let partition = Partition::new(PartitionParts {
                name,
                topic_id: TopicId([2; 16]),
                leader_epoch: 0,
                log,
                durability: Durability::Flushed,
                flush: Arc::clone(&flush),
            });
            let mut batch = BatchBuilder::new(BatchOptions::default());
            batch.push(1_000, None, Some(b"value"), &[]);
            partition
                .append(batch.build(), &AppendAs::client(0), 1_000)
                .unwrap();
            partition
        };

        let deleted = written("deleted");
        deleted.close(ErrorCode::UnknownTopicOrPartition);
        dir.delete_log(deleted.name()).unwrap();
        flush.flush_one(&deleted);
        assert_eq!(flush.fenced(), None);

        let kept = written("kept");
        flush.flush_one(&kept);
        assert_eq!(kept.high_watermark(), 1);
    }
}
