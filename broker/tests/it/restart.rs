//! What was acknowledged is there after a restart.

use flumen_protocol::builder::BatchOptions;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::MetadataRequest;

use crate::support::{World, batch, batch_of};

#[tokio::test]
async fn topics_configurations_and_records_survive_a_clean_restart() {
    let mut world = World::start(&[]).await;
    let mut client = world.client().await;
    client
        .create_topic("t", 2, &[("max.message.bytes", "200")])
        .await
        .unwrap();
    client.produce("t", 1, batch(&["a", "b"])).await;
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let before = client.call(12, &all).await;
    world.restart().await;

    let mut client = world.client().await;
    let after = client.call(12, &all).await;
    assert_eq!(before.topics, after.topics);
    assert_eq!(before.cluster_id, after.cluster_id);
    assert_eq!(client.values("t", 1, 0).await, ["a", "b"]);
    assert_eq!(client.produce("t", 1, batch(&["c"])).await.base_offset, 2);
    let large = client
        .produce("t", 1, batch(&["x".repeat(300).as_str()]))
        .await;
    assert_eq!(large.error_code, ErrorCode::MessageTooLarge.code());
}

#[tokio::test]
async fn a_deleted_topic_stays_deleted() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    client.produce("t", 0, batch(&["a"])).await;
    client.delete_topic("t").await.unwrap();
    world.restart().await;
    let mut client = world.client().await;
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert!(client.call(12, &all).await.topics.is_empty());
    client.create_topic("t", 1, &[]).await.unwrap();
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 0);
}

#[tokio::test]
async fn the_sequence_of_a_producer_survives_a_restart() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let idempotent = |base_sequence| BatchOptions {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence,
        ..BatchOptions::default()
    };
    let first = batch_of(idempotent(0), &["a"]);
    client.produce("t", 0, first.clone()).await;
    world.restart().await;
    let mut client = world.client().await;
    let again = client.produce("t", 0, first).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    assert_eq!(
        client
            .produce("t", 0, batch_of(idempotent(1), &["b"]))
            .await
            .base_offset,
        1
    );
    let gap = client
        .produce("t", 0, batch_of(idempotent(5), &["z"]))
        .await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
}

#[tokio::test]
async fn a_damaged_partition_refuses_and_the_others_work() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("damaged", 2).await;
    client.create_topic("whole", 1, &[]).await.unwrap();
    for (topic, partition) in [("damaged", 0), ("damaged", 1), ("whole", 0)] {
        let stored = client.produce(topic, partition, batch(&["a"])).await;
        assert_eq!(stored.error_code, 0);
    }
    world.stop().await;
    let clean = world.dir.path().join(".kafka_cleanshutdown");
    std::fs::remove_file(&clean).unwrap();
    let log = world.dir.path().join("damaged-0/00000000000000000000.log");
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();

    world.run().await;
    let mut client = world.client().await;
    let refused = client.produce("damaged", 0, batch(&["b"])).await;
    assert_eq!(
        ErrorCode::from_code(refused.error_code),
        ErrorCode::KafkaStorageError
    );
    let refused = client.fetch("damaged", 0, 0).await;
    assert_eq!(
        ErrorCode::from_code(refused.error_code),
        ErrorCode::KafkaStorageError
    );
    for (topic, partition) in [("damaged", 1), ("whole", 0)] {
        let stored = client.produce(topic, partition, batch(&["b"])).await;
        assert_eq!(stored.error_code, 0);
        assert_eq!(client.values(topic, partition, 0).await, ["a", "b"]);
    }
    // What nobody could look at is looked at again, and its bytes are as they were.
    world.stop().await;
    assert!(!clean.exists());
    assert_eq!(std::fs::read(&log).unwrap(), bytes[..bytes.len() - 1]);
    world.run().await;
    let mut client = world.client().await;
    assert_eq!(client.values("whole", 0, 0).await, ["a", "b"]);
}
