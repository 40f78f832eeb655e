//! What is on disk when somebody is told something: the start of a transaction, its decision, its markers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flumen_broker::Drivers;
use flumen_log::disk::OsDisk;
use flumen_log::fault_disk::{Crash, FaultDisk};
use flumen_log::{AppendAs, Log, LogConfig, OpenOptions};
use flumen_protocol::builder::{BatchBuilder, BatchOptions};
use flumen_protocol::codec::encode_prefixed;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::transaction_log_value::PartitionsSchema;
use flumen_protocol::message::{
    ApiVersionsRequest, ProduceRequest, TransactionLogKey, TransactionLogValue,
};

use super::{ID, Producer, open_end, stable, stable_in};
use crate::held::HeldTasks;
use crate::support::{World, eventually};

/// The folder of the partition that holds the transactional id.
fn state_dir(dir: &Path) -> PathBuf {
    let hash = ID.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    dir.join(format!("__transaction_state-{}", hash.abs() % 50))
}

/// Of a log that may not have been written to yet.
fn log_size(dir: &Path) -> u64 {
    let log = std::fs::metadata(dir.join("00000000000000000000.log"));
    log.map_or(0, |log| log.len())
}

/// T-10: the first record of a transaction is written to its partition only when the coordinator's note of that partition is on
/// disk. Otherwise a crash could leave a transaction that nobody ends, or half of one committed.
#[tokio::test]
async fn the_start_of_a_transaction_is_on_disk_before_its_first_record_is_written() {
    let (drivers, held) = HeldTasks::machine();
    let world = World::start_on(Vec::new(), drivers).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut other = world.client().await;
    let producer = Producer::init(&mut client, 2).await;
    let before = log_size(&state_dir(world.dir.path()));
    held.hold_blocking();
    client.send(12, &producer.record(0, "a")).await;
    eventually(async || {
        other.call(3, &ApiVersionsRequest::default()).await;
        log_size(&state_dir(world.dir.path())) > before && held.waiting() > 0
    })
    .await;
    // The note is written, its flush waits.
    for _ in 0..20 {
        other.call(3, &ApiVersionsRequest::default()).await;
    }
    assert_eq!(log_size(&world.dir.path().join("t-0")), 0);
    held.release();
    let (_, answered) = client.receive::<ProduceRequest>(12).await;
    assert_eq!(answered.responses[0].partition_responses[0].error_code, 0);
    assert_ne!(log_size(&world.dir.path().join("t-0")), 0);
}

/// T-10: whatever a power failure leaves of it, an open transaction whose records were acknowledged can be committed whole, or is
/// aborted whole when its time is over.
#[tokio::test]
async fn a_power_failure_tears_no_open_transaction() {
    for (how, seed) in Crash::ALL.into_iter().zip(1..) {
        for commits in [true, false] {
            let disk = Arc::new(FaultDisk::new());
            let drivers = Drivers {
                disk: disk.clone(),
                ..Drivers::os()
            };
            let mut world = World::start_on(Vec::new(), drivers).await;
            let mut client = world.client_with_topic("t", 2).await;
            let timeout_ms = if commits { 60_000 } else { 500 };
            let mut producer = Producer::init_with(&mut client, 2, timeout_ms).await;
            for partition in [0, 1] {
                let written = producer.produce_to(&mut client, 12, partition, "x").await;
                assert_eq!(written.error_code, 0, "{how:?} {seed}");
            }
            world.drivers.disk = Arc::new(disk.after_crash(how, seed));
            world.broker = None;
            world.run().await;
            let mut client = world.client().await;
            if commits {
                assert_eq!(
                    producer.end(&mut client, true).await,
                    ErrorCode::None,
                    "{how:?} {seed}"
                );
            }
            for partition in [0, 1] {
                assert_eq!(
                    stable_in(&mut client, partition).await.len(),
                    usize::from(commits),
                    "{how:?} {seed}"
                );
            }
        }
    }
}

/// T-12, T-13: between the decision and the markers readers of committed data see none of it, whatever else is written meanwhile.
#[tokio::test]
async fn a_decided_transaction_is_not_readable_before_its_marker() {
    let (drivers, held) = HeldTasks::machine();
    let world = World::start_on(Vec::new(), drivers).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    producer.send(&mut client, "a").await;
    held.hold("transaction markers");
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    let written = client
        .produce("t", 0, crate::support::batch(&["plain"]))
        .await;
    assert_eq!(written.base_offset, 1);
    assert_eq!(open_end(&mut client).await, (0, 2));
    assert_eq!(
        producer.send(&mut client, "next").await,
        ErrorCode::ConcurrentTransactions,
        "nor does the next one begin"
    );
    held.release();
    assert_eq!(stable(&mut client).await, ["a", "plain"]);
}

/// A partition that cannot be opened misses no marker: its transaction stays decided until the marker can be written there, too.
#[tokio::test]
async fn a_partition_whose_log_is_damaged_gets_its_marker_when_it_is_whole_again() {
    let (drivers, held) = HeldTasks::machine();
    let mut world = World::start_on(Vec::new(), drivers).await;
    let mut client = world.client_with_topic("t", 2).await;
    let mut producer = Producer::init(&mut client, 2).await;
    for partition in [0, 1] {
        producer.produce_to(&mut client, 12, partition, "x").await;
    }
    held.hold("transaction markers");
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    world.stop().await;
    held.forget();
    let log = world.dir.path().join("t-1/00000000000000000000.log");
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..whole.len() - 1]).unwrap();
    std::fs::remove_file(world.dir.path().join(".kafka_cleanshutdown")).unwrap();

    world.drivers = Drivers::os();
    world.run().await;
    let mut client = world.client().await;
    assert_eq!(stable_in(&mut client, 0).await, ["x"]);
    let refused = client.fetch("t", 1, 0).await;
    assert_eq!(
        ErrorCode::from_code(refused.error_code),
        ErrorCode::KafkaStorageError
    );
    assert_eq!(
        producer.send(&mut client, "next").await,
        ErrorCode::ConcurrentTransactions,
        "the transaction is not over"
    );
    world.stop().await;
    std::fs::write(&log, &whole).unwrap();
    world.run().await;
    let mut client = world.client().await;
    assert_eq!(stable_in(&mut client, 1).await, ["x"]);
}

#[tokio::test]
async fn an_open_transaction_survives_a_restart_and_can_be_committed() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    producer.send(&mut client, "before").await;
    world.restart().await;
    let mut client = world.client().await;
    assert_eq!(producer.send(&mut client, "after").await, ErrorCode::None);
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(stable(&mut client).await, ["before", "after"]);
}

/// Writes a decided transaction into a stopped broker's log, as a crash between the decision and its markers leaves it.
fn write_prepared(dir: &Path, producer: Producer, status: i8) {
    let partitions = PartitionsSchema {
        topic: "t".to_owned(),
        partition_ids: vec![0],
        ..Default::default()
    };
    let value = TransactionLogValue {
        transaction_partitions: Some(vec![partitions]),
        ..state(producer, status)
    };
    write_state(dir, &value);
}

/// A transactional id as the coordinator notes it: `producer` ended its last transaction, so its epoch is one higher.
pub(super) fn state(producer: Producer, status: i8) -> TransactionLogValue {
    TransactionLogValue {
        producer_id: producer.id,
        producer_epoch: producer.epoch + 1,
        transaction_timeout_ms: 60_000,
        transaction_status: status,
        transaction_last_update_timestamp_ms: 1,
        transaction_start_timestamp_ms: 1,
        client_transaction_version: 2,
        ..Default::default()
    }
}

/// Writes it into a stopped broker's log.
pub(super) fn write_state(dir: &Path, value: &TransactionLogValue) {
    let log = Log::open(
        Arc::new(OsDisk::new()),
        &state_dir(dir),
        LogConfig::default(),
        OpenOptions::default(),
    )
    .unwrap();
    let key = encode_prefixed(
        &TransactionLogKey {
            transactional_id: ID.to_owned(),
        },
        0,
    )
    .unwrap();
    let value = encode_prefixed(value, 1).unwrap();
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(1, Some(&key), Some(&value), &[]);
    log.append(builder.build(), &AppendAs::coordinator(0), 1)
        .unwrap();
    log.flush().unwrap();
}

#[tokio::test]
async fn a_decision_that_a_crash_left_without_markers_is_carried_out_at_the_next_start() {
    for (status, expected) in [(2, vec!["a"]), (3, vec![])] {
        let mut world = World::start(&[]).await;
        let mut client = world.client_with_topic("t", 1).await;
        let mut producer = Producer::init(&mut client, 2).await;
        producer.send(&mut client, "a").await;
        world.stop().await;
        write_prepared(world.dir.path(), producer, status);
        world.run().await;
        let mut client = world.client().await;
        assert_eq!(stable(&mut client).await, expected);
        producer.epoch += 1;
        producer.sequence = 0;
        assert_eq!(producer.send(&mut client, "next").await, ErrorCode::None);
        assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
        assert_eq!(
            stable(&mut client).await.last().map(String::as_str),
            Some("next")
        );
    }
}
