//! What was acknowledged is there after a restart.

use flumen_broker::config::BrokerConfig;
use flumen_broker::{Broker, Drivers};
use flumen_protocol::builder::BatchOptions;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::MetadataRequest;

use crate::groups::{commit_request, committed};
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

#[tokio::test]
async fn a_damaged_internal_partition_is_unavailable_and_the_rest_goes_on() {
    let mut world = World::start(&[("offsets.topic.num.partitions", "1")]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let commit = commit_request("", -1, 7);
    let response = client.call(9, &commit).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
    assert_eq!(client.produce("t", 0, batch(&["a"])).await.error_code, 0);
    world.stop().await;
    let clean = world.dir.path().join(".kafka_cleanshutdown");
    let log = world
        .dir
        .path()
        .join("__consumer_offsets-0/00000000000000000000.log");
    let whole = std::fs::read(&log).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;

    // Cut, and found so by the start; rotten in place, and found so by whoever reads it.
    for (damaged, unclean) in [(&whole[..whole.len() - 1], true), (&flipped[..], false)] {
        std::fs::write(&log, damaged).unwrap();
        if unclean {
            std::fs::remove_file(&clean).unwrap();
        }
        world.run().await;
        let mut client = world.client().await;
        let response = client.call(9, &commit).await;
        assert_ne!(response.topics[0].partitions[0].error_code, 0);
        assert!(committed(&mut client, true).await.is_err());
        assert_eq!(client.produce("t", 0, batch(&["b"])).await.error_code, 0);
        world.stop().await;
        assert_eq!(std::fs::read(&log).unwrap(), damaged, "nobody touches it");
        std::fs::write(&log, &whole).unwrap();
        world.run().await;
        world.stop().await;
    }
    world.run().await;
    let mut client = world.client().await;
    assert_eq!(committed(&mut client, true).await, Ok(7));
    assert_eq!(client.values("t", 0, 0).await, ["a", "b", "b"]);
}

#[tokio::test]
async fn a_flipped_bit_in_a_topic_id_does_not_make_room_for_an_empty_log() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    assert_eq!(client.produce("t", 0, batch(&["a"])).await.error_code, 0);
    world.stop().await;
    let metadata = world.dir.path().join("t-0/partition.metadata");
    let whole = std::fs::read_to_string(&metadata).unwrap();
    let (head, id) = whole.split_once("topic_id: ").unwrap();
    let other = if id.starts_with('A') { "B" } else { "A" };
    std::fs::write(&metadata, format!("{head}topic_id: {other}{}", &id[1..])).unwrap();
    world.run().await;
    let mut client = world.client().await;
    let refused = client.fetch("t", 0, 0).await;
    assert_eq!(
        ErrorCode::from_code(refused.error_code),
        ErrorCode::KafkaStorageError
    );
    world.stop().await;
    std::fs::write(&metadata, &whole).unwrap();
    world.run().await;
    let mut client = world.client().await;
    assert_eq!(client.values("t", 0, 0).await, ["a"]);
}

#[tokio::test]
async fn a_log_that_no_topic_knows_is_set_aside_and_kept() {
    let mut world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    assert_eq!(client.produce("t", 0, batch(&["a"])).await.error_code, 0);
    world.stop().await;
    // The metadata is lost, with all that it says of topics.
    let path = world.dir.path().to_owned();
    let kept = tempfile::TempDir::new().unwrap();
    let metadata = "__cluster_metadata-0";
    std::fs::rename(path.join(metadata), kept.path().join("m")).unwrap();
    let crash = || {
        std::fs::remove_file(path.join(".kafka_cleanshutdown")).unwrap();
        std::fs::remove_file(path.join("recovery-point-offset-checkpoint")).unwrap();
    };
    crash();
    world.run().await;
    world.stop().await;
    let aside = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with("-stray"))
        .expect("it was set aside");
    // Somebody brings both back.
    std::fs::rename(aside, path.join("t-0")).unwrap();
    std::fs::remove_dir_all(path.join(metadata)).unwrap();
    std::fs::rename(kept.path().join("m"), path.join(metadata)).unwrap();
    crash();
    world.run().await;
    let mut client = world.client().await;
    assert_eq!(client.values("t", 0, 0).await, ["a"]);
}

#[tokio::test]
async fn the_metadata_of_apache_kafka_is_refused_in_words() {
    for name in ["quorum-state", "00000000000000000000-0000000000.checkpoint"] {
        let folder = tempfile::tempdir().unwrap();
        let metadata = folder.path().join("__cluster_metadata-0");
        std::fs::create_dir(&metadata).unwrap();
        std::fs::write(metadata.join(name), "").unwrap();
        let orders = folder.path().join("orders-0");
        std::fs::create_dir(&orders).unwrap();
        let config = BrokerConfig::from_properties([
            ("log.dirs", folder.path().to_str().unwrap()),
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ])
        .unwrap();
        let refused = Broker::start(config, Drivers::os()).await.unwrap_err();
        assert!(refused.to_string().contains("Apache Kafka"), "{refused}");
        assert!(orders.exists(), "nothing was touched");
    }
}
