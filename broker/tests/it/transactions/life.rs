//! What a transaction does when nothing goes wrong, and what is refused.

use std::collections::BTreeSet;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use flumen_protocol::message::{
    AddPartitionsToTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, MetadataRequest,
};

use super::{ID, Producer, open_end, stable};
use crate::groups::committed;
use crate::support::{World, eventually};

#[tokio::test]
async fn committed_records_become_visible_and_aborted_ones_never() {
    for version in [1, 2] {
        let world = World::start(&[]).await;
        let mut client = world.client_with_topic("t", 1).await;
        let mut producer = Producer::init(&mut client, version).await;
        let epoch = producer.epoch;
        assert_eq!(
            producer.send(&mut client, "a").await,
            ErrorCode::None,
            "version {version}"
        );
        assert_eq!(producer.send(&mut client, "b").await, ErrorCode::None);
        assert_eq!(open_end(&mut client).await, (0, 2), "nothing is stable yet");
        assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
        assert_eq!(stable(&mut client).await, ["a", "b"]);
        assert_eq!(producer.send(&mut client, "c").await, ErrorCode::None);
        assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
        assert_eq!(producer.send(&mut client, "d").await, ErrorCode::None);
        assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
        assert_eq!(
            stable(&mut client).await,
            ["a", "b", "d"],
            "version {version}"
        );
        assert_eq!(producer.epoch, if version == 2 { epoch + 3 } else { epoch });
    }
}

#[tokio::test]
async fn an_abort_of_nothing_bumps_the_epoch_and_a_commit_of_nothing_is_refused() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let mut producer = Producer::init(&mut client, 2).await;
    let epoch = producer.epoch;
    let committed = producer.end_as(&mut client, 5, true).await;
    assert_eq!(
        ErrorCode::from_code(committed.error_code),
        ErrorCode::InvalidTxnState
    );
    assert_eq!(producer.end(&mut client, false).await, ErrorCode::None);
    assert_eq!(producer.epoch, epoch + 1);
}

/// The marker of one transaction often arrives while the next one asks for its place: that must not show.
#[tokio::test]
async fn transactions_can_follow_each_other_without_a_pause() {
    for version in [1, 2] {
        let world = World::start(&[]).await;
        let mut client = world.client_with_topic("t", 1).await;
        let mut producer = Producer::init(&mut client, version).await;
        for round in 0..30 {
            // Sometimes the record is the first of its transaction, sometimes the offset.
            let mut codes = Vec::new();
            if round % 2 == 0 {
                codes.push(producer.send(&mut client, "x").await);
            }
            codes.push(producer.commit_offset(&mut client, round).await);
            if round % 2 == 1 {
                codes.push(producer.send(&mut client, "x").await);
            }
            codes.push(producer.end(&mut client, round % 3 != 0).await);
            assert_eq!(
                codes,
                [ErrorCode::None; 3],
                "version {version}, round {round}"
            );
        }
        assert_eq!(stable(&mut client).await.len(), 20, "version {version}");
        eventually(async || {
            committed(&mut client, true).await != Err(ErrorCode::UnstableOffsetCommit)
        })
        .await;
        assert_eq!(committed(&mut client, true).await, Ok(29));
    }
}

#[tokio::test]
async fn partitions_that_do_not_exist_are_not_added_and_nothing_else_is() {
    let world = World::start(&[]).await;
    let mut client = world.client_with_topic("t", 1).await;
    let producer = Producer::init(&mut client, 1).await;
    let topic = |name: &str| AddPartitionsToTxnTopic {
        name: name.to_owned(),
        partitions: vec![0],
        ..Default::default()
    };
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: ID.to_owned(),
        v3_and_below_producer_id: producer.id,
        v3_and_below_producer_epoch: producer.epoch,
        v3_and_below_topics: vec![topic("t"), topic("gone")],
        ..Default::default()
    };
    let response = client.call(3, &request).await;
    let results = response.results_by_topic_v3_and_below;
    let code = |index: usize| {
        ErrorCode::from_code(results[index].results_by_partition[0].partition_error_code)
    };
    assert_eq!(
        (code(0), code(1)),
        (
            ErrorCode::OperationNotAttempted,
            ErrorCode::UnknownTopicOrPartition
        )
    );
    let nobody = Producer { id: 77, ..producer };
    assert_eq!(
        nobody.add(&mut client, "t").await,
        ErrorCode::InvalidProducerIdMapping
    );
    let zombie = Producer {
        epoch: producer.epoch - 1,
        ..producer
    };
    assert_eq!(
        zombie.add(&mut client, "t").await,
        ErrorCode::InvalidProducerEpoch,
        "v0 does not know PRODUCER_FENCED"
    );
}

#[tokio::test]
async fn idempotent_producers_get_ids_of_their_own_also_after_a_restart() {
    let mut world = World::start(&[]).await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let mut client = world.client().await;
        for version in 0..=5 {
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: -1,
                ..Default::default()
            };
            let response = client.call(version, &request).await;
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            assert!(
                seen.insert(response.producer_id),
                "{} twice",
                response.producer_id
            );
        }
        world.restart().await;
    }
    let mut client = world.client().await;
    for (transactional_id, timeout_ms, code) in [
        ("", 1_000, ErrorCode::InvalidRequest),
        ("x", 900_001, ErrorCode::InvalidTransactionTimeout),
    ] {
        let request = InitProducerIdRequest {
            transactional_id: Some(transactional_id.to_owned()),
            transaction_timeout_ms: timeout_ms,
            ..Default::default()
        };
        assert_eq!(
            ErrorCode::from_code(client.call(4, &request).await.error_code),
            code
        );
    }
}

#[tokio::test]
async fn the_internal_topics_are_made_on_first_use() {
    let world = World::start(&[]).await;
    let mut client = world.client().await;
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert!(client.call(12, &all).await.topics.is_empty());
    let request = FindCoordinatorRequest {
        key: ID.to_owned(),
        key_type: 1,
        ..Default::default()
    };
    client.call(2, &request).await;
    let topics = client.call(12, &all).await.topics;
    let topic = &topics[0];
    assert_eq!(
        (
            topic.name.as_deref(),
            topic.partitions.len(),
            topic.is_internal
        ),
        (Some("__transaction_state"), 50, true)
    );
}
