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
