//! Carries out what a transaction decided: its marker into every partition, then the record that it is complete.
//!
//! One task per decided transaction and never two: a second one, started after a reload, could write its marker after the next
//! transaction of a client that keeps its epoch has begun, and end that one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flumen_log::AppendAs;
use flumen_planted::{Bug, planted};
use flumen_protocol::builder::{EndTxnMarker, end_txn_marker};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::TopicPartition;
use parking_lot::Mutex;

use super::World;
use super::groups::Groups;
use super::shard::{Commit, Shard, Step};
use crate::coordinator::OFFSETS_TOPIC;
use crate::coordinator::txn::{Markers, TxnShard};
use crate::error::append_error_code;

/// Pause before markers that could not be written are tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Finisher {
    world: Arc<World>,
    groups: Arc<Groups>,
    /// Transactional ids whose task is running.
    running: Mutex<BTreeSet<String>>,
}

impl Finisher {
    pub(super) fn new(world: &Arc<World>, groups: &Arc<Groups>) -> Arc<Finisher> {
        Arc::new(Finisher {
            world: Arc::clone(world),
            groups: Arc::clone(groups),
            running: Mutex::default(),
        })
    }

    /// Starts the task for a transaction that `decided` makes durable, unless it is running already.
    pub(super) fn finish(
        self: &Arc<Self>,
        shard: &Arc<Shard<TxnShard>>,
        markers: Markers,
        decided: Commit,
    ) {
        {
            let mut running = self.running.lock();
            // What the caller saw may have been completed since: under this lock it is or it is not.
            let still = shard.read(|machine| machine.markers(&markers.transactional_id));
            if !still.is_ok_and(|(still, _)| still.as_ref() == Some(&markers)) {
                return;
            }
            if !running.insert(markers.transactional_id.clone()) {
                return;
            }
        }
        let (finisher, shard) = (Arc::clone(self), Arc::clone(shard));
        self.world
            .parts
            .drivers
            .spawn("transaction markers", async move {
                let carried_out = match decided.done().await {
                    Ok(()) => finisher.write_all(&markers, decided.epoch()).await,
                    // The decision may be lost: what a reload finds is the truth. Not at once, the disk may need a moment.
                    Err(_) => {
                        finisher.pause().await;
                        false
                    }
                };
                {
                    // Under the lock, so that the next decision of this id finds its place free, and a reload in between none.
                    let mut running = finisher.running.lock();
                    if !(carried_out && finisher.complete(&shard, &markers)) {
                        shard.look_again();
                    }
                    running.remove(&markers.transactional_id);
                }
                shard.changed.notify_waiters();
            });
    }

    /// Records that the markers are written.
    fn complete(&self, shard: &Arc<Shard<TxnShard>>, markers: &Markers) -> bool {
        shard
            .step(|machine, now| Step::new(machine.complete(markers, now).records, ()))
            .is_ok()
    }

    async fn pause(&self) {
        tokio::select! {
            biased;
            () = self.world.stop.cancelled() => {}
            () = self.world.parts.drivers.clock.sleep(RETRY_PAUSE) => {}
        }
    }

    /// Writes the markers and waits until they are committed; tries for as long as the broker runs.
    async fn write_all(&self, markers: &Markers, coordinator_epoch: i32) -> bool {
        let marker = EndTxnMarker {
            producer_id: markers.producer_id,
            producer_epoch: markers.producer_epoch,
            commit: markers.commit,
            coordinator_epoch,
            timestamp: self.world.stamp_ms(),
        };
        let mut missing = markers.partitions.clone();
        if planted(Bug::MarkerSkipped) {
            missing.pop(); // wrong: that partition's part of the transaction stays open
        }
        let mut told = false;
        loop {
            missing = self.write(&marker, markers.client_version, missing).await;
            if missing.is_empty() {
                if told {
                    tracing::info!(id = markers.transactional_id, "all markers are written");
                }
                return true;
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(
                    id = markers.transactional_id,
                    missing = missing.len(),
                    "markers cannot be written; they are tried until they are"
                );
            }
            self.pause().await;
            if self.world.stop.is_cancelled() {
                return false;
            }
        }
    }

    /// Writes the marker into all `partitions`, then waits for all; returns those to try again.
    async fn write(
        &self,
        marker: &EndTxnMarker,
        version: i16,
        partitions: Vec<TopicPartition>,
    ) -> Vec<TopicPartition> {
        let written: Vec<_> = partitions
            .into_iter()
            .map(|name| (self.append(&name, marker, version), name))
            .collect();
        let mut again = Vec::new();
        for (appended, name) in written {
            let outcome = match appended {
                Ok(commit) => commit.done().await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => {}
                // The topic is gone, or a later coordinator or epoch has been here: nothing of this transaction is open there.
                Err(ErrorCode::UnknownTopicOrPartition) => {}
                Err(
                    error @ (ErrorCode::InvalidProducerEpoch
                    | ErrorCode::TransactionCoordinatorFenced),
                ) => {
                    tracing::warn!(partition = %name, error = error.name(), "outdated marker is not written");
                }
                Err(_) => again.push(name),
            }
        }
        again
    }

    /// Appends one marker; to a partition of `__consumer_offsets` through its machine, which must see it.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`; `KAFKA_STORAGE_ERROR` if the partition exists and its log could not be opened; the log's refusal.
    pub(super) fn append(
        &self,
        name: &TopicPartition,
        marker: &EndTxnMarker,
        version: i16,
    ) -> Result<Commit, ErrorCode> {
        if name.topic == OFFSETS_TOPIC {
            return self.groups.write_marker(name.partition, marker, version);
        }
        let partitions = &self.world.parts.partitions;
        let partition = partitions.opened(&name.topic, name.partition)?;
        let epoch = partition.leader_epoch();
        let how = AppendAs::Marker {
            leader_epoch: epoch,
            transaction_version: version,
        };
        let appended = partition.append(end_txn_marker(marker), &how, marker.timestamp);
        let appended = appended.map_err(|error| append_error_code(&error))?;
        Ok(Commit::new(partition, epoch, appended.last_offset + 1))
    }
}
