//! The driver of the coordinators' machines: decide under the shard's lock, append, apply, release the lock, wait until the log is
//! committed that far in the epoch it was written in, reply.
//!
//! One [`Shard`] per partition of an internal topic, whose log is the machine's log. A reply never leaves before everything the
//! machine had applied when it was decided is committed, reads included: nobody learns what a crash could still take back.
//! A shard that cannot write drops its machine, fails whoever waits, and loads again by replay; until then it answers nothing.
//! What must happen after a decision (replies to others, markers) runs in tasks of its own: a handler may vanish at any await.

pub(crate) mod groups;
mod markers;
pub(crate) mod shard;
pub(crate) mod table;
pub(crate) mod transactions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flumen_protocol::builder::EndTxnMarker;
use flumen_protocol::codec::{DecodeError, EncodeError};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::id::{ProducerId, TopicPartition};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Time;
use crate::clock::Instant;
use crate::cluster::Cluster;
use crate::config::BrokerConfig;
use crate::driver::Drivers;
use crate::partition::table::Partitions;
use groups::Groups;
use transactions::{TransactionalWrites, Transactions};

/// What the coordinators are made of.
#[derive(Debug, Clone)]
pub(crate) struct CoordinatorParts {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) drivers: Drivers,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) cluster: Arc<Cluster>,
    /// Cancelled when the broker stops.
    pub(crate) stop: CancellationToken,
}

/// The coordinators of this broker.
#[derive(Debug, Clone)]
pub(crate) struct Coordinators {
    pub(crate) groups: Arc<Groups>,
    pub(crate) transactions: Arc<Transactions>,
    world: Arc<World>,
}

impl Coordinators {
    /// Joined, not yet started.
    pub(crate) fn new(parts: CoordinatorParts) -> Coordinators {
        let world = Arc::new(World::new(parts));
        let groups = Groups::new(&world);
        let transactions = Transactions::new(&world, &groups);
        Coordinators {
            groups,
            transactions,
            world,
        }
    }

    /// Loads what the internal topics hold, finishes the transactions a crash left half done, and starts the timers.
    pub(crate) async fn start(&self) {
        self.groups.load().await;
        self.transactions.load().await;
        let coordinators = self.clone();
        self.world
            .parts
            .drivers
            .spawn("coordinator timers", async move {
                coordinators.run_timers().await
            });
    }

    /// Ends timers and loads. Whoever waits for a rebalance was answered when the broker's stop was called.
    #[expect(
        clippy::unused_async,
        reason = "a network of coordinators will have something to wait for"
    )]
    pub(crate) async fn stop(&self) {
        self.world.stop.cancel();
    }

    /// May these batches begin a transaction in their partitions? See [`Transactions::verify_transactional_writes`].
    pub(crate) async fn verify_transactional_writes(
        &self,
        writes: &TransactionalWrites<'_>,
    ) -> Vec<Result<(), ErrorCode>> {
        self.transactions.verify_transactional_writes(writes).await
    }

    /// Writes a marker into each of `partitions` and waits until all are committed: one code each.
    pub(crate) async fn write_markers(
        &self,
        marker: &EndTxnMarker,
        version: i16,
        partitions: &[TopicPartition],
    ) -> Vec<ErrorCode> {
        self.transactions
            .write_markers(marker, version, partitions)
            .await
    }

    /// Topics are deleted: so are the offsets committed in them.
    pub(crate) async fn topics_deleted(&self, topics: &[String]) {
        self.groups.topics_deleted(topics).await;
    }

    /// Sleeps until the next deadline of any shard, ticks those that are due, and again; woken early when a nearer deadline comes up.
    async fn run_timers(&self) {
        loop {
            self.world.timers.awake();
            let now = self.world.now();
            let next = [self.groups.tick(now), self.transactions.tick(now)]
                .into_iter()
                .flatten()
                .min();
            let woken = self.world.timers.sleep_from(next);
            let deadline = next.map(|at| self.world.instant(at));
            tokio::select! {
                biased;
                () = self.world.stop.cancelled() => return,
                () = woken => {}
                () = self.world.sleep_until(deadline) => {}
            }
        }
    }
}

/// What every shard needs of the world outside.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) parts: CoordinatorParts,
    pub(crate) stop: CancellationToken,
    pub(crate) timers: Alarm,
    start: Instant,
    start_wall_ms: i64,
}

impl World {
    fn new(parts: CoordinatorParts) -> World {
        let clock = &parts.drivers.clock;
        let (start, start_wall_ms) = (clock.now(), clock.wall_ms());
        let stop = parts.stop.clone();
        World {
            parts,
            stop,
            timers: Alarm::default(),
            start,
            start_wall_ms,
        }
    }

    /// Both clocks. The wall time is that of the start and what has passed since: a step of the machine's clock ends no transaction
    /// early, holds none open, and expires nothing.
    pub(crate) fn now(&self) -> Time {
        let since = self.parts.drivers.clock.now();
        let since = since.saturating_duration_since(self.start).as_millis();
        let passed = i64::try_from(since).unwrap_or(i64::MAX);
        Time {
            monotonic_ms: u64::try_from(since).unwrap_or(u64::MAX),
            wall_ms: self.start_wall_ms.saturating_add(passed),
        }
    }

    /// What the machine's clock shows, for timestamps of batches.
    pub(crate) fn stamp_ms(&self) -> i64 {
        self.parts.drivers.clock.wall_ms()
    }

    fn instant(&self, monotonic_ms: u64) -> Instant {
        self.start + std::time::Duration::from_millis(monotonic_ms)
    }

    async fn sleep_until(&self, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => self.parts.drivers.clock.sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }
}

/// Wakes the timer task when a deadline comes up that is nearer than the one it sleeps for.
#[derive(Debug)]
pub(crate) struct Alarm {
    armed: AtomicU64,
    nearer: Notify,
}

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm {
            armed: AtomicU64::new(u64::MAX),
            nearer: Notify::new(),
        }
    }
}

impl Alarm {
    /// A shard's next deadline, after each of its steps.
    pub(crate) fn on_deadline(&self, deadline: Option<u64>) {
        if let Some(deadline) = deadline
            && deadline < self.armed.load(Ordering::Acquire)
        {
            self.nearer.notify_one();
        }
    }

    /// Wakes the timer task in any case.
    pub(crate) fn ring(&self) {
        self.nearer.notify_one();
    }

    /// The deadlines are about to be looked at: until [`Alarm::sleep_from`], each new one leaves its permit. The one that was slept
    /// for has passed, and would hide those that come up in a shard after it was looked at.
    fn awake(&self) {
        self.armed.store(u64::MAX, Ordering::Release);
    }

    /// Goes to sleep until `next`. A nearer deadline from before this call has left its permit, so that it is not slept over.
    async fn sleep_from(&self, next: Option<u64>) {
        self.armed
            .store(next.unwrap_or(u64::MAX), Ordering::Release);
        self.nearer.notified().await;
    }
}

/// A replicated machine whose log is one partition of an internal topic.
pub(crate) trait Machine: Send + std::fmt::Debug + 'static {
    /// What it writes.
    type Record: Send + std::fmt::Debug;
    /// The reply to a request that had to wait.
    type Completion: Send + std::fmt::Debug;
    /// What it needs of the broker's configuration.
    type Config: Clone + Send + Sync + std::fmt::Debug + 'static;
    /// The internal topic.
    const TOPIC: &'static str;

    /// Rebuilds the machine: `replay` applies every record and marker of the partition, in order.
    fn load(config: &Self::Config, now: Time, replay: impl FnOnce(&mut Self)) -> Self
    where
        Self: Sized;

    /// Key and value of a record.
    fn encode(record: &Self::Record) -> Result<(Bytes, Option<Bytes>), EncodeError>;
    /// The record behind key and value; none for those of other kinds.
    fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<Self::Record>, DecodeError>;
    /// A record lies in the log.
    fn apply(&mut self, record: &Self::Record, position: i64, producer: Option<ProducerId>);
    /// The end of a producer's transaction lies in the log.
    fn apply_marker(&mut self, producer: ProducerId, committed: bool);
    /// When it wants to be ticked, on the monotonic clock.
    fn next_deadline(&self, now: Time) -> Option<u64>;
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_deadline_set_while_the_timer_task_looks_is_not_slept_over() {
        let alarm = Alarm::default();
        // It slept for 1,000, which has come; while it goes through the shards, one it has passed gets a deadline.
        assert!(alarm.sleep_from(Some(1_000)).now_or_never().is_none());
        alarm.awake();
        alarm.on_deadline(Some(4_000));
        assert!(alarm.sleep_from(Some(45_000)).now_or_never().is_some());
        // Asleep for 45,000, only a nearer one wakes.
        assert!(alarm.sleep_from(Some(45_000)).now_or_never().is_none());
        alarm.on_deadline(Some(50_000));
        assert!(alarm.sleep_from(Some(45_000)).now_or_never().is_none());
        alarm.on_deadline(Some(40_000));
        assert!(alarm.sleep_from(Some(45_000)).now_or_never().is_some());
    }
}
