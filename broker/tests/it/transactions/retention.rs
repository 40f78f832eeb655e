//! Retention takes the records of a producer, not what is known of it (KIP-360).

use flumen_protocol::builder::BatchOptions;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::DeleteRecordsRequest;
use flumen_protocol::message::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};

use super::{Producer, stable};
use crate::support::{Wire, World, batch_of, eventually};

fn idempotent(base_sequence: i32, value: &str) -> bytes::Bytes {
    let options = BatchOptions {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence,
        ..BatchOptions::default()
    };
    batch_of(options, &[value])
}

/// Deletes all there is; the new start of the log.
async fn delete_all(client: &mut Wire) -> i64 {
    let partition = DeleteRecordsPartition {
        partition_index: 0,
        offset: -1,
        ..Default::default()
    };
    let topic = DeleteRecordsTopic {
        name: "t".to_owned(),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = DeleteRecordsRequest {
        topics: vec![topic],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let response = client.call(2, &request).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    partition.low_watermark
}

/// T-18: an idempotent producer whose records are all gone goes on where it was: its next record is taken, its repeats are known, a
/// gap is refused; before and after a restart.
#[tokio::test]
async fn a_producer_goes_on_after_all_its_records_were_deleted() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut next = 0;
    for restart in [false, true] {
        for _ in 0..3 {
            let written = client.produce("t", 0, idempotent(next, "x")).await;
            assert_eq!(
                (
                    ErrorCode::from_code(written.error_code),
                    written.base_offset
                ),
                (ErrorCode::None, i64::from(next))
            );
            next += 1;
        }
        assert_eq!(delete_all(&mut client).await, i64::from(next));
        if restart {
            world.restart().await;
            client = world.client().await;
        }
        let again = client.produce("t", 0, idempotent(next - 1, "x")).await;
        assert_eq!(
            (again.error_code, again.base_offset),
            (0, i64::from(next - 1)),
            "restart: {restart}"
        );
        let gap = client.produce("t", 0, idempotent(next + 4, "x")).await;
        assert_eq!(
            ErrorCode::from_code(gap.error_code),
            ErrorCode::OutOfOrderSequenceNumber
        );
    }
    let written = client.produce("t", 0, idempotent(next, "last")).await;
    assert_eq!(written.base_offset, i64::from(next));
    assert_eq!(client.values("t", 0, i64::from(next)).await, ["last"]);
}

/// T-18: the same by time: the batches are years old, so that retention takes all that is not being written to.
#[tokio::test]
async fn a_producer_goes_on_after_retention_took_all_its_records() {
    let world = World::start(&[
        ("log.initial.task.delay.ms", "0"),
        ("log.retention.check.interval.ms", "20"),
    ])
    .await;
    let mut client = world.client().await;
    let configs = [("segment.bytes", "1048576"), ("retention.ms", "3600000")];
    client.create_topic("t", 1, &configs).await.unwrap();
    client.produce("t", 0, idempotent(0, "old")).await;
    eventually(async || client.fetch("t", 0, 1).await.log_start_offset >= 1).await;
    let again = client.produce("t", 0, idempotent(0, "old")).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let next = client.produce("t", 0, idempotent(1, "new")).await;
    assert_eq!((next.error_code, next.base_offset), (0, 1));
}

/// T-18: a transactional producer the same, whose open transaction keeps its records from nobody but readers.
#[tokio::test]
async fn a_transaction_goes_on_after_its_first_records_were_deleted() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    assert_eq!(producer.send(&mut client, "deleted").await, ErrorCode::None);
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    stable(&mut client).await;
    assert_eq!(delete_all(&mut client).await, 2);
    assert_eq!(producer.send(&mut client, "kept").await, ErrorCode::None);
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    eventually(async || client.fetch("t", 0, 2).await.last_stable_offset >= 4).await;
    assert_eq!(client.fetch("t", 0, 2).await.high_watermark, 4);
}

/// The first record of an open transaction is deleted: readers of committed data wait at the start of the log, not below it.
#[tokio::test]
async fn the_last_stable_offset_is_never_below_the_start_of_the_log() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let mut producer = Producer::init(&mut client, 2).await;
    assert_eq!(producer.send(&mut client, "deleted").await, ErrorCode::None);
    assert_eq!(delete_all(&mut client).await, 1);
    assert_eq!(producer.send(&mut client, "kept").await, ErrorCode::None);
    for restart in [false, true] {
        if restart {
            world.restart().await;
            client = world.client().await;
        }
        let open = client.fetch("t", 0, 1).await;
        assert_eq!(
            (
                open.log_start_offset,
                open.last_stable_offset,
                open.high_watermark
            ),
            (1, 1, 2),
            "restart: {restart}"
        );
    }
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    eventually(async || client.fetch("t", 0, 1).await.last_stable_offset >= 3).await;
    assert_eq!(client.values("t", 0, 1).await, ["kept"]);
}
