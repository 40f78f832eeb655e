//! From assigned partitions to tasks that can run: committed positions first, then the stores.
//!
//! Runs beside the session. The order matters: committed positions are answered only when no transaction of a previous owner is
//! pending on them, and the ends of the changelogs are asked for after that, so that they hold what those transactions wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flumen_client::{Admin, Consumer, Isolation, OffsetAndMetadata, OffsetSpec};
use flumen_protocol::id::TopicPartition;
use parking_lot::Mutex;

use crate::app::App;
use crate::config::StartFrom;
use crate::dataflow::{Position, TaskStart};
use crate::error::StreamsError;
use crate::metrics::StreamsMetrics;
use crate::position::PartitionTimes;
use crate::state::restore::{Gate, Pace, RestoreOptions, StoreRestore, restore};
use crate::state::{StateBackend, memory::MemoryStore, rocks::RocksDatabase};
use crate::topology::TaskId;

/// By store and partition.
type MemoryStores = BTreeMap<(String, i32), Arc<MemoryStore>>;

/// Where the backends of an engine come from.
#[derive(Debug, Clone)]
pub(crate) enum Backends {
    Rocks(RocksDatabase),
    /// Kept over resets of the engine: they hold what was spilled.
    Memory(Arc<Mutex<MemoryStores>>),
}

impl Backends {
    pub(crate) fn get(&self, store: &str, partition: i32) -> Arc<dyn StateBackend> {
        match self {
            Self::Rocks(database) => {
                let partition =
                    u16::try_from(partition).expect("checked when the application started");
                Arc::new(database.store(store, partition))
            }
            Self::Memory(stores) => {
                let mut stores = stores.lock();
                Arc::clone(stores.entry((store.to_owned(), partition)).or_default())
                    as Arc<dyn StateBackend>
            }
        }
    }
}

/// Tasks to be made ready.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) tasks: BTreeSet<TaskId>,
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) gate: Gate,
}

/// Tasks that are ready.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) tasks: Vec<(TaskId, TaskStart)>,
    /// Where to read on.
    pub(crate) positions: BTreeMap<TopicPartition, i64>,
}

/// Makes tasks ready to run.
///
/// # Errors
/// [`StreamsError::Restore`], [`StreamsError::Client`]: what can be tried again.
pub(crate) async fn prepare(
    app: Arc<App>,
    consumer: Arc<Consumer>,
    backends: Backends,
    wanted: Wanted,
) -> Result<Prepared, StreamsError> {
    let Wanted {
        tasks,
        partitions,
        gate,
    } = wanted;
    let committed = consumer.committed(&partitions).await?;
    let positions = start_positions(&app, &partitions, &committed).await?;
    let mut starts: BTreeMap<TaskId, TaskStart> = tasks
        .into_iter()
        .map(|task| (task, TaskStart::default()))
        .collect();
    for (partition, committed) in &committed {
        let Some((task, source)) = app.plan.task_of(partition) else {
            continue;
        };
        let Some(start) = starts.get_mut(&task) else {
            continue;
        };
        let times = committed.metadata();
        let position = Position {
            task,
            next_offset: committed.offset,
            partition_time: times.partition_time,
            stream_times: times.stream_times,
        };
        start.positions.insert(source, position);
    }
    let mut restores = Vec::new();
    for (task, start) in &mut starts {
        for spec in &app.topology.subtopologies()[task.subtopology as usize].stores {
            let backend = backends.get(&spec.name, task.partition);
            start
                .backends
                .insert(spec.name.clone(), Arc::clone(&backend));
            if spec.logging {
                let changelog = TopicPartition::new(
                    spec.changelog_topic(&app.config.application_id),
                    task.partition,
                );
                restores.push(StoreRestore {
                    kind: spec.kind,
                    changelog,
                    backend,
                });
            }
        }
    }
    restore_all(&app, restores, gate).await?;
    Ok(Prepared {
        tasks: starts.into_iter().collect(),
        positions,
    })
}

/// Brings stores up to their changelogs, and counts what it took.
async fn restore_all(app: &App, stores: Vec<StoreRestore>, gate: Gate) -> Result<(), StreamsError> {
    let isolation = if app.config.exactly_once() {
        Isolation::ReadCommitted
    } else {
        Isolation::ReadUncommitted
    };
    let options = RestoreOptions {
        isolation,
        gate,
        listener: app.restore_listener.clone(),
        threads: app.config.threads,
        clock: app.clock,
        pace: Arc::new(Pace::begin(app.clock.now())),
        metrics: Arc::clone(&app.metrics),
    };
    let began = app.clock.now();
    let restored = restore(&app.client, stores, &options).await?;
    if restored.records > 0 {
        tracing::info!(
            stores = restored.stores,
            records = restored.records,
            bytes = restored.bytes,
            took = ?app.clock.now() - began,
            "stores restored"
        );
    }
    StreamsMetrics::add(&app.metrics.full_restores, restored.wiped);
    Ok(())
}

trait Times {
    fn metadata(&self) -> PartitionTimes;
}

impl Times for OffsetAndMetadata {
    fn metadata(&self) -> PartitionTimes {
        PartitionTimes::decode(&self.metadata)
    }
}

/// Committed positions; where there is none, the start or the end of the log. Internal topics are always read from the start.
async fn start_positions(
    app: &App,
    partitions: &[TopicPartition],
    committed: &BTreeMap<TopicPartition, OffsetAndMetadata>,
) -> Result<BTreeMap<TopicPartition, i64>, StreamsError> {
    let mut positions: BTreeMap<TopicPartition, i64> = committed
        .iter()
        .map(|(partition, committed)| (partition.clone(), committed.offset))
        .collect();
    let new: Vec<TopicPartition> = partitions
        .iter()
        .filter(|partition| !committed.contains_key(*partition))
        .cloned()
        .collect();
    let latest = |partition: &TopicPartition| {
        app.config.start_from == StartFrom::Latest && !app.internal.contains(&partition.topic)
    };
    let (from_end, from_start): (Vec<_>, Vec<_>) = new.into_iter().partition(latest);
    let admin = Admin::new(&app.client);
    let end = OffsetSpec::Latest(Isolation::ReadCommitted);
    for (partitions, spec) in [(from_start, OffsetSpec::Earliest), (from_end, end)] {
        let found = admin.list_offsets(&partitions, spec).await?;
        positions.extend(
            found
                .into_iter()
                .map(|(partition, found)| (partition, found.offset)),
        );
    }
    Ok(positions)
}
