//! Nanoseconds per record through the engine alone: batches in, outbox out, stores in memory or RocksDB; no network, no transaction.
//!
//! `cargo bench -p flumen-streams --bench chain`. The records are those of the comparison with Kafka Streams: key `key-N`, N uniform over the
//! keys, value 100 bytes, 6 partitions, 100 records per ms of event time. An epoch is 30,000 records, about 100 ms at 300,000 records/s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flumen_protocol::batch::RecordBatch;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_streams::dataflow::{
    BATCH_BYTES, Engine, EngineOptions, SourceInput, SourceRecords, TaskStart,
};
use flumen_streams::state::rocks::{RocksDatabase, RocksMemory};
use flumen_streams::{
    Consumed, Grouped, Materialized, Produced, StreamsBuilder, TaskId, TimeWindows, Topology,
    serdes,
};

const RECORDS: usize = 1_500_000;
const PARTITIONS: usize = 6;
const BATCH: usize = 1_000;
const EPOCH: usize = 30_000;
const SPILL_EVERY: u64 = 50;

fn main() {
    // `cargo test --all-targets` runs benches too: then there is nothing to measure.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let few = input(10_000);
    let many = input(1_000_000);
    run("stateless: map, filter, sink", stateless(), &few, None);
    run("windowed count, 10 k keys, memory", windowed(), &few, None);
    run("windowed count, 1 M keys, memory", windowed(), &many, None);
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(
        "windowed count, 10 k keys, RocksDB",
        windowed(),
        &few,
        Some(&folder.path().join("few")),
    );
    run(
        "windowed count, 1 M keys, RocksDB",
        windowed(),
        &many,
        Some(&folder.path().join("many")),
    );
}

fn stateless() -> Topology {
    let builder = StreamsBuilder::new();
    let flipped = builder
        .stream("in", Consumed::with(serdes::bytes(), serdes::bytes()))
        .map_values(|value: Bytes| {
            let mut copy = Vec::from(value);
            copy[0] ^= 1;
            Bytes::from(copy)
        });
    flipped
        .filter(|_, value| value[1] != 7)
        .to("out", Produced::with(serdes::bytes(), serdes::bytes()));
    builder.build().expect("a topology that can run")
}

fn windowed() -> Topology {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in", Consumed::with(serdes::string(), serdes::bytes()));
    let windows = TimeWindows::of_size_and_grace(Duration::from_secs(10), Duration::from_secs(5));
    let counts = stream
        .group_by_key(Grouped::with(serdes::string(), serdes::bytes()))
        .windowed_by(windows)
        .count(Materialized::as_("counts"));
    counts
        .to_stream()
        .map(|key, count| (key.key, count))
        .to("out", Produced::with(serdes::string(), serdes::i64()));
    builder.build().expect("a topology that can run")
}

/// Batches by epoch and partition.
fn input(keys: u64) -> Vec<Vec<(usize, RecordBatch)>> {
    let mut random = 42u64;
    let mut next = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    let value = [9u8; 100];
    let mut open: Vec<BatchBuilder> = (0..PARTITIONS)
        .map(|_| BatchBuilder::new(BatchOptions::default()))
        .collect();
    let (mut epochs, mut epoch) = (Vec::new(), Vec::new());
    for n in 0..RECORDS {
        let key = format!("key-{}", next() % keys);
        let partition = key.bytes().map(usize::from).sum::<usize>() % PARTITIONS;
        open[partition].push(
            1_700_000_000_000 + n as i64 / 100,
            Some(key.as_bytes()),
            Some(&value),
            &[],
        );
        let ended = (n + 1) % EPOCH == 0;
        for (partition, builder) in open.iter_mut().enumerate() {
            if builder.record_count() == BATCH || (ended && !builder.is_empty()) {
                let full = std::mem::replace(builder, BatchBuilder::new(BatchOptions::default()));
                epoch.push((
                    partition,
                    RecordBatch::parse(full.build()).expect("a batch just built"),
                ));
            }
        }
        if ended {
            epochs.push(std::mem::take(&mut epoch));
        }
    }
    epochs
}

fn run(
    name: &str,
    topology: Topology,
    input: &[Vec<(usize, RecordBatch)>],
    folder: Option<&std::path::Path>,
) {
    let mut engine = engine(topology, folder);
    let (mut out, mut spent) = (0, Duration::ZERO);
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    let began = Instant::now();
    for batches in input {
        for (partition, batch) in batches {
            let task = TaskId {
                subtopology: 0,
                partition: *partition as i32,
            };
            let records = SourceRecords::Batches(vec![batch.clone()]);
            engine
                .feed(
                    task,
                    vec![SourceInput {
                        source: 0,
                        records,
                        first_offset: 0,
                        next_offset: 1,
                    }],
                    0,
                )
                .expect("an assigned task");
        }
        let epoch = engine.close_epoch();
        engine.finish(epoch).expect("the topology runs");
        out += engine
            .drain(epoch)
            .records
            .values()
            .map(|buffer| buffer.len())
            .sum::<usize>();
        engine.committed(epoch, &BTreeMap::new());
        if epoch.is_multiple_of(SPILL_EVERY) {
            engine.spill().expect("the store spills");
        }
        spent = began.elapsed();
    }
    let per_record = spent.as_nanos() / RECORDS as u128;
    println!(
        "{name:40} {per_record:6} ns/record {:8.2} M records/s {out:9} records out",
        RECORDS as f64 / spent.as_secs_f64() / 1e6
    );
}

fn engine(topology: Topology, folder: Option<&std::path::Path>) -> Engine {
    let database = folder.map(|folder| {
        let memory = RocksMemory::new(64 << 20, 64 << 20);
        RocksDatabase::open(folder, &["counts".to_owned()], &memory).expect("a new database")
    });
    let partitions = BTreeMap::from([("out".to_owned(), PARTITIONS as i32)]);
    let options = EngineOptions {
        application_id: "bench".to_owned(),
        partitions,
        counters: Arc::default(),
        batch_bytes: BATCH_BYTES,
    };
    let mut engine = Engine::new(Arc::new(topology), options);
    for partition in 0..PARTITIONS as u16 {
        let mut start = TaskStart::default();
        if let Some(database) = &database {
            start.backends.insert(
                "counts".to_owned(),
                Arc::new(database.store("counts", partition)),
            );
        }
        engine
            .assign(
                TaskId {
                    subtopology: 0,
                    partition: i32::from(partition),
                },
                start,
            )
            .expect("a task of the topology");
    }
    engine
}
