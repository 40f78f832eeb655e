//! The shards of one internal topic: made when the topic is, loaded at start, loaded again after a failed write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flumen_planted::{Bug, planted};
use flumen_protocol::error_code::ErrorCode;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};

use super::shard::{Loaded, Shard, replay};
use super::{Machine, World};
use crate::clock::Instant;
use crate::coordinator::partition_for;
use crate::partition::Partition;

/// So much is replayed before the broker takes connections: a small one is never seen loading.
const LOAD_AT_START_BYTES: u64 = 16 << 20;
/// Bytes replayed at once.
const REPLAY_CHUNK_BYTES: usize = 4 << 20;
/// Pause before a load that failed is tried again, and between two loads of a shard.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct ShardTable<M: Machine> {
    world: Arc<World>,
    config: M::Config,
    /// One per partition of the topic; empty until the topic exists.
    shards: RwLock<Arc<[Arc<Shard<M>>]>>,
    opening: tokio::sync::Mutex<()>,
    broken: Arc<Broken>,
}

/// Shards that dropped their machines and must be loaded again.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    shards: Mutex<Vec<i32>>,
    some: Notify,
}

impl Broken {
    /// The shard of this partition has dropped its machine.
    pub(crate) fn report(&self, index: i32) {
        self.shards.lock().push(index);
        self.some.notify_one();
    }

    /// The next shard to load.
    fn next(&self) -> Option<i32> {
        self.shards.lock().pop()
    }

    /// A load failed. Its turn comes after all others: one that never loads must not keep them from it.
    fn put_back(&self, index: i32) {
        self.shards.lock().insert(0, index);
    }
}

impl<M: Machine> ShardTable<M> {
    pub(crate) fn new(world: &Arc<World>, config: M::Config) -> Arc<ShardTable<M>> {
        Arc::new(ShardTable {
            world: Arc::clone(world),
            config,
            shards: RwLock::new(Arc::new([])),
            opening: tokio::sync::Mutex::new(()),
            broken: Arc::default(),
        })
    }

    /// All shards; none before the topic exists.
    pub(crate) fn all(&self) -> Arc<[Arc<Shard<M>>]> {
        Arc::clone(&self.shards.read())
    }

    /// The shard that owns `key`, if the topic exists.
    pub(crate) fn existing(&self, key: &str) -> Option<Arc<Shard<M>>> {
        let shards = self.all();
        let count = i32::try_from(shards.len())
            .ok()
            .filter(|count| *count > 0)?;
        self.at(partition_for(key, count))
    }

    /// The shard of a partition.
    pub(crate) fn at(&self, index: i32) -> Option<Arc<Shard<M>>> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.all().get(index).cloned())
    }

    /// The shard that owns `key`; the topic is created if need be.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE`: the topic cannot be created now.
    pub(crate) async fn find(self: &Arc<Self>, key: &str) -> Result<Arc<Shard<M>>, ErrorCode> {
        if let Some(shard) = self.existing(key) {
            return Ok(shard);
        }
        // In a task of its own: the one who asks may vanish half-way.
        let (done, opened) = oneshot::channel();
        let table = Arc::clone(self);
        self.world
            .parts
            .drivers
            .spawn("coordinator topic", async move {
                let _ = done.send(table.create().await);
            });
        opened
            .await
            .unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))?;
        self.existing(key).ok_or(ErrorCode::CoordinatorNotAvailable)
    }

    async fn create(self: &Arc<Self>) -> Result<(), ErrorCode> {
        self.world
            .parts
            .cluster
            .ensure_internal_topic(M::TOPIC)
            .await
            .map_err(|error| {
                tracing::warn!(
                    topic = M::TOPIC,
                    error = error.name(),
                    "internal topic cannot be created"
                );
                ErrorCode::CoordinatorNotAvailable
            })?;
        self.open().await;
        Ok(())
    }

    /// Makes and loads the shards, if the topic exists and they are not there yet. Small partitions are ready when this returns;
    /// the shards of others answer COORDINATOR_LOAD_IN_PROGRESS until they are.
    pub(crate) async fn open(self: &Arc<Self>) {
        let _one_at_a_time = self.opening.lock().await;
        let topic = self.world.parts.partitions.topic(M::TOPIC);
        let Some(topic) = topic.filter(|_| self.all().is_empty()) else {
            return;
        };
        let shard = |index, absent| Shard::new(&self.world, &self.broken, index, absent);
        *self.shards.write() = (0..)
            .zip(&topic.partitions)
            .map(|(index, partition)| shard(index, partition.is_none()))
            .collect();
        let mut bytes_left = LOAD_AT_START_BYTES;
        for partition in topic.partitions.iter().flatten() {
            let index = partition.name().partition;
            let size = partition.log().size();
            if planted(Bug::AnswersWhileLoading) {
                self.install_empty(index, partition);
                self.broken.report(index);
                continue;
            }
            if size > bytes_left || self.load(index).await.is_err() {
                self.broken.report(index);
                continue;
            }
            bytes_left -= size;
        }
        let table = Arc::clone(self);
        self.world
            .parts
            .drivers
            .spawn("coordinator loader", async move { table.run_loads().await });
    }

    /// Loads shards as they are reported, for as long as the broker runs.
    ///
    /// A shard that has to be loaded again right after its last load waits for [`RELOAD_PAUSE`] to pass: on a disk that refuses
    /// writes the first write unloads it again.
    async fn run_loads(self: Arc<Self>) {
        let clock = &self.world.parts.drivers.clock;
        let mut loaded_at: BTreeMap<i32, Instant> = BTreeMap::new();
        let mut failing: BTreeMap<i32, String> = BTreeMap::new();
        let opened = planted(Bug::AnswersWhileLoading).then(|| clock.now());
        loop {
            let next = self.broken.next();
            let Some(index) = next else {
                tokio::select! {
                    biased;
                    () = self.world.stop.cancelled() => return,
                    () = self.broken.some.notified() => continue,
                }
            };
            if let Some(at) = loaded_at.get(&index).copied().or(opened) {
                tokio::select! {
                    biased;
                    () = self.world.stop.cancelled() => return,
                    () = clock.sleep_until(at + RELOAD_PAUSE) => {}
                }
            }
            loaded_at.insert(index, clock.now());
            let loaded = self.load(index).await;
            tell_change(M::TOPIC, index, &loaded, &mut failing);
            if loaded.is_err() {
                self.broken.put_back(index);
                tokio::select! {
                    biased;
                    () = self.world.stop.cancelled() => return,
                    () = self.world.parts.drivers.clock.sleep(RELOAD_PAUSE) => {}
                }
            }
        }
    }

    /// Wrong, and done only where it is planted: who has replayed nothing answers that there is nothing.
    fn install_empty(&self, index: i32, partition: &Arc<Partition>) {
        if let Some(shard) = self.at(index) {
            let loaded = Loaded {
                machine: M::load(&self.config, self.world.now(), |_| {}),
                partition: Arc::clone(partition),
                epoch: partition.leader_epoch(),
                applied: partition.log().log_end_offset(),
            };
            shard.install(shard.begin_load(), loaded);
        }
    }

    async fn load(&self, index: i32) -> Result<(), String> {
        let Some(shard) = self.at(index) else {
            return Ok(());
        };
        let load = shard.begin_load();
        let partition = self.world.parts.partitions.find(M::TOPIC, index);
        let partition = partition.ok_or_else(|| "its partition is not here".to_owned())?;
        let (config, now, epoch) = (
            self.config.clone(),
            self.world.now(),
            partition.leader_epoch(),
        );
        let empty = partition.log().log_end_offset() == partition.log().log_start_offset();
        let rebuild = move || rebuild::<M>(&config, now, partition);
        let loaded = if empty {
            rebuild()?
        } else {
            self.world.parts.drivers.blocking(rebuild).await?
        };
        let applied = loaded.1;
        shard.install(
            load,
            Loaded {
                machine: loaded.0,
                partition: loaded.2,
                epoch,
                applied,
            },
        );
        tracing::debug!(
            topic = M::TOPIC,
            partition = index,
            applied,
            "coordinator loaded"
        );
        Ok(())
    }
}

/// Tells of a shard that cannot be loaded when that begins, when the reason is another, and when it ends.
fn tell_change(
    topic: &str,
    partition: i32,
    loaded: &Result<(), String>,
    failing: &mut BTreeMap<i32, String>,
) {
    match loaded {
        Ok(()) if failing.remove(&partition).is_some() => {
            tracing::info!(topic, partition, "coordinator is loaded after all");
        }
        Err(why) if failing.get(&partition) != Some(why) => {
            tracing::error!(
                topic,
                partition,
                why,
                "coordinator cannot be loaded; it is tried again until it can"
            );
            failing.insert(partition, why.clone());
        }
        _ => {}
    }
}

/// Replays a partition from its start to its end. Reads the disk: call it where that may block.
fn rebuild<M: Machine>(
    config: &M::Config,
    now: crate::coordinator::Time,
    partition: Arc<Partition>,
) -> Result<(M, i64, Arc<Partition>), String> {
    let log = partition.log();
    let (mut next, end) = (log.log_start_offset(), log.log_end_offset());
    let mut failed = None;
    let machine = M::load(config, now, |machine| {
        while next < end && failed.is_none() {
            let chunk = log
                .read(next, end, REPLAY_CHUNK_BYTES, true)
                .map_err(|error| error.to_string());
            let replayed = chunk.and_then(|slice| {
                let Some(records) = slice.records else {
                    return Ok(end);
                };
                let bytes = records.read().map_err(|error| error.to_string())?;
                replay(machine, &partition, bytes)?;
                Ok(slice.next_offset)
            });
            match replayed {
                Ok(after) => next = after,
                Err(error) => failed = Some(error),
            }
        }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok((machine, end, partition)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_cannot_be_loaded_does_not_hold_up_the_others() {
        let broken = Broken::default();
        for index in [1, 2, 3] {
            broken.report(index);
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            let index = broken.next().unwrap();
            seen.push(index);
            broken.put_back(index);
        }
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    }
}
