//! The engine by itself: epochs, positions, batches, order over sources, restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flumen_protocol::batch::RecordBatch;
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::compression::Compression;

use super::*;
use crate::state::WindowStore;
use crate::state::memory::MemoryStore;
use crate::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows, serdes};

const TASK: TaskId = TaskId {
    subtopology: 0,
    partition: 2,
};

fn engine(topology: &Arc<Topology>, start: TaskStart) -> Engine {
    let options = EngineOptions {
        application_id: "app".to_owned(),
        partitions: BTreeMap::new(),
        counters: Arc::default(),
        batch_bytes: BATCH_BYTES,
    };
    let mut engine = Engine::new(Arc::clone(topology), options);
    engine.assign(TASK, start).unwrap();
    engine
}

/// `in` and `other` merged into `out`.
fn passing() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    let left = builder.stream("in", Consumed::with(serdes::string(), serdes::string()));
    let right = builder.stream("other", Consumed::with(serdes::string(), serdes::string()));
    left.merge(&right)
        .to("out", Produced::with(serdes::string(), serdes::string()));
    Arc::new(builder.build().unwrap())
}

fn raw(offset: i64, timestamp: i64, value: &str) -> RawRecord {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    RawRecord {
        offset,
        timestamp,
        key: Some(Bytes::from_static(b"k")),
        value,
        headers: crate::Headers::none(),
    }
}

fn input(source: usize, records: Vec<RawRecord>) -> SourceInput {
    let next_offset = records.last().map_or(0, |record| record.offset + 1);
    SourceInput {
        source,
        records: SourceRecords::Raw(records),
        first_offset: 0,
        next_offset,
    }
}

fn values(outbox: &Outbox, topic: &str) -> Vec<String> {
    let buffers = outbox
        .records
        .iter()
        .filter(|((name, _), _)| &**name == topic);
    let records = buffers.flat_map(|(_, buffer)| buffer.records());
    records
        .map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap())
        .collect()
}

#[test]
fn an_epoch_is_complete_when_it_is_closed_and_run() {
    let topology = passing();
    let mut engine = engine(&topology, TaskStart::default());
    engine
        .feed(TASK, vec![input(0, vec![raw(7, 1, "a")])], 0)
        .unwrap();
    while engine.step().unwrap() && engine.open_epoch() > engine.completed() {}
    assert_eq!(engine.completed(), 0, "an open epoch is never complete");
    let epoch = engine.close_epoch();
    engine
        .feed(TASK, vec![input(0, vec![raw(8, 1, "b")])], 0)
        .unwrap();
    engine.finish(epoch).unwrap();
    let outbox = engine.drain(epoch);
    assert_eq!(values(&outbox, "out"), ["a"]);
    let position = &outbox.positions[&(Arc::from("in"), TASK.partition)];
    assert_eq!((position.next_offset, position.partition_time), (8, 1));
    let next = engine.close_epoch();
    engine.finish(next).unwrap();
    assert_eq!(values(&engine.drain(next), "out"), ["b"]);
}

#[test]
fn epochs_fed_before_a_step_are_kept_apart() {
    let topology = passing();
    let mut engine = engine(&topology, TaskStart::default());
    for (offset, value) in [(0, "a"), (1, "b"), (2, "c")] {
        engine
            .feed(TASK, vec![input(0, vec![raw(offset, 1, value)])], 0)
            .unwrap();
        engine.close_epoch();
    }
    engine.finish(2).unwrap();
    for (epoch, value) in [(0, "a"), (1, "b"), (2, "c")] {
        assert_eq!(values(&engine.drain(epoch), "out"), [value]);
    }
}

#[test]
fn an_epoch_without_input_has_nothing_to_commit() {
    let topology = passing();
    let mut engine = engine(&topology, TaskStart::default());
    let epoch = engine.close_epoch();
    engine.finish(epoch).unwrap();
    assert!(engine.drain(epoch).is_empty());
}

#[test]
fn sources_of_a_task_are_merged_by_timestamp() {
    let topology = passing();
    let mut engine = engine(&topology, TaskStart::default());
    let left = [(0, 1, "l1"), (1, 4, "l4"), (2, 2, "l2"), (3, 9, "l9")]
        .map(|(offset, time, value)| raw(offset, time, value));
    let right = [(0, 1, "r1"), (1, 3, "r3"), (2, 5, "r5")]
        .map(|(offset, time, value)| raw(offset, time, value));
    engine
        .feed(TASK, vec![input(0, left.into()), input(1, right.into())], 0)
        .unwrap();
    let epoch = engine.close_epoch();
    engine.finish(epoch).unwrap();
    // l2 is out of order in its partition: it follows l4, which was not before r3.
    assert_eq!(
        values(&engine.drain(epoch), "out"),
        ["l1", "r1", "r3", "l4", "l2", "r5", "l9"]
    );
}

#[test]
fn whole_batches_are_read_in_every_codec_from_the_first_offset_on() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let topology = passing();
        let mut engine = engine(&topology, TaskStart::default());
        let mut builder = BatchBuilder::new(BatchOptions {
            compression,
            base_offset: 100,
            ..BatchOptions::default()
        });
        for n in 0..3000i64 {
            let (name, value) = (b"n".as_slice(), n.to_string());
            builder.push(
                1_000 + n,
                Some(b"k"),
                Some(value.as_bytes()),
                &[(name, Some(value.as_bytes())), (name, None)],
            );
        }
        let batch = RecordBatch::parse(builder.build()).unwrap();
        let input = SourceInput {
            source: 0,
            records: SourceRecords::Batches(vec![batch]),
            first_offset: 110,
            next_offset: 3100,
        };
        engine.feed(TASK, vec![input], 0).unwrap();
        let epoch = engine.close_epoch();
        engine.finish(epoch).unwrap();
        let outbox = engine.drain(epoch);
        let expected: Vec<_> = (10..3000).map(|n| n.to_string()).collect();
        assert_eq!(values(&outbox, "out"), expected, "{compression:?}");
        let (_, buffer) = outbox.records.first_key_value().unwrap();
        let record = buffer.records().pop().unwrap();
        assert_eq!((record.timestamp, record.headers.iter().count()), (3999, 2));
        assert_eq!(
            outbox.positions.first_key_value().unwrap().1.next_offset,
            3100
        );
    }
}

#[test]
fn a_corrupt_batch_stops_the_engine_by_name() {
    let topology = passing();
    let mut engine = engine(&topology, TaskStart::default());
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: 5,
        ..BatchOptions::default()
    });
    builder.push(0, Some(b"k"), Some(b"value"), &[]);
    let mut bytes = builder.build().to_vec();
    bytes[61] = 1; // the length of the first record: negative
    let batch = RecordBatch::parse(Bytes::from(bytes)).unwrap();
    let input = SourceInput {
        source: 0,
        records: SourceRecords::Batches(vec![batch]),
        first_offset: 5,
        next_offset: 6,
    };
    engine.feed(TASK, vec![input], 0).unwrap();
    let epoch = engine.close_epoch();
    let error = engine.finish(epoch).unwrap_err().to_string();
    assert!(
        error.starts_with("in-2: the batch at offset 5 is corrupt"),
        "{error}"
    );
}

#[test]
fn tasks_come_and_go_between_epochs() {
    let topology = passing();
    let mut engine = engine(&topology, TaskStart::default());
    let other = TaskId {
        partition: 3,
        ..TASK
    };
    assert!(matches!(
        engine.feed(other, vec![], 0),
        Err(EngineError::Misuse(_))
    ));
    engine.assign(other, TaskStart::default()).unwrap();
    assert!(matches!(
        engine.assign(other, TaskStart::default()),
        Err(EngineError::Misuse(_))
    ));
    engine
        .feed(other, vec![input(0, vec![raw(0, 0, "x")])], 0)
        .unwrap();
    assert!(
        matches!(engine.revoke(other), Err(EngineError::Misuse(_))),
        "its epoch is open"
    );
    let epoch = engine.close_epoch();
    engine.finish(epoch).unwrap();
    assert_eq!(values(&engine.drain(epoch), "out"), ["x"]);
    engine.revoke(other).unwrap();
    assert_eq!(engine.tasks(), [TASK]);
    assert!(matches!(engine.revoke(other), Err(EngineError::Misuse(_))));
}

/// Counts per key and window of 10 ms without grace.
fn windowed() -> Arc<Topology> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in", Consumed::with(serdes::string(), serdes::string()));
    let grouped = stream.group_by_key(Grouped::with(serdes::string(), serdes::string()));
    let windows = TimeWindows::of_size_and_grace(Duration::from_millis(10), Duration::ZERO);
    let key = serdes::windowed(serdes::string(), 10);
    grouped
        .windowed_by(windows)
        .count(Materialized::as_("counts"))
        .to_stream()
        .to("out", Produced::with(key, serdes::i64()));
    Arc::new(builder.build().unwrap())
}

#[test]
fn a_restarted_task_knows_its_stream_time_and_its_state() {
    let topology = windowed();
    let backend = Arc::new(MemoryStore::new());
    let start = |positions| TaskStart {
        backends: BTreeMap::from([("counts".to_owned(), Arc::clone(&backend) as _)]),
        positions,
    };
    let mut first = engine(&topology, start(BTreeMap::new()));
    first
        .feed(TASK, vec![input(0, vec![raw(0, 5, ""), raw(1, 12, "")])], 0)
        .unwrap();
    let epoch = first.close_epoch();
    first.finish(epoch).unwrap();
    let outbox = first.drain(epoch);
    let position = outbox.positions[&(Arc::from("in"), TASK.partition)].clone();
    assert_eq!(
        position.stream_times,
        BTreeMap::from([("counts".to_owned(), 12)])
    );
    first.committed(
        epoch,
        &BTreeMap::from([(("app-counts-changelog".to_owned(), TASK.partition), 9)]),
    );
    first.spill().unwrap();
    drop(first);
    assert_eq!(
        crate::state::StateBackend::position(&*backend).unwrap(),
        Some(9)
    );

    let mut second = engine(&topology, start(BTreeMap::from([(0, position)])));
    // 9 is late for the window 0..10, which the first engine closed at 12; 13 finds the count of 1.
    second
        .feed(TASK, vec![input(0, vec![raw(2, 9, ""), raw(3, 13, "")])], 0)
        .unwrap();
    let epoch = second.close_epoch();
    second.finish(epoch).unwrap();
    assert_eq!(
        second
            .counters
            .dropped_late
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
    let found = second.with_store(TASK, "counts", |store: &mut WindowStore<String, i64>| {
        store.fetch(&"k".to_owned(), 10)
    });
    assert_eq!(found.unwrap().unwrap().unwrap().value, 2);
}
