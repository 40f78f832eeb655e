//! The cleaner: compacts logs in the background, the dirtiest first, slowly if it is told to.
//!
//! Owned by `replicas.rs`, which says when the configuration changes: there are as many of these tasks as `log.cleaner.threads` says. What
//! is dirty and what stays of a log is decided in `flumen_log`, how long to pause in `throttle.rs`; here is who is cleaned when, in steps
//! that let others at the disk, and what becomes of failures: a log with a batch that cannot be read is left alone until the next start,
//! and said so once; whatever else fails is tried again. Source: Kafka `LogCleaner`, `LogCleanerManager`.

mod throttle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use flumen_log::dir::{Dirty, LogDir};
use flumen_log::{CompactError, Compacted, Compaction, CompactionOptions, Log};
use flumen_planted::{Bug, planted};
use flumen_protocol::id::TopicPartition;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::BrokerConfig;
use crate::config::live::LiveConfig;
use crate::driver::Drivers;
use crate::flush::FlushConductor;
use crate::partition::pending::Isolation;
use crate::partition::table::Partitions;
use throttle::Throttle;

/// Bytes read at once; between two steps others come to the disk, and a log may be closed.
const STEP_BYTES: u64 = 1 << 20;

/// What a cleaner works on.
#[derive(Debug)]
pub(crate) struct CleanerParts {
    pub(crate) live: Arc<LiveConfig>,
    pub(crate) dir: Arc<LogDir>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) flush: Arc<FlushConductor>,
    pub(crate) drivers: Drivers,
}

/// Cleans the logs of a directory.
#[derive(Debug)]
pub(crate) struct Cleaner {
    parts: CleanerParts,
    state: Mutex<State>,
    throttle: Mutex<Throttle>,
    /// Who waits looks at the configuration again.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Set once they were started.
    stop: Option<CancellationToken>,
    /// What was in force when they last looked.
    minds: Option<Arc<BrokerConfig>>,
    /// Tasks that clean.
    cleaners: i32,
    in_progress: BTreeSet<TopicPartition>,
    /// Logs with a batch that cannot be read. A log of the same name that was created since is another one.
    uncleanable: BTreeMap<TopicPartition, Weak<Log>>,
    /// Logs whose last cleaning failed: told when that begins and when it ends.
    failing: BTreeSet<TopicPartition>,
    dirty_ratio_max: f64,
    looked_ms: i64,
}

/// What dashboards ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CleanerStats {
    /// Logs that are left alone until the next start.
    pub(crate) uncleanable: usize,
    /// Of the dirtiest log at the last look, from 0 to 100.
    pub(crate) dirty_percent_max: f64,
    /// Since the last look for dirty logs.
    pub(crate) idle_ms: i64,
}

impl Cleaner {
    pub(crate) fn new(parts: CleanerParts) -> Arc<Cleaner> {
        let state = State {
            stop: None,
            minds: None,
            cleaners: 0,
            in_progress: BTreeSet::new(),
            uncleanable: BTreeMap::new(),
            failing: BTreeSet::new(),
            dirty_ratio_max: 0.0,
            looked_ms: parts.drivers.clock.wall_ms(),
        };
        let rate = parts.live.now().log_cleaner_io_max_bytes_per_second.0;
        let throttle = Throttle::new(rate, parts.drivers.clock.now());
        Arc::new(Cleaner {
            parts,
            state: Mutex::new(state),
            throttle: Mutex::new(throttle),
            changed: Notify::new(),
        })
    }

    /// Starts what cleans until `stop`.
    pub(crate) fn start(self: &Arc<Self>, stop: &CancellationToken) {
        if self.parts.live.now().log_cleaner_enable {
            self.state.lock().stop = Some(stop.clone());
            self.reconfigured();
        }
    }

    /// The configuration in force may be another one: pauses are as long as it says, and there are as many cleaners. A cleaning that is
    /// going on keeps its memory; who is one too many ends with it.
    pub(crate) fn reconfigured(self: &Arc<Self>) {
        let (config, now) = (self.parts.live.now(), self.parts.drivers.clock.now());
        let mut state = self.state.lock();
        let Some(stop) = state.stop.clone() else {
            return;
        };
        // Of another key nobody is to be woken: a pause after a failure is meant.
        if state
            .minds
            .as_ref()
            .is_some_and(|minds| is_same_to_cleaners(minds, &config))
        {
            return;
        }
        state.minds = Some(Arc::clone(&config));
        let rate = config.log_cleaner_io_max_bytes_per_second.0;
        self.throttle.lock().set_rate(rate, now);
        self.changed.notify_waiters();
        while state.cleaners < config.log_cleaner_threads {
            state.cleaners += 1;
            let run = Arc::clone(self).run(stop.clone());
            self.parts.drivers.spawn("cleaner", run);
        }
    }

    pub(crate) fn stats(&self) -> CleanerStats {
        let state = self.state.lock();
        CleanerStats {
            uncleanable: state
                .uncleanable
                .values()
                .filter(|log| log.strong_count() > 0)
                .count(),
            dirty_percent_max: 100.0 * state.dirty_ratio_max,
            idle_ms: self
                .parts
                .drivers
                .clock
                .wall_ms()
                .saturating_sub(state.looked_ms)
                .max(0),
        }
    }

    async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let changed = self.changed.notified();
            let backoff_ms = self.parts.live.now().log_cleaner_backoff_ms;
            // At 0, which Kafka takes, it looks all the time; other tasks still get their turn.
            let backoff_ms = backoff_ms.unsigned_abs().max(1);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = changed => {}
                () = self.parts.drivers.clock.sleep(Duration::from_millis(backoff_ms)) => {}
            }
            // A log that could not be cleaned is not tried again before the next pause.
            let mut tried = BTreeSet::new();
            loop {
                if stop.is_cancelled() || self.leaves_if_too_many() {
                    return;
                }
                let Some(dirty) = self.take_dirtiest(&tried).await else {
                    break;
                };
                let cleaned = self.clean(&dirty, &stop).await;
                if !self.settle(&dirty, cleaned) {
                    tried.insert(dirty.partition.clone());
                }
                self.state.lock().in_progress.remove(&dirty.partition);
            }
        }
    }

    /// Whether the one who asks goes, and counts no more.
    fn leaves_if_too_many(&self) -> bool {
        let mut state = self.state.lock();
        let too_many = state.cleaners > self.parts.live.now().log_cleaner_threads;
        state.cleaners -= i32::from(too_many);
        too_many
    }

    /// The dirtiest log that is due, marked as being cleaned.
    async fn take_dirtiest(self: &Arc<Self>, tried: &BTreeSet<TopicPartition>) -> Option<Dirty> {
        if self.parts.flush.fenced().is_some() {
            return None;
        }
        let (cleaner, now_ms) = (Arc::clone(self), self.parts.drivers.clock.wall_ms());
        let look = move || {
            cleaner.parts.dir.dirty_logs(now_ms, |name, log| {
                let partition = cleaner.parts.partitions.get(name)?;
                let same = std::ptr::eq(&**partition.log(), log);
                let below = match planted(Bug::CleanerPassesStableOffset) {
                    true => Isolation::ReadUncommitted,
                    false => Isolation::ReadCommitted,
                };
                same.then(|| partition.readable_end(below))
            })
        };
        let dirty = self.parts.drivers.blocking(look).await;
        let mut state = self.state.lock();
        state.looked_ms = now_ms;
        state.dirty_ratio_max = dirty.first().map_or(0.0, |dirty| dirty.found.dirty_ratio());
        state.uncleanable.retain(|_, log| log.strong_count() > 0);
        let known = |dirty: &Dirty| {
            let bad = state.uncleanable.get(&dirty.partition);
            let bad = bad.is_some_and(|log| std::ptr::eq(log.as_ptr(), Arc::as_ptr(&dirty.log)));
            bad || tried.contains(&dirty.partition) || state.in_progress.contains(&dirty.partition)
        };
        let dirtiest = dirty
            .into_iter()
            .find(|dirty| dirty.found.is_due && !known(dirty))?;
        state.in_progress.insert(dirtiest.partition.clone());
        Some(dirtiest)
    }

    /// Cleans one log. `None` if there was nothing to do after all, or the broker stops.
    async fn clean(
        &self,
        dirty: &Dirty,
        stop: &CancellationToken,
    ) -> Result<Option<Compacted>, CompactError> {
        let options = self.options();
        let (dir, of) = (Arc::clone(&self.parts.dir), dirty.clone());
        let compaction = self
            .parts
            .drivers
            .blocking(move || dir.begin_compaction(&of, options));
        let Some(compaction) = compaction.await.map_err(storage)? else {
            return Ok(None);
        };
        let mut compaction = Box::new(compaction);
        loop {
            let log = Arc::clone(&dirty.log);
            let stopping = stop.is_cancelled();
            let step = move || step(&log, compaction, stopping);
            let begun = self.parts.drivers.clock.now();
            let bytes = match self.parts.drivers.blocking(step).await? {
                Step::More(bytes, again) => {
                    compaction = again;
                    bytes
                }
                Step::Done(compacted) => {
                    let (dir, of) = (Arc::clone(&self.parts.dir), dirty.clone());
                    let noted = move || dir.compaction_done(&of.partition, &of.log, &compacted);
                    self.parts.drivers.blocking(noted).await.map_err(storage)?;
                    return Ok(Some(compacted));
                }
                Step::Stopped => return Ok(None),
            };
            let now = self.parts.drivers.clock.now();
            self.throttle.lock().on_moved(bytes, begun, now);
            self.pause(stop).await;
        }
    }

    /// The memory for keys is shared by all cleaners.
    fn options(&self) -> CompactionOptions {
        let config = self.parts.live.now();
        let cleaners = u64::from(config.log_cleaner_threads.unsigned_abs().max(1));
        CompactionOptions {
            map_bytes: config.log_cleaner_dedupe_buffer_size.unsigned_abs() / cleaners,
            now_ms: self.parts.drivers.clock.wall_ms(),
        }
    }

    /// As long as `log.cleaner.io.max.bytes.per.second` makes last what all have read and written.
    async fn pause(&self, stop: &CancellationToken) {
        loop {
            let changed = self.changed.notified();
            let now = self.parts.drivers.clock.now();
            let pause = self.throttle.lock().pause(now);
            if pause.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = changed => {}
                () = self.parts.drivers.clock.sleep(pause) => {}
            }
        }
    }

    /// Says what came of a cleaning, once. Whether it came to its end.
    fn settle(&self, dirty: &Dirty, cleaned: Result<Option<Compacted>, CompactError>) -> bool {
        let partition = &dirty.partition;
        let mut state = self.state.lock();
        match cleaned {
            Ok(Some(done)) => {
                state.failing.remove(partition);
                tracing::info!(%partition, ?done, "log compacted");
                return true;
            }
            Ok(None) | Err(CompactError::Outdated) => {}
            // Its topic was deleted; or a sync failed, and then the next flush tells everybody.
            Err(CompactError::Fenced(_)) => {
                if let Some(partition) = self.parts.partitions.get(partition) {
                    self.parts.flush.mark(&partition);
                }
            }
            Err(CompactError::Corrupt(error)) => {
                tracing::error!(%partition, %error, "log is not compacted any more: a batch cannot be read; bring back the file from a copy and restart");
                let log = Arc::downgrade(&dirty.log);
                state.uncleanable.insert(partition.clone(), log);
            }
            Err(error @ CompactError::Storage(_)) => {
                if state.failing.insert(partition.clone()) {
                    tracing::warn!(%partition, %error, "log cannot be compacted; tried again until it can");
                }
            }
        }
        false
    }
}

/// Whether the keys that are read here are the same in both.
fn is_same_to_cleaners(one: &BrokerConfig, other: &BrokerConfig) -> bool {
    let read = |config: &BrokerConfig| {
        (
            config.log_cleaner_threads,
            config.log_cleaner_backoff_ms,
            config.log_cleaner_dedupe_buffer_size,
            config.log_cleaner_io_max_bytes_per_second,
        )
    };
    read(one) == read(other)
}

enum Step {
    More(u64, Box<Compaction>),
    Done(Compacted),
    Stopped,
}

fn step(log: &Log, mut compaction: Box<Compaction>, stopping: bool) -> Result<Step, CompactError> {
    if stopping {
        log.abandon_compaction(*compaction);
        return Ok(Step::Stopped);
    }
    match log.compact_step(&mut compaction, STEP_BYTES) {
        Ok(step) => Ok(match step.done {
            Some(compacted) => Step::Done(compacted),
            None => Step::More(step.bytes, compaction),
        }),
        Err(error) => {
            log.abandon_compaction(*compaction);
            Err(error)
        }
    }
}

fn storage(error: flumen_log::FlushError) -> CompactError {
    match error {
        flumen_log::FlushError::Failed { error, .. } => CompactError::Storage(error),
        flumen_log::FlushError::Fenced(fenced) => CompactError::Fenced(fenced),
    }
}

#[cfg(test)]
mod tests;
