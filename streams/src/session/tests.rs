//! Engine, stores and commit cycle against a pretend cluster that dies at every step: whatever is lost, committed outputs,
//! changelog, positions and state always belong to the same input.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::commit::{Act, CommitCycle, CommitOptions, Now};
use crate::dataflow::{
    BATCH_BYTES, Engine, EngineOptions, Outbox, Position, RawRecord, SourceInput, SourceRecords,
    TaskStart,
};
use crate::position::PartitionTimes;
use crate::record::Headers;
use crate::state::memory::MemoryStore;
use crate::state::rocks::{RocksDatabase, RocksMemory};
use crate::state::{Batch, KeyValueStore, StateBackend};
use crate::topology::{TaskId, Topology};
use crate::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, serdes};

const TASK: TaskId = TaskId {
    subtopology: 0,
    partition: 0,
};
const KEYS: u64 = 7;

fn topology() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::with(serdes::string(), serdes::string()))
        .group_by_key(Grouped::with(serdes::string(), serdes::string()))
        .count(Materialized::as_("counts"))
        .to_stream()
        .to("out", Produced::with(serdes::string(), serdes::i64()));
    Arc::new(builder.build().unwrap())
}

/// A step at which the process may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Death {
    Fed,
    Closed,
    Flushed,
    OffsetsSent,
    /// The broker has the commit, the process never hears of it.
    Committed,
    Told,
    Never,
}

const DEATHS: [Death; 6] = [
    Death::Fed,
    Death::Closed,
    Death::Flushed,
    Death::OffsetsSent,
    Death::Committed,
    Death::Told,
];

/// What a cluster keeps: everything, once its transaction is committed.
#[derive(Default)]
struct Cluster {
    input: Vec<(String, i64)>,
    outputs: Vec<(String, i64)>,
    changelog: Vec<(Vec<u8>, Option<Vec<u8>>, i64)>,
    position: Option<(i64, String)>,
    /// Records written by transactions that were aborted take offsets too.
    changelog_end: i64,
    open: Option<Outbox>,
}

struct Process {
    engine: Engine,
    cycle: CommitCycle,
    next: i64,
    restored: usize,
}

struct World {
    cluster: Cluster,
    backend: Arc<dyn StateBackend>,
    process: Process,
    now: Now,
    random: u64,
    deaths: BTreeMap<Death, u32>,
}

fn options() -> CommitOptions {
    let ms = Now::from_millis;
    CommitOptions {
        exactly_once: true,
        commit_interval: ms(100),
        epoch_interval: ms(100),
        epoch_bytes_max: 1 << 20,
        drained_after: ms(5),
    }
}

impl World {
    fn new(seed: u64, backend: Arc<dyn StateBackend>) -> Self {
        let cluster = Cluster::default();
        let process = start(&cluster, &backend, Now::ZERO);
        let (now, random, deaths) = (Now::ZERO, seed | 1, BTreeMap::new());
        Self {
            cluster,
            backend,
            process,
            now,
            random,
            deaths,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Feeds a few records and takes the commit as far as `death`.
    fn round(&mut self, death: Death) {
        for _ in 0..1 + self.random(20) {
            let (key, timestamp) = (
                format!("k{}", self.random(KEYS)),
                1000 + i64::try_from(self.random(500)).unwrap(),
            );
            self.cluster.input.push((key, timestamp));
        }
        self.feed();
        if death == Death::Fed {
            return;
        }
        self.now += Now::from_millis(100);
        let mut act = self.process.cycle.poll(self.now, true);
        while let Some(due) = act.take() {
            act = self.carry_out(due, death);
        }
    }

    fn feed(&mut self) {
        let input = &self.cluster.input;
        let from = usize::try_from(self.process.next).unwrap();
        let raw = |(at, (key, timestamp)): (usize, &(String, i64))| RawRecord {
            offset: i64::try_from(at).unwrap(),
            timestamp: *timestamp,
            key: Some(Bytes::from(key.clone())),
            value: Some(Bytes::from_static(b"v")),
            headers: Headers::none(),
        };
        let records: Vec<RawRecord> = input.iter().enumerate().skip(from).map(raw).collect();
        let next_offset = i64::try_from(input.len()).unwrap();
        let records = SourceRecords::Raw(records);
        let source = SourceInput {
            source: 0,
            records,
            first_offset: self.process.next,
            next_offset,
        };
        self.process.engine.feed(TASK, vec![source], 0).unwrap();
        self.process.engine.step().unwrap();
        self.process.cycle.on_fed(1, self.now);
        self.process.next = next_offset;
    }

    /// One step of the commit; nothing more if the process dies after it.
    fn carry_out(&mut self, act: Act, death: Death) -> Option<Act> {
        let (process, cluster, now) = (&mut self.process, &mut self.cluster, self.now);
        let (after, next) = match act {
            Act::Close => {
                let epoch = process.engine.close_epoch();
                process.engine.finish(epoch).unwrap();
                let outbox = process.engine.drain(epoch);
                let next = process.cycle.on_closed(epoch, outbox.is_empty(), now);
                cluster.open = Some(outbox);
                (Death::Closed, next)
            }
            Act::Flush(epoch) => {
                cluster.changelog_end += cluster.logged();
                (Death::Flushed, process.cycle.on_flushed(epoch, now))
            }
            Act::SendOffsets(epoch) => (Death::OffsetsSent, process.cycle.on_offsets_sent(epoch)),
            Act::EndTransaction(epoch) => {
                cluster.commit();
                (Death::Committed, process.cycle.on_committed(epoch, now))
            }
            Act::Done(epoch) => {
                let at = ("app-counts-changelog".to_owned(), 0);
                let end = i64::try_from(cluster.changelog.len()).unwrap();
                process.engine.committed(epoch, &[(at, end)].into());
                (Death::Told, None)
            }
            Act::CommitOffsets => unreachable!("only at least once"),
        };
        if after == death { None } else { next }
    }

    fn spill(&mut self) {
        self.process.engine.spill().unwrap();
    }

    /// The process is gone; another begins with what backend and cluster have. `failed` counts it.
    fn restart(&mut self, death: Death) {
        *self.deaths.entry(death).or_default() += 1;
        self.cluster.open = None;
        self.process = start(&self.cluster, &self.backend, self.now);
        self.check();
    }

    /// Everything that is committed belongs to the same input.
    fn check(&mut self) {
        let next = self.cluster.position.as_ref().map_or(0, |(next, _)| *next);
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for (key, _) in &self.cluster.input[..usize::try_from(next).unwrap()] {
            *counts.entry(key.clone()).or_default() += 1;
        }
        let last: BTreeMap<String, i64> = self.cluster.outputs.iter().cloned().collect();
        assert_eq!(last, counts, "outputs");
        let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
        for (key, count) in &self.cluster.outputs {
            assert!(
                seen.insert(key, *count) < Some(*count),
                "{key}: {count} comes after {:?}",
                seen.get(key.as_str())
            );
        }
        let found = self.process.engine.with_store(
            TASK,
            "counts",
            |store: &mut KeyValueStore<String, i64>| store.all().unwrap(),
        );
        let found: BTreeMap<String, i64> = found
            .unwrap()
            .into_iter()
            .map(|(key, value)| (key, value.value))
            .collect();
        assert_eq!(found, counts, "state of a process that just began");
    }
}

impl Cluster {
    fn logged(&self) -> i64 {
        let records = self.open.as_ref().map(|outbox| &outbox.records);
        let logged = records
            .into_iter()
            .flatten()
            .filter(|((topic, _), _)| topic.ends_with("-changelog"));
        logged
            .map(|(_, buffer)| i64::try_from(buffer.len()).unwrap())
            .sum()
    }

    fn commit(&mut self) {
        let outbox = self.open.take().unwrap();
        for ((topic, _), buffer) in &outbox.records {
            for record in buffer.records() {
                let key = record.key.unwrap().to_vec();
                match &**topic {
                    "out" => {
                        let count = record.value.unwrap();
                        let count = i64::from_be_bytes(count[..].try_into().unwrap());
                        self.outputs.push((String::from_utf8(key).unwrap(), count));
                    }
                    _ => self.changelog.push((
                        key,
                        record.value.map(|value| value.to_vec()),
                        record.timestamp,
                    )),
                }
            }
        }
        for position in outbox.positions.values() {
            let times = PartitionTimes {
                partition_time: position.partition_time,
                stream_times: position.stream_times.clone(),
            };
            self.position = Some((position.next_offset, times.encode()));
        }
    }
}

/// Restores the tail and starts an engine, as `start.rs` does.
fn start(cluster: &Cluster, backend: &Arc<dyn StateBackend>, now: Now) -> Process {
    let stored = usize::try_from(backend.position().unwrap().unwrap_or(0)).unwrap();
    let tail = &cluster.changelog[stored..];
    let mut batch = Batch::new();
    for (key, value, timestamp) in tail {
        let timestamp = timestamp.to_be_bytes();
        batch.push(
            key,
            value
                .as_ref()
                .map(|value| (&timestamp[..], value.as_slice())),
        );
    }
    backend
        .write(
            &mut batch,
            Some(i64::try_from(cluster.changelog.len()).unwrap()),
        )
        .unwrap();
    let options = EngineOptions {
        application_id: "app".to_owned(),
        partitions: BTreeMap::new(),
        counters: Arc::default(),
        batch_bytes: BATCH_BYTES,
    };
    let mut engine = Engine::new(topology(), options);
    let mut task = TaskStart::default();
    task.backends
        .insert("counts".to_owned(), Arc::clone(backend));
    let next = cluster.position.as_ref().map_or(0, |(next, metadata)| {
        let PartitionTimes {
            partition_time,
            stream_times,
        } = PartitionTimes::decode(metadata);
        task.positions.insert(
            0,
            Position {
                task: TASK,
                next_offset: *next,
                partition_time,
                stream_times,
            },
        );
        *next
    });
    engine.assign(TASK, task).unwrap();
    Process {
        engine,
        cycle: CommitCycle::new(self::options(), now),
        next,
        restored: tail.len(),
    }
}

fn live(seed: u64, rounds: u32, backend: Arc<dyn StateBackend>) -> World {
    let mut world = World::new(seed, backend);
    for _ in 0..rounds {
        let death = match world.random(3) {
            0 => DEATHS[usize::try_from(world.random(6)).unwrap()],
            _ => Death::Never,
        };
        world.round(death);
        if death == Death::Never && world.random(3) == 0 {
            world.spill();
        }
        if death != Death::Never {
            world.restart(death);
        }
    }
    world.round(Death::Never);
    world.restart(Death::Never);
    assert_eq!(
        world.cluster.position.as_ref().map(|(next, _)| *next),
        Some(world.process.next)
    );
    assert_eq!(
        usize::try_from(world.process.next).unwrap(),
        world.cluster.input.len(),
        "all input is committed"
    );
    world
}

#[test]
fn a_process_that_dies_at_any_step_of_a_commit_loses_and_doubles_nothing() {
    let mut deaths: BTreeMap<Death, u32> = BTreeMap::new();
    for seed in 1..40 {
        let world = live(seed * 7919, 40, Arc::new(MemoryStore::new()));
        for (death, count) in world.deaths {
            *deaths.entry(death).or_default() += count;
        }
    }
    println!("{deaths:?}");
    assert!(
        DEATHS
            .iter()
            .all(|death| deaths.get(death).is_some_and(|count| *count > 20)),
        "{deaths:?}"
    );
}

#[test]
fn the_same_over_rocks() {
    let folder = tempfile::tempdir().unwrap();
    let database = RocksDatabase::open(
        folder.path(),
        &["counts".to_owned()],
        &RocksMemory::new(1 << 20, 4 << 20),
    )
    .unwrap();
    for partition in 0..4u16 {
        live(
            u64::from(partition) * 104_729 + 1,
            40,
            Arc::new(database.store("counts", partition)),
        );
    }
}

#[test]
fn after_a_spill_only_the_tail_is_restored() {
    let mut world = World::new(99, Arc::new(MemoryStore::new()));
    (0..20).for_each(|_| world.round(Death::Never));
    world.spill();
    let spilled = world.cluster.changelog.len();
    (0..3).for_each(|_| world.round(Death::Never));
    let tail = world.cluster.changelog.len() - spilled;
    world.round(Death::OffsetsSent);
    world.restart(Death::OffsetsSent);
    assert!(spilled > 50 && tail > 0);
    assert_eq!(
        world.process.restored, tail,
        "of {spilled} records before the spill none is replayed"
    );
}
